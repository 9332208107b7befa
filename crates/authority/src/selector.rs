//! Which resources a permission is about: a type, an id pattern and attributes that must be equal.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use legate_ids::{Action, IdPattern, ResourceId, ResourceType};

/// The attributes of a resource as the enforcement point states them, by name; texts only.
pub trait Attributes {
    /// The value of `name`, `None` where it was not stated.
    fn text(&self, name: &str) -> Option<&str>;
}

impl Attributes for BTreeMap<String, String> {
    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).map(String::as_str)
    }
}

impl Attributes for () {
    fn text(&self, _name: &str) -> Option<&str> {
        None
    }
}

/// What is asked: one action on one resource.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// What would be done.
    pub action: &'a Action,
    /// The kind of resource.
    pub resource_type: &'a ResourceType,
    /// Which one of its kind.
    pub resource_id: &'a ResourceId,
    /// What is stated about it.
    pub attributes: &'a dyn Attributes,
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}:{}", self.action, self.resource_type, self.resource_id)
    }
}

/// One resource type, or every type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TypePattern {
    /// Every type, written `*`.
    Any,
    /// This type.
    Exactly(ResourceType),
}

impl TypePattern {
    /// Reads `*` or a resource type.
    ///
    /// # Errors
    /// [`BadSelector::Type`] when the text is neither.
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        match text {
            "*" => Ok(Self::Any),
            text => ResourceType::parse(text).map(Self::Exactly).map_err(|_| BadSelector::Type),
        }
    }

    /// Whether `kind` is one of those it stands for.
    #[must_use]
    pub fn covers(&self, kind: &ResourceType) -> bool {
        match self {
            Self::Any => true,
            Self::Exactly(own) => own == kind,
        }
    }

    /// Whether every type that `other` stands for is one of those it stands for.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        *self == Self::Any || self == other
    }

    /// The types that both stand for.
    #[must_use]
    pub fn meet<'a>(&'a self, other: &'a Self) -> Option<&'a Self> {
        if self.includes(other) {
            return Some(other);
        }
        other.includes(self).then_some(self)
    }
}

/// Resources of a type whose id fits a pattern and whose attributes are equal to those stated.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResourceSelector {
    resource_type: TypePattern,
    id: IdPattern,
    attributes: BTreeMap<String, String>,
}

/// Why a selector cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSelector {
    /// The type is neither `*` nor a resource type.
    #[error("the resource type of a selector is '*' or a type such as Invoice")]
    Type,
    /// The id is no pattern.
    #[error("the resource id of a selector is an id, a prefix ending in '/' followed by '*', or '*' alone")]
    Id,
    /// The action is no pattern.
    #[error("the action of a permission is an action, segments followed by ':*', or '*' alone")]
    Action,
    /// An attribute has an empty or over-long name or value, or there are too many.
    #[error("a selector has at most 16 attributes, with names of 1 to 64 bytes and values of 1 to 512 bytes")]
    Attributes,
}

impl ResourceSelector {
    /// The most attributes a selector may compare.
    pub const MAX_ATTRIBUTES: usize = 16;

    /// A selector of `resource_type` (or `*`), an id pattern, and attributes that must all be stated and equal.
    ///
    /// # Errors
    /// [`BadSelector`] says which part cannot be read.
    pub fn parse<K, V>(
        resource_type: &str,
        id: &str,
        attributes: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, BadSelector>
    where
        K: Into<String>,
        V: Into<String>,
    {
        let mut equal = BTreeMap::new();
        for (name, value) in attributes {
            let (name, value) = (name.into(), value.into());
            if !(1..=64).contains(&name.len()) || !(1..=512).contains(&value.len()) {
                return Err(BadSelector::Attributes);
            }
            equal.insert(name, value);
            if equal.len() > Self::MAX_ATTRIBUTES {
                return Err(BadSelector::Attributes);
            }
        }
        Ok(Self {
            resource_type: TypePattern::parse(resource_type)?,
            id: IdPattern::parse(id).map_err(|_| BadSelector::Id)?,
            attributes: equal,
        })
    }

    /// Whether the resource asked about is one of those selected; an attribute that is not stated never matches.
    #[must_use]
    pub fn covers(&self, request: &Request<'_>) -> bool {
        self.resource_type.covers(request.resource_type)
            && self.id.covers(request.resource_id)
            && self.attributes.iter().all(|(name, value)| request.attributes.text(name) == Some(value.as_str()))
    }

    /// Whether every resource that `other` selects is one of those it selects.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        self.resource_type.includes(&other.resource_type)
            && self.id.includes(&other.id)
            && self.attributes.iter().all(|(name, value)| other.attributes.get(name) == Some(value))
    }

    /// The types it stands for.
    #[must_use]
    pub fn resource_type(&self) -> &TypePattern {
        &self.resource_type
    }

    /// The ids it stands for.
    #[must_use]
    pub fn id(&self) -> &IdPattern {
        &self.id
    }

    /// The attributes that must be equal, by name.
    #[must_use]
    pub fn attributes(&self) -> &BTreeMap<String, String> {
        &self.attributes
    }
}
