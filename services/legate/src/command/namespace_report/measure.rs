//! One kind of evidence is counted, within bounds, as of the moment or by the log up to it.

use legate_wire::audit::{EventOrder, IndexedEvent, Outcome, QueryEventsRequest, UsageField};
use legate_wire::policy::ListDriftRequest;
use legate_wire::policy::drift_service_client::DriftServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::review_service_client::ReviewServiceClient;
use legate_wire::registry::{Kind, ListReviewsRequest};

use crate::Failure;
use crate::command::audit::{PAGE, each_page, verify_events};
use crate::command::dossier::Fixed;
use crate::command::dossier::ask::{self, PATIENCE, Then};
use crate::dossier::Told;
use crate::dossier::requirements::{Ended, Evidence, Limit, Measured, filter};
use crate::output;
use crate::place::Line;

/// Events of one kind that are counted.
const EVENTS: u64 = 20_000;
/// Boundaries, and rounds of reviews, that are looked at.
const DECLARED: usize = 10_000;
/// Pages of agents whose drift is looked at, 500 agents each.
const DRIFT_PAGES: usize = 20;

/// What was counted.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) count: u64,
    /// It was not counted to its end.
    pub(super) is_at_least: bool,
    pub(super) told: Told,
    /// The first and the last event, where events were counted.
    pub(super) first: Option<IndexedEvent>,
    pub(super) last: Option<IndexedEvent>,
    pub(super) note: String,
}

impl Found {
    fn of(count: u64, is_at_least: bool, told: Told) -> Self {
        Self { count, is_at_least, told, first: None, last: None, note: String::new() }
    }

    pub(super) fn number(&self) -> String {
        if self.is_at_least { format!("at least {}", self.count) } else { self.count.to_string() }
    }

    /// The leaves of the first and the last event.
    pub(super) fn leaves(&self) -> String {
        match (&self.first, &self.last) {
            (Some(first), Some(last)) => format!("{} to {}", first.leaf_index, last.leaf_index),
            _ => String::new(),
        }
    }
}

pub(super) async fn measure(
    registry: &Line,
    policy: &Line,
    fixed: &Fixed,
    namespace: &str,
    of: &Evidence,
    at: &Then,
) -> Result<Found, Failure> {
    match of.measured {
        Measured::Agents(filter) => agents(registry, namespace, filter, at).await,
        Measured::Objects(_, kind) => objects(registry, namespace, kind, at).await,
        Measured::Boundaries(limit) => boundaries(registry, namespace, limit, at).await,
        Measured::Events(types) => events(fixed, namespace, types, at).await,
        Measured::Decisions(ended) => decisions(fixed, namespace, ended, at).await,
        Measured::Rounds => rounds(registry, namespace, at).await,
        Measured::Drift => drift(policy, namespace).await,
        Measured::Leaves => leaves(fixed, namespace).await,
    }
}

async fn agents(registry: &Line, namespace: &str, filter: &str, at: &Then) -> Result<Found, Failure> {
    let (all, is_cut) = ask::agents(registry, namespace, filter, at, DECLARED).await?;
    Ok(Found::of(all.len() as u64, is_cut, Told::AsOf))
}

async fn objects(registry: &Line, namespace: &str, kind: Kind, at: &Then) -> Result<Found, Failure> {
    let (all, is_cut) = ask::objects(registry, kind, namespace, at, DECLARED).await?;
    Ok(Found::of(all.len() as u64, is_cut, Told::AsOf))
}

async fn boundaries(registry: &Line, namespace: &str, limit: Limit, at: &Then) -> Result<Found, Failure> {
    let (all, is_cut) = ask::objects(registry, Kind::Boundary, namespace, at, DECLARED).await?;
    let (mut count, mut named) = (0, std::collections::BTreeSet::new());
    for one in all {
        let Some(Object::Boundary(boundary)) = one.object else { continue };
        let spec = boundary.spec.unwrap_or_default();
        let list = match limit {
            Limit::Regions => spec.regions,
            Limit::Classifications => spec.data_classifications,
            Limit::Purposes => spec.purposes,
            Limit::Regimes => spec.regimes,
        };
        count += u64::from(!list.is_empty());
        named.extend(list);
    }
    let note = named.into_iter().collect::<Vec<_>>().join(", ");
    Ok(Found { note, ..Found::of(count, is_cut, Told::AsOf) })
}

async fn events(fixed: &Fixed, namespace: &str, types: &[&str], at: &Then) -> Result<Found, Failure> {
    let question = QueryEventsRequest {
        namespace: namespace.to_owned(),
        filter: filter(types),
        to_time: at.until(),
        indexed_at_least: fixed.signed.size,
        ..Default::default()
    };
    let mut found = Found::of(0, false, Told::ByTheLog);
    if fixed.signed.size == 0 {
        return Ok(found);
    }
    let one = |order: EventOrder| QueryEventsRequest {
        order: order.into(),
        with_proofs: true,
        proof_tree_size: fixed.signed.size,
        page_size: 1,
        ..question.clone()
    };
    found.first = end(fixed, one(EventOrder::OldestFirst)).await?;
    found.last = end(fixed, one(EventOrder::NewestFirst)).await?;
    if found.first.is_none() {
        return Ok(found);
    }
    let all = QueryEventsRequest { page_size: PAGE, ..question };
    each_page(&fixed.audit, all, |page| {
        found.count += page.events.iter().filter(|event| event.leaf_index < fixed.signed.size).count() as u64;
        found.is_at_least = found.count >= EVENTS && !page.next_page_token.is_empty();
        Ok(!found.is_at_least)
    })
    .await?;
    Ok(found)
}

/// The event at one end of an answer, verified.
async fn end(fixed: &Fixed, question: QueryEventsRequest) -> Result<Option<IndexedEvent>, Failure> {
    let mut found = None;
    each_page(&fixed.audit, question, |page| {
        verify_events(&fixed.signed, &page.events)?;
        found = page.events.first().cloned();
        Ok(found.is_none())
    })
    .await?;
    Ok(found)
}

async fn decisions(fixed: &Fixed, namespace: &str, ended: Ended, at: &Then) -> Result<Found, Failure> {
    let told = ask::usage(&fixed.audit, namespace, "", at, &[UsageField::Outcome], fixed.signed.size).await?;
    let wanted = if ended == Ended::Allowed { Outcome::Success } else { Outcome::Denied };
    let rows = told.usage.iter().filter(|row| row.outcome() == wanted);
    let mut found = Found::of(0, told.is_cut, Told::ByTheLog);
    for row in rows {
        found.count += row.count;
        found.note = format!(
            "{} to {}; the last hour counts whole",
            output::moment(row.first_time.as_ref()),
            output::moment(row.last_time.as_ref())
        );
    }
    Ok(found)
}

async fn rounds(registry: &Line, namespace: &str, at: &Then) -> Result<Found, Failure> {
    let mut request = ListReviewsRequest { namespace: namespace.to_owned(), page_size: 1_000, ..Default::default() };
    let (mut found, mut closed) = (Found::of(0, false, Told::ByItsTimes), 0);
    loop {
        let page = registry
            .ask(request.clone(), |c, r| async move { ReviewServiceClient::new(c).list_reviews(r).await })
            .await?;
        let begun = page.reviews.iter().filter(|round| at.covers(round.start_time.as_ref()));
        for round in begun {
            found.count += 1;
            closed += u64::from(at.covers(round.close_time.as_ref()));
        }
        request.page_token = page.next_page_token;
        found.is_at_least = found.count as usize >= DECLARED && !request.page_token.is_empty();
        if request.page_token.is_empty() || found.is_at_least {
            found.note = format!("{closed} of them closed by then");
            return Ok(found);
        }
    }
}

async fn drift(policy: &Line, namespace: &str) -> Result<Found, Failure> {
    let mut request = ListDriftRequest { namespace: namespace.to_owned(), ..Default::default() };
    let mut found = Found::of(0, false, Told::Now);
    let (mut agents, mut not_judged) = (0, 0);
    for _ in 0..DRIFT_PAGES {
        let page = policy
            .ask(request.clone(), |c, r| async move {
                let mut request = tonic::Request::new(r);
                request.set_timeout(PATIENCE);
                DriftServiceClient::new(c).max_decoding_message_size(64 << 20).list_drift(request).await
            })
            .await?;
        found.count += page.findings.len() as u64 + u64::from(page.left_out);
        agents += u64::from(page.agents);
        not_judged += u64::from(page.not_judged);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    found.is_at_least = !request.page_token.is_empty();
    found.note = format!(
        "about {agents} agents as they are now; {not_judged} things cannot be judged yet. Nobody keeps how it would have been computed earlier"
    );
    Ok(found)
}

async fn leaves(fixed: &Fixed, namespace: &str) -> Result<Found, Failure> {
    let mut found = Found::of(fixed.signed.size, false, Told::Now);
    if fixed.signed.size == 0 {
        return Ok(found);
    }
    let one = |order: EventOrder| QueryEventsRequest {
        namespace: namespace.to_owned(),
        order: order.into(),
        with_proofs: true,
        proof_tree_size: fixed.signed.size,
        indexed_at_least: fixed.signed.size,
        page_size: 1,
        ..Default::default()
    };
    found.first = end(fixed, one(EventOrder::OldestFirst)).await?;
    found.last = end(fixed, one(EventOrder::NewestFirst)).await?;
    let time =
        |event: &Option<IndexedEvent>| output::moment(event.as_ref().and_then(|one| one.event.as_ref()?.time.as_ref()));
    found.note = format!(
        "of the whole log as it is now; the events of this namespace reach from {} to {}",
        time(&found.first),
        time(&found.last)
    );
    Ok(found)
}
