//! Agents that act for others, end to end, on a raised suite: a token handed from one to the next, each time for less, used
//! at a backend, and dead as soon as anything that it rests on is taken back; and everything that must be refused on the way.

mod law;
mod narrowed;
mod person;

use std::time::Instant;

use legate_client::{ClientError, Runtime, enrol};
use legate_ids::{AgentId, Name, SpiffeId};
use legate_rpc::Told;
use legate_wire::audit::QueryEventsRequest;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::credential::agent_credential_service_client::AgentCredentialServiceClient;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::token_service_client::TokenServiceClient;
use legate_wire::credential::{
    ExchangeTokenRequest, ExchangeTokenResponse, IntrospectRequest, IntrospectResponse, IssueTokenRequest, TokenType,
};
use legate_wire::policy::{ActingMode, EvaluateRequest, OnBehalfOf, Resource, Subject, subject};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::delegation_service_client::DelegationServiceClient;
use legate_wire::registry::{
    AgentRef, ApplyDeclarationsRequest, EndDelegationRequest, GetAgentRequest, GrantDelegationRequest, Kind,
    Permission, ResourceSelector, ResumeAgentRequest, RevokeDeclarationRequest, SuspendAgentRequest,
};

use crate::asking::{Shown, ask, at_least, question, word};
use crate::outside::Outside;
use crate::raised::{AUDIENCE, LONG, Payments, Raised, id_of};

/// What the example lacks: two more agents, what they may, and who acts for whom.
const MORE: &str = r#"
apiVersion: legate/v1
kind: Agent
metadata: {name: clerk-bot, namespace: payments}
spec: {agentClass: invoice-worker, purpose: Sorts invoices., environment: PROD, owners: ["user:ada@example.com"], sponsors: ["user:grace@example.com"]}
---
apiVersion: legate/v1
kind: Agent
metadata: {name: scan-bot, namespace: payments}
spec: {agentClass: invoice-worker, purpose: Reads scans., environment: PROD, owners: ["user:ada@example.com"], sponsors: ["user:grace@example.com"]}
---
apiVersion: legate/v1
kind: RoleBinding
metadata: {name: all-read, namespace: payments}
spec:
  role: invoice-reader
  agents: [clerk-bot, scan-bot]
  users: ["user:ada@example.com"]
---
apiVersion: legate/v1
kind: DelegationGrant
metadata: {name: bot-lets-clerk, namespace: payments}
spec:
  delegator: agent:invoice-bot
  delegate: clerk-bot
  permissions: ["invoice:* on Invoice:apollo/*"]
  audiences: ["https://invoices.example.com"]
  purpose: Sorts what came in.
  notAfter: "2036-01-01T00:00:00Z"
  mayRedelegate: true
  maxDepth: 1
---
apiVersion: legate/v1
kind: DelegationGrant
metadata: {name: clerk-lets-scan, namespace: payments}
spec:
  delegator: agent:clerk-bot
  delegate: scan-bot
  permissions: ["invoice:read on Invoice:apollo/10/*"]
  purpose: Reads the scans of October.
  notAfter: "2036-01-01T00:00:00Z"
---
apiVersion: legate/v1
kind: DelegationGrant
metadata: {name: scan-lets-bot, namespace: payments}
spec:
  delegator: agent:scan-bot
  delegate: invoice-bot
  permissions: ["invoice:read on Invoice:*"]
  purpose: Goes round.
  notAfter: "2036-01-01T00:00:00Z"
---
apiVersion: legate/v1
kind: DelegationGrant
metadata: {name: ada-lets-clerk, namespace: payments}
spec:
  delegator: user:ada@example.com
  delegate: clerk-bot
  permissions: ["invoice:read on Invoice:apollo/*"]
  purpose: Answers Ada.
  notAfter: "2036-01-01T00:00:00Z"
"#;

/// The example and more, with everybody enrolled.
pub(crate) struct Scene {
    pub(crate) raised: Raised,
    payments: Payments,
    clerk: Runtime,
    pub(crate) scan: Runtime,
    /// The revision of what was declared.
    revision: u64,
}

impl Scene {
    pub(crate) async fn new() -> Self {
        let raised = Raised::new().await;
        let payments = raised.payments().await;
        let revision = apply(&raised, MORE).await;
        let clerk = runtime(&raised, "clerk-bot").await;
        let scan = runtime(&raised, "scan-bot").await;
        Self { raised, payments, clerk, scan, revision }
    }

    fn bot(&self) -> &Runtime {
        &self.payments.runtime
    }

    pub(crate) fn backend(&self) -> legate_rpc::Client {
        self.raised.dial("policy-decision", self.payments.backend.clone())
    }

    /// The SPIFFE ID of an agent, to which tokens are addressed.
    async fn address(&self, name: &str) -> String {
        let id = AgentId::parse(&agent_id(&self.raised, name).await).unwrap();
        SpiffeId::agent(self.raised.suite.domain(), &Name::parse("payments").unwrap(), &id).to_string()
    }

    /// A token of `invoice-bot`, handed to the clerk.
    async fn handed(&self) -> String {
        self.bot().token(&self.address("clerk-bot").await).await.unwrap().access_token
    }

    /// What the clerk got for it, handed on to the scanner.
    async fn handed_on(&self) -> ExchangeTokenResponse {
        self.clerk.exchange(&self.handed().await, &self.address("scan-bot").await, &[]).await.unwrap()
    }

    async fn suspend(&self, name: &str) -> u64 {
        let agent = Some(AgentRef { id: agent_id(&self.raised, name).await, ..AgentRef::default() });
        let request = SuspendAgentRequest { agent, reason: "odd".into(), ..Default::default() };
        let mut agents = AgentServiceClient::new(self.raised.operator("registry"));
        agents.suspend_agent(request).await.unwrap().into_inner().revision
    }

    pub(crate) async fn introspect(&self, who: legate_mtls::Identity, token: &str) -> IntrospectResponse {
        let mut tokens = TokenServiceClient::new(self.raised.dial("credential-issuer", who));
        tokens.introspect(IntrospectRequest { token: token.to_owned() }).await.unwrap().into_inner()
    }
}

pub(crate) async fn apply(raised: &Raised, text: &str) -> u64 {
    let path = raised.dir.path().join("more.yaml");
    std::fs::write(&path, text).unwrap();
    let documents = legate::manifest::load(&[path]).unwrap_or_else(|e| panic!("{e}"));
    let declarations = documents.into_iter().map(|document| document.declaration).collect();
    let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    let applied = DeclarationServiceClient::new(raised.operator("registry")).apply_declarations(request).await;
    applied.unwrap_or_else(|status| panic!("{:?}", Told::from_status(&status))).into_inner().revision
}

/// Takes a grant back, as an operator.
pub(crate) async fn revoke(raised: &Raised, namespace: &str, name: &str) -> u64 {
    let request = RevokeDeclarationRequest {
        kind: Kind::DelegationGrant.into(),
        namespace: namespace.into(),
        name: name.into(),
        reason: "over".into(),
        ..Default::default()
    };
    let mut registry = DeclarationServiceClient::new(raised.operator("registry"));
    registry.revoke_declaration(request).await.unwrap().into_inner().revision
}

async fn agent_id(raised: &Raised, name: &str) -> String {
    let wanted = AgentRef { namespace: "payments".into(), name: name.into(), ..AgentRef::default() };
    let mut agents = AgentServiceClient::new(raised.operator("registry"));
    let found = agents.get_agent(GetAgentRequest { agent: Some(wanted), as_of: None }).await.unwrap();
    id_of(&found.into_inner().agent.unwrap())
}

async fn runtime(raised: &Raised, name: &str) -> Runtime {
    let token = raised.enrolment_token(Holder::AgentId(agent_id(raised, name).await)).await;
    let issuer = raised.remote("credential-issuer");
    Runtime::new(&issuer, enrol(&issuer, &token).await.unwrap().identity().unwrap()).unwrap()
}

pub(crate) fn shown(runtime: &Runtime, token: &str) -> Shown {
    Shown { token: token.to_owned(), presenter: runtime.identity().x5t_s256().unwrap() }
}

fn reason(refused: Result<ExchangeTokenResponse, ClientError>) -> String {
    match refused {
        Err(ClientError::Refused(told)) => told.reason,
        other => panic!("{other:?}"),
    }
}

/// Who a runtime is, with its instance.
fn copy_of(runtime: &Runtime) -> String {
    runtime.identity().spiffe_id().unwrap().to_string()
}

/// The claims of a token, unproved.
fn claims(token: &str) -> serde_json::Value {
    use base64ct::Encoding as _;
    let payload = base64ct::Base64UrlUnpadded::decode_vec(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_handed_on_and_gives_less_each_time() {
    let scene = Scene::new().await;
    let backend = scene.backend();
    let own = scene.bot().token(AUDIENCE).await.unwrap();
    let allowed = ask(
        &backend,
        at_least(question(&shown(scene.bot(), &own.access_token), "invoice:read", "apollo/1"), scene.revision),
    )
    .await;
    assert_eq!(word(&allowed), "ALLOWED");
    assert_eq!((allowed.acting_mode(), allowed.subject.as_str(), allowed.chain.len()), (ActingMode::Autonomous, "", 0));

    // For the bot, the clerk may what both may and the grant says.
    let handed = scene.handed().await;
    let first = scene.clerk.exchange(&handed, AUDIENCE, &[]).await.unwrap();
    let by_clerk = shown(&scene.clerk, &first.access_token);
    for (action, id, expected) in [
        ("invoice:read", "apollo/11/1", "ALLOWED"),
        // The clerk itself may; the bot, for which it acts, may not.
        ("invoice:read", "zeus/1", "GRANT_NOT_PERMITTED"),
        ("invoice:pay", "apollo/1", "NOT_PERMITTED"),
    ] {
        let answer = ask(&backend, at_least(question(&by_clerk, action, id), first.revision)).await;
        assert_eq!(word(&answer), expected, "{action} {id}: {}", answer.message);
        assert_eq!(answer.acting_mode(), ActingMode::OnBehalfOf);
        assert_eq!(answer.subject, id_of(&scene.payments.agent));
    }

    // For both, the scanner may still less; the answer tells the whole chain.
    let passed = scene.handed_on().await;
    let second = scene.scan.exchange(&passed.access_token, AUDIENCE, &["invoice:read".into()]).await.unwrap();
    let by_scan = shown(&scene.scan, &second.access_token);
    let ids = [agent_id(&scene.raised, "scan-bot").await, agent_id(&scene.raised, "clerk-bot").await];
    for (id, expected) in [("apollo/10/1", "ALLOWED"), ("apollo/11/1", "GRANT_NOT_PERMITTED")] {
        let answer = ask(&backend, at_least(question(&by_scan, "invoice:read", id), second.revision)).await;
        assert_eq!(word(&answer), expected, "{id}: {}", answer.message);
        assert_eq!(answer.chain, ids);
        let grants: Vec<&str> = answer.grants.iter().map(|grant| grant.name.as_str()).collect();
        assert_eq!(grants, ["payments/clerk-lets-scan", "payments/bot-lets-clerk"]);
    }
    let said = claims(&second.access_token);
    assert_eq!(said["sub"], claims(&own.access_token)["sub"], "on the bot's authority");
    // By the very copies that acted.
    assert_eq!(said["act"]["sub"], copy_of(&scene.scan));
    assert_eq!(said["act"]["act"]["sub"], copy_of(&scene.clerk));
    for (runtime, name) in [(&scene.scan, "scan-bot"), (&scene.clerk, "clerk-bot")] {
        assert!(copy_of(runtime).starts_with(&format!("{}/instance/inst_", scene.address(name).await)));
    }
    assert_eq!(said["parents"][0]["jti"], passed.token_id);
    assert_eq!(said["scope"], "invoice:read");
    // It ends with what it was exchanged for, whatever was asked.
    assert!(said["exp"].as_u64() <= claims(&passed.access_token)["exp"].as_u64());

    // Whom it concerns is told, and nobody else.
    let told = scene.introspect(scene.payments.backend.clone(), &second.access_token).await;
    assert!(told.active && told.chain.len() == 2 && told.scopes == ["invoice:read"], "{told:?}");
    assert!(scene.introspect(scene.scan.identity().clone(), &second.access_token).await.active);
    let stranger = scene.introspect(scene.bot().identity().clone(), &second.access_token).await;
    assert_eq!(stranger, IntrospectResponse::default());

    // And it is on record, with everybody.
    let mut log = QueryServiceClient::new(scene.raised.operator("audit-collector"));
    let begin = Instant::now();
    loop {
        let request = QueryEventsRequest { r#type: "token.exchanged".into(), ..QueryEventsRequest::default() };
        let events = log.query_events(request).await.unwrap().into_inner().events;
        let found = events.iter().filter_map(|entry| entry.event.as_ref()).any(|event| {
            let parents = &event.details["parent_tokens"];
            event.chain.len() == 2 && event.subject == said["sub"] && parents.contains(&passed.token_id)
        });
        if found {
            break;
        }
        assert!(begin.elapsed() < LONG, "the exchange is not in the log");
        tokio::task::yield_now().await;
    }
    scene.raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_widen_a_chain_is_refused() {
    let scene = Scene::new().await;
    let (clerk, scan) = (scene.address("clerk-bot").await, scene.address("scan-bot").await);
    let handed = scene.handed().await;
    // Whoever it was not handed to has nothing of it: a thief with a grant, the holder itself, and what a backend was shown.
    assert_eq!(reason(scene.scan.exchange(&handed, AUDIENCE, &[]).await), "SUBJECT_TOKEN_NOT_ADDRESSED");
    assert_eq!(reason(scene.bot().exchange(&handed, AUDIENCE, &[]).await), "SUBJECT_TOKEN_NOT_ADDRESSED");
    let used = scene.bot().token(AUDIENCE).await.unwrap().access_token;
    assert_eq!(reason(scene.clerk.exchange(&used, AUDIENCE, &[]).await), "SUBJECT_TOKEN_NOT_ADDRESSED");
    // Its own it requests.
    let own = scene.clerk.token(&clerk).await.unwrap().access_token;
    assert_eq!(reason(scene.clerk.exchange(&own, AUDIENCE, &[]).await), "EXCHANGE_CYCLE");
    // An agent that nobody let act.
    let for_scan = scene.bot().token(&scan).await.unwrap().access_token;
    assert_eq!(reason(scene.scan.exchange(&for_scan, AUDIENCE, &[]).await), "GRANT_MISSING");
    // Other audiences, and nobody's.
    for audience in [
        "https://other.example.com",
        "spiffe://elsewhere.example/ns/payments/agent/x",
        &clerk.replace("dev.legate", "elsewhere.example"),
    ] {
        assert_eq!(reason(scene.clerk.exchange(&handed, audience, &[]).await), "INVALID_TARGET", "{audience}");
    }
    // Forged, foreign, and none.
    let mut forged = handed.clone();
    forged.replace_range(forged.len() - 6.., "AAAAAA");
    for bad in ["x", "a.b.c", &forged, &handed[1..]] {
        assert_eq!(reason(scene.clerk.exchange(bad, AUDIENCE, &[]).await), "SUBJECT_TOKEN_INVALID", "{bad}");
    }

    // A wider scope than the token that was handed over.
    let narrow =
        IssueTokenRequest { audience: clerk.clone(), scopes: vec!["invoice:read".into()], ..Default::default() };
    let mut issuer =
        AgentCredentialServiceClient::new(scene.raised.dial("credential-issuer", scene.bot().identity().clone()));
    let narrow = issuer.issue_token(narrow).await.unwrap().into_inner().access_token;
    let wider = scene.clerk.exchange(&narrow, AUDIENCE, &["invoice:pay".into()]).await;
    assert_eq!(reason(wider), "INVALID_SCOPE");
    let same = scene.clerk.exchange(&narrow, AUDIENCE, &[]).await.unwrap();
    assert_eq!(same.scopes, ["invoice:read"], "what it was narrowed to stays");

    // Longer than it: cut.
    let short = IssueTokenRequest {
        audience: clerk.clone(),
        ttl: Some(prost_types::Duration { seconds: 30, nanos: 0 }),
        ..Default::default()
    };
    let short = issuer.issue_token(short).await.unwrap().into_inner();
    let mut as_clerk =
        AgentCredentialServiceClient::new(scene.raised.dial("credential-issuer", scene.clerk.identity().clone()));
    let longer = ExchangeTokenRequest {
        subject_token: short.access_token.clone(),
        subject_token_type: TokenType::AccessToken.into(),
        audience: AUDIENCE.into(),
        ttl: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        ..Default::default()
    };
    let longer_ = as_clerk.exchange_token(longer.clone()).await.unwrap().into_inner();
    assert_eq!(longer_.expire_time, short.expire_time);

    // An actor token says the same as the certificate, or it is refused; and only with its type.
    let with = |actor: &str, of: TokenType| ExchangeTokenRequest {
        actor_token: actor.into(),
        actor_token_type: of.into(),
        ..longer.clone()
    };
    as_clerk.exchange_token(with(&own, TokenType::AccessToken)).await.unwrap();
    for (actor, of, expected) in [
        (handed.as_str(), TokenType::AccessToken, "ACTOR_TOKEN_INVALID"),
        (used.as_str(), TokenType::AccessToken, "ACTOR_TOKEN_INVALID"),
        ("x", TokenType::AccessToken, "ACTOR_TOKEN_INVALID"),
        (own.as_str(), TokenType::Unspecified, "INVALID_ARGUMENT"),
        ("", TokenType::AccessToken, "INVALID_ARGUMENT"),
    ] {
        let refused = as_clerk.exchange_token(with(actor, of)).await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, expected, "{actor}");
    }

    // One more than the grants let follow, and back to where it began.
    let passed = scene.handed_on().await.access_token;
    let bot = scene.address("invoice-bot").await;
    assert_eq!(reason(scene.scan.exchange(&passed, &bot, &[]).await), "GRANT_MISSING");
    let unknown = scene.scan.exchange(&passed, &clerk, &[]).await;
    assert_eq!(reason(unknown), "GRANT_MISSING");
    // With another's certificate nothing is opened.
    let second = scene.scan.exchange(&passed, AUDIENCE, &[]).await.unwrap();
    let stolen = shown(&scene.clerk, &second.access_token);
    let answer =
        ask(&scene.backend(), at_least(question(&stolen, "invoice:read", "apollo/10/1"), second.revision)).await;
    assert_eq!(word(&answer), "TOKEN_BINDING");
    // And what is addressed to an agent opens nothing at a backend.
    let answer =
        ask(&scene.backend(), question(&shown(&scene.bot().clone(), &handed), "invoice:read", "apollo/10/1")).await;
    assert_eq!(word(&answer), "TOKEN_AUDIENCE");
    scene.raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_takes_everything_below_with_it() {
    let scene = Scene::new().await;
    let backend = scene.backend();
    let passed = scene.handed_on().await;
    let second = scene.scan.exchange(&passed.access_token, AUDIENCE, &[]).await.unwrap();
    let by_scan = shown(&scene.scan, &second.access_token);
    let may = |revision| at_least(question(&by_scan, "invoice:read", "apollo/10/1"), revision);
    assert_eq!(word(&ask(&backend, may(second.revision)).await), "ALLOWED");

    // The bot, at the very beginning, is suspended.
    let suspended = scene.suspend("invoice-bot").await;
    assert_eq!(word(&ask(&backend, may(suspended)).await), "DELEGATOR_STOPPED");
    let begin = Instant::now();
    while scene.introspect(scene.scan.identity().clone(), &second.access_token).await.active {
        assert!(begin.elapsed() < LONG, "it is still active");
        tokio::task::yield_now().await;
    }
    assert_eq!(reason(scene.scan.exchange(&passed.access_token, AUDIENCE, &[]).await), "SUBJECT_TOKEN_FALLEN");
    // Resumed, what was exchanged before stays dead.
    let agent = Some(AgentRef { id: id_of(&scene.payments.agent), ..AgentRef::default() });
    let request = ResumeAgentRequest { agent, reason: "fine".into(), ..Default::default() };
    let mut agents = AgentServiceClient::new(scene.raised.operator("registry"));
    let resumed = agents.resume_agent(request).await.unwrap().into_inner().revision;
    assert_eq!(word(&ask(&backend, may(resumed)).await), "PARENT_TOKEN_FALLEN");

    // A grant in the middle is revoked.
    let bot = runtime(&scene.raised, "invoice-bot").await;
    let handed = bot.token(&scene.address("clerk-bot").await).await.unwrap().access_token;
    let first = scene.clerk.exchange(&handed, AUDIENCE, &[]).await.unwrap();
    let by_clerk = shown(&scene.clerk, &first.access_token);
    let may = |revision| at_least(question(&by_clerk, "invoice:read", "apollo/10/1"), revision);
    assert_eq!(word(&ask(&backend, may(first.revision)).await), "ALLOWED");
    let request = RevokeDeclarationRequest {
        kind: Kind::DelegationGrant.into(),
        namespace: "payments".into(),
        name: "bot-lets-clerk".into(),
        reason: "over".into(),
        ..Default::default()
    };
    let mut registry = DeclarationServiceClient::new(scene.raised.operator("registry"));
    let revoked = registry.revoke_declaration(request).await.unwrap().into_inner().revision;
    assert_eq!(word(&ask(&backend, may(revoked)).await), "GRANT_NOT_IN_FORCE");
    assert_eq!(reason(scene.clerk.exchange(&handed, AUDIENCE, &[]).await), "GRANT_MISSING");
    // Declared anew under its name it is another one: the old token stays dead, a new exchange works.
    let anew = apply(&scene.raised, MORE).await;
    assert_eq!(word(&ask(&backend, may(anew)).await), "GRANT_NOT_IN_FORCE");
    let first = scene.clerk.exchange(&handed, AUDIENCE, &[]).await.unwrap();
    let by_clerk = shown(&scene.clerk, &first.access_token);
    let may = at_least(question(&by_clerk, "invoice:read", "apollo/10/1"), first.revision);
    assert_eq!(word(&ask(&backend, may).await), "ALLOWED");
    scene.raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_asks_what_an_agent_may_for_a_person() {
    let scene = Scene::new().await;
    let policy = scene.raised.operator("policy-decision");
    let id = agent_id(&scene.raised, "clerk-bot").await;
    let about = |subject: &str, action: &str, invoice: &str| EvaluateRequest {
        subject: Some(Subject {
            agent: Some(subject::Agent::AgentId(id.clone())),
            on_behalf_of: Some(OnBehalfOf { subject: subject.into(), ..OnBehalfOf::default() }),
            ..Subject::default()
        }),
        action: action.into(),
        resource: Some(Resource { r#type: "Invoice".into(), id: invoice.into(), attributes: None }),
        at_least_revision: scene.revision,
        ..EvaluateRequest::default()
    };
    for (subject, action, invoice, expected) in [
        ("user:ada@example.com", "invoice:read", "apollo/1", "ALLOWED"),
        ("user:ada@example.com", "invoice:read", "zeus/1", "GRANT_NOT_PERMITTED"),
        ("user:eve@example.com", "invoice:read", "apollo/1", "CHAIN_INVALID"),
        ("agent:invoice-bot", "invoice:read", "apollo/1", "ALLOWED"),
    ] {
        let answer = ask(&policy, about(subject, action, invoice)).await;
        assert_eq!(word(&answer), expected, "{subject} {action} {invoice}: {}", answer.message);
        assert_eq!(answer.acting_mode(), ActingMode::OnBehalfOf);
    }
    // A backend that may not name a subject may not say for whom one acts either.
    let token = scene.clerk.token(AUDIENCE).await.unwrap().access_token;
    let mut own = question(&shown(&scene.clerk, &token), "invoice:read", "apollo/1");
    own.subject.as_mut().unwrap().on_behalf_of =
        Some(OnBehalfOf { subject: "user:ada@example.com".into(), ..OnBehalfOf::default() });
    let refused =
        legate_wire::policy::decision_service_client::DecisionServiceClient::new(scene.backend()).evaluate(own).await;
    assert_eq!(Told::from_status(&refused.unwrap_err()).reason, "SUBJECT_NOT_PROVEN");
    scene.raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_lets_another_act_and_ends_it_itself() {
    let scene = Scene::new().await;
    let line = |who: &Runtime| DelegationServiceClient::new(scene.raised.dial("registry", who.identity().clone()));
    let wish = GrantDelegationRequest {
        name: "bot-lets-scan".into(),
        delegate: "scan-bot".into(),
        permissions: vec![permission("invoice:read", "apollo/10/*")],
        purpose: "Reads the scans of October.".into(),
        ttl: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        ..GrantDelegationRequest::default()
    };
    // More than it has it does not give.
    for wider in [permission("invoice:read", "*"), permission("invoice:pay", "apollo/10/*")] {
        let wider = GrantDelegationRequest { permissions: vec![wider], ..wish.clone() };
        let refused = line(scene.bot()).grant_delegation(wider).await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "DELEGATION_TOO_WIDE");
    }
    line(scene.bot()).grant_delegation(wish).await.unwrap();
    let handed = scene.bot().token(&scene.address("scan-bot").await).await.unwrap().access_token;
    let acts = scene.scan.exchange(&handed, AUDIENCE, &[]).await.unwrap();
    let by_scan = shown(&scene.scan, &acts.access_token);
    let may = |revision| at_least(question(&by_scan, "invoice:read", "apollo/10/1"), revision);
    let answer = ask(&scene.backend(), may(acts.revision)).await;
    assert_eq!(word(&answer), "ALLOWED", "{}", answer.message);

    // Whoever acts by it does not end it for the other; the other does, and it is over at that revision.
    let over = EndDelegationRequest { name: "bot-lets-scan".into(), reason: "done".into(), ..Default::default() };
    let refused = line(&scene.scan).end_delegation(over.clone()).await.unwrap_err();
    assert_eq!(Told::from_status(&refused).reason, "NOT_ITS_GRANT");
    let ended = line(scene.bot()).end_delegation(over).await.unwrap().into_inner();
    assert_eq!(word(&ask(&scene.backend(), may(ended.revision)).await), "GRANT_NOT_IN_FORCE");
    scene.raised.suite.shutdown().await;
}

/// Ada's directory, which the namespace believes about her, and about an agent.
pub(crate) fn directory(outside: &Outside) -> String {
    let (issuer, jwks) = (outside.issuer(), outside.jwks());
    format!(
        r#"
apiVersion: legate/v1
kind: TrustedIssuer
metadata: {{name: directory, namespace: payments}}
spec:
  issuer: {issuer}
  audiences: [assistant]
  jwks: '{jwks}'
  rules:
    - {{claims: {{hd: example.com}}, userClaim: email}}
    - {{claims: {{sub: scanner}}, agent: scan-bot}}
"#
    )
}

pub(crate) fn permission(action: &str, id: &str) -> Permission {
    let resource = ResourceSelector { r#type: "Invoice".into(), id: id.into(), ..ResourceSelector::default() };
    Permission { action: action.into(), resource: Some(resource) }
}
