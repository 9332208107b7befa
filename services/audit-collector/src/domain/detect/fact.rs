//! What the rules take from an event: whose word it is, and what it says.

use legate_clock::Timestamp;
use legate_wire::audit::{AlertStatus, AuditEvent, Outcome};

use crate::domain::otlp::ACTIVITY;
use crate::domain::question::plain;
use crate::domain::text::key;

/// The SPIFFE IDs of our services: a fact counts from the one who knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Services {
    /// `spiffe://TRUST_DOMAIN/legate/`.
    folder: String,
}

impl Services {
    /// Those beside the registry of this SPIFFE ID.
    pub(crate) fn beside(registry: &str) -> Self {
        Self { folder: registry.strip_suffix("registry").unwrap_or(registry).to_owned() }
    }

    /// policy-decision.
    pub(crate) fn decision(&self) -> String {
        format!("{}{DECISION}", self.folder)
    }

    /// The name of the service that this is; `None`: none of ours.
    pub(crate) fn name<'a>(&self, spiffe_id: &'a str) -> Option<&'a str> {
        spiffe_id.strip_prefix(&self.folder).filter(|name| !name.is_empty() && !name.contains('/'))
    }
}

pub(crate) const REGISTRY: &str = "registry";
pub(crate) const ISSUER: &str = "credential-issuer";
pub(crate) const DECISION: &str = "policy-decision";
pub(crate) const COLLECTOR: &str = "audit-collector";

/// One event, as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fact {
    pub(crate) leaf: u64,
    /// By its emitter's clock, in microseconds since 1970.
    pub(crate) time: i64,
    pub(crate) emitter: String,
    /// The name of the service that told it; empty: an agent or an enforcement point.
    pub(crate) service: String,
    pub(crate) epoch: String,
    pub(crate) seq: u64,
    pub(crate) namespace: String,
    pub(crate) agent: String,
    /// Whether its emitter signed it.
    pub(crate) is_signed: bool,
    pub(crate) what: What,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// The collector's own: its time is the log's.
    Own(Own),
    /// The collector's own as well: a signature of the events behind it. There may be one for each event, so it moves no clock.
    Signature,
    /// The registry's, of an agent.
    Agent { state: String, is_new_version: bool, is_cut_off: bool },
    /// The issuer's: something was issued, under these names.
    Issued { names: Vec<String>, instance: String, until: i64, is_lasting: bool },
    /// The issuer's: it was taken back; without a name, all that the instance holds.
    Revoked { names: Vec<String>, instance: String },
    /// The issuer's: something was tried that works no longer.
    RetiredUsed { name: String },
    /// policy-decision's.
    Decided(Decided),
    /// Somebody's: an agent did something.
    Executed(Box<Action>),
    /// A service's: it lives, and tells so wherever it has nothing else to tell.
    Heartbeat { replica: String },
    /// One of the copies of a service that share a numbering was stopped in order.
    Left { replica: String },
    /// A spool began anew.
    Opened { previous: String, last: u64, torn: u64, replica: String },
    /// A spool ended in order.
    Closed,
    /// What only another service can know.
    Forged(String),
    /// Nothing that a rule asks.
    Other,
}

/// What the collector says of alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// Events that somebody offered were refused.
    Refused { emitter: String, reason: String, why: String },
    /// A certificate was shown to the collector that was taken back.
    Tried(String),
    /// An alert was told.
    Raised(String),
    /// Somebody said what became of one.
    Changed { alert: String, to: AlertStatus, by: String, why: String },
    /// Something else.
    Other,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) action: String,
    pub(crate) resource_type: String,
    pub(crate) is_allowed: bool,
    /// Whether a revoked credential was shown.
    pub(crate) by_revoked: bool,
}

/// An executed action, also as it rests until it is judged.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct Action {
    #[prost(uint64, tag = "1")]
    pub(crate) leaf: u64,
    #[prost(int64, tag = "2")]
    pub(crate) time: i64,
    #[prost(string, tag = "3")]
    pub(crate) agent: String,
    #[prost(string, tag = "4")]
    pub(crate) namespace: String,
    #[prost(string, tag = "5")]
    pub(crate) instance: String,
    #[prost(string, tag = "6")]
    pub(crate) action: String,
    #[prost(string, tag = "7")]
    pub(crate) resource_type: String,
    #[prost(string, tag = "8")]
    pub(crate) resource_id: String,
    #[prost(string, tag = "9")]
    pub(crate) decision: String,
    #[prost(string, repeated, tag = "10")]
    pub(crate) credentials: Vec<String>,
    /// The agents of the delegation chain.
    #[prost(string, repeated, tag = "11")]
    pub(crate) chain: Vec<String>,
    #[prost(string, tag = "12")]
    pub(crate) emitter: String,
    /// Where it was done, as who told it says.
    #[prost(string, tag = "13")]
    pub(crate) workload: String,
    /// The log's time from which on it waits; 0: none yet.
    #[prost(int64, tag = "14")]
    pub(crate) since: i64,
    /// The log's time at which it is looked at; 0: the next.
    #[prost(int64, tag = "15")]
    pub(crate) due: i64,
}

/// Names of one credential, and links of one chain, that are looked at.
const MOST: usize = 8;

/// The type of events by which executed actions are told.
pub(crate) const EXECUTED: &str = "action.executed";

/// The reason with which every service turns away whose certificate was revoked.
const CALLER_REVOKED: &str = "CALLER_REVOKED";

/// Who alone tells events of such types.
fn teller(kind: &str) -> Option<&'static str> {
    match kind {
        "credential.issued"
        | "credential.revoked"
        | "token.issued"
        | "token.exchanged"
        | "token.revoked"
        | "instance.revoked"
        | "svid.issued"
        | "client.created"
        | "client.retired_used" => Some(ISSUER),
        "decision.made" | "decision.withdrawn" => Some(DECISION),
        _ => match kind.split_once('.')?.0 {
            "agent" | "operators" | "operator_binding" => Some(REGISTRY),
            "log" | "alert" | "batch" => Some(COLLECTOR),
            _ => None,
        },
    }
}

impl Fact {
    /// What the event at `leaf` says.
    pub(crate) fn of(leaf: u64, event: &AuditEvent, services: &Services) -> Self {
        let emitter = event.emitter.clone().unwrap_or_default();
        let service = services.name(&emitter.spiffe_id).unwrap_or_default().to_owned();
        let time = event.time.and_then(|t| Timestamp::try_from(t).ok()).unwrap_or_default().micros();
        let what = match teller(&event.r#type) {
            Some(teller) if teller != service => What::Forged(event.r#type.clone()),
            None if service.is_empty() && !matches!(event.r#type.as_str(), EXECUTED | ACTIVITY) => {
                What::Forged(event.r#type.clone())
            }
            _ if service == COLLECTOR && event.r#type == legate_batch::KIND => What::Signature,
            _ if service == COLLECTOR => What::Own(own(event)),
            _ => what(leaf, time, event, &emitter.spiffe_id),
        };
        Self {
            leaf,
            time,
            emitter: key(&emitter.spiffe_id),
            service,
            epoch: key(&emitter.epoch),
            seq: emitter.seq,
            namespace: key(&event.namespace),
            agent: key(&event.agent_id),
            is_signed: false,
            what,
        }
    }
}

fn own(event: &AuditEvent) -> Own {
    let detail = |name: &str| event.details.get(name).cloned().unwrap_or_default();
    let changed =
        |to| Own::Changed { alert: detail("alert_id"), to, by: event.actor.clone(), why: event.reason.clone() };
    match event.r#type.as_str() {
        "batch.refused" => {
            Own::Refused { emitter: event.actor.clone(), reason: event.reason_code.clone(), why: detail("why") }
        }
        "access.refused" if event.reason_code == CALLER_REVOKED && !detail("serial").is_empty() => {
            Own::Tried(key(&detail("serial")))
        }
        "alert.raised" => Own::Raised(detail("alert_id")),
        "alert.acknowledged" => changed(AlertStatus::Acknowledged),
        "alert.resolved" => changed(AlertStatus::Resolved),
        _ => Own::Other,
    }
}

fn what(leaf: u64, time: i64, event: &AuditEvent, emitter: &str) -> What {
    let detail = |name: &str| event.details.get(name).map(String::as_str).unwrap_or_default();
    let until = |name: &str| Timestamp::parse_rfc3339(detail(name)).unwrap_or_default().micros();
    let names = |all: &[&str]| all.iter().filter(|n| !n.is_empty()).map(|n| key(n)).collect::<Vec<_>>();
    let resource = event.resource.clone().unwrap_or_default();
    let instance = key(&event.instance_id);
    let replica = || key(detail(legate_outbox::REPLICA));
    let is_done = event.outcome == i32::from(Outcome::Success);
    match event.r#type.as_str() {
        legate_outbox::HEARTBEAT => What::Heartbeat { replica: replica() },
        legate_outbox::LEFT => What::Left { replica: replica() },
        "spool.closed" => What::Closed,
        EXECUTED if event.outcome != i32::from(Outcome::Denied) => {
            What::Executed(Box::new(executed(leaf, time, event, emitter)))
        }
        "credential.issued" if is_done => {
            let names = names(&[&event.credential_id, detail("serial")]);
            What::Issued { names, instance, until: until("not_after"), is_lasting: true }
        }
        "client.created" if is_done => {
            What::Issued { names: names(&[&event.credential_id]), instance, until: until("expires"), is_lasting: true }
        }
        "token.issued" | "token.exchanged" | "svid.issued" if is_done => {
            What::Issued { names: names(&[&resource.id]), instance, until: until("expires"), is_lasting: false }
        }
        "credential.revoked" if is_done => {
            What::Revoked { names: names(&[&event.credential_id, detail("serial")]), instance }
        }
        "token.revoked" if is_done => What::Revoked { names: names(&[&resource.id]), instance },
        "instance.revoked" if is_done => What::Revoked { names: Vec::new(), instance },
        "client.retired_used" => What::RetiredUsed { name: key(&event.credential_id) },
        // Whoever was turned away by its certificate shows one that was taken back.
        "access.refused" if event.reason_code == CALLER_REVOKED && !detail("serial").is_empty() => {
            What::RetiredUsed { name: key(detail("serial")) }
        }
        "decision.made" => What::Decided(Decided {
            action: key(&event.action),
            resource_type: key(&resource.r#type),
            is_allowed: is_done,
            by_revoked: event.reason_code == "CREDENTIAL_REVOKED",
        }),
        "spool.opened" => What::Opened {
            previous: detail("previous_epoch").to_owned(),
            last: detail("previous_last_seq").parse().unwrap_or(0),
            torn: detail("torn_bytes").parse().unwrap_or(0),
            replica: replica(),
        },
        kind if kind.starts_with("agent.") && is_done && !event.agent_id.is_empty() => What::Agent {
            state: detail("state").to_owned(),
            is_new_version: event.details.keys().any(|path| is_version(path)),
            is_cut_off: kind == "agent.credentials_revoked",
        },
        _ => What::Other,
    }
}

/// Whether a field that changed makes another agent of it, whose habits are to be learned anew.
fn is_version(path: &str) -> bool {
    matches!(path, "spec.version" | "spec.model" | "spec.framework" | "spec.agent_class")
}

/// The agents of a delegation chain.
fn agents_of(chain: &[String]) -> Vec<String> {
    let mut agents: Vec<String> =
        chain.iter().map(|link| key(&plain(link))).filter(|a| a.starts_with("agt_")).collect();
    agents.sort();
    agents.dedup();
    agents.truncate(MOST);
    agents
}

fn executed(leaf: u64, time: i64, event: &AuditEvent, emitter: &str) -> Action {
    let detail = |name: &str| event.details.get(name).map(String::as_str).unwrap_or_default();
    let resource = event.resource.clone().unwrap_or_default();
    let mut credentials: Vec<String> = [event.credential_id.as_str(), detail("serial"), detail("token_id")]
        .into_iter()
        .filter(|name| !name.is_empty())
        .map(key)
        .collect();
    credentials.dedup();
    Action {
        leaf,
        time,
        agent: key(&event.agent_id),
        namespace: key(&event.namespace),
        instance: key(&event.instance_id),
        action: key(&event.action),
        resource_type: key(&resource.r#type),
        resource_id: key(&resource.id),
        decision: event.decision.as_ref().map(|d| key(&d.decision_id)).unwrap_or_default(),
        credentials,
        chain: agents_of(&event.chain),
        emitter: key(emitter),
        workload: match detail("workload") {
            "" => key(&event.instance_id),
            workload => key(workload),
        },
        since: 0,
        due: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use legate_wire::audit::Emitter;

    fn told(kind: &str, by: &str) -> What {
        let emitter = Some(Emitter { spiffe_id: by.into(), epoch: "e".into(), seq: 1 });
        let event = AuditEvent {
            r#type: kind.into(),
            emitter,
            agent_id: "agt_1".into(),
            outcome: Outcome::Success.into(),
            ..AuditEvent::default()
        };
        Fact::of(0, &event, &Services::beside("spiffe://example.org/legate/registry")).what
    }

    #[test]
    fn whoever_is_turned_away_by_a_revoked_certificate_shows_one() {
        let told = |service: &str, reason: &str, serial: &str| {
            let emitter = Emitter { spiffe_id: format!("spiffe://example.org/legate/{service}"), ..Emitter::default() };
            let mut event = AuditEvent {
                r#type: "access.refused".into(),
                emitter: Some(emitter),
                agent_id: "agt_1".into(),
                reason_code: reason.into(),
                outcome: Outcome::Denied.into(),
                ..AuditEvent::default()
            };
            if !serial.is_empty() {
                event.details.insert("serial".into(), serial.into());
            }
            Fact::of(0, &event, &Services::beside("spiffe://example.org/legate/registry"))
        };
        for service in [REGISTRY, DECISION, ISSUER] {
            let fact = told(service, "CALLER_REVOKED", "4a01");
            assert_eq!((fact.agent.as_str(), fact.what), ("agt_1", What::RetiredUsed { name: "4a01".into() }));
        }
        assert_eq!(told(COLLECTOR, "CALLER_REVOKED", "4a01").what, What::Own(Own::Tried("4a01".into())));
        assert_eq!(told(REGISTRY, "CALLER_REVOKED", "").what, What::Other);
        assert_eq!(told(REGISTRY, "CALLER_CUT_OFF", "4a01").what, What::Other);
    }

    #[test]
    fn a_fact_counts_from_whoever_knows_it_and_from_nobody_else() {
        let service = |name: &str| format!("spiffe://example.org/legate/{name}");
        let enforcer = "spiffe://example.org/ns/payments/enforcer/invoices";
        assert!(matches!(told("agent.created", &service(REGISTRY)), What::Agent { .. }));
        assert!(matches!(told("decision.made", &service(DECISION)), What::Decided(_)));
        assert!(matches!(told("token.issued", &service(ISSUER)), What::Issued { .. }));
        assert!(matches!(told("svid.issued", &service(ISSUER)), What::Issued { is_lasting: false, .. }));
        assert!(matches!(told("log.opened", &service(COLLECTOR)), What::Own(_)));
        assert!(matches!(told(EXECUTED, enforcer), What::Executed(_)));
        assert!(matches!(told(ACTIVITY, enforcer), What::Other));
        for (kind, by) in [
            ("decision.made", enforcer.to_owned()),
            ("decision.made", service(REGISTRY)),
            ("agent.created", service(DECISION)),
            ("log.opened", service(REGISTRY)),
            ("batch.attested", service(REGISTRY)),
            ("alert.resolved", service(ISSUER)),
            ("token.issued", service(DECISION)),
            ("svid.issued", service(DECISION)),
            ("access.refused", enforcer.to_owned()),
            ("decision.made", "spiffe://example.org/legate/operator/ada".to_owned()),
            ("decision.made", "spiffe://other.org/legate/policy-decision".to_owned()),
        ] {
            assert!(matches!(told(kind, &by), What::Forged(_)), "{kind} by {by}");
        }
    }
}
