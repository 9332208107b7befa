//! A dossier or a report as a document: what is told, as of when, by whose word, and which events of the log made it so.
//!
//! It is written twice, as JSON for machines and as one HTML file for people, and both are made from this alone. It lies in a pack of
//! evidence, beside the events that it cites.

mod check;
mod html;
pub(crate) mod requirements;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::output::escape::visible_json;

pub(crate) use check::{Events, cites, read};
pub(crate) use html::html;

/// The most that the JSON of a document has. The HTML tells the same in at most as much.
pub(crate) const LARGEST: usize = 8 << 20;
/// The most that a text for people has; what is longer is whole in the JSON's object.
const LONGEST: usize = 2_000;

/// What a document is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Form {
    /// One agent.
    Dossier,
    /// One namespace, held against what rules ask for.
    Report,
}

impl Form {
    /// The form of its pack.
    pub(crate) const fn format(self) -> &'static str {
        match self {
            Self::Dossier => "legate-dossier/1",
            Self::Report => "legate-report/1",
        }
    }

    /// The form of a pack; `None`: one of events alone.
    pub(crate) fn of_format(format: &str) -> Option<Self> {
        [Self::Dossier, Self::Report].into_iter().find(|form| form.format() == format)
    }

    /// As the log records it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Dossier => "dossier",
            Self::Report => "report",
        }
    }

    /// Its files in a pack.
    pub(crate) const fn files(self) -> (&'static str, &'static str) {
        match self {
            Self::Dossier => ("dossier.html", "dossier.json"),
            Self::Report => ("report.html", "report.json"),
        }
    }
}

/// Whom or what it is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct About {
    pub(crate) namespace: String,
    /// An agent's name; of a report empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) agent: String,
    /// An agent's id; of a report empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) agent_id: String,
}

impl About {
    /// For people.
    pub(crate) fn name(&self) -> String {
        if self.agent.is_empty() { self.namespace.clone() } else { format!("{}/{}", self.namespace, self.agent) }
    }
}

/// As of when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Moment {
    /// RFC 3339, UTC.
    pub(crate) time: String,
    /// The registry's revision that was in force then.
    pub(crate) revision: u64,
    /// When that revision was made.
    pub(crate) revision_time: String,
    /// Whether that is the present of whoever asked.
    pub(crate) is_now: bool,
}

/// Who made it, when and with what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Made {
    /// The SPIFFE ID of whoever asked: everything in it is what he may read.
    pub(crate) by: String,
    /// By the clock of his machine.
    pub(crate) time: String,
    /// The program.
    pub(crate) with: String,
}

/// The log that the events are from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Log {
    pub(crate) name: String,
    /// The tree that the proofs lead to.
    pub(crate) tree_size: u64,
    /// From when to when the registry had heard it, for people.
    pub(crate) heard: String,
}

/// How far a section is of the moment that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Told {
    /// What was in force at the moment, by what the registry keeps of its past.
    AsOf,
    /// What the log holds up to the moment.
    ByTheLog,
    /// What is known now, and had its times before the moment.
    ByItsTimes,
    /// What is so now; of the moment it cannot be told.
    Now,
    /// Each entry says it.
    Each,
}

impl Told {
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::AsOf => "as of the moment",
            Self::ByTheLog => "by the log, up to the moment",
            Self::ByItsTimes => "known now, with times up to the moment",
            Self::Now => "as of now only",
            Self::Each => "as each entry says",
        }
    }
}

/// An event that made something so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Cite {
    /// Its leaf, which is in the pack with its proof.
    pub(crate) leaf: u64,
    pub(crate) event_id: String,
    pub(crate) r#type: String,
}

/// A label and a text, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cell {
    pub(crate) label: String,
    pub(crate) text: String,
}

/// One thing that is told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    /// What people read.
    pub(crate) cells: Vec<Cell>,
    /// The whole of it, as the service told it.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub(crate) object: Value,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) events: Vec<Cite>,
}

impl Item {
    pub(crate) fn of(cells: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        let cells = cells.into_iter().map(|(label, text)| Cell { label: label.to_owned(), text: cut(text) });
        Self { cells: cells.collect(), ..Self::default() }
    }

    pub(crate) fn with(self, object: Value) -> Self {
        Self { object, ..self }
    }
}

/// A text for people, of a length that a page bears.
fn cut(text: String) -> String {
    if text.len() <= LONGEST {
        return text;
    }
    let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{} (cut; {} bytes in all)", &text[..end], text.len())
}

/// Why whoever asked was not given a section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Withheld {
    /// The stable word, as in docs/errors.md.
    pub(crate) reason: String,
    pub(crate) what: String,
}

/// What there is to say of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Section {
    /// A stable word.
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) told: Told,
    /// What bounds it: why it can be told of now only, how far back it reaches, whose word it is.
    pub(crate) note: String,
    /// It was not given; then there are no items, and that says nothing of whether there is anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) withheld: Option<Withheld>,
    pub(crate) items: Vec<Item>,
    /// So many more there are at least, which are not told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) left_out: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Section {
    pub(crate) fn new(id: &str, title: &str, told: Told, note: impl Into<String>) -> Self {
        Self {
            id: id.to_owned(),
            title: title.to_owned(),
            told,
            note: note.into(),
            withheld: None,
            items: Vec::new(),
            left_out: 0,
        }
    }

    /// With so many items at most.
    pub(crate) fn with(mut self, items: impl IntoIterator<Item = Item>, most: usize) -> Self {
        self.items.extend(items);
        self.left_out += self.items.len().saturating_sub(most) as u64;
        self.items.truncate(most);
        self
    }
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Document {
    pub(crate) form: Form,
    pub(crate) about: About,
    pub(crate) as_of: Moment,
    pub(crate) made: Made,
    pub(crate) log: Log,
    /// What holds for all of it.
    pub(crate) notes: Vec<String>,
    pub(crate) sections: Vec<Section>,
}

impl Document {
    /// As a file.
    pub(crate) fn json(&self) -> serde_json::Result<String> {
        let text = serde_json::to_string_pretty(self)?;
        Ok(visible_json(&text).into_owned() + "\n")
    }

    /// Every event that something in it rests on.
    pub(crate) fn cited(&self) -> BTreeSet<u64> {
        let items = self.sections.iter().flat_map(|section| &section.items);
        items.flat_map(|item| &item.events).map(|event| event.leaf).collect()
    }

    /// Whether something that there is is not in it.
    pub(crate) fn is_whole(&self) -> bool {
        self.sections.iter().all(|section| section.withheld.is_none() && section.left_out == 0)
    }

    /// Cuts it until it has so many bytes at most: of the section that is the largest then, the later half of what is told.
    pub(crate) fn fit(&mut self, most: usize) -> serde_json::Result<()> {
        while self.json()?.len() > most || html(self).len() > 2 * most {
            let sizes = self.sections.iter().enumerate().filter(|(_, section)| !section.items.is_empty());
            let size = |section: &Section| serde_json::to_vec(&section.items).map_or(0, |bytes| bytes.len());
            let Some((largest, _)) = sizes.max_by_key(|(_, section)| size(section)) else { return Ok(()) };
            let section = &mut self.sections[largest];
            let kept = section.items.len() / 2;
            section.left_out += (section.items.len() - kept) as u64;
            section.items.truncate(kept);
        }
        Ok(())
    }
}
