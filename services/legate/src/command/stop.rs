//! `legate stop`, `resume`, `stops` and `containment`: agents are stopped by one write, and it is told when everybody has heard of it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;

use legate_clock::Timestamp;
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::stop_scope::Level;
use legate_wire::registry::stop_service_client::StopServiceClient;
use legate_wire::registry::{
    Declaration, Follower, FollowerState, GetAgentRequest, GetContainmentRequest, GetContainmentResponse, Kind,
    ListDeclarationsRequest, ListDeclarationsResponse, ResumeAgentsRequest, StopAgentsRequest, StopAgentsResponse,
    StopOrder, StopScope,
};
use prost::{Message, Name};
use serde_json::{Value, json};

use super::stop_touches::{Touches, told};
use super::{Desk, agent_ref, named};
use crate::cli::{Containment, Resume, Stop, Stops, Whom};
use crate::error::USAGE;
use crate::output::{Row, is_suspended, moment, standing, stopped};
use crate::place::{Line, Service, request_id};
use crate::{Exit, Failure, manifest, output, proto};

/// How often the registry is asked how far it has come.
const LOOK: Duration = Duration::from_millis(50);
/// Stops of one page.
const PAGE: u32 = 1_000;

pub(super) async fn stop(desk: Desk, args: Stop) -> Result<Exit, Failure> {
    let patience = patience(&args.wait)?;
    let registry = desk.line(Service::Registry)?;
    let scope = scope(&registry, args.whom).await?;
    if !args.yes {
        let touches = Touches::of(&desk, &registry, &scope).await?;
        if args.dry_run {
            let whole = touches.value();
            let mut out = desk.out();
            if out.is_table() {
                out.details(&touches.lines(&told(&scope)))?
            } else {
                out.value(&whole)?
            }
            out.flush()?;
            return Ok(Exit::Done);
        }
        confirm(&touches, &scope)?;
    }
    let (scope_of, reason) = (Some(scope.clone()), args.reason);
    let request = StopAgentsRequest { scope: scope_of, validate_only: false, request_id: request_id(), reason };
    let answer = registry.ask(request, |c, r| async move { StopServiceClient::new(c).stop_agents(r).await }).await?;
    let mut out = desk.out();
    if out.is_table() {
        let when = moment(answer.stop_time.as_ref());
        let text = format!("{}, at revision {} ({when})", told(&scope), answer.revision);
        out.details(&[("stopped", text)])?;
        out.flush()?;
    }
    drop(out);
    let watched = watch(&desk, &registry, answer.revision, answer.stop_time, patience).await;
    // Asked last: what was issued by somebody who had not heard of it yet is on record by now.
    let touches = Touches::of(&desk, &registry, &scope).await;
    tell_of_stop(&desk, &answer, touches.as_ref(), watched.as_ref().ok())?;
    // They are stopped, whatever could be said of it.
    let (_, all) = watched?;
    Ok(if all { Exit::Done } else { Exit::Denied })
}

fn tell_of_stop(
    desk: &Desk,
    answer: &StopAgentsResponse,
    touches: Result<&Touches, &Failure>,
    watched: Option<&(GetContainmentResponse, bool)>,
) -> Result<(), Failure> {
    let mut out = desk.out();
    if out.is_table() {
        match touches {
            Ok(touches) => out.details(&touches.outlast(answer.stop_time))?,
            Err(why) => out.details(&[("outlasts", format!("not known: {why}"))])?,
        }
    } else {
        let reached = watched.map(|(reached, _)| value(reached)).transpose()?;
        let touches = touches.ok().map(Touches::value);
        out.value(&json!({"stop": value(answer)?, "touches": touches, "containment": reached}))?;
    }
    out.flush()
}

pub(super) async fn resume(desk: Desk, args: Resume) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let scope = scope(&registry, args.whom).await?;
    let whom = told(&scope);
    let request = ResumeAgentsRequest { scope: Some(scope), request_id: request_id(), reason: args.reason };
    let answer = registry.ask(request, |c, r| async move { StopServiceClient::new(c).resume_agents(r).await }).await?;
    let row = Row { cells: Vec::new(), name: whom.clone(), message: proto::dynamic(&answer), node: None };
    let cutoff = moment(answer.authorization_cutoff.as_ref());
    let details = [
        ("resumed", whom),
        ("orders", answer.orders.len().to_string()),
        ("cut off", format!("{cutoff}; nothing issued at or before it works, and runtimes enrol again")),
        ("revision", answer.revision.to_string()),
        ("", "Who was suspended, expired or stopped by another order is so still".to_owned()),
    ];
    desk.out().one(&row.message, &row, &details)?;
    Ok(Exit::Done)
}

pub(super) async fn list(desk: Desk, args: Stops) -> Result<Exit, Failure> {
    let registry = desk.line(Service::Registry)?;
    let mut whole = ListDeclarationsResponse::default();
    let mut request = ListDeclarationsRequest {
        kind: Kind::StopOrder.into(),
        namespace: args.namespace.unwrap_or_default(),
        page_size: PAGE,
        ..ListDeclarationsRequest::default()
    };
    loop {
        let page = registry
            .ask(request.clone(), |c, r| async move { DeclarationServiceClient::new(c).list_declarations(r).await })
            .await?;
        whole.revision = page.revision;
        whole.declarations.extend(page.declarations);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    whole.declarations.retain(|one| args.with_resumed || is_suspended(one));
    let rows: Vec<Row> = whole.declarations.iter().filter_map(row).collect();
    let plural = if rows.len() == 1 { "" } else { "s" };
    let note = format!("{} stop{plural}, as of revision {}", rows.len(), whole.revision);
    desk.out().rows(&proto::dynamic(&whole), &rows, &note)?;
    Ok(Exit::Done)
}

fn row(declaration: &Declaration) -> Option<Row> {
    let Some(Object::StopOrder(StopOrder { metadata, spec, status })) = &declaration.object else { return None };
    let (metadata, status) = (metadata.clone().unwrap_or_default(), status.clone().unwrap_or_default());
    let place = if metadata.namespace.is_empty() { "everywhere".to_owned() } else { metadata.namespace };
    Some(Row {
        cells: vec![
            ("WHERE", false, place),
            ("WHOM", false, spec.as_ref().map(stopped).unwrap_or_default()),
            ("STATE", false, if status.suspended { "STOPPED" } else { "RESUMED" }.to_owned()),
            ("SINCE", false, moment(status.state_time.as_ref())),
            ("WHY", false, status.state_reason),
            ("BY", true, status.state_actor),
            ("STANDING", true, standing(declaration)),
        ],
        name: metadata.name,
        message: proto::dynamic(declaration),
        node: None,
    })
}

pub(super) async fn containment(desk: Desk, args: Containment) -> Result<Exit, Failure> {
    let patience = patience(&args.wait)?;
    let registry = desk.line(Service::Registry)?;
    let (reached, all) = watch(&desk, &registry, args.revision, None, patience).await?;
    let mut out = desk.out();
    if !out.is_table() {
        out.json(&proto::dynamic(&reached), true)?;
    }
    out.flush()?;
    Ok(if all { Exit::Done } else { Exit::Denied })
}

fn patience(text: &str) -> Result<Duration, Failure> {
    let read = manifest::duration(text).ok().and_then(|d| Duration::try_from(d).ok());
    read.ok_or_else(|| {
        Failure::local(&USAGE, format!("--wait {text:?} is not a duration; write 500ms as 0.5s, 10s, 5m"))
    })
}

/// Asks until nobody can act by what came before the revision, or `patience` is over; says of each follower when it confirmed.
async fn watch(
    desk: &Desk,
    registry: &Line,
    revision: u64,
    since: Option<prost_types::Timestamp>,
    patience: Duration,
) -> Result<(GetContainmentResponse, bool), Failure> {
    let begun = tokio::time::Instant::now();
    let mut shown: BTreeMap<String, FollowerState> = BTreeMap::new();
    let mut revision = revision;
    loop {
        let request = GetContainmentRequest { revision };
        let call = registry.ask(request, |c, r| async move { StopServiceClient::new(c).get_containment(r).await });
        let reached = call.await?;
        revision = reached.revision;
        let is_over = reached.contained || begun.elapsed() >= patience;
        if desk.out().is_table() {
            show(desk, &reached, since, &mut shown, is_over)?;
        }
        if is_over {
            return Ok((reached.clone(), reached.contained));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A line for each follower whose state is news; when it is over, also for those that have said nothing.
fn show(
    desk: &Desk,
    reached: &GetContainmentResponse,
    since: Option<prost_types::Timestamp>,
    shown: &mut BTreeMap<String, FollowerState>,
    is_over: bool,
) -> Result<(), Failure> {
    let mut out = desk.out();
    for one in &reached.followers {
        let state = one.state();
        let name = format!("{} {} ({})", one.service, one.address, one.replica);
        if (state == FollowerState::Pending && !is_over) || shown.get(&name) == Some(&state) {
            continue;
        }
        out.details(&[(proto::word(state.as_str_name(), "FOLLOWER_STATE_"), said(one, &name, since))])?;
        shown.insert(name, state);
    }
    if is_over {
        let until = moment(reached.others_until.as_ref());
        let word = if reached.contained { "CONTAINED" } else { "NOT CONTAINED" };
        let text = match (reached.contained, reached.followers.is_empty()) {
            (true, true) => format!("revision {}: nobody follows the registry", reached.revision),
            (true, false) => format!("revision {}: nobody acts by what came before it", reached.revision),
            (false, _) => format!(
                "revision {}: whoever is PENDING can still act by what it holds; whoever is not listed, until {until}",
                reached.revision
            ),
        };
        out.details(&[(word, text)])?;
    }
    out.flush()
}

fn said(one: &Follower, name: &str, since: Option<prost_types::Timestamp>) -> String {
    let heard = moment(one.heard_time.as_ref());
    match one.state() {
        FollowerState::Confirmed => match millis(since, one.confirm_time) {
            Some(millis) => format!("{name}: after {millis} ms"),
            None => format!("{name}: since {}", moment(one.confirm_time.as_ref())),
        },
        FollowerState::Stale => format!("{name}: last heard {heard}; it denies everything until it has heard all"),
        FollowerState::Pending | FollowerState::Unspecified => {
            format!("{name}: last heard {heard}; it can act until {} at the longest", moment(one.until.as_ref()))
        }
    }
}

fn millis(from: Option<prost_types::Timestamp>, to: Option<prost_types::Timestamp>) -> Option<u128> {
    let (from, to) = (Timestamp::try_from(from?).ok()?, Timestamp::try_from(to?).ok()?);
    Some(to.since(from).as_millis())
}

/// A message as JSON.
pub(super) fn value<M: Message + Name>(of: &M) -> Result<Value, Failure> {
    let text = proto::json(&proto::dynamic(of), false).map_err(std::io::Error::other)?;
    Ok(serde_json::from_str(&text).map_err(std::io::Error::other)?)
}

/// Whoever stops many says how many: a wrong scope shows itself by another number.
fn confirm(touches: &Touches, scope: &StopScope) -> Result<(), Failure> {
    for (label, text) in touches.lines(&told(scope)) {
        output::say(&format!("{label:<12}  {text}"));
    }
    let agents = touches.agents();
    if !std::io::stdin().is_terminal() {
        let what = "nothing is stopped yet: give --yes to stop them without being asked at a terminal";
        return Err(Failure::local(&USAGE, what));
    }
    output::say(&format!("type {agents} to stop them, anything else to leave them:"));
    let mut typed = String::new();
    std::io::stdin().lock().read_line(&mut typed)?;
    if typed.trim() == agents.to_string() {
        return Ok(());
    }
    Err(Failure::local(&USAGE, format!("nothing is stopped: {agents} was not typed")))
}

/// Whom the command line names.
async fn scope(registry: &Line, whom: Whom) -> Result<StopScope, Failure> {
    let in_namespace = |text: &str, level: fn(String) -> Level| {
        let (namespace, name) = named(text)?;
        Ok::<_, Failure>(StopScope { namespace, level: Some(level(name)) })
    };
    let namespace = whom.namespace.unwrap_or_default();
    match (whom.agent, whom.class, whom.group, whom.owner) {
        (Some(agent), ..) => {
            let wanted = agent_ref(&agent)?;
            if wanted.id.is_empty() {
                return Ok(StopScope { namespace: wanted.namespace, level: Some(Level::Agent(wanted.name)) });
            }
            let request = GetAgentRequest { agent: Some(wanted.clone()), as_of: None };
            let found =
                registry.ask(request, |c, r| async move { AgentServiceClient::new(c).get_agent(r).await }).await?;
            let namespace = found.agent.and_then(|a| a.metadata).map(|m| m.namespace).unwrap_or_default();
            Ok(StopScope { namespace, level: Some(Level::Agent(wanted.id)) })
        }
        (_, Some(class), ..) => in_namespace(&class, Level::AgentClass),
        (_, _, Some(group), _) => in_namespace(&group, Level::Group),
        (.., Some(owner)) => Ok(StopScope { namespace, level: Some(Level::Owner(owner)) }),
        _ if whom.all => Ok(StopScope { namespace, level: Some(Level::Everywhere(true)) }),
        _ => Ok(StopScope { namespace, level: Some(Level::WholeNamespace(true)) }),
    }
}
