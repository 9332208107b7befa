//! Access reviews over real mutual TLS: after a round every agent may do what was decided, and nothing else, as policy-decision
//! answers; what nobody decided about is taken away; and a registry that is killed in between ends it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use legate_ids::{Name, SpiffeId};
use legate_rpc::{Client, Told};
use legate_wire::audit::QueryEventsRequest;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::review_check_service_client::ReviewCheckServiceClient;
use legate_wire::policy::{Certainty, CheckReviewRequest, WhatCanRequest, WhatCanResponse};
use legate_wire::registry as wire;
use wire::declaration::Object;
use wire::declaration_service_client::DeclarationServiceClient;
use wire::review_service_client::ReviewServiceClient;
use wire::{ReviewDecision, ReviewItem, ReviewState, ReviewedThing};

use crate::processes::Processes;
use crate::raised::{LONG, Raised, certify};

type Reviews = ReviewServiceClient<Client>;

fn metadata(name: &str) -> Option<wire::Metadata> {
    Some(wire::Metadata { name: name.into(), namespace: "org".into(), ..wire::Metadata::default() })
}

fn permission(action: &str) -> wire::Permission {
    let resource = wire::ResourceSelector { r#type: "Thing".into(), id: "*".into(), ..Default::default() };
    wire::Permission { action: action.into(), resource: Some(resource) }
}

fn of(object: Object) -> wire::Declaration {
    wire::Declaration { object: Some(object) }
}

const AGENTS: usize = 12;
const ROLES: usize = 5;

/// Chance that is the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        // Knuth's numbers; the higher bits are the better ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

fn name(n: usize) -> String {
    format!("agent-{n:02}")
}

/// An organisation: agents of a class, roles with two actions each, given by name and by groups, one of which selects.
fn organisation(chance: &mut Chance, due_seconds: i64, grace_seconds: i64) -> Vec<wire::Declaration> {
    let class = wire::AgentClassSpec {
        permissions: vec![permission("own:look")],
        ceiling: vec![permission("*")],
        ..wire::AgentClassSpec::default()
    };
    let policy = wire::PolicySpec {
        cedar: "permit (principal, action, resource);".into(),
        mode: wire::PolicyMode::Enforce.into(),
        ..wire::PolicySpec::default()
    };
    let listed = (0..AGENTS).step_by(3).map(name).collect();
    let list = wire::GroupSpec { agents: listed, ..wire::GroupSpec::default() };
    let selector = wire::GroupSpec { selector: "labels.odd = yes".into(), ..wire::GroupSpec::default() };
    let span = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let campaign = wire::ReviewCampaignSpec {
        reviewers: wire::ReviewerRule::Named.into(),
        named_reviewers: vec!["operator:paula".into()],
        due: span(due_seconds),
        grace: span(grace_seconds),
        ..wire::ReviewCampaignSpec::default()
    };
    let own = wire::Metadata { name: "org".into(), ..wire::Metadata::default() };
    let appointed = wire::OperatorBindingSpec {
        operators: vec!["paula".into()],
        role: wire::OperatorRole::Approver.into(),
        ..wire::OperatorBindingSpec::default()
    };
    let mut all = vec![
        Object::Namespace(wire::Namespace { metadata: Some(own), ..Default::default() }),
        Object::AgentClass(wire::AgentClass { metadata: metadata("worker"), spec: Some(class), status: None }),
        Object::Policy(wire::Policy { metadata: metadata("all"), spec: Some(policy) }),
        Object::Group(wire::Group { metadata: metadata("listed"), spec: Some(list) }),
        Object::Group(wire::Group { metadata: metadata("odd"), spec: Some(selector) }),
        Object::ReviewCampaign(wire::ReviewCampaign { metadata: metadata("yearly"), spec: Some(campaign) }),
        Object::OperatorBinding(wire::OperatorBinding { metadata: metadata("approvers"), spec: Some(appointed) }),
    ];
    for n in 0..AGENTS {
        let spec = wire::AgentSpec {
            agent_class: "worker".into(),
            purpose: "works".into(),
            environment: wire::Environment::Test.into(),
            owners: vec!["user:ada@example.com".into()],
            sponsors: vec!["user:grace@example.com".into()],
            ..wire::AgentSpec::default()
        };
        let mut metadata = metadata(&name(n)).unwrap();
        metadata.labels.extend((n % 2 == 1).then(|| ("odd".to_owned(), "yes".to_owned())));
        all.push(Object::Agent(wire::Agent { metadata: Some(metadata), spec: Some(spec), status: None }));
    }
    for role in 0..ROLES {
        let permissions = ["read", "write"].map(|verb| permission(&format!("r{role}:{verb}"))).to_vec();
        let spec = wire::RoleSpec { permissions, ..wire::RoleSpec::default() };
        all.push(Object::Role(wire::Role { metadata: metadata(&format!("r{role}")), spec: Some(spec) }));
        let named: BTreeSet<String> = (0..=chance.below(AGENTS)).map(|_| name(chance.below(AGENTS))).collect();
        let groups = [vec![], vec!["listed".to_owned()], vec!["odd".to_owned(), "listed".to_owned()]];
        let spec = wire::RoleBindingSpec {
            role: format!("r{role}"),
            agents: named.into_iter().collect(),
            groups: groups[chance.below(3)].clone(),
            ..wire::RoleBindingSpec::default()
        };
        let metadata = metadata(&format!("b{role}"));
        all.push(Object::RoleBinding(wire::RoleBinding { metadata, spec: Some(spec) }));
    }
    all.into_iter().map(of).collect()
}

async fn apply(registry: Client, declarations: Vec<wire::Declaration>) -> u64 {
    let request = wire::ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    DeclarationServiceClient::new(registry).apply_declarations(request).await.unwrap().into_inner().revision
}

async fn start(reviews: &mut Reviews) -> wire::Review {
    let (namespace, campaign, reason) = ("org".into(), "yearly".into(), "a test".into());
    let ask = wire::StartReviewRequest { namespace, campaign, reason, ..Default::default() };
    reviews.start_review(ask).await.unwrap().into_inner().review.unwrap()
}

async fn get(reviews: &mut Reviews, id: &str) -> wire::Review {
    let ask = wire::GetReviewRequest { review_id: id.into() };
    reviews.get_review(ask).await.unwrap().into_inner().review.unwrap()
}

/// The round, as soon as it is so far.
async fn once(reviews: &mut Reviews, id: &str, state: ReviewState) -> wire::Review {
    let begun = Instant::now();
    loop {
        let review = get(reviews, id).await;
        if review.state() == state {
            return review;
        }
        assert!(begun.elapsed() < LONG, "{review:?}");
        tokio::task::yield_now().await;
    }
}

async fn items(reviews: &mut Reviews, id: &str) -> Vec<ReviewItem> {
    let ask = wire::ListReviewItemsRequest { review_id: id.into(), page_size: 1_000, ..Default::default() };
    reviews.list_review_items(ask).await.unwrap().into_inner().items
}

/// The actions that each agent may do for certain, by name, and whether it works.
async fn authority(
    policy: Client,
    agents: &BTreeMap<String, String>,
    revision: u64,
) -> BTreeMap<String, (bool, BTreeSet<String>)> {
    let mut decisions = DecisionServiceClient::new(policy);
    let mut all = BTreeMap::new();
    for (name, id) in agents {
        let ask = WhatCanRequest {
            agent_id: id.clone(),
            at_least_revision: revision,
            if_active: true,
            ..WhatCanRequest::default()
        };
        let answer: WhatCanResponse = decisions.what_can(ask).await.unwrap().into_inner();
        assert_eq!(answer.left_out, 0);
        assert!(answer.entitlements.iter().all(|one| one.certainty() == Certainty::Always), "{answer:?}");
        let actions = answer.entitlements.into_iter().map(|one| one.action).collect();
        all.insert(name.clone(), (answer.reason_code.is_empty(), actions));
    }
    all
}

async fn agents(registry: Client) -> BTreeMap<String, String> {
    let mut agents = wire::agent_service_client::AgentServiceClient::new(registry);
    let ask = wire::ListAgentsRequest { namespace: "org".into(), page_size: 1_000, ..Default::default() };
    let found = agents.list_agents(ask).await.unwrap().into_inner().agents;
    found.into_iter().filter_map(|agent| agent.metadata).map(|m| (m.name, m.id)).collect()
}

/// What an agent has that keeps what was decided.
fn decided(items: &[ReviewItem], agent: &str) -> (bool, BTreeSet<String>) {
    let mut works = true;
    let mut actions = BTreeSet::new();
    for item in items.iter().filter(|item| item.agent == agent) {
        let kept = match item.decision() {
            ReviewDecision::Certify => &item.permissions,
            ReviewDecision::Reduce => &item.keep,
            _ => &Vec::new(),
        };
        if item.reviewed() == ReviewedThing::AgentClass {
            works = item.decision() == ReviewDecision::Certify;
            // A suspended agent keeps its class, and does nothing.
            actions.insert("own:look".to_owned());
        }
        actions.extend(kept.iter().map(|one| one.action.clone()));
    }
    (works, actions)
}

fn reason<T: std::fmt::Debug>(answer: Result<tonic::Response<T>, tonic::Status>) -> String {
    Told::from_status(&answer.unwrap_err()).reason
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_round_every_agent_may_do_what_was_decided() {
    for seed in [7, 42, 1_815] {
        a_round(Chance(seed)).await;
    }
}

async fn a_round(mut chance: Chance) {
    let raised = Raised::new().await;
    let declared = apply(raised.operator("registry"), organisation(&mut chance, 86_400, 86_400)).await;
    let ids = agents(raised.operator("registry")).await;
    let before = authority(raised.operator("policy-decision"), &ids, declared).await;
    let mut reviews = Reviews::new(raised.operator("registry"));
    let review = start(&mut reviews).await;
    once(&mut reviews, &review.id, ReviewState::Open).await;
    let found = items(&mut reviews, &review.id).await;
    // What is asked about is all that there is.
    let mut asked = found.clone();
    asked.iter_mut().for_each(|item| item.decision = ReviewDecision::Certify.into());
    for (name, had) in &before {
        assert_eq!(&decided(&asked, name), had, "{name}");
    }

    let paula = SpiffeId::operator(raised.suite.domain(), &Name::parse("paula").unwrap());
    let mut as_paula = Reviews::new(raised.dial("registry", certify(&raised.services_ca(), &paula)));
    let decisions: Vec<wire::ItemDecision> = found
        .iter()
        .map(|item| {
            let is_class = item.reviewed() == ReviewedThing::AgentClass;
            let choice = if is_class { chance.below(8) * 2 } else { chance.below(3) };
            let (decision, keep) = match choice {
                0 => (ReviewDecision::Revoke, Vec::new()),
                1 => (ReviewDecision::Reduce, vec![item.permissions[chance.below(2)].clone()]),
                _ => (ReviewDecision::Certify, Vec::new()),
            };
            let (item_id, etag) = (item.id.clone(), item.etag.clone());
            wire::ItemDecision { item_id, etag, decision: decision.into(), keep, ..Default::default() }
        })
        .collect();
    let ask = wire::DecideReviewItemsRequest {
        review_id: review.id.clone(),
        decisions,
        reason: "as chance has it".into(),
        ..Default::default()
    };
    // Whoever declared all of it is not among those who decide.
    assert_eq!(reason(reviews.decide_review_items(ask.clone()).await), "SELF_REVIEW");
    as_paula.decide_review_items(ask.clone()).await.unwrap();
    assert_eq!(reason(as_paula.decide_review_items(ask).await), "ETAG_MISMATCH");
    let close =
        wire::CloseReviewRequest { review_id: review.id.clone(), reason: "decided".into(), ..Default::default() };
    assert_eq!(reason(as_paula.close_review(close.clone()).await), "SOLE_REVIEWER");
    reviews.close_review(close).await.unwrap();
    let review = once(&mut reviews, &review.id, ReviewState::Closed).await;
    assert_eq!(review.progress.unwrap().failed, 0);

    let written = items(&mut reviews, &review.id).await;
    let last = written.iter().filter_map(|item| item.remediation.as_ref()).map(|of| of.revision).max().unwrap();
    let after = authority(raised.operator("policy-decision"), &ids, last).await;
    assert!(before != after);
    for (name, has) in &after {
        assert_eq!(has, &decided(&written, name), "{name}: {:#?}", before[name]);
    }
    // Each change names the event that tells of it, and the log has it.
    raised.wait_for_record(last).await;
    let mut records = QueryServiceClient::new(raised.operator("audit-collector"));
    let ask = QueryEventsRequest { r#type: "review_item.remediated".into(), page_size: 1_000, ..Default::default() };
    let events = records.query_events(ask).await.unwrap().into_inner().events;
    let told: BTreeSet<String> =
        events.into_iter().filter_map(|event| event.event).map(|event| event.event_id).collect();
    for item in written.iter().filter(|item| item.decision() != ReviewDecision::Certify) {
        assert!(told.contains(&item.remediation.as_ref().unwrap().event_id), "{item:?}");
    }
    raised.suite.shutdown().await;
}

/// A role of the organisation that gives one action more.
fn wider(role: &str, more: &[&str]) -> wire::Declaration {
    let actions = ["read", "write"].iter().chain(more);
    let permissions = actions.map(|verb| permission(&format!("{role}:{verb}"))).collect();
    let spec = wire::RoleSpec { permissions, ..wire::RoleSpec::default() };
    of(Object::Role(wire::Role { metadata: metadata(role), spec: Some(spec) }))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_grows_while_it_is_reviewed_is_seen_or_not_certified() {
    let raised = Raised::new().await;
    apply(raised.operator("registry"), organisation(&mut Chance(5), 86_400, 86_400)).await;
    let mut reviews = Reviews::new(raised.operator("registry"));
    let review = start(&mut reviews).await;
    once(&mut reviews, &review.id, ReviewState::Open).await;
    let paula = SpiffeId::operator(raised.suite.domain(), &Name::parse("paula").unwrap());
    let mut as_paula = Reviews::new(raised.dial("registry", certify(&raised.services_ca(), &paula)));
    let decide = |items: &[ReviewItem], seen_revision: u64| wire::DecideReviewItemsRequest {
        review_id: review.id.clone(),
        decisions: items
            .iter()
            .map(|item| wire::ItemDecision {
                item_id: item.id.clone(),
                etag: item.etag.clone(),
                decision: ReviewDecision::Certify.into(),
                seen_revision,
                ..wire::ItemDecision::default()
            })
            .collect(),
        reason: "looked at".into(),
        ..wire::DecideReviewItemsRequest::default()
    };
    let revision = apply(raised.operator("registry"), vec![wider("r0", &["erase"])]).await;
    let found = items(&mut reviews, &review.id).await;
    let grown: Vec<ReviewItem> = found.iter().filter(|item| item.role == "r0").cloned().collect();
    assert!(!grown.is_empty() && grown.iter().all(|item| item.has_changed), "{grown:?}");
    for blind in [0, revision - 1] {
        assert_eq!(reason(as_paula.decide_review_items(decide(&grown, blind)).await), "REVIEW_ITEM_CHANGED");
    }
    as_paula.decide_review_items(decide(&found, revision)).await.unwrap();
    let seen = items(&mut reviews, &review.id).await;
    let seen = seen.iter().find(|item| item.role == "r0").unwrap();
    assert_eq!(seen.permissions.len(), 3, "it was decided about what it is");

    // It grows once more: nobody closes it as if that had been looked at.
    apply(raised.operator("registry"), vec![wider("r0", &["erase", "sell"])]).await;
    let close =
        wire::CloseReviewRequest { review_id: review.id.clone(), reason: "decided".into(), ..Default::default() };
    assert_eq!(reason(reviews.close_review(close.clone()).await), "REVIEW_ITEM_CHANGED");
    let told = reviews.close_review(wire::CloseReviewRequest { validate_only: true, ..close.clone() }).await;
    assert_eq!(told.unwrap().into_inner().outgrown.len(), grown.len());
    apply(raised.operator("registry"), vec![wider("r0", &["erase"])]).await;
    reviews.close_review(close).await.unwrap();
    let review = once(&mut reviews, &review.id, ReviewState::Closed).await;
    assert_eq!(review.progress.unwrap().outgrown, 0);
    // No operator says that it is so, whatever he decided.
    let verified = wire::VerifiedItem { item_id: seen.id.clone(), verified: true, revision, ..Default::default() };
    let ask = wire::RecordReviewVerificationRequest {
        review_id: review.id.clone(),
        items: vec![verified],
        ..wire::RecordReviewVerificationRequest::default()
    };
    assert_eq!(reason(as_paula.record_review_verification(ask.clone()).await), "ACCESS_DENIED");
    assert_eq!(reason(reviews.record_review_verification(ask).await), "ACCESS_DENIED");
    let mut checks = ReviewCheckServiceClient::new(raised.operator("policy-decision"));
    let ask = CheckReviewRequest { review_id: review.id.clone(), page_token: String::new() };
    let told = checks.check_review(ask).await.unwrap().into_inner();
    assert!(told.items.len() == found.len() && told.items.iter().all(|item| item.verified), "{told:?}");
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_decides_about_is_revoked() {
    let raised = Raised::new().await;
    apply(raised.operator("registry"), organisation(&mut Chance(3), 1, 0)).await;
    let ids = agents(raised.operator("registry")).await;
    let mut reviews = Reviews::new(raised.operator("registry"));
    let review = start(&mut reviews).await;
    let review = once(&mut reviews, &review.id, ReviewState::Closed).await;
    let progress = review.progress.unwrap();
    assert_eq!((progress.revoked, progress.failed), (progress.items, 0));
    let written = items(&mut reviews, &review.id).await;
    let last = written.iter().filter_map(|item| item.remediation.as_ref()).map(|of| of.revision).max().unwrap();
    let nothing = (false, BTreeSet::from(["own:look".to_owned()]));
    for (name, has) in authority(raised.operator("policy-decision"), &ids, last).await {
        assert_eq!(has, nothing, "{name}");
    }
    // Nobody asks policy-decision, and it looks.
    let begun = Instant::now();
    loop {
        let progress = get(&mut reviews, &review.id).await.progress.unwrap();
        if progress.verified == progress.items {
            break;
        }
        // Where something fails on a busy machine it looks again after a while.
        assert!(begun.elapsed() < 6 * LONG && progress.differing == 0, "{progress:?}");
        tokio::task::yield_now().await;
    }
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_killed_while_it_writes_ends_the_round() {
    let mut suite = Processes::start("error").await;
    let organisation = organisation(&mut Chance(11), 1, 0);
    apply(suite.operator("registry"), organisation).await;
    let ids = agents(suite.operator("registry")).await;
    let mut reviews = Reviews::new(suite.operator("registry"));
    let review = start(&mut reviews).await;
    // As soon as it begins to write.
    let begun = Instant::now();
    while !matches!(get(&mut reviews, &review.id).await.state(), ReviewState::Closing | ReviewState::Closed) {
        assert!(begun.elapsed() < LONG);
    }
    suite.crash("registry").await;
    let mut reviews = Reviews::new(suite.operator("registry"));
    let review = once(&mut reviews, &review.id, ReviewState::Closed).await;
    let progress = review.progress.unwrap();
    assert_eq!((progress.remediated, progress.failed), (progress.items, 0), "each once, whenever it was killed");
    let written = items(&mut reviews, &review.id).await;
    let events: BTreeSet<&str> =
        written.iter().filter_map(|item| item.remediation.as_ref()).map(|of| of.event_id.as_str()).collect();
    assert_eq!(events.len(), written.len());
    let last = written.iter().filter_map(|item| item.remediation.as_ref()).map(|of| of.revision).max().unwrap();
    let nothing = (false, BTreeSet::from(["own:look".to_owned()]));
    for (name, has) in authority(suite.operator("policy-decision"), &ids, last).await {
        assert_eq!(has, nothing, "{name}");
    }
    suite.stop();
}
