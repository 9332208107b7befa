//! Whether a permission may be passed on: it lies within what somebody has, as a whole.

use crate::{Ceiling, Grant, Micros, Permission};

/// Why a permission may not be passed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TooWide<C> {
    /// No single grant that holds now gives all of it.
    Grants,
    /// It is not all below this ceiling.
    Ceiling(C),
}

/// Whether everything that `wanted` stands for is given now by one of `grants` and lies below each of `ceilings`.
///
/// It is looked at as a whole: what only several grants, or several entries of a ceiling, give together is too wide.
///
/// # Errors
/// What it goes beyond, a ceiling first.
pub fn may_pass_on<'a, S, C>(
    wanted: &Permission,
    now: Micros,
    grants: impl IntoIterator<Item = Grant<'a, S>>,
    ceilings: impl IntoIterator<Item = (C, &'a Ceiling)>,
) -> Result<(), TooWide<C>> {
    if let Some((name, _)) = ceilings.into_iter().find(|(_, ceiling)| !ceiling.includes(wanted)) {
        return Err(TooWide::Ceiling(name));
    }
    let gives = |grant: Grant<'a, S>| {
        grant.window.holds_at(now)
            && grant.permissions.iter().any(|p| p.includes(wanted))
            && grant.narrowing.is_none_or(|narrowing| narrowing.iter().any(|s| s.includes(wanted.resource())))
    };
    if grants.into_iter().any(gives) { Ok(()) } else { Err(TooWide::Grants) }
}
