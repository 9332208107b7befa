//! `legate person`: persons who leave, and what becomes of the agents that they answer for.

use std::time::Duration;

use legate_wire::registry::departure_service_client::DepartureServiceClient;
use legate_wire::registry::{
    Departure, DeparturePreview, ListDeparturesRequest, ListDeparturesResponse, OffboardPersonRequest,
    WithdrawDepartureRequest,
};

use super::Desk;
use super::agent::{PAGE, cut, note};
use crate::cli::{Offboard, PersonVerb};
use crate::output::{Row, moment, span};
use crate::place::{Service, request_id};
use crate::{Exit, Failure, proto};

pub(super) async fn run(desk: Desk, verb: PersonVerb) -> Result<Exit, Failure> {
    match verb {
        PersonVerb::Offboard(ask) => offboard(desk, ask).await,
        PersonVerb::List { namespace, person, with_withdrawn, limit } => {
            let (page_size, page_token) = (PAGE, String::new());
            let request = ListDeparturesRequest { namespace, person, with_withdrawn, page_size, page_token };
            list(desk, request, limit.limit).await
        }
        PersonVerb::Withdraw { person, from, reason } => {
            let namespace = from.namespace.unwrap_or_default();
            let request = WithdrawDepartureRequest { person, namespace, request_id: request_id(), reason };
            let registry = desk.line(Service::Registry)?;
            let answer = registry
                .ask(request, |c, r| async move { DepartureServiceClient::new(c).withdraw_departure(r).await })
                .await?;
            let departure = answer.departure.clone().unwrap_or_default();
            desk.out().one(&proto::dynamic(&answer), &row(&departure), &details(&departure, answer.revision))?;
            Ok(Exit::Done)
        }
    }
}

async fn offboard(desk: Desk, ask: Offboard) -> Result<Exit, Failure> {
    let request = OffboardPersonRequest {
        person: ask.person,
        namespace: ask.from.namespace.unwrap_or_default(),
        successor: ask.successor,
        grace: ask.grace,
        operators: ask.operators,
        validate_only: ask.dry_run,
        request_id: if ask.dry_run { String::new() } else { request_id() },
        reason: ask.reason,
    };
    let registry = desk.line(Service::Registry)?;
    let answer =
        registry.ask(request, |c, r| async move { DepartureServiceClient::new(c).offboard_person(r).await }).await?;
    let departure = answer.departure.clone().unwrap_or_default();
    let details = match &answer.preview {
        Some(preview) => outlook(&departure, preview, answer.revision),
        None => details(&departure, answer.revision),
    };
    desk.out().one(&proto::dynamic(&answer), &row(&departure), &details)?;
    Ok(Exit::Done)
}

async fn list(desk: Desk, mut request: ListDeparturesRequest, limit: usize) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let mut whole = ListDeparturesResponse::default();
    loop {
        let page = registry
            .ask(request.clone(), |c, r| async move { DepartureServiceClient::new(c).list_departures(r).await })
            .await?;
        whole.departures.extend(page.departures);
        (whole.next_page_token, whole.revision) = (page.next_page_token.clone(), page.revision);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || (limit > 0 && whole.departures.len() >= limit) {
            break;
        }
    }
    let more = cut(&mut whole.departures, limit) || !whole.next_page_token.is_empty();
    let rows: Vec<Row> = whole.departures.iter().map(row).collect();
    let note = note(rows.len(), "departure", more, whole.revision);
    desk.out().rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

fn place(departure: &Departure) -> String {
    if departure.namespace.is_empty() { "everywhere".to_owned() } else { departure.namespace.clone() }
}

/// How far what it answered for has passed on.
fn progress(departure: &Departure) -> String {
    let done = if departure.settle_time.is_some() { "" } else { ", goes on" };
    format!("{} passed on, {} orphaned{done}", departure.agents_passed, departure.agents_orphaned)
}

fn heir(departure: &Departure) -> String {
    if departure.successor.is_empty() { "the manager of each".to_owned() } else { departure.successor.clone() }
}

fn grace(departure: &Departure) -> String {
    let told = departure.grace.and_then(|grace| Duration::try_from(grace).ok());
    told.map_or_else(|| "as the namespace says".to_owned(), span)
}

fn withdrawn(departure: &Departure) -> String {
    if departure.withdraw_time.is_none() {
        return String::new();
    }
    let at = moment(departure.withdraw_time.as_ref());
    format!("{at} by {}: {}", departure.withdraw_actor, departure.withdraw_reason)
}

fn row(departure: &Departure) -> Row {
    Row {
        cells: vec![
            ("PERSON", false, departure.person.clone()),
            ("FROM", false, place(departure)),
            ("LEFT", false, moment(departure.time.as_ref())),
            ("SUCCESSOR", false, departure.successor.clone()),
            ("AGENTS", false, progress(departure)),
            ("WITHDRAWN", false, moment(departure.withdraw_time.as_ref())),
            ("GRACE", true, grace(departure)),
            ("OPERATORS", true, departure.operators.join(", ")),
            ("BY", true, departure.actor.clone()),
            ("REASON", true, departure.reason.clone()),
        ],
        name: departure.person.clone(),
        message: proto::dynamic(departure),
        node: None,
    }
}

fn details(departure: &Departure, revision: u64) -> Vec<(&'static str, String)> {
    vec![
        ("person", departure.person.clone()),
        ("left", format!("{} {} by {}", place(departure), moment(departure.time.as_ref()), departure.actor)),
        ("why", departure.reason.clone()),
        ("passes to", heir(departure)),
        ("grace", grace(departure)),
        ("operators", departure.operators.join(", ")),
        ("agents", progress(departure)),
        ("withdrawn", withdrawn(departure)),
        ("revision", revision.to_string()),
    ]
}

fn outlook(departure: &Departure, preview: &DeparturePreview, revision: u64) -> Vec<(&'static str, String)> {
    let least = if preview.is_exact { "" } else { "at least " };
    let grants = match preview.delegation_grants {
        0 => String::new(),
        count => format!("{least}{count} by it would be taken back"),
    };
    let bindings = match preview.operator_bindings {
        0 => String::new(),
        count => format!("{count} would lose {}", departure.operators.join(", ")),
    };
    vec![
        ("person", format!("{}, from {}; nothing is changed", departure.person, place(departure))),
        ("agents", format!("{least}{} name it", preview.agents_named)),
        ("passing", format!("{least}{} would pass to {}", preview.agents_passing, heir(departure))),
        ("orphaned", format!("{least}{} would be left without a sponsor", preview.agents_orphaned)),
        ("among them", preview.orphans.join("\n")),
        ("delegation grants", grants),
        ("operator bindings", bindings),
        ("revision", revision.to_string()),
    ]
}
