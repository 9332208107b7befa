//! What becomes of signals: every field, who is believed about what, and what is never kept.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_ids::{AgentId, InstanceId, Name};
use legate_wire::audit::Outcome;
use proptest::prelude::*;

use super::*;
use crate::domain::detect::fact::EXECUTED;
use crate::domain::teller::Teller;

const START: u64 = 1_790_000_000_000_000_000;

fn id() -> AgentId {
    AgentId::from_parts(1, [1; 10])
}

fn agent() -> Teller {
    Teller::Agent { namespace: Name::parse("payments").unwrap(), id: id(), instance: None }
}

fn enforcer() -> Teller {
    Teller::Enforcer { namespace: Name::parse("payments").unwrap() }
}

fn span(attributes: &[(&str, &str)]) -> Signal {
    let mut known = Attributes::default();
    attributes.iter().for_each(|(key, text)| known.put(key, Some(Scalar::Text((*text).to_owned()))));
    Signal {
        kind: Kind::Span,
        trace_id: vec![7; 16],
        span_id: vec![8; 8],
        parent_span_id: vec![9; 8],
        start: START,
        end: START + 1_500_000_000,
        is_error: false,
        event_name: String::new(),
        attributes: known,
    }
}

fn log(event_name: &str, attributes: &[(&str, &str)]) -> Signal {
    Signal { kind: Kind::Log, event_name: event_name.to_owned(), end: START, ..span(attributes) }
}

#[test]
fn a_tool_that_was_executed_is_an_action_and_all_else_is_activity() {
    let event = made(
        &span(&[
            ("gen_ai.operation.name", "execute_tool"),
            ("gen_ai.tool.name", "read_invoice"),
            ("gen_ai.tool.call.id", "call_1"),
            ("gen_ai.conversation.id", "conv_1"),
            ("user.id", "ada@example.com"),
            ("legate.decision.id", "dec_1"),
            ("service.name", "invoice-bot"),
        ]),
        &agent(),
    )
    .unwrap();
    assert_eq!((event.r#type.as_str(), event.action.as_str()), (EXECUTED, "gen_ai:execute_tool"));
    let resource = event.resource.clone().unwrap();
    assert_eq!((resource.r#type.as_str(), resource.id.as_str()), ("GenAiTool", "read_invoice"));
    assert_eq!((event.namespace.as_str(), event.agent_id.clone()), ("payments", id().to_string()));
    assert_eq!((event.subject.as_str(), event.correlation_id.as_str()), ("user:ada@example.com", "conv_1"));
    assert_eq!(event.decision.clone().unwrap().decision_id, "dec_1");
    assert_eq!((event.trace_id.as_str(), event.span_id.as_str()), (&*"07".repeat(16), &*"08".repeat(8)));
    assert_eq!(event.outcome(), Outcome::Success);
    let detail = |name: &str| event.details.get(name).map(String::as_str).unwrap_or_default();
    assert_eq!((detail("otlp"), detail("duration_ms"), detail("tool_call_id")), ("span", "1500", "call_1"));
    assert_eq!(detail("parent_span_id"), "09".repeat(8));
    assert_eq!(agent().check(&event), Ok(()));

    for (operation, wanted) in [
        ("chat", ("GenAiModel", "m-1")),
        ("text_completion", ("GenAiModel", "m-1")),
        ("embeddings", ("GenAiModel", "m-1")),
        ("invoke_agent", ("GenAiAgent", "asst_5")),
        ("create_agent", ("GenAiAgent", "asst_5")),
        ("invoke_workflow", ("GenAiWorkflow", "w")),
        ("retrieval", ("GenAiDataSource", "d")),
        ("search_memory", ("GenAiMemoryStore", "s")),
        ("something_new", ("GenAiModel", "m-1")),
    ] {
        let all = [
            ("gen_ai.operation.name", operation),
            ("gen_ai.request.model", "m-1"),
            ("gen_ai.agent.id", "asst_5"),
            ("gen_ai.workflow.name", "w"),
            ("gen_ai.data_source.id", "d"),
            ("gen_ai.memory.store.id", "s"),
        ];
        let event = made(&span(&all), &agent()).unwrap();
        assert_eq!((event.r#type.as_str(), event.action), (ACTIVITY, format!("gen_ai:{operation}")));
        let resource = event.resource.unwrap();
        assert_eq!((resource.r#type.as_str(), resource.id.as_str()), wanted);
    }
}

#[test]
fn an_action_can_be_told_in_the_words_of_policies() {
    let told = [
        ("legate.action", "invoice:read"),
        ("legate.resource.type", "Invoice"),
        ("legate.resource.id", "apollo/7"),
        ("legate.subject", "user:ada"),
    ];
    for signal in [span(&told), log("", &told)] {
        let event = made(&signal, &agent()).unwrap();
        assert_eq!((event.r#type.as_str(), event.action.as_str()), (EXECUTED, "invoice:read"));
        let resource = event.resource.unwrap();
        assert_eq!((resource.r#type.as_str(), resource.id.as_str()), ("Invoice", "apollo/7"));
        assert_eq!(event.subject, "user:ada");
    }
    let failed = Signal { is_error: true, ..span(&told) };
    assert_eq!(made(&failed, &agent()).unwrap().outcome(), Outcome::Failure);
    let timeout = span(&[told[0], ("error.type", "timeout")]);
    let event = made(&timeout, &agent()).unwrap();
    assert_eq!((event.outcome(), event.reason_code.as_str()), (Outcome::Failure, "timeout"));
    let text = span(&[told[0], ("error.type", "no invoice of that number")]);
    assert_eq!(made(&text, &agent()).unwrap().reason_code, "", "a text is no type of errors");
}

#[test]
fn nobody_is_believed_about_somebody_else() {
    let (own, other) = (id().to_string(), AgentId::from_parts(2, [2; 10]).to_string());
    let chat = |claims: &[(&str, &str)]| span(&[&[("gen_ai.operation.name", "chat")], claims].concat());
    let of = |signal: &Signal, teller: &Teller| made(signal, teller).map(|event| event.agent_id);
    assert_eq!(of(&chat(&[("gen_ai.agent.id", &own)]), &agent()), Ok(own.clone()));
    assert_eq!(of(&chat(&[("gen_ai.agent.id", "asst_5")]), &agent()), Ok(own.clone()), "that is no id of ours");
    assert_eq!(of(&chat(&[("gen_ai.agent.id", &other)]), &agent()), Err(Unfit::OtherAgent));
    assert_eq!(of(&chat(&[("legate.agent.id", &other)]), &agent()), Err(Unfit::OtherAgent));
    assert_eq!(of(&chat(&[("legate.agent.id", &own), ("gen_ai.agent.id", &other)]), &agent()), Err(Unfit::OtherAgent));
    // Whom an agent calls is what it acts on.
    let call = span(&[("gen_ai.operation.name", "invoke_agent"), ("gen_ai.agent.id", &other)]);
    let event = made(&call, &agent()).unwrap();
    assert_eq!((event.agent_id.clone(), event.resource.unwrap().id), (own.clone(), other.clone()));

    assert_eq!(of(&chat(&[("gen_ai.agent.id", &other)]), &enforcer()), Ok(other.clone()));
    assert_eq!(of(&chat(&[("legate.agent.id", &own), ("gen_ai.agent.id", "asst_5")]), &enforcer()), Ok(own));
    assert_eq!(of(&chat(&[]), &enforcer()), Err(Unfit::NoAgent));
    assert_eq!(of(&call, &enforcer()), Err(Unfit::NoAgent), "it says whom it was done to, and not by whom");
    assert_eq!(of(&chat(&[]), &Teller::Service), Err(Unfit::Event));

    let copy = InstanceId::from_parts(3, [3; 10]);
    let instance =
        Teller::Agent { namespace: Name::parse("payments").unwrap(), id: id(), instance: Some(copy.clone()) };
    assert_eq!(made(&chat(&[]), &instance).unwrap().instance_id, copy.to_string());
}

#[test]
fn what_is_no_act_or_has_no_place_and_time_is_told_apart() {
    let chat = span(&[("gen_ai.operation.name", "chat")]);
    let of = |signal: Signal| made(&signal, &agent()).map(|_| ());
    assert_eq!(of(span(&[("service.name", "x")])), Err(Unfit::NotAnAct));
    for word in ["drop table", "a\u{e9}", "'; --", &"x".repeat(65)] {
        assert_eq!(of(span(&[("gen_ai.operation.name", word)])), Err(Unfit::Operation), "{word}");
        assert_eq!(of(span(&[("legate.action", word)])), Err(Unfit::Operation), "{word}");
    }
    for ids in [(vec![], vec![8; 8]), (vec![7; 16], vec![]), (vec![0; 16], vec![8; 8]), (vec![7; 8], vec![8; 16])] {
        let signal = Signal { trace_id: ids.0.clone(), span_id: ids.1.clone(), ..chat.clone() };
        assert_eq!(of(signal), Err(Unfit::Ids), "{ids:?}");
    }
    for (start, end) in [(0, START), (START, START - 1), (u64::MAX, u64::MAX), (START, u64::MAX)] {
        assert_eq!(of(Signal { start, end, ..chat.clone() }), Err(Unfit::Time));
    }
    let record = log("", &[("gen_ai.operation.name", "chat")]);
    assert_eq!(of(Signal { trace_id: vec![], span_id: vec![], ..record.clone() }), Ok(()));
    assert_eq!(of(Signal { trace_id: vec![0; 16], span_id: vec![0; 8], ..record.clone() }), Ok(()));
    assert_eq!(of(Signal { trace_id: vec![1; 3], ..record }), Err(Unfit::Ids));
}

#[test]
fn the_same_signal_has_the_same_id_and_another_has_another() {
    let id = |signal: &Signal, producer: &str| identity(producer, &made(signal, &agent()).unwrap());
    let one = span(&[("gen_ai.operation.name", "chat")]);
    let longer = Signal { start: START - 5, end: START + 9, is_error: true, ..one.clone() };
    assert_eq!(id(&one, "a"), id(&longer, "a"), "a span is its place in its trace");
    assert_ne!(id(&one, "a"), id(&one, "b"), "nobody takes another's place");
    assert_ne!(id(&one, "a"), id(&Signal { span_id: vec![1; 8], ..one.clone() }, "a"));
    assert_ne!(id(&one, "a"), id(&Signal { trace_id: vec![1; 16], ..one.clone() }, "a"));

    let chat = [("gen_ai.operation.name", "chat")];
    let details = log("gen_ai.client.inference.operation.details", &chat);
    assert_eq!(id(&one, "a"), id(&details, "a"), "it repeats its span");
    let record = log("something.else", &chat);
    assert_ne!(id(&one, "a"), id(&record, "a"));
    assert_eq!(id(&record, "a"), id(&record.clone(), "a"));
    let later = Signal { start: START + 1_000, end: START + 1_000, ..record.clone() };
    assert_ne!(id(&record, "a"), id(&later, "a"));
}

#[test]
fn an_event_of_every_attribute_keeps_to_what_may_be_told() {
    let long = "x".repeat(256);
    let mut signal = span(&[("gen_ai.operation.name", "execute_tool"), ("legate.action", "a:b")]);
    for key in [
        "enduser.id",
        "error.type",
        "gen_ai.agent.id",
        "gen_ai.agent.name",
        "gen_ai.conversation.id",
        "gen_ai.data_source.id",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.response.model",
        "gen_ai.system",
        "gen_ai.tool.call.id",
        "gen_ai.tool.name",
        "gen_ai.tool.type",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "legate.credential.id",
        "legate.decision.id",
        "legate.grant.id",
        "legate.resource.id",
        "legate.resource.type",
        "legate.subject",
        "legate.token.id",
        "mcp.method.name",
        "service.name",
        "user.id",
    ] {
        signal.attributes.put(key, Some(Scalar::Text(long.clone())));
    }
    let event = made(&signal, &agent()).unwrap();
    assert_eq!(event.details.len(), 16);
    assert_eq!(agent().check(&event), Ok(()));
    use prost::Message as _;
    assert!(event.encoded_len() < crate::domain::teller::LARGEST, "{}", event.encoded_len());
}

proptest! {
    /// Whatever comes, an event is one that its teller may tell, of nobody else, or there is none.
    #[test]
    fn nothing_makes_an_event_that_its_teller_may_not_tell(
        values in prop::collection::vec((any::<prop::sample::Index>(), "\\PC{0,30}|chat|execute_tool|agt_[0-9a-z]{26}"), 0..12),
        ids in (prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..12)),
        times in (any::<u64>(), any::<u64>()),
        is_log in any::<bool>(),
    ) {
        let keys = ["gen_ai.operation.name", "legate.action", "gen_ai.agent.id", "legate.agent.id", "legate.subject",
            "legate.resource.id", "gen_ai.tool.name", "user.id", "error.type"];
        let mut signal = span(&[("gen_ai.operation.name", "chat")]);
        for (at, text) in &values {
            let key: &&str = at.get(&keys);
            signal.attributes.put(key, Some(Scalar::Text(text.clone())));
        }
        (signal.trace_id, signal.span_id) = ids;
        (signal.start, signal.end) = times;
        signal.kind = if is_log { Kind::Log } else { Kind::Span };
        for teller in [agent(), enforcer()] {
            if let Ok(event) = made(&signal, &teller) {
                prop_assert_eq!(teller.check(&event), Ok(()));
                prop_assert!(teller != agent() || event.agent_id == id().as_str());
            }
        }
    }
}
