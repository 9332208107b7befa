//! A change for people: objects, what agents gain and lose, findings and tests, line by line.

use legate_wire::policy::{
    AccessChange, AccessEffect, Finding, FindingKind, PreviewChangeResponse, Reason, TestResult,
};
use legate_wire::registry::{ChangeAction, DeclarationChange, FieldChange, ResourceSelector};

use super::Row;
use super::declared::moment;
use super::escape::visible;
use crate::proto;

/// What is as it was is told one by one where it is no more than so much, and counted in any case.
const SAME: usize = 200;
/// Names of one line.
const NAMES: usize = 5;

/// `AgentClass payments/clerk`, as manifests write kinds.
pub(crate) fn change_label(change: &DeclarationChange) -> String {
    let kind = proto::pool()
        .get_enum_by_name("legate.registry.v1.Kind")
        .map(|kinds| proto::short(&kinds, change.kind))
        .unwrap_or_default();
    let mut words = String::new();
    for word in kind.split('_') {
        let (first, rest) = word.split_at(word.len().min(1));
        words += &format!("{first}{}", rest.to_ascii_lowercase());
    }
    match change.namespace.as_str() {
        "" => format!("{words} {}", change.name),
        namespace => format!("{words} {namespace}/{}", change.name),
    }
}

/// Each object with what happens to it, and the fields that differ; `words` are for what is created, changed, kept, removed.
pub(crate) fn change_lines(changes: &[DeclarationChange], words: [&str; 4]) -> Vec<String> {
    let [create, update, keep, remove] = words;
    let mut lines = Vec::new();
    let mut count = [0_usize; 4];
    let same = changes.iter().filter(|change| change.action() == ChangeAction::Unchanged).count();
    for change in changes {
        let (mark, word, index) = match change.action() {
            ChangeAction::Created => ("+", create, 0),
            ChangeAction::Updated => ("~", update, 1),
            ChangeAction::Removed => ("-", remove, 3),
            _ => ("=", keep, 2),
        };
        count[index] += 1;
        if change.action() == ChangeAction::Unchanged && same > SAME {
            continue;
        }
        lines.push(format!("{mark} {} {word}", visible(&change_label(change))));
        if change.action() == ChangeAction::Updated {
            lines.extend(field_lines(change));
        }
    }
    lines.push(String::new());
    let removed = if count[3] == 0 { String::new() } else { format!(", {} {remove}", count[3]) };
    lines.push(format!("{} {create}, {} {update}, {} {keep}{removed}.", count[0], count[1], count[2]));
    lines
}

/// The fields that differ.
fn field_lines(change: &DeclarationChange) -> Vec<String> {
    let shown = |text: &str| if text.is_empty() { "(unset)".into() } else { visible(text).into_owned() };
    let line = |field: &FieldChange| {
        format!("    {}: {} -> {}", visible(&field.path), shown(&field.before), shown(&field.after))
    };
    change.fields.iter().map(line).collect()
}

/// What a line of a file would do, with the fields that it says otherwise.
pub(crate) fn tried_lines(change: &DeclarationChange) -> Vec<String> {
    let (mark, word) = match change.action() {
        ChangeAction::Created => ("+", "would be new"),
        ChangeAction::Updated => ("~", "would change"),
        _ => ("=", "is known and left as it is, though it is said to be otherwise"),
    };
    let mut lines = vec![format!("{mark} {} {word}", visible(&change_label(change)))];
    if change.action() != ChangeAction::Created {
        lines.extend(field_lines(change));
    }
    lines
}

pub(crate) fn change_rows(changes: &[DeclarationChange]) -> Vec<Row> {
    let row = |change: &DeclarationChange| Row {
        cells: Vec::new(),
        name: change_label(change),
        message: proto::dynamic(change),
        node: None,
    };
    changes.iter().map(row).collect()
}

/// What agents gain and lose, one by one.
pub(crate) fn access_rows(changes: &[AccessChange]) -> Vec<Row> {
    let row = |change: &AccessChange| Row {
        cells: Vec::new(),
        name: access(change),
        message: proto::dynamic(change),
        node: None,
    };
    changes.iter().map(row).collect()
}

/// What policy-decision says of a change.
pub(crate) fn preview_lines(preview: &PreviewChangeResponse) -> Vec<String> {
    let mut lines = vec![String::new(), "What agents may do:".to_owned()];
    if preview.changes.is_empty() {
        lines.push("  nothing changes".to_owned());
    }
    lines.extend(preview.changes.iter().map(|change| format!("  {}", visible(&access(change)))));
    if !preview.findings.is_empty() {
        lines.extend([String::new(), "To be known:".to_owned()]);
        lines.extend(preview.findings.iter().map(|finding| format!("  ! {}", visible(&found(finding)))));
    }
    if !preview.tests.is_empty() {
        lines.push(String::new());
        lines.extend(test_lines(&preview.tests));
    }
    lines.extend(not_whole(preview).map(|text| format!("! {text}")));
    lines.push(String::new());
    lines
}

/// What is missing from a preview, where something is.
pub(crate) fn not_whole(preview: &PreviewChangeResponse) -> Option<String> {
    let (missed, more) = (preview.agents_not_compared, preview.left_out);
    let agents = (missed > 0).then(|| format!("{missed} agents were not compared"));
    let entries = (more > 0).then(|| format!("{more} details are left out"));
    let what: Vec<String> = agents.into_iter().chain(entries).collect();
    (!what.is_empty()).then(|| format!("This is not all: {}. Split the change to see the rest.", what.join(", ")))
}

/// `+ invoice-bot gains invoice:read on Invoice:* ...`.
pub(crate) fn access(change: &AccessChange) -> String {
    let many = change.agent_count != 1;
    let (mark, one, several) = match change.effect() {
        AccessEffect::Gains => ("+", "gains", "gain"),
        AccessEffect::Loses => ("-", "loses", "lose"),
        AccessEffect::Widens => ("+", "always has", "always have"),
        AccessEffect::Narrows => ("-", "no longer always has", "no longer always have"),
        AccessEffect::DependsOtherwise | AccessEffect::Unspecified => ("~", "has otherwise", "have otherwise"),
    };
    let verb = if many { several } else { one };
    let what = permission(&change.action, change.resource.as_ref());
    let who = who(&change.namespace, change.agent_count, &change.agents);
    let mut text = format!("{mark} {who} {verb} {what}");
    if !change.on_behalf_of.is_empty() {
        text += &format!(" on behalf of {}", change.on_behalf_of);
    }
    if !change.depends_on.is_empty() {
        text += &format!(", depending on arguments ({})", names(&change.depends_on));
    }
    for (word, at) in [("from", change.from.as_ref()), ("until", change.until.as_ref())] {
        if at.is_some() {
            text += &format!(", {word} {}", moment(at));
        }
    }
    if !change.reasons.is_empty() {
        text += &format!(" [{}]", names(&change.reasons));
    }
    text
}

/// `payments/invoice-bot`, or `17 agents of payments (a, b, c and 14 more)`.
fn who(namespace: &str, count: u32, agents: &[String]) -> String {
    match agents {
        [only] if count == 1 => format!("{namespace}/{only}"),
        some => {
            let named = some.iter().take(NAMES).cloned().collect::<Vec<_>>().join(", ");
            let left = usize::try_from(count).unwrap_or(usize::MAX).saturating_sub(some.len().min(NAMES));
            let more = if left == 0 { String::new() } else { format!(" and {left} more") };
            format!("{count} agents of {namespace} ({named}{more})")
        }
    }
}

/// An action on resources, for people.
pub(super) fn permission(action: &str, resource: Option<&ResourceSelector>) -> String {
    let Some(resource) = resource else { return action.to_owned() };
    let mut text = format!("{action} on {}:{}", resource.r#type, resource.id);
    if !resource.attributes.is_empty() {
        let equal: Vec<String> = resource.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        text += &format!(" where {}", equal.join(", "));
    }
    text
}

fn names(reasons: &[Reason]) -> String {
    let name = |reason: &Reason| match (reason.name.as_str(), reason.version) {
        ("", _) => reason.text.clone(),
        (name, version) => format!("{name}@{version}"),
    };
    reasons.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// A finding in a line.
pub(crate) fn found(finding: &Finding) -> String {
    let kind = proto::word(finding.kind().as_str_name(), "FINDING_KIND_");
    if finding.kind() == FindingKind::PolicyUnusable || finding.agent_count == 0 {
        return format!("{kind} {}: {}", finding.namespace, finding.text);
    }
    format!("{kind} {}: {}", who(&finding.namespace, finding.agent_count, &finding.agents), finding.text)
}

/// The tests that failed, and how many passed.
pub(crate) fn test_lines(tests: &[TestResult]) -> Vec<String> {
    let mut lines: Vec<String> =
        tests.iter().filter(|test| !test.passed).map(|test| format!("  FAILED {}", visible(&failed(test)))).collect();
    let passed = tests.len() - lines.len();
    let summary = format!("Policy tests: {passed} passed, {} failed.", lines.len());
    lines.insert(0, summary);
    lines
}

/// One failed question.
pub(crate) fn failed(test: &TestResult) -> String {
    format!(
        "{} case {}: {}: expected {}, got {}: {}",
        test.test, test.case, test.question, test.expected, test.got, test.message
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_agent_is_named_and_many_are_counted() {
        let resource = ResourceSelector { r#type: "Invoice".into(), id: "*".into(), ..Default::default() };
        let one = AccessChange {
            effect: AccessEffect::Gains.into(),
            namespace: "payments".into(),
            action: "invoice:read".into(),
            resource: Some(resource),
            agent_count: 1,
            agents: vec!["bot".into()],
            ..AccessChange::default()
        };
        assert_eq!(access(&one), "+ payments/bot gains invoice:read on Invoice:*");
        let names = (0..17).map(|n| format!("b{n}")).collect();
        let many = AccessChange { effect: AccessEffect::Loses.into(), agent_count: 17, agents: names, ..one.clone() };
        let text = access(&many);
        assert_eq!(text, "- 17 agents of payments (b0, b1, b2, b3, b4 and 12 more) lose invoice:read on Invoice:*");
        let on = Reason { name: "payments/sealed".into(), version: 2, ..Reason::default() };
        let until = prost_types::Timestamp { seconds: 0, nanos: 0 };
        let depends = AccessChange { depends_on: vec![on], until: Some(until), ..one };
        assert_eq!(
            access(&depends),
            "+ payments/bot gains invoice:read on Invoice:*, depending on arguments (payments/sealed@2), until 1970-01-01T00:00:00Z"
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut preview = PreviewChangeResponse::default();
        assert_eq!(not_whole(&preview), None);
        preview.agents_not_compared = 3;
        assert!(preview_lines(&preview).iter().any(|line| line.contains("3 agents were not compared")));
    }
}
