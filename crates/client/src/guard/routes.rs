//! A table from methods and paths to actions and resources.

use http::Method;
use http::request::Parts;

use super::{Asks, Mapping};

/// A route that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("route {path}: {why}")]
pub struct BadRoute {
    /// The path.
    pub path: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Which action on which resource a method on a path is; what is not in it is not let through.
///
/// A path's segments are texts or `{NAME}`, which takes one segment; the resource's id is a text in which `{NAME}` stands for what was
/// taken. A segment with an escape (`%2F`), which two programs might read differently, is taken by none.
///
/// ```
/// use http::Method;
/// use legate_client::guard::Routes;
/// let routes = Routes::new()
///     .route(Method::GET, "/projects/{project}/invoices/{id}", "invoice:read", "Invoice", "{project}/{id}")?
///     .route(Method::POST, "/tools.v1.Ledger/Post", "ledger:write", "Ledger", "main")?;
/// # Ok::<_, legate_client::guard::BadRoute>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Routes(Vec<Route>);

#[derive(Clone, Debug)]
struct Route {
    method: Method,
    path: Vec<Part>,
    action: String,
    resource_type: String,
    id: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Taken(String),
}

impl Routes {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more. The first that fits counts.
    ///
    /// # Errors
    /// When the path does not begin with `/`, braces do not match, or the id names what the path does not take.
    pub fn route(
        mut self,
        method: Method,
        path: &str,
        action: &str,
        resource_type: &str,
        resource_id: &str,
    ) -> Result<Self, BadRoute> {
        let bad = |why| BadRoute { path: path.to_owned(), why };
        let inside = path.strip_prefix('/').ok_or_else(|| bad("a path begins with /"))?;
        let mut segments = Vec::new();
        for segment in inside.split('/') {
            let taken = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            segments.push(match taken {
                Some(name) if !name.is_empty() && !name.contains(['{', '}']) => Part::Taken(name.to_owned()),
                Some(_) => return Err(bad("what is taken has a name, as in {id}")),
                None if segment.contains(['{', '}']) => return Err(bad("{NAME} stands for a whole segment")),
                None => Part::Text(segment.to_owned()),
            });
        }
        let id = pieces(resource_id).ok_or_else(|| bad("the braces of the resource's id do not match"))?;
        if id.iter().any(|part| matches!(part, Part::Taken(_)) && !segments.contains(part)) {
            return Err(bad("the resource's id names what the path does not take"));
        }
        let (action, resource_type) = (action.to_owned(), resource_type.to_owned());
        self.0.push(Route { method, path: segments, action, resource_type, id });
        Ok(self)
    }
}

/// A text with `{NAME}` in it.
fn pieces(mut text: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    while !text.is_empty() {
        let open = text.find('{').unwrap_or(text.len());
        let (before, rest) = text.split_at(open);
        if before.contains('}') {
            return None;
        }
        if !before.is_empty() {
            parts.push(Part::Text(before.to_owned()));
        }
        let Some(rest) = rest.strip_prefix('{') else { break };
        let (name, rest) = rest.split_once('}')?;
        if name.is_empty() || name.contains('{') {
            return None;
        }
        parts.push(Part::Taken(name.to_owned()));
        text = rest;
    }
    Some(parts)
}

impl Route {
    fn asks(&self, path: &str) -> Option<Asks> {
        let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        if segments.len() != self.path.len() {
            return None;
        }
        let fits = self.path.iter().zip(&segments).all(|(part, segment)| match part {
            Part::Text(text) => text == segment,
            Part::Taken(_) => !segment.is_empty() && !segment.contains('%') && !matches!(*segment, "." | ".."),
        });
        if !fits {
            return None;
        }
        let taken = |name: &str| {
            let at = self.path.iter().position(|part| matches!(part, Part::Taken(own) if own == name));
            at.map_or("", |at| segments[at])
        };
        let id = self.id.iter().map(|part| match part {
            Part::Text(text) => text.as_str(),
            Part::Taken(name) => taken(name),
        });
        let id: String = id.collect();
        Some(Asks::new(self.action.as_str(), self.resource_type.as_str(), id))
    }
}

impl Mapping for Routes {
    fn asks(&self, head: &Parts) -> Option<Asks> {
        let path = head.uri.path();
        self.0.iter().filter(|route| route.method == head.method).find_map(|route| route.asks(path))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn head(method: Method, uri: &str) -> Parts {
        http::Request::builder().method(method).uri(uri).body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_is_in_the_table_is_asked_and_nothing_else() {
        let routes = Routes::new()
            .route(Method::GET, "/p/{project}/invoices/{id}", "invoice:read", "Invoice", "{project}/{id}")
            .unwrap()
            .route(Method::POST, "/a.B/C", "ledger:write", "Ledger", "main")
            .unwrap();
        let of = |method, uri| routes.asks(&head(method, uri)).map(|asks| (asks.action, asks.resource_id));
        let read = |id: &str| Some(("invoice:read".to_owned(), id.to_owned()));
        assert_eq!(of(Method::GET, "/p/apollo/invoices/7"), read("apollo/7"));
        assert_eq!(of(Method::GET, "/p/apollo/invoices/7?id=8"), read("apollo/7"));
        assert_eq!(of(Method::POST, "/a.B/C"), Some(("ledger:write".to_owned(), "main".to_owned())));
        for uri in [
            "/p/apollo/invoices/",
            "/p/apollo/invoices/7/",
            "/p/apollo//invoices/7",
            "/p/apollo/invoices/7%2f8",
            "/p/%61pollo/invoices/7",
            "/p/../invoices/7",
            "/P/apollo/invoices/7",
            "/",
        ] {
            assert_eq!(of(Method::GET, uri), None, "{uri}");
        }
        assert_eq!(of(Method::DELETE, "/p/apollo/invoices/7"), None);
        assert_eq!(of(Method::HEAD, "/p/apollo/invoices/7"), None);
    }

    #[test]
    fn a_route_that_says_nothing_is_refused() {
        for (path, id) in [
            ("p", "x"),
            ("/p/{}", "x"),
            ("/p/a{b}", "x"),
            ("/p/{{b}}", "x"),
            ("/p/{b}", "{c}"),
            ("/p/{b}", "{b"),
            ("/p/{b}", "b}"),
            ("/p/{b}", "{}"),
        ] {
            assert!(Routes::new().route(Method::GET, path, "a:b", "T", id).is_err(), "{path} {id}");
        }
    }
}
