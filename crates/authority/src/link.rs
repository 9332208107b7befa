//! A link of delegation, and that the next link of a chain gives no more than it.

use alloc::string::String;

use crate::{Permission, Window};

/// So many links may follow the first at most.
pub const MAX_DEPTH: u32 = 8;

/// What somebody lets an agent do for it.
#[derive(Clone, Copy, Debug)]
pub struct Link<'a> {
    /// Who lets it, as `user:NAME`, `group:NAME` or `agent:NAME`.
    pub delegator: &'a str,
    /// The agent that acts, by name.
    pub delegate: &'a str,
    /// What it may do.
    pub permissions: &'a [Permission],
    /// Towards whom; none: towards anybody.
    pub audiences: &'a [String],
    /// When it holds.
    pub window: Window,
    /// How many links may follow; 0: none.
    pub max_depth: u32,
}

/// Where a link goes beyond the one that it passes on a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// Nothing of the parent may be passed on.
    NotPassedOn,
    /// It is not the parent's delegate who passes it on.
    Delegator,
    /// No permission of the parent includes the one at this place.
    Permission(usize),
    /// The audience at this place is none of the parent's.
    Audience(usize),
    /// It is for any audience, and the parent is not.
    AnyAudience,
    /// It holds when the parent does not.
    Window,
    /// As many links may follow it as the parent, or more.
    Depth,
}

/// Whether `child` gives no more than `parent`.
///
/// # Errors
/// The first thing in which it gives more.
pub fn within(child: &Link<'_>, parent: &Link<'_>) -> Result<(), Beyond> {
    if parent.max_depth == 0 {
        return Err(Beyond::NotPassedOn);
    }
    if child.delegator.strip_prefix("agent:") != Some(parent.delegate) {
        return Err(Beyond::Delegator);
    }
    // Of one permission of the parent alone: what only several include together is not looked for.
    let is_given = |wanted: &Permission| parent.permissions.iter().any(|given| given.includes(wanted));
    if let Some(at) = child.permissions.iter().position(|wanted| !is_given(wanted)) {
        return Err(Beyond::Permission(at));
    }
    if !parent.audiences.is_empty() {
        if child.audiences.is_empty() {
            return Err(Beyond::AnyAudience);
        }
        if let Some(at) = child.audiences.iter().position(|wanted| !parent.audiences.contains(wanted)) {
            return Err(Beyond::Audience(at));
        }
    }
    if !parent.window.includes(&child.window) {
        return Err(Beyond::Window);
    }
    if child.max_depth >= parent.max_depth {
        return Err(Beyond::Depth);
    }
    Ok(())
}
