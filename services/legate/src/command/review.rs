//! `legate review`: rounds of review campaigns are started, seen, decided, closed, verified and exported.

mod csv;
mod decide;
mod evidence;
mod told;
mod verify;

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use legate_wire::registry::review_service_client::ReviewServiceClient;
use legate_wire::registry::{
    CloseReviewRequest, CloseReviewResponse, GetReviewRequest, Kind, ListReviewItemsRequest, ListReviewItemsResponse,
    ListReviewsRequest, ListReviewsResponse, Review, ReviewDecision, ReviewItem, ReviewState, StartReviewRequest,
};

use super::agent::{PAGE, cut, note};
use super::{Desk, declared, named};
use crate::cli::{ReviewEvidence, ReviewShape, ReviewVerb, ReviewWhich};
use crate::error::USAGE;
use crate::output::escape::visible_json;
use crate::output::{Row, say};
use crate::place::{Line, Service, request_id};
use crate::{Exit, Failure, proto};

/// How often the registry is asked how far a round has come.
const LOOK: Duration = Duration::from_millis(200);

pub(super) async fn run(desk: Desk, verb: ReviewVerb) -> Result<Exit, Failure> {
    match verb {
        ReviewVerb::Campaign(verb) => declared::run(desk, Kind::ReviewCampaign, verb).await,
        ReviewVerb::Start { campaign, reason } => {
            let (namespace, campaign) = named(&campaign)?;
            let registry = desk.line(Service::Registry)?;
            let ask = StartReviewRequest { namespace, campaign, request_id: request_id(), reason };
            let answer =
                registry.ask(ask, |c, r| async move { ReviewServiceClient::new(c).start_review(r).await }).await?;
            let review = answer.review.clone().unwrap_or_default();
            desk.out().one(&proto::dynamic(&answer), &told::review_row(&review), &told::review_details(&review))?;
            Ok(Exit::Done)
        }
        ReviewVerb::List { namespace, campaign, open: open_only, unverified: unverified_only, limit } => {
            let page_token = String::new();
            let ask =
                ListReviewsRequest { namespace, campaign, open_only, unverified_only, page_size: PAGE, page_token };
            list(desk, ask, limit.limit).await
        }
        ReviewVerb::Show { review, which, evidence, limit } => {
            show(desk, &review, &which, &evidence, limit.limit).await
        }
        ReviewVerb::Decide(args) => decide::run(desk, *args).await,
        ReviewVerb::Close { review, dry_run: true, etag, .. } => preview(desk, review, etag).await,
        ReviewVerb::Close { review, reason, etag, wait, .. } => {
            let wait = Duration::try_from(wait).map_err(|_| Failure::local(&USAGE, "--wait is out of range"))?;
            close(desk, review, etag, reason, wait).await
        }
        ReviewVerb::Verify { review } => {
            let registry = desk.line(Service::Registry)?;
            let review = get(&registry, &review).await?;
            verify::run(&desk, &registry, review).await
        }
        ReviewVerb::Export { review, shape, out, evidence } => {
            export(desk, &review, shape, out.as_deref(), &evidence).await
        }
    }
}

async fn list(desk: Desk, mut ask: ListReviewsRequest, limit: usize) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let mut whole = ListReviewsResponse::default();
    loop {
        let page =
            registry.ask(ask.clone(), |c, r| async move { ReviewServiceClient::new(c).list_reviews(r).await }).await?;
        whole.reviews.extend(page.reviews);
        (whole.next_page_token, whole.revision) = (page.next_page_token.clone(), page.revision);
        ask.page_token = page.next_page_token;
        if ask.page_token.is_empty() || (limit > 0 && whole.reviews.len() >= limit) {
            break;
        }
    }
    let more = cut(&mut whole.reviews, limit) || !whole.next_page_token.is_empty();
    let rows: Vec<Row> = whole.reviews.iter().map(told::review_row).collect();
    let note = note(rows.len(), "review", more, whole.revision);
    desk.out().rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

/// A round as it is now.
async fn get(registry: &Line, id: &str) -> Result<Review, Failure> {
    let ask = GetReviewRequest { review_id: id.to_owned() };
    let answer = registry.ask(ask, |c, r| async move { ReviewServiceClient::new(c).get_review(r).await }).await?;
    Ok(answer.review.unwrap_or_default())
}

/// The items of a round that are meant, with how they were used and what is found about them where that is asked for.
async fn items(
    desk: &Desk,
    registry: &Line,
    review: &str,
    which: &ReviewWhich,
    evidence: &ReviewEvidence,
) -> Result<(Vec<ReviewItem>, u64), Failure> {
    let agent_id = match &which.agent {
        Some(agent) => desk.agent_id(agent).await?,
        None => String::new(),
    };
    let decisions = if which.pending { vec![ReviewDecision::Unspecified.into()] } else { Vec::new() };
    let mut ask = ListReviewItemsRequest {
        review_id: review.to_owned(),
        decisions,
        agent_id,
        own_only: which.own,
        page_size: PAGE,
        page_token: String::new(),
        evidence_days: evidence::days(evidence)?,
    };
    let (mut found, mut revision) = (Vec::new(), 0);
    loop {
        let page = registry
            .ask(ask.clone(), |c, r| async move { ReviewServiceClient::new(c).list_review_items(r).await })
            .await?;
        found.extend(page.items);
        // All of it was seen as of the earliest of the pages, and nothing as of a later one.
        revision = if revision == 0 { page.revision } else { revision.min(page.revision) };
        ask.page_token = page.next_page_token;
        if ask.page_token.is_empty() {
            break;
        }
    }
    found.retain(|item| {
        which.granted.as_ref().is_none_or(|name| *name == item.granted)
            && which.thing.is_none_or(|thing| thing.reviewed() == item.reviewed())
    });
    if which.unused && evidence.without_evidence {
        return Err(Failure::local(
            &USAGE,
            "what is unused is known by how things were used; leave --without-evidence out",
        ));
    }
    if which.unused {
        found.retain(evidence::is_unused);
    }
    if evidence.without_evidence {
        found.iter_mut().for_each(|item| item.evidence = None);
    } else if found.iter().any(|item| item.evidence.is_some() && item.remediation.is_none()) {
        evidence::with_drift(desk, &mut found, ask.evidence_days).await;
    }
    Ok((found, revision))
}

async fn show(
    desk: Desk,
    id: &str,
    which: &ReviewWhich,
    evidence: &ReviewEvidence,
    limit: usize,
) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let review = get(&registry, id).await?;
    let (mut found, revision) = items(&desk, &registry, id, which, evidence).await?;
    let more = cut(&mut found, limit);
    let rows: Vec<Row> = found.iter().map(told::item_row).collect();
    let note = note(rows.len(), "item", more, revision);
    let whole = ListReviewItemsResponse { items: found, next_page_token: String::new(), revision };
    let mut out = desk.out();
    if out.is_table() {
        out.details(&told::review_details(&review))?;
        out.line("")?;
    }
    out.rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

async fn preview(desk: Desk, review_id: String, etag: String) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let ask = CloseReviewRequest { review_id, etag, validate_only: true, ..CloseReviewRequest::default() };
    let answer = registry.ask(ask, |c, r| async move { ReviewServiceClient::new(c).close_review(r).await }).await?;
    let review = answer.review.clone().unwrap_or_default();
    let mut out = desk.out();
    if !out.is_table() {
        out.json(&proto::dynamic(&answer), true)?;
        out.flush()?;
        return Ok(Exit::Done);
    }
    out.details(&told::review_details(&review))?;
    for line in told::preview_lines(&answer) {
        out.line(&line)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// Closes a round, waits until what was decided is written, and has policy-decision say what it does then.
async fn close(desk: Desk, review_id: String, etag: String, reason: String, wait: Duration) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let ask = CloseReviewRequest { review_id, etag, validate_only: false, request_id: request_id(), reason };
    let answer: CloseReviewResponse =
        registry.ask(ask, |c, r| async move { ReviewServiceClient::new(c).close_review(r).await }).await?;
    let mut review = answer.review.unwrap_or_default();
    let begun = tokio::time::Instant::now();
    while review.state() != ReviewState::Closed {
        if begun.elapsed() >= wait {
            say("it is closed; what was decided is still being written, and legate review verify looks at it then");
            let row = told::review_row(&review);
            desk.out().one(&row.message, &row, &told::review_details(&review))?;
            return Ok(Exit::Unavailable);
        }
        tokio::time::sleep(LOOK).await;
        review = get(&registry, &review.id).await?;
    }
    let row = told::review_row(&review);
    match verify::run(&desk, &registry, review.clone()).await {
        // It is closed and written, whoever is away now.
        Err(failure) if failure.exit == Exit::Unavailable => {
            say(&format!("it is closed and written; whether policy-decision does so is not known: {failure}"));
            say(&format!("look at it later: legate review verify {}", review.id));
            desk.out().one(&row.message, &row, &told::review_details(&review))?;
            Ok(Exit::Unavailable)
        }
        done => done,
    }
}

async fn export(
    desk: Desk,
    review: &str,
    shape: ReviewShape,
    to: Option<&Path>,
    evidence: &ReviewEvidence,
) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let (found, _) = items(&desk, &registry, review, &ReviewWhich::default(), evidence).await?;
    let mut text = String::new();
    if matches!(shape, ReviewShape::Csv) {
        text += &csv::line(&told::HEADS);
        for item in &found {
            text += &csv::line(&told::cells(item));
        }
    } else {
        for item in &found {
            let json = proto::json(&proto::dynamic(item), false).map_err(std::io::Error::other)?;
            text += &format!("{}\n", visible_json(&json));
        }
    }
    match to {
        Some(path) => {
            // Nothing that is there is written over.
            let file = std::fs::File::options().write(true).create_new(true).open(path);
            let written = file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()));
            written.map_err(|e| Failure::file(path, e))?;
            say(&format!("{} items are in {}", found.len(), path.display()));
        }
        None => {
            let mut out = desk.out();
            for line in text.lines() {
                out.line(line)?;
            }
            out.flush()?;
        }
    }
    Ok(Exit::Done)
}
