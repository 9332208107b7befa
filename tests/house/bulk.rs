//! A registry that is killed while very many objects come: whole transactions stay, and the rest can be sent again.

use std::collections::BTreeSet;
use std::time::Duration;

use legate_rpc::Client;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::bulk_apply_request::Part;
use legate_wire::registry::bulk_service_client::BulkServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Agent, AgentSpec, BulkAction, BulkApplyRequest, BulkApplyResponse, BulkEnd, BulkItem, BulkItems, BulkMode,
    BulkOutcome, BulkStart, Declaration, Environment, ListAgentsRequest, Metadata,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::processes::Processes;
use crate::raised::{LONG, apply_example};

const MANY: usize = 2_000;
/// Items in one transaction, where each is for itself.
const IN_TRANSACTION: usize = 500;

fn items(prefix: &str, numbers: std::ops::Range<usize>) -> BulkItems {
    let item = |n: usize| {
        let metadata = Metadata { name: format!("{prefix}-{n}"), namespace: "payments".into(), ..Metadata::default() };
        let spec = AgentSpec {
            agent_class: "invoice-worker".into(),
            purpose: "came with many".into(),
            environment: Environment::Dev.into(),
            owners: vec!["user:ada@example.com".into()],
            sponsors: vec!["user:grace@example.com".into()],
            ..AgentSpec::default()
        };
        let agent = Agent { metadata: Some(metadata), spec: Some(spec), status: None };
        let declaration = Some(Declaration { object: Some(Object::Agent(agent)) });
        BulkItem { key: n.to_string(), declaration, removal: None }
    };
    BulkItems { items: numbers.map(item).collect() }
}

/// Opens a stream on which everything is said.
async fn open(registry: &Client, prefix: &str, mode: BulkMode) -> Streaming<BulkApplyResponse> {
    let start =
        BulkStart { mode: mode.into(), request_id: prefix.into(), reason: "moved".into(), ..BulkStart::default() };
    let mut parts = vec![Part::Start(start)];
    parts.extend((0..MANY).step_by(500).map(|from| Part::Items(items(prefix, from..MANY.min(from + 500)))));
    parts.push(Part::End(BulkEnd { items: MANY as u64 }));
    let (asks, outgoing) = mpsc::channel(parts.len());
    for part in parts {
        asks.send(BulkApplyRequest { part: Some(part) }).await.unwrap();
    }
    BulkServiceClient::new(registry.clone()).bulk_apply(ReceiverStream::new(outgoing)).await.unwrap().into_inner()
}

/// What is answered until the stream ends; whether it ended well.
async fn hear(answers: &mut Streaming<BulkApplyResponse>) -> (Vec<BulkOutcome>, bool) {
    let mut outcomes = Vec::new();
    loop {
        match tokio::time::timeout(LONG * 3, answers.message()).await.unwrap() {
            Ok(Some(answer)) => outcomes.extend(answer.outcomes),
            ended => return (outcomes, ended.is_ok()),
        }
    }
}

/// The ids of the agents that are there.
async fn there(registry: &Client, prefix: &str) -> BTreeSet<String> {
    let mut agents = AgentServiceClient::new(registry.clone());
    let mut request =
        ListAgentsRequest { namespace: "payments".into(), page_size: 1_000, ..ListAgentsRequest::default() };
    let mut found = BTreeSet::new();
    loop {
        let page = agents.list_agents(request.clone()).await.unwrap().into_inner();
        let of_it = page.agents.into_iter().filter_map(|agent| agent.metadata);
        found.extend(of_it.filter(|m| m.name.starts_with(&format!("{prefix}-"))).map(|m| m.id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return found;
        }
    }
}

/// The same again, to its end: everything is there, once, and what was answered before is answered so again.
async fn again(registry: &Client, prefix: &str, mode: BulkMode, before: &[BulkOutcome]) {
    let (outcomes, ended_well) = hear(&mut open(registry, prefix, mode).await).await;
    assert!(ended_well && outcomes.len() == MANY, "{prefix}: {}", outcomes.len());
    assert!(outcomes.iter().all(|o| o.action() == BulkAction::Created), "{prefix}: by the id it is one request");
    assert_eq!(outcomes[..before.len()], *before, "{prefix}");
    let ids: BTreeSet<String> = outcomes.into_iter().map(|o| o.id).collect();
    assert_eq!(there(registry, prefix).await, ids, "{prefix}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_killed_amid_very_many_keeps_whole_transactions() {
    let mut suite = Processes::start("warn").await;
    apply_example(suite.operator("registry")).await;

    // All or nothing, killed at some moment of it: before, amid or after the one transaction.
    for (n, delay) in [0, 60, 250, 700].into_iter().enumerate() {
        let prefix = format!("together-{n}");
        let registry = suite.operator("registry");
        let mut answers = open(&registry, &prefix, BulkMode::AllOrNothing).await;
        let hearing = tokio::spawn(async move { hear(&mut answers).await });
        tokio::time::sleep(Duration::from_millis(delay)).await;
        suite.crash("registry").await;
        let (outcomes, _) = hearing.await.unwrap();
        let registry = suite.operator("registry");
        let found = there(&registry, &prefix).await.len();
        assert!(found == 0 || found == MANY, "{found} of {MANY}");
        assert!(outcomes.is_empty() || found == MANY, "it was answered, and is not there");
        again(&registry, &prefix, BulkMode::AllOrNothing, &outcomes).await;
    }

    // Each for itself, killed when one transaction was answered.
    let registry = suite.operator("registry");
    let mut answers = open(&registry, "each", BulkMode::Each).await;
    let first = answers.message().await.unwrap().unwrap().outcomes;
    assert_eq!(first.len(), IN_TRANSACTION);
    let hearing = tokio::spawn(async move { hear(&mut answers).await });
    suite.crash("registry").await;
    let (more, _) = hearing.await.unwrap();
    let answered = [first, more].concat();
    let registry = suite.operator("registry");
    let found = there(&registry, "each").await;
    assert!(found.len().is_multiple_of(IN_TRANSACTION), "{} are no whole transactions", found.len());
    assert!(answered.iter().all(|outcome| found.contains(&outcome.id)), "what was answered is there");
    again(&registry, "each", BulkMode::Each, &answered).await;
    suite.stop();
}
