//! A decision taken apart, as a tree for people: what lets it pass, what cuts it, who wrote that, and what is missing.

use std::collections::HashMap;
use std::io::IsTerminal;

use legate_wire::policy::{
    Certainty, Decision, Entitlement, ExplainResponse, Holder, ObjectOrigin, ObjectRef, Reason, Step, StepOutcome,
};
use legate_wire::registry::Kind;

use super::change::permission;
use super::escape::visible;
use super::{Row, because, moment, verdict, view_age};
use crate::proto;

/// Whether there is colour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ink(bool);

impl Ink {
    /// Colour on a terminal, unless `NO_COLOR` is set.
    pub(crate) fn of_stdout() -> Self {
        Self(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
    }

    #[cfg(test)]
    fn none() -> Self {
        Self(false)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.0 && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

const GOOD: &str = "32";
const BAD: &str = "31;1";
const DIM: &str = "2";
const STRONG: &str = "1";

/// The whole explanation; `wide` tells as well what gives nothing.
pub(crate) fn explain_lines(of: &ExplainResponse, ink: Ink, wide: bool) -> Vec<String> {
    let answer = of.answer.clone().unwrap_or_default();
    let allowed = answer.decision() == Decision::Allow;
    let mut lines = vec![ink.paint(if allowed { GOOD } else { BAD }, &verdict(&answer))];
    let judged = moment(of.judged_time.as_ref());
    let when = if of.is_past {
        format!("as of revision {}, judged by {judged}", answer.revision)
    } else {
        format!("at revision {}, as seen {} ms ago at most", answer.revision, view_age(&answer))
    };
    lines.push(ink.paint(DIM, &when));
    lines.push(String::new());
    let mut origins = Origins::of(&of.origins);
    for step in &of.steps {
        tree(step, "", None, ink, wide, &mut origins, &mut lines);
    }
    if !of.near_misses.is_empty() {
        lines.push(String::new());
        lines.push(ink.paint(STRONG, "One of these alone would have allowed it:"));
        let numbered = of.near_misses.iter().enumerate();
        lines.extend(numbered.map(|(n, miss)| format!("  {}. {}", n + 1, visible(&miss.text))));
    }
    let notes = [&of.near_miss_note, &of.origins_note];
    for (label, note) in ["", "origins are missing: "].iter().zip(notes).filter(|(_, note)| !note.is_empty()) {
        lines.push(String::new());
        lines.push(format!("! {label}{}", visible(note)));
    }
    if !answer.decision_id.is_empty() {
        lines.push(String::new());
        lines.push(ink.paint(DIM, &format!("record {}", answer.decision_id)));
    }
    lines
}

/// Who wrote what; each is told where it is named first.
struct Origins<'a>(HashMap<&'a str, &'a ObjectOrigin>);

impl<'a> Origins<'a> {
    fn of(all: &'a [ObjectOrigin]) -> Self {
        Self(all.iter().filter_map(|one| Some((one.object.as_ref()?.id.as_str(), one))).collect())
    }

    fn told(&mut self, of: Option<&ObjectRef>) -> String {
        let Some(object) = of else { return String::new() };
        let mut said = vec![format!("{} {}@{}", word(object.kind()), object.name, object.version)];
        if let Some(origin) = self.0.remove(object.id.as_str()) {
            let who = |id: &str| id.rsplit('/').next().unwrap_or(id).to_owned();
            let because = |why: &str| if why.is_empty() { String::new() } else { format!(": \"{why}\"") };
            if !origin.updated_by.is_empty() {
                let at = moment(origin.update_time.as_ref());
                said.push(format!("written by {} {at}{}", who(&origin.updated_by), because(&origin.reason)));
            }
            if !origin.approved_by.is_empty() {
                let at = moment(origin.approve_time.as_ref());
                said.push(format!("approved by {} {at}{}", who(&origin.approved_by), because(&origin.approve_reason)));
            }
        }
        said.join(", ")
    }
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Agent => "agent",
        Kind::AgentClass => "class",
        Kind::Role => "role",
        Kind::RoleBinding => "binding",
        Kind::Group => "group",
        Kind::Boundary => "boundary",
        Kind::Policy => "policy",
        Kind::DelegationGrant => "grant",
        _ => "object",
    }
}

/// A step and those below it. `last` says whether it is the last of its parent's; `None`: it has none.
fn tree(
    step: &Step,
    before: &str,
    last: Option<bool>,
    ink: Ink,
    wide: bool,
    origins: &mut Origins<'_>,
    lines: &mut Vec<String>,
) {
    let (branch, below) = match last {
        None => ("", ""),
        Some(false) => ("├─ ", "│  "),
        Some(true) => ("└─ ", "   "),
    };
    let (mark, code) = match step.outcome() {
        StepOutcome::Passes => ("✓", GOOD),
        StepOutcome::Gives => ("+", GOOD),
        StepOutcome::Cuts => ("✗", BAD),
        StepOutcome::DoesNotGive => ("-", DIM),
        StepOutcome::Noted | StepOutcome::Unspecified => ("~", DIM),
    };
    let mut text = visible(&step.text).into_owned();
    if let Some(given) = &step.permission {
        text += &format!(" ({})", visible(&permission(&given.action, given.resource.as_ref())));
    }
    for (label, at) in [("from", &step.not_before), ("until", &step.not_after)] {
        if at.is_some() {
            text += &format!(", {label} {}", moment(at.as_ref()));
        }
    }
    let word = if step.reason_code.is_empty() { String::new() } else { format!("  {}", step.reason_code) };
    let origin = match origins.told(step.object.as_ref()) {
        told if told.is_empty() => told,
        told => format!("  [{}]", visible(&told)),
    };
    lines.push(format!(
        "{before}{branch}{} {text}{}{}",
        ink.paint(code, mark),
        ink.paint(BAD, &word),
        ink.paint(DIM, &origin)
    ));
    let told = |step: &&Step| wide || step.outcome() != StepOutcome::DoesNotGive || step.permission.is_some();
    let shown: Vec<&Step> = step.steps.iter().filter(told).collect();
    let hidden = step.steps.len() - shown.len();
    let before = format!("{before}{below}");
    let many = shown.len();
    for (n, step) in shown.into_iter().enumerate() {
        tree(step, &before, Some(n + 1 == many && hidden == 0), ink, wide, origins, lines);
    }
    if hidden > 0 {
        let text = format!("- {hidden} more that do not give it (-o wide)");
        lines.push(format!("{before}└─ {}", ink.paint(DIM, &text)));
    }
}

fn certainty(of: Certainty) -> String {
    proto::word(of.as_str_name(), "CERTAINTY_").to_lowercase()
}

fn all(reasons: &[Reason]) -> String {
    reasons.iter().map(because).collect::<Vec<_>>().join("; ")
}

/// An agent that may do what was asked.
pub(crate) fn holder_row(of: &Holder) -> Row {
    let name = format!("{}/{}", of.namespace, of.name);
    let cells = vec![
        ("AGENT", false, name.clone()),
        ("CAN", false, certainty(of.certainty())),
        ("DEPENDS ON", false, all(&of.depends_on)),
        ("BECAUSE", true, all(&of.reasons)),
        ("ID", true, of.agent_id.clone()),
    ];
    Row { cells, name, message: proto::dynamic(of), node: None }
}

/// Something that an agent may do.
pub(crate) fn can_row(of: &Entitlement) -> Row {
    let what = permission(&of.action, of.resource.as_ref());
    let except = of.except.iter().map(|one| permission(&one.action, one.resource.as_ref())).collect::<Vec<_>>();
    let times = [("from", &of.from), ("until", &of.until)];
    let when =
        times.into_iter().filter(|(_, at)| at.is_some()).map(|(word, at)| format!("{word} {}", moment(at.as_ref())));
    let cells = vec![
        ("WHAT", false, what.clone()),
        ("CAN", false, certainty(of.certainty())),
        ("DEPENDS ON", false, all(&of.depends_on)),
        ("EXCEPT", false, except.join(", ")),
        ("WHEN", false, when.collect::<Vec<_>>().join(" ")),
        ("BECAUSE", true, all(&of.reasons)),
    ];
    Row { cells, name: what, message: proto::dynamic(of), node: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use legate_wire::policy::{EvaluateResponse, NearMiss};

    #[test]
    fn the_tree_says_what_cuts_and_who_wrote_it_and_nothing_moves_the_cursor() {
        let object = ObjectRef {
            kind: Kind::RoleBinding.into(),
            name: "reads".into(),
            id: "obj_1".into(),
            version: 3,
            ..ObjectRef::default()
        };
        let binding = Step {
            outcome: StepOutcome::DoesNotGive.into(),
            text: "the binding reads\u{1b}[2J gives it, but not now".into(),
            object: Some(object.clone()),
            permission: Some(legate_wire::registry::Permission { action: "a:b".into(), ..Default::default() }),
            ..Step::default()
        };
        let other = Step { outcome: StepOutcome::DoesNotGive.into(), text: "another".into(), ..Step::default() };
        let grants = Step {
            outcome: StepOutcome::Cuts.into(),
            text: "nothing gives it".into(),
            reason_code: "BINDING_OUTSIDE_WINDOW".into(),
            steps: vec![binding, other],
            ..Step::default()
        };
        let origin = ObjectOrigin {
            object: Some(object),
            updated_by: "spiffe://x/legate/operator/ada".into(),
            reason: "for the audit".into(),
            ..ObjectOrigin::default()
        };
        let whole = ExplainResponse {
            answer: Some(EvaluateResponse { reason_code: "BINDING_OUTSIDE_WINDOW".into(), ..Default::default() }),
            steps: vec![grants],
            near_misses: vec![NearMiss { text: "let it last longer".into(), ..Default::default() }],
            origins: vec![origin],
            ..ExplainResponse::default()
        };
        let text = explain_lines(&whole, Ink::none(), false).join("\n");
        assert!(text.contains("✗ nothing gives it  BINDING_OUTSIDE_WINDOW"), "{text}");
        assert!(text.contains("├─ - the binding reads\\u{1b}[2J gives it"), "{text}");
        assert!(text.contains("binding reads@3, written by ada : \"for the audit\""), "{text}");
        assert!(text.contains("└─ - 1 more that do not give it"), "{text}");
        assert!(text.contains("1. let it last longer") && !text.contains('\u{1b}'), "{text}");
        assert!(explain_lines(&whole, Ink::none(), true).join("\n").contains("└─ - another"));
        assert!(explain_lines(&whole, Ink(true), false)[0].starts_with("\u{1b}["));
    }
}
