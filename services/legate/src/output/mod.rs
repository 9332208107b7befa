//! Answers: a table for people, or JSON, YAML and names for programs; always through one locked writer.

mod change;
mod decision;
mod declared;
pub(crate) mod escape;
mod event;
mod explain;
mod history;
mod markdown;
mod replay;
mod simulation;

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::{Table, presets};
use prost_reflect::DynamicMessage;

use crate::Failure;
use crate::proto;
use crate::yaml::Node;
use escape::{visible, visible_json};

pub(crate) use change::{access_rows, change_label, change_lines, change_rows, preview_lines, test_lines, tried_lines};
pub(crate) use decision::{because, verdict, view_age};
pub(crate) use declared::{
    agent_details, agent_row, declared_row, is_suspended, moment, object_details, orphaned, span, standing, stopped,
};
pub(crate) use event::{brief, event_details, event_row};
pub(crate) use explain::{Ink, can_row, explain_lines, holder_row};
pub(crate) use history::{history_row, write_history};
pub(crate) use markdown::markdown;
pub(crate) use replay::replay_lines;
pub(crate) use simulation::{grouped, simulation_lines};

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns, for people; the default on a terminal.
    Table,
    /// The same with more columns.
    Wide,
    /// The answer's protobuf JSON; the default elsewhere.
    Json,
    /// One object a line, as JSON.
    Jsonl,
    /// YAML; of declared objects their manifest, which legate apply reads.
    Yaml,
    /// Only what names each object, one a line.
    Name,
}

impl Format {
    /// What was asked for, or what suits standard output.
    pub(crate) fn or_default(asked: Option<Self>) -> Self {
        let default = if io::stdout().is_terminal() { Self::Table } else { Self::Json };
        asked.unwrap_or(default)
    }
}

/// One object of an answer, in every form.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// Heading, whether it is for `wide` only, and text.
    pub(crate) cells: Vec<(&'static str, bool, String)>,
    /// What names it.
    pub(crate) name: String,
    /// Its message.
    pub(crate) message: DynamicMessage,
    /// Its YAML, where that is not its message's.
    pub(crate) node: Option<Node>,
}

impl Row {
    pub(crate) fn yaml(&self) -> String {
        self.node.clone().unwrap_or_else(|| crate::manifest::fields(&self.message, &[])).to_yaml()
    }
}

/// Writes answers in the format that was asked for.
#[derive(Debug)]
pub(crate) struct Out<W: Write> {
    pub(crate) format: Format,
    to: W,
    documents: usize,
}

impl Out<io::BufWriter<io::StdoutLock<'static>>> {
    /// To standard output.
    pub(crate) fn stdout(format: Format) -> Self {
        Out { format, to: io::BufWriter::new(io::stdout().lock()), documents: 0 }
    }
}

impl<W: Write> Out<W> {
    #[cfg(test)]
    pub(crate) fn to(format: Format, to: W) -> Self {
        Self { format, to, documents: 0 }
    }

    /// Whether it is read by people.
    pub(crate) fn is_table(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    /// A line as it is; the caller has made it harmless.
    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.to, "{text}")?;
        Ok(())
    }

    /// Everything written goes out now.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.to.flush()?;
        Ok(())
    }

    /// Several objects: `whole` is the answer that holds them all, `note` a last line for people.
    pub(crate) fn rows(&mut self, whole: &DynamicMessage, rows: &[Row], note: &str) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(whole, true)?,
            Format::Table | Format::Wide => {
                self.table(rows)?;
                if !note.is_empty() {
                    self.line(&visible(note))?;
                }
            }
            _ => self.items(rows)?,
        }
        self.flush()
    }

    /// Objects one by one, in the formats that need no whole.
    pub(crate) fn items(&mut self, rows: &[Row]) -> Result<(), Failure> {
        for row in rows {
            match self.format {
                Format::Name => self.line(&visible(&row.name))?,
                Format::Yaml => {
                    if self.documents > 0 {
                        self.line("---")?;
                    }
                    self.documents += 1;
                    write!(self.to, "{}", row.yaml())?;
                }
                _ => self.json(&row.message, false)?,
            }
        }
        self.flush()
    }

    /// One object: for people its details, each with a label.
    pub(crate) fn one(&mut self, whole: &DynamicMessage, row: &Row, details: &[(&str, String)]) -> Result<(), Failure> {
        if self.is_table() {
            self.details(details)?;
            return self.flush();
        }
        self.rows(whole, std::slice::from_ref(row), "")
    }

    /// Labels and texts, aligned; what is empty is left out. A text of several lines keeps them.
    pub(crate) fn details(&mut self, details: &[(&str, String)]) -> Result<(), Failure> {
        let width = details.iter().filter(|d| !d.1.is_empty()).map(|d| d.0.len()).max().unwrap_or(0);
        for (label, text) in details.iter().filter(|d| !d.1.is_empty()) {
            let mut label = *label;
            for line in text.lines() {
                self.line(&format!("{label:<width$}  {}", visible(line)))?;
                label = "";
            }
        }
        Ok(())
    }

    pub(crate) fn json(&mut self, message: &DynamicMessage, pretty: bool) -> Result<(), Failure> {
        let text = proto::json(message, pretty).map_err(io::Error::other)?;
        self.line(&visible_json(&text))
    }

    /// A value as JSON, indented.
    pub(crate) fn value(&mut self, of: &serde_json::Value) -> Result<(), Failure> {
        let text = serde_json::to_string_pretty(of).map_err(io::Error::other)?;
        self.line(&visible_json(&text))
    }

    /// A value as YAML.
    pub(crate) fn document(&mut self, of: &Node) -> Result<(), Failure> {
        write!(self.to, "{}", of.to_yaml())?;
        Ok(())
    }

    fn table(&mut self, rows: &[Row]) -> Result<(), Failure> {
        let wide = self.format == Format::Wide;
        let Some(first) = rows.first() else {
            return Ok(());
        };
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let shown = |row: &Row| -> Vec<(&'static str, String)> {
            let cells = row.cells.iter().filter(|c| wide || !c.1);
            cells.map(|(head, _, text)| (*head, visible(text).into_owned())).collect()
        };
        table.set_header(shown(first).into_iter().map(|(head, _)| head));
        for row in rows {
            table.add_row(shown(row).into_iter().map(|(_, text)| text));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for line in table.lines() {
            self.line(line.trim_end())?;
        }
        Ok(())
    }
}

/// A remark, on standard error; that nobody reads it is no failure.
pub(crate) fn say(text: &str) {
    let mut err = io::stderr().lock();
    for line in text.lines() {
        let _closed = writeln!(err, "{}", visible(line));
    }
}

/// A failure, on standard error: what and why, the fields, what to do next.
pub(crate) fn complain(failure: &Failure) {
    if failure.is_silent() {
        return;
    }
    say(&format!("error: {failure}"));
    for (field, why) in &failure.fields {
        if !failure.what.contains(why.as_str()) {
            say(&format!("       {field}: {why}"));
        }
    }
    if !failure.next.is_empty() {
        say(&format!("next:  {}", failure.next));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_wire::registry::{Agent, AgentState, AgentStatus, ListAgentsResponse, Metadata};

    fn agent(name: &str, reason: &str) -> Agent {
        Agent {
            metadata: Some(Metadata {
                name: name.into(),
                namespace: "n".into(),
                id: "agt_1".into(),
                ..Default::default()
            }),
            spec: None,
            status: Some(AgentStatus {
                state: AgentState::Active.into(),
                state_reason: reason.into(),
                ..Default::default()
            }),
        }
    }

    fn written(format: Format, agents: &[Agent]) -> String {
        let mut to = Vec::new();
        let whole = ListAgentsResponse { agents: agents.to_vec(), revision: 7, ..Default::default() };
        let rows: Vec<Row> = agents.iter().map(agent_row).collect();
        Out::to(format, &mut to).rows(&proto::dynamic(&whole), &rows, "revision 7").unwrap();
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn every_format_says_the_same_in_its_way() {
        let all = [agent("a", ""), agent("b-longer", "\u{1b}[2Jgone")];
        let table = written(Format::Table, &all);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[0].starts_with("AGENT") && lines[0].contains("STATE"), "{table}");
        assert!(lines[1].starts_with("n/a ") && lines[2].starts_with("n/b-longer "), "{table}");
        assert_eq!(lines[1].find("ACTIVE"), lines[2].find("ACTIVE"), "{table}");
        assert_eq!(lines[3], "revision 7");
        assert!(!table.contains("\\u{1b}"), "the reason is for wide only: {table}");
        assert!(written(Format::Wide, &all).contains("\\u{1b}[2Jgone"));
        assert!(!written(Format::Wide, &all).contains('\u{1b}'));
        assert_eq!(written(Format::Name, &all), "n/a\nn/b-longer\n");
        let json: serde_json::Value = serde_json::from_str(&written(Format::Json, &all)).unwrap();
        assert_eq!(json["agents"][1]["status"]["stateReason"], "\u{1b}[2Jgone");
        assert_eq!(json["revision"], "7");
        assert_eq!(written(Format::Jsonl, &all).lines().count(), 2);
        assert!(written(Format::Yaml, &all).contains("\n---\napiVersion: legate/v1\nkind: Agent\n"));
    }

    #[test]
    fn a_closed_pipe_is_no_failure_to_speak_of() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let rows = [agent_row(&agent("a", ""))];
        let failure = Out::to(Format::Name, Closed).items(&rows).unwrap_err();
        assert!(failure.is_silent());
    }
}
