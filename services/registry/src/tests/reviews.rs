//! Rounds of access reviews: from their start to what they change, by hand and by the clock, and what nobody may.

use std::collections::BTreeSet;
use std::time::Duration;

use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentState, CloseReviewRequest, CloseReviewResponse, DecideReviewItemsRequest, DecideReviewItemsResponse,
    Declaration, DelegationGrant, DelegationGrantSpec, Group, GroupSpec, ItemDecision, Kind, ListReviewItemsRequest,
    ListReviewsRequest, Metadata, ObjectName, OnSilence, OperatorBinding, OperatorBindingSpec, OperatorRole,
    RemediationState, Review, ReviewCampaign, ReviewCampaignSpec, ReviewDecision, ReviewItem, ReviewState,
    ReviewedThing, ReviewerOperators, ReviewerRule, RoleBinding, RoleBindingSpec, StartReviewRequest,
};

use super::faults::BOTH;
use super::scene::*;
use crate::domain::kind::Key;
use crate::flow::{read, review, sweep};
use crate::schema::Migrator;

pub(super) const GRACE: &str = OTHER;
pub(super) const JOAN: &str = "spiffe://example.org/legate/operator/joan";
pub(super) const THIRD: &str = "spiffe://example.org/legate/operator/third";
pub(super) const HOUR: u64 = 3_600;

pub(super) fn span(seconds: u64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: seconds.try_into().unwrap(), nanos: 0 })
}

pub(super) fn campaign_spec() -> ReviewCampaignSpec {
    let of = |who: &str, operator: &str| ReviewerOperators { who: who.into(), operators: vec![operator.into()] };
    ReviewCampaignSpec {
        reviewers: ReviewerRule::Sponsors.into(),
        people: vec![of("user:ada@example.com", "ada"), of("user:grace@example.com", "grace")],
        due: span(HOUR),
        grace: span(HOUR),
        ..ReviewCampaignSpec::default()
    }
}

pub(super) fn campaign(spec: ReviewCampaignSpec) -> Declaration {
    of(Object::ReviewCampaign(ReviewCampaign { metadata: metadata("quarterly"), spec: Some(spec) }))
}

pub(super) fn group(name: &str, agents: &[&str]) -> Declaration {
    let agents = agents.iter().map(ToString::to_string).collect();
    of(Object::Group(Group { metadata: metadata(name), spec: Some(GroupSpec { agents, ..Default::default() }) }))
}

pub(super) fn to_group(name: &str, role: &str, group: &str) -> Declaration {
    let spec = RoleBindingSpec { role: role.into(), groups: vec![group.into()], ..RoleBindingSpec::default() };
    of(Object::RoleBinding(RoleBinding { metadata: metadata(name), spec: Some(spec) }))
}

pub(super) fn grant(name: &str, delegator: &str, delegate: &str, parent: &str) -> Declaration {
    let spec = DelegationGrantSpec {
        delegator: delegator.into(),
        delegate: delegate.into(),
        permissions: vec![permission("invoice:read"), permission("invoice:pay")],
        purpose: "acts".into(),
        not_after: Some(prost_types::Timestamp { seconds: NOW + 86_400 * 30, nanos: 0 }),
        may_redelegate: parent.is_empty(),
        max_depth: u32::from(parent.is_empty()),
        parent: parent.into(),
        ..DelegationGrantSpec::default()
    };
    of(Object::DelegationGrant(DelegationGrant { metadata: metadata(name), spec: Some(spec) }))
}

pub(super) fn say(item: &ReviewItem, decision: ReviewDecision) -> ItemDecision {
    ItemDecision {
        item_id: item.id.clone(),
        etag: item.etag.clone(),
        decision: decision.into(),
        ..ItemDecision::default()
    }
}

impl Scene {
    async fn start_review(&self, actor: &str) -> Result<Review, Fault> {
        let (namespace, campaign) = ("payments".to_owned(), "quarterly".to_owned());
        let ask = StartReviewRequest { namespace, campaign, ..Default::default() };
        let call = self.call(actor, "it is time", &ask, "");
        Ok(review::start(&self.desk, call, ask).await?.review.unwrap())
    }

    /// A round whose items are made.
    pub(super) async fn opened(&self) -> Review {
        let started = self.start_review(JOAN).await.unwrap();
        sweep::sweep(&self.desk).await.unwrap();
        let review = self.review(&started.id).await;
        assert_eq!(review.state(), ReviewState::Open);
        review
    }

    pub(super) async fn review(&self, id: &str) -> Review {
        let id = review::review_id(id).unwrap();
        review::get(&self.desk, &by(OPERATOR, ""), id).await.unwrap().review.unwrap()
    }

    async fn reviews(&self) -> Vec<Review> {
        review::list(&self.desk, &by(OPERATOR, ""), ListReviewsRequest::default()).await.unwrap().reviews
    }

    /// Every item, a few at a time.
    pub(super) async fn items(&self, review_id: &str) -> Vec<ReviewItem> {
        let mut ask = ListReviewItemsRequest { review_id: review_id.into(), page_size: 2, ..Default::default() };
        let mut found = Vec::new();
        loop {
            let page = review::items(&self.desk, &by(OPERATOR, ""), ask.clone()).await.unwrap();
            found.extend(page.items);
            ask.page_token = page.next_page_token;
            if ask.page_token.is_empty() {
                return found;
            }
        }
    }

    pub(super) async fn say_all(
        &self,
        actor: &str,
        review_id: &str,
        decisions: Vec<ItemDecision>,
        validate_only: bool,
    ) -> Result<DecideReviewItemsResponse, Fault> {
        let ask =
            DecideReviewItemsRequest { review_id: review_id.into(), decisions, validate_only, ..Default::default() };
        let call = self.call(actor, "looked at", &ask, "");
        review::decide(&self.desk, call, ask).await
    }

    pub(super) async fn say(
        &self,
        actor: &str,
        item: &ReviewItem,
        decision: ReviewDecision,
    ) -> Result<ReviewItem, Fault> {
        let said = self.say_all(actor, &item.review_id, vec![say(item, decision)], false).await?;
        Ok(said.items.into_iter().next().unwrap())
    }

    pub(super) async fn close_review(
        &self,
        actor: &str,
        id: &str,
        validate_only: bool,
    ) -> Result<CloseReviewResponse, Fault> {
        let ask = CloseReviewRequest { review_id: id.into(), validate_only, ..Default::default() };
        let call = self.call(actor, "done", &ask, "");
        review::close(&self.desk, call, ask).await
    }

    pub(super) async fn object(&self, kind: Kind, name: &str) -> Option<Declaration> {
        let key = Key::new(kind, "payments", name);
        read::object(&self.desk, &by(OPERATOR, ""), key, None).await.ok().map(|(object, _)| object)
    }

    pub(super) async fn binding_spec(&self, name: &str) -> Option<RoleBindingSpec> {
        match self.object(Kind::RoleBinding, name).await?.object {
            Some(Object::RoleBinding(binding)) => binding.spec,
            _ => None,
        }
    }
}

pub(super) fn about<'i>(items: &'i [ReviewItem], agent: &str, granted: &str) -> &'i ReviewItem {
    let found = items.iter().find(|item| item.agent == agent && item.granted == granted);
    found.unwrap_or_else(|| panic!("no item about {agent} and {granted}: {items:?}"))
}

pub(super) fn came(item: &ReviewItem) -> (RemediationState, String) {
    let of = item.remediation.clone().unwrap_or_default();
    (of.state(), of.told)
}

#[tokio::test]
async fn a_round_goes_from_its_start_to_a_change_with_its_event() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.push(campaign(campaign_spec()));
        let base = scene.apply(all).await.unwrap().revision;
        let review = scene.opened().await;
        assert_eq!((review.number, review.progress.unwrap().items), (1, 2));
        let items = scene.items(&review.id).await;
        let (bound, class) = (about(&items, "invoice-bot", "bot-reads"), about(&items, "invoice-bot", "worker"));
        assert_eq!(bound.reviewers, ["operator:grace"], "its sponsor, who did not give it");
        assert_eq!((bound.role.as_str(), bound.granted_by.as_str()), ("reader", OPERATOR));
        assert_eq!(bound.permissions, [permission("invoice:read")]);
        assert_eq!((bound.granted_revision, bound.has_changed, &bound.earlier), (base, false, &None));
        assert_eq!(class.reviewed(), ReviewedThing::AgentClass);

        // Who gave it, who owns it, who is not asked; and what was read before somebody else decided.
        for (actor, expected) in [(OPERATOR, "SELF_REVIEW"), (JOAN, "NOT_ITS_REVIEWER")] {
            let refused = scene.say(actor, bound, ReviewDecision::Certify).await.unwrap_err();
            assert_eq!(reason(&refused), expected);
        }
        let kept = scene.say(GRACE, class, ReviewDecision::Certify).await.unwrap();
        assert_eq!(reason(&scene.say(GRACE, class, ReviewDecision::Revoke).await.unwrap_err()), "ETAG_MISMATCH");
        assert_eq!((kept.decided_by.as_str(), kept.decide_reason.as_str()), (GRACE, "looked at"));
        let early = scene.close_review(JOAN, &review.id, false).await.unwrap_err();
        assert_eq!(reason(&early), "REVIEW_UNDECIDED");
        let reduced = ItemDecision { keep: vec![permission("a:b")], ..say(class, ReviewDecision::Reduce) };
        let reduced = ItemDecision { etag: String::new(), ..reduced };
        let unfit = scene.say_all(GRACE, &review.id, vec![reduced], false).await.unwrap_err();
        assert_eq!(reason(&unfit), "REVIEW_DECISION_UNFIT");
        // A decision changes until the round closes; to look changes nothing.
        let looked = scene.say_all(GRACE, &review.id, vec![say(bound, ReviewDecision::Revoke)], true).await.unwrap();
        assert_eq!(looked.items[0].decision(), ReviewDecision::Revoke);
        let certified = scene.say(GRACE, bound, ReviewDecision::Certify).await.unwrap();
        scene.say(GRACE, &certified, ReviewDecision::Revoke).await.unwrap();

        let told = scene.close_review(JOAN, &review.id, true).await.unwrap();
        let changes: Vec<_> = told.changes.iter().map(|one| (one.name.as_str(), one.action().as_str_name())).collect();
        assert_eq!(changes, [("bot-reads", "CHANGE_ACTION_REMOVED")]);
        let alone = scene.close_review(GRACE, &review.id, false).await.unwrap_err();
        assert_eq!(reason(&alone), "SOLE_REVIEWER");
        let closing = scene.close_review(JOAN, &review.id, false).await.unwrap().review.unwrap();
        assert_eq!(closing.state(), ReviewState::Closing);
        assert!(scene.binding_spec("bot-reads").await.is_some(), "it is written by the sweep");
        sweep::sweep(&scene.desk).await.unwrap();

        let review = scene.review(&review.id).await;
        assert_eq!(review.state(), ReviewState::Closed);
        assert_eq!((review.closed_by.as_str(), review.progress.unwrap().remediated), (JOAN, 1));
        assert_eq!(scene.binding_spec("bot-reads").await, None);
        let items = scene.items(&review.id).await;
        assert_eq!(came(about(&items, "invoice-bot", "worker")).0, RemediationState::NotNeeded);
        let bound = about(&items, "invoice-bot", "bot-reads");
        let of = bound.remediation.clone().unwrap();
        assert_eq!((of.state(), of.revision), (RemediationState::Applied, base + 1));
        let events = scene.events().await;
        let event = events.iter().find(|event| event.event_id == of.event_id).unwrap();
        assert_eq!((event.r#type.as_str(), event.revision), ("review_item.remediated", base + 1));
        assert_eq!(event.details["decided_by"], GRACE);
        let revoked = events.iter().find(|event| event.r#type == "role_binding.revoked").unwrap();
        assert!(revoked.reason.contains(&review.id) && revoked.reason.contains("joan"), "{}", revoked.reason);
        let kinds: BTreeSet<&str> = events.iter().map(|event| event.r#type.as_str()).collect();
        for kind in ["review.started", "review.opened", "review_item.decided", "review.closed", "review.ended"] {
            assert!(kinds.contains(kind), "{kind}");
        }
        let late = scene.say(GRACE, bound, ReviewDecision::Certify).await.unwrap_err();
        assert_eq!(reason(&late), "REVIEW_NOT_OPEN");
        let late = scene.close_review(JOAN, &review.id, false).await.unwrap_err();
        assert_eq!(reason(&late), "REVIEW_NOT_OPEN");

        // What was decided is there to be seen in the next round.
        scene.apply(vec![binding("bot-reads", "reader", &["invoice-bot"])]).await.unwrap();
        let next = scene.opened().await;
        assert_eq!(next.number, 2);
        let items = scene.items(&next.id).await;
        let earlier = about(&items, "invoice-bot", "worker").earlier.clone().unwrap();
        assert_eq!((earlier.review_id, earlier.decided_by), (review.id, GRACE.to_owned()));
        assert_eq!(about(&items, "invoice-bot", "bot-reads").earlier, None, "it is another one");
        let twice = scene.start_review(JOAN).await.unwrap_err();
        assert_eq!(reason(&twice), "REVIEW_UNDER_WAY");
    })
    .await;
}

#[tokio::test]
async fn silence_revokes_after_the_grace_and_escalation_asks_others_before() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let spec = ReviewCampaignSpec {
            escalation: vec!["operator:third".into()],
            on_silence: OnSilence::Escalate.into(),
            every_days: 30,
            ..campaign_spec()
        };
        let mut all = payments();
        all.extend([agent("ledger-bot", "worker"), binding("both", "reader", &["invoice-bot", "ledger-bot"])]);
        all.push(campaign(spec));
        scene.apply(all).await.unwrap();
        // By the clock, from when it was declared.
        sweep::sweep(&scene.desk).await.unwrap();
        let review = scene.reviews().await.pop().unwrap();
        assert_eq!((review.state(), review.progress.unwrap().items), (ReviewState::Open, 5));
        let items = scene.items(&review.id).await;
        let kept = about(&items, "ledger-bot", "both");
        let refused = scene.say(THIRD, kept, ReviewDecision::Certify).await.unwrap_err();
        assert_eq!(reason(&refused), "NOT_ITS_REVIEWER");

        scene.clock.advance(Duration::from_secs(HOUR));
        assert!(scene.review(&review.id).await.is_overdue);
        sweep::sweep(&scene.desk).await.unwrap();
        assert!(scene.review(&review.id).await.escalate_time.is_some());
        scene.say(THIRD, kept, ReviewDecision::Certify).await.unwrap();
        scene.say(GRACE, about(&items, "ledger-bot", "worker"), ReviewDecision::Certify).await.unwrap();
        sweep::sweep(&scene.desk).await.unwrap();
        assert_eq!(scene.review(&review.id).await.state(), ReviewState::Open, "the grace is not over");

        scene.clock.advance(Duration::from_secs(HOUR));
        sweep::sweep(&scene.desk).await.unwrap();
        let review = scene.review(&review.id).await;
        let progress = review.progress.unwrap();
        assert_eq!((review.state(), progress.certified, progress.revoked), (ReviewState::Closed, 2, 3));
        assert_eq!(scene.binding_spec("bot-reads").await, None);
        assert_eq!(scene.binding_spec("both").await.unwrap().agents, ["ledger-bot"], "another keeps it");
        assert_eq!(scene.agent("invoice-bot").await.status.unwrap().state(), AgentState::Suspended);
        assert_eq!(scene.agent("ledger-bot").await.status.unwrap().state(), AgentState::Active);
        let items = scene.items(&review.id).await;
        let silent = about(&items, "invoice-bot", "both");
        assert_eq!((silent.decision(), silent.decided_by.as_str()), (ReviewDecision::Revoke, ""));
        assert_eq!(silent.decide_reason, "nobody decided in time");
        let kinds = scene.kinds().await;
        assert_eq!(kinds.iter().filter(|kind| *kind == "review.escalated").count(), 1);

        // The next round is a month later, and one, however long nobody looked.
        scene.clock.advance(Duration::from_secs(100 * 86_400));
        sweep::sweep(&scene.desk).await.unwrap();
        assert_eq!(scene.reviews().await.len(), 2);
    })
    .await;
}

#[tokio::test]
async fn one_of_a_group_loses_it_and_one_keeps_a_part() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        let mut wide = role("clerk", "invoice:list");
        if let Some(Object::Role(role)) = &mut wide.object {
            role.spec.as_mut().unwrap().permissions.push(permission("invoice:pay"));
        }
        all.extend([agent("ledger-bot", "worker"), agent("night-bot", "worker"), wide]);
        all.extend([
            group("clerks", &["invoice-bot", "ledger-bot", "night-bot"]),
            to_group("of-clerks", "clerk", "clerks"),
        ]);
        all.push(campaign(ReviewCampaignSpec { reviews: vec![ReviewedThing::RoleBinding.into()], ..campaign_spec() }));
        scene.apply(all).await.unwrap();
        let review = scene.opened().await;
        let items = scene.items(&review.id).await;
        assert_eq!(items.len(), 4);
        let lost = about(&items, "invoice-bot", "of-clerks");
        assert_eq!(lost.group, "clerks");
        let reduced = about(&items, "ledger-bot", "of-clerks");
        let reduced = ItemDecision { keep: vec![permission("invoice:list")], ..say(reduced, ReviewDecision::Reduce) };
        let kept = [about(&items, "night-bot", "of-clerks"), about(&items, "invoice-bot", "bot-reads")];
        let mut decisions: Vec<_> = kept.map(|item| say(item, ReviewDecision::Certify)).into();
        decisions.extend([say(lost, ReviewDecision::Revoke), reduced.clone()]);
        // All of them or none.
        let beyond = ItemDecision { keep: vec![permission("invoice:erase")], ..reduced };
        let refused = scene.say_all(GRACE, &review.id, [&decisions[..3], &[beyond]].concat(), false).await.unwrap_err();
        assert_eq!(reason(&refused), "REVIEW_DECISION_UNFIT");
        assert_eq!(scene.review(&review.id).await.progress.unwrap().pending, 4);
        scene.say_all(GRACE, &review.id, decisions, false).await.unwrap();
        scene.close_review(JOAN, &review.id, false).await.unwrap();
        sweep::sweep(&scene.desk).await.unwrap();

        let of_clerks = scene.binding_spec("of-clerks").await.unwrap();
        let excepted: BTreeSet<_> = of_clerks.except_agents.iter().map(String::as_str).collect();
        assert_eq!(excepted, BTreeSet::from(["invoice-bot", "ledger-bot"]));
        let Some(Object::Group(group)) = scene.object(Kind::Group, "clerks").await.unwrap().object else { panic!() };
        assert_eq!(group.spec.unwrap().agents.len(), 3, "what else hangs on the group stays as it is");
        let items = scene.items(&review.id).await;
        let name = about(&items, "ledger-bot", "of-clerks").remediation.clone().unwrap().reduced_to;
        let part = scene.binding_spec(&name).await.unwrap();
        assert_eq!((part.agents, part.role), (vec!["ledger-bot".to_owned()], name.clone()));
        let Some(Object::Role(role)) = scene.object(Kind::Role, &name).await.unwrap().object else { panic!("no role") };
        assert_eq!(role.spec.unwrap().permissions, [permission("invoice:list")]);
    })
    .await;
}

#[tokio::test]
async fn a_grant_goes_with_what_was_passed_on_of_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([agent("ledger-bot", "worker"), agent("night-bot", "worker")]);
        all.push(grant("from-bo", "user:bo", "invoice-bot", ""));
        all.push(grant("passed-on", "agent:invoice-bot", "ledger-bot", "from-bo"));
        all.push(grant("from-cy", "user:cy", "night-bot", ""));
        let reviews = vec![ReviewedThing::DelegationGrant.into()];
        all.push(campaign(ReviewCampaignSpec { reviews, ..campaign_spec() }));
        scene.apply(all).await.unwrap();
        let review = scene.opened().await;
        let items = scene.items(&review.id).await;
        let first = about(&items, "invoice-bot", "from-bo");
        assert_eq!(first.role, "user:bo");
        let reduced = ItemDecision { keep: vec![permission("invoice:read")], ..say(first, ReviewDecision::Reduce) };
        let decisions = vec![
            reduced,
            say(about(&items, "ledger-bot", "passed-on"), ReviewDecision::Certify),
            say(about(&items, "night-bot", "from-cy"), ReviewDecision::Revoke),
        ];
        scene.say_all(GRACE, &review.id, decisions, false).await.unwrap();
        scene.close_review(JOAN, &review.id, false).await.unwrap();
        sweep::sweep(&scene.desk).await.unwrap();
        let Some(Object::DelegationGrant(left)) = scene.object(Kind::DelegationGrant, "from-bo").await.unwrap().object
        else {
            panic!("no grant")
        };
        assert_eq!(left.spec.unwrap().permissions, [permission("invoice:read")]);
        assert_eq!(scene.object(Kind::DelegationGrant, "passed-on").await, None, "it went beyond what is left");
        assert_eq!(scene.object(Kind::DelegationGrant, "from-cy").await, None);
        assert_eq!(scene.review(&review.id).await.progress.unwrap().failed, 0);
    })
    .await;
}

#[tokio::test]
async fn whoever_dies_in_between_goes_on_and_does_nothing_twice() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([agent("ledger-bot", "worker"), binding("more", "reader", &["ledger-bot"])]);
        all.push(campaign(ReviewCampaignSpec { reviews: vec![ReviewedThing::RoleBinding.into()], ..campaign_spec() }));
        scene.apply(all).await.unwrap();
        for (round, fault) in BOTH.into_iter().enumerate() {
            scene
                .apply(vec![
                    binding("bot-reads", "reader", &["invoice-bot"]),
                    binding("more", "reader", &["ledger-bot"]),
                ])
                .await
                .unwrap();
            scene.start_review(JOAN).await.unwrap();
            scene.desk.db.faults().plan("freeze_review", fault);
            sweep::sweep(&scene.desk).await.unwrap_err();
            sweep::sweep(&scene.desk).await.unwrap();
            let review = scene.reviews().await.remove(0);
            assert_eq!((review.state(), review.progress.unwrap().items), (ReviewState::Open, 2));
            scene.clock.advance(Duration::from_secs(2 * HOUR));
            for step in ["close_review_by_clock", "write_review", "write_review"] {
                scene.desk.db.faults().plan(step, fault);
                sweep::sweep(&scene.desk).await.unwrap_err();
            }
            // As another process would, which knows nothing of before.
            let again = Scene::on(fixture.db.clone());
            again.clock.advance(Duration::from_secs((round as u64 + 1) * 2 * HOUR));
            sweep::sweep(&again.desk).await.unwrap();
            let review = again.review(&review.id).await;
            let progress = review.progress.unwrap();
            assert_eq!((review.state(), progress.remediated, progress.failed), (ReviewState::Closed, 2, 0));
            let events = scene.events().await;
            let told = events.iter().filter(|event| event.r#type == "review_item.remediated");
            let told = told.filter(|event| event.details["review"] == review.id).count();
            assert_eq!(told, 2, "each once");
            let ended = events.iter().filter(|event| event.r#type == "review.ended");
            let of_it = |event: &&legate_wire::audit::AuditEvent| event.resource.as_ref().unwrap().id == review.id;
            assert_eq!(ended.filter(of_it).count(), 1);
        }
    })
    .await;
}

fn appointed(name: &str, operator: &str, namespace: &str, role: OperatorRole) -> Declaration {
    let metadata = Metadata { name: name.into(), namespace: namespace.into(), ..Metadata::default() };
    let spec = OperatorBindingSpec { operators: vec![operator.into()], role: role.into(), ..Default::default() };
    of(Object::OperatorBinding(OperatorBinding { metadata: Some(metadata), spec: Some(spec) }))
}

#[tokio::test]
async fn who_has_no_say_sees_and_changes_nothing_and_a_namespace_takes_its_reviews_along() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        assert!(scene.appoint(&["ada"]).await.unwrap());
        let mut all = payments();
        all.extend([campaign(campaign_spec()), namespace("sales")]);
        all.extend([
            appointed("a", "elsewhere", "sales", OperatorRole::Admin),
            appointed("b", "grace", "payments", OperatorRole::Viewer),
            appointed("c", "joan", "payments", OperatorRole::Editor),
        ]);
        scene.apply(all).await.unwrap();
        let review = scene.opened().await;
        let items = scene.items(&review.id).await;
        let foreign = "spiffe://example.org/legate/operator/elsewhere";
        let id = review::review_id(&review.id).unwrap();
        let unseen = review::get(&scene.desk, &by(foreign, ""), id).await.unwrap_err();
        assert_eq!(reason(&unseen), "REVIEW_NOT_FOUND");
        let seen = review::list(&scene.desk, &by(foreign, ""), ListReviewsRequest::default()).await.unwrap();
        assert!(seen.reviews.is_empty());
        let ask = ListReviewItemsRequest { review_id: review.id.clone(), ..Default::default() };
        assert_eq!(reason(&review::items(&scene.desk, &by(foreign, ""), ask).await.unwrap_err()), "REVIEW_NOT_FOUND");
        let unseen = scene.say(foreign, &items[0], ReviewDecision::Certify).await.unwrap_err();
        assert_eq!(reason(&unseen), "REVIEW_NOT_FOUND");
        assert_eq!(reason(&scene.start_review(foreign).await.unwrap_err()), "OPERATOR_NOT_PERMITTED");
        // To be asked is not enough, nor to declare.
        for actor in [GRACE, JOAN] {
            let refused = scene.say(actor, &items[0], ReviewDecision::Certify).await.unwrap_err();
            assert_eq!(reason(&refused), "OPERATOR_NOT_PERMITTED");
            let refused = scene.close_review(actor, &review.id, false).await.unwrap_err();
            assert_eq!(reason(&refused), "OPERATOR_NOT_PERMITTED");
        }
        // An administrator has somebody decide who can, and not whoever gave it.
        let to = |who: &str| ItemDecision { reassign_to: who.into(), ..say(&items[0], ReviewDecision::Reassign) };
        let refused = scene.say_all(OPERATOR, &review.id, vec![to("operator:ada")], false).await.unwrap_err();
        assert_eq!(reason(&refused), "SELF_REVIEW");
        let refused = scene.say_all(OPERATOR, &review.id, vec![to("user:nobody@x")], false).await.unwrap_err();
        assert_eq!(reason(&refused), "REVIEW_DECISION_UNFIT");
        let said = scene.say_all(OPERATOR, &review.id, vec![to("operator:third")], false).await.unwrap();
        assert_eq!(said.items[0].reviewers, ["operator:third"]);
        scene.apply(vec![appointed("d", "third", "payments", OperatorRole::Approver)]).await.unwrap();
        scene.say(THIRD, &said.items[0], ReviewDecision::Certify).await.unwrap();
        // Of another round there is no such item, nor one that never was.
        let none = ReviewItem { id: items[0].id.replace("rvi_0", "rvi_1"), ..items[0].clone() };
        let refused = scene.say(THIRD, &none, ReviewDecision::Certify).await.unwrap_err();
        assert_eq!(reason(&refused), "REVIEW_ITEM_NOT_FOUND");

        let gone = |kind: Kind, name: &str, namespace: &str| ObjectName {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        let mut removals = vec![gone(Kind::Namespace, "payments", "")];
        for (kind, name) in [
            (Kind::ReviewCampaign, "quarterly"),
            (Kind::RoleBinding, "bot-reads"),
            (Kind::Agent, "invoice-bot"),
            (Kind::AgentClass, "worker"),
            (Kind::Role, "reader"),
            (Kind::Policy, "all"),
            (Kind::EnforcementPoint, "invoices"),
            (Kind::OperatorBinding, "b"),
            (Kind::OperatorBinding, "c"),
            (Kind::OperatorBinding, "d"),
        ] {
            removals.push(gone(kind, name, "payments"));
        }
        scene.exchange("closed down", Vec::new(), removals).await.unwrap();
        assert!(scene.reviews().await.is_empty(), "its name can be another one's");
        sweep::sweep(&scene.desk).await.unwrap();
    })
    .await;
}
