//! Manifests: declared objects in YAML or JSON, many documents a file, everything unknown refused with its place.

mod anything;
mod directory;
mod document;
mod permission;
mod schema;
mod secret;
mod value;
mod write;

pub use schema::schema;
pub use write::write;

pub(crate) use permission::{permission, text as permission_text};
pub(crate) use value::duration;
pub(crate) use write::{fields, node};

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use legate_wire::registry::Declaration;
use prost_reflect::ReflectMessage as _;
use serde::de::DeserializeSeed;

use document::{Full, Kinds, Sketch};
use value::Budget;

use crate::proto;

/// The version that every document names.
pub const API_VERSION: &str = "legate/v1";
/// A file is so long at most.
const MOST_BYTES: u64 = 4 << 20;
/// So many documents are read: all of them are in memory. How many of them may differ is for the registry to say.
const MOST_DOCUMENTS: usize = 250_000;

/// One declared object, as a document of a manifest says.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The object.
    pub declaration: Declaration,
    /// Its kind, such as `AgentClass`.
    pub kind: &'static str,
    /// Its namespace; empty for a namespace itself.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What is wrong with a manifest, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    /// The file; `-` for standard input.
    pub path: PathBuf,
    /// Line and column, counted from 1, where known.
    pub at: Option<(usize, usize)>,
    /// What is wrong.
    pub why: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some((line, column)) = self.at {
            write!(f, ":{line}:{column}")?;
        }
        write!(f, ": {}", self.why)
    }
}

impl std::error::Error for ManifestError {}

/// Which objects there are already, and where they were declared.
type Seen = HashMap<(&'static str, String, String), String>;

/// The kinds that manifests have, in the order in which they need each other.
#[must_use]
pub fn kinds() -> &'static [&'static str] {
    &document::KINDS
}

/// The kind of a declared object, such as `AgentClass`; empty when it holds none.
pub(crate) fn kind_name(declaration: &Declaration) -> String {
    let dynamic = proto::dynamic(declaration);
    let name = dynamic.fields().next().and_then(|(_, value)| Some(value.as_message()?.descriptor().name().to_owned()));
    name.unwrap_or_default()
}

/// Reads manifests, also whole directories of them; `-` is standard input.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(paths: &[PathBuf]) -> Result<Vec<Document>, ManifestError> {
    let mut out = Vec::new();
    let mut seen = Seen::new();
    for path in &directory::expand(paths)? {
        let bad = |why: String| ManifestError { path: path.clone(), at: None, why };
        let text = read(path).map_err(|e| bad(e.to_string()))?;
        out.extend(parse(path, &text, &mut seen)?);
        if out.len() > MOST_DOCUMENTS {
            return Err(bad(format!("over {MOST_DOCUMENTS} documents in all")));
        }
    }
    if out.is_empty() {
        let path = paths.first().cloned().unwrap_or_default();
        return Err(ManifestError { path, at: None, why: "no document in it".into() });
    }
    Ok(out)
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MOST_BYTES + 1).read_to_string(&mut text)?
    } else {
        std::fs::File::open(path)?.take(MOST_BYTES + 1).read_to_string(&mut text)?
    };
    if read as u64 > MOST_BYTES {
        return Err(std::io::Error::other(format!("over {} MiB", MOST_BYTES >> 20)));
    }
    Ok(text)
}

/// Reads the documents of one text.
///
/// The kind of a document may stand behind its spec, so each text is read twice: first for the kinds, then by them.
fn parse(path: &Path, text: &str, seen: &mut Seen) -> Result<Vec<Document>, ManifestError> {
    let bad = |at: Option<(usize, usize)>, why: String| ManifestError { path: path.to_owned(), at, why };
    if let Some((line, column)) = too_deep(text) {
        return Err(bad(Some((line, column)), "brackets are nested too deep".into()));
    }
    let budget = Budget::new();
    let mut out = Vec::new();
    if is_json(path, text) {
        let wrong = |e: serde_json::Error| {
            let why = e.to_string();
            let place = format!(" at line {} column {}", e.line(), e.column());
            bad(Some((e.line(), e.column())), why.strip_suffix(&place).unwrap_or(&why).to_owned())
        };
        let mut first = serde_json::Deserializer::from_str(text);
        let mut second = serde_json::Deserializer::from_str(text);
        while first.end().is_err() {
            let kinds = Sketch.deserialize(&mut first).map_err(wrong)?;
            out.extend(full(path, &kinds, &budget, seen).deserialize(&mut second).map_err(wrong)?);
        }
    } else {
        let wrong = |e: serde_norway::Error| {
            let at = e.location().map(|l| (l.line(), l.column()));
            let why = e.to_string();
            let place = at.map(|(line, column)| format!(" at line {line} column {column}")).unwrap_or_default();
            // serde_norway puts the path of the value before what is wrong; it stays, the place is said once.
            bad(at, why.replacen(&place, "", 1))
        };
        let first = serde_norway::Deserializer::from_str(text);
        let second = serde_norway::Deserializer::from_str(text);
        for (one, two) in first.zip(second) {
            let kinds = Sketch.deserialize(one).map_err(wrong)?;
            out.extend(full(path, &kinds, &budget, seen).deserialize(two).map_err(wrong)?);
        }
    }
    Ok(out)
}

/// Reads one line that holds one object in JSON: a document, or an agent's metadata and spec alone.
///
/// # Errors
/// What is wrong with it, and where.
pub(crate) fn line(path: &Path, number: usize, text: &str, agent: bool) -> Result<Declaration, ManifestError> {
    const AGENT: &str = "\"apiVersion\":\"legate/v1\",\"kind\":\"Agent\",";
    let bad = |at: Option<usize>, why: String| {
        let at = Some((number, at.unwrap_or(1)));
        ManifestError { path: path.to_owned(), at, why }
    };
    let Some(rest) = text.strip_prefix('{') else {
        return Err(bad(None, "a line is one object in JSON, in braces".into()));
    };
    let (whole, more) = if agent { (format!("{{{AGENT}{rest}"), AGENT.len()) } else { (text.to_owned(), 0) };
    let read = parse(path, &whole, &mut Seen::new());
    let mut documents = read.map_err(|e| bad(e.at.map(|(_, column)| column.saturating_sub(more).max(1)), e.why))?;
    match (documents.pop(), documents.is_empty()) {
        (Some(document), true) => Ok(document.declaration),
        _ => Err(bad(None, "a line is one object, and no more".into())),
    }
}

fn full<'a>(path: &'a Path, kinds: &'a Kinds, budget: &'a Budget, seen: &'a mut Seen) -> Full<'a> {
    Full { path, kinds, budget, seen }
}

fn is_json(path: &Path, text: &str) -> bool {
    path.extension().is_some_and(|e| e == "json") || text.trim_start().starts_with('{')
}

/// No document needs so many brackets within brackets, and a parser takes long over them.
const DEEPEST: usize = 64;

/// Where more brackets are open than any document needs. Brackets in texts count as well: it is a bound, not a parser.
fn too_deep(text: &str) -> Option<(usize, usize)> {
    let mut run = 0_usize;
    for (number, line) in text.lines().enumerate() {
        for (at, c) in line.chars().enumerate() {
            match c {
                '[' | '{' => run += 1,
                ' ' | '\t' => {}
                _ => run = 0,
            }
            if run > DEEPEST {
                return Some((number + 1, at + 1));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests;
