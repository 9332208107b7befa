//! What of an item is otherwise than it was when the item was made, and whether the agent has more by it.

use legate_authority::{ResourceSelector, Window};
use legate_clock::Timestamp;
use legate_wire::registry as wire;
use wire::declaration::Object;
use wire::{Declaration, Permission, ReviewItem, ReviewedThing, RoleBindingSpec};

use super::granted::{Span, permissions_of, window_of};
use super::less::is_only_less;
use crate::domain::delegation::permission;
use crate::domain::diff;

/// Sentences that are told of one item.
const TOLD: usize = 32;

/// What an item is about, as it is now.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Now<'n> {
    /// The binding, class or grant, where it is in force.
    pub(crate) granted: Option<&'n Declaration>,
    /// The same as it was when the item was made, where it was written since and that is still kept.
    pub(crate) was: Option<&'n Declaration>,
    /// The role that a binding gives.
    pub(crate) role: Option<&'n Declaration>,
    /// Whether the agent has it still.
    pub(crate) has: bool,
}

/// What is otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// In sentences; none: it is as it was.
    pub(crate) told: Vec<String>,
    /// The agent no longer has it.
    pub(crate) is_gone: bool,
    /// The agent may have more by it than the item says.
    pub(crate) is_more: bool,
}

impl Changes {
    fn gone(why: &str) -> Self {
        Self { told: vec![why.to_owned()], is_gone: true, is_more: false }
    }

    fn note(&mut self, is_more: bool, sentence: String) {
        self.is_more |= is_more;
        self.told.push(sentence);
    }
}

/// Holds an item against what it is about.
pub(crate) fn changes(item: &ReviewItem, now: &Now<'_>) -> Changes {
    let Some(granted) = now.granted else { return Changes::gone("it is no longer in force") };
    if !now.has {
        return Changes::gone("the agent no longer has it");
    }
    let mut changes = Changes::default();
    let gives = if item.reviewed() == ReviewedThing::RoleBinding { now.role } else { Some(granted) };
    let gives = permissions_of(gives);
    let reviewed: Vec<_> = item.permissions.iter().filter_map(permission).collect();
    for one in gives.iter().filter(|one| !item.permissions.contains(one)) {
        let is_within = permission(one).is_some_and(|one| reviewed.iter().any(|of| of.includes(&one)));
        changes.note(!is_within, format!("it gives {} now", text(one)));
    }
    for one in item.permissions.iter().filter(|one| !gives.contains(one)) {
        changes.note(false, format!("it no longer gives {}", text(one)));
    }
    match &granted.object {
        // What nobody wrote since says what the item says, or what it could not say yet in the version that made it.
        Some(Object::RoleBinding(_)) if is_as_written(item, granted) => {}
        Some(Object::RoleBinding(binding)) => {
            bound(&mut changes, item, now.was, &binding.spec.clone().unwrap_or_default());
        }
        _ => declared(&mut changes, item, granted, now.was),
    }
    if changes.told.len() > TOLD {
        let more = changes.told.len() - (TOLD - 1);
        changes.told.truncate(TOLD - 1);
        changes.told.push(format!("and {more} changes more"));
    }
    changes
}

fn is_as_written(item: &ReviewItem, granted: &Declaration) -> bool {
    granted.metadata().is_none_or(|metadata| metadata.revision == item.granted_revision)
}

/// What a binding says beside whom it names.
fn bound(changes: &mut Changes, item: &ReviewItem, was: Option<&Declaration>, now: &RoleBindingSpec) {
    if now.role != item.role {
        changes.note(false, format!("it gives the role {} and no longer {}", now.role, item.role));
    }
    let is_less = are_within(&now.resources, &item.resources);
    // Said in another order it is the same.
    if now.resources != item.resources && !(is_less && are_within(&item.resources, &now.resources)) {
        let (now, was) = (those(&now.resources), those(&item.resources));
        changes.note(!is_less, format!("it is for {now} and no longer for {was}"));
    }
    // Items of earlier versions do not say when their binding held.
    let (from, to) = was.map_or((item.not_before, item.not_after), |was| window_of(Some(was)));
    let (was_held, is_held) = (window(from, to), window(now.not_before, now.not_after));
    if was_held != is_held {
        let is_less = was_held.zip(is_held).is_some_and(|(was, now)| was.includes(&now));
        let of = |from, to| format!("from {} to {}", moment(from, "the start"), moment(to, "no end"));
        let (now, was) = (of(now.not_before, now.not_after), of(from, to));
        changes.note(!is_less, format!("it holds {now} and no longer {was}"));
    }
}

/// What a class or a grant says beside its permissions.
fn declared(changes: &mut Changes, item: &ReviewItem, granted: &Declaration, was: Option<&Declaration>) {
    if is_as_written(item, granted) {
        return;
    }
    let Some(was) = was else {
        return changes.note(true, "it was written anew, and how it was before is no longer kept".to_owned());
    };
    let is_meant =
        |path: &str| !path.starts_with("metadata.") && !["spec.permissions", "spec.description"].contains(&path);
    let is_more = !is_only_less(was, granted);
    for change in diff::diff(Some(was), granted).into_iter().filter(|change| is_meant(&change.path)) {
        let or_none = |text: &str| if text.is_empty() { "not set".to_owned() } else { text.to_owned() };
        let (path, before, after) = (&change.path, or_none(&change.before), or_none(&change.after));
        changes.note(is_more, format!("{path} is {after} and was {before}"));
    }
}

/// Whether one list of resources selects nothing that another does not; an empty one selects all.
pub(super) fn are_within(one: &[wire::ResourceSelector], all: &[wire::ResourceSelector]) -> bool {
    all.is_empty() || (!one.is_empty() && one.iter().all(|one| is_within(one, all)))
}

fn is_within(one: &wire::ResourceSelector, all: &[wire::ResourceSelector]) -> bool {
    selector(one).is_some_and(|one| all.iter().filter_map(selector).any(|of| of.includes(&one)))
}

/// What two lists of resources both select, of which an empty one selects all; `None`: nothing. What both select and neither names is
/// left out.
pub(super) fn both(
    one: &[wire::ResourceSelector],
    other: &[wire::ResourceSelector],
) -> Option<Vec<wire::ResourceSelector>> {
    if one.is_empty() || other.is_empty() {
        return Some(if one.is_empty() { other.to_vec() } else { one.to_vec() });
    }
    let of_other = other.iter().filter(|selector| is_within(selector, one));
    let of_one = one.iter().filter(|selector| is_within(selector, other) && !other.contains(selector));
    let both: Vec<_> = of_other.chain(of_one).cloned().collect();
    (!both.is_empty()).then_some(both)
}

/// The time that two spans have in common; `None`: none.
pub(super) fn overlap(one: Span, other: Span) -> Option<Span> {
    let order = |at: &prost_types::Timestamp| (at.seconds, at.nanos);
    let later = one.0.into_iter().chain(other.0).max_by_key(order);
    let earlier = one.1.into_iter().chain(other.1).min_by_key(order);
    let is_empty = later.zip(earlier).is_some_and(|(from, to)| order(&from) >= order(&to));
    (!is_empty).then_some((later, earlier))
}

fn selector(of: &wire::ResourceSelector) -> Option<ResourceSelector> {
    let id = if of.id.is_empty() { "*" } else { &of.id };
    ResourceSelector::parse(&of.r#type, id, &of.attributes).ok()
}

pub(super) fn window(from: Option<prost_types::Timestamp>, to: Option<prost_types::Timestamp>) -> Option<Window> {
    let at = |at: Option<prost_types::Timestamp>| at.and_then(|at| Timestamp::try_from(at).ok()).map(Timestamp::micros);
    Window::new(at(from), at(to)).ok()
}

fn moment(at: Option<prost_types::Timestamp>, or: &str) -> String {
    let at = at.and_then(|at| Timestamp::try_from(at).ok());
    at.map_or_else(|| or.to_owned(), |at| at.to_string())
}

/// A permission as people read it.
pub(crate) fn text(of: &Permission) -> String {
    let resource = of.resource.clone().unwrap_or_default();
    format!("{} on {}", of.action, one(&resource))
}

fn one(of: &wire::ResourceSelector) -> String {
    let id = if of.id.is_empty() { "*" } else { &of.id };
    let mut attributes: Vec<String> = of.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    attributes.sort();
    let attributes = if attributes.is_empty() { String::new() } else { format!(" with {}", attributes.join(" and ")) };
    format!("{}:{id}{attributes}", of.r#type)
}

fn those(resources: &[wire::ResourceSelector]) -> String {
    if resources.is_empty() {
        return "all resources".to_owned();
    }
    resources.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
