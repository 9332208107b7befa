//! Step-up over real mutual TLS: an agent asks for what a policy holds back, a person decides, a backend is told; and
//! everything that must be refused on the way.

use legate_client::Runtime;
use legate_ids::{ApprovalId, Name, SpiffeId};
use legate_rpc::{Client, Told};
use legate_wire::audit::QueryEventsRequest;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::credential::IssueTokenRequest;
use legate_wire::credential::agent_credential_service_client::AgentCredentialServiceClient;
use legate_wire::policy::{EvaluateResponse, ReasonKind};
use legate_wire::registry::AgentRef;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::approval_relay_service_client::ApprovalRelayServiceClient;
use legate_wire::registry::approval_request_service_client::ApprovalRequestServiceClient;
use legate_wire::registry::approval_service_client::ApprovalServiceClient;
use legate_wire::registry::approval_use_service_client::ApprovalUseServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    ApplyDeclarationsRequest, Approval, ApprovalState, DenyApprovalRequest, GetOwnApprovalRequest,
    GrantApprovalRequest, Permission, RelayApprovalRequest, RequestApprovalRequest, ResourceSelector,
    RevokeApprovalRequest, SuspendAgentRequest, UseApprovalsRequest,
};

use crate::asking::{Shown, ask, at_least, question, word};
use crate::raised::{AUDIENCE, Payments, Raised, certify, id_of};

/// What the example lacks: a policy that holds reading back, something that it does not hold back, another agent, and who approves.
const MORE: &str = r#"
apiVersion: legate/v1
kind: Role
metadata: {name: invoice-lister, namespace: payments}
spec: {permissions: ["invoice:list on Invoice:*"]}
---
apiVersion: legate/v1
kind: RoleBinding
metadata: {name: invoice-bot-lists, namespace: payments}
spec: {role: invoice-lister, agents: [invoice-bot]}
---
apiVersion: legate/v1
kind: Policy
metadata: {name: four-eyes, namespace: payments}
spec:
  description: Nobody reads an invoice alone.
  mode: ENFORCE
  cedar: |
    @approval("reading of invoices")
    forbid(principal, action == Action::"invoice:read", resource);
---
apiVersion: legate/v1
kind: Agent
metadata: {name: clerk-bot, namespace: payments}
spec: {agentClass: invoice-worker, purpose: Sorts invoices., environment: PROD, owners: ["user:ada@example.com"], sponsors: ["user:grace@example.com"]}
---
apiVersion: legate/v1
kind: OperatorBinding
metadata: {name: approvers, namespace: payments}
spec: {operators: [paula], role: APPROVER}
---
apiVersion: legate/v1
kind: Namespace
metadata: {name: sales}
spec: {}
---
apiVersion: legate/v1
kind: OperatorBinding
metadata: {name: approvers, namespace: sales}
spec: {operators: [sam], role: APPROVER}
"#;

fn reason<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, tonic::Status>) -> String {
    Told::from_status(&answer.unwrap_err()).reason
}

fn id(approval: &Approval) -> String {
    approval.metadata.as_ref().unwrap().id.clone()
}

fn state(approval: &Approval) -> ApprovalState {
    approval.status.as_ref().unwrap().state()
}

struct Scene {
    raised: Raised,
    payments: Payments,
    revision: u64,
}

impl Scene {
    async fn new() -> Self {
        Self::with(MORE).await
    }

    async fn with(more: &str) -> Self {
        let raised = Raised::new().await;
        let payments = raised.payments().await;
        let file = raised.dir.path().join("more.yaml");
        std::fs::write(&file, more).unwrap();
        let documents = legate::manifest::load(&[file]).unwrap_or_else(|e| panic!("{e}"));
        let declarations = documents.into_iter().map(|document| document.declaration).collect();
        let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
        let mut registry = DeclarationServiceClient::new(raised.operator("registry"));
        let revision = registry.apply_declarations(request).await.unwrap().into_inner().revision;
        Self { raised, payments, revision }
    }

    fn operator(&self, name: &str) -> ApprovalServiceClient<Client> {
        let id = SpiffeId::operator(self.raised.suite.domain(), &Name::parse(name).unwrap());
        ApprovalServiceClient::new(self.raised.dial("registry", certify(&self.raised.services_ca(), &id)))
    }

    fn agent(&self, runtime: &Runtime) -> ApprovalRequestServiceClient<Client> {
        ApprovalRequestServiceClient::new(self.raised.dial("registry", runtime.identity().clone()))
    }

    fn bot(&self) -> ApprovalRequestServiceClient<Client> {
        self.agent(&self.payments.runtime)
    }

    /// What the backend is told of a token of the agent, at a revision or later.
    async fn told(&self, revision: u64) -> EvaluateResponse {
        let presenter = self.payments.runtime.identity().x5t_s256().unwrap();
        let backend = self.raised.dial("policy-decision", self.payments.backend.clone());
        let begin = std::time::Instant::now();
        loop {
            let token = self.payments.runtime.token(AUDIENCE).await.unwrap();
            let shown = Shown { token: token.access_token, presenter };
            let answer = ask(&backend, at_least(question(&shown, "invoice:read", "apollo/1001"), revision)).await;
            // A token that was issued before the issuer heard of that revision says what could be done before.
            if word(&answer) != "TOKEN_SCOPE" || token.revision >= revision || begin.elapsed() > crate::raised::LONG {
                return answer;
            }
        }
    }
}

fn wish() -> RequestApprovalRequest {
    let resource = ResourceSelector { r#type: "Invoice".into(), id: "apollo/*".into(), ..Default::default() };
    RequestApprovalRequest {
        permissions: vec![Permission { action: "invoice:read".into(), resource: Some(resource) }],
        audience: AUDIENCE.into(),
        purpose: "reads what came in".into(),
        reason: "the month ends".into(),
        ..RequestApprovalRequest::default()
    }
}

fn grant(approval_id: &str) -> GrantApprovalRequest {
    GrantApprovalRequest { approval_id: approval_id.into(), reason: "looked at it".into(), ..Default::default() }
}

fn deny(approval_id: &str) -> DenyApprovalRequest {
    DenyApprovalRequest { approval_id: approval_id.into(), reason: "not today".into(), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_asks_somebody_denies_somebody_approves_and_it_is_taken_back() {
    let scene = Scene::new().await;
    let held = scene.told(scene.revision).await;
    assert_eq!(word(&held), "APPROVAL_REQUIRED", "{held:?}");
    assert_eq!(held.reasons[0].kind(), ReasonKind::ApprovalPolicy);
    assert!(held.message.contains("ask for an approval of invoice:read on Invoice:apollo/1001"), "{}", held.message);
    // Nor does a token say what is held back whatever it is done to.
    let mut issuer = AgentCredentialServiceClient::new(
        scene.raised.dial("credential-issuer", scene.payments.runtime.identity().clone()),
    );
    let scoped =
        || IssueTokenRequest { audience: AUDIENCE.into(), scopes: vec!["invoice:read".into()], ..Default::default() };
    assert_eq!(reason(issuer.issue_token(scoped()).await), "APPROVAL_REQUIRED");

    let first = scene.bot().request_approval(wish()).await.unwrap().into_inner().approval.unwrap();
    assert_eq!(state(&first), ApprovalState::Pending);
    assert_eq!(reason(scene.operator("dev").grant_approval(grant(&id(&first))).await), "SELF_APPROVAL");
    let denied = scene.operator("paula").deny_approval(deny(&id(&first))).await.unwrap().into_inner();
    let own = GetOwnApprovalRequest { approval_id: id(&first) };
    let seen = scene.bot().get_own_approval(own).await.unwrap().into_inner().approval.unwrap();
    assert_eq!((state(&seen), seen.status.unwrap().decide_reason.as_str()), (ApprovalState::Denied, "not today"));
    assert_eq!(word(&scene.told(denied.revision).await), "APPROVAL_REQUIRED");
    assert_eq!(reason(scene.operator("paula").grant_approval(grant(&id(&first))).await), "APPROVAL_DECIDED");

    let second = scene.bot().request_approval(wish()).await.unwrap().into_inner().approval.unwrap();
    assert_ne!(id(&second), id(&first));
    let granted = scene.operator("paula").grant_approval(grant(&id(&second))).await.unwrap().into_inner();
    let allowed = scene.told(granted.revision).await;
    assert_eq!(word(&allowed), "ALLOWED", "{allowed:?}");
    let by = allowed.reasons.iter().find(|reason| reason.kind() == ReasonKind::Approval).unwrap();
    assert_eq!(by.id, id(&second));
    assert!(by.text.contains("/legate/operator/paula"), "{by:?}");
    let issued = issuer.issue_token(scoped()).await.unwrap().into_inner();
    assert_eq!(issued.scopes, ["invoice:read"]);
    // The log tells the whole story, and the decision names what it rests on.
    let mut audit = QueryServiceClient::new(scene.raised.operator("audit-collector"));
    let found = async {
        loop {
            let request = QueryEventsRequest { decision_id: allowed.decision_id.clone(), ..Default::default() };
            let page = audit.query_events(request).await.unwrap().into_inner();
            let events = page.events.into_iter().filter_map(|one| one.event);
            let told = events.into_iter().any(|event| event.details.get("approvals") == Some(&id(&second)));
            if told {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(crate::raised::LONG, found).await.unwrap();

    let request = RevokeApprovalRequest { approval_id: id(&second), reason: "enough".into(), ..Default::default() };
    let revoked = scene.operator("dev").revoke_approval(request).await.unwrap().into_inner();
    assert_eq!(word(&scene.told(revoked.revision).await), "APPROVAL_REQUIRED");
    scene.raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_agree_to_something_that_is_done_once() {
    let annotated = "@approval(\"reading of invoices\") @approvers(\"2\") @single_use";
    let more = MORE.replace("@approval(\"reading of invoices\")", annotated).replace("[paula]", "[paula, peter]");
    let scene = Scene::with(&more).await;
    let asked = scene.bot().request_approval(wish()).await.unwrap().into_inner().approval.unwrap();
    let spec = asked.spec.clone().unwrap();
    assert_eq!((spec.approvers, spec.single_use), (2, true));
    let first = scene.operator("paula").grant_approval(grant(&id(&asked))).await.unwrap().into_inner();
    assert_eq!(state(first.approval.as_ref().unwrap()), ApprovalState::Pending);
    assert_eq!(word(&scene.told(first.revision).await), "APPROVAL_REQUIRED");
    assert_eq!(reason(scene.operator("paula").grant_approval(grant(&id(&asked))).await), "APPROVER_NOT_ANOTHER");
    let second = scene.operator("peter").grant_approval(grant(&id(&asked))).await.unwrap().into_inner();
    assert_eq!(state(second.approval.as_ref().unwrap()), ApprovalState::Approved);

    // Nobody but policy-decision uses it up.
    let mine = || UseApprovalsRequest {
        decision_id: legate_ids::DecisionId::from_parts(1, [1; 10]).to_string(),
        approval_ids: vec![id(&asked)],
    };
    let strangers = [
        scene.raised.operator("registry"),
        scene.raised.dial("registry", scene.payments.runtime.identity().clone()),
        scene.raised.dial("registry", scene.payments.backend.clone()),
        scene.raised.dial("registry", scene.raised.service("credential-issuer")),
    ];
    for stranger in strangers {
        assert_eq!(reason(ApprovalUseServiceClient::new(stranger).use_approvals(mine()).await), "ACCESS_DENIED");
    }
    // Many ask at once, with tokens of their own: one is let through.
    let all = futures_util::future::join_all((0..12).map(|_| scene.told(second.revision))).await;
    let won: Vec<_> = all.iter().filter(|answer| word(answer) == "ALLOWED").collect();
    let [won] = won[..] else { panic!("{all:?}") };
    assert_eq!(won.valid_until, None);
    assert!(all.iter().all(|answer| matches!(word(answer), "ALLOWED" | "APPROVAL_REQUIRED")), "{all:?}");
    let own = GetOwnApprovalRequest { approval_id: id(&asked) };
    let seen = scene.bot().get_own_approval(own).await.unwrap().into_inner().approval.unwrap();
    assert_eq!((state(&seen), seen.status.unwrap().used_by), (ApprovalState::Used, won.decision_id.clone()));
    assert_eq!(word(&scene.told(second.revision).await), "APPROVAL_REQUIRED");
    scene.raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_ask_see_or_decide_is_refused() {
    let scene = Scene::new().await;
    let asked = scene.bot().request_approval(wish()).await.unwrap().into_inner().approval.unwrap();
    let (mut paula, mut sam) = (scene.operator("paula"), scene.operator("sam"));
    // Another namespace's approver; nobody; a text that is none; twice.
    assert_eq!(reason(sam.grant_approval(grant(&id(&asked))).await), "APPROVAL_NOT_FOUND");
    let never = ApprovalId::from_parts(1, [1; 10]).to_string();
    assert_eq!(reason(paula.grant_approval(grant(&never)).await), "APPROVAL_NOT_FOUND");
    for bad in ["", "apr_", "../../etc", "agt_01h455vb4pex5vsknk084sn02q", "apr_01h455vb4pex5vsknk084sn02q\u{0}"] {
        assert_eq!(reason(paula.grant_approval(grant(bad)).await), "INVALID_ARGUMENT", "{bad:?}");
    }
    for text in [String::new(), "x".repeat(1_025), "\u{1b}[2Jfine".into(), "a\u{202e}b".into()] {
        let request = GrantApprovalRequest { reason: text.clone(), ..grant(&id(&asked)) };
        assert_eq!(reason(paula.grant_approval(request).await), "INVALID_ARGUMENT", "{text:?}");
        let request = RequestApprovalRequest { purpose: text.clone(), ..wish() };
        assert_eq!(reason(scene.bot().request_approval(request).await), "INVALID_ARGUMENT", "{text:?}");
        if !text.is_empty() {
            let request = RequestApprovalRequest { binding_message: text, ..wish() };
            assert_eq!(reason(scene.bot().request_approval(request).await), "INVALID_ARGUMENT");
        }
    }
    let huge = RequestApprovalRequest { purpose: "x".repeat(2 << 20), ..wish() };
    assert!(scene.bot().request_approval(huge).await.is_err());
    // Another agent's request is not there, and only agents ask; nobody but the issuer asks in an agent's name.
    let wanted = AgentRef { namespace: "payments".into(), name: "clerk-bot".into(), ..AgentRef::default() };
    let mut agents = AgentServiceClient::new(scene.raised.operator("registry"));
    let request = legate_wire::registry::GetAgentRequest { agent: Some(wanted), as_of: None };
    let clerk = id_of(&agents.get_agent(request).await.unwrap().into_inner().agent.unwrap());
    let holder = legate_wire::credential::create_enrolment_token_request::Holder::AgentId(clerk);
    let token = scene.raised.enrolment_token(holder).await;
    let remote = scene.raised.remote("credential-issuer");
    let clerk = legate_client::enrol(&remote, &token).await.unwrap();
    let clerk = Runtime::new(&remote, clerk.identity().unwrap()).unwrap();
    let own = || GetOwnApprovalRequest { approval_id: id(&asked) };
    assert_eq!(reason(scene.agent(&clerk).get_own_approval(own()).await), "APPROVAL_NOT_FOUND");
    let backend = scene.raised.dial("registry", scene.payments.backend.clone());
    assert_eq!(reason(ApprovalRequestServiceClient::new(backend).request_approval(wish()).await), "ACCESS_DENIED");
    let as_agent = scene.raised.dial("registry", scene.payments.runtime.identity().clone());
    let decided = ApprovalServiceClient::new(as_agent.clone()).grant_approval(grant(&id(&asked))).await;
    assert_eq!(reason(decided), "ACCESS_DENIED", "no agent approves anything");
    let relayed = RelayApprovalRequest { agent_id: id_of(&scene.payments.agent), ask: Some(wish()) };
    assert_eq!(reason(ApprovalRelayServiceClient::new(as_agent).relay_approval(relayed).await), "ACCESS_DENIED");
    // Many decide at once: one of them does.
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut paula, request) = (paula.clone(), grant(&id(&asked)));
        all.spawn(async move { paula.grant_approval(request).await.is_ok() });
    }
    let won = all.join_all().await;
    assert_eq!(won.into_iter().filter(|won| *won).count(), 1);
    assert_eq!(word(&scene.told(scene.revision).await), "ALLOWED");
    // Suspended, it has nothing, and what it asks for is nobody's to approve.
    let agent = Some(AgentRef { id: id_of(&scene.payments.agent), ..AgentRef::default() });
    let request = SuspendAgentRequest { agent, reason: "odd".into(), ..Default::default() };
    let suspended = AgentServiceClient::new(scene.raised.operator("registry")).suspend_agent(request).await;
    assert!(suspended.is_ok());
    assert_eq!(reason(scene.bot().request_approval(wish()).await), "CALLER_NOT_ACTIVE");
    scene.raised.suite.shutdown().await;
}
