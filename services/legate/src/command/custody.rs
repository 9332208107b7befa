//! `legate subject` and `legate hold`: persons whose names are erased from the audit log, and what is held.

use legate_clock::{Clock as _, SystemClock};
use legate_wire::audit::custody_service_client::CustodyServiceClient;
use legate_wire::audit::{
    CreateHoldRequest, EraseSubjectRequest, EraseSubjectResponse, Hold, ListHoldsRequest, ReleaseHoldRequest,
};

use super::Desk;
use super::query::moment as instant;
use crate::cli::{HoldSet, HoldVerb, SubjectVerb};
use crate::output::{Row, moment};
use crate::place::Service;
use crate::{Exit, Failure, proto};

pub(super) async fn subject(desk: Desk, verb: SubjectVerb) -> Result<Exit, Failure> {
    let SubjectVerb::Erase { subject, yes, reason } = verb;
    let request = EraseSubjectRequest { subject: subject.clone(), validate_only: !yes, reason };
    let audit = desk.line(Service::Audit)?;
    let answer = audit.ask(request, |c, r| async move { CustodyServiceClient::new(c).erase_subject(r).await }).await?;
    let row = Row { cells: Vec::new(), name: subject.clone(), message: proto::dynamic(&answer), node: None };
    desk.out().one(&row.message, &row, &told(&subject, yes, &answer))?;
    Ok(Exit::Done)
}

fn told(subject: &str, yes: bool, answer: &EraseSubjectResponse) -> Vec<(&'static str, String)> {
    let what = match (yes, answer.leaf_index) {
        (false, _) => "nothing is erased yet: give --yes to erase".to_owned(),
        (true, Some(leaf)) => format!("erased; leaf {leaf} of the log says so"),
        (true, None) => "there was nothing to erase".to_owned(),
    };
    let between = [&answer.first_time, &answer.last_time].map(|time| moment(time.as_ref()));
    vec![
        ("person", subject.to_owned()),
        ("erasure", what),
        ("events", format!("{} name it in a way that can be erased", answer.events)),
        ("between", between.into_iter().filter(|time| !time.is_empty()).collect::<Vec<_>>().join(" and ")),
        ("keys", answer.keys.to_string()),
        ("held by", answer.holds.join("\n")),
    ]
}

pub(super) async fn hold(desk: Desk, verb: HoldVerb) -> Result<Exit, Failure> {
    let audit = desk.line(Service::Audit)?;
    match verb {
        HoldVerb::Set(ask) => {
            let request = CreateHoldRequest { hold: Some(held(&desk, ask).await?) };
            let answer =
                audit.ask(request, |c, r| async move { CustodyServiceClient::new(c).create_hold(r).await }).await?;
            let hold = answer.hold.clone().unwrap_or_default();
            let row = row(&hold);
            let mut details: Vec<(&'static str, String)> = vec![("hold", hold.id.clone())];
            details.extend([("what", what(&hold)), ("why", hold.reason.clone()), ("by", hold.actor.clone())]);
            details.push(("leaf", answer.leaf_index.to_string()));
            desk.out().one(&proto::dynamic(&answer), &row, &details)?;
        }
        HoldVerb::List => {
            let answer = audit
                .ask(ListHoldsRequest {}, |c, r| async move { CustodyServiceClient::new(c).list_holds(r).await })
                .await?;
            let rows: Vec<Row> = answer.holds.iter().map(row).collect();
            let plural = if rows.len() == 1 { "" } else { "s" };
            desk.out().rows(&proto::dynamic(&answer), &rows, &format!("{} hold{plural} in force", rows.len()))?;
        }
        HoldVerb::Release { id, reason } => {
            let request = ReleaseHoldRequest { id: id.clone(), reason };
            let answer =
                audit.ask(request, |c, r| async move { CustodyServiceClient::new(c).release_hold(r).await }).await?;
            let row = Row { cells: Vec::new(), name: id.clone(), message: proto::dynamic(&answer), node: None };
            let details = [("hold", id), ("released", format!("leaf {} of the log says so", answer.leaf_index))];
            desk.out().one(&row.message, &row, &details)?;
        }
    }
    Ok(Exit::Done)
}

async fn held(desk: &Desk, ask: HoldSet) -> Result<Hold, Failure> {
    let now = SystemClock::new().now();
    let at = |flag: &str, text: Option<String>| text.map(|text| instant(flag, &text, now)).transpose();
    Ok(Hold {
        subject: ask.subject,
        agent_id: match ask.agent {
            Some(agent) => desk.agent_id(&agent).await?,
            None => String::new(),
        },
        namespace: ask.namespace,
        from_time: at("--since", ask.since)?.map(Into::into),
        to_time: at("--until", ask.until)?.map(Into::into),
        reason: ask.reason,
        ..Hold::default()
    })
}

/// What is held, in words.
fn what(hold: &Hold) -> String {
    let time = |word: &str, at: &Option<prost_types::Timestamp>| {
        at.as_ref().map(|at| format!("{word} {}", moment(Some(at)))).unwrap_or_default()
    };
    let some = |word: &str, text: &str| if text.is_empty() { String::new() } else { format!("{word} {text}") };
    let parts = [
        some("naming", &hold.subject),
        some("about", &hold.agent_id),
        some("in", &hold.namespace),
        time("from", &hold.from_time),
        time("before", &hold.to_time),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn row(hold: &Hold) -> Row {
    Row {
        cells: vec![
            ("ID", false, hold.id.clone()),
            ("WHAT", false, what(hold)),
            ("SINCE", false, moment(hold.create_time.as_ref())),
            ("WHY", false, hold.reason.clone()),
            ("BY", true, hold.actor.clone()),
        ],
        name: hold.id.clone(),
        message: proto::dynamic(hold),
        node: None,
    }
}
