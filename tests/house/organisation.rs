//! A whole organisation over real mutual TLS: whatever drift is planted in thousands of agents is found, and nothing else; and a campaign over all of them
//! ends with each agent's authority as was decided.

mod planted;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use legate::dev::{Options, Suite};
use legate_clock::{Clock, SystemClock, Timestamp};
use legate_ids::{EventId, Name, SpiffeId};
use legate_mtls::Identity;
use legate_mtls::pki::Leaf;
use legate_rpc::{Client, Told};
use legate_wire::audit::ingest_service_client::IngestServiceClient;
use legate_wire::audit::{AppendEventsRequest, AuditEvent, Emitter, EventResource, Outcome};
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{CreateClientSecretRequest, ListCredentialHealthRequest};
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::drift_service_client::DriftServiceClient;
use legate_wire::policy::{DriftFinding, DriftType, ListDriftRequest, WhatCanRequest};
use legate_wire::registry as wire;
use prost::Message as _;
use wire::agent_service_client::AgentServiceClient;
use wire::declaration::Object;
use wire::declaration_service_client::DeclarationServiceClient;
use wire::departure_service_client::DepartureServiceClient;
use wire::review_service_client::ReviewServiceClient;
use wire::usage_service_client::UsageServiceClient;
use wire::{AgentRef, ReviewDecision, ReviewItem, ReviewState, ReviewedThing};

use self::planted::{Act, Chance, Found, NAMESPACE, Organisation, Planted};
use crate::raised::{Raised, certify};

const DAY: u64 = 86_400;
/// The log begins so many days ago: no longer than the certificates of the suite's own services live, which goes by the machine's clock.
const HEARD: u64 = 88;
/// For so many days something has to be silent.
const SILENT: u32 = 14;
/// Objects of one apply, items of one decision, and events of one request.
const SOME: usize = 250;
const DECIDED: usize = 500;
const EVENTS: usize = 1_024;
/// No step takes longer, on a slow machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(300);

/// The machine's clock, so long ago.
#[derive(Debug)]
struct Earlier(SystemClock);

impl Clock for Earlier {
    fn now(&self) -> Timestamp {
        self.0.now().minus(Duration::from_secs(HEARD * DAY))
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

fn span(days: u64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: (days * DAY).cast_signed(), nanos: 0 })
}

/// A request that may take long.
fn slow<M>(message: M) -> tonic::Request<M> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(Duration::from_secs(25));
    request
}

fn done<T>(answer: Result<tonic::Response<T>, tonic::Status>) -> T {
    answer.unwrap_or_else(|status| panic!("{:?}", Told::from_status(&status))).into_inner()
}

async fn apply(registry: &Client, objects: Vec<Object>) -> u64 {
    let mut revision = 0;
    for some in objects.chunks(SOME) {
        let declarations = some.iter().map(|one| wire::Declaration { object: Some(one.clone()) }).collect();
        let request = wire::ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
        let mut client = DeclarationServiceClient::new(registry.clone());
        revision = done(client.apply_declarations(slow(request)).await).revision;
    }
    revision
}

/// The ids of all agents, by name.
async fn ids(registry: &Client) -> BTreeMap<String, String> {
    let mut ask = wire::ListAgentsRequest { namespace: NAMESPACE.into(), page_size: 1_000, ..Default::default() };
    let mut found = BTreeMap::new();
    loop {
        let page = done(AgentServiceClient::new(registry.clone()).list_agents(slow(ask.clone())).await);
        let named = page.agents.into_iter().filter_map(|agent| agent.metadata);
        found.extend(named.map(|metadata| (metadata.name, metadata.id)));
        ask.page_token = page.next_page_token;
        if ask.page_token.is_empty() {
            return found;
        }
    }
}

/// Another operator than the suite's own, with a certificate by a clock.
fn operator(raised: &Raised, name: &str, clock: &dyn Clock) -> Identity {
    let id = SpiffeId::operator(raised.suite.domain(), &Name::parse(name).unwrap());
    let leaf = Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: Duration::from_secs(3_600) };
    let issued = raised.services_ca().issue(&leaf, clock.now()).unwrap();
    Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap()
}

async fn secret(issuer: &Client, agent_id: &str, days: u64) {
    let ask = CreateClientSecretRequest { agent_id: agent_id.into(), ttl: span(days), ..Default::default() };
    done(CredentialAdminServiceClient::new(issuer.clone()).create_client_secret(ask).await);
}

/// Everything as it was declared a quarter ago: by a pipeline, some of it by hand, some agents approved before they got more.
async fn long_ago(organisation: &Organisation, dir: &tempfile::TempDir) {
    let clock = Arc::new(Earlier(SystemClock::new()));
    let options = Options { clock: clock.clone(), ..Options::in_dir(&dir.path().join("suite")) };
    let suite = Box::pin(Suite::start(&options)).await.unwrap();
    let raised = Raised { suite, dir: tempfile::tempdir().unwrap() };
    let (registry, issuer) = (raised.operator("registry"), raised.operator("credential-issuer"));
    apply(&registry, organisation.declared.clone()).await;
    let ids = ids(&registry).await;
    assert_eq!(ids.len(), organisation.agents.len());
    let mut paula = AgentServiceClient::new(raised.dial("registry", operator(&raised, "paula", &*clock)));
    for (name, planted) in &organisation.agents {
        let agent = Some(AgentRef { id: ids[name].clone(), ..AgentRef::default() });
        match planted {
            Planted::Approved | Planted::BeyondApproval => {
                let reason = "looked at".to_owned();
                let ask =
                    wire::ApproveAgentRequest { agent: agent.clone(), reason: reason.clone(), ..Default::default() };
                done(paula.approve_agent(ask).await);
                done(paula.activate_agent(wire::ActivateAgentRequest { agent, reason, ..Default::default() }).await);
            }
            Planted::IdleSecret => secret(&issuer, &ids[name], 365).await,
            // Ten days are left of it, and twenty are the time to rotate it.
            Planted::OldSecret => secret(&issuer, &ids[name], HEARD + 10).await,
            _ => {}
        }
    }
    apply(&registry, organisation.given.clone()).await;
    let hana = raised.dial("registry", operator(&raised, "hana", &*clock));
    apply(&hana, organisation.by_hand.clone()).await;
    raised.suite.shutdown().await;
}

/// What agents did, told as policy-decision tells it; the size of the log then.
async fn tell(raised: &Raised, organisation: &Organisation, ids: &BTreeMap<String, String>) -> u64 {
    let grants = grants(&raised.operator("registry")).await;
    let me = SpiffeId::service(raised.suite.domain(), &Name::parse("policy-decision").unwrap()).to_string();
    let now = SystemClock::new().now();
    let event = |seq: u64, act: &Act| AuditEvent {
        event_id: EventId::from_parts(seq, [9; 10]).to_string(),
        emitter: Some(Emitter { spiffe_id: me.clone(), epoch: "played".into(), seq }),
        time: Some(now.minus(Duration::from_secs(act.days_ago * DAY + 600)).into()),
        r#type: "decision.made".into(),
        namespace: NAMESPACE.into(),
        agent_id: ids[&organisation.agents[act.agent].0].clone(),
        action: act.action.clone(),
        resource: Some(EventResource { r#type: "Thing".into(), id: act.resource.into(), ..EventResource::default() }),
        grant_id: if act.grant.is_empty() { String::new() } else { grants[&act.grant].clone() },
        outcome: Outcome::Success.into(),
        ..AuditEvent::default()
    };
    let mut log = IngestServiceClient::new(raised.dial("audit-collector", raised.service("policy-decision")));
    let (mut seq, mut size) = (1, 0);
    for some in organisation.acts.chunks(EVENTS) {
        let events = some.iter().zip(seq..).map(|(act, seq)| event(seq, act).encode_to_vec().into()).collect();
        let request = AppendEventsRequest { epoch: "played".into(), first_seq: seq, events, ..Default::default() };
        let told = done(log.append_events(slow(request)).await);
        seq += some.len() as u64;
        size = told.first_leaf_index.unwrap() + u64::from(told.appended);
    }
    size
}

/// The ids of delegation grants, by name.
async fn grants(registry: &Client) -> BTreeMap<String, String> {
    let kind = wire::Kind::DelegationGrant.into();
    let ask =
        wire::ListDeclarationsRequest { kind, namespace: NAMESPACE.into(), page_size: 1_000, ..Default::default() };
    let page = done(DeclarationServiceClient::new(registry.clone()).list_declarations(slow(ask)).await);
    assert!(page.next_page_token.is_empty());
    let named = page.declarations.iter().filter_map(wire::Declaration::metadata);
    named.map(|metadata| (metadata.name.clone(), metadata.id.clone())).collect()
}

/// Waits until the registry heard so much of the log.
async fn heard(registry: &Client, size: u64) {
    let begun = Instant::now();
    loop {
        let mut usage = UsageServiceClient::new(registry.clone());
        let told = done(usage.list_agent_usage(wire::ListAgentUsageRequest::default()).await);
        let window = told.window.unwrap_or_default();
        if window.heard_through >= size && window.to_time.is_some() {
            assert!(window.gaps.is_empty(), "{window:?}");
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{window:?} of {size}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn drift(policy: &Client, at_least_revision: u64, agent_id: &str) -> Vec<DriftFinding> {
    let namespace = if agent_id.is_empty() { NAMESPACE } else { "" };
    let mut ask = ListDriftRequest {
        namespace: namespace.into(),
        agent_id: agent_id.into(),
        unused_after: span(SILENT.into()),
        page_size: 1_000,
        at_least_revision,
        ..ListDriftRequest::default()
    };
    let mut found = Vec::new();
    loop {
        let page = done(DriftServiceClient::new(policy.clone()).list_drift(slow(ask.clone())).await);
        assert_eq!(page.left_out, 0);
        found.extend(page.findings);
        ask.page_token = page.next_page_token;
        if ask.page_token.is_empty() {
            return found;
        }
    }
}

/// What is found, as it is planted.
fn found(findings: &[DriftFinding]) -> Found {
    let mut all = Found::new();
    for finding in findings {
        let what = match (&finding.permission, finding.objects.first()) {
            (Some(permission), _) => permission.action.clone(),
            (None, Some(object)) => object.name.clone(),
            (None, None) => String::new(),
        };
        assert!(all.insert((finding.name.clone(), finding.r#type(), what)), "{finding:?} is told twice");
    }
    all
}

/// The credentials that are stale.
async fn stale(issuer: &Client) -> Found {
    let ask = ListCredentialHealthRequest {
        namespace: NAMESPACE.into(),
        unused_after: span(SILENT.into()),
        stale_only: true,
        page_size: 1_000,
        ..ListCredentialHealthRequest::default()
    };
    let page = done(CredentialAdminServiceClient::new(issuer.clone()).list_credential_health(slow(ask)).await);
    assert!(page.next_page_token.is_empty());
    page.credentials.into_iter().map(|one| (one.agent, DriftType::StaleCredential, String::new())).collect()
}

/// The actions that each agent may do, by name, and whether it works. Two ask at once, as many as are let.
async fn authority(askers: [Client; 2], ids: &BTreeMap<String, String>, revision: u64) -> BTreeMap<String, Authority> {
    let all: Vec<(String, String)> = ids.iter().map(|(name, id)| (name.clone(), id.clone())).collect();
    let half = all.len() / 2;
    let [first, second] = askers;
    let (mut found, others) =
        tokio::join!(ask_all(first, &all[..half], revision), ask_all(second, &all[half..], revision));
    found.extend(others);
    found
}

type Authority = (bool, BTreeSet<String>);

async fn ask_all(policy: Client, agents: &[(String, String)], revision: u64) -> BTreeMap<String, Authority> {
    let mut decisions = DecisionServiceClient::new(policy);
    let mut all = BTreeMap::new();
    for (name, id) in agents {
        let ask = WhatCanRequest {
            agent_id: id.clone(),
            at_least_revision: revision,
            if_active: true,
            ..WhatCanRequest::default()
        };
        // Of ten thousand questions one may meet a disk that is slow for half a second; whoever asks asks again, as the answer says.
        let begins = Instant::now();
        let answer = loop {
            match decisions.what_can(slow(ask.clone())).await {
                Err(status) if Told::from_status(&status).reason == "AUDIT_UNAVAILABLE" => {
                    assert!(begins.elapsed() < PATIENCE, "nothing can be recorded");
                }
                answer => break done(answer),
            }
        };
        assert_eq!(answer.left_out, 0);
        let actions = answer.entitlements.into_iter().map(|one| one.action).collect();
        all.insert(name.clone(), (answer.reason_code.is_empty(), actions));
    }
    all
}

/// What each agent has that keeps what was decided. What is above a ceiling, or cut by a boundary, it never had.
fn decided(items: &[ReviewItem]) -> BTreeMap<String, Authority> {
    let mut all: BTreeMap<String, Authority> = BTreeMap::new();
    for item in items {
        let (works, actions) = all.entry(item.agent.clone()).or_insert_with(|| (true, BTreeSet::new()));
        let kept = match item.decision() {
            ReviewDecision::Certify => &item.permissions,
            ReviewDecision::Reduce => &item.keep,
            _ => &Vec::new(),
        };
        match item.reviewed() {
            ReviewedThing::DelegationGrant => {}
            ReviewedThing::AgentClass => {
                *works = item.decision() == ReviewDecision::Certify;
                // A suspended agent keeps its class, and does nothing.
                actions.insert("own:look".to_owned());
            }
            _ => actions.extend(kept.iter().map(|one| one.action.clone())),
        }
    }
    for (_, actions) in all.values_mut() {
        actions.retain(|action| action != "ledger:erase" && action != "job:audit");
    }
    all
}

async fn once(reviews: &mut ReviewServiceClient<Client>, id: &str, state: ReviewState) -> wire::Review {
    let begun = Instant::now();
    loop {
        let ask = wire::GetReviewRequest { review_id: id.into() };
        let review = done(reviews.get_review(ask).await).review.unwrap();
        if review.state() == state {
            return review;
        }
        assert!(begun.elapsed() < PATIENCE, "{review:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn items(reviews: &mut ReviewServiceClient<Client>, id: &str) -> Vec<ReviewItem> {
    let mut ask = wire::ListReviewItemsRequest {
        review_id: id.into(),
        page_size: 1_000,
        evidence_days: SILENT,
        ..wire::ListReviewItemsRequest::default()
    };
    let mut all = Vec::new();
    loop {
        let page = done(reviews.list_review_items(slow(ask.clone())).await);
        all.extend(page.items);
        ask.page_token = page.next_page_token;
        if ask.page_token.is_empty() {
            return all;
        }
    }
}

/// Decides about everything as chance has it, most of it to be kept.
fn decisions(items: &[ReviewItem], chance: &mut Chance) -> Vec<wire::ItemDecision> {
    let one = |item: &ReviewItem, chance: &mut Chance| {
        let can_reduce = item.reviewed() == ReviewedThing::RoleBinding && item.permissions.len() > 1;
        let (decision, keep) = match chance.below(100) {
            0 => (ReviewDecision::Revoke, Vec::new()),
            1..=2 if item.reviewed() != ReviewedThing::AgentClass => (ReviewDecision::Revoke, Vec::new()),
            3..=4 if can_reduce => (ReviewDecision::Reduce, item.permissions[..1].to_vec()),
            _ => (ReviewDecision::Certify, Vec::new()),
        };
        let (item_id, etag) = (item.id.clone(), item.etag.clone());
        wire::ItemDecision { item_id, etag, decision: decision.into(), keep, ..Default::default() }
    };
    items.iter().map(|item| one(item, chance)).collect()
}

/// Tells whoever waits how long a step took.
fn told(begun: &mut Instant, what: &str) {
    let line = format!("{:>6.1} s  {what}\n", begun.elapsed().as_secs_f64());
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    *begun = Instant::now();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_planted_in_an_organisation_is_found_and_a_campaign_over_it_ends_as_was_decided() {
    let agents = std::env::var("LEGATE_TEST_AGENTS").ok().and_then(|n| n.parse().ok()).unwrap_or(5_000);
    let organisation = Organisation::of(agents, 1_815, "dev");
    let types: BTreeSet<DriftType> = organisation.findings.iter().map(|(_, kind, _)| *kind).collect();
    // A sponsor who left is one until the sweep has come by; everything else stays.
    assert_eq!((types.len(), organisation.for_a_while.is_empty()), (9, false), "every type is planted");
    let (dir, mut begun) = (tempfile::tempdir().unwrap(), Instant::now());
    long_ago(&organisation, &dir).await;
    told(&mut begun, "declared a quarter ago");

    // Today: somebody left, some agents got something, and everything that was done since is told.
    let suite = Box::pin(Suite::start(&Options::in_dir(&dir.path().join("suite")))).await.unwrap();
    let raised = Raised { suite, dir };
    let (registry, policy) = (raised.operator("registry"), raised.operator("policy-decision"));
    let issuer = raised.operator("credential-issuer");
    let ids = ids(&registry).await;
    // The one who owned everything takes the registry a while; until then it is seen that the other one left.
    for person in ["user:omar", "user:gone"] {
        let left = wire::OffboardPersonRequest {
            person: person.into(),
            namespace: NAMESPACE.into(),
            reason: "left".into(),
            ..wire::OffboardPersonRequest::default()
        };
        done(DepartureServiceClient::new(registry.clone()).offboard_person(slow(left)).await);
    }
    let mut gone = Found::new();
    for (name, ..) in &organisation.for_a_while {
        let its = found(&drift(&policy, 0, &ids[name]).await);
        gone.extend(its.into_iter().filter(|(_, kind, _)| *kind == DriftType::SponsorGone));
    }
    assert_eq!(gone, organisation.for_a_while);
    let mut revision = apply(&registry, organisation.today.clone()).await;
    for (name, _) in organisation.agents.iter().filter(|(_, planted)| *planted == Planted::NewSecret) {
        secret(&issuer, &ids[name], 200).await;
    }
    let size = tell(&raised, &organisation, &ids).await;
    told(&mut begun, &format!("{} acts are told", organisation.acts.len()));
    heard(&registry, size).await;
    told(&mut begun, "the registry heard of them");

    let begins = Instant::now();
    let mut all = loop {
        let all = found(&drift(&policy, revision, "").await);
        // Whom nobody is accountable for any more is found some at a time.
        let orphans = |found: &Found| {
            found.iter().filter(|(_, kind, _)| matches!(kind, DriftType::Orphaned | DriftType::SponsorGone)).count()
        };
        if orphans(&all) == orphans(&organisation.findings) {
            break all;
        }
        assert!(begins.elapsed() < PATIENCE, "{:?}", all.symmetric_difference(&organisation.findings));
    };
    all.extend(stale(&issuer).await);
    let missed: Vec<_> = organisation.findings.difference(&all).collect();
    let more: Vec<_> = all.difference(&organisation.findings).collect();
    assert!(missed.is_empty() && more.is_empty(), "missed {missed:?}; not planted {more:?}");
    told(&mut begun, &format!("{} findings are those that were planted", all.len()));

    // Everything is asked about; what nobody used is told to be unused, and nothing else.
    let mut reviews = ReviewServiceClient::new(registry.clone());
    let (namespace, campaign, reason) = (NAMESPACE.into(), "yearly".into(), "a test".into());
    let ask = wire::StartReviewRequest { namespace, campaign, reason, ..Default::default() };
    let review = done(reviews.start_review(ask).await).review.unwrap();
    let review = once(&mut reviews, &review.id, ReviewState::Open).await;
    told(&mut begun, "the round is open");
    let asked = items(&mut reviews, &review.id).await;
    told(&mut begun, &format!("{} items are read", asked.len()));
    let unused = asked.iter().filter(|item| item.evidence.as_ref().unwrap().is_unused);
    let unused: BTreeSet<_> = unused.map(|item| (item.agent.clone(), item.granted.clone())).collect();
    assert_eq!(unused, organisation.unused);
    let paula = SpiffeId::operator(raised.suite.domain(), &Name::parse("paula").unwrap());
    let paula = certify(&raised.services_ca(), &paula);
    let askers = [policy.clone(), raised.dial("policy-decision", paula.clone())];
    let before = authority(askers.clone(), &ids, revision).await;
    let mut kept = asked.clone();
    kept.iter_mut().for_each(|item| item.decision = ReviewDecision::Certify.into());
    let mut all_kept = decided(&kept);
    // It is asked about what it may do: nobody who has something goes without an item.
    for (name, had) in &before {
        assert_eq!(all_kept.remove(name).as_ref(), Some(had), "{name}");
    }
    told(&mut begun, "what every agent may do is what is asked about");

    let mut as_paula = ReviewServiceClient::new(raised.dial("registry", paula));
    for some in decisions(&asked, &mut Chance(42)).chunks(DECIDED) {
        let ask = wire::DecideReviewItemsRequest {
            review_id: review.id.clone(),
            decisions: some.to_vec(),
            reason: "as chance has it".into(),
            ..wire::DecideReviewItemsRequest::default()
        };
        done(as_paula.decide_review_items(slow(ask)).await);
    }
    told(&mut begun, "everything is decided");
    let close =
        wire::CloseReviewRequest { review_id: review.id.clone(), reason: "decided".into(), ..Default::default() };
    done(reviews.close_review(slow(close)).await);
    let review = once(&mut reviews, &review.id, ReviewState::Closed).await;
    let progress = review.progress.unwrap();
    assert_eq!((progress.failed, progress.pending), (0, 0));
    assert!(progress.revoked > 0 && progress.reduced > 0 && progress.remediated > 0, "{progress:?}");
    told(&mut begun, &format!("{} changes are written", progress.remediated));
    let written = items(&mut reviews, &review.id).await;
    assert!(written.iter().all(|item| item.evidence.is_some()), "on what it was decided rests with each item");
    let last = written.iter().filter_map(|item| item.remediation.as_ref()).map(|of| of.revision).max().unwrap();
    let (after, expected) = (authority(askers, &ids, last).await, decided(&written));
    assert!(before != after);
    for (name, has) in &after {
        assert_eq!(Some(has), expected.get(name), "{name}: {:#?}", before[name]);
    }
    told(&mut begun, "every agent may do what was decided");

    // What was taken and is given again goes beyond what was decided, whoever gives it.
    let is_taken = |item: &&ReviewItem| {
        item.decision() == ReviewDecision::Revoke && item.group.starts_with("team-") && after[&item.agent].0
    };
    let taken = written.iter().find(is_taken).unwrap();
    let spec = wire::RoleBindingSpec {
        role: taken.role.clone(),
        agents: vec![taken.agent.clone()],
        ..wire::RoleBindingSpec::default()
    };
    let metadata = wire::Metadata { name: "again".into(), namespace: NAMESPACE.into(), ..Default::default() };
    let again = Object::RoleBinding(wire::RoleBinding { metadata: Some(metadata), spec: Some(spec) });
    revision = apply(&registry, vec![again]).await;
    let beyond = drift(&policy, revision, &taken.agent_id).await;
    let beyond: BTreeSet<String> = beyond
        .into_iter()
        .filter(|finding| finding.r#type() == DriftType::ExceedsApproval)
        .inspect(|finding| assert_eq!(finding.approval.as_ref().unwrap().review_id, review.id, "{finding:?}"))
        .filter_map(|finding| finding.permission.map(|permission| permission.action))
        .collect();
    let had = &after[&taken.agent].1;
    let given: BTreeSet<String> = taken.permissions.iter().map(|one| one.action.clone()).collect();
    assert_eq!(beyond, &given - had);
    raised.suite.shutdown().await;
}
