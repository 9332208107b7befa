//! What a mapping may say, and what becomes of calls.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use serde_json::json;

use super::*;

const PIN: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn text() -> String {
    format!(
        r#"
apiVersion: legate/v1
kind: ToolMapping
metadata: {{name: ledger, namespace: payments}}
spec:
  server: ledger
  tools:
  - name: read_invoice
    definition: {PIN}
    action: invoice:read
    resource: {{type: Invoice, id: "{{args.project}}/{{args.number}}"}}
    arguments:
      project: {{type: string}}
      number: {{type: integer, minimum: 1}}
      region: {{type: string, values: [eu, us], default: eu}}
      note: {{type: string, optional: true, maxBytes: 10}}
      tags: {{type: strings, optional: true}}
    attributes: {{region: "{{args.region}}", data_classification: internal}}
    context: {{tags: "{{args.tags}}", n: "{{args.number}}", dry: false, level: 3}}
  - name: rates
    definition: {PIN}
    action: rates:read
    resource: {{type: Rates, id: today}}
"#
    )
}

fn mapping() -> Mapping {
    Mapping::parse(&text()).unwrap()
}

fn asks(tool: &str, arguments: Value) -> Result<Asked, (Why, String)> {
    let Value::Object(arguments) = arguments else { panic!("{arguments}") };
    mapping().asks(tool, arguments).map_err(|refusal| (refusal.why, refusal.text))
}

#[test]
fn a_call_is_a_question() {
    let asked = asks("read_invoice", json!({"project": "apollo", "number": 7, "tags": ["a"]})).unwrap();
    assert_eq!((asked.action.as_str(), asked.resource_type.as_str()), ("invoice:read", "Invoice"));
    assert_eq!(asked.resource_id, "apollo/7");
    let said = |text: &str| Said::Text(text.to_owned());
    assert_eq!(
        asked.attributes,
        [("data_classification".to_owned(), said("internal")), ("region".to_owned(), said("eu"))]
    );
    assert_eq!(
        asked.context,
        [
            ("dry".to_owned(), Said::Bool(false)),
            ("level".to_owned(), Said::Whole(3)),
            ("n".to_owned(), Said::Whole(7)),
            ("tags".to_owned(), Said::Set(vec!["a".to_owned()])),
            ("mcp_server".to_owned(), said("ledger")),
            ("mcp_tool".to_owned(), said("read_invoice")),
        ]
    );
    // What was judged is what is done: the default is in it.
    let done = json!({"project": "apollo", "number": 7, "tags": ["a"], "region": "eu"});
    assert_eq!(Value::Object(asked.arguments), done);
    assert_eq!(asks("rates", json!({})).unwrap().resource_id, "today");
}

#[test]
fn a_hostile_argument_names_nothing() {
    let word = |arguments: Value| asks("read_invoice", arguments).unwrap_err();
    for project in
        ["apollo/1", "*", "apollo/*", "..", "{args.number}", "apollo\u{0}", "a%2fb", "", " apollo", "zeus\u{200b}", "é"]
    {
        let (why, text) = word(json!({"project": project, "number": 7}));
        assert_eq!(why, Why::Arguments, "{project}");
        assert!(text.starts_with("the argument project has to be one segment"), "{text}");
    }
    for (bad, starts) in [
        (json!({"number": 7}), "the argument project is missing"),
        (json!({"project": "apollo"}), "the argument number is missing"),
        (json!({"project": null, "number": 7}), "the argument project has to be a string"),
        (json!({"project": ["apollo"], "number": 7}), "the argument project has to be a string"),
        (json!({"project": "apollo", "number": "7"}), "the argument number has to be a whole number"),
        (json!({"project": "apollo", "number": 7.0}), "the argument number has to be a whole number"),
        (json!({"project": "apollo", "number": 0}), "the argument number has to be a whole number from 1"),
        (json!({"project": "apollo", "number": 7, "owner": "zeus"}), "there is an argument that the mapping does not"),
        (
            json!({"project": "apollo", "number": 7, "Project": "zeus"}),
            "there is an argument that the mapping does not",
        ),
        (json!({"project": "apollo", "number": 7, "region": "EU"}), "the argument region is none of the values"),
        (json!({"project": "apollo", "number": 7, "note": "x".repeat(11)}), "the argument note is longer than 10"),
        (json!({"project": "x".repeat(257), "number": 7}), "the argument project is longer than 256"),
    ] {
        let (why, text) = word(bad.clone());
        assert!(why == Why::Arguments && text.starts_with(starts), "{bad}: {text}");
    }
    assert_eq!(asks("delete_all", json!({})).unwrap_err().0, Why::NotMapped);
    assert_eq!(asks("Read_invoice", json!({})).unwrap_err().0, Why::NotMapped);
}

#[test]
fn a_tool_is_called_by_the_definition_that_was_looked_at() {
    let mapping = mapping();
    let word = |tool: &str, hash: Option<&str>| mapping.is_pinned(tool, hash).map_err(|refusal| refusal.why);
    assert_eq!(word("rates", Some(PIN)), Ok(()));
    assert_eq!(word("rates", Some(&PIN.replace("cdef", "cdee"))), Err(Why::Changed));
    assert_eq!(word("rates", None), Err(Why::NotSeen));
    assert_eq!(word("other", Some(PIN)), Err(Why::NotMapped));
}

#[test]
fn how_far_something_given_reaches_is_told() {
    let mapping = mapping();
    let eu = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
    let none = BTreeMap::new();
    fn told(
        mapping: &Mapping,
        [tool, action, resource_type, resource_id]: [&str; 4],
        attributes: &BTreeMap<String, String>,
    ) -> Reach {
        mapping.reach(tool, Given { action, resource_type, resource_id, attributes })
    }
    let reach = |tool: &str, action: &str, kind: &str, id: &str, attributes: &BTreeMap<String, String>| {
        told(&mapping, [tool, action, kind, id], attributes)
    };
    assert_eq!(reach("read_invoice", "invoice:*", "Invoice", "*", &none), Reach::All);
    assert_eq!(reach("read_invoice", "invoice:read", "*", "apollo/*", &none), Reach::Some);
    assert_eq!(reach("read_invoice", "*", "Invoice", "*", &eu), Reach::Some);
    assert_eq!(reach("read_invoice", "invoice:read", "Ledger", "*", &none), Reach::Nothing);
    assert_eq!(reach("read_invoice", "invoice:write", "Invoice", "*", &none), Reach::Nothing);
    assert_eq!(reach("read_invoice", "invoice:read", "Invoice", "main", &none), Reach::Nothing);
    assert_eq!(reach("rates", "rates:read", "Rates", "today", &none), Reach::All);
    assert_eq!(reach("rates", "rates:read", "Rates", "today", &eu), Reach::Nothing);
    assert_eq!(reach("other", "*", "*", "*", &none), Reach::Nothing);
    for (name, value, expected) in [
        ("data_classification", "internal", Reach::All),
        ("data_classification", "secret", Reach::Nothing),
        ("region", "de", Reach::Nothing),
        ("owner", "me", Reach::Nothing),
    ] {
        let attributes = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        assert_eq!(reach("read_invoice", "*", "*", "*", &attributes), expected, "{name}");
    }
}

#[test]
fn a_mapping_that_makes_no_sense_is_refused_and_says_where() {
    for (from, to, says) in [
        ("legate/v1", "legate/v2", "apiVersion"),
        ("ToolMapping", "Tools", "kind"),
        ("namespace: payments", "namespace: Payments", "metadata.namespace"),
        ("name: ledger", "name: ''", "metadata.name"),
        ("server: ledger", "server: a/b", "spec.server"),
        ("name: rates", "name: read_invoice", "twice"),
        ("name: rates", "name: 'a b'", "a name is"),
        ("action: rates:read", "action: 'rates:*'", "tool rates: action"),
        ("type: Rates", "type: if", "resource.type"),
        ("id: today", "id: 'to*'", "resource.id"),
        ("id: today", "id: '{args.x}'", "resource.id"),
        ("project: {type: string}", "project: {type: string, form: text}", "arguments.project"),
        ("project: {type: string}", "project: {type: strin}", "unknown variant"),
        ("project: {type: string}", "project: {type: string, max: 1}", "unknown field"),
        ("project: {type: string}", "project: {type: string}\n      project: {type: string}", "given twice"),
        ("project: {type: string}", "'a{b': {type: string}", "a name is 1 to 64"),
        ("dry: false", "mcp_tool: other", "is said by the guard"),
        ("dry: false", "dry: null", "context.dry"),
        ("dry: false", "dry: 1.5", "context.dry"),
        ("dry: false", "dry: '{args.owner}'", "context.dry"),
        ("dry: false", "dry: 'x{args.region}'", "context.dry"),
        ("level: 3", "level: 3, level: 4", "given twice"),
        (PIN, "sha256:12", "definition"),
        ("server: ledger", "server: ledger\n  sever: x", "unknown field"),
    ] {
        let changed = text().replacen(from, to, 1);
        assert_ne!(changed, text(), "{from}");
        let told = Mapping::parse(&changed).unwrap_err().to_string();
        assert!(told.contains(says), "{to}: {told}");
    }
    assert!(Mapping::parse(&" ".repeat(LONGEST_FILE + 1)).is_err());
    // JSON is YAML.
    let json = serde_json::to_string(&Mapping::document(&text()).unwrap()).unwrap();
    assert_eq!(Mapping::parse(&json).unwrap(), mapping());
}
