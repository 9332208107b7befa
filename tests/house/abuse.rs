//! What strangers and ill-willed callers try against a raised service: refused, survived, and nobody else is kept waiting.
//!
//! Certificates that are spoilt in every way, slow handshakes and resumed sessions are tried in `crates/mtls/tests`, tokens
//! in `crates/token/tests` and in the services' own tests; here is what only a whole service shows.

use std::time::{Duration, Instant};

use legate_mtls::Identity;
use legate_rpc::{Client, Code, Told};
use legate_wire::credential::EnrolRequest;
use legate_wire::credential::enrolment_service_client::EnrolmentServiceClient;
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{EvaluateBatchRequest, EvaluateRequest};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    AgentRef, GetAgentRequest, ListAgentsRequest, ListDeclarationsRequest, SuspendAgentRequest,
};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::metadata::MetadataValue;

use crate::asking::{Shown, ask, at_least, question, word};
use crate::raised::{AUDIENCE, LONG, Raised};

/// A suite and the example's backend with a good token.
async fn scene() -> (Raised, Client, Shown) {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let token = payments.runtime.token(AUDIENCE).await.unwrap();
    let shown = Shown { token: token.access_token, presenter: payments.runtime.identity().x5t_s256().unwrap() };
    let backend = raised.dial("policy-decision", payments.backend.clone());
    let first = ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1"), token.revision)).await;
    assert_eq!(word(&first), "ALLOWED");
    (raised, backend, shown)
}

fn told<T: std::fmt::Debug>(outcome: Result<tonic::Response<T>, tonic::Status>) -> Told {
    Told::from_status(&outcome.unwrap_err())
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_silent_connections_keep_nobody_waiting() {
    let (raised, backend, shown) = scene().await;
    let address = raised.suite.running("policy-decision").unwrap().addr();
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    // Over the connection that is there, and over a new one, which waits for its turn among the silent.
    let begin = Instant::now();
    assert_eq!(word(&ask(&backend, question(&shown, "invoice:read", "apollo/2")).await), "ALLOWED");
    assert!(begin.elapsed() < Duration::from_secs(1), "a known caller waited {:?}", begin.elapsed());
    let again = raised.operator("policy-decision");
    let asked = DecisionServiceClient::new(again).evaluate(EvaluateRequest::default()).await;
    assert_eq!(told(asked).reason, "QUESTION_INVALID");
    assert!(begin.elapsed() < Duration::from_secs(5), "a new caller waited {:?}", begin.elapsed());
    for mut one in silent {
        let mut byte = [0];
        let ended =
            tokio::time::timeout(LONG, one.read(&mut byte)).await.expect("a silent connection is held for ever");
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_tls_is_ended() {
    let (raised, backend, shown) = scene().await;
    for service in ["registry", "credential-issuer", "policy-decision", "audit-collector"] {
        let address = raised.suite.running(service).unwrap().addr();
        for bytes in [
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".as_slice(),
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.9\r\n",
            &[0x16, 0x03, 0x01, 0xff, 0xff, 0x01],
            &[0; 4_096],
        ] {
            let mut tcp = TcpStream::connect(address).await.unwrap();
            // It may be closed before all is written.
            let _closed = tcp.write_all(bytes).await;
            let mut answer = Vec::new();
            let ended = tokio::time::timeout(LONG, tcp.read_to_end(&mut answer)).await;
            ended.expect("it is held for ever").ok();
            // At most a TLS alert.
            assert!(answer.is_empty() || answer[0] == 0x15 && answer.len() < 16, "{service}: {answer:?}");
        }
    }
    assert_eq!(word(&ask(&backend, question(&shown, "invoice:read", "apollo/3")).await), "ALLOWED");
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_say_nothing_of_who_calls() {
    let (raised, backend, shown) = scene().await;
    let mut service = DecisionServiceClient::new(backend);
    let with = |headers: &[(&'static str, &str)]| {
        let mut request = tonic::Request::new(question(&shown, "invoice:read", "apollo/1"));
        for (name, value) in headers {
            request.metadata_mut().append(*name, MetadataValue::try_from(*value).unwrap());
        }
        request
    };
    // Identity comes from the certificate; these are what gateways elsewhere believe.
    let claims = [
        ("x-agent-id", "agt_01jaaaaaaaaaaaaaaaaaaaaaaa"),
        ("x-forwarded-client-cert", "URI=spiffe://dev.legate/legate/operator/dev"),
        ("x-spiffe-id", "spiffe://dev.legate/legate/operator/dev"),
    ];
    let answer = service.evaluate(with(&claims)).await.unwrap().into_inner();
    assert_eq!(word(&answer), "ALLOWED");
    let mut agents = AgentServiceClient::new(raised.dial("registry", raised.service("policy-decision")));
    let mut request = tonic::Request::new(ListAgentsRequest::default());
    for (name, value) in claims {
        request.metadata_mut().append(name, MetadataValue::try_from(value).unwrap());
    }
    assert_eq!(told(agents.list_agents(request).await).reason, "ACCESS_DENIED");

    let twice = with(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]);
    assert_eq!(told(service.evaluate(twice).await).reason, "DUPLICATE_HEADER");
    for (deadline, reason) in [("49m", "DEADLINE_TOO_SHORT"), ("x", "INVALID_ARGUMENT"), ("-1S", "INVALID_ARGUMENT")] {
        assert_eq!(told(service.evaluate(with(&[("grpc-timeout", deadline)])).await).reason, reason, "{deadline}");
    }
    let large = "a".repeat(1 << 20);
    let refused = service.evaluate(with(&[("x-large", &large)])).await.unwrap_err();
    assert!(!matches!(refused.code(), Code::Ok | Code::Internal), "{refused:?}");
    // That connection may be ended for it; the next one serves.
    let begin = Instant::now();
    let answer = loop {
        match service.evaluate(question(&shown, "invoice:read", "apollo/1")).await {
            Ok(answer) => break answer.into_inner(),
            Err(status) => assert!(begin.elapsed() < LONG, "{status:?}"),
        }
    };
    assert_eq!(word(&answer), "ALLOWED");
    raised.suite.shutdown().await;
}

/// A list in a list in a list.
fn nested(depth: usize) -> Value {
    (0..depth).fold(Value { kind: Some(Kind::BoolValue(true)) }, |inner, _| Value {
        kind: Some(Kind::ListValue(ListValue { values: vec![inner] })),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_are_too_large_too_deep_or_no_questions_are_refused() {
    let (raised, backend, shown) = scene().await;
    let mut service = DecisionServiceClient::new(backend).max_encoding_message_size(64 << 20);
    let good = question(&shown, "invoice:read", "apollo/1");
    let attributes = |value: Value| {
        let mut request = good.clone();
        if let Some(resource) = &mut request.resource {
            resource.attributes = Some(Struct { fields: [("a".to_owned(), value)].into() });
        }
        request
    };
    let text = |length: usize| Value { kind: Some(Kind::StringValue("x".repeat(length))) };
    let mut refused = vec![
        ("a message of 8 MiB", attributes(text(8 << 20))),
        ("attributes over 64 KiB", attributes(text(65 << 10))),
        ("ninety lists in each other", attributes(nested(90))),
        ("no subject", EvaluateRequest { subject: None, ..good.clone() }),
        ("no resource", EvaluateRequest { resource: None, ..good.clone() }),
    ];
    for action in ["", "invoice:*", "*", "Invoice:read", "invoice:read\n", "invoice read", "a:b:c:d:e:f:g:h:i", "../x"]
    {
        refused.push(("a broken action", EvaluateRequest { action: action.into(), ..good.clone() }));
    }
    for id in ["", "a\0b", "a\nb", "\u{202e}abc", "a\u{200b}b", "\u{1b}[31mred"] {
        refused.push(("a broken id", question(&shown, "invoice:read", id)));
    }
    for (what, request) in refused {
        let said = told(service.evaluate(request.clone()).await);
        let by_size =
            matches!(said.code, Code::OutOfRange | Code::ResourceExhausted | Code::InvalidArgument | Code::Internal);
        assert!(said.reason == "QUESTION_INVALID" || said.reason.is_empty() && by_size, "{what}: {said:?}");
        // One of them spoils a batch: nothing of it is decided.
        let batch = EvaluateBatchRequest { evaluations: vec![good.clone(), request] };
        service.evaluate_batch(batch).await.unwrap_err();
    }
    let batch = EvaluateBatchRequest { evaluations: vec![good.clone(); 257] };
    assert_eq!(told(service.evaluate_batch(batch).await).reason, "QUESTION_INVALID");
    assert_eq!(word(&service.evaluate(good).await.unwrap().into_inner()), "ALLOWED");
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_does_not_say_is_not_believed() {
    let (raised, backend, shown) = scene().await;
    let token = &shown.token;
    let parts: Vec<&str> = token.split('.').collect();
    let spoilt = [
        String::new(),
        "x".repeat(100_000),
        format!("{}.{}.", parts[0], parts[1]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.{}.{}.x", parts[0], parts[1], parts[2]),
        format!(" {token}"),
        format!("{token}\n"),
        format!("{}.{}.{}", parts[1], parts[0], parts[2]),
        // {"alg":"none","typ":"at+jwt"}
        format!("eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{}.", parts[1]),
        format!("{}={}", &token[..token.len() - 1], &token[token.len() - 1..]),
    ];
    for wrong in spoilt {
        let asked = question(&Shown { token: wrong.clone(), ..shown.clone() }, "invoice:read", "apollo/1");
        match DecisionServiceClient::new(backend.clone()).evaluate(asked).await {
            Ok(answer) => assert!(answer.get_ref().reason_code.starts_with("TOKEN_"), "{wrong:?}: {answer:?}"),
            Err(status) => assert_eq!(Told::from_status(&status).reason, "QUESTION_INVALID", "{wrong:?}"),
        }
    }
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolment_takes_nothing_but_a_good_token_and_request() {
    let raised = Raised::new().await;
    let mut service = EnrolmentServiceClient::new(raised.dial("credential-issuer", Identity::anonymous()));
    let long = "lgt_enr_".to_owned() + &"a".repeat(10_000);
    for token in ["", "x", "lgt_enr_", "lgt_enr_' OR 1=1 --", "lgt_enr_%", "lgt_enr_\0", &long] {
        let request = EnrolRequest { token: token.into(), csr: vec![0x30, 0x00] };
        let said = told(service.enrol(request).await);
        assert!(
            matches!(said.reason.as_str(), "ENROLMENT_TOKEN_INVALID" | "CSR_REFUSED" | "INVALID_ARGUMENT"),
            "{token}: {said:?}"
        );
        assert!(token.len() < 4 || !said.message.contains(token), "{said:?}");
    }
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_deceive_or_inject_are_refused_and_cursors_are_not_to_be_edited() {
    let raised = Raised::new().await;
    raised.apply().await;
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    for name in [
        "x' OR '1'='1",
        "%",
        "_",
        "invoice-bot\0",
        "INVOICE-BOT",
        "invoice-bot ",
        "../invoice-bot",
        "\u{202e}tob",
        "=cmd|'/c calc'!A1",
    ] {
        let which = AgentRef { namespace: "payments".into(), name: name.into(), ..AgentRef::default() };
        let said = told(agents.get_agent(GetAgentRequest { agent: Some(which), as_of: None }).await);
        assert!(matches!(said.reason.as_str(), "INVALID_ARGUMENT" | "AGENT_NOT_FOUND"), "{name:?}: {said:?}");
    }
    let which = || Some(AgentRef { namespace: "payments".into(), name: "invoice-bot".into(), ..AgentRef::default() });
    let long = "x".repeat(1_025);
    for reason in ["", "a\0b", "\u{1b}[2J", "a\u{202e}b", "a\u{200b}b", &long] {
        let request = SuspendAgentRequest { agent: which(), reason: reason.into(), ..SuspendAgentRequest::default() };
        assert_eq!(told(agents.suspend_agent(request).await).reason, "INVALID_ARGUMENT", "{reason:?}");
    }

    for filter in
        ["name = 'x' OR 1=1", "name = \"a\0b\"", "a\u{202e}b:*", "labels.\u{200b} = x", &"NOT (".repeat(400), &long]
    {
        let request = ListAgentsRequest { filter: filter.into(), ..ListAgentsRequest::default() };
        assert_eq!(told(agents.list_agents(request).await).reason, "FILTER_INVALID", "{filter:?}");
    }
    for filter in ["name = \"%\"", "owners:\"' OR '1'='1\"", "labels.team = \"_\"", "name = \"\\\\*\""] {
        let request = ListAgentsRequest { filter: filter.into(), ..ListAgentsRequest::default() };
        assert!(agents.list_agents(request).await.unwrap().into_inner().agents.is_empty(), "{filter:?}");
    }

    let mut declarations = DeclarationServiceClient::new(raised.operator("registry"));
    let kind = legate_wire::registry::Kind::Policy.into();
    let ask = |token: &str| ListDeclarationsRequest {
        kind,
        namespace: "payments".into(),
        page_size: 1,
        page_token: token.into(),
        ..ListDeclarationsRequest::default()
    };
    let first = declarations.list_declarations(ask("")).await.unwrap().into_inner();
    let token = first.next_page_token;
    assert!(!token.is_empty());
    declarations.list_declarations(ask(&token)).await.unwrap();
    for elsewhere in [
        ListDeclarationsRequest { namespace: String::new(), ..ask(&token) },
        ListDeclarationsRequest { filter: "name = a*".into(), ..ask(&token) },
        ListDeclarationsRequest { order_by: "name desc".into(), ..ask(&token) },
    ] {
        assert_eq!(told(declarations.list_declarations(elsewhere).await).reason, "PAGE_TOKEN_INVALID");
    }
    let forged = format!("{}{}", if token.starts_with('A') { 'B' } else { 'A' }, &token[1..]);
    for edited in [&token[1..], &token[..token.len() - 1], "' OR 1=1", &forged] {
        assert_eq!(told(declarations.list_declarations(ask(edited)).await).reason, "PAGE_TOKEN_INVALID", "{edited}");
    }
    raised.suite.shutdown().await;
}
