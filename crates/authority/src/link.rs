//! A link of delegation, and that the next link of a chain gives no more than it.

use alloc::string::String;

use crate::{Micros, Permission, Request, Window};

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

/// Why a link does not let a request through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// It does not hold at this time.
    Window,
    /// It is for other audiences.
    Audience,
    /// It lets other things be done.
    Permission,
}

impl Link<'_> {
    /// Whether it lets `request` through, towards `audience`, at `now`; without an audience only that is not asked.
    ///
    /// # Errors
    /// What cuts it.
    pub fn lets_through(&self, request: &Request<'_>, audience: Option<&str>, now: Micros) -> Result<(), Cut> {
        if !self.window.holds_at(now) {
            return Err(Cut::Window);
        }
        if audience.is_some_and(|audience| !self.is_towards(audience)) {
            return Err(Cut::Audience);
        }
        if !self.permissions.iter().any(|permission| permission.covers(request)) {
            return Err(Cut::Permission);
        }
        Ok(())
    }

    /// Whether it is for that audience.
    #[must_use]
    pub fn is_towards(&self, audience: &str) -> bool {
        self.audiences.is_empty() || self.audiences.iter().any(|one| one == audience)
    }
}

/// Where links do not make one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Loose {
    /// The link at this place is not from whom the one before it in time was given to; of the last: not from the subject.
    Delegator(usize),
    /// More links follow the one at this place than it allows.
    Depth(usize),
    /// Whom the link at this place lets act stands in the chain before.
    Round(usize),
}

/// Whether `links`, the newest first, are one chain from `subject`: each from whom the one before it was given to, none
/// followed by more than it allows, nobody twice.
///
/// # Errors
/// The newest place at which they are not.
pub fn joined(subject: &str, links: &[Link<'_>]) -> Result<(), Loose> {
    for (n, link) in links.iter().enumerate() {
        let is_joined = match links.get(n + 1) {
            Some(before) => link.delegator.strip_prefix("agent:") == Some(before.delegate),
            None => link.delegator == subject,
        };
        if !is_joined {
            return Err(Loose::Delegator(n));
        }
        if u32::try_from(n).is_ok_and(|following| following > link.max_depth) {
            return Err(Loose::Depth(n));
        }
        let earlier = links.iter().skip(n + 1).map(|link| link.delegate).chain(subject.strip_prefix("agent:"));
        if earlier.into_iter().any(|agent| agent == link.delegate) {
            return Err(Loose::Round(n));
        }
    }
    Ok(())
}

/// Whether every link lets `request` through: what a chain gives is what all of its links give, and no more.
///
/// # Errors
/// The newest link that does not, and why.
pub fn carried<'a, 'p: 'a>(
    links: impl IntoIterator<Item = &'a Link<'p>>,
    request: &Request<'_>,
    audience: Option<&str>,
    now: Micros,
) -> Result<(), (usize, Cut)> {
    let mut links = links.into_iter().enumerate();
    links.try_for_each(|(n, link)| link.lets_through(request, audience, now).map_err(|cut| (n, cut)))
}
