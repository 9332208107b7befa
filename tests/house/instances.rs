//! Two copies of one agent run, and one of them is taken back: end to end, on a raised suite.

use legate_client::{Runtime, enrol};
use legate_ids::{Principal, SpiffeId};
use legate_rpc::Told;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::instance_service_client::InstanceServiceClient;
use legate_wire::credential::{
    GetInstanceRequest, Instance, InstanceState, ListInstancesRequest, RevokeInstanceRequest,
};
use legate_wire::registry::RevocationReason;

use crate::asking::{Shown, ask, at_least, question, word};
use crate::raised::{AUDIENCE, Raised, id_of};

/// A copy that runs, and a token of it.
struct Copy {
    id: String,
    runtime: Runtime,
    shown: Shown,
}

impl Copy {
    async fn of(runtime: Runtime) -> Self {
        let spiffe_id = runtime.identity().spiffe_id().unwrap();
        let Ok(Principal::Agent { instance: Some(id), .. }) = Principal::of(&spiffe_id) else {
            panic!("{spiffe_id} names no instance")
        };
        let issued = runtime.token(AUDIENCE).await.unwrap();
        let shown = Shown { token: issued.access_token, presenter: runtime.identity().x5t_s256().unwrap() };
        Self { id: id.to_string(), runtime, shown }
    }
}

async fn live(raised: &Raised, agent_id: &str) -> Vec<Instance> {
    let ask = ListInstancesRequest {
        agent_id: agent_id.into(),
        states: vec![InstanceState::Live.into()],
        ..ListInstancesRequest::default()
    };
    let mut instances = InstanceServiceClient::new(raised.operator("credential-issuer"));
    instances.list_instances(ask).await.unwrap().into_inner().instances
}

#[tokio::test(flavor = "multi_thread")]
async fn one_copy_of_an_agent_is_stopped_and_the_other_works_on() {
    let raised = Raised::new().await;
    let payments = raised.payments().await;
    let agent = id_of(&payments.agent);
    let token = raised.enrolment_token(Holder::AgentId(agent.clone())).await;
    let issuer = raised.remote("credential-issuer");
    let second = enrol(&issuer, &token).await.unwrap().identity().unwrap();
    let first = Copy::of(payments.runtime.clone()).await;
    let second = Copy::of(Runtime::new(&issuer, second).unwrap()).await;
    let found = live(&raised, &agent).await;
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|one| SpiffeId::parse(&one.spiffe_id).is_ok() && one.proof.starts_with("enr_")));

    let backend = raised.dial("policy-decision", payments.backend.clone());
    let read = |copy: &Copy| question(&copy.shown, "invoice:read", "apollo/1001");
    for copy in [&first, &second] {
        assert_eq!(word(&ask(&backend, read(copy)).await), "ALLOWED");
    }
    // What the first holds after a renewal is its own, too; a line that is open goes on with the certificate that it began with.
    first.runtime.renew().await.unwrap();
    let renewed = Runtime::new(&issuer, first.runtime.identity().clone()).unwrap();
    let renewed = Copy::of(renewed).await;
    assert_eq!(renewed.id, first.id);
    assert_ne!(renewed.shown.presenter, first.shown.presenter);

    let mut instances = InstanceServiceClient::new(raised.operator("credential-issuer"));
    let request = RevokeInstanceRequest {
        instance_id: first.id.clone(),
        reason: RevocationReason::KeyCompromise.into(),
        comment: "the node was seized".into(),
    };
    let revoked = instances.revoke_instance(request).await.unwrap().into_inner();
    assert_eq!(revoked.instance.unwrap_or_default().state(), InstanceState::Revoked);
    for dead in [&first, &renewed] {
        assert_eq!(word(&ask(&backend, at_least(read(dead), revoked.revision)).await), "CREDENTIAL_REVOKED");
    }
    assert_eq!(word(&ask(&backend, at_least(read(&second), revoked.revision)).await), "ALLOWED");
    assert!(renewed.runtime.token(AUDIENCE).await.is_err());
    assert!(renewed.runtime.renew().await.is_err());
    second.runtime.renew().await.unwrap();
    assert_eq!(live(&raised, &agent).await.iter().map(|one| &one.id).collect::<Vec<_>>(), [&second.id]);

    // Whoever is no operator learns nothing of them, and who asks for what is no id is told so.
    let mut as_agent = InstanceServiceClient::new(raised.dial("credential-issuer", second.runtime.identity().clone()));
    let ask = GetInstanceRequest { instance_id: second.id.clone() };
    let refused = as_agent.get_instance(ask).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "ACCESS_DENIED");
    let ask = GetInstanceRequest { instance_id: "inst_' OR 1".into() };
    let refused = instances.get_instance(ask).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "INVALID_ARGUMENT");
    raised.suite.shutdown().await;
}
