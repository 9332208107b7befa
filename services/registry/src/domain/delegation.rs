//! Grants of delegation held against those that they pass on a part of.

use legate_authority::{Beyond, Link, MAX_DEPTH, Permission, ResourceSelector, Window, within};
use legate_clock::Timestamp;
use legate_wire::registry as wire;
use wire::declaration::Object;

use super::text::quoted;

/// A grant whose grammar is good, as far as chains are about it.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    delegator: String,
    delegate: String,
    permissions: Vec<Permission>,
    audiences: Vec<String>,
    window: Window,
    max_depth: u32,
    /// The name of the grant that it passes on a part of; empty: none.
    pub(crate) parent: String,
}

/// What is wrong with a chain: the field, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It gives more than the grant before it.
    Wider(&'static str, String),
    /// An agent stands in it twice, or it is too long.
    Round(&'static str, String),
}

impl Grant {
    /// Reads a declaration; `None` for what is no grant, or no good one.
    pub(crate) fn read(declaration: &wire::Declaration) -> Option<Self> {
        let Some(Object::DelegationGrant(wire::DelegationGrant { spec: Some(spec), .. })) = &declaration.object else {
            return None;
        };
        let micros =
            |at: Option<prost_types::Timestamp>| at.and_then(|at| Timestamp::try_from(at).ok()).map(Timestamp::micros);
        Some(Self {
            delegator: spec.delegator.clone(),
            delegate: spec.delegate.clone(),
            permissions: spec.permissions.iter().map(permission).collect::<Option<_>>()?,
            audiences: spec.audiences.clone(),
            window: Window::new(micros(spec.not_before), micros(spec.not_after)).ok()?,
            max_depth: if spec.may_redelegate { spec.max_depth } else { 0 },
            parent: spec.parent.clone(),
        })
    }

    /// Whether it keeps within the grants before it: the nearest first, the last without a parent.
    pub(crate) fn keeps_within(&self, before: &[&Grant]) -> Result<(), Broken> {
        let Some(parent) = before.first() else { return Ok(()) };
        within_parent(self, parent).map_err(|(field, why)| Broken::Wider(field, why))?;
        if before.len() > MAX_DEPTH as usize {
            return Err(Broken::Round(
                "parent",
                format!("makes a chain of more than {MAX_DEPTH} links after the first"),
            ));
        }
        let is_there = |grant: &&Grant| {
            grant.delegate == self.delegate || grant.delegator.strip_prefix("agent:") == Some(&self.delegate)
        };
        if before.iter().any(is_there) {
            let why = format!(
                "{} stands in the chain before; a right that comes back to its giver goes round",
                self.delegate
            );
            return Err(Broken::Round("delegate", why));
        }
        Ok(())
    }
}

fn within_parent(child: &Grant, parent: &Grant) -> Result<(), (&'static str, String)> {
    let Err(beyond) = within(&link(child), &link(parent)) else { return Ok(()) };
    let name = &child.parent;
    Err(match beyond {
        Beyond::NotPassedOn => ("parent", format!("{name} may not be passed on; it has no may_redelegate")),
        Beyond::Delegator => ("delegator", format!("has to be agent:{}, to whom {name} was given", parent.delegate)),
        Beyond::Permission(at) => {
            let action = child.permissions.get(at).map(|p| p.action().as_str()).unwrap_or_default();
            ("permissions", format!("no permission of {name} includes the one at place {at}, for {}", quoted(action)))
        }
        Beyond::Audience(at) => {
            let said = child.audiences.get(at).map(String::as_str).unwrap_or_default();
            ("audiences", format!("{} is no audience of {name}", quoted(said)))
        }
        Beyond::AnyAudience => ("audiences", format!("is empty, which means any, and {name} is for some only")),
        Beyond::Window => ("not_after", format!("the grant would hold when {name} does not")),
        Beyond::Depth => {
            ("max_depth", format!("is {}; {name} has {}, so give less", child.max_depth, parent.max_depth))
        }
    })
}

fn link(of: &Grant) -> Link<'_> {
    Link {
        delegator: &of.delegator,
        delegate: &of.delegate,
        permissions: &of.permissions,
        audiences: &of.audiences,
        window: of.window,
        max_depth: of.max_depth,
    }
}

pub(crate) fn permission(from: &wire::Permission) -> Option<Permission> {
    let resource = from.resource.as_ref()?;
    let id = if resource.id.is_empty() { "*" } else { &resource.id };
    let selector = ResourceSelector::parse(&resource.r#type, id, &resource.attributes).ok()?;
    Permission::parse(&from.action, selector).ok()
}
