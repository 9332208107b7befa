//! Rows and requests: what is in which row, and everything that could be read in two ways.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::domain::question::Value;
use proptest::prelude::*;
use proptest::sample::select;

fn route(methods: &[&str], path: &str, id: &str) -> Result<Route, BadRoute> {
    stating(methods, path, id, &[], &[])
}

fn stating(
    methods: &[&str],
    path: &str,
    id: &str,
    attributes: &[(&str, &str)],
    context: &[(&str, &str)],
) -> Result<Route, BadRoute> {
    let methods: Vec<String> = methods.iter().map(|m| (*m).to_owned()).collect();
    let map = |all: &[(&str, &str)]| all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Route::read(&Wanted {
        methods: &methods,
        path,
        action: "ledger:read",
        resource_type: "Ledger",
        resource_id: id,
        attributes: &map(attributes),
        context: &map(context),
    })
}

fn ask(routes: &[Route], target: &str, headers: &[(&str, &[u8])]) -> Result<Option<Question>, Unclear> {
    find(routes, "GET", &Path::read(target).unwrap(), &Stated { target, headers, body: &Body::Absent })
}

fn id(routes: &[Route], method: &str, target: &str) -> Option<String> {
    let found = find(routes, method, &Path::read(target).ok()?, &Stated { target, headers: &[], body: &Body::Absent });
    found.unwrap().map(|question| question.resource_id.to_string())
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
    ] {
        assert_eq!(id(&routes, method, target).as_deref(), wanted, "{method} {target}");
    }
}

/// Rows that ask for `row:a`, `row:b` and so on.
fn table(rows: &[(&[&str], &str, &str)]) -> Vec<Route> {
    let row = |((methods, path, id), letter): (&(&[&str], &str, &str), char)| {
        let mut route = route(methods, path, id).unwrap();
        route.action = Action::parse(&format!("row:{letter}")).unwrap();
        route
    };
    rows.iter().zip('a'..).map(row).collect()
}

/// What a row matches, it judges: where its id names no resource that is denied, and no later row asks for less.
#[test]
fn no_later_row_is_asked_where_the_first_makes_no_id() {
    let routes = table(&[
        (&[], "/admin/{rest*}", "{rest}"),
        (&["GET"], "/files/{name}", "files/{query.of}/{name}"),
        (&[], "/{rest*}", "site"),
    ]);
    let long = format!("/admin/{}", "x".repeat(513));
    for target in [
        "/admin/7%20",
        "/admin/%207",
        "/admin/7*",
        "/admin/%2A",
        "/admin/7/*",
        "/admin/a%e2%80%8bb",
        "/admin/a%e2%80%aeb",
        "/admin/a%c2%a0",
        &long,
        "/files/7%20?of=a",
        "/files/7?of=*",
    ] {
        let told = ask(&routes, target, &[]).unwrap_err();
        assert!(matches!(told, Unclear::Id(_)), "{target}: {told}");
        assert!(told.to_string().starts_with("the resource's id: a resource id is"), "{told}");
    }
    for (target, row) in [("/admin/7", "row:a"), ("/files/7?of=a", "row:b"), ("/index", "row:c"), ("/admin", "row:c")] {
        assert_eq!(ask(&routes, target, &[]).unwrap().unwrap().action.as_str(), row, "{target}");
    }
}

proptest! {
    /// By the first row that matches it, or denied: whatever a part of its path holds.
    #[test]
    fn no_request_of_a_row_is_judged_by_a_later_one(
        n in 0usize..4, part in "[ -~\u{200b}\u{a0}]{1,24}", method in select(&["GET", "POST"][..]),
    ) {
        let rows: [(&[&str], &str, &str); 5] = [
            (&["GET"], "/a/{id}/b", "{id}"),
            (&[], "/a/{id}/b", "{id}/b"),
            (&[], "/a/{rest*}", "{query.of}/{rest}"),
            (&[], "/{one}/{two}", "{one}{two}"),
            (&[], "/{rest*}", "all"),
        ];
        let escaped: String = part.bytes().map(|b| format!("%{b:02X}")).collect();
        let target = ["/a/X/b?of=1", "/a/X/b?of=1", "/a/c/X?of=1", "/X/c?of=1"][n].replace('X', &escaped);
        let Ok(path) = Path::read(&target) else { return Ok(()) };
        let routes = table(&rows);
        let found = find(&routes, method, &path, &Stated { target: &target, headers: &[], body: &Body::Absent });
        // By what rows match and nothing else; each target is made for a row.
        let first = routes.iter().position(|route| route.names(method, &path).is_some()).unwrap();
        prop_assert!(first <= n.max(usize::from(method == "POST")), "{target}: {first}");
        match found {
            Ok(question) => prop_assert_eq!(&question.unwrap().action, &routes[first].action),
            Err(e) => prop_assert!(matches!(e, Unclear::Id(_)), "{}: {}", target, e),
        }
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
        let Ok(path) = Path::read(&target) else { return Ok(()) };
        let stated = Stated { target: &target, headers: &[], body: &Body::Absent };
        if let Ok(Some(question)) = find(&routes, "GET", &path, &stated) {
            let id = question.resource_id.as_str();
            prop_assert!(!id.contains(['/', '\\', ';', '%', '?', '#', '*']) && id != "." && id != "..");
        }
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

#[test]
fn parameters_and_headers_become_what_is_stated() {
    let routes = [stating(
        &[],
        "/p/{project}",
        "{project}/{query.id}",
        &[("region", "{header.x-region}"), ("kind", "paper"), ("project", "{project}")],
        &[("limit", "{query.limit:long?}"), ("dry", "{query.dry:bool?}"), ("why", "{query.why:text?}")],
    )
    .unwrap()];
    let headers: [(&str, &[u8]); 2] = [("X-Region", b"eu west"), ("x-other", b"a, b")];
    let question = ask(&routes, "/p/apollo?id=a%20b&limit=-7&dry=true&x=1", &headers).unwrap().unwrap();
    assert_eq!(question.resource_id.as_str(), "apollo/a b");
    let attributes = [("kind", text("paper")), ("project", text("apollo")), ("region", text("eu west"))];
    assert_eq!(question.attributes.0, attributes.map(|(name, value)| (name.to_owned(), value)).into());
    let context = [("dry", Value::Bool(true)), ("limit", Value::Long(-7))];
    assert_eq!(question.context, context.map(|(name, value)| (name.to_owned(), value)).into());
    let bare = ask(&routes, "/p/apollo?id=1", &headers).unwrap().unwrap();
    assert!(bare.context.is_empty());
}

/// What another server could read otherwise is denied, and no later row, which asks for less, lets it through.
#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let routes = [
        stating(
            &[],
            "/p",
            "{query.id}",
            &[("region", "{header.x-region}")],
            &[("n", "{query.n:long?}"), ("b", "{query.b:bool?}")],
        )
        .unwrap(),
        route(&[], "/p", "everything").unwrap(),
    ];
    let good: (&str, &[u8]) = ("x-region", b"eu");
    assert!(ask(&routes, "/p?id=1", &[good]).unwrap().is_some());
    for (target, why) in [
        ("/p", "the parameter id is missing"),
        ("/p?", "the parameter id is missing"),
        ("/p?other=1", "the parameter id is missing"),
        ("/p?id=", "the parameter id is empty, or has a slash"),
        ("/p?id", "the parameter id comes in another spelling"),
        ("/p?id=1&id=2", "the parameter id comes several times"),
        ("/p?id=1&id=1", "the parameter id comes several times"),
        ("/p?id=1&ID=2", "the parameter id comes in another spelling"),
        ("/p?id=1&%69d=2", "the parameter id comes in another spelling"),
        ("/p?%69d=1", "the parameter id comes in another spelling"),
        ("/p?id[]=1", "the parameter id comes in another spelling"),
        ("/p?id=1&id%5B%5D=2", "the parameter id comes in another spelling"),
        ("/p?id=1&id.x=2", "the parameter id comes in another spelling"),
        ("/p?id=1&+id=2", "the parameter id comes in another spelling"),
        ("/p?id=1;id=2", "the query has a semicolon"),
        ("/p?id=1#?id=2", "the query has a fragment"),
        ("/p?id=a+b", "the parameter id has a plus"),
        ("/p?id=a/b", "the parameter id could be read in two ways"),
        ("/p?id=a%2fb", "the parameter id could be read in two ways"),
        ("/p?id=a%252fb", "the parameter id could be read in two ways"),
        ("/p?id=%00", "the parameter id could be read in two ways"),
        ("/p?id=%", "the parameter id could be read in two ways"),
        ("/p?id=%c3%28", "the parameter id could be read in two ways"),
        ("/p?%zz=1&id=1", "the query has the name of a parameter"),
        ("/p?id=1&n=07", "the parameter n is no whole number"),
        ("/p?id=1&n=+7", "the parameter n has a plus"),
        ("/p?id=1&n=7.0", "the parameter n is no whole number"),
        ("/p?id=1&n=9223372036854775808", "the parameter n is no whole number"),
        ("/p?id=1&b=1", "the parameter b is neither true nor false"),
        ("/p?id=1&b=True", "the parameter b is neither true nor false"),
    ] {
        let told = ask(&routes, target, &[good]).unwrap_err().to_string();
        assert!(told.starts_with(why), "{target}: {told}");
    }
    let long = format!("/p?id={}", "x".repeat(1_025));
    assert!(ask(&routes, &long, &[good]).is_err());
    let many = format!("/p?{}id=1", "a=1&".repeat(256));
    assert!(ask(&routes, &many, &[good]).is_err());
    type Header<'a> = (&'a str, &'a [u8]);
    let twice: [Header<'_>; 2] = [good, ("X-REGION", b"us")];
    let spelled: [Header<'_>; 2] = [good, ("x_region", b"us")];
    let cases: [(&[Header<'_>], &str); 8] = [
        (&[], "is missing"),
        (&twice, "comes several times"),
        (&spelled, "comes several times"),
        (&[("x_region", b"eu")], "comes in another spelling"),
        (&[("x-region", b"eu,us")], "comes several times"),
        (&[("x-region", b" eu")], "is no printable ASCII"),
        (&[("x-region", b"e\tu")], "is no printable ASCII"),
        (&[("x-region", b"\xff")], "is no printable ASCII"),
    ];
    for (headers, why) in cases {
        let told = ask(&routes, "/p?id=1", headers).unwrap_err().to_string();
        assert!(told.starts_with(&format!("the header x-region {why}")), "{headers:?}: {told}");
    }
}

fn with_body(routes: &[Route], body: &Body) -> Result<Question, String> {
    let stated = Stated { target: "/p", headers: &[], body };
    find(routes, "POST", &Path::read("/p").unwrap(), &stated).map(Option::unwrap).map_err(|e| e.to_string())
}

#[test]
fn a_body_states_what_a_row_takes_from_it_and_nothing_that_could_be_read_in_two_ways() {
    let context = [("amount", "{body.sum.amount:long}"), ("urgent", "{body.urgent:bool?}"), ("note", "{body.note?}")];
    let routes = [stating(&[], "/p", "{body.id}", &[], &context).unwrap()];
    let object = |text: &str| Body::Object(serde_json::from_str(text).unwrap());
    let read = |text: &str| with_body(&routes, &object(text));
    let whole =
        read(r#"{"id": "7", "sum": {"amount": 9007199254740992}, "urgent": false, "note": "", "other": [1.5]}"#)
            .unwrap();
    assert_eq!(whole.resource_id.as_str(), "7");
    assert_eq!(whole.context["amount"], Value::Long(1 << 53));
    assert_eq!((&whole.context["urgent"], &whole.context["note"]), (&Value::Bool(false), &Value::Text(String::new())));
    let least = read(r#"{"id": "7", "sum": {"amount": -1}}"#).unwrap();
    assert_eq!(least.context.keys().collect::<Vec<_>>(), ["amount"]);
    let long = format!(r#"{{"id": "{}", "sum": {{"amount": 1}}}}"#, "x".repeat(1_025));
    for (text, why) in [
        ("{}", "the body's field id is missing"),
        (r#"{"id": "7"}"#, "the body's field sum.amount is missing"),
        (r#"{"id": "7", "sum": 3}"#, "the body's field sum.amount stands in what is no object"),
        (r#"{"id": "7", "sum": [{"amount": 3}]}"#, "the body's field sum.amount stands in what is no object"),
        (r#"{"id": 7, "sum": {"amount": 1}}"#, "the body's field id is no text"),
        (r#"{"id": null, "sum": {"amount": 1}}"#, "the body's field id is no text"),
        (r#"{"id": "", "sum": {"amount": 1}}"#, "the body's field id is empty"),
        (r#"{"id": "a/b", "sum": {"amount": 1}}"#, "the body's field id is empty, or has a slash"),
        (r#"{"id": "a\u0000", "sum": {"amount": 1}}"#, "the body's field id is no text"),
        (&long, "the body's field id is no text"),
        (r#"{"id": "7", "sum": {"amount": "1"}}"#, "the body's field sum.amount is no whole number"),
        (r#"{"id": "7", "sum": {"amount": 1.0}}"#, "the body's field sum.amount is no whole number"),
        (r#"{"id": "7", "sum": {"amount": 1e3}}"#, "the body's field sum.amount is no whole number"),
        (r#"{"id": "7", "sum": {"amount": 9007199254740993}}"#, "the body's field sum.amount is no whole number"),
        (r#"{"id": "7", "sum": {"amount": 1}, "urgent": "true"}"#, "the body's field urgent is neither"),
        (r#"{"id": "7", "sum": {"amount": 1}, "urgent": null}"#, "the body's field urgent is neither"),
        // What some readers take for the same name, also where it may be absent.
        (r#"{"id": "7", "sum": {"amount": 1}, "Urgent": true}"#, "the body's field urgent comes in another spelling"),
        (r#"{"id": "7", "ID": "8", "sum": {"amount": 1}}"#, "the body's field id comes in another spelling"),
        (r#"{"id": "7", "ſum": {"amount": 2}, "sum": {"amount": 1}}"#, "the body's field sum.amount comes in another"),
        (r#"{"id": "7", "sum": {"amount": 1, "AMOUNT": 2}}"#, "the body's field sum.amount comes in another"),
    ] {
        let told = read(text).unwrap_err();
        assert!(told.starts_with(why), "{text}: {told}");
    }
    assert!(with_body(&routes, &Body::Absent).unwrap_err().starts_with("the body did not come"));
    assert_eq!(with_body(&routes, &Body::Unclear("came only in part")).unwrap_err(), "the body came only in part");
    // A row that takes nothing from it does not look at it.
    let routes = [stating(&[], "/p", "all", &[], &[]).unwrap()];
    assert!(with_body(&routes, &Body::Unclear("came only in part")).is_ok());
    // What may be absent in a body may not be absent with it.
    let routes = [stating(&[], "/p", "all", &[], &[("a", "{body.a?}")]).unwrap()];
    assert!(with_body(&routes, &Body::Absent).is_err());
}

#[test]
fn a_row_that_states_what_nobody_may_say_is_refused() {
    for text in [
        "{query.}",
        "{query.a b}",
        "{header.X-Region}",
        "{header.authorization}",
        "{header.cookie}",
        "{header.x-forwarded-client-cert}",
        "{header.:path}",
        "{body.}",
        "{body.a b}",
        "{body.a..b}",
        "{body.a.b.c.d.e.f.g.h.i}",
        "{other}",
        "{id?}",
        "{query.a:float}",
        "a{query.b}",
        "{query.a",
    ] {
        for (attributes, context, key) in
            [(&[("a", text)][..], &[][..], "attributes"), (&[][..], &[("a", text)][..], "context")]
        {
            assert_eq!(stating(&[], "/a/{id}", "{id}", attributes, context).unwrap_err().key, key, "{text}");
        }
    }
    for name in ["", "a b", "on_behalf_of"] {
        assert_eq!(stating(&[], "/a", "x", &[], &[(name, "x")]).unwrap_err().key, "context", "{name}");
    }
    assert_eq!(route(&[], "/a", "{header.cookie}").unwrap_err().key, "resource_id");
}

proptest! {
    #[test]
    fn a_parameter_has_one_value_or_none(query in "[a-cI-Lid=&%+;.0-9\\[\\]/]{0,40}") {
        let routes = [route(&[], "/p", "{query.id}").unwrap()];
        let target = format!("/p?{query}");
        if let Ok(Some(question)) = ask(&routes, &target, &[]) {
            let named = |pair: &&str| pair.split('=').next().is_some_and(|name| name.eq_ignore_ascii_case("id"));
            prop_assert_eq!(query.split('&').filter(named).count(), 1, "{}", query);
            prop_assert!(!question.resource_id.as_str().contains(['/', '%', ';', '+']), "{}", query);
        }
    }
}
