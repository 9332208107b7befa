//! The deepest and the widest that may be asked or declared is survived, on less stack than a worker of tokio has.

use std::future::Future;

use legate_wire::policy as asked;
use legate_wire::registry::PolicyMode::{Enforce, LogOnly};
use prost::Message;
use prost_types::value::Kind;

use crate::convert;
use crate::testing::*;

/// Runs `work` on a small stack. An overflow ends the process, and this test with it.
fn on_a_small_stack<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    let run = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().thread_stack_size(1536 * 1024).build().unwrap().block_on(work());
    };
    std::thread::Builder::new().stack_size(1536 * 1024).spawn(run).unwrap().join().unwrap();
}

/// A question whose context and attributes are `depth` structs or lists in one another, as it comes from the wire.
fn nested(depth: usize, lists: bool) -> Result<asked::EvaluateRequest, prost::DecodeError> {
    let mut value = prost_types::Value { kind: Some(Kind::BoolValue(true)) };
    for _ in 0..depth {
        let kind = if lists {
            Kind::ListValue(prost_types::ListValue { values: vec![value] })
        } else {
            Kind::StructValue(prost_types::Struct { fields: [("k".to_owned(), value)].into() })
        };
        value = prost_types::Value { kind: Some(kind) };
    }
    let context = Some(prost_types::Struct { fields: [("k".to_owned(), value)].into() });
    let whole = asked::EvaluateRequest {
        subject: Some(asked::Subject {
            agent: Some(asked::subject::Agent::AgentId(agent_id(1).to_string())),
            presenter_x5t_s256: vec![],
            ..Default::default()
        }),
        action: "invoice:read".into(),
        resource: Some(asked::Resource {
            r#type: "Invoice".into(),
            id: "apollo/1".into(),
            attributes: context.clone(),
        }),
        context,
        ..asked::EvaluateRequest::default()
    };
    asked::EvaluateRequest::decode(whole.encode_to_vec().as_slice())
}

#[test]
fn a_context_as_deep_as_the_wire_takes_is_answered() {
    on_a_small_stack(|| async {
        let mut stage = Stage::set().await;
        let text = "forbid(principal, action, resource) when { context.k != resource.k || [context] == [resource] };";
        stage.change(vec![(policy("looks", Enforce, text), false)]).await;
        for lists in [false, true] {
            // How deep that is, is prost's to say; far deeper than this it never is.
            let read = (0..100).map_while(|depth| nested(depth, lists).ok());
            let mut answered = 0;
            for question in read {
                let ask = convert::ask(question, "").unwrap();
                assert_eq!(stage.ask(&operator(), ask).await.answer.word(), "ALLOWED");
                answered += 1;
            }
            assert!((16..64).contains(&answered), "{answered}");
        }
    });
}

/// Ten thousand policies at once, then one that cannot be read, then none: what was before them is never what decides.
#[tokio::test]
async fn a_huge_set_that_comes_breaks_and_goes_is_never_answered_by_the_one_before() {
    const MANY: usize = 10_000;
    let name = |n: usize| format!("many-{n}");
    let of_one =
        |n: usize| policy(&name(n), Enforce, &format!("permit(principal == Agent::\"{n}\", action, resource);"));
    // In the midst of them one that is about everybody.
    let forbid = || policy(&name(MANY / 2), Enforce, "forbid(principal, action, resource);");
    let many = || (0..MANY).map(|n| if n == MANY / 2 { forbid() } else { of_one(n) });
    let mut stage = Stage::set().await;
    assert_eq!(stage.word(stage.good()).await, "ALLOWED");
    // The first word about a question at a revision that is not a call to try again.
    let at = async |stage: &Stage, revision: u64| {
        let begin = std::time::Instant::now();
        loop {
            let mut ask = stage.good();
            ask.at_least_revision = revision;
            match stage.word(ask).await {
                "POLICY_NOT_READY" | "REVISION_NOT_REACHED" => {
                    assert!(begin.elapsed() < std::time::Duration::from_secs(900), "it is never compiled");
                }
                word => return word,
            }
        }
    };
    stage.tell(many().map(|one| (one, false)).collect());
    assert_eq!(at(&stage, 2).await, "FORBIDDEN_BY_POLICY");
    // Corrupted: one of them cannot be read, and nobody knows what it forbade.
    stage.tell(vec![(policy(&name(7), Enforce, "forbid(principal, action, resource"), false), (forbid(), true)]);
    assert_eq!(at(&stage, 3).await, "POLICY_ERROR");
    stage.tell(vec![(of_one(7), false)]);
    assert_eq!(at(&stage, 4).await, "ALLOWED");
    // Emptied of everything: what permitted before they came is gone as well.
    let before = ["production", "sealed"].map(|name| (policy(name, Enforce, ""), true));
    stage.tell(many().filter(|one| *one != forbid()).map(|one| (one, true)).chain(before).collect());
    assert_eq!(at(&stage, 5).await, "NO_POLICY_PERMITS");
    stage.tell(vec![(policy("production", Enforce, "permit(principal, action, resource);"), false)]);
    assert_eq!(at(&stage, 6).await, "ALLOWED");
}

#[test]
fn policies_as_deep_and_as_wide_as_may_be_declared_are_answered() {
    let deep = |open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(18), close.repeat(18));
    let wide = |part: &str, by: &str| vec![part; 990].join(by);
    let conditions = [
        deep("(", "true", ")"),
        format!("{} != 1", deep("[", "1", "]")),
        format!("{} != 1", deep("{a: ", "1", "}")),
        deep("if true then ", "true", " else false"),
        deep("if ", "true", " then true else false"),
        wide("true", " && "),
        wide("false", " || ") + " || true",
        format!("{} > 1", wide("1", " + ")),
        format!("{} < 1", wide("1", " - ")),
        format!("{} == 1", wide("1", " * ")),
        format!("principal{}", ".name".repeat(990)),
        format!("principal{}", "[\"name\"]".repeat(990)),
        format!("[1]{}", ".contains(1)".repeat(490)),
        format!("principal.name like \"{}\"", "*a".repeat(3_000)),
    ];
    on_a_small_stack(|| async move {
        for condition in conditions {
            for (mode, words) in
                [(Enforce, ["FORBIDDEN_BY_POLICY", "POLICY_ERROR", "ALLOWED"]), (LogOnly, ["ALLOWED"; 3])]
            {
                let mut stage = Stage::set().await;
                let text = format!("forbid(principal, action, resource) when {{ {condition} }};");
                stage.change(vec![(policy("extreme", mode, &text), false)]).await;
                let word = stage.ask(&operator(), stage.asserted(agent_id(1))).await.answer.word();
                // Only the pattern does not fit; everything else is true, or too much for Cedar, which denies.
                let fits = !condition.contains("like");
                assert!(words[..if fits { 2 } else { 3 }].contains(&word), "{word}: {condition:.80}");
            }
        }
    });
}
