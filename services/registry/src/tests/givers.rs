//! Nobody certifies what he gave, by whatever part of it he gave it, whoever wrote it after him, and however long that is ago.

use std::collections::BTreeSet;
use std::time::Duration;

use legate_db::testing::on_each;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Declaration, ItemDecision, ReviewCampaignSpec, ReviewDecision, ReviewedThing, ReviewerOperators,
};

use super::reviews::*;
use super::scene::*;
use crate::domain::lifecycle::Transition;
use crate::flow::compact::compact;
use crate::flow::sweep;
use crate::flow::transition::Step;
use crate::schema::Migrator;

/// Joan and third look at it beside grace.
fn three() -> ReviewCampaignSpec {
    let operators = ["grace", "joan", "third"].map(str::to_owned).to_vec();
    let people = vec![ReviewerOperators { who: "user:grace@example.com".into(), operators }];
    ReviewCampaignSpec { people, ..campaign_spec() }
}

fn wider(role: Declaration, action: &str) -> Declaration {
    let mut wider = role;
    if let Some(Object::Role(role)) = &mut wider.object {
        role.spec.as_mut().unwrap().permissions.push(permission(action));
    }
    wider
}

fn giving(class: Declaration, action: &str) -> Declaration {
    let mut giving = class;
    if let Some(Object::AgentClass(class)) = &mut giving.object {
        class.spec.as_mut().unwrap().permissions.push(permission(action));
    }
    giving
}

fn names(all: &[&str]) -> Vec<String> {
    all.iter().map(|name| format!("operator:{name}")).collect()
}

#[tokio::test]
async fn whoever_wrote_the_role_the_class_or_the_group_gave_it_too() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([agent("ledger-bot", "worker"), group("clerks", &["ledger-bot"])]);
        all.extend([to_group("of-clerks", "reader", "clerks"), campaign(three())]);
        scene.apply(all).await.unwrap();
        // Each of them once, and somebody else writes the same thing after them: nothing washes off.
        scene.apply_as(JOAN, vec![wider(role("reader", "invoice:read"), "ledger:erase")], "", 0).await.unwrap();
        scene.apply_as(THIRD, vec![group("clerks", &["ledger-bot", "invoice-bot"])], "", 0).await.unwrap();
        scene.apply_as(JOAN, vec![giving(class("worker", false), "a:b")], "", 0).await.unwrap();
        let later = vec![
            wider(wider(role("reader", "invoice:read"), "ledger:erase"), "ledger:read"),
            group("clerks", &["ledger-bot", "invoice-bot", "night-bot"]),
            agent("night-bot", "worker"),
            giving(giving(class("worker", false), "a:b"), "a:c"),
        ];
        scene.apply(later).await.unwrap();
        let review = scene.opened().await;
        let items = scene.items(&review.id).await;
        let role_item = about(&items, "invoice-bot", "bot-reads");
        assert_eq!(role_item.reviewers, names(&["grace", "third"]), "joan wrote the role");
        let class_item = about(&items, "invoice-bot", "worker");
        assert_eq!(class_item.reviewers, names(&["grace", "third"]), "and the class");
        let group_item = about(&items, "invoice-bot", "of-clerks");
        assert_eq!(group_item.reviewers, names(&["grace"]), "third wrote the group");
        for (actor, item) in [(JOAN, role_item), (JOAN, class_item), (JOAN, group_item), (THIRD, group_item)] {
            let refused = scene.say(actor, item, ReviewDecision::Certify).await.unwrap_err();
            assert_eq!(reason(&refused), "SELF_REVIEW", "{actor} {}", item.granted);
        }
        // Nor does an administrator have one of them decide.
        let to = ItemDecision { reassign_to: "operator:joan".into(), ..say(role_item, ReviewDecision::Reassign) };
        let refused = scene.say_all(OPERATOR, &review.id, vec![to], false).await.unwrap_err();
        assert_eq!(reason(&refused), "SELF_REVIEW");
        scene.say(GRACE, role_item, ReviewDecision::Certify).await.unwrap();
        // Who comes to have a hand in it while the round is open is barred from then on.
        scene.apply_as(THIRD, vec![giving(class("worker", false), "a:d")], "", 0).await.unwrap();
        let refused = scene.say(THIRD, class_item, ReviewDecision::Revoke).await.unwrap_err();
        assert_eq!(reason(&refused), "SELF_REVIEW");
    })
    .await;
}

#[tokio::test]
async fn whoever_is_selected_by_what_he_declared_of_the_agent_did_not_come_there_by_himself() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        let mut spec = agent_spec("worker");
        spec.model = "m-1".into();
        let mut selects = group("fast", &[]);
        if let Some(Object::Group(group)) = &mut selects.object {
            group.spec.as_mut().unwrap().selector = "model = m-2".into();
        }
        all.extend([agent_with("fast-bot", spec.clone()), selects, to_group("of-fast", "reader", "fast")]);
        all.push(campaign(ReviewCampaignSpec { reviews: vec![ReviewedThing::RoleBinding.into()], ..three() }));
        scene.apply(all).await.unwrap();
        spec.model = "m-2".into();
        scene.apply_as(JOAN, vec![agent_with("fast-bot", spec)], "", 0).await.unwrap();
        let review = scene.opened().await;
        let items = scene.items(&review.id).await;
        assert_eq!(about(&items, "fast-bot", "of-fast").reviewers, names(&["grace", "third"]), "joan put it there");
        assert_eq!(about(&items, "invoice-bot", "bot-reads").reviewers, names(&["grace", "joan", "third"]));
    })
    .await;
}

#[tokio::test]
async fn nothing_washes_off_by_what_a_review_writes_nor_by_time() {
    on_each::<Migrator>(async |fixture| {
        const MINUTE: Duration = Duration::from_secs(60);
        let scene = Scene::keeping(fixture.db.clone(), Some(MINUTE));
        let mut all = payments();
        all.push(agent("ledger-bot", "worker"));
        all.push(wider(role("clerk", "invoice:list"), "invoice:pay"));
        all.push(binding("clerks", "clerk", &["invoice-bot"]));
        all.push(campaign(ReviewCampaignSpec { reviews: vec![ReviewedThing::RoleBinding.into()], ..three() }));
        scene.apply(all).await.unwrap();
        // Joan gives it to a second agent: neither the first nor, in the end, the last who writes the binding.
        scene.apply_as(JOAN, vec![binding("clerks", "clerk", &["invoice-bot", "ledger-bot"])], "", 0).await.unwrap();
        let review = scene.opened().await;
        let items = scene.items(&review.id).await;
        let (kept, part) = (about(&items, "ledger-bot", "clerks"), about(&items, "invoice-bot", "clerks"));
        assert_eq!(kept.reviewers, names(&["grace", "third"]));
        let reduced = ItemDecision { keep: vec![permission("invoice:list")], ..say(part, ReviewDecision::Reduce) };
        let rest = about(&items, "invoice-bot", "bot-reads");
        let decisions = vec![reduced, say(kept, ReviewDecision::Certify), say(rest, ReviewDecision::Certify)];
        scene.say_all(GRACE, &review.id, decisions, false).await.unwrap();
        scene.close_review(THIRD, &review.id, false).await.unwrap();
        sweep::sweep(&scene.desk).await.unwrap();
        let items = scene.items(&review.id).await;
        let name = about(&items, "invoice-bot", "clerks").remediation.clone().unwrap().reduced_to;
        assert!(!name.is_empty());

        // All of it is long ago, and of the versions the last one is kept.
        scene.clock.advance(10 * MINUTE);
        scene.apply(vec![namespace("later")]).await.unwrap();
        scene.clock.advance(10 * MINUTE);
        assert!(compact(&scene.desk).await.unwrap() > 0);
        let review = scene.opened().await;
        let items = scene.items(&review.id).await;
        let [whole, part] = [about(&items, "ledger-bot", "clerks"), about(&items, "invoice-bot", &name)];
        for item in [whole, part] {
            assert_eq!(item.granted_by, "spiffe://example.org/legate/registry", "the review wrote it last");
            assert_eq!(item.reviewers, names(&["grace", "third"]), "{}: joan gave it, and ada", item.granted);
            let refused = scene.say(JOAN, item, ReviewDecision::Certify).await.unwrap_err();
            assert_eq!(reason(&refused), "SELF_REVIEW");
            let refused = scene.say(OPERATOR, item, ReviewDecision::Certify).await.unwrap_err();
            assert_eq!(reason(&refused), "SELF_REVIEW");
        }
        let asked: BTreeSet<&str> = items.iter().map(|item| item.granted.as_str()).collect();
        assert_eq!(asked, BTreeSet::from(["bot-reads", "clerks", name.as_str()]));
    })
    .await;
}

#[tokio::test]
async fn whoever_takes_something_away_gave_nothing() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([
            agent("ledger-bot", "worker"),
            agent("old-bot", "worker"),
            group("clerks", &["ledger-bot", "old-bot"]),
        ]);
        all.extend([to_group("of-clerks", "reader", "clerks"), campaign(three())]);
        scene.apply(all).await.unwrap();
        scene.apply(vec![wider(role("reader", "invoice:read"), "ledger:erase")]).await.unwrap();
        // Joan retires a member of the group, and third takes something out of the role and the binding says less.
        scene.step(JOAN, "old-bot", Step::Transition(Transition::Retire)).await.unwrap();
        scene.apply_as(THIRD, vec![role("reader", "invoice:read")], "", 0).await.unwrap();
        let review = scene.opened().await;
        let items = scene.items(&review.id).await;
        let item = about(&items, "ledger-bot", "of-clerks");
        assert_eq!(item.reviewers, names(&["grace", "joan", "third"]));
        for actor in [JOAN, THIRD] {
            scene
                .say(actor, about(&scene.items(&review.id).await, "ledger-bot", "of-clerks"), ReviewDecision::Certify)
                .await
                .unwrap();
        }
        // The way back is a way to give.
        scene.apply_as(THIRD, vec![wider(role("reader", "invoice:read"), "ledger:erase")], "", 0).await.unwrap();
        let again = scene.items(&review.id).await;
        let refused =
            scene.say(THIRD, about(&again, "ledger-bot", "of-clerks"), ReviewDecision::Revoke).await.unwrap_err();
        assert_eq!(reason(&refused), "SELF_REVIEW");
    })
    .await;
}
