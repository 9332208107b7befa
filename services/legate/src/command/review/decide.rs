//! `legate review decide`: items that are named, or many at once after they were shown.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _};

use legate_wire::registry as wire;
use wire::review_service_client::ReviewServiceClient;
use wire::{DecideReviewItemsRequest, DecideReviewItemsResponse, ItemDecision, Review, ReviewItem};

use super::told;
use crate::cli::{ReviewDecide, ReviewWhich};
use crate::command::Desk;
use crate::error::USAGE;
use crate::output::{Row, say};
use crate::place::{Line, Service, request_id};
use crate::{Exit, Failure, proto};

/// Items of one request.
const AT_ONCE: usize = 500;

pub(super) async fn run(desk: Desk, args: ReviewDecide) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let is_bulk = args.items.is_empty();
    let chosen = if is_bulk { chosen(&desk, &registry, &args).await? } else { Vec::new() };
    if !is_bulk && args.items.len() > 1 && !args.etag.is_empty() {
        return Err(Failure::local(&USAGE, "--etag is that of one item; name one, or leave it out"));
    }
    let decision = |item_id: String, etag: String| ItemDecision {
        item_id,
        etag,
        decision: args.decision.decision().into(),
        keep: args.keep.clone(),
        reassign_to: args.to.clone(),
        seen_revision: args.seen,
    };
    // What is found about them is this program's to tell, also of what they would be.
    let seen: BTreeMap<String, Vec<String>> = chosen.iter().map(|item| (item.id.clone(), item.drift.clone())).collect();
    let decisions: Vec<ItemDecision> = if is_bulk {
        // Who decides has seen each as it was shown.
        chosen.into_iter().map(|item| decision(item.id, item.etag)).collect()
    } else {
        args.items.iter().map(|id| decision(id.clone(), args.etag.clone())).collect()
    };
    if decisions.is_empty() {
        say("nobody is asked about anything that these flags mean");
        return tell(&desk, DecideReviewItemsResponse::default());
    }
    if is_bulk || args.dry_run {
        let mut preview = ask(&registry, &args, &decisions, true).await?;
        with(&mut preview.items, &seen);
        if args.dry_run {
            return tell(&desk, preview);
        }
        if !args.yes {
            confirm(&preview.items)?;
        }
    }
    let mut done = ask(&registry, &args, &decisions, false).await?;
    with(&mut done.items, &seen);
    tell(&desk, done)
}

/// Puts what is found about them to items that the registry tells, which does not know it.
fn with(items: &mut [ReviewItem], seen: &BTreeMap<String, Vec<String>>) {
    for item in items {
        item.drift = seen.get(&item.id).cloned().unwrap_or_default();
    }
}

/// The items that the flags mean.
async fn chosen(desk: &Desk, registry: &Line, args: &ReviewDecide) -> Result<Vec<ReviewItem>, Failure> {
    let of = &args.which;
    let is_any = of.pending || of.own || of.unused || of.agent.is_some() || of.granted.is_some() || of.thing.is_some();
    if !args.all_unused && !is_any {
        let text = "name items, or say which: --pending, --own, --unused, --agent, --granted, --thing or --all-unused";
        return Err(Failure::local(&USAGE, text));
    }
    let which = if args.all_unused {
        ReviewWhich { pending: true, own: true, unused: true, ..of.clone() }
    } else {
        // What is somebody else's to decide about would be refused, and all of it with it.
        ReviewWhich { own: true, ..of.clone() }
    };
    let mut evidence = args.evidence.clone();
    // Whoever is asked at the terminal sees how things were used.
    evidence.without_evidence |= !which.unused && args.yes;
    let (items, _) = super::items(desk, registry, &args.review, &which, &evidence).await?;
    Ok(items)
}

/// Asks in as many requests as it takes; each is carried out whole or not at all.
async fn ask(
    registry: &Line,
    args: &ReviewDecide,
    decisions: &[ItemDecision],
    validate_only: bool,
) -> Result<DecideReviewItemsResponse, Failure> {
    let mut whole = DecideReviewItemsResponse::default();
    for some in decisions.chunks(AT_ONCE) {
        let request = DecideReviewItemsRequest {
            review_id: args.review.clone(),
            decisions: some.to_vec(),
            validate_only,
            request_id: if validate_only { String::new() } else { request_id() },
            reason: args.reason.clone(),
        };
        let answer = registry
            .ask(request, |c, r| async move { ReviewServiceClient::new(c).decide_review_items(r).await })
            .await?;
        whole.items.extend(answer.items);
        (whole.review, whole.revision) = (answer.review, answer.revision);
    }
    Ok(whole)
}

fn tell(desk: &Desk, answer: DecideReviewItemsResponse) -> Result<Exit, Failure> {
    let rows: Vec<Row> = answer.items.iter().map(told::item_row).collect();
    let note = answer.review.as_ref().map(left).unwrap_or_default();
    desk.out().rows(&proto::dynamic(&answer), &rows, &note)?;
    Ok(Exit::Done)
}

fn left(review: &Review) -> String {
    let of = review.progress.unwrap_or_default();
    format!("{} of {} items are decided", of.items.saturating_sub(of.pending), of.items)
}

/// Whoever decides about many says how many: a wrong choice shows itself by another number.
fn confirm(items: &[ReviewItem]) -> Result<(), Failure> {
    for item in items {
        let row = told::item_row(item);
        let cells: Vec<&str> = row.cells.iter().filter(|cell| !cell.1).map(|cell| cell.2.as_str()).collect();
        say(&cells.join("  "));
    }
    let many = items.len();
    if !std::io::stdin().is_terminal() {
        let what = "nothing is decided yet: give --yes to decide without being asked at a terminal";
        return Err(Failure::local(&USAGE, what));
    }
    say(&format!("type {many} to decide about them, anything else to leave them:"));
    let mut typed = String::new();
    std::io::stdin().lock().read_line(&mut typed)?;
    if typed.trim() == many.to_string() {
        return Ok(());
    }
    Err(Failure::local(&USAGE, format!("nothing is decided: {many} was not typed")))
}
