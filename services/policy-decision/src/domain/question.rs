//! What is asked: an action on a resource with attributes, in a context.

use std::collections::BTreeMap;

use legate_authority::{Attributes, Request};
use legate_ids::{Action, ResourceId, ResourceType};

/// A value that Cedar knows: no fractions, no null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Long(i64),
    Text(String),
    Set(Vec<Value>),
    Record(Record),
}

/// Values by name.
pub(crate) type Record = BTreeMap<String, Value>;

/// One question about whoever turns out to be the subject.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) action: Action,
    pub(crate) resource_type: ResourceType,
    pub(crate) resource_id: ResourceId,
    pub(crate) attributes: Stated,
    pub(crate) context: Record,
}

/// The attributes of the resource, as the caller states them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stated(pub(crate) Record);

impl Attributes for Stated {
    fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }
}

impl Question {
    /// The question as the arithmetic of authority takes it.
    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            action: &self.action,
            resource_type: &self.resource_type,
            resource_id: &self.resource_id,
            attributes: &self.attributes,
        }
    }
}
