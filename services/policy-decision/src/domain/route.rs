//! Which action on which resource an HTTP request is: a table of templates, read in order, and nothing by default.

use std::collections::BTreeMap;

use legate_ids::{Action, ResourceId, ResourceType};

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

/// A text with names of a path's parts in it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Name(String),
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
}

/// A row as it is configured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) methods: &'a [String],
    pub(crate) path: &'a str,
    pub(crate) action: &'a str,
    pub(crate) resource_type: &'a str,
    pub(crate) resource_id: &'a str,
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
        let is_given = |name: &String| {
            path.iter().any(|part| matches!(part, Part::One(known) | Part::Rest(known) if known == name))
        };
        for piece in &resource_id {
            if let Piece::Name(name) = piece
                && !is_given(name)
            {
                return Err(bad("resource_id", format!("{{{name}}} is no part of the path")));
            }
        }
        Ok(Self {
            methods: wanted.methods.to_vec(),
            path,
            action: Action::parse(wanted.action).map_err(|e| bad("action", e.to_string()))?,
            resource_type: ResourceType::parse(wanted.resource_type)
                .map_err(|e| bad("resource_type", e.to_string()))?,
            resource_id,
        })
    }

    /// What a request is by this row; `None`: it is not in it.
    fn find(&self, method: &str, path: &Path) -> Option<(Action, ResourceType, ResourceId)> {
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
        if !rest.is_empty() {
            return None;
        }
        let texts = self.resource_id.iter().map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Name(name) => names.get(name.as_str()).map(String::as_str),
        });
        let id = ResourceId::parse(&texts.collect::<Option<String>>()?).ok()?;
        Some((self.action.clone(), self.resource_type.clone(), id))
    }
}

/// What a request is by the first row that it is in; `None`: by none, which is a denial.
pub(crate) fn find(routes: &[Route], method: &str, path: &Path) -> Option<(Action, ResourceType, ResourceId)> {
    routes.iter().find_map(|route| route.find(method, path))
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
        if !is_name(name) {
            return Err(bad("resource_id", format!("{{{name}}}: names are letters, digits and _")));
        }
        pieces.extend((!before.is_empty()).then(|| Piece::Text(before.to_owned())));
        pieces.push(Piece::Name(name.to_owned()));
        rest = after;
    }
    pieces.extend((!rest.is_empty()).then(|| Piece::Text(rest.to_owned())));
    if pieces.is_empty() || text.contains('*') || rest.contains('}') {
        return Err(bad("resource_id", "is a text with names of the path's parts in it, such as {project}/{id}"));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn route(methods: &[&str], path: &str, id: &str) -> Result<Route, BadRoute> {
        let methods: Vec<String> = methods.iter().map(|m| (*m).to_owned()).collect();
        Route::read(&Wanted {
            methods: &methods,
            path,
            action: "ledger:read",
            resource_type: "Ledger",
            resource_id: id,
        })
    }

    fn id(routes: &[Route], method: &str, target: &str) -> Option<String> {
        find(routes, method, &Path::read(target).ok()?).map(|(_, _, id)| id.to_string())
    }

    #[test]
    fn the_first_row_that_fits_says_what_it_is() {
        let routes = [
            route(&["GET", "HEAD"], "/ledger/{id}", "{id}").unwrap(),
            route(&[], "/p/{project}/i/{rest*}", "{project}/{rest}").unwrap(),
            route(&[], "/ledger/", "all").unwrap(),
        ];
        for (method, target, wanted) in [
            ("GET", "/ledger/7?x=/../y", Some("7")),
            ("GET", "/%6cedger/a%20b", Some("a b")),
            ("POST", "/ledger/7", None),
            ("GET", "/ledger/7/", None),
            ("GET", "/ledger/7/8", None),
            ("GET", "/ledger/", Some("all")),
            ("PUT", "/p/apollo/i/1/2", Some("apollo/1/2")),
            ("PUT", "/p/apollo/i/", None),
            ("PUT", "/p/apollo/i/1/", None),
            ("GET", "/Ledger/7", None),
            ("get", "/ledger/7", None),
            ("GET", "/", None),
            ("GET", "/ledger/a*", None),
        ] {
            assert_eq!(id(&routes, method, target).as_deref(), wanted, "{method} {target}");
        }
    }

    #[test]
    fn a_path_that_could_be_two_is_refused() {
        for bad in [
            "",
            "ledger/7",
            "*",
            "http://x/ledger/7",
            "//ledger/7",
            "/ledger//7",
            "/ledger/../x",
            "/ledger/./7",
            "/ledger/%2e%2e/x",
            "/ledger/.%2E/x",
            "/ledger/%2E",
            "/ledger/a%2fb",
            "/ledger/a%5Cb",
            "/ledger/a\\b",
            "/ledger/%00",
            "/ledger/a%0a",
            "/ledger/%",
            "/ledger/%g1",
            "/ledger/%c3%28",
            "/ledger/a;b",
            "/ledger/a%3bb",
            "/ledger/%252e%252e/x",
            "/ledger/a b",
            "/ledger/ä",
            "/ledger/a\u{0}",
            "/ledger/a%3fb",
            "/ledger/a%23",
        ] {
            assert!(Path::read(bad).is_err(), "{bad:?}: {:?}", Path::read(bad));
        }
    }

    #[test]
    fn a_row_that_says_nothing_clear_is_refused() {
        for (path, id, key) in [
            ("ledger", "x", "path"),
            ("/a/{id", "x", "path"),
            ("/a/x{id}", "{id}", "path"),
            ("/a/{id}/{id}", "{id}", "path"),
            ("/a/{rest*}/b", "{rest}", "path"),
            ("/a/{}", "x", "path"),
            ("/a/{id}", "{other}", "resource_id"),
            ("/a/{id}", "", "resource_id"),
            ("/a/{id}", "{id", "resource_id"),
            ("/a/{id}", "*", "resource_id"),
        ] {
            assert_eq!(route(&[], path, id).unwrap_err().key, key, "{path} {id}");
        }
        assert_eq!(route(&["get"], "/a", "x").unwrap_err().key, "methods");
    }

    proptest! {
        #[test]
        fn what_is_captured_has_nothing_in_it_that_parts_a_path(target in "/ledger/[ -~]{0,24}") {
            let routes = [route(&[], "/ledger/{id}", "{id}").unwrap()];
            if let Some(id) = id(&routes, "GET", &target) {
                prop_assert!(!id.contains(['/', '\\', ';', '%', '?', '#', '*']) && id != "." && id != "..");
            }
        }
    }
}
