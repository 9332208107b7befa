//! Whether a peer with a good certificate is in good standing now, and the cutting of connections when it no longer is.

use std::time::Duration;

use legate_ids::Principal;
use legate_mtls::{Connections, Peer};
use legate_rpc::{Fault, Reason};
use tonic::Code;

use crate::ViewHandle;
use crate::life::Stop;
use crate::snapshot::{Snapshot, after_cutoff};

/// Every reason in this file, for docs/errors.md.
pub const REASONS: &[&Reason] =
    &[&CALLER_UNKNOWN, &CALLER_NOT_ACTIVE, &CALLER_CUT_OFF, &CALLER_REVOKED, &CALLER_STANDING_UNKNOWN];

/// Nobody of that name is declared.
pub static CALLER_UNKNOWN: Reason = Reason {
    name: "CALLER_UNKNOWN",
    code: Code::PermissionDenied,
    meaning: "The caller's certificate names an agent, enforcement point or node that the registry does not know.",
    cure: "Declare it in its namespace, then call again with a certificate of it.",
};

/// The agent is not ACTIVE.
pub static CALLER_NOT_ACTIVE: Reason = Reason {
    name: "CALLER_NOT_ACTIVE",
    code: Code::PermissionDenied,
    meaning: "The calling agent is not ACTIVE, its time has run out, its class or namespace is suspended, or a stop order names it.",
    cure: "See its state (legate agent get, legate class get, legate namespace get, legate stops); resume what is stopped, then enrol its runtime again.",
};

/// The certificate is of an earlier life of the agent.
pub static CALLER_CUT_OFF: Reason = Reason {
    name: "CALLER_CUT_OFF",
    code: Code::PermissionDenied,
    meaning: "The caller's certificate was issued before its agent, or the agent's class, namespace or owner, was last stopped or cut off; it never works again.",
    cure: "Enrol the runtime again.",
};

/// The certificate was revoked.
pub static CALLER_REVOKED: Reason = Reason {
    name: "CALLER_REVOKED",
    code: Code::PermissionDenied,
    meaning: "The caller's certificate was revoked.",
    cure: "Enrol the runtime again; an operator logs in again (legate login).",
};

/// The view is too old to say.
pub static CALLER_STANDING_UNKNOWN: Reason = Reason {
    name: "CALLER_STANDING_UNKNOWN",
    code: Code::Unavailable,
    meaning: "The service has not heard the registry within the bound, so it cannot say whether the caller is in good standing.",
    cure: "Try again; if it stays, look at the connection from the service to the registry.",
};

/// By how much our CAs date certificates back, for clocks that are not quite together.
pub const CERTIFICATE_BACKDATE: Duration = Duration::from_secs(60);

/// What to do about a peer while the view is stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnStale {
    /// Refuse it: its standing is not known.
    Refuse,
    /// Judge it by the old view. For services that answer `STALE` themselves.
    Judge,
}

/// The standing of peers by the view; give it to [`legate_rpc::Service`].
#[derive(Clone, Debug)]
pub struct ViewStanding {
    view: ViewHandle,
    on_stale: OnStale,
}

impl ViewStanding {
    /// Judges peers by `view`.
    #[must_use]
    pub fn new(view: ViewHandle, on_stale: OnStale) -> Self {
        Self { view, on_stale }
    }

    /// Judges a peer now.
    ///
    /// # Errors
    /// The refusal to send.
    pub fn judge(&self, peer: &Peer) -> Result<(), Fault> {
        let reading = self.view.read();
        let is_workload = peer.principal.as_ref().is_some_and(Principal::is_workload);
        if is_workload
            && self.on_stale == OnStale::Refuse
            && let Err(stale) = reading.fresh(self.view.bound())
        {
            let again = Duration::from_secs(1);
            return Err(Fault::unavailable(&CALLER_STANDING_UNKNOWN, stale.to_string(), again));
        }
        // A registry that was never heard knows nobody; whoever judges by it answers STALE.
        if is_workload && self.on_stale == OnStale::Judge && reading.age().is_none() {
            return Ok(());
        }
        reading.snapshot.judge(peer, self.view.shared.clock.now())
    }

    /// Whenever something was taken away, judges every open connection again and cuts those that fail. Runs for ever:
    /// spawn it, and abort it when the server ends.
    pub async fn cut_connections(self, connections: Connections) {
        let mut taken = self.view.taken_away();
        while taken.changed().await.is_ok() {
            let (snapshot, now) = (self.view.current(), self.view.shared.clock.now());
            let cut = connections.cut(|peer| snapshot.judge(peer, now).is_err());
            if cut > 0 {
                tracing::info!(
                    cut,
                    revision = snapshot.revision(),
                    "connections are cut: their peers' standing was taken back"
                );
            }
        }
    }
}

#[async_trait::async_trait]
impl legate_rpc::Standing for ViewStanding {
    async fn check(&self, peer: &Peer) -> Result<(), Fault> {
        self.judge(peer)
    }
}

impl Snapshot {
    /// Whether `peer` is in good standing by what is held here, at `now`. Whoever waits between a call's arrival and its
    /// answer asks again by the snapshot that it answers from: the peer may have lost its standing meanwhile.
    ///
    /// # Errors
    /// The refusal to send.
    pub fn judge(&self, peer: &Peer, now: legate_clock::Timestamp) -> Result<(), Fault> {
        if self.certificate_revocation(&peer.x5t_s256).is_some() {
            return Err(Fault::refused(&CALLER_REVOKED, format!("the certificate of {} was revoked", peer.id_text())));
        }
        match &peer.principal {
            // Operators and services are no objects of the registry; strangers have nothing to lose.
            None | Some(Principal::Operator(_) | Principal::Service(_)) => Ok(()),
            Some(Principal::Enforcer { namespace, name }) => {
                let point = self.enforcement_point(namespace.as_str(), name.as_str()).ok_or_else(|| {
                    let text = format!("no enforcement point {namespace}/{name} is declared");
                    Fault::refused(&CALLER_UNKNOWN, text)
                })?;
                // Taken back and declared anew it is another one; a certificate's time has whole seconds only.
                if peer.not_before.plus(CERTIFICATE_BACKDATE).secs() < point.label.created.secs() {
                    let text = format!("the certificate is of an earlier {namespace}/{name}");
                    return Err(Fault::refused(&CALLER_CUT_OFF, text));
                }
                Ok(())
            }
            Some(Principal::Node { namespace, name }) => {
                let node = self.node(namespace.as_str(), name.as_str()).ok_or_else(|| {
                    Fault::refused(&CALLER_UNKNOWN, format!("no node {namespace}/{name} is declared"))
                })?;
                // As of enforcement points.
                if peer.not_before.plus(CERTIFICATE_BACKDATE).secs() < node.label.created.secs() {
                    let text = format!("the certificate is of an earlier {namespace}/{name}");
                    return Err(Fault::refused(&CALLER_CUT_OFF, text));
                }
                Ok(())
            }
            Some(Principal::Agent { namespace, id, .. }) => {
                let agent = self
                    .agent(id)
                    .filter(|agent| agent.label.namespace == *namespace)
                    .ok_or_else(|| Fault::refused(&CALLER_UNKNOWN, format!("no agent {id} in {namespace}")))?;
                let life = self.life_of(agent, now);
                match life.stop {
                    None => {}
                    Some(Stop::Namespace) => {
                        let text = format!("the namespace {namespace} of {id} is suspended");
                        return Err(Fault::refused(&CALLER_NOT_ACTIVE, text));
                    }
                    Some(Stop::Class) => {
                        let text = format!("the class {namespace}/{} of {id} is suspended", agent.class);
                        return Err(Fault::refused(&CALLER_NOT_ACTIVE, text));
                    }
                    Some(Stop::Order) => {
                        return Err(Fault::refused(&CALLER_NOT_ACTIVE, format!("a stop order names the agent {id}")));
                    }
                    Some(Stop::Ancestor) => {
                        let text = format!("an agent that made {id}, or is further above it, is not ACTIVE");
                        return Err(Fault::refused(&CALLER_NOT_ACTIVE, text));
                    }
                    Some(Stop::State(_) | Stop::Expired) => {
                        return Err(Fault::refused(&CALLER_NOT_ACTIVE, format!("the agent {id} is not ACTIVE")));
                    }
                }
                let issued = peer.not_before.plus(CERTIFICATE_BACKDATE);
                if !after_cutoff(issued, life.cutoff()) {
                    let text = format!("the certificate is of an earlier life of {id}");
                    return Err(Fault::refused(&CALLER_CUT_OFF, text));
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_clock::Timestamp;
    use legate_ids::{AgentId, CredentialId, Name};
    use legate_wire::registry as wire;
    use legate_wire::registry::declaration::Object;

    use super::*;

    const NOW: i64 = 1_900_000_000;

    fn at(seconds: i64) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos: 0 })
    }

    fn id() -> AgentId {
        AgentId::from_parts(1, [1; 10])
    }

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    /// A peer whose certificate was issued at `issued`.
    fn peer(principal: Principal, issued: i64) -> Peer {
        let mut peer = Peer::anonymous("127.0.0.1:1".parse().unwrap());
        peer.principal = Some(principal);
        peer.not_before = Timestamp::from_secs(issued).minus(CERTIFICATE_BACKDATE);
        peer.x5t_s256 = [7; 32];
        peer
    }

    fn agent_peer(issued: i64) -> Peer {
        peer(Principal::Agent { namespace: name("pay"), id: id(), instance: None }, issued)
    }

    fn snapshot(objects: Vec<Object>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for object in objects {
            snapshot.apply(&wire::Declaration { object: Some(object) }, false).unwrap();
        }
        snapshot
    }

    fn meta(name: &str, id: &str) -> Option<wire::Metadata> {
        let (name, id) = (name.into(), id.into());
        Some(wire::Metadata { name, id, namespace: "pay".into(), create_time: at(NOW), ..wire::Metadata::default() })
    }

    fn agent(state: wire::AgentState, cutoff: Option<i64>, expires: Option<i64>) -> Object {
        Object::Agent(wire::Agent {
            metadata: meta("bot", id().as_str()),
            spec: Some(wire::AgentSpec {
                agent_class: "bots".into(),
                expire_time: expires.and_then(at),
                ..wire::AgentSpec::default()
            }),
            status: Some(wire::AgentStatus {
                state: state.into(),
                authorization_cutoff: cutoff.and_then(at),
                ..wire::AgentStatus::default()
            }),
        })
    }

    fn word(snapshot: &Snapshot, peer: &Peer) -> &'static str {
        snapshot.judge(peer, Timestamp::from_secs(NOW)).err().map_or("good", |fault| fault.reason())
    }

    #[test]
    fn only_an_active_agent_with_a_certificate_of_this_life_is_in_good_standing() {
        let active = wire::AgentState::Active;
        for (object, issued, expected) in [
            (agent(active, None, None), NOW, "good"),
            (agent(wire::AgentState::Suspended, None, None), NOW, "CALLER_NOT_ACTIVE"),
            (agent(wire::AgentState::Retired, None, None), NOW, "CALLER_NOT_ACTIVE"),
            (agent(wire::AgentState::Unspecified, None, None), NOW, "CALLER_NOT_ACTIVE"),
            (agent(active, None, Some(NOW)), NOW, "CALLER_NOT_ACTIVE"),
            (agent(active, None, Some(NOW + 1)), NOW, "good"),
            (agent(active, Some(NOW - 5), None), NOW - 6, "CALLER_CUT_OFF"),
            (agent(active, Some(NOW - 5), None), NOW - 5, "CALLER_CUT_OFF"),
            (agent(active, Some(NOW - 5), None), NOW - 4, "good"),
        ] {
            assert_eq!(word(&snapshot(vec![object.clone()]), &agent_peer(issued)), expected, "{object:?}");
        }
        assert_eq!(word(&snapshot(vec![]), &agent_peer(NOW)), "CALLER_UNKNOWN");
        let mut foreign = agent_peer(NOW);
        foreign.principal = Some(Principal::Agent { namespace: name("sales"), id: id(), instance: None });
        assert_eq!(word(&snapshot(vec![agent(active, None, None)]), &foreign), "CALLER_UNKNOWN");
    }

    #[test]
    fn whoever_is_below_what_is_suspended_is_cut() {
        let standing = |suspended, cutoff: i64| {
            Some(wire::StandingStatus {
                suspended,
                authorization_cutoff: at(cutoff),
                ..wire::StandingStatus::default()
            })
        };
        let class =
            |status| Object::AgentClass(wire::AgentClass { metadata: meta("bots", "obj_1"), spec: None, status });
        let namespace = |status| {
            let metadata = Some(wire::Metadata { name: "pay".into(), ..wire::Metadata::default() });
            Object::Namespace(wire::Namespace { metadata, spec: None, status })
        };
        let active = agent(wire::AgentState::Active, None, None);
        for (above, issued, expected) in [
            (class(standing(true, NOW - 5)), NOW, "CALLER_NOT_ACTIVE"),
            (namespace(standing(true, NOW - 5)), NOW, "CALLER_NOT_ACTIVE"),
            (class(standing(false, NOW - 5)), NOW - 5, "CALLER_CUT_OFF"),
            (namespace(standing(false, NOW - 5)), NOW - 5, "CALLER_CUT_OFF"),
            (class(standing(false, NOW - 5)), NOW - 4, "good"),
            (namespace(None), NOW - 5, "good"),
        ] {
            let snapshot = snapshot(vec![active.clone(), above.clone()]);
            assert_eq!(word(&snapshot, &agent_peer(issued)), expected, "{above:?}");
            let operator = peer(Principal::Operator(name("alice")), issued);
            assert_eq!(word(&snapshot, &operator), "good");
        }
    }

    #[test]
    fn a_revoked_certificate_is_nobodys() {
        let revocation = Object::Revocation(wire::Revocation {
            metadata: meta("cred-1", "obj_1"),
            spec: Some(wire::RevocationSpec {
                credential_id: CredentialId::from_parts(1, [1; 10]).to_string(),
                x5t_s256: vec![7; 32],
                ..wire::RevocationSpec::default()
            }),
        });
        let snapshot = snapshot(vec![agent(wire::AgentState::Active, None, None), revocation]);
        assert_eq!(word(&snapshot, &agent_peer(NOW)), "CALLER_REVOKED");
        assert_eq!(word(&snapshot, &peer(Principal::Operator(name("alice")), NOW)), "CALLER_REVOKED");
        let mut other = agent_peer(NOW);
        other.x5t_s256 = [8; 32];
        assert_eq!(word(&snapshot, &other), "good");
    }

    #[test]
    fn an_enforcement_point_declared_anew_is_another_one() {
        let point = Object::EnforcementPoint(wire::EnforcementPoint {
            metadata: meta("invoices", "obj_1"),
            spec: Some(wire::EnforcementPointSpec::default()),
            spiffe_id: String::new(),
        });
        let snapshot = snapshot(vec![point]);
        let enforcer =
            |who: &str, issued| peer(Principal::Enforcer { namespace: name("pay"), name: name(who) }, issued);
        assert_eq!(word(&snapshot, &enforcer("invoices", NOW)), "good");
        assert_eq!(word(&snapshot, &enforcer("invoices", NOW - 1)), "CALLER_CUT_OFF");
        assert_eq!(word(&snapshot, &enforcer("ledger", NOW)), "CALLER_UNKNOWN");
    }

    #[test]
    fn a_node_declared_anew_is_another_one() {
        let node = Object::Node(wire::Node {
            metadata: meta("vm-1", "obj_1"),
            spec: Some(wire::NodeSpec::default()),
            spiffe_id: String::new(),
        });
        let mut snapshot = snapshot(vec![node.clone()]);
        let of = |who: &str, issued| peer(Principal::Node { namespace: name("pay"), name: name(who) }, issued);
        assert_eq!(word(&snapshot, &of("vm-1", NOW)), "good");
        assert_eq!(word(&snapshot, &of("vm-1", NOW - 1)), "CALLER_CUT_OFF");
        assert_eq!(word(&snapshot, &of("vm-2", NOW)), "CALLER_UNKNOWN");
        // An enforcement point of the name is nobody's node.
        let point = peer(Principal::Enforcer { namespace: name("pay"), name: name("vm-1") }, NOW);
        assert_eq!(word(&snapshot, &point), "CALLER_UNKNOWN");
        assert!(snapshot.apply(&wire::Declaration { object: Some(node) }, true).unwrap().takes_away);
        assert_eq!(word(&snapshot, &of("vm-1", NOW)), "CALLER_UNKNOWN");
    }
}
