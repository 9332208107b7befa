//! The formula: which grants make an answer and, on denial, what cut them.

use alloc::vec::Vec;

use crate::{Ceiling, Micros, Permission, Request, ResourceSelector, Window};

/// Permissions given from one source, for a time, perhaps on fewer resources than the permissions name.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a, S> {
    /// Who gave it: the class, or a binding with its role. Named in the answer.
    pub source: S,
    /// What it gives.
    pub permissions: &'a [Permission],
    /// When it holds.
    pub window: Window,
    /// The resource must also be covered by one of these; `None` narrows nothing, an empty slice leaves nothing.
    pub narrowing: Option<&'a [ResourceSelector]>,
}

/// What authority says about one request. It names every grant that was looked at and mattered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<S, C> {
    /// Granted, by each of these.
    Granted {
        /// The sources whose active grants cover the request; never empty.
        by: Vec<S>,
    },
    /// Not granted.
    Denied(Denial<S, C>),
}

/// What kept a request from being granted: the last step that it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial<S, C> {
    /// No grant has such a permission.
    NothingGrants,
    /// These grants would cover it on other resources only.
    Narrowed {
        /// The narrowed grants.
        grants: Vec<S>,
    },
    /// These grants cover it, but not at this time.
    OutsideWindow {
        /// The grants whose window does not hold now.
        grants: Vec<S>,
    },
    /// Granted, and cut.
    AboveCeiling {
        /// The grants that cover it.
        grants: Vec<S>,
        /// The ceilings that do not.
        ceilings: Vec<C>,
    },
}

impl<S, C> Answer<S, C> {
    /// Whether it grants.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted { .. })
    }
}

/// Decides `request` at `now` from `grants` (their union) and `ceilings` (all must cover it). No grant: denied.
pub fn decide<'a, S, C>(
    request: &Request<'_>,
    now: Micros,
    grants: impl IntoIterator<Item = Grant<'a, S>>,
    ceilings: impl IntoIterator<Item = (C, &'a Ceiling)>,
) -> Answer<S, C> {
    let (mut by, mut narrowed, mut outside) = (Vec::new(), Vec::new(), Vec::new());
    for grant in grants {
        if !grant.permissions.iter().any(|p| p.covers(request)) {
            continue;
        }
        let within = grant.narrowing.is_none_or(|narrowing| narrowing.iter().any(|s| s.covers(request)));
        if !within {
            narrowed.push(grant.source);
        } else if !grant.window.holds_at(now) {
            outside.push(grant.source);
        } else {
            by.push(grant.source);
        }
    }
    if by.is_empty() {
        return Answer::Denied(if !outside.is_empty() {
            Denial::OutsideWindow { grants: outside }
        } else if !narrowed.is_empty() {
            Denial::Narrowed { grants: narrowed }
        } else {
            Denial::NothingGrants
        });
    }
    let cut: Vec<C> =
        ceilings.into_iter().filter(|(_, ceiling)| !ceiling.covers(request)).map(|(name, _)| name).collect();
    if cut.is_empty() {
        Answer::Granted { by }
    } else {
        Answer::Denied(Denial::AboveCeiling { grants: by, ceilings: cut })
    }
}
