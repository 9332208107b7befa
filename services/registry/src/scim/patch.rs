//! The operations of a PATCH (RFC 7644 section 3.5.2).

use legate_rpc::Fault;
use serde_json::{Map, Value};

use super::answer::refused;
use super::attribute::{self, Attribute, OURS};
use super::draft::{Draft, Way, values};
use super::filter;

const PATCH_OP: &str = "urn:ietf:params:scim:api:messages:2.0:PatchOp";
/// Operations of one request.
const MOST: usize = 64;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Add,
    Replace,
    Remove,
}

/// What it is done to.
#[derive(Clone, Debug)]
enum Target {
    /// The resource: the value names the attributes.
    Resource,
    /// Everything of our schema.
    Ours,
    /// One attribute, or the one value of it that is this.
    One(&'static Attribute, Option<String>),
}

/// One operation.
#[derive(Clone, Debug)]
struct Operation {
    op: Op,
    target: Target,
    value: Option<Value>,
}

/// The operations of a request, in their order.
#[derive(Clone, Debug)]
pub(super) struct Patch(Vec<Operation>);

impl Patch {
    /// Reads a body.
    pub(super) fn read(body: &Map<String, Value>) -> Result<Self, Fault> {
        let part = |wanted: &str| body.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| v);
        let is_patch = |urn: &Value| urn.as_str().is_some_and(|urn| urn.eq_ignore_ascii_case(PATCH_OP));
        if !part("schemas").and_then(Value::as_array).is_some_and(|all| all.len() == 1 && all.iter().all(is_patch)) {
            return Err(refused("invalidSyntax", "schemas", format!("has to be [\"{PATCH_OP}\"]")));
        }
        if let Some(name) = body.keys().find(|name| !["schemas", "operations"].contains(&&*name.to_ascii_lowercase())) {
            return Err(refused("invalidSyntax", "body", format!("has no member {name:?}; a PATCH has Operations")));
        }
        let operations = part("Operations").and_then(Value::as_array).filter(|all| (1..=MOST).contains(&all.len()));
        let operations = operations.ok_or_else(|| refused("invalidSyntax", "Operations", "is a list of 1 to 64"))?;
        operations.iter().enumerate().map(|(n, one)| operation(n, one)).collect::<Result<_, _>>().map(Self)
    }

    /// Makes the changes in a draft, one after the other.
    pub(super) fn apply(&self, draft: &mut Draft) -> Result<(), Fault> {
        self.0.iter().try_for_each(|operation| operation.apply(draft))
    }

    /// Whether it stops the agent and does nothing else.
    pub(super) fn only_stops(&self) -> bool {
        let stops = |o: &Operation| {
            let is_false = o.value.as_ref().is_some_and(|v| *v == false || v == "false" || v == "False");
            matches!(o.target, Target::One(a, None) if a.name == "active") && o.op != Op::Remove && is_false
        };
        self.0.iter().all(stops)
    }
}

fn operation(n: usize, one: &Value) -> Result<Operation, Fault> {
    let at = format!("Operations[{n}]");
    let one = one.as_object().ok_or_else(|| refused("invalidSyntax", &at, "has to be an object"))?;
    let part = |wanted: &str| one.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, v)| v);
    if let Some(name) = one.keys().find(|name| !["op", "path", "value"].contains(&&*name.to_ascii_lowercase())) {
        return Err(refused("invalidSyntax", &at, format!("has no member {name:?}; it has op, path and value")));
    }
    // Some clients begin the word with a capital.
    let op = match part("op").and_then(Value::as_str).map(str::to_ascii_lowercase).as_deref() {
        Some("add") => Op::Add,
        Some("replace") => Op::Replace,
        Some("remove") => Op::Remove,
        _ => return Err(refused("invalidSyntax", &format!("{at}.op"), "has to be add, remove or replace")),
    };
    let target = match part("path") {
        None if op == Op::Remove => {
            return Err(refused("noTarget", &format!("{at}.path"), "is required to remove anything"));
        }
        None => Target::Resource,
        Some(Value::String(path)) => target(path).map_err(|why| refused("invalidPath", &format!("{at}.path"), why))?,
        Some(_) => return Err(refused("invalidPath", &format!("{at}.path"), "has to be a text")),
    };
    let value = part("value").cloned();
    if value.is_none() && op != Op::Remove {
        return Err(refused("invalidSyntax", &format!("{at}.value"), "is required"));
    }
    Ok(Operation { op, target, value })
}

/// What a path names.
fn target(path: &str) -> Result<Target, String> {
    if path.eq_ignore_ascii_case(OURS) {
        return Ok(Target::Ours);
    }
    let (name, chosen) = match path.split_once('[') {
        None => (path, None),
        Some((name, rest)) => {
            let inner = rest.strip_suffix(']').or_else(|| rest.strip_suffix("].value"));
            let inner = inner.ok_or("has a selection that is not closed, or goes on after it")?;
            (name, Some(filter::selection(inner)?))
        }
    };
    let shown: String = name.chars().filter(|c| !legate_ids::is_deceptive(*c)).take(128).collect();
    let a = attribute::find(name).ok_or_else(|| format!("names no attribute: {shown:?}; see Schemas"))?;
    if chosen.is_some() && !a.is_many() {
        return Err(format!("selects among the values of {}, which has one", a.name));
    }
    Ok(Target::One(a, chosen))
}

impl Operation {
    fn apply(&self, draft: &mut Draft) -> Result<(), Fault> {
        let way = if self.op == Op::Add { Way::Add } else { Way::Replace };
        let nothing = Value::Null;
        let value = self.value.as_ref().unwrap_or(&nothing);
        match (&self.target, self.op) {
            (Target::Resource, _) => match value {
                Value::Object(object) => draft.take_all(object, way),
                _ => Err(refused("invalidSyntax", "value", "has to be an object where there is no path")),
            },
            (Target::Ours, Op::Remove) => {
                Err(refused("mutability", "path", "names a whole schema; remove its attributes one by one"))
            }
            (Target::Ours, _) => draft.take_ours(value, way),
            // RFC 7644 has no value there. Clients that send one mean these values and not all of them.
            (Target::One(a, None), Op::Remove) if a.is_many() && !value.is_null() => {
                draft.take_out(a, &values(a, value)?).map(drop)
            }
            (Target::One(a, None), Op::Remove) => draft.clear(a),
            (Target::One(a, None), _) => draft.take(a, value, way),
            (Target::One(a, Some(chosen)), Op::Remove) => draft.take_out(a, std::slice::from_ref(chosen)).map(drop),
            (Target::One(a, Some(chosen)), Op::Replace) => {
                let values = match value {
                    Value::String(text) => vec![text.clone()],
                    value => values(a, value)?,
                };
                // RFC 7644 section 3.5.2.3.
                if draft.take_out(a, std::slice::from_ref(chosen))? == 0 {
                    return Err(refused("noTarget", a.name, "has no value that is selected"));
                }
                let values: Vec<Value> = values.into_iter().map(|v| shaped(a, v)).collect();
                draft.take(a, &Value::Array(values), Way::Add)
            }
            (Target::One(a, Some(_)), Op::Add) => {
                Err(refused("invalidPath", a.name, "cannot be added to by a selection; give the value"))
            }
        }
    }
}

/// A value of a list, as it stands in JSON.
fn shaped(a: &Attribute, value: String) -> Value {
    match a.shape {
        attribute::Shape::People => serde_json::json!({"value": value}),
        _ => value.into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_wire::registry::{Agent, AgentSpec, Metadata};
    use serde_json::json;

    fn agent() -> Agent {
        let owners = vec!["user:ada@example.com".to_owned(), "group:pay".to_owned()];
        Agent {
            metadata: Some(Metadata { name: "bot".into(), namespace: "pay".into(), ..Metadata::default() }),
            spec: Some(AgentSpec { owners, display_name: "Bot".into(), environment: 1, ..AgentSpec::default() }),
            status: None,
        }
    }

    /// The change that operations make, or the `scimType` and text of the refusal.
    fn patched(operations: Value) -> Result<crate::flow::amend::Change, String> {
        let body = json!({"schemas": [PATCH_OP], "Operations": operations});
        let patch = Patch::read(body.as_object().unwrap()).map_err(told)?;
        let mut draft = Draft::of(&agent());
        patch.apply(&mut draft).map_err(told)?;
        Ok(draft.into_change(&agent()))
    }

    fn told(fault: Fault) -> String {
        let Fault::Refused(refusal) = fault else { panic!("{fault}") };
        let kind = refusal.metadata.iter().map(|(_, kind)| kind.as_str()).collect::<String>();
        format!("{kind}: {}", refusal.message)
    }

    fn owners(operations: Value) -> Vec<String> {
        patched(operations).unwrap().agent.spec.unwrap().owners
    }

    #[test]
    fn operations_change_what_their_paths_name_and_nothing_else() {
        let change = patched(json!([
            {"op": "Replace", "path": "displayName", "value": "Invoices"},
            {"op": "add", "value": {"externalId": "x-1", OURS: {"regions": ["eu-1"], "riskTier": "high"}}},
            {"op": "replace", "path": format!("{OURS}:environment"), "value": "prod"},
            {"op": "replace", "path": "ACTIVE", "value": "False"},
        ]))
        .unwrap();
        let spec = change.agent.spec.unwrap();
        assert_eq!((spec.display_name.as_str(), spec.external_id.as_str()), ("Invoices", "x-1"));
        assert_eq!((spec.regions, spec.risk_tier, spec.environment), (vec!["eu-1".to_owned()], 3, 3));
        assert_eq!(change.active, Some(false));
        let wanted = ["spec.display_name", "spec.environment", "spec.external_id", "spec.regions", "spec.risk_tier"];
        assert_eq!(change.paths, wanted);
        assert_eq!(spec.owners.len(), 2);
    }

    #[test]
    fn values_of_a_list_are_added_replaced_and_taken_out() {
        let (ada, pay) = ("user:ada@example.com", "group:pay");
        let bob = json!({"value": "user:bob@example.com"});
        assert_eq!(
            owners(json!([{"op": "add", "path": "owners", "value": [bob, {"value": ada}]}]))[2..],
            ["user:bob@example.com"]
        );
        assert_eq!(owners(json!([{"op": "replace", "path": "owners", "value": [bob]}])), ["user:bob@example.com"]);
        let selected = r#"owners[value eq "group:pay"]"#;
        assert_eq!(owners(json!([{"op": "remove", "path": selected}])), [ada]);
        assert_eq!(owners(json!([{"op": "remove", "path": "owners", "value": [{"value": ada}]}])), [pay]);
        assert_eq!(owners(json!([{"op": "replace", "path": selected, "value": bob}])), [ada, "user:bob@example.com"]);
        assert!(owners(json!([{"op": "remove", "path": "owners"}])).is_empty());
        let none = json!([{"op": "replace", "path": r#"owners[value eq "user:x"]"#, "value": bob}]);
        assert!(patched(none).unwrap_err().starts_with("noTarget"));
    }

    #[test]
    fn what_cannot_be_changed_or_meant_is_refused() {
        for (one, kind) in [
            (json!({"op": "replace", "path": "id", "value": "x"}), "mutability"),
            (json!({"op": "replace", "path": "meta.created", "value": "x"}), "mutability"),
            (json!({"op": "replace", "path": "agentUserName", "value": "other"}), "mutability"),
            (json!({"op": "remove", "path": "agentUserName"}), "mutability"),
            (json!({"op": "remove", "path": "active"}), "mutability"),
            (json!({"op": "replace", "path": format!("{OURS}:state"), "value": "active"}), "mutability"),
            (json!({"op": "replace", "value": {OURS: {"lifecycleVersion": 1}}}), "mutability"),
            (json!({"op": "remove", "path": OURS}), "mutability"),
            (json!({"op": "replace", "path": "agentClass", "value": "x"}), "invalidPath"),
            (json!({"op": "replace", "path": "nothing", "value": "x"}), "invalidPath"),
            (json!({"op": "replace", "path": "displayName[value eq \"x\"]", "value": "x"}), "invalidPath"),
            (json!({"op": "replace", "path": "owners[value eq \"x\"", "value": "x"}), "invalidPath"),
            (json!({"op": "replace", "path": "owners[value co \"x\"]", "value": "x"}), "invalidPath"),
            (json!({"op": "replace", "path": "", "value": "x"}), "invalidPath"),
            (json!({"op": "replace", "path": 7, "value": "x"}), "invalidPath"),
            (json!({"op": "remove"}), "noTarget"),
            (json!({"op": "move", "path": "displayName", "value": "x"}), "invalidSyntax"),
            (json!({"op": "replace", "path": "displayName"}), "invalidSyntax"),
            (json!({"op": "replace", "value": "x"}), "invalidSyntax"),
            (json!({"op": "replace", "value": {"nothing": 1}}), "invalidSyntax"),
            (json!({"op": "replace", "path": "displayName", "value": "x", "from": "y"}), "invalidSyntax"),
            (json!("replace"), "invalidSyntax"),
            (json!({"op": "replace", "path": "active", "value": "yes"}), "invalidValue"),
            (json!({"op": "replace", "path": "displayName", "value": 7}), "invalidValue"),
            (json!({"op": "replace", "path": "owners", "value": ["user:x"]}), "invalidValue"),
            (json!({"op": "replace", "path": format!("{OURS}:environment"), "value": "moon"}), "invalidValue"),
            (json!({"op": "replace", "path": format!("{OURS}:expireTime"), "value": "soon"}), "invalidValue"),
        ] {
            let refused = patched(json!([one])).map(|_| ()).expect_err(&one.to_string());
            assert!(refused.starts_with(kind), "{one}: {refused}");
        }
        assert!(patched(json!([])).unwrap_err().starts_with("invalidSyntax"));
        let one = json!({"op": "replace", "path": "displayName", "value": "x"});
        assert!(patched(json!(vec![one; 65])).unwrap_err().starts_with("invalidSyntax"));
    }
}
