//! The parameters of a query.

use http::Uri;
use legate_rpc::Fault;

use super::answer::refused;
use super::select::Selection;

/// What a query asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct Query {
    pub(super) filter: Option<String>,
    /// From which object on, counted from 1 (RFC 7644 section 3.4.2.4).
    pub(super) start_index: Option<u64>,
    pub(super) count: Option<u64>,
    /// Where a list goes on; empty: at its beginning (RFC 9865).
    pub(super) cursor: Option<String>,
    pub(super) selection: Selection,
}

impl Query {
    /// Reads the query of a list.
    pub(super) fn of_list(uri: &Uri) -> Result<Self, Fault> {
        let mut query = Self::default();
        for (name, value) in pairs(uri)? {
            match name.to_ascii_lowercase().as_str() {
                "filter" => query.filter = Some(value),
                "startindex" => query.start_index = Some(number(&name, &value)?.max(1)),
                "count" => query.count = Some(number(&name, &value)?),
                "cursor" => query.cursor = Some(value),
                "sortby" | "sortorder" => {
                    return Err(refused("invalidValue", &name, "lists come by agentUserName; sorting is not served"));
                }
                _ => query.selection.take(&name, &value)?,
            }
        }
        if query.cursor.is_some() && query.start_index.is_some() {
            return Err(refused("invalidCursor", "cursor", "and startIndex are two ways; use one"));
        }
        query.selection.check()?;
        Ok(query)
    }

    /// Reads the query of one resource: which attributes are wanted.
    pub(super) fn of_one(uri: &Uri) -> Result<Selection, Fault> {
        let mut selection = Selection::default();
        pairs(uri)?.iter().try_for_each(|(name, value)| selection.take(name, value))?;
        selection.check()?;
        Ok(selection)
    }
}

/// RFC 7644 section 3.4.2.4: what is less than nothing is nothing.
fn number(name: &str, value: &str) -> Result<u64, Fault> {
    let read = value.parse::<i64>().map_err(|_| refused("invalidValue", name, "has to be a whole number"))?;
    Ok(u64::try_from(read).unwrap_or(0))
}

/// Names and values, each name once.
fn pairs(uri: &Uri) -> Result<Vec<(String, String)>, Fault> {
    let mut all: Vec<(String, String)> = Vec::new();
    for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let read = |text| {
            let read = legate_web::decode(text).map(|text| text.to_string());
            read.ok_or_else(|| refused("invalidValue", "query", "is not percent-encoded UTF-8"))
        };
        let (name, value) = (read(name)?, read(value)?);
        if all.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name)) {
            return Err(refused("invalidValue", "query", "gives a parameter twice"));
        }
        all.push((name, value));
    }
    Ok(all)
}
