//! `legate policy diff`: two texts of a policy, line by line, and by what agents would gain and lose.

use std::collections::BTreeSet;

use legate_wire::policy::{PreviewChangeRequest, PreviewChangeResponse};
use legate_wire::registry::{Kind, ObjectName, Policy};
use serde_json::json;
use similar::TextDiff;

use super::super::{Desk, change};
use super::version::{self, Which, declaration};
use crate::cli::PolicyDiff;
use crate::error::USAGE;
use crate::output::{Format, access_rows, escape::visible, preview_lines};
use crate::place::Service;
use crate::yaml::Node;
use crate::{Exit, Failure};

pub(super) async fn run(desk: Desk, args: PolicyDiff) -> Result<Exit, Failure> {
    let (which_old, which_new) = (Which::parse(&args.old)?, Which::parse(&args.new)?);
    let registry = desk.line(Service::Registry)?;
    let (old, new) = (which_old.read(&registry).await?, which_new.read(&registry).await?);
    let lines = lines(&old, &new, (&args.old, &args.new));
    let preview = match args.text_only {
        true => None,
        false => Some(change::preview(&desk, compared(old, new)?).await?),
    };
    tell(&desk, &lines, preview.as_ref())?;
    let differs = !lines.is_empty() || preview.is_some_and(|preview| !preview.changes.is_empty());
    Ok(if differs && args.detailed_exitcode { Exit::Changes } else { Exit::Done })
}

/// The lines that differ, with some round them; empty: none.
pub(super) fn lines(old: &Policy, new: &Policy, (from, to): (&str, &str)) -> String {
    let of = |policy: &Policy| version::text(policy.spec.as_ref().unwrap_or(&Default::default()));
    let (old, new) = (of(old), of(new));
    TextDiff::from_lines(&old, &new).unified_diff().context_radius(3).header(from, to).to_string()
}

/// Asks what changes where the second takes the place of the first, and all else stays as it is in force.
fn compared(old: Policy, new: Policy) -> Result<PreviewChangeRequest, Failure> {
    let name = |policy: &Policy| policy.metadata.clone().unwrap_or_default();
    let (from, to) = (name(&old), name(&new));
    if from.namespace != to.namespace {
        let what = format!("a policy of {} cannot take the place of one of {}", to.namespace, from.namespace);
        return Err(Failure::local(&USAGE, format!("{what}; --text-only compares the texts alone")));
    }
    // Were it left in force under a name of its own, its text would count on both sides.
    let other = ObjectName { kind: Kind::Policy.into(), namespace: to.namespace, name: to.name };
    let is_other = other.name != from.name;
    let placed = Policy { metadata: old.metadata.clone(), ..new };
    Ok(PreviewChangeRequest {
        declarations: vec![declaration(placed)],
        base_declarations: vec![declaration(old)],
        base_removals: is_other.then_some(other).into_iter().collect(),
        namespaces: BTreeSet::from([from.namespace]).into_iter().collect(),
        ..PreviewChangeRequest::default()
    })
}

fn tell(desk: &Desk, lines: &str, preview: Option<&PreviewChangeResponse>) -> Result<(), Failure> {
    let mut out = desk.out();
    match out.format {
        Format::Table | Format::Wide => {
            if lines.is_empty() {
                out.line("The texts are the same.")?;
            }
            lines.lines().try_for_each(|line| out.line(&visible(line)))?;
            if let Some(preview) = preview {
                preview_lines(preview).iter().try_for_each(|line| out.line(line))?;
            }
            out.flush()
        }
        Format::Json | Format::Yaml => {
            let mut whole = json!({ "diff": lines });
            if let Some(preview) = preview {
                whole["preview"] = change::value(preview)?;
            }
            if out.format == Format::Json {
                out.value(&whole)?
            } else {
                out.document(&Node::of(&whole))?
            }
            out.flush()
        }
        Format::Jsonl | Format::Name => {
            out.items(&access_rows(preview.map_or(&[], |preview| preview.changes.as_slice())))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_wire::registry::{Metadata, PolicyMode, PolicySpec};

    fn policy(namespace: &str, name: &str, cedar: &str) -> Policy {
        let metadata = Metadata { namespace: namespace.into(), name: name.into(), ..Metadata::default() };
        let spec = PolicySpec { cedar: cedar.into(), mode: PolicyMode::Enforce.into(), ..PolicySpec::default() };
        Policy { metadata: Some(metadata), spec: Some(spec) }
    }

    #[test]
    fn what_differs_is_told_line_by_line() {
        let old = policy("pay", "a", "permit (principal, action, resource)\nwhen { false };");
        let mut new = policy("pay", "a", "permit (principal, action, resource)\nwhen { true };\n");
        assert_eq!(lines(&old, &old, ("a", "b")), "");
        let told = lines(&old, &new, ("pay/a@1", "pay/a"));
        assert_eq!(
            told.lines().collect::<Vec<_>>(),
            [
                "--- pay/a@1",
                "+++ pay/a",
                "@@ -1,3 +1,3 @@",
                " // mode: ENFORCE",
                " permit (principal, action, resource)",
                "-when { false };",
                "+when { true };",
            ]
        );
        // Whether it decides is part of what is declared.
        new.spec = old.spec.clone();
        new.spec.as_mut().unwrap().mode = PolicyMode::LogOnly.into();
        assert!(lines(&old, &new, ("a", "b")).contains("-// mode: ENFORCE\n+// mode: LOG_ONLY\n"));
    }

    #[test]
    fn the_second_takes_the_place_of_the_first() {
        let text = "permit (principal, action, resource);";
        let asked = compared(policy("pay", "a", "old"), policy("pay", "b", text)).unwrap();
        let placed = asked.declarations[0].metadata().unwrap();
        assert_eq!((placed.namespace.as_str(), placed.name.as_str()), ("pay", "a"));
        assert_eq!(asked.base_removals[0].name, "b");
        assert_eq!(asked.base_declarations.len(), 1);
        let same = compared(policy("pay", "a", "old"), policy("pay", "a", text)).unwrap();
        assert!(same.base_removals.is_empty());
        assert_eq!(compared(policy("pay", "a", ""), policy("other", "a", "")).unwrap_err().reason, "USAGE");
    }
}
