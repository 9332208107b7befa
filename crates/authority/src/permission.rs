//! A permission, and the ceiling that no grant can raise.

use alloc::vec::Vec;

use legate_ids::ActionPattern;

use crate::{BadSelector, Request, ResourceSelector};

/// Actions on the resources of one selector.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Permission {
    action: ActionPattern,
    resource: ResourceSelector,
}

impl Permission {
    /// A permission for the actions of `action` on the resources of `resource`.
    ///
    /// # Errors
    /// [`BadSelector::Action`] when `action` is no action pattern.
    pub fn parse(action: &str, resource: ResourceSelector) -> Result<Self, BadSelector> {
        let action = ActionPattern::parse(action).map_err(|_| BadSelector::Action)?;
        Ok(Self { action, resource })
    }

    /// Whether it stands for what is asked.
    #[must_use]
    pub fn covers(&self, request: &Request<'_>) -> bool {
        self.action.covers(request.action) && self.resource.covers(request)
    }

    /// Whether everything that `other` stands for is what it stands for too.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        self.action.includes(&other.action) && self.resource.includes(&other.resource)
    }

    /// The actions it stands for.
    #[must_use]
    pub fn action(&self) -> &ActionPattern {
        &self.action
    }

    /// The resources it stands for.
    #[must_use]
    pub fn resource(&self) -> &ResourceSelector {
        &self.resource
    }
}

/// The most an agent can ever have, whatever it is granted. Without entries nothing is below it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ceiling(Vec<Permission>);

impl Ceiling {
    /// A ceiling above exactly what `entries` stand for.
    #[must_use]
    pub fn new(entries: Vec<Permission>) -> Self {
        Self(entries)
    }

    /// Whether what is asked is below it.
    #[must_use]
    pub fn covers(&self, request: &Request<'_>) -> bool {
        self.0.iter().any(|entry| entry.covers(request))
    }

    /// Whether everything that `wanted` stands for is below one of its entries.
    #[must_use]
    pub fn includes(&self, wanted: &Permission) -> bool {
        self.0.iter().any(|entry| entry.includes(wanted))
    }

    /// What it stands for.
    #[must_use]
    pub fn entries(&self) -> &[Permission] {
        &self.0
    }
}
