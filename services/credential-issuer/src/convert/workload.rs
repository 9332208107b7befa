//! What nodes ask, what they are told, and what the audit trail keeps of it.

use std::collections::BTreeSet;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{InstanceId, Name};
use legate_rpc::Fault;
use legate_view::Attested;
use legate_wire::audit::AuditEvent;
use legate_wire::credential as wire;
use legate_wire::registry::{AttestationSelector, AttestationSelectorType};
use prost::Message as _;
use zeroize::Zeroizing;

use super::{
    Call, LONGEST_AUDIENCE, credential_issued, cut, details, duration, event, instance_id, resource, with_evidence,
};
use crate::domain::attested::{LONGEST_VALUE, is_for_nodes, is_of_broker};
use crate::domain::certificate::CertificatePlan;
use crate::domain::holder::Holder;
use crate::domain::svid::{SvidPlan, SvidWish};
use crate::domain::token::{self, hex};
use crate::flow::attest::{Ask, Believed};
use crate::flow::attested::{IdentityToken, Proved, Shown};
use crate::flow::issue_jwt_svid;
use crate::store::credential::{self, sha256};
use legate_wire::audit::Outcome;

/// The most that is attested of one process.
const MOST_ATTESTED: usize = 64;
/// The most bytes of all values together: everything is recorded, and fits into one event.
const MOST_BYTES: usize = 16 * 1024;
/// The most audiences of one JWT-SVID.
const MOST_AUDIENCES: usize = 8;
/// The longest name of a request, in bytes.
const LONGEST_REQUEST_ID: usize = 64;
/// The longest text in an event, in bytes.
const LONGEST_DETAIL: usize = 4096;

/// A process for which an X.509-SVID is asked.
pub(crate) fn attest(ask: wire::IssueX509SvidRequest) -> Result<Ask, Fault> {
    let name = |field, text: &str| Name::parse(text).map_err(|e| Fault::invalid(field, e.to_string()));
    let request_sha256 = sha256(&ask.encode_to_vec());
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !(1..=LONGEST_REQUEST_ID).contains(&ask.request_id.len()) || !ask.request_id.bytes().all(is_word) {
        return Err(Fault::invalid("request_id", "1 to 64 of A-Z a-z 0-9 _ -"));
    }
    let instance = match ask.instance_id.as_str() {
        "" => None,
        id => Some(instance_id(id)?),
    };
    Ok(Ask {
        namespace: name("namespace", &ask.namespace)?,
        policy: name("policy", &ask.policy)?,
        shown: shown(&ask.selectors, ask.identity_token, &ask.broker_instance_id)?,
        csr: ask.csr,
        instance,
        request_id: ask.request_id,
        request_sha256,
    })
}

/// What a node shows of a process.
fn shown(selectors: &[AttestationSelector], token: String, broker: &str) -> Result<Shown, Fault> {
    let token = Zeroizing::new(token);
    let broker = match broker {
        "" => None,
        id => Some(InstanceId::parse(id).map_err(|e| Fault::invalid("broker_instance_id", e.to_string()))?),
    };
    let seen = attested(selectors)?;
    if broker.is_none() && seen.iter().any(|one| is_of_broker(one.of)) {
        return Err(Fault::invalid(
            "broker_instance_id",
            "is missing, and a selector says what a broker calls the process",
        ));
    }
    Ok(Shown { seen, token: (!token.is_empty()).then_some(IdentityToken(token)), broker })
}

/// What a node saw of a process.
fn attested(selectors: &[AttestationSelector]) -> Result<BTreeSet<Attested>, Fault> {
    if !(1..=MOST_ATTESTED).contains(&selectors.len()) {
        return Err(Fault::invalid("selectors", "1 to 64"));
    }
    if selectors.iter().map(|selector| selector.value.len()).sum::<usize>() > MOST_BYTES {
        return Err(Fault::invalid("selectors", "16 KiB of values at most, all together"));
    }
    let mut all = BTreeSet::new();
    for (n, selector) in selectors.iter().enumerate() {
        let bad = |field: &str, why: &str| Fault::invalid(format!("selectors[{n}].{field}"), why);
        let of = match AttestationSelectorType::try_from(selector.r#type) {
            Ok(AttestationSelectorType::Unspecified) | Err(_) => return Err(bad("type", "is no type of selector")),
            Ok(of) if !is_for_nodes(of) => {
                let why = "is not for a node to say: it is read from the identity token, or from the broker's instance";
                return Err(bad("type", why));
            }
            Ok(of) => of,
        };
        let value = selector.value.as_str();
        if !(1..=LONGEST_VALUE).contains(&value.len()) || value.chars().any(legate_ids::is_deceptive) {
            let why = "1 to 512 bytes, without control, invisible or direction-changing characters";
            return Err(bad("value", why));
        }
        if !all.insert(Attested { of, value: value.into() }) {
            return Err(bad("value", "is given twice"));
        }
    }
    Ok(all)
}

/// An instance for which a JWT-SVID is asked.
pub(crate) fn jwt_svid(ask: wire::IssueJwtSvidRequest) -> Result<issue_jwt_svid::Ask, Fault> {
    let why = "1 to 8, each once, of 1 to 512 printable ASCII characters";
    let fits =
        |text: &String| (1..=LONGEST_AUDIENCE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let each_once = ask.audiences.iter().collect::<BTreeSet<_>>().len() == ask.audiences.len();
    if !(1..=MOST_AUDIENCES).contains(&ask.audiences.len()) || !ask.audiences.iter().all(fits) || !each_once {
        return Err(Fault::invalid("audiences", why));
    }
    let ttl = token::ttl(duration("ttl", ask.ttl)?)?;
    Ok(issue_jwt_svid::Ask {
        instance: instance_id(&ask.instance_id)?,
        shown: shown(&ask.selectors, ask.identity_token, &ask.broker_instance_id)?,
        wish: SvidWish { audiences: ask.audiences, ttl },
    })
}

/// How long after it last heard something a node goes on serving an agent of that risk tier; `None`: until what it has ends.
fn serve_unheard(risk_tier: &str) -> Option<Duration> {
    match risk_tier {
        "critical" => Some(Duration::from_secs(15)),
        "high" => Some(Duration::from_secs(300)),
        _ => None,
    }
}

/// What a node is told of a policy that believes it.
pub(crate) struct Told<'a> {
    pub(crate) policy: &'a legate_view::AttestationPolicy,
    pub(crate) agent: &'a legate_view::Agent,
    pub(crate) spiffe_id: String,
    pub(crate) is_usable: bool,
    pub(crate) lifecycle_version: u64,
    pub(crate) federates_with: Vec<String>,
    /// The broker's SPIFFE ID; empty: none is named.
    pub(crate) broker: String,
}

impl From<Told<'_>> for wire::Entitlement {
    fn from(told: Told<'_>) -> Self {
        let Told { policy, agent, spiffe_id, is_usable, lifecycle_version, federates_with, broker } = told;
        Self {
            namespace: policy.label.namespace.to_string(),
            policy: policy.label.name.to_string(),
            selectors: policy.selectors.iter().map(selector).collect(),
            agent_id: agent.id.to_string(),
            spiffe_id,
            is_usable,
            lifecycle_version,
            serve_unheard: serve_unheard(agent.nature.risk_tier).and_then(|span| span.try_into().ok()),
            federates_with,
            broker_spiffe_id: broker,
        }
    }
}

fn selector(of: &Attested) -> AttestationSelector {
    AttestationSelector { r#type: of.of.into(), value: of.value.to_string() }
}

/// What was attested, as people read it: `UNIX_UID:1000`.
pub(crate) fn spoken(of: &Attested) -> String {
    let word = of.of.as_str_name().trim_start_matches("ATTESTATION_SELECTOR_TYPE_");
    format!("{word}:{}", of.value)
}

/// All of it as lists in JSON, none longer than one text in an event may be.
fn listed(attested: &BTreeSet<Attested>) -> Vec<String> {
    let mut lists: Vec<Vec<String>> = vec![Vec::new()];
    let mut length = 2;
    for one in attested.iter().map(spoken) {
        // In JSON a character takes two at most here: what would take more is not accepted.
        let more = 2 * one.len() + 3;
        if length + more > LONGEST_DETAIL {
            lists.push(Vec::new());
            length = 2;
        }
        length += more;
        if let Some(list) = lists.last_mut() {
            list.push(one);
        }
    }
    lists.iter().map(|list| serde_json::to_string(list).unwrap_or_default()).collect()
}

/// By whose word, by which policy and by what: beside what came of it.
fn with_attestation(mut event: AuditEvent, believed: &Believed, proved: &Proved) -> AuditEvent {
    event.details.extend(details([
        ("node", believed.by.node.clone()),
        ("attestation_policy", believed.policy.label.to_string()),
    ]));
    for (name, all) in [("attested", &proved.attested), ("rests_on", &believed.policy.selectors)] {
        let lists = listed(all).into_iter().enumerate();
        event.details.extend(lists.map(|(n, list)| match n {
            0 => (name.to_owned(), list),
            n => (format!("{name}_{}", n + 1), list),
        }));
    }
    if let Some(broker) = &proved.broker {
        event.details.insert("broker".to_owned(), broker.spiffe_id.clone());
    }
    match &proved.evidence {
        Some(evidence) => with_evidence(event, evidence),
        None => event,
    }
}

/// A certificate for a process is about to be signed.
pub(crate) fn svid_issued(
    call: &Call,
    (plan, to_be_signed): (&CertificatePlan, &[u8]),
    origin: &str,
    (believed, proved, ask): (&Believed, &Proved, &Ask),
    revision: u64,
) -> AuditEvent {
    let mut event = credential_issued(call, plan, to_be_signed, origin, revision);
    event.details.insert("request_id".to_owned(), ask.request_id.clone());
    with_attestation(event, believed, proved)
}

/// The certificate of a request that is sent again is given again: its answer was lost.
pub(crate) fn svid_repeated(call: &Call, row: &credential::Model, ask: &Ask, now: Timestamp) -> AuditEvent {
    AuditEvent {
        namespace: row.namespace.clone(),
        agent_id: row.agent_id.clone(),
        instance_id: row.instance_id.clone(),
        resource: resource("Credential", &row.id),
        credential_id: row.id.clone(),
        details: details([("request_id", ask.request_id.clone()), ("peer_address", call.peer.addr.to_string())]),
        ..event(call, "credential.repeated", Outcome::Success, now)
    }
}

/// A JWT-SVID is about to be signed.
pub(crate) fn jwt_svid_issued(
    call: &Call,
    (holder, plan): (&Holder, &SvidPlan),
    (believed, proved): (&Believed, &Proved),
    revision: u64,
    now: Timestamp,
) -> AuditEvent {
    let SvidPlan { claims, unsigned } = plan;
    let ends = Timestamp::from_secs(i64::try_from(claims.expires_at).unwrap_or(i64::MAX));
    let event = AuditEvent {
        namespace: holder.namespace.to_string(),
        agent_id: holder.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        instance_id: holder.instance.as_ref().map(ToString::to_string).unwrap_or_default(),
        resource: resource("JwtSvid", &claims.token_id),
        revision,
        details: details([
            ("spiffe_id", claims.subject.to_string()),
            ("audience", cut(claims.audiences.join(" "))),
            ("expires", ends.to_string()),
            ("key_id", unsigned.kid().to_string()),
            ("to_be_signed_sha256", hex(&unsigned.digest())),
            ("lifecycle_version", holder.lifecycle_version.to_string()),
            ("peer_address", call.peer.addr.to_string()),
        ]),
        ..event(call, "svid.issued", Outcome::Success, now)
    };
    with_attestation(event, believed, proved)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_was_attested_is_recorded_however_much_it_is() {
        let one = |n: usize| Attested {
            of: AttestationSelectorType::UnixPath,
            value: format!("/{n:03}{}", "\"".repeat(LONGEST_VALUE - 4)).into(),
        };
        let all: BTreeSet<Attested> = (0..MOST_BYTES / LONGEST_VALUE).map(one).collect();
        let lists = listed(&all);
        assert!(lists.iter().all(|list| list.len() <= LONGEST_DETAIL), "{:?}", lists.iter().map(String::len).max());
        // With the eleven other details of an event there is room for them.
        assert!(lists.len() <= 20, "{}", lists.len());
        let read = |list: &String| serde_json::from_str::<Vec<String>>(list).unwrap_or_default();
        assert_eq!(lists.iter().flat_map(read).collect::<Vec<_>>(), all.iter().map(spoken).collect::<Vec<_>>());
        assert_eq!(listed(&BTreeSet::new()), ["[]"]);
    }
}
