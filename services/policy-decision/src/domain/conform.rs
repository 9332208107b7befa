//! Whether a question is one that a namespace declares: its action, the type of its resource, its attributes and the context.
//!
//! Policies of such a namespace were validated against that schema, and whatever a solver proves of them holds of questions that fit
//! it. What does not fit is allowed nothing.

use std::sync::Arc;

use legate_cedar::{Declared, Fields, Type};

use super::behalf::ON_BEHALF_OF;
use super::question::{Question, Record, Value};

/// A schema that was read, and the text that it is of.
#[derive(Debug)]
pub(crate) struct Kept {
    of: Arc<str>,
    declared: Result<Declared, String>,
}

impl Kept {
    pub(crate) fn of(text: &Arc<str>) -> Self {
        Self { of: Arc::clone(text), declared: Declared::parse(text).map_err(|e| e.to_string()) }
    }

    /// Whether it is of this text, not only of one that reads the same.
    pub(crate) fn is_of(&self, text: &Arc<str>) -> bool {
        Arc::ptr_eq(&self.of, text)
    }

    /// The text.
    pub(crate) fn text(&self) -> &str {
        &self.of
    }

    /// Why no question fits that has this much of `question`, whatever else it states: its action and the type of its resource, where
    /// they are fixed, and the attributes that it has.
    pub(crate) fn shuts_out(&self, question: &Question, (action, kind): (bool, bool)) -> Option<String> {
        let declared = match &self.declared {
            Ok(declared) => declared,
            Err(why) => return Some(format!("the policy_schema of the namespace cannot be used: {why}")),
        };
        if !action {
            return None;
        }
        let (action, of) = (question.action.as_str(), question.resource_type.as_str());
        let Some(applies) = declared.action(action) else { return Some(no_action(action)) };
        if !kind {
            return None;
        }
        let (true, Some(attributes)) = (applies.resources.contains(of), declared.resource(of)) else {
            return Some(other_type(action, of));
        };
        stated(attributes, &question.attributes.0, "resource", None)
    }

    /// Why the question does not fit. Values are not told: they may be anybody's.
    pub(crate) fn misfit(&self, question: &Question) -> Option<String> {
        match &self.declared {
            Ok(declared) => misfit(declared, question),
            Err(why) => Some(format!("the policy_schema of the namespace cannot be used: {why}")),
        }
    }
}

fn no_action(action: &str) -> String {
    format!("the namespace declares no action {action}")
}

fn other_type(action: &str, kind: &str) -> String {
    format!("the namespace declares {action} for other types than {kind}")
}

fn misfit(declared: &Declared, question: &Question) -> Option<String> {
    let (action, kind) = (question.action.as_str(), question.resource_type.as_str());
    let Some(applies) = declared.action(action) else {
        return Some(no_action(action));
    };
    let (true, Some(attributes)) = (applies.resources.contains(kind), declared.resource(kind)) else {
        return Some(other_type(action, kind));
    };
    let stated = &question.attributes.0;
    record(attributes, stated, "resource", None).or_else(|| {
        // Legate gives it, whether or not it is declared that policies look at it.
        let given = (!applies.context.contains_key(ON_BEHALF_OF)).then_some(ON_BEHALF_OF);
        record(&applies.context, &question.context, "context", given)
    })
}

/// The first value that is not as it is declared; `spared` may be there in any case.
fn record(declared: &Fields, all: &Record, place: &str, spared: Option<&str>) -> Option<String> {
    stated(declared, all, place, spared).or_else(|| {
        let missing = declared.iter().find(|(name, field)| field.required && !all.contains_key(*name));
        missing.map(|(name, _)| format!("{place}.{} is missing", shown(name)))
    })
}

/// The first value that is stated and not as it is declared.
fn stated(declared: &Fields, stated: &Record, place: &str, spared: Option<&str>) -> Option<String> {
    for (name, value) in stated {
        let Some(field) = declared.get(name) else {
            if spared == Some(name) {
                continue;
            }
            return Some(format!("{place}.{} is not declared", shown(name)));
        };
        let place = format!("{place}.{}", shown(name));
        if let Some(why) = one(&field.kind, value, &place) {
            return Some(why);
        }
    }
    None
}

fn one(declared: &Type, value: &Value, place: &str) -> Option<String> {
    let other = |what: &str| Some(format!("{place} is not {what}, as is declared"));
    match (declared, value) {
        (Type::Bool, Value::Bool(_)) | (Type::Long, Value::Long(_)) | (Type::String, Value::Text(_)) => None,
        (Type::Set(kind), Value::Set(all)) => all.iter().find_map(|value| one(kind, value, &format!("{place}[]"))),
        (Type::Record(fields), Value::Record(all)) => record(fields, all, place, None),
        (Type::Bool, _) => other("true or false"),
        (Type::Long, _) => other("a whole number"),
        (Type::String, _) => other("a text"),
        (Type::Set(_), _) => other("a list"),
        (Type::Record(_), _) => other("an object"),
    }
}

/// A name that a caller gave, as it may be told.
fn shown(name: &str) -> String {
    const MOST: usize = 64;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if name.len() <= MOST && name.bytes().all(plain) {
        name.to_owned()
    } else {
        "(a name that is not plain)".to_owned()
    }
}

#[cfg(test)]
mod tests;
