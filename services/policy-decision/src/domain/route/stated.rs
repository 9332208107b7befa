//! What a request states beside its path: parameters of its query, headers and fields of its body, taken where a row of the table asks
//! for them.
//!
//! A value counts only where every server that reads the request after us has to find the same one: what comes twice, in another
//! spelling, or escaped so that it could be read twice, is refused and not chosen from.

use legate_ids::BadResource;
use serde_json::{Map, Value as Json};

use super::{BadRoute, bad, decode, is_name};
use crate::domain::question::Value;

/// The longest value, in bytes.
const LONGEST: usize = 1_024;
/// Parameters of one query.
const MOST_PARAMETERS: usize = 256;
/// Names of a field, one in the other.
const DEEPEST: usize = 8;
/// Every whole number up to here is the same to who reads numbers as doubles.
const EXACT: u64 = 1 << 53;
/// Headers that are no values: who somebody is, and how the message is framed.
const NEVER: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "x-forwarded-client-cert",
];

/// Why a request is not looked at: two readers could take it for two things, or what a row asks for is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unclear {
    /// The query cannot be read in one way.
    #[error("the query {0}")]
    Query(&'static str),
    /// A parameter.
    #[error("the parameter {0} {1}")]
    Parameter(String, &'static str),
    /// A header.
    #[error("the header {0} {1}")]
    Header(String, &'static str),
    /// The body cannot be read in one way, or did not come as a whole.
    #[error("the body {0}")]
    Body(&'static str),
    /// A field of the body.
    #[error("the body's field {0} {1}")]
    Field(String, &'static str),
    /// What the row makes of the request names no resource.
    #[error("the resource's id: {0}")]
    Id(BadResource),
}

/// The body of a request, as a row can take from it.
#[derive(Clone, Debug)]
pub(crate) enum Body {
    /// It was not passed on.
    Absent,
    /// It is no JSON object that is read in one way, or not all of it.
    Unclear(&'static str),
    /// It is this object.
    Object(Map<String, Json>),
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// A part of the path.
    Path(String),
    /// A parameter of the query.
    Query(String),
    /// A header, in lower case.
    Header(String),
    /// A field of the body: its name, and those of the objects in which it stands.
    Body(Vec<String>),
}

/// Of which kind a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Long,
    Bool,
}

/// A value of the question: as it is written in the table, or out of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Fixed(String),
    Taken { from: From, kind: Kind, optional: bool },
}

impl From {
    /// Reads `NAME`, `query.NAME` or `header.NAME`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("query.") {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
            return (!name.is_empty() && name.bytes().all(plain)).then(|| Self::Query(name.to_owned()));
        }
        if let Some(name) = text.strip_prefix("header.") {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
            let good = !name.is_empty() && name.bytes().all(plain) && !NEVER.contains(&name);
            return good.then(|| Self::Header(name.to_owned()));
        }
        if let Some(path) = text.strip_prefix("body.") {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
            let names: Vec<String> = path.split('.').map(str::to_owned).collect();
            let good = names.iter().all(|name| !name.is_empty() && name.bytes().all(plain));
            return (good && names.len() <= DEEPEST).then_some(Self::Body(names));
        }
        is_name(text).then(|| Self::Path(text.to_owned()))
    }
}

impl Source {
    /// Reads a text, or `{FROM}`, `{FROM?}`, `{FROM:long}`, `{FROM:bool?}`.
    pub(super) fn parse(key: &'static str, name: &str, text: &str) -> Result<Self, BadRoute> {
        let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
            if text.contains(['{', '}']) || text.len() > LONGEST {
                return Err(bad(key, format!("{name}: is a text without braces, or {{...}} and nothing beside it")));
            }
            return Ok(Self::Fixed(text.to_owned()));
        };
        let (inner, optional) = inner.strip_suffix('?').map_or((inner, false), |inner| (inner, true));
        let (inner, kind) = match inner.split_once(':') {
            None | Some((_, "text")) => (inner.split(':').next().unwrap_or_default(), Kind::Text),
            Some((inner, "long")) => (inner, Kind::Long),
            Some((inner, "bool")) => (inner, Kind::Bool),
            Some(_) => return Err(bad(key, format!("{name}: a kind is text, long or bool"))),
        };
        match From::parse(inner) {
            Some(From::Path(_)) if optional => Err(bad(key, format!("{name}: a part of the path is always there"))),
            Some(from) => Ok(Self::Taken { from, kind, optional }),
            None => {
                let forms = "{NAME} of the path, {query.NAME}, {header.name-in-lower-case} or {body.NAME.NAME}; never one that says who somebody is";
                Err(bad(key, format!("{name}: is {forms}")))
            }
        }
    }

    pub(super) fn from(&self) -> Option<&From> {
        match self {
            Self::Fixed(_) => None,
            Self::Taken { from, .. } => Some(from),
        }
    }

    /// The value; `None`: it may be absent, and is.
    pub(super) fn value(
        &self,
        stated: &Stated<'_>,
        taken: impl FnOnce(&From) -> Result<Option<String>, Unclear>,
    ) -> Result<Option<Value>, Unclear> {
        let (from, kind, optional) = match self {
            Self::Fixed(text) => return Ok(Some(Value::Text(text.clone()))),
            Self::Taken { from, kind, optional } => (from, *kind, *optional),
        };
        if let From::Body(names) = from {
            let value = stated.field(names, kind)?;
            return if value.is_some() || optional { Ok(value) } else { Err(from.unclear("is missing")) };
        }
        let Some(text) = taken(from)? else {
            return if optional { Ok(None) } else { Err(from.unclear("is missing")) };
        };
        match kind {
            Kind::Text => Ok(Some(Value::Text(text))),
            Kind::Long => {
                // One spelling for each number: no sign of plus, no zeros before it.
                let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
                number.map(|number| Some(Value::Long(number))).ok_or_else(|| from.unclear("is no whole number"))
            }
            Kind::Bool => match text.as_str() {
                "true" => Ok(Some(Value::Bool(true))),
                "false" => Ok(Some(Value::Bool(false))),
                _ => Err(from.unclear("is neither true nor false")),
            },
        }
    }
}

impl From {
    pub(super) fn unclear(&self, why: &'static str) -> Unclear {
        match self {
            Self::Path(name) | Self::Query(name) => Unclear::Parameter(name.clone(), why),
            Self::Header(name) => Unclear::Header(name.clone(), why),
            Self::Body(names) => Unclear::Field(names.join("."), why),
        }
    }
}

/// What a request states beside its path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stated<'a> {
    /// The target as it came, with the query.
    pub(crate) target: &'a str,
    /// The headers as they came.
    pub(crate) headers: &'a [(&'a str, &'a [u8])],
    /// The body.
    pub(crate) body: &'a Body,
}

/// A letter as readers take it that look at no case: some fold these two to ASCII as well.
fn folded(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c == 'ſ' {
                's'
            } else if c == '\u{212a}' {
                'k'
            } else {
                c.to_ascii_lowercase()
            }
        })
        .collect()
}

impl Stated<'_> {
    /// The one value of a parameter; `None`: it is not there.
    pub(super) fn parameter(&self, wanted: &str) -> Result<Option<String>, Unclear> {
        if self.target.contains('#') {
            return Err(Unclear::Query("has a fragment behind it"));
        }
        let Some((_, query)) = self.target.split_once('?') else { return Ok(None) };
        if !query.bytes().all(|b| b.is_ascii_graphic()) || query.contains([';', '\\']) {
            return Err(Unclear::Query("has a semicolon, a backslash, or what is no printable ASCII"));
        }
        let unclear = |why| Unclear::Parameter(wanted.to_owned(), why);
        let mut found = None;
        for (n, pair) in query.split('&').enumerate() {
            if n >= MOST_PARAMETERS {
                return Err(Unclear::Query("has too many parameters"));
            }
            let (raw, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name =
                decode(raw).ok_or(Unclear::Query("has the name of a parameter that could be read in two ways"))?;
            // `name[]`, `name[0]` and `name.x` are the same parameter to some readers, and so is another case or a space around it.
            let base = name.split(['[', '.', ' ', '+']).find(|part| !part.is_empty()).unwrap_or_default();
            if name != wanted && !base.eq_ignore_ascii_case(wanted) && !name.eq_ignore_ascii_case(wanted) {
                continue;
            }
            if raw != wanted || !pair.contains('=') {
                return Err(unclear("comes in another spelling"));
            }
            if found.is_some() {
                return Err(unclear("comes several times"));
            }
            if value.contains('+') {
                return Err(unclear("has a plus, which some take for a space"));
            }
            found = Some(
                decode(value)
                    .filter(|value| value.len() <= LONGEST)
                    .ok_or_else(|| unclear("could be read in two ways"))?,
            );
        }
        Ok(found)
    }

    /// The one value of a field of the body; `None`: the body has no such field.
    pub(super) fn field(&self, names: &[String], kind: Kind) -> Result<Option<Value>, Unclear> {
        let mut object = match self.body {
            // That nobody passed a body on is not that there is none.
            Body::Absent => {
                return Err(Unclear::Body("did not come: Envoy needs with_request_body with pack_as_bytes"));
            }
            Body::Unclear(why) => return Err(Unclear::Body(why)),
            Body::Object(object) => object,
        };
        let unclear = |why| Unclear::Field(names.join("."), why);
        let Some((last, above)) = names.split_last() else { return Ok(None) };
        let find = |object: &'_ Map<String, Json>, wanted: &str| -> Result<(), Unclear> {
            // Some readers take a name in any case.
            let other = object.keys().any(|name| name != wanted && folded(name) == folded(wanted));
            if other { Err(unclear("comes in another spelling")) } else { Ok(()) }
        };
        for name in above {
            find(object, name)?;
            object = match object.get(name) {
                None => return Ok(None),
                Some(Json::Object(inner)) => inner,
                Some(_) => return Err(unclear("stands in what is no object")),
            };
        }
        find(object, last)?;
        let value = match (object.get(last), kind) {
            (None, _) => return Ok(None),
            (Some(Json::String(text)), Kind::Text) if text.len() <= LONGEST && !text.chars().any(char::is_control) => {
                Value::Text(text.clone())
            }
            (Some(Json::Number(number)), Kind::Long) => {
                let number = number.as_i64().filter(|number| number.unsigned_abs() <= EXACT);
                Value::Long(number.ok_or_else(|| unclear("is no whole number up to 2^53"))?)
            }
            (Some(Json::Bool(yes)), Kind::Bool) => Value::Bool(*yes),
            (Some(_), Kind::Text) => {
                return Err(unclear("is no text of 1,024 bytes at most without control characters"));
            }
            (Some(_), Kind::Long) => return Err(unclear("is no whole number")),
            (Some(_), Kind::Bool) => return Err(unclear("is neither true nor false")),
        };
        Ok(Some(value))
    }

    /// The one value of a header; `None`: it is not there.
    pub(super) fn header(&self, wanted: &str) -> Result<Option<String>, Unclear> {
        let unclear = |why| Unclear::Header(wanted.to_owned(), why);
        // Some servers take an underscore for a dash.
        let is_it = |name: &str| name.len() == wanted.len() && name.replace('_', "-").eq_ignore_ascii_case(wanted);
        let mut all = self.headers.iter().filter(|(name, _)| is_it(name));
        let Some((name, value)) = all.next() else { return Ok(None) };
        if all.next().is_some() || value.contains(&b',') {
            return Err(unclear("comes several times"));
        }
        if !name.eq_ignore_ascii_case(wanted) {
            return Err(unclear("comes in another spelling"));
        }
        let text =
            std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|b| b.is_ascii_graphic() || b == b' '));
        let text = text.filter(|text| text.len() <= LONGEST && text.trim() == *text);
        text.map(|text| Some(text.to_owned())).ok_or_else(|| unclear("is no printable ASCII, or has spaces round it"))
    }
}
