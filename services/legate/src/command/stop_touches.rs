//! Whom a stop touches, and what of theirs outlasts it at those who only check signatures: each service says what it knows.

use std::collections::BTreeSet;
use std::time::Duration;

use legate_clock::{Clock as _, SystemClock, Timestamp};
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{ListUsageRequest, UsageField};
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::preview_revocation_request::Level as Seen;
use legate_wire::credential::{CredentialType, PreviewRevocationRequest, PreviewRevocationResponse};
use legate_wire::registry::stop_scope::Level;
use legate_wire::registry::stop_service_client::StopServiceClient;
use legate_wire::registry::{BlastRadius, StopAgentsRequest, StopScope};
use serde_json::{Value, json};

use super::Desk;
use super::stop::value;
use crate::output::{moment, span};
use crate::place::{Line, Service};
use crate::{Failure, proto};

/// Within this every service has heard of a stop, or issues nothing.
const HEARD_BY_ALL: Duration = Duration::from_secs(5);
const DAY: Duration = Duration::from_secs(86_400);
/// Agents whose use is looked at.
const USED: u32 = 10_000;

/// Whom a stop touches. That credential-issuer or audit-collector does not answer keeps nobody from stopping anybody.
pub(super) struct Touches {
    radius: BlastRadius,
    held: Result<PreviewRevocationResponse, String>,
    /// Of these agents, how many were let do something within a day; and whether there may be more.
    acted: Result<(usize, bool), String>,
}

impl Touches {
    pub(super) async fn of(desk: &Desk, registry: &Line, scope: &StopScope) -> Result<Self, Failure> {
        let request = StopAgentsRequest { scope: Some(scope.clone()), validate_only: true, ..Default::default() };
        let seen = registry.ask(request, |c, r| async move { StopServiceClient::new(c).stop_agents(r).await }).await?;
        let radius = seen.radius.unwrap_or_default();
        let (held, acted) = tokio::join!(held(desk, scope), acted(desk, scope, &radius));
        Ok(Self { radius, held: held.map_err(|e| e.to_string()), acted: acted.map_err(|e| e.to_string()) })
    }

    pub(super) fn agents(&self) -> u64 {
        self.radius.agents
    }

    pub(super) fn lines(&self, whom: &str) -> Vec<(&'static str, String)> {
        let radius = &self.radius;
        let least = if radius.is_exact { "" } else { " at least" };
        let states: Vec<_> = radius.states.iter().map(|one| format!("{} {}", one.agents, one.state)).collect();
        let givers: Vec<_> = radius.given_by.iter().map(|one| format!("{} by {}", one.grants, one.who)).collect();
        let acted = match &self.acted {
            Ok((count, false)) => format!("{count} within a day"),
            Ok((count, true)) => format!("{count} at least within a day"),
            Err(why) => format!("not known: {why}"),
        };
        let more = radius.agents.saturating_sub(radius.names.len() as u64);
        let mut names = radius.names.join(", ");
        if more > 0 {
            names = format!("{names} and {more} more");
        }
        vec![
            ("would stop", whom.to_owned()),
            ("agents", format!("{}{least}, of which {} work now", radius.agents, radius.working)),
            ("states", states.join(", ")),
            ("named", names),
            ("made by them", format!("{} more", radius.sub_agents)),
            ("acted", acted),
            ("grants", format!("{} {}", radius.delegation_grants, parenthesis(&givers.join(", "))).trim().to_owned()),
            ("credentials", self.credentials()),
        ]
    }

    fn credentials(&self) -> String {
        let held = match &self.held {
            Ok(held) => held,
            Err(why) => return format!("not known: {why}"),
        };
        let mut kinds = Vec::new();
        for one in &held.credentials {
            kinds.push(format!("{} {}", one.count, proto::word(one.r#type().as_str_name(), "CREDENTIAL_TYPE_")));
        }
        let more = if held.partial { ", of the first 20,000 agents" } else { "" };
        if kinds.is_empty() { "none".to_owned() } else { format!("{}{more}", kinds.join(", ")) }
    }

    /// What a verifier still accepts that checks signatures and asks nobody, and until when.
    pub(super) fn outlast(&self, stopped: Option<prost_types::Timestamp>) -> Vec<(&'static str, String)> {
        let held = match &self.held {
            Ok(held) => held,
            Err(why) => {
                let text = format!(
                    "tokens for 10 min and certificates for 24 h at the longest; credential-issuer would say exactly: {why}"
                );
                return vec![("outlasts", text)];
            }
        };
        let ttl = held.longest_token_ttl.and_then(|ttl| Duration::try_from(ttl).ok());
        let stopped = stopped.and_then(|at| Timestamp::try_from(at).ok());
        let tokens = match (stopped, ttl) {
            (Some(at), Some(ttl)) => {
                let last = moment(Some(&at.plus(HEARD_BY_ALL).plus(ttl).into()));
                format!("tokens of theirs until {last} at the longest: they live {}", span(ttl))
            }
            _ => "no tokens: there is no agent".to_owned(),
        };
        let is_certificate = |kind: CredentialType| kind == CredentialType::X509Svid;
        let latest = held.credentials.iter().filter(|one| is_certificate(one.r#type()));
        let latest = latest.filter_map(|one| one.latest_expire_time).max_by_key(|at| (at.seconds, at.nanos));
        let certificates = match latest {
            Some(at) => {
                format!("certificates of theirs until {}: the last that was issued ends then", moment(Some(&at)))
            }
            None => "no certificates: none is out".to_owned(),
        };
        vec![
            ("outlasts", "A verifier that checks signatures and asks nobody still accepts".to_owned()),
            ("", format!("- {tokens}")),
            ("", format!("- {certificates}")),
            ("", "Whoever asks policy-decision, or introspects them, does not".to_owned()),
        ]
    }

    /// The same for programs.
    pub(super) fn value(&self) -> Value {
        let held = self.held.as_ref().ok().and_then(|held| value(held).ok());
        let acted = self.acted.as_ref().ok().map(|(count, _)| *count);
        json!({"radius": value(&self.radius).ok(), "credentials": held, "actedWithinADay": acted})
    }
}

fn parenthesis(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("({text})") }
}

async fn held(desk: &Desk, scope: &StopScope) -> Result<PreviewRevocationResponse, Failure> {
    let level = scope.level.clone().map(|level| match level {
        Level::Agent(name) => Seen::Agent(name),
        Level::AgentClass(name) => Seen::AgentClass(name),
        Level::Group(name) => Seen::Group(name),
        Level::Owner(name) => Seen::Owner(name),
        Level::WholeNamespace(whole) => Seen::WholeNamespace(whole),
        Level::Everywhere(all) => Seen::Everywhere(all),
    });
    let request = PreviewRevocationRequest { namespace: scope.namespace.clone(), level };
    let issuer = desk.line(Service::Issuer)?;
    issuer.ask(request, |c, r| async move { CredentialAdminServiceClient::new(c).preview_revocation(r).await }).await
}

/// How many of these agents were let do something within a day.
async fn acted(desk: &Desk, scope: &StopScope, radius: &BlastRadius) -> Result<(usize, bool), Failure> {
    let (used, is_cut) = acted_within_a_day(desk, &scope.namespace).await?;
    let count = radius.agent_ids.iter().collect::<BTreeSet<_>>().into_iter().filter(|id| used.contains(*id)).count();
    Ok((count, is_cut || !radius.is_exact))
}

/// The agents of a namespace (empty: of all) that were let do something within a day; and whether there may be more.
pub(super) async fn acted_within_a_day(desk: &Desk, namespace: &str) -> Result<(BTreeSet<String>, bool), Failure> {
    let now = SystemClock::new().now();
    let request = ListUsageRequest {
        namespace: namespace.to_owned(),
        outcome: legate_wire::audit::Outcome::Success.into(),
        from_time: Some(now.minus(DAY).into()),
        group_by: vec![UsageField::Agent.into()],
        page_size: USED,
        ..ListUsageRequest::default()
    };
    let audit = desk.line(Service::Audit)?;
    let used = audit.ask(request, |c, r| async move { QueryServiceClient::new(c).list_usage(r).await }).await?;
    Ok((used.usage.into_iter().map(|one| one.agent_id).collect(), used.is_cut))
}

/// Whom a scope names, for people.
pub(super) fn told(scope: &StopScope) -> String {
    let namespace = &scope.namespace;
    match &scope.level {
        Some(Level::Agent(name)) => format!("the agent {namespace}/{name}, and whoever it made"),
        Some(Level::AgentClass(name)) => format!("every agent of the class {namespace}/{name}"),
        Some(Level::Group(name)) => format!("every agent of the group {namespace}/{name}"),
        Some(Level::Owner(owner)) if namespace.is_empty() => format!("every agent of the owner {owner}, everywhere"),
        Some(Level::Owner(owner)) => format!("every agent of the owner {owner}, in {namespace}"),
        Some(Level::WholeNamespace(_)) => format!("every agent of the namespace {namespace}"),
        Some(Level::Everywhere(_)) | None => "every agent there is".to_owned(),
    }
}
