//! Which action on which resource an HTTP request is: a table of templates, read in order, and nothing by default.

mod stated;

use std::collections::BTreeMap;

use legate_ids::{Action, ResourceId, ResourceType};

use self::stated::{From, Kind, Source};
use super::question::{Question, Record, Stated as Attributes, Value};
pub(crate) use stated::{Body, Stated, Unclear};

/// A route that cannot be read: which key, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub(crate) struct BadRoute {
    pub(crate) key: &'static str,
    pub(crate) why: String,
}

fn bad(key: &'static str, why: impl Into<String>) -> BadRoute {
    BadRoute { key, why: why.into() }
}

/// Why a path is not looked up at all: two readers could take it for two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPath {
    /// No path.
    #[error("the path has to begin with a slash")]
    Start,
    /// `//`, `.` or `..`, encoded or not.
    #[error("the path has an empty part, or one that is . or ..")]
    Dots,
    /// An escape that is none, or of a slash, backslash or control character.
    #[error("the path has an escape that is broken, or of a character that parts it")]
    Escape,
    /// A character that servers read in different ways.
    #[error("the path has a backslash, a semicolon, or what is no printable ASCII")]
    Character,
}

/// The parts of a path, decoded once; of an ending slash the last one is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Vec<String>);

impl Path {
    /// Reads a request's target; its query is left away.
    pub(crate) fn read(target: &str) -> Result<Self, BadPath> {
        let path = target.split(['?', '#']).next().unwrap_or_default();
        let rest = path.strip_prefix('/').ok_or(BadPath::Start)?;
        if !path.bytes().all(|b| b.is_ascii_graphic()) || path.contains(['\\', ';']) {
            return Err(BadPath::Character);
        }
        let raw: Vec<&str> = rest.split('/').collect();
        let last = raw.len() - 1;
        let mut parts = Vec::with_capacity(raw.len());
        for (n, part) in raw.into_iter().enumerate() {
            let part = decode(part).ok_or(BadPath::Escape)?;
            if matches!(part.as_str(), "." | "..") || (part.is_empty() && n != last) {
                return Err(BadPath::Dots);
            }
            parts.push(part);
        }
        Ok(Self(parts))
    }
}

/// A part of a path without its escapes; `None` where one is broken, or stands for what parts a path or is not seen.
fn decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| char::from(b?).to_digit(16);
        let (high, low) = (digit(rest.next())?, digit(rest.next())?);
        bytes.push(u8::try_from(high * 16 + low).ok()?);
    }
    let text = String::from_utf8(bytes).ok()?;
    // What is escaped twice means one thing here and another behind a server that decodes twice.
    let is_twofold = |c: char| c.is_control() || matches!(c, '/' | '\\' | ';' | '%' | '?' | '#');
    (!text.contains(is_twofold)).then_some(text)
}

/// One part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// This text.
    Text(String),
    /// Any one part, not empty.
    One(String),
    /// All parts that are left, one at least, none empty.
    Rest(String),
}

/// A text with what is taken from the request in it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Taken(From),
}

/// A row of the table.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// Empty: any.
    methods: Vec<String>,
    path: Vec<Part>,
    action: Action,
    resource_type: ResourceType,
    resource_id: Vec<Piece>,
    attributes: Vec<(String, Source)>,
    context: Vec<(String, Source)>,
}

/// A row as it is configured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) methods: &'a [String],
    pub(crate) path: &'a str,
    pub(crate) action: &'a str,
    pub(crate) resource_type: &'a str,
    pub(crate) resource_id: &'a str,
    pub(crate) attributes: &'a BTreeMap<String, String>,
    pub(crate) context: &'a BTreeMap<String, String>,
}

impl Route {
    /// Reads a row.
    pub(crate) fn read(wanted: &Wanted<'_>) -> Result<Self, BadRoute> {
        let is_method = |text: &String| !text.is_empty() && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-');
        if !wanted.methods.iter().all(is_method) {
            return Err(bad("methods", "are in upper case, such as GET; left out: every method"));
        }
        let path = parts(wanted.path)?;
        let resource_id = pieces(wanted.resource_id)?;
        let attributes = sources("attributes", wanted.attributes)?;
        let context = sources("context", wanted.context)?;
        let is_given = |name: &String| {
            path.iter().any(|part| matches!(part, Part::One(known) | Part::Rest(known) if known == name))
        };
        let pieces = resource_id.iter().filter_map(|piece| match piece {
            Piece::Taken(from) => Some(("resource_id", from)),
            Piece::Text(_) => None,
        });
        let values = [("attributes", &attributes), ("context", &context)];
        let values =
            values.into_iter().flat_map(|(key, all)| all.iter().filter_map(move |(_, s)| Some((key, s.from()?))));
        for (key, from) in pieces.chain(values) {
            if let From::Path(name) = from
                && !is_given(name)
            {
                return Err(bad(key, format!("{{{name}}} is no part of the path")));
            }
        }
        Ok(Self {
            methods: wanted.methods.to_vec(),
            path,
            action: Action::parse(wanted.action).map_err(|e| bad("action", e.to_string()))?,
            resource_type: ResourceType::parse(wanted.resource_type)
                .map_err(|e| bad("resource_type", e.to_string()))?,
            resource_id,
            attributes,
            context,
        })
    }

    /// The parts of the path that have names, where a request is in this row.
    fn names(&self, method: &str, path: &Path) -> Option<BTreeMap<&str, String>> {
        if !self.methods.is_empty() && !self.methods.iter().any(|one| one == method) {
            return None;
        }
        let mut names: BTreeMap<&str, String> = BTreeMap::new();
        let mut rest = path.0.as_slice();
        for part in &self.path {
            let (first, others) = rest.split_first()?;
            match part {
                Part::Text(text) if text == first => {}
                Part::One(name) if !first.is_empty() => drop(names.insert(name, first.clone())),
                Part::Rest(name) if rest.iter().all(|part| !part.is_empty()) => {
                    names.insert(name, rest.join("/"));
                    rest = &[];
                    break;
                }
                Part::Text(_) | Part::One(_) | Part::Rest(_) => return None,
            }
            rest = others;
        }
        rest.is_empty().then_some(names)
    }

    /// The question that a request is by this row.
    fn question(&self, names: &BTreeMap<&str, String>, stated: &Stated<'_>) -> Result<Question, Unclear> {
        let taken = |from: &From| match from {
            From::Path(name) => Ok(names.get(name.as_str()).cloned()),
            From::Query(name) => stated.parameter(name),
            From::Header(name) => stated.header(name),
            From::Body(names) => Ok(match stated.field(names, Kind::Text)? {
                Some(Value::Text(text)) => Some(text),
                _ => None,
            }),
        };
        let mut id = String::new();
        for piece in &self.resource_id {
            match piece {
                Piece::Text(text) => id += text,
                Piece::Taken(from) => {
                    let text = taken(from)?.ok_or_else(|| from.unclear("is missing"))?;
                    // One value cannot be read as two parts of an id.
                    if !matches!(from, From::Path(_)) && (text.is_empty() || text.contains('/')) {
                        return Err(from.unclear("is empty, or has a slash"));
                    }
                    id += &text;
                }
            }
        }
        let resource_id = ResourceId::parse(&id).map_err(Unclear::Id)?;
        let values = |all: &[(String, Source)]| -> Result<Record, Unclear> {
            let mut record = Record::new();
            for (name, source) in all {
                record.extend(source.value(stated, taken)?.map(|value| (name.clone(), value)));
            }
            Ok(record)
        };
        Ok(Question {
            action: self.action.clone(),
            resource_type: self.resource_type.clone(),
            resource_id,
            attributes: Attributes(values(&self.attributes)?),
            context: values(&self.context)?,
        })
    }
}

/// The question that a request is by the first row that it is in; `None`: it is in none, which is a denial.
///
/// # Errors
/// When what the row takes from the request is missing, could be read in two ways, or makes no id of a resource. No later row is
/// tried, whatever the reason: it might ask for less.
pub(crate) fn find(
    routes: &[Route],
    method: &str,
    path: &Path,
    stated: &Stated<'_>,
) -> Result<Option<Question>, Unclear> {
    let mut rows = routes.iter().filter_map(|route| Some((route, route.names(method, path)?)));
    rows.next().map(|(route, names)| route.question(&names, stated)).transpose()
}

/// Attributes or a context of a row.
fn sources(key: &'static str, from: &BTreeMap<String, String>) -> Result<Vec<(String, Source)>, BadRoute> {
    const MOST: usize = 64;
    if from.len() > MOST {
        return Err(bad(key, format!("are {MOST} at most")));
    }
    let read = |(name, text): (&String, &String)| match is_name(name) && name != super::behalf::ON_BEHALF_OF {
        true => Ok((name.clone(), Source::parse(key, name, text)?)),
        false => Err(bad(key, format!("{name:?}: names are letters, digits and _, and on_behalf_of is Legate's own"))),
    };
    from.iter().map(read).collect()
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

fn parts(text: &str) -> Result<Vec<Part>, BadRoute> {
    let path = Path::read(text).map_err(|e| bad("path", e.to_string()))?;
    let (mut parts, mut seen) = (Vec::new(), Vec::new());
    for (n, part) in path.0.iter().enumerate() {
        let Some(name) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
            if part.contains(['{', '}']) {
                return Err(bad("path", format!("{part:?}: a name in braces stands for a whole part")));
            }
            parts.push(Part::Text(part.clone()));
            continue;
        };
        let (name, is_rest) = name.strip_suffix('*').map_or((name, false), |name| (name, true));
        if !is_name(name) || seen.contains(&name) {
            return Err(bad("path", format!("{{{name}}}: names are letters, digits and _, each once")));
        }
        if is_rest && n + 1 != path.0.len() {
            return Err(bad("path", format!("{{{name}*}} stands for all that is left, so it is last")));
        }
        seen.push(name);
        parts.push(if is_rest { Part::Rest(name.to_owned()) } else { Part::One(name.to_owned()) });
    }
    Ok(parts)
}

fn pieces(text: &str) -> Result<Vec<Piece>, BadRoute> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').ok_or_else(|| bad("resource_id", "a brace is not closed"))?;
        let from = From::parse(name).ok_or_else(|| {
            bad(
                "resource_id",
                format!("{{{name}}}: is a name of the path's, query.NAME, header.name-in-lower-case or body.NAME.NAME"),
            )
        })?;
        pieces.extend((!before.is_empty()).then(|| Piece::Text(before.to_owned())));
        pieces.push(Piece::Taken(from));
        rest = after;
    }
    pieces.extend((!rest.is_empty()).then(|| Piece::Text(rest.to_owned())));
    if pieces.is_empty() || text.contains('*') || rest.contains('}') {
        return Err(bad("resource_id", "is a text with names of the path's parts in it, such as {project}/{id}"));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests;
