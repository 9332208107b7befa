//! Rounds of access reviews, held against what is decided: whoever asks, and when nobody does.

use legate_ids::ReviewId;
use legate_wire::registry as wire;
use wire::{Remediation, RemediationState, Review, ReviewDecision, ReviewItem, ReviewState, ReviewedThing};

use crate::flow::check_review::{CheckReview, Checked, check_review, look_at_all};
use crate::testing::*;

fn id() -> ReviewId {
    ReviewId::from_parts(1, [1; 10])
}

fn round(state: ReviewState) -> Review {
    // When the second revision was made.
    let end_time = Some(prost_types::Timestamp { seconds: NOW - 998, nanos: 0 });
    Review { id: id().to_string(), namespace: "payments".into(), state: state.into(), end_time, ..Review::default() }
}

/// About what a binding gives an agent.
fn item(n: u8, of: u8, decision: ReviewDecision, written_at: u64) -> ReviewItem {
    let state = if written_at == 0 { RemediationState::NotNeeded } else { RemediationState::Applied };
    ReviewItem {
        id: format!("rvi_{n}"),
        agent_id: agent_id(of).to_string(),
        namespace: "payments".into(),
        granted: "reads-apollo".into(),
        reviewed: ReviewedThing::RoleBinding.into(),
        decision: decision.into(),
        permissions: vec![permission("invoice:read", "Invoice", "*"), permission("ledger:write", "Invoice", "*")],
        remediation: Some(Remediation { state: state.into(), revision: written_at, ..Remediation::default() }),
        ..ReviewItem::default()
    }
}

async fn all_pages(stage: &Stage) -> Vec<Checked> {
    let mut pages: Vec<Checked> = Vec::new();
    loop {
        let page_token = pages.last().map(|page| page.next_page_token.clone()).unwrap_or_default();
        pages.push(check_review(&stage.desk, &operator(), CheckReview { review: id(), page_token }).await.unwrap());
        if pages.last().unwrap().next_page_token.is_empty() {
            return pages;
        }
    }
}

#[tokio::test]
async fn what_was_taken_and_is_still_there_is_found_and_recorded() {
    let stage = Stage::set().await;
    // Those of one agent stand on two pages of the registry.
    let mut items = vec![item(1, 8, ReviewDecision::Revoke, 0), item(2, 1, ReviewDecision::Revoke, 0)];
    items.extend([3, 4].map(|n| item(n, 1, ReviewDecision::Certify, 0)));
    items.push(item(5, 9, ReviewDecision::Revoke, 0));
    stage.registry.rounds.lock().push((round(ReviewState::Closed), items));
    let pages = all_pages(&stage).await;
    let found: Vec<_> =
        pages.iter().flat_map(|page| &page.items).map(|one| (one.item_id.as_str(), one.verified)).collect();
    assert_eq!(found, [("rvi_1", true), ("rvi_2", false), ("rvi_3", true), ("rvi_4", true), ("rvi_5", true)]);
    let kept = stage.registry.rounds.lock()[0].1.clone();
    let differs = kept[1].verification.clone().unwrap();
    assert!(differs.difference.contains("invoice:read on Invoice:apollo/*"), "{differs:?}");
    assert!(kept.iter().all(|item| item.verification.is_some()));
    let event = stage.paper.events().pop().unwrap();
    assert_eq!((event.r#type.as_str(), event.details["question"].as_str()), ("authority.searched", "check_review"));
}

#[tokio::test]
async fn what_the_round_wrote_is_looked_at_as_it_was_before_and_after() {
    let mut stage = Stage::set().await;
    // The round takes the binding, and somebody else gives another one afterwards.
    stage.change(vec![(binding(|_| ()), true)]).await;
    stage.registry.rounds.lock().push((round(ReviewState::Closed), vec![item(1, 1, ReviewDecision::Revoke, 2)]));
    look_at_all(&stage.desk).await.unwrap();
    let recorded = |stage: &Stage| stage.registry.rounds.lock()[0].1[0].verification.clone();
    let verified = recorded(&stage).unwrap();
    assert!(verified.verified && verified.revision == 2, "{verified:?}");
    assert!(stage.paper.events().iter().all(|event| event.r#type != "authority.searched"), "nobody asked");
    // At what was looked at nobody looks again by himself, and whoever asks is told what is so now.
    stage.change(vec![(binding(|_| ()), false)]).await;
    look_at_all(&stage.desk).await.unwrap();
    assert!(recorded(&stage).unwrap().verified);
    let told = all_pages(&stage).await;
    let text = &told[0].items[0].difference;
    assert!(text.contains("somebody else wrote that since"), "{text}");
    assert!(!recorded(&stage).unwrap().verified);
}

#[tokio::test]
async fn a_past_that_is_not_kept_is_noted_and_a_registry_that_is_away_is_waited_for() {
    let mut stage = Stage::set().await;
    stage.change(vec![(binding(|_| ()), true)]).await;
    // The registry of a test keeps nothing before its first revision.
    stage.registry.rounds.lock().push((round(ReviewState::Closed), vec![item(1, 1, ReviewDecision::Revoke, 1)]));
    let told = all_pages(&stage).await;
    assert!(told[0].items[0].verified && told[0].notes[0].contains("is not known"), "{told:?}");
    stage.registry.rounds.lock()[0].1[0] = item(1, 1, ReviewDecision::Revoke, 2);
    stage.registry.is_gone.store(true, std::sync::atomic::Ordering::SeqCst);
    look_at_all(&stage.desk).await.unwrap_err();
    assert!(stage.registry.rounds.lock()[0].1[0].verification.is_none(), "nothing is said of what nobody saw");
}

#[tokio::test]
async fn who_may_not_read_there_learns_nothing_and_an_open_round_is_refused() {
    let stage = Stage::set().await;
    let ask = || CheckReview { review: id(), page_token: String::new() };
    let word = async |asker: &crate::flow::Asker| check_review(&stage.desk, asker, ask()).await.unwrap_err().reason();
    assert_eq!(word(&operator()).await, "REVIEW_UNKNOWN");
    stage.registry.rounds.lock().push((round(ReviewState::Open), Vec::new()));
    assert_eq!(word(&operator()).await, "REVIEW_NOT_CLOSED");
    stage.registry.rounds.lock()[0].0.namespace = "elsewhere".into();
    assert_eq!(word(&operator()).await, "REVIEW_UNKNOWN");
    let forged = CheckReview { page_token: "20.00".into(), ..ask() };
    assert_eq!(check_review(&stage.desk, &operator(), forged).await.unwrap_err().reason(), "PAGE_TOKEN_INVALID");
}
