//! Which agents there are, which there were, and what became of them: asked over real mutual TLS.

use legate_rpc::Told;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::as_of::At;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::history_service_client::HistoryServiceClient;
use legate_wire::registry::{
    AgentRef, AgentState, AsOf, GetAgentRequest, HistoryAction, Kind, ListAgentsRequest, ListDeclarationsRequest,
    ListHistoryRequest, SuspendAgentRequest,
};

use crate::raised::{Raised, id_of};

#[tokio::test(flavor = "multi_thread")]
async fn agents_are_found_as_they_are_and_as_they_were() {
    let raised = Raised::new().await;
    let declared = raised.apply().await;
    let id = id_of(&raised.agent().await);
    let which = || Some(AgentRef { id: id.clone(), ..AgentRef::default() });
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    let request = SuspendAgentRequest { agent: which(), reason: "odd reads".into(), ..Default::default() };
    let suspended = agents.suspend_agent(request).await.unwrap().into_inner().revision;

    let found = async |filter: &str, at: Option<u64>| {
        let as_of = at.map(|revision| AsOf { at: Some(At::Revision(revision)) });
        let ask = ListAgentsRequest { filter: filter.into(), as_of, ..ListAgentsRequest::default() };
        let page = AgentServiceClient::new(raised.operator("registry")).list_agents(ask).await.unwrap().into_inner();
        assert!(page.total_is_exact && page.total_estimate == page.agents.len() as u64, "{filter}");
        (page.agents.len(), page.revision)
    };
    for (filter, at, expected) in [
        ("state = suspended", None, (1, suspended)),
        ("state = active", None, (0, suspended)),
        ("state = active", Some(declared), (1, declared)),
        ("name = \"invoice-*\" AND owners:* AND NOT last_used_time:*", None, (1, suspended)),
        ("name = \"invoice-*\" AND sponsors:nobody", None, (0, suspended)),
    ] {
        assert_eq!(found(filter, at).await, expected, "{filter}");
    }

    let then = |revision| GetAgentRequest { agent: which(), as_of: Some(AsOf { at: Some(At::Revision(revision)) }) };
    let was = agents.get_agent(then(declared)).await.unwrap().into_inner();
    let state = was.agent.unwrap_or_default().status.unwrap_or_default().state();
    assert_eq!((state, was.revision), (AgentState::Active, declared));
    for unknown in [0, suspended + 1] {
        let refused = Told::from_status(&agents.get_agent(then(unknown)).await.unwrap_err());
        assert_eq!(refused.reason, "REVISION_UNKNOWN");
        assert!(!refused.cure.is_empty());
    }

    let mut histories = HistoryServiceClient::new(raised.operator("registry"));
    let ask = ListHistoryRequest {
        kind: Kind::Agent.into(),
        namespace: "payments".into(),
        name: "invoice-bot".into(),
        ..ListHistoryRequest::default()
    };
    let told = histories.list_history(ask).await.unwrap().into_inner();
    let seen: Vec<_> = told.entries.iter().map(|entry| (entry.revision, entry.action())).collect();
    assert_eq!(seen, [(suspended, HistoryAction::Suspended), (declared, HistoryAction::Created)]);
    assert_eq!((told.entries[0].reason.as_str(), &told.id, told.holders.len()), ("odd reads", &id, 1));

    // Who is no operator is told nothing of it.
    let runtime = raised.dial("registry", raised.service("audit-collector"));
    let refused = HistoryServiceClient::new(runtime.clone()).list_history(ListHistoryRequest::default()).await;
    assert_eq!(Told::from_status(&refused.unwrap_err()).reason, "ACCESS_DENIED");
    let refused = DeclarationServiceClient::new(runtime).list_declarations(ListDeclarationsRequest::default()).await;
    assert_eq!(Told::from_status(&refused.unwrap_err()).reason, "ACCESS_DENIED");
    raised.suite.shutdown().await;
}
