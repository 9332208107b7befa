//! What was certified is what there was to see: an item that changed is decided about by whoever saw that, and what grew since a decision
//! is not taken for certified.

use std::time::Duration;

use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentClassSpec, Declaration, ItemDecision, Kind, Permission, RemediationState, ResourceSelector, ReviewDecision,
    ReviewItem, ReviewState, RoleBindingSpec,
};

use super::reviews::*;
use super::scene::*;
use crate::flow::sweep;
use crate::schema::Migrator;

fn role_of(name: &str, actions: &[&str]) -> Declaration {
    let mut of = role(name, "a:b");
    if let Some(Object::Role(role)) = &mut of.object {
        role.spec.as_mut().unwrap().permissions = actions.iter().map(|action| permission(action)).collect();
    }
    of
}

fn bound(name: &str, role: &str, change: impl FnOnce(&mut RoleBindingSpec)) -> Declaration {
    let mut of = binding(name, role, &["invoice-bot"]);
    if let Some(Object::RoleBinding(binding)) = &mut of.object {
        change(binding.spec.as_mut().unwrap());
    }
    of
}

fn class_of(name: &str, change: impl FnOnce(&mut AgentClassSpec)) -> Declaration {
    let mut of = class(name, false);
    if let Some(Object::AgentClass(class)) = &mut of.object {
        change(class.spec.as_mut().unwrap());
    }
    of
}

fn on(id: &str) -> ResourceSelector {
    ResourceSelector { id: id.into(), ..permission("a:b").resource.unwrap() }
}

fn keeping(item: &ReviewItem, keep: Vec<Permission>) -> ItemDecision {
    ItemDecision { keep, ..say(item, ReviewDecision::Reduce) }
}

impl Scene {
    /// Grace decides about an item that she saw at a revision.
    async fn seen(&self, decision: ItemDecision, review: &str, seen_revision: u64) -> Result<ReviewItem, Fault> {
        let decision = ItemDecision { seen_revision, ..decision };
        Ok(self.say_all(GRACE, review, vec![decision], false).await?.items.remove(0))
    }
}

#[tokio::test]
async fn an_item_that_changed_is_decided_about_by_whoever_saw_that() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([campaign(campaign_spec()), grant("from-bo", "user:bo", "invoice-bot", "")]);
        all.push(bound("narrow", "reader", |spec| spec.resources = vec![on("apollo/*")]));
        scene.apply(all).await.unwrap();
        let review = scene.opened().await;
        let items = scene.items(&review.id).await;
        assert!(items.len() == 4 && items.iter().all(|item| item.changes.is_empty()), "{items:?}");

        // Each in another way, and each by somebody else than who decides.
        let widened = scene.apply(vec![role_of("reader", &["invoice:read", "ledger:erase"])]).await.unwrap().revision;
        let wide = bound("narrow", "reader", |spec| spec.resources = vec![on("apollo/*"), on("zeus/*")]);
        scene.apply(vec![wide, class_of("worker", |spec| spec.ceiling.clear())]).await.unwrap();
        let mut longer = grant("from-bo", "user:bo", "invoice-bot", "");
        if let Some(Object::DelegationGrant(grant)) = &mut longer.object {
            grant.spec.as_mut().unwrap().purpose = "acts and pays".into();
        }
        let newest = scene.apply(vec![longer]).await.unwrap().revision;
        let items = scene.items(&review.id).await;
        for (granted, told) in [
            ("bot-reads", "it gives ledger:erase on Invoice:* now"),
            ("narrow", "it is for Invoice:apollo/*, Invoice:zeus/* and no longer for Invoice:apollo/*"),
            ("worker", "spec.ceiling is not set and was "),
            ("from-bo", "spec.purpose is \"acts and pays\" and was \"acts\""),
        ] {
            let item = about(&items, "invoice-bot", granted);
            assert!(item.has_changed && item.changes.iter().any(|one| one.starts_with(told)), "{:?}", item.changes);
            let blind = scene.seen(say(item, ReviewDecision::Certify), &review.id, 0).await.unwrap_err();
            assert_eq!(reason(&blind), "REVIEW_ITEM_CHANGED", "{granted}");
            assert!(blind.to_string().contains(told), "{blind}");
        }
        let item = about(&items, "invoice-bot", "bot-reads");
        let early = scene.seen(say(item, ReviewDecision::Certify), &review.id, widened - 1).await.unwrap_err();
        assert_eq!(reason(&early), "REVIEW_ITEM_CHANGED");
        let late = scene.seen(say(item, ReviewDecision::Certify), &review.id, newest + 1).await.unwrap_err();
        assert_eq!(reason(&late), "INVALID_ARGUMENT", "nobody saw what is yet to be");
        let part = keeping(item, vec![permission("invoice:read")]);
        let blind = scene.seen(part.clone(), &review.id, 0).await.unwrap_err();
        assert_eq!(reason(&blind), "REVIEW_ITEM_CHANGED");
        // Who saw it decides about what it is now, and of that a part can be kept.
        let reduced = scene.seen(part, &review.id, widened).await.unwrap();
        assert_eq!(reduced.permissions, [permission("invoice:read"), permission("ledger:erase")]);
        let narrow = about(&items, "invoice-bot", "narrow");
        let certified = scene.seen(say(narrow, ReviewDecision::Certify), &review.id, newest).await.unwrap();
        assert_eq!(certified.resources, [on("apollo/*"), on("zeus/*")]);
        // To take it away nobody has to have seen what it became.
        let class = about(&items, "invoice-bot", "worker");
        scene.seen(say(class, ReviewDecision::Revoke), &review.id, 0).await.unwrap();
        let items = scene.items(&review.id).await;
        let still: Vec<&str> = items.iter().filter(|item| item.has_changed).map(|item| item.granted.as_str()).collect();
        assert_eq!(still, ["worker", "from-bo"], "what was looked at again is as it says");
    })
    .await;
}

#[tokio::test]
async fn of_what_the_agent_no_longer_has_nothing_is_kept() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([agent("ledger-bot", "worker"), group("clerks", &["invoice-bot", "ledger-bot"])]);
        all.extend([to_group("of-clerks", "reader", "clerks"), campaign(campaign_spec())]);
        scene.apply(all).await.unwrap();
        let review = scene.opened().await;
        // One is taken out of the group, which changes nothing for the other.
        let at = scene.apply(vec![group("clerks", &["ledger-bot"])]).await.unwrap().revision;
        let items = scene.items(&review.id).await;
        let (gone, stays) = (about(&items, "invoice-bot", "of-clerks"), about(&items, "ledger-bot", "of-clerks"));
        assert_eq!(gone.changes, ["the agent no longer has it"]);
        assert!(!stays.has_changed);
        let refused = scene.seen(say(gone, ReviewDecision::Certify), &review.id, at).await.unwrap_err();
        assert_eq!(reason(&refused), "REVIEW_ITEM_CHANGED");
        scene.seen(say(gone, ReviewDecision::Revoke), &review.id, 0).await.unwrap();
        scene.seen(say(stays, ReviewDecision::Certify), &review.id, 0).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_grew_since_it_was_certified_is_not_taken_for_certified() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([role_of("clerk", &["invoice:list", "invoice:pay"]), binding("lists", "clerk", &["invoice-bot"])]);
        all.extend([role_of("other", &["invoice:see"]), binding("sees", "other", &["invoice-bot"])]);
        all.push(campaign(campaign_spec()));
        scene.apply(all).await.unwrap();
        let review = scene.opened().await;
        let items = scene.items(&review.id).await;
        let decisions = items.iter().map(|item| say(item, ReviewDecision::Certify)).collect();
        scene.say_all(GRACE, &review.id, decisions, false).await.unwrap();
        // One grows by its role, one by its class, one has less, and one is only written anew.
        let later = vec![
            role_of("reader", &["invoice:read", "ledger:erase"]),
            class_of("worker", |spec| spec.permissions.push(permission("ledger:see"))),
            role_of("clerk", &["invoice:list"]),
            bound("sees", "other", |spec| spec.agents.push("ledger-bot".into())),
            agent("ledger-bot", "worker"),
        ];
        scene.apply(later).await.unwrap();
        let told = scene.close_review(JOAN, &review.id, true).await.unwrap();
        let mut expected: Vec<String> =
            ["bot-reads", "worker"].map(|granted| about(&items, "invoice-bot", granted).id.clone()).into();
        expected.sort();
        let mut outgrown = told.outgrown;
        outgrown.sort();
        assert_eq!(outgrown, expected);
        let refused = scene.close_review(JOAN, &review.id, false).await.unwrap_err();
        assert_eq!(reason(&refused), "REVIEW_ITEM_CHANGED", "{refused}");

        // The clock asks nobody, and says of what nobody decided about that nobody did.
        scene.clock.advance(Duration::from_secs(2 * HOUR));
        sweep::sweep(&scene.desk).await.unwrap();
        let review = scene.review(&review.id).await;
        let progress = review.progress.unwrap();
        assert_eq!((review.state(), progress.outgrown, progress.failed), (ReviewState::Closed, 2, 0));
        let items = scene.items(&review.id).await;
        let of = |granted: &str| came(about(&items, "invoice-bot", granted));
        let (state, told) = of("bot-reads");
        assert_eq!(state, RemediationState::Outgrown);
        assert_eq!(told, "it was certified, and since then it gives ledger:erase on Invoice:* now");
        assert_eq!(of("worker").0, RemediationState::Outgrown);
        assert_eq!(of("lists").0, RemediationState::NotNeeded, "it has less");
        assert_eq!(of("sees").0, RemediationState::NotNeeded, "for this agent nothing is otherwise");
        assert!(scene.binding_spec("bot-reads").await.is_some(), "nobody decided to take it away either");
        let events = scene.events().await;
        let told = events.iter().filter(|event| event.details.get("remediation").is_some_and(|of| of == "OUTGROWN"));
        assert_eq!(told.count(), 2);
        // What was approved is what was certified.
        let next = scene.opened().await;
        let items = scene.items(&next.id).await;
        let earlier = about(&items, "invoice-bot", "bot-reads").earlier.clone().unwrap();
        assert_eq!(earlier.decision(), ReviewDecision::Certify);
    })
    .await;
}

#[tokio::test]
async fn a_part_is_kept_of_what_was_reviewed_and_of_nothing_that_came_since() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        let ends = |seconds: i64| Some(prost_types::Timestamp { seconds: NOW + seconds, nanos: 0 });
        all.push(role_of("clerk", &["invoice:list", "invoice:pay"]));
        let narrow = |resources: &[&str], until: i64| {
            let resources: Vec<ResourceSelector> = resources.iter().map(|id| on(id)).collect();
            move |spec: &mut RoleBindingSpec| (spec.resources, spec.not_after) = (resources, ends(until))
        };
        all.push(bound("first", "clerk", narrow(&["apollo/*"], 86_400)));
        all.push(bound("second", "clerk", narrow(&["apollo/*", "zeus/1"], 86_400)));
        all.push(bound("third", "clerk", narrow(&["hera/*"], 86_400)));
        all.push(campaign(campaign_spec()));
        scene.apply(all).await.unwrap();
        let review = scene.opened().await;
        let items = scene.items(&review.id).await;
        let parts = ["first", "second", "third"].map(|granted| about(&items, "invoice-bot", granted));
        let decisions = parts.map(|item| keeping(item, vec![permission("invoice:list")])).into();
        scene.say_all(GRACE, &review.id, decisions, false).await.unwrap();
        // Wider and longer; narrower and shorter; and for something else altogether.
        let later = vec![
            bound("first", "clerk", narrow(&["apollo/*", "zeus/*"], 2 * 86_400)),
            bound("second", "clerk", narrow(&["apollo/7"], 3_600 * 5)),
            bound("third", "clerk", narrow(&["zeus/*"], 86_400)),
        ];
        scene.apply(later).await.unwrap();
        scene.clock.advance(Duration::from_secs(2 * HOUR));
        sweep::sweep(&scene.desk).await.unwrap();
        let items = scene.items(&review.id).await;
        let kept = async |granted: &str| {
            let of = about(&items, "invoice-bot", granted).remediation.clone().unwrap();
            assert_eq!(of.state(), RemediationState::Applied);
            if of.reduced_to.is_empty() { None } else { scene.binding_spec(&of.reduced_to).await }
        };
        let first = kept("first").await.unwrap();
        assert_eq!((first.resources, first.not_after), (vec![on("apollo/*")], ends(86_400)));
        let second = kept("second").await.unwrap();
        assert_eq!((second.resources, second.not_after), (vec![on("apollo/7")], ends(3_600 * 5)));
        assert!(kept("third").await.is_none(), "nothing that was reviewed is left of it");
        assert!(scene.object(Kind::RoleBinding, "third").await.is_none());
    })
    .await;
}

#[tokio::test]
async fn about_whom_nobody_is_asked_is_told_and_mended_by_an_administrator() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut spec = agent_spec("worker");
        spec.sponsors.clone_from(&spec.owners);
        let mut all = payments();
        all.extend([agent_with("own-bot", spec), campaign(campaign_spec())]);
        scene.apply(all).await.unwrap();
        let review = scene.opened().await;
        assert_eq!(review.progress.unwrap().unasked, 1);
        let events = scene.events().await;
        let opened = events.iter().find(|event| event.r#type == "review.opened").unwrap();
        assert_eq!(opened.details["unasked"], "1");
        let items = scene.items(&review.id).await;
        let item = about(&items, "own-bot", "worker");
        assert_eq!(item.reviewers, Vec::<String>::new());
        let to = ItemDecision { reassign_to: "operator:third".into(), ..say(item, ReviewDecision::Reassign) };
        scene.say_all(OPERATOR, &review.id, vec![to], false).await.unwrap();
        assert_eq!(scene.review(&review.id).await.progress.unwrap().unasked, 0);
    })
    .await;
}
