//! The big switch, end to end: a class, then its namespace, is stopped by one write and let go on, on a raised suite.

use std::time::{Duration, Instant};

use legate_client::{Runtime, enrol};
use legate_mtls::Identity;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    Agent, ApplyDeclarationsRequest, Declaration, GetDeclarationRequest, Kind, Metadata, ResumeDeclarationRequest,
    RoleBinding, RoleBindingSpec, SuspendDeclarationRequest,
};

use crate::asking::{Shown, ask, at_least, question, word};
use crate::raised::{AUDIENCE, LONG, Raised, id_of};

/// Agents beside the example's own.
const OTHERS: usize = 3;

/// An agent that runs.
struct Running {
    id: String,
    runtime: Runtime,
    shown: Shown,
}

impl Running {
    /// Enrols it, and gets it a token.
    async fn start(raised: &Raised, id: String) -> Self {
        let token = raised.enrolment_token(Holder::AgentId(id.clone())).await;
        let issuer = raised.remote("credential-issuer");
        let identity = enrol(&issuer, &token).await.unwrap().identity().unwrap();
        Self::with(&Runtime::new(&issuer, identity).unwrap(), id).await
    }

    async fn with(runtime: &Runtime, id: String) -> Self {
        let issued = runtime.token(AUDIENCE).await.unwrap();
        let shown = Shown { token: issued.access_token, presenter: runtime.identity().x5t_s256().unwrap() };
        Self { id, runtime: runtime.clone(), shown }
    }
}

/// The example's agent and others of its class.
async fn agents_of_one_class(raised: &Raised) -> (Vec<Running>, Identity) {
    let payments = raised.payments().await;
    let spec = payments.agent.spec.clone().unwrap();
    let made = |n: usize| {
        let metadata = Metadata { name: format!("bot-{n}"), namespace: "payments".into(), ..Metadata::default() };
        let agent = Agent { metadata: Some(metadata), spec: Some(spec.clone()), status: None };
        Declaration { object: Some(Object::Agent(agent)) }
    };
    let spec = RoleBindingSpec {
        role: "invoice-reader".into(),
        agents: (0..OTHERS).map(|n| format!("bot-{n}")).collect(),
        ..RoleBindingSpec::default()
    };
    let metadata = Metadata { name: "bots-read".into(), namespace: "payments".into(), ..Metadata::default() };
    let binding = Object::RoleBinding(RoleBinding { metadata: Some(metadata), spec: Some(spec) });
    let mut declarations: Vec<_> = (0..OTHERS).map(made).collect();
    declarations.push(Declaration { object: Some(binding) });
    let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    let mut registry = DeclarationServiceClient::new(raised.operator("registry"));
    let applied = registry.apply_declarations(request).await.unwrap().into_inner();
    let mut all = vec![Running::with(&payments.runtime, id_of(&payments.agent)).await];
    for change in applied.changes.into_iter().filter(|change| change.kind() == Kind::Agent) {
        all.push(Running::start(raised, change.id).await);
    }
    (all, payments.backend)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_class_and_a_namespace_are_stopped_by_one_write_each() {
    let raised = Raised::new().await;
    let (mut all, backend) = agents_of_one_class(&raised).await;
    let backend = raised.dial("policy-decision", backend);
    let mut registry = DeclarationServiceClient::new(raised.operator("registry"));
    let mut revision = 0;
    for (kind, namespace, name, denial) in [
        (Kind::AgentClass, "payments", "invoice-worker", "CLASS_SUSPENDED"),
        (Kind::Namespace, "", "payments", "NAMESPACE_SUSPENDED"),
    ] {
        let may = |running: &Running, at| at_least(question(&running.shown, "invoice:read", "apollo/1"), at);
        for running in &all {
            assert_eq!(word(&ask(&backend, may(running, revision)).await), "ALLOWED");
        }
        let connections = raised.suite.running("credential-issuer").unwrap().serving().connections();
        let which = (kind.into(), namespace.to_owned(), name.to_owned());
        let before = registry
            .get_declaration(GetDeclarationRequest {
                kind: which.0,
                namespace: which.1.clone(),
                name: which.2.clone(),
                as_of: None,
            })
            .await
            .unwrap()
            .into_inner();

        // One write, however many there are.
        let suspended = registry
            .suspend_declaration(SuspendDeclarationRequest {
                kind: which.0,
                namespace: which.1.clone(),
                name: which.2.clone(),
                reason: "odd calls".into(),
                ..Default::default()
            })
            .await
            .unwrap()
            .into_inner();
        let acked = Instant::now();
        assert_eq!(suspended.revision, before.revision + 1);
        for running in &all {
            assert_eq!(word(&ask(&backend, may(running, suspended.revision)).await), denial);
        }
        assert!(acked.elapsed() < Duration::from_secs(1), "denied after {:?}", acked.elapsed());
        for running in &all {
            while connections.cut(|peer| peer.x5t_s256 == running.shown.presenter) > 0 {
                assert!(acked.elapsed() < Duration::from_secs(5), "a connection is still open");
                tokio::task::yield_now().await;
            }
            assert!(running.runtime.token(AUDIENCE).await.is_err());
            assert!(running.runtime.renew().await.is_err());
        }

        let resumed = registry
            .resume_declaration(ResumeDeclarationRequest {
                kind: which.0,
                namespace: which.1,
                name: which.2,
                reason: "explained".into(),
                ..Default::default()
            })
            .await
            .unwrap()
            .into_inner();
        revision = resumed.revision;
        for running in &all {
            assert_eq!(word(&ask(&backend, may(running, revision)).await), "TOKEN_OUTLIVED");
            assert!(running.runtime.renew().await.is_err(), "the certificate of before");
        }
        // Resumed at once, it stays cut off until everybody has heard of the suspension.
        let ids: Vec<String> = all.iter().map(|running| running.id.clone()).collect();
        wait_past_the_cutoff(&raised, &ids[0]).await;
        all.clear();
        for id in ids {
            all.push(Running::start(&raised, id).await);
        }
    }
    raised.suite.shutdown().await;
}

/// Until an enrolment token that is made outlives the cut-off.
async fn wait_past_the_cutoff(raised: &Raised, id: &str) {
    use legate_wire::credential::CreateEnrolmentTokenRequest;
    use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
    let begin = Instant::now();
    loop {
        let mut admin = CredentialAdminServiceClient::new(raised.operator("credential-issuer"));
        let holder = Some(Holder::AgentId(id.to_owned()));
        let request = CreateEnrolmentTokenRequest { holder, ttl: None, reason: "a test".into() };
        match admin.create_enrolment_token(request).await {
            Ok(_) => return,
            Err(status) => {
                assert_eq!(legate_rpc::Told::from_status(&status).reason, "CUT_OFF_TOO_RECENT");
                assert!(begin.elapsed() < LONG, "it stays cut off");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
