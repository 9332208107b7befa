//! What the boundaries of an agent say of a permission: they cut it, or let it pass, or it depends on what is stated.

use std::collections::BTreeSet;

use legate_clock::Timestamp;
use legate_view::{Agent, Boundary, Snapshot};

use super::outlook::On;
use crate::domain::answer::{Cause, CauseKind};
use crate::domain::boundary::{self, Part};
use crate::domain::question::{Question, Value};

/// What they say.
#[derive(Debug)]
pub(crate) enum Limits {
    /// It is outside, whatever is stated.
    Cut(Vec<Cause>),
    /// It is within, where these are told what they want to know.
    Within(Vec<On>),
}

/// Holds a permission against every boundary that applies to the agent. `question` stands for the permission.
pub(crate) fn limits(snapshot: &Snapshot, agent: &Agent, question: &Question, now: Timestamp) -> Limits {
    let (mut all, mut cut): (Vec<&Boundary>, Vec<Cause>) = (Vec::new(), Vec::new());
    for boundary in snapshot.boundaries_of(agent) {
        match boundary {
            Ok(boundary) => all.push(boundary),
            Err(name) => {
                let text = format!("the agent's class names the boundary {name}, which is not known here");
                cut.push(Cause::plain(CauseKind::Boundary, text));
            }
        }
    }
    // A caller who states what all of them allow is let pass by all of them.
    let mut best = question.clone();
    state(&mut best.attributes.0, "region", all.iter().map(|b| &b.regions));
    if all.iter().any(|b| !b.data_classifications.is_empty()) {
        // No data of any class is within every limit.
        best.attributes.0.entry("data_classification".to_owned()).or_insert_with(|| Value::Set(Vec::new()));
    }
    state(&mut best.context, "purpose", all.iter().map(|b| &b.purposes));
    state(&mut best.attributes.0, "regime", all.iter().map(|b| &b.regimes));
    let mut on = Vec::new();
    for boundary in all {
        let parts: Vec<Part> = boundary::cuts(boundary, agent.nature.environment, question, now).collect();
        // What is outside its hours now is within them at another time.
        let stays = |part: &Part| {
            *part != Part::Hours
                && boundary::cuts(boundary, agent.nature.environment, &best, now).any(|still| still == *part)
        };
        let outside = parts.iter().filter(|part| stays(part));
        cut.extend(outside.map(|part| Cause::of(CauseKind::Boundary, &boundary.label, part.text())));
        if !parts.is_empty() || boundary.hours.is_some() {
            on.push(On {
                cause: Cause::of(CauseKind::Boundary, &boundary.label, "lets pass what is stated, or when it is asked"),
                content: content(boundary),
            });
        }
    }
    if cut.is_empty() { Limits::Within(on) } else { Limits::Cut(cut) }
}

/// States what every limit allows, where nothing is stated and something is limited.
fn state<'a>(
    record: &mut crate::domain::question::Record,
    name: &str,
    limits: impl Iterator<Item = &'a BTreeSet<String>>,
) {
    let allowed = limits.filter(|limit| !limit.is_empty()).cloned().reduce(|a, b| &a & &b);
    if let Some(value) = allowed.and_then(|allowed| allowed.into_iter().next()) {
        record.entry(name.to_owned()).or_insert(Value::Text(value));
    }
}

/// What tells two versions of a boundary apart.
fn content(boundary: &Boundary) -> String {
    let Boundary { regions, data_classifications, purposes, regimes, environments, hours, .. } = boundary;
    format!("{regions:?}{data_classifications:?}{purposes:?}{regimes:?}{environments:?}{hours:?}")
}
