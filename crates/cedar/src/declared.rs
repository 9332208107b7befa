//! What a namespace declares of what callers state: types of resources with their attributes, and actions with what they are done to
//! and in which context.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::ffi::DetailedError;
use cedar_policy::{Schema, SchemaFragment, schema_str_to_json_with_resolved_types};

use crate::read::{place, with_help};
use crate::rules::{self, Said};
use crate::world::world;

/// The longest text, in bytes.
const LONGEST: usize = 64 * 1024;
/// Brackets that are open at once.
const DEEPEST: usize = 20;
/// The most pairs of an action and a type that it is done to: a policy is validated for each.
pub const MOST_ENVIRONMENTS: usize = 256;

/// Why a text is no schema that can be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSchema(pub(crate) String);

/// Of which kind a value is that a caller states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Type {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Long,
    /// A text.
    String,
    /// Several of one kind.
    Set(Box<Type>),
    /// Some by name, and no others.
    Record(Fields),
}

/// What is declared of the values of one record, by name.
pub type Fields = BTreeMap<String, Field>;

/// What is declared of one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Of which kind it is.
    pub kind: Type,
    /// Whether it has to be there.
    pub required: bool,
}

/// What is declared of one action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applies {
    /// The types of resources that it is done to.
    pub resources: BTreeSet<String>,
    /// The context in which it is asked about.
    pub context: Fields,
}

/// A schema that was read, and can be used.
#[derive(Clone, Debug)]
pub struct Declared {
    text: String,
    fragment: SchemaFragment,
    types: BTreeMap<String, Fields>,
    actions: BTreeMap<String, Applies>,
    groups: BTreeMap<String, BTreeSet<String>>,
}

impl Declared {
    /// Reads a schema in Cedar's words.
    ///
    /// # Errors
    /// When it does not parse, or says something that no question could be; with the place where that is known.
    pub fn parse(text: &str) -> Result<Self, BadSchema> {
        measure(text)?;
        let bad = |e: &DetailedError| {
            let at = e.source_locations.first().map(|label| label.loc.start).filter(|at| *at < text.len());
            let at = at.map(|at| format!(" {}", place(text, at)));
            BadSchema(format!("is no schema{}: {}", at.unwrap_or_default(), with_help(e)))
        };
        let fragment = SchemaFragment::from_cedarschema_str(text).map_err(|e| bad(&DetailedError::from(&e)))?.0;
        let names = fragment.clone().to_json_value().map_err(|e| bad(&DetailedError::from(&e)))?;
        rules::ours_stay_ours(&names)?;
        // What is declared comes first, so that places are places in it.
        let whole = format!("{text}\n{}", world(&BTreeSet::new()));
        let (resolved, _) =
            schema_str_to_json_with_resolved_types(&whole).map_err(|e| bad(&DetailedError::from(&e)))?;
        let Said { types, actions, groups } = rules::read(&resolved)?;
        let environments: usize = actions.values().map(|applies| applies.resources.len()).sum();
        if environments == 0 {
            return Err(BadSchema("declares no action; give one at least, and what it is done to".into()));
        }
        if environments > MOST_ENVIRONMENTS {
            let why = format!("has {environments} pairs of an action and a type; give at most {MOST_ENVIRONMENTS}");
            return Err(BadSchema(why));
        }
        let declared = Self { text: text.to_owned(), fragment, types, actions, groups };
        let schema = declared.schema(&BTreeSet::new())?;
        if !schema.is_complete() {
            return Err(BadSchema("declares something as external; declare it here".into()));
        }
        Ok(declared)
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The types of resources, and what each has.
    pub fn types(&self) -> impl Iterator<Item = (&str, &Fields)> {
        self.types.iter().map(|(name, fields)| (name.as_str(), fields))
    }

    /// The actions.
    pub fn actions(&self) -> impl Iterator<Item = (&str, &Applies)> {
        self.actions.iter().map(|(name, applies)| (name.as_str(), applies))
    }

    /// Each action that is in groups of actions, with all of these: those that it names, and those that they are in.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        self.groups.iter().map(|(name, above)| (name.as_str(), above))
    }

    /// The groups of actions that an action is in, itself not among them.
    pub fn groups_of(&self, action: &str) -> impl Iterator<Item = &str> {
        self.groups.get(action).into_iter().flatten().map(String::as_str)
    }

    /// How many pairs there are of an action and a type that it is done to.
    #[must_use]
    pub fn environments(&self) -> usize {
        self.actions.values().map(|applies| applies.resources.len()).sum()
    }

    /// What is declared of an action.
    #[must_use]
    pub fn action(&self, name: &str) -> Option<&Applies> {
        self.actions.get(name)
    }

    /// What is declared of a type of resources.
    #[must_use]
    pub fn resource(&self, name: &str) -> Option<&Fields> {
        self.types.get(name)
    }

    /// The schema of everything that there is, with these labels of agents.
    ///
    /// # Errors
    /// When it declares something that is ours, or Cedar refuses it.
    pub fn schema(&self, labels: &BTreeSet<String>) -> Result<Schema, BadSchema> {
        let bad = |why: String| BadSchema(format!("is no schema: {why}"));
        let (ours, _) = SchemaFragment::from_cedarschema_str(&world(labels))
            .map_err(|e| bad(with_help(&DetailedError::from(&e))))?;
        Schema::from_schema_fragments([self.fragment.clone(), ours])
            .map_err(|e| bad(with_help(&DetailedError::from(&e))))
    }
}

/// Looks how long and how deep it is, before anything parses it.
fn measure(text: &str) -> Result<(), BadSchema> {
    if text.len() > LONGEST {
        return Err(BadSchema(format!("is {} bytes long; give at most {LONGEST}", text.len())));
    }
    let (mut open, mut is_quoted, mut is_comment, mut before) = (0usize, false, false, b' ');
    for (at, b) in text.bytes().enumerate() {
        match b {
            b'\n' | b'\r' => is_comment = false,
            _ if is_comment => {}
            b'"' if before != b'\\' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            b'/' if before == b'/' => is_comment = true,
            b'{' | b'[' | b'(' | b'<' => open += 1,
            b'}' | b']' | b')' | b'>' => open = open.saturating_sub(1),
            _ => {}
        }
        if open > DEEPEST {
            return Err(BadSchema(format!("nests brackets more than {DEEPEST} deep {}", place(text, at))));
        }
        // A backslash that is taken along takes nothing along itself.
        before = if before == b'\\' { b' ' } else { b };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const GOOD: &str = r#"
type Money = { amount: Long, currency?: String };
// What is paid.
entity Invoice { region: String, sealed?: Bool, tags: Set<String>, sum: Money };
namespace Acme { type Size = Long; entity Doc { size: Size }; }
type Called = { mfa?: Bool, on_behalf_of?: OnBehalfOf };
action "invoice:read", "invoice:list" appliesTo { principal: [Agent], resource: [Invoice, Acme::Doc], context: Called };
action "invoice:pay" appliesTo { principal: Agent, resource: Invoice };
"#;

    #[test]
    fn what_is_declared_is_read() {
        let declared = Declared::parse(GOOD).unwrap();
        assert_eq!(declared.environments(), 5);
        let read = declared.action("invoice:read").unwrap();
        assert_eq!(read.resources, BTreeSet::from(["Acme::Doc".to_owned(), "Invoice".to_owned()]));
        assert_eq!(read.context["mfa"], Field { kind: Type::Bool, required: false });
        assert!(matches!(&read.context["on_behalf_of"].kind, Type::Record(all) if all.len() == 6));
        assert!(declared.action("invoice:pay").unwrap().context.is_empty());
        let invoice = declared.resource("Invoice").unwrap();
        assert_eq!(invoice["tags"].kind, Type::Set(Box::new(Type::String)));
        assert!(
            matches!(&invoice["sum"].kind, Type::Record(all) if all["amount"].required && !all["currency"].required)
        );
        assert_eq!(declared.resource("Acme::Doc").unwrap()["size"].kind, Type::Long);
        let labels = BTreeSet::from(["team".to_owned()]);
        assert_eq!(declared.schema(&labels).unwrap().request_envs().count(), 5);
    }

    #[test]
    fn actions_are_in_groups_and_these_in_others() {
        let text = r#"entity R;
action "all";
action "reads" in ["all"];
action "read" in ["reads"] appliesTo { principal: [Agent], resource: [R] };
action "list" in ["reads", "cheap"] appliesTo { principal: [Agent], resource: [R] };
action "cheap";
action "write" in ["all"] appliesTo { principal: [Agent], resource: [R] };
action "pay" in ["write"] appliesTo { principal: [Agent], resource: [R] };"#;
        let declared = Declared::parse(text).unwrap();
        let of = |action: &str| declared.groups_of(action).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(of("list"), ["all", "cheap", "reads"]);
        assert_eq!(of("read"), ["all", "reads"]);
        assert_eq!(of("pay"), ["all", "write"]);
        assert_eq!(of("cheap"), Vec::<String>::new());
        // What is only a group is nothing that is done; what is done may be one.
        let done: Vec<&str> = declared.actions().map(|(name, _)| name).collect();
        assert_eq!(done, ["list", "pay", "read", "write"]);
        assert_eq!(declared.environments(), 4);
        let groups: String = (0..300).map(|n| format!("action \"g{n}\" in [\"h{n}\"]; action \"h{n}\";")).collect();
        let many = format!("{groups} entity R; action \"a\" appliesTo {{ principal: [Agent], resource: [R] }};");
        let told = Declared::parse(&many).map(|_| ()).unwrap_err().to_string();
        assert!(told.starts_with("has 300 groups of actions"), "{told}");
    }

    #[test]
    fn what_no_question_could_be_is_refused() {
        let action = "action \"a\" appliesTo { principal: [Agent], resource: [R] };";
        for (bad, why) in [
            ("", "declares no action"),
            ("entity R;", "declares no action"),
            ("entity R\naction", "is no schema at line 2, column 1: "),
            ("entity R;\nentity R;", "is no schema"),
            ("entity R { a: Nothing };\naction \"a\" appliesTo { principal: [Agent], resource: [R] };", "is no schema"),
            ("entity Agent;", "declares the type Agent, which is Legate's own"),
            ("entity Group;", "declares the type Group, which is Legate's own"),
            ("type OnBehalfOf = { x: Long };", "declares the type OnBehalfOf, which is Legate's own"),
            (
                "namespace Acme { action \"a\" appliesTo { principal: [Agent], resource: [Agent] }; }",
                "declares the action Acme::Action::\"a\"",
            ),
            ("action \"g\";", "the action \"g\" is done by nobody"),
            (
                "entity R; action \"Read It\" appliesTo { principal: [Agent], resource: [R] };",
                "the action \"Read It\" is none",
            ),
            (
                "entity R; entity U; action \"a\" appliesTo { principal: [Agent, U], resource: [R] };",
                "the action \"a\" is done by Agent, U; only agents do anything: principal: [Agent]",
            ),
            (
                "action \"a\" appliesTo { principal: [Agent], resource: [Role] };",
                "the action \"a\" is done to Role, which no resource can be",
            ),
            ("entity A::B;", "is no schema"),
            ("entity F; entity R in F; ", "the type R is in F; resources are in nothing"),
            ("entity R tags String; ", "the type R has tags"),
            ("entity R enum [\"a\"]; ", "the type R is an enumeration"),
            ("entity R { owner: Agent };", "R.owner is a Agent"),
            ("entity R { at: ipaddr };", "R.at is a"),
            ("entity R { at: Set<{x: datetime}> };", "R.at.x is a"),
            (
                "entity R; action \"a\" appliesTo { principal: [Agent], resource: [R], context: { who: R } };",
                "the context of \"a\".who is a R",
            ),
            (
                "entity R; action \"a\" appliesTo { principal: [Agent], resource: [R], context: { on_behalf_of: OnBehalfOf } };",
                "the context of \"a\" has on_behalf_of; write on_behalf_of?: OnBehalfOf",
            ),
            (
                "entity R; action \"a\" appliesTo { principal: [Agent], resource: [R], context: { on_behalf_of?: String } };",
                "the context of \"a\" has on_behalf_of; write on_behalf_of?: OnBehalfOf",
            ),
            ("entity R; action \"a\" in [\"g\"] appliesTo { principal: [Agent], resource: [R] };", "is no schema"),
            (
                "entity R; action \"g\" in [\"a\"]; action \"a\" in [\"g\"] appliesTo { principal: [Agent], resource: [R] };",
                "is no schema",
            ),
            ("entity R; action \"g\" in [\"a\"]; action \"a\" in [\"g\"];", "declares no action"),
            (
                "entity R; action \"G 1\"; action \"a\" in [\"G 1\"] appliesTo { principal: [Agent], resource: [R] };",
                "the action \"G 1\" is none",
            ),
            (
                "namespace N { action \"g\"; } entity R; action \"a\" in [N::Action::\"g\"] appliesTo { principal: [Agent], resource: [R] };",
                "declares the action N::Action::\"g\"",
            ),
        ] {
            let text = if bad.starts_with("entity R ") { format!("{bad} {action}") } else { bad.to_owned() };
            let told = Declared::parse(&text).map(|_| ()).unwrap_err().to_string();
            assert!(told.starts_with(why), "{bad}: {told}");
        }
    }

    #[test]
    fn hostile_texts_are_measured_first() {
        let long = format!("// {}", "x".repeat(LONGEST));
        assert!(Declared::parse(&long).unwrap_err().to_string().contains("bytes long"));
        for (open, close) in [("{a:", "}"), ("Set<", ">")] {
            let deep = format!("type T = {}Long{};", open.repeat(10_000), close.repeat(10_000));
            assert!(Declared::parse(&deep).unwrap_err().to_string().starts_with("nests brackets more than 20 deep"));
        }
        // Brackets in comments and strings are none.
        let fine = format!(
            "// {0}\nentity R {{ \"{0}\": Long }};\naction \"a\" appliesTo {{ principal: [Agent], resource: [R] }};",
            "{".repeat(99)
        );
        assert!(Declared::parse(&fine).is_ok(), "{:?}", Declared::parse(&fine).map(|_| ()));
        let actions: Vec<String> = (0..300).map(|n| format!("\"a{n}\"")).collect();
        let wide =
            format!("entity R; action {} appliesTo {{ principal: [Agent], resource: [R] }};", actions.join(", "));
        assert!(Declared::parse(&wide).unwrap_err().to_string().starts_with("has 300 pairs of an action and a type"));
        // Types that stand for each other without an end, and one that grows with each step.
        assert!(Declared::parse("type A = B; type B = A; entity R;").is_err());
        let mut doubling = String::from("type T0 = { a: Long };\n");
        for n in 1..40 {
            doubling += &format!("type T{n} = {{ a: T{}, b: T{} }};\n", n - 1, n - 1);
        }
        doubling += "entity R { a: T39 };\naction \"a\" appliesTo { principal: [Agent], resource: [R] };";
        let told = Declared::parse(&doubling).map(|_| ()).unwrap_err().to_string();
        assert!(told.contains("more than"), "{told}");
    }
}
