//! What rounds tell and record, and very many items.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use legate_db::testing::on_each;
use legate_wire::registry::{
    ListReviewItemsRequest, ListReviewsRequest, RecordReviewVerificationRequest, ReviewCampaignSpec, ReviewDecision,
    ReviewItem, ReviewedThing, VerifiedItem,
};

use super::reviews::*;
use super::scene::*;
use crate::flow::{review, sweep};
use crate::schema::Migrator;

const DECISION: &str = "spiffe://example.org/legate/policy-decision";

#[tokio::test]
async fn what_was_found_is_recorded_of_what_was_written() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.push(campaign(campaign_spec()));
        scene.apply(all).await.unwrap();
        let review = scene.opened().await;
        let items = scene.items(&review.id).await;
        let found = |item: &ReviewItem, verified: bool, revision: u64| VerifiedItem {
            item_id: item.id.clone(),
            verified,
            difference: if verified { String::new() } else { "it still may".into() },
            revision,
        };
        let record = async |items: Vec<VerifiedItem>| {
            let ask = RecordReviewVerificationRequest { review_id: review.id.clone(), items, ..Default::default() };
            review::verify(&scene.desk, scene.call(DECISION, "", &ask, ""), ask).await
        };
        let unverified = async || {
            let ask = ListReviewsRequest { unverified_only: true, ..ListReviewsRequest::default() };
            review::list(&scene.desk, &by(JOAN, ""), ask).await.unwrap().reviews.len()
        };
        let decided = scene.say(GRACE, &items[0], ReviewDecision::Certify).await.unwrap();
        let early = record(vec![found(&items[0], true, 1)]).await.unwrap_err();
        assert_eq!(reason(&early), "REVIEW_NOT_OPEN");
        scene.clock.advance(Duration::from_secs(3 * HOUR));
        sweep::sweep(&scene.desk).await.unwrap();
        let items = scene.items(&review.id).await;
        let at = items.iter().map(|item| item.remediation.clone().unwrap().revision).max().unwrap();
        for revision in [0, 1, at + 1] {
            let refused = record(items.iter().map(|item| found(item, true, revision)).collect()).await.unwrap_err();
            assert_eq!(reason(&refused), "INVALID_ARGUMENT", "{revision}");
        }
        assert_eq!(decided.decided_by, GRACE);
        assert_eq!(unverified().await, 1, "it is closed, and nobody has looked");
        record(vec![found(&items[0], false, at)]).await.unwrap();
        assert_eq!(unverified().await, 1, "nor at all of it");
        let mute = VerifiedItem { difference: String::new(), ..found(&items[0], false, at) };
        assert_eq!(reason(&record(vec![mute]).await.unwrap_err()), "INVALID_ARGUMENT");
        let said = record(vec![found(&items[0], true, at), found(&items[1], false, at)]).await.unwrap();
        let progress = said.review.unwrap().progress.unwrap();
        assert_eq!((progress.verified, progress.differing), (1, 1));
        let items = scene.items(&review.id).await;
        assert!(items[1].verification.clone().unwrap().verified_by == DECISION);
        if items.len() > 2 {
            assert_eq!(unverified().await, 1);
            record(items[2..].iter().map(|item| found(item, true, at)).collect()).await.unwrap();
        }
        assert_eq!(unverified().await, 0);
        assert!(scene.kinds().await.contains(&"review.verified".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn a_round_tells_of_what_changed_since_and_whom_it_is_about() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        let mut spec = agent_spec("worker");
        spec.model = "m-1".into();
        all.extend([agent_with("m-bot", spec), agent("other-bot", "worker"), group("few", &["other-bot"])]);
        all.extend([class("clerk", false), agent("clerk-bot", "clerk")]);
        let scope = ReviewCampaignSpec {
            selector: "model = m-1".into(),
            groups: vec!["few".into()],
            agent_classes: vec!["clerk".into()],
            ..campaign_spec()
        };
        all.push(campaign(scope));
        scene.apply(all).await.unwrap();
        let review = scene.opened().await;
        let agents: BTreeSet<String> = scene.items(&review.id).await.into_iter().map(|item| item.agent).collect();
        assert_eq!(agents, ["m-bot", "other-bot", "clerk-bot"].map(str::to_owned).into());
        scene.clock.advance(Duration::from_secs(3 * HOUR));
        sweep::sweep(&scene.desk).await.unwrap();

        scene.apply(vec![campaign(campaign_spec())]).await.unwrap();
        let review = scene.opened().await;
        let changed = async || {
            let items = scene.items(&review.id).await;
            items.into_iter().filter(|item| item.has_changed).map(|item| item.granted).collect::<BTreeSet<_>>()
        };
        assert_eq!(changed().await, BTreeSet::new());
        scene.apply(vec![role("reader", "invoice:*")]).await.unwrap();
        assert_eq!(changed().await, BTreeSet::from(["bot-reads".to_owned()]), "what the role gives");
        // Only what one may decide about.
        let ask = ListReviewItemsRequest { review_id: review.id.clone(), own_only: true, ..Default::default() };
        let own = review::items(&scene.desk, &by(GRACE, ""), ask.clone()).await.unwrap();
        assert!(!own.items.is_empty());
        assert!(review::items(&scene.desk, &by(OPERATOR, ""), ask.clone()).await.unwrap().items.is_empty());
        // A token is good for the question that it came from.
        let paged = ListReviewItemsRequest { page_size: 1, own_only: false, ..ask };
        let token = review::items(&scene.desk, &by(GRACE, ""), paged.clone()).await.unwrap().next_page_token;
        let stolen = ListReviewItemsRequest { page_token: token.clone(), ..paged.clone() };
        let refused = review::items(&scene.desk, &by(JOAN, ""), stolen).await.unwrap_err();
        assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");
        let edited = ListReviewItemsRequest { page_token: forged(&token), ..paged };
        let refused = review::items(&scene.desk, &by(GRACE, ""), edited).await.unwrap_err();
        assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");
    })
    .await;
}

#[tokio::test]
async fn very_many_items_are_made_and_written_in_pieces() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let names: Vec<String> = (0..230).map(|n| format!("bot-{n:03}")).collect();
        let listed: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut all = payments();
        all.extend(listed.iter().map(|name| agent(name, "worker")));
        all.extend([group("many", &listed), to_group("of-many", "reader", "many")]);
        let reviews = vec![ReviewedThing::RoleBinding.into()];
        all.push(campaign(ReviewCampaignSpec { reviews, groups: vec!["many".into()], ..campaign_spec() }));
        scene.apply(all).await.unwrap();
        let review = scene.opened().await;
        assert_eq!(review.progress.unwrap().items, 230);
        let items = scene.items(&review.id).await;
        let by_agent: BTreeMap<&str, &ReviewItem> = items.iter().map(|item| (item.agent.as_str(), item)).collect();
        assert_eq!(by_agent.keys().copied().collect::<Vec<_>>(), listed, "in the order of names");
        let kept = vec![say(by_agent["bot-007"], ReviewDecision::Certify)];
        scene.say_all(GRACE, &review.id, kept, false).await.unwrap();
        scene.clock.advance(Duration::from_secs(3 * HOUR));
        let before = scene.desk.db.read("head", |tx| Box::pin(crate::store::head::read(tx))).await.unwrap_or_default();
        sweep::sweep(&scene.desk).await.unwrap();
        let progress = scene.review(&review.id).await.progress.unwrap();
        assert_eq!((progress.remediated, progress.failed), (229, 0));
        assert_eq!(scene.binding_spec("of-many").await.unwrap().except_agents.len(), 229);
        let after = scene.desk.db.read("head", |tx| Box::pin(crate::store::head::read(tx))).await.unwrap_or_default();
        assert_eq!(after - before, 4, "64 at a time");
    })
    .await;
}
