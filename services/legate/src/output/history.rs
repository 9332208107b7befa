//! What became of an object, for people: a line for each write, and what it changed below it.

use std::io::Write;

use legate_wire::registry::{HistoryAction, HistoryEntry, ListHistoryResponse};

use super::escape::visible;
use super::event::{brief, short};
use super::{Format, Out, Row, moment};
use crate::{Failure, proto};

/// One write in a list.
pub(crate) fn history_row(entry: &HistoryEntry) -> Row {
    Row { cells: Vec::new(), name: entry.revision.to_string(), message: proto::dynamic(entry), node: None }
}

/// A whole history, in columns.
pub(crate) fn write_history<W: Write>(
    out: &mut Out<W>,
    whole: &ListHistoryResponse,
    note: &str,
) -> Result<(), Failure> {
    let name =
        if whole.namespace.is_empty() { whole.name.clone() } else { format!("{}/{}", whole.namespace, whole.name) };
    out.line(&visible(&format!("{name} {}", whole.id)))?;
    for entry in &whole.entries {
        out.line(&visible(&head(entry)))?;
        // What is new is all new: that is what get shows.
        if entry.action() == HistoryAction::Created && out.format != Format::Wide {
            continue;
        }
        for field in &entry.fields {
            let told = |text: &str| if text.is_empty() { "(unset)".to_owned() } else { text.to_owned() };
            let line = format!("    {}: {} -> {}", field.path, told(&field.before), told(&field.after));
            out.line(&visible(&line))?;
        }
    }
    if whole.oldest_revision > 1 {
        let from = whole.oldest_revision;
        out.line(&visible(&format!("of what was written before revision {from} only what was in force then is kept")))?;
    }
    let others: Vec<&str> = whole.holders.iter().filter(|id| **id != whole.id).map(String::as_str).collect();
    if !others.is_empty() {
        out.line(&visible(&format!("others that held this name: {}", others.join(", "))))?;
    }
    out.line(&visible(note))?;
    out.flush()
}

fn head(entry: &HistoryEntry) -> String {
    let action = proto::word(entry.action().as_str_name(), "HISTORY_ACTION_");
    let state = match proto::word(entry.state().as_str_name(), "AGENT_STATE_") {
        "UNSPECIFIED" => String::new(),
        state => format!(", {state} (lifecycle version {})", entry.lifecycle_version),
    };
    let why = if entry.reason.is_empty() { String::new() } else { format!(": {}", entry.reason) };
    let (time, who) = (moment(entry.time.as_ref()), brief(&short(&entry.actor)));
    let version = if entry.version == 0 { String::new() } else { format!(", version {}", entry.version) };
    format!("{}  {time}  {action} by {who}{version}{state}{why}", entry.revision)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_wire::registry::{AgentState, FieldChange};

    fn change(before: &str, after: &str) -> FieldChange {
        FieldChange { path: "spec.purpose".into(), before: before.into(), after: after.into() }
    }

    #[test]
    fn a_history_reads_from_top_to_bottom() {
        let created = HistoryEntry {
            revision: 3,
            actor: "spiffe://example.org/legate/operator/ada".into(),
            action: HistoryAction::Created.into(),
            fields: vec![change("", "\"reads\"")],
            ..Default::default()
        };
        let updated = HistoryEntry {
            revision: 9,
            time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
            action: HistoryAction::Updated.into(),
            reason: "more\u{1b}[2J".into(),
            fields: vec![change("\"reads\"", "\"writes\"")],
            state: AgentState::Active.into(),
            lifecycle_version: 2,
            version: 4,
            ..created.clone()
        };
        let whole = ListHistoryResponse {
            entries: vec![updated, created],
            id: "agt_2".into(),
            namespace: "payments".into(),
            name: "invoice-bot".into(),
            holders: vec!["agt_2".into(), "agt_1".into()],
            oldest_revision: 4,
            ..Default::default()
        };
        let written = |format| {
            let mut to = Vec::new();
            write_history(&mut Out::to(format, &mut to), &whole, "2 writes").unwrap();
            String::from_utf8(to).unwrap()
        };
        let table = written(Format::Table);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines,
            [
                "payments/invoice-bot agt_2",
                "9  2027-01-15T08:00:00Z  UPDATED by operator/ada, version 4, ACTIVE (lifecycle version 2): more\\u{1b}[2J",
                "    spec.purpose: \"reads\" -> \"writes\"",
                "3    CREATED by operator/ada",
                "of what was written before revision 4 only what was in force then is kept",
                "others that held this name: agt_1",
                "2 writes",
            ]
        );
        assert!(written(Format::Wide).contains("    spec.purpose: (unset) -> \"reads\""));
    }
}
