//! policy-decision holds what it decides after a round against what was decided in it, and what it finds is told.

use std::collections::BTreeMap;

use legate_wire::policy::CheckReviewRequest;
use legate_wire::policy::review_check_service_client::ReviewCheckServiceClient;
use legate_wire::registry::Review;

use super::{get, items, told};
use crate::cli::{ReviewEvidence, ReviewWhich};
use crate::command::Desk;
use crate::output::say;
use crate::place::{Line, Service};
use crate::{Exit, Failure, proto};

/// Has it looked at, and tells what was found.
pub(super) async fn run(desk: &Desk, registry: &Line, review: Review) -> Result<Exit, Failure> {
    let policy = desk.line(Service::Policy)?;
    let (mut differing, mut page_token) = (BTreeMap::new(), String::new());
    loop {
        let ask = CheckReviewRequest { review_id: review.id.clone(), page_token };
        let page =
            policy.ask(ask, |c, r| async move { ReviewCheckServiceClient::new(c).check_review(r).await }).await?;
        for note in &page.notes {
            say(note);
        }
        let differs = page.items.into_iter().filter(|item| !item.verified);
        differing.extend(differs.map(|item| (item.item_id, item.difference)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if !differing.is_empty() {
        let evidence = ReviewEvidence { since: "1d".to_owned(), without_evidence: true };
        for item in items(desk, registry, &review.id, &ReviewWhich::default(), &evidence).await?.0 {
            if let Some(difference) = differing.get(&item.id) {
                say(&format!("{} {}: {difference}", item.id, item.agent));
            }
        }
    }
    let review = get(registry, &review.id).await?;
    let row = told::review_row(&review);
    desk.out().one(&proto::dynamic(&review), &row, &told::review_details(&review))?;
    Ok(if differing.is_empty() { Exit::Done } else { Exit::Unverified })
}
