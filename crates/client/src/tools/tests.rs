//! Messages that are none, and how far what an agent can do reaches.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_wire::registry::{Permission, ResourceSelector};

use super::*;

#[test]
fn a_message_is_one_request_and_nothing_is_in_it_twice() {
    let call = |text: &str| {
        let read = Message::read(text.as_bytes());
        read.and_then(|message| message.tool_call().map(|(tool, arguments)| (tool.to_owned(), arguments)))
    };
    let good = r#"{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "a", "arguments": {"x": 1}}}"#;
    let (tool, arguments) = call(good).unwrap();
    assert_eq!((tool.as_str(), &arguments["x"]), ("a", &json!(1)));
    for (from, to) in [
        ("\"2.0\"", "\"1.0\""),
        ("\"2.0\"", "2.0"),
        ("\"id\": 1, ", ""),
        ("\"id\": 1", "\"id\": null"),
        ("\"id\": 1", "\"id\": 1.5"),
        ("\"id\": 1", "\"id\": [1]"),
        ("\"id\": 1", "\"id\": 1, \"id\": 2"),
        ("tools/call", "tools/list"),
        ("\"name\": \"a\"", "\"name\": \"a\", \"name\": \"b\""),
        ("\"name\": \"a\", ", ""),
        ("\"name\": \"a\"", "\"name\": [\"a\"]"),
        ("{\"x\": 1}", "[1]"),
        ("{\"x\": 1}", "null"),
        ("{\"x\": 1}", "{\"x\": 1, \"x\": 2}"),
        ("{\"x\": 1}", "{\"x\": 1, \"\\u0078\": 2}"),
        ("}}}", "}}"),
    ] {
        let text = good.replacen(from, to, 1);
        assert_ne!(text, good, "{from}");
        assert_eq!(call(&text).unwrap_err().reason(), "TOOL_MESSAGE_INVALID", "{text}");
    }
    assert!(call(&format!("[{good}]")).is_err());
    let long = good.replacen("\"x\": 1", &format!("\"x\": \"{}\"", "x".repeat(Message::LONGEST)), 1);
    assert_eq!(call(&long).unwrap_err().status(), http::StatusCode::BAD_REQUEST);
}

fn mapping() -> Mapping {
    let tool = |name: &str, id: &str, arguments: Value| {
        json!({"name": name, "definition": format!("sha256:{}", "0".repeat(64)), "action": "invoice:read",
            "resource": {"type": "Invoice", "id": id}, "arguments": arguments})
    };
    let tools = json!([
        tool("fixed", "main", json!({})),
        tool("any", "{args.a}/{args.b}", json!({"a": {"type": "string"}, "b": {"type": "string"}}))
    ]);
    let whole = json!({"apiVersion": "legate/v1", "kind": "ToolMapping", "metadata": {"name": "m", "namespace": "n"},
        "spec": {"server": "s", "tools": tools}});
    Mapping::parse(&whole.to_string()).unwrap()
}

fn permission(id: &str) -> Permission {
    let resource = ResourceSelector { r#type: "Invoice".into(), id: id.into(), ..ResourceSelector::default() };
    Permission { action: "invoice:*".into(), resource: Some(resource) }
}

fn can(certainty: wire::Certainty, id: &str, except: &[&str]) -> wire::Entitlement {
    let Permission { action, resource } = permission(id);
    let except = except.iter().map(|id| permission(id)).collect();
    wire::Entitlement { action, resource, certainty: certainty.into(), except, ..wire::Entitlement::default() }
}

#[test]
fn a_tool_is_shown_as_far_as_its_agent_may_call_it() {
    use wire::Certainty::{Always, Depends, Never};
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let told = |entitlements: Vec<wire::Entitlement>| {
        let answer = wire::WhatCanResponse { entitlements, judged_time: time(10), ..Default::default() };
        let mapping = mapping();
        (reach(&mapping, "fixed", &answer), reach(&mapping, "any", &answer))
    };
    let (nothing, some, all) = (Reach::Nothing, Reach::Some, Reach::All);
    assert_eq!(told(vec![]), (nothing, nothing));
    assert_eq!(told(vec![can(Always, "*", &[])]), (all, all));
    assert_eq!(told(vec![can(Depends, "*", &[])]), (some, some));
    assert_eq!(told(vec![can(Never, "*", &[])]), (nothing, nothing));
    assert_eq!(told(vec![can(Always, "main", &[])]), (all, nothing));
    assert_eq!(told(vec![can(Always, "apollo/*", &[])]), (nothing, some));
    assert_eq!(told(vec![can(Always, "*", &["main"])]), (nothing, all));
    assert_eq!(told(vec![can(Always, "*", &["apollo/7"])]), (all, some));
    assert_eq!(told(vec![can(Always, "apollo/*", &[]), can(Depends, "main", &[])]), (some, some));
    let later = wire::Entitlement { from: time(11), ..can(Always, "*", &[]) };
    assert_eq!(told(vec![later.clone()]), (nothing, nothing));
    assert_eq!(told(vec![wire::Entitlement { from: time(10), ..later }]), (all, all));
}

#[test]
fn a_refusal_says_its_word_and_no_more() {
    let denied = ToolRefused::denied("NOT_PERMITTED", "dec_1");
    let answer = denied.answer(Some(&json!(7)));
    assert_eq!(
        answer,
        json!({"jsonrpc": "2.0", "id": 7, "error": {"code": -32_010, "message": "policy-decision denies it",
            "data": {"reason": "NOT_PERMITTED", "decisionId": "dec_1"}}})
    );
    assert_eq!(denied.challenge(), None);
    let expired = ToolRefused::denied("TOKEN_EXPIRED", "");
    assert_eq!((expired.status().as_u16(), expired.challenge()), (401, Some("Bearer error=\"invalid_token\"")));
    let none = ToolCaller::of(&http::Request::new(()).into_parts().0).unwrap_err();
    assert_eq!((none.reason(), none.challenge()), ("TOKEN_MISSING", Some("Bearer")));
}
