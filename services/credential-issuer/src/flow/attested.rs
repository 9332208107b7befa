//! What a node shows of a process, proved: what it saw itself, what the process's token says, and which broker asks for it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use legate_ids::{AgentId, InstanceId, Name};
use legate_rpc::Fault;
use legate_token::ForeignVerified;
use legate_view::{AttestationPolicy, Attested, Snapshot};
use legate_wire::registry::AttestationSelectorType as Type;
use zeroize::Zeroizing;

use super::attest::{self, Believed};
use super::foreign::{self, Evidence};
use super::issue_jwt_svid::attested_by;
use super::{Call, Desk, instances};
use crate::domain::attested::{LONGEST_VALUE, fact_of, is_of_broker};
use crate::domain::instance::State;
use crate::error::{BROKER_NOT_GOOD, IDENTITY_TOKEN_SPENT, flow, of_tx};
use crate::store::credential::sha256;
use crate::store::used_token;

/// The token that the platform gave a process.
#[derive(Clone)]
pub(crate) struct IdentityToken(pub(crate) Zeroizing<String>);

impl fmt::Debug for IdentityToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityToken(hidden)")
    }
}

/// What a node shows.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// What it saw itself.
    pub(crate) seen: BTreeSet<Attested>,
    pub(crate) token: Option<IdentityToken>,
    /// The instance that asks for the process.
    pub(crate) broker: Option<InstanceId>,
}

/// Who asks for a process that it started.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    pub(crate) agent: AgentId,
    /// With the instance.
    pub(crate) spiffe_id: String,
}

/// What is known of a process, and by what.
#[derive(Clone, Debug)]
pub(crate) struct Proved {
    /// All of it.
    pub(crate) attested: BTreeSet<Attested>,
    pub(crate) evidence: Option<Evidence>,
    pub(crate) broker: Option<Broker>,
}

/// Proves what the policy asks for. What it does not ask for is not looked at: a token that nobody needs is not read.
pub(super) async fn prove(
    desk: &Desk,
    call: &Call,
    (namespace, policy): (&Name, &Name),
    shown: &Shown,
) -> Result<Proved, Fault> {
    let (policy, _) = desk.look(|snapshot| attest::policy(desk, call, snapshot, (namespace, policy))).await?;
    let mut proved = Proved { attested: shown.seen.clone(), evidence: None, broker: None };
    if policy.selectors.iter().any(|one| fact_of(one.of).is_some())
        && let Some(token) = &shown.token
    {
        let (token, evidence) = foreign::vouched(desk, namespace, &token.0).await?;
        proved.attested.extend(said_by(&policy, &token));
        proved.evidence = Some(evidence);
    }
    if policy.selectors.iter().any(|one| is_of_broker(one.of))
        && let Some(id) = &shown.broker
    {
        let broker = broker(desk, call, id).await?;
        let ((), _) = desk.look(|snapshot| is_named(snapshot, &policy, &broker)).await?;
        let named = policy.selectors.iter().filter(|one| one.of == Type::BrokerAgent).cloned();
        proved.attested.extend(named);
        proved.broker = Some(broker);
    }
    if proved.broker.is_none() {
        // A broker's word without a broker.
        proved.attested.retain(|one| !is_of_broker(one.of));
    }
    Ok(proved)
}

/// What the policy asks for and the token says; and for the record whose token it is, and about whom.
fn said_by(policy: &AttestationPolicy, token: &ForeignVerified) -> Vec<Attested> {
    let says = |one: &&Attested| fact_of(one.of).is_some_and(|fact| token.says(fact, &one.value));
    let mut said: Vec<Attested> = policy.selectors.iter().filter(says).cloned().collect();
    for (of, value) in [(Type::OidcIssuer, token.issuer()), (Type::OidcSubject, token.subject())] {
        // What no policy can ask for is not told, so that nobody meets it in a record.
        if value.len() <= LONGEST_VALUE {
            said.push(Attested { of, value: value.into() });
        }
    }
    said
}

/// The instance that asks, where this node attested it and it lives.
async fn broker(desk: &Desk, call: &Call, id: &InstanceId) -> Result<Broker, Fault> {
    let bad = |why: String| Fault::refused(&BROKER_NOT_GOOD, why);
    let row = attested_by(desk, call, id).await.map_err(|fault| match fault {
        Fault::Refused(_) => bad(format!("no instance {id} of this node")),
        other => other,
    })?;
    let judged = instances::judged(desk, vec![row]).await?.pop();
    let (row, state) = judged.ok_or_else(|| Fault::broken("an instance was read and is not there"))?;
    if state != State::Live {
        return Err(bad(format!("the instance {id} is {state:?}; only a LIVE one asks for others")));
    }
    let agent = AgentId::parse(&row.agent_id).map_err(Fault::broken)?;
    Ok(Broker { agent, spiffe_id: row.spiffe_id })
}

/// Whether the policy names this broker. An agent that was made later, under a name that became free, is another.
fn is_named(snapshot: &Snapshot, policy: &AttestationPolicy, broker: &Broker) -> Result<(), Fault> {
    let namespace = policy.label.namespace.as_str();
    let is_it = |one: &&Attested| {
        let agent = snapshot.agent_named(namespace, &one.value);
        agent.is_some_and(|agent| agent.id == broker.agent && agent.label.created <= policy.label.updated)
    };
    let named = policy.selectors.iter().filter(|one| one.of == Type::BrokerAgent).find(is_it);
    let why = || format!("{namespace}/{} names another broker than {}", policy.label.name, broker.spiffe_id);
    named.map(drop).ok_or_else(|| Fault::refused(&BROKER_NOT_GOOD, why()))
}

/// Keeps the token for this node until it has ended: of all who show it, on whatever replica, the first is the one. It is not used up:
/// the platform makes a new one only now and then, and the process is attested with each certificate and each JWT-SVID.
pub(super) async fn hold(desk: &Desk, believed: &Believed, proved: &Proved) -> Result<(), Fault> {
    let Some(evidence) = &proved.evidence else { return Ok(()) };
    let whose = format!("node {} since {}", believed.by.node, believed.by.node_since.micros());
    let whose = sha256(whose.as_bytes());
    let once = evidence.once;
    let read = desk.db.read("find_used_token", move |tx| Box::pin(async move { used_token::find(tx, &once).await }));
    if let Some(kept) = read.await.map_err(of_tx)? {
        return is_of(&kept, &whose);
    }
    let (row, most) = (evidence.used(desk.clock.now(), &whose, ""), evidence.most_used);
    let held = desk.db.tx("hold_identity_token", move |tx| {
        let row = row.clone();
        Box::pin(async move {
            if used_token::spend(tx, row, most).await? {
                return Ok(());
            }
            match used_token::find(tx, &once).await? {
                Some(kept) => is_of(&kept, &whose).map_err(flow),
                None => Err(flow(Fault::broken("a token was used and is not there"))),
            }
        })
    });
    held.await.map_err(of_tx)
}

fn is_of(kept: &used_token::Model, whose: &[u8; 32]) -> Result<(), Fault> {
    if kept.request_sha256 == whose && kept.credential_id.is_empty() {
        return Ok(());
    }
    let why = "the identity token was shown by another node, or was used to enrol or for an access token";
    Err(Fault::refused(&IDENTITY_TOKEN_SPENT, why))
}

/// Just before an answer leaves: whether the token's issuer is trusted, and the broker named, as they were.
pub(super) fn still(desk: &Desk, policy: &Arc<AttestationPolicy>, proved: &Proved) -> Result<(), Fault> {
    if let Some(evidence) = &proved.evidence {
        foreign::still(desk, evidence)?;
    }
    let Some(broker) = &proved.broker else { return Ok(()) };
    let snapshot = desk.fresh()?.snapshot;
    is_named(&snapshot, policy, broker)?;
    let agent = snapshot.agent(&broker.agent);
    let is_up = agent.is_some_and(|agent| snapshot.life_of(agent, desk.clock.now()).stop.is_none());
    is_up
        .then_some(())
        .ok_or_else(|| Fault::refused(&BROKER_NOT_GOOD, "the broker was stopped while this was being issued"))
}
