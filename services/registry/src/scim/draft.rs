//! What a client wants of an agent, as it is put together out of JSON.

use std::collections::BTreeSet;

use legate_clock::Timestamp;
use legate_rpc::Fault;
use legate_wire::registry::{Agent, AgentSpec, Metadata};
use serde_json::{Map, Value};

use super::answer::refused;
use super::attribute::{self, ALL, Attribute, CORE, Mutability, OURS, Shape};
use crate::flow::amend::Change;

/// How values come to those that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// The whole resource is given: what only the registry sets is passed over (RFC 7644 sections 3.3 and 3.5.1).
    Whole,
    /// To the others (RFC 7644 section 3.5.2.1).
    Add,
    /// Instead of the others (RFC 7644 section 3.5.2.3).
    Replace,
}

/// An agent as it is wanted.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    spec: AgentSpec,
    /// Its name; empty: the agent is new.
    name: String,
    active: Option<bool>,
    /// The fields that were set, as paths of an update mask.
    touched: BTreeSet<&'static str>,
}

impl Draft {
    /// A change of an agent, which is nothing yet.
    pub(super) fn of(agent: &Agent) -> Self {
        let name = agent.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default();
        Self { spec: agent.spec.clone().unwrap_or_default(), name, ..Self::default() }
    }

    /// Everything that a client can set is as if it were not set (RFC 7644 section 3.5.1); whether it is stopped stays.
    pub(super) fn emptied(mut self) -> Result<Self, Fault> {
        let all = ALL.iter().filter(|a| a.mutability == Mutability::ReadWrite && a.shape != Shape::Flag);
        all.into_iter().try_for_each(|a| self.clear(a))?;
        Ok(self)
    }

    /// A new agent, and whether it is to be ACTIVE.
    pub(super) fn into_agent(self, namespace: &str) -> (Agent, bool) {
        let metadata = Metadata { name: self.name, namespace: namespace.to_owned(), ..Metadata::default() };
        let agent = Agent { metadata: Some(metadata), spec: Some(self.spec), status: None };
        (agent, self.active.unwrap_or(true))
    }

    /// The change that comes of it.
    pub(super) fn into_change(self, agent: &Agent) -> Change {
        let paths = self.touched.iter().map(|path| (*path).to_owned()).collect();
        let agent = Agent { metadata: agent.metadata.clone(), spec: Some(self.spec), status: None };
        Change { agent, paths, active: self.active }
    }

    /// Takes every attribute of an object.
    pub(super) fn take_all(&mut self, object: &Map<String, Value>, way: Way) -> Result<(), Fault> {
        for (name, value) in object {
            if name.eq_ignore_ascii_case("schemas") {
                check_schemas(value)?;
            } else if name.eq_ignore_ascii_case(OURS) {
                self.take_ours(value, way)?;
            } else {
                self.take(attribute::find(name).ok_or_else(|| unknown(name))?, value, way)?;
            }
        }
        Ok(())
    }

    /// Takes every attribute of ours.
    pub(super) fn take_ours(&mut self, value: &Value, way: Way) -> Result<(), Fault> {
        let Value::Object(object) = value else {
            return Err(refused("invalidSyntax", OURS, "has to be an object"));
        };
        object.iter().try_for_each(|(name, value)| {
            self.take(attribute::ours(name).ok_or_else(|| unknown(&format!("{OURS}:{name}")))?, value, way)
        })
    }

    /// Takes one attribute.
    pub(super) fn take(&mut self, a: &Attribute, value: &Value, way: Way) -> Result<(), Fault> {
        match a.mutability {
            Mutability::ReadOnly if way == Way::Whole => return Ok(()),
            Mutability::ReadOnly => return Err(refused("mutability", a.name, "is set by the registry alone")),
            Mutability::Immutable => return self.take_name(a, value),
            Mutability::ReadWrite => {}
        }
        // RFC 7643 section 2.5: null, or no values, is the same as not set.
        let is_nothing = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        if is_nothing {
            return if way == Way::Add { Ok(()) } else { self.clear(a) };
        }
        let no = |why: &str| refused("invalidValue", a.name, why);
        match a.shape {
            Shape::Flag => self.active = Some(flag(value).ok_or_else(|| no("has to be true or false"))?),
            Shape::Text => {
                let text = value.as_str().ok_or_else(|| no("has to be a text"))?;
                *attribute::text(&mut self.spec, a.name).ok_or_else(|| Fault::broken(a.name))? = text.to_owned();
            }
            Shape::Word(words) => {
                let number = value.as_str().and_then(|text| words.iter().position(|word| *word == text));
                let number = number.and_then(|at| i32::try_from(at + 1).ok());
                let number = number.ok_or_else(|| no(&format!("has to be one of: {}", words.join(", "))))?;
                *attribute::word(&mut self.spec, a.name).ok_or_else(|| Fault::broken(a.name))? = number;
            }
            Shape::Moment => {
                let at = value.as_str().and_then(Timestamp::parse_rfc3339);
                let at = at.ok_or_else(|| no("has to be a time of RFC 3339, such as 2026-11-24T08:00:00Z"))?;
                self.spec.expire_time = Some(at.into());
            }
            Shape::Texts | Shape::People => {
                let values = values(a, value)?;
                let all = attribute::list(&mut self.spec, a.name).ok_or_else(|| Fault::broken(a.name))?;
                if way != Way::Add {
                    all.clear();
                }
                // RFC 7644 section 3.5.2.1: what is there already is not there twice.
                let new: Vec<String> =
                    values.into_iter().filter(|value| way != Way::Add || !all.contains(value)).collect();
                all.extend(new);
            }
            Shape::Number | Shape::Parts => return Err(Fault::broken(a.name)),
        }
        self.touch(a);
        Ok(())
    }

    /// Sets an attribute to nothing.
    pub(super) fn clear(&mut self, a: &Attribute) -> Result<(), Fault> {
        match (a.mutability, a.shape) {
            (Mutability::ReadWrite, Shape::Flag) => {
                return Err(refused("mutability", a.name, "is always set; replace it by true or false"));
            }
            (Mutability::ReadWrite, Shape::Moment) => self.spec.expire_time = None,
            (Mutability::ReadWrite, _) => {
                if let Some(text) = attribute::text(&mut self.spec, a.name) {
                    text.clear();
                } else if let Some(list) = attribute::list(&mut self.spec, a.name) {
                    list.clear();
                } else if let Some(word) = attribute::word(&mut self.spec, a.name) {
                    *word = 0;
                }
            }
            _ => return Err(refused("mutability", a.name, "cannot be removed")),
        }
        self.touch(a);
        Ok(())
    }

    /// Takes some values out of a list; how many were in it.
    pub(super) fn take_out(&mut self, a: &Attribute, gone: &[String]) -> Result<usize, Fault> {
        let many = attribute::list(&mut self.spec, a.name);
        let all = many.ok_or_else(|| refused("invalidPath", a.name, "has one value; name it without a selection"))?;
        let before = all.len();
        all.retain(|value| !gone.contains(value));
        let found = before - all.len();
        self.touch(a);
        Ok(found)
    }

    fn touch(&mut self, a: &Attribute) {
        if !a.mask.is_empty() {
            self.touched.insert(a.mask);
        }
    }

    fn take_name(&mut self, a: &Attribute, value: &Value) -> Result<(), Fault> {
        let text = value.as_str().ok_or_else(|| refused("invalidValue", a.name, "has to be a text"))?;
        if self.name.is_empty() {
            self.name = text.to_owned();
        } else if self.name != text {
            return Err(refused("mutability", a.name, "never changes"));
        }
        Ok(())
    }
}

/// Some clients write booleans as texts.
fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// The values of a list: texts, or objects with a `value`. One alone is a list of one.
pub(super) fn values(a: &Attribute, value: &Value) -> Result<Vec<String>, Fault> {
    let all = match value {
        Value::Array(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    let mut found = Vec::with_capacity(all.len());
    for (n, value) in all.iter().enumerate() {
        let no = |why: &str| refused("invalidValue", &format!("{}[{n}]", a.name), why);
        let text = match (a.shape, value) {
            (Shape::Texts, Value::String(text)) => text.as_str(),
            (Shape::People, Value::Object(parts)) => {
                let known = ["value", "display", "$ref", "type", "primary"];
                if let Some(name) = parts.keys().find(|name| !known.iter().any(|k| k.eq_ignore_ascii_case(name))) {
                    return Err(no(&format!("has no part {name:?}")));
                }
                let value = parts.iter().find(|(name, _)| name.eq_ignore_ascii_case("value"));
                let value = value.and_then(|(_, value)| value.as_str());
                value.ok_or_else(|| no("has to have a value, such as user:ada@example.com"))?
            }
            (Shape::People, _) => return Err(no(r#"has to be an object, such as {"value": "user:ada@example.com"}"#)),
            _ => return Err(no("has to be a text")),
        };
        found.push(text.to_owned());
    }
    Ok(found)
}

fn check_schemas(value: &Value) -> Result<(), Fault> {
    let is_known =
        |urn: &Value| urn.as_str().is_some_and(|urn| urn.eq_ignore_ascii_case(CORE) || urn.eq_ignore_ascii_case(OURS));
    let is_core = |urn: &Value| urn.as_str().is_some_and(|urn| urn.eq_ignore_ascii_case(CORE));
    match value {
        Value::Array(all) if all.iter().any(is_core) && all.iter().all(is_known) => Ok(()),
        _ => Err(refused("invalidValue", "schemas", format!("has to name {CORE}, and beside it at most {OURS}"))),
    }
}

fn unknown(name: &str) -> Fault {
    let name: String = name.chars().filter(|c| !legate_ids::is_deceptive(*c)).take(128).collect();
    refused("invalidSyntax", "attribute", format!("there is no attribute {name:?}; see Schemas"))
}
