//! Boundaries: every one that applies has to let a question pass, and each can only cut.
//!
//! What a boundary limits has to be said: an attribute that is missing, or is of another form, is outside.

use std::collections::BTreeSet;

use legate_clock::Timestamp;
use legate_view::Boundary;

use super::answer::Why;
use super::question::{Question, Value};

/// What a boundary cuts a question for, in the order in which they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Environment,
    Hours,
    Region,
    Data,
    Purpose,
    Regime,
}

impl Part {
    /// The word of a denial for it.
    pub(crate) fn why(self) -> Why {
        match self {
            Self::Environment => Why::BoundaryEnvironment,
            Self::Hours => Why::BoundaryHours,
            Self::Region => Why::BoundaryRegion,
            Self::Data => Why::BoundaryData,
            Self::Purpose => Why::BoundaryPurpose,
            Self::Regime => Why::BoundaryRegime,
        }
    }

    /// What a boundary says that cuts for it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Environment => "cuts it: the agent's environment is outside",
            Self::Hours => "cuts it: now is outside its hours",
            Self::Region => "cuts it: the resource's region is outside, or was not stated",
            Self::Data => "cuts it: the resource's data_classification is outside, or was not stated",
            Self::Purpose => "cuts it: the purpose in the context is outside, or was not stated",
            Self::Regime => "cuts it: a regime of the resource is outside, or none was stated",
        }
    }
}

/// The parts of a boundary that cut the agent at `now`, whatever is asked.
pub(crate) fn cuts_agent(boundary: &Boundary, environment: &str, now: Timestamp) -> impl Iterator<Item = Part> {
    let environment = is_limit(&boundary.environments) && !boundary.environments.contains(environment);
    let hours = boundary.hours.as_ref().is_some_and(|week| !week.holds_at(now.micros()));
    [(environment, Part::Environment), (hours, Part::Hours)].into_iter().filter(|(cuts, _)| *cuts).map(|(_, part)| part)
}

/// The parts of a boundary that cut the question of an agent in `environment` at `now`; none: it lets it pass.
pub(crate) fn cuts(
    boundary: &Boundary,
    environment: &str,
    question: &Question,
    now: Timestamp,
) -> impl Iterator<Item = Part> {
    let region = question.attributes.0.get("region");
    let data = question.attributes.0.get("data_classification");
    let purpose = question.context.get("purpose");
    let regime = question.attributes.0.get("regime");
    let of_question = [
        (!is_one_of(&boundary.regions, region), Part::Region),
        (!is_within(&boundary.data_classifications, data), Part::Data),
        (!is_one_of(&boundary.purposes, purpose), Part::Purpose),
        (!is_under(&boundary.regimes, regime), Part::Regime),
    ];
    cuts_agent(boundary, environment, now)
        .chain(of_question.into_iter().filter(|(cuts, _)| *cuts).map(|(_, part)| part))
}

/// The first moment after `now` at which time alone may make it cut, or let pass.
pub(crate) fn next_change(boundary: &Boundary, now: Timestamp) -> Option<Timestamp> {
    boundary.hours.as_ref()?.next_change(now.micros()).map(Timestamp::from_micros)
}

fn is_limit<T>(allowed: &BTreeSet<T>) -> bool {
    !allowed.is_empty()
}

fn is_one_of(allowed: &BTreeSet<String>, stated: Option<&Value>) -> bool {
    !is_limit(allowed) || matches!(stated, Some(Value::Text(text)) if allowed.contains(text))
}

/// A text that is allowed, or a list of nothing but such texts.
fn is_within(allowed: &BTreeSet<String>, stated: Option<&Value>) -> bool {
    let is_allowed = |value: &Value| matches!(value, Value::Text(text) if allowed.contains(text));
    !is_limit(allowed)
        || match stated {
            Some(Value::Set(values)) => values.iter().all(is_allowed),
            Some(value) => is_allowed(value),
            None => false,
        }
}

/// The same, of which there has to be one: what is under no regime is not what agents are bounded to.
fn is_under(allowed: &BTreeSet<String>, stated: Option<&Value>) -> bool {
    let names_none = matches!(stated, Some(Value::Set(values)) if values.is_empty());
    is_within(allowed, stated) && !(is_limit(allowed) && names_none)
}

#[cfg(test)]
mod tests;
