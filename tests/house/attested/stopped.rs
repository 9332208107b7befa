//! Whatever stops an agent is over for its running processes once it is lifted: each of them becomes another instance.

use legate_rpc::Code;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::revocation_service_client::RevocationServiceClient;
use legate_wire::registry::revoke_issued_request::Level as Cut;
use legate_wire::registry::stop_scope::Level;
use legate_wire::registry::stop_service_client::StopServiceClient;
use legate_wire::registry::{
    Kind, ResumeAgentsRequest, ResumeDeclarationRequest, RevocationReason, RevokeIssuedRequest, StopAgentsRequest,
    StopScope, SuspendDeclarationRequest,
};

use super::scene::Fleet;
use crate::raised::Raised;

/// What stops the fleet's agent.
#[derive(Clone, Copy, Debug)]
enum Stop {
    Agent,
    Class,
    Namespace,
    Order,
}

async fn stop(stop: Stop, fleet: &Fleet, raised: &Raised) {
    let reason = "a test".to_owned();
    match stop {
        Stop::Agent => fleet.suspend(raised).await,
        Stop::Class | Stop::Namespace => {
            let (kind, namespace, name) = declared(stop);
            let request =
                SuspendDeclarationRequest { kind: kind.into(), namespace, name, reason, ..Default::default() };
            DeclarationServiceClient::new(raised.operator("registry")).suspend_declaration(request).await.unwrap();
        }
        Stop::Order => {
            let request = StopAgentsRequest { scope: Some(scope()), reason, ..StopAgentsRequest::default() };
            StopServiceClient::new(raised.operator("registry")).stop_agents(request).await.unwrap();
        }
    }
}

async fn lift(stop: Stop, fleet: &Fleet, raised: &Raised) {
    let reason = "a test".to_owned();
    match stop {
        Stop::Agent => fleet.resume(raised).await,
        Stop::Class | Stop::Namespace => {
            let (kind, namespace, name) = declared(stop);
            let request = ResumeDeclarationRequest { kind: kind.into(), namespace, name, reason, ..Default::default() };
            DeclarationServiceClient::new(raised.operator("registry")).resume_declaration(request).await.unwrap();
        }
        Stop::Order => {
            let request = ResumeAgentsRequest { scope: Some(scope()), reason, ..ResumeAgentsRequest::default() };
            StopServiceClient::new(raised.operator("registry")).resume_agents(request).await.unwrap();
        }
    }
}

fn declared(stop: Stop) -> (Kind, String, String) {
    match stop {
        Stop::Class => (Kind::AgentClass, "fleet".into(), "attested".into()),
        _ => (Kind::Namespace, String::new(), "fleet".into()),
    }
}

fn scope() -> StopScope {
    StopScope { namespace: "fleet".into(), level: Some(Level::Agent("planner".into())) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_process_becomes_another_instance_after_every_kind_of_stop() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    let refused = (Code::PermissionDenied, "WORKLOAD_NOT_ENTITLED".to_owned());
    for what in [Stop::Class, Stop::Namespace, Stop::Order, Stop::Agent, Stop::Class] {
        fleet.held_at_last().await;
        let mut watched = fleet.watched().await;
        let before = watched.holds().await;
        stop(what, &fleet, &raised).await;
        assert_eq!(watched.ends().await, refused, "{what:?}");
        assert_eq!(fleet.watched().await.ends().await, refused, "{what:?}");
        lift(what, &fleet, &raised).await;
        assert_ne!(fleet.held_at_last().await, before, "{what:?}: what was cut off is served again");
    }
    raised.suite.shutdown().await;
}

/// The agent may go on all the while: only what was issued is dead.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_process_becomes_another_instance_after_a_cut_off() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    let mut revocations = RevocationServiceClient::new(raised.operator("registry"));
    for level in [Cut::Owner("user:ada@example.com".into()), Cut::AgentClass("attested".into())] {
        fleet.held_at_last().await;
        let mut watched = fleet.watched().await;
        let before = watched.holds().await;
        let request = RevokeIssuedRequest {
            namespace: "fleet".into(),
            level: Some(level.clone()),
            reason: RevocationReason::AffiliationChanged.into(),
            comment: "a test".into(),
            request_id: String::new(),
        };
        revocations.revoke_issued(request).await.unwrap();
        watched.ends().await;
        assert_ne!(fleet.held_at_last().await, before, "{level:?}: what was cut off is served again");
    }
    raised.suite.shutdown().await;
}
