//! A list never says VALID of what introspection says is not active, but for what ends a single token.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{AgentId, CredentialId, Name, SpiffeId, TrustDomain};
use legate_token::{Chain, Claims, Confirmation, Details, Scope, Subject};
use legate_view::Snapshot;
use legate_wire::registry as wire;
use legate_wire::registry::AgentState::{self, Active, Expired, Quarantined, Retired, Suspended};
use legate_wire::registry::cut_off::Level;
use legate_wire::registry::declaration::Object;
use proptest::prelude::*;

use super::{AFTER_THE_END, is_taken_back};
use crate::store::credential::{CERTIFICATE, ISSUED, KEY, Model, REVOKED, SECRET};

/// When the credential was made.
const MADE: i64 = 1_800_000_000_000_000;
const X5T: [u8; 32] = [7; 32];

fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(MADE + micros)
}

fn id() -> AgentId {
    AgentId::from_parts(1, [1; 10])
}

fn credential() -> CredentialId {
    CredentialId::from_parts(1, [2; 10])
}

fn spiffe() -> SpiffeId {
    SpiffeId::agent(&TrustDomain::parse("example.org").unwrap(), &Name::parse("pay").unwrap(), &id())
}

/// What happened, in microseconds from when the credential was made.
#[derive(Clone, Debug)]
struct World {
    kind: i32,
    /// Of the second in which the credential was made.
    part: i64,
    /// When the token was issued.
    issued: i64,
    now: i64,
    state: AgentState,
    is_known: bool,
    revoked_here: bool,
    revoked_there: bool,
    class_suspended: bool,
    /// By an order that names everybody.
    stopped: bool,
    expires: Option<i64>,
    /// Of the agent, its class, everything of its namespace, its owner, a stop order.
    cutoffs: [Option<i64>; 5],
}

fn world() -> impl Strategy<Value = World> {
    let cut = || prop::option::weighted(0.3, -3_000_000i64..700_000_000);
    (
        (prop::sample::select(vec![CERTIFICATE, SECRET, KEY]), 0i64..1_000_000, 0i64..3_000_000, 0i64..1_000_000_000),
        prop::sample::select(vec![Active, Active, Active, Active, Suspended, Quarantined, Retired, Expired]),
        (
            (prop::bool::weighted(0.95), prop::bool::weighted(0.1)),
            (prop::bool::weighted(0.1), prop::bool::weighted(0.1), prop::bool::weighted(0.05)),
        ),
        prop::option::weighted(0.2, 0i64..900_000_000),
        [cut(), cut(), cut(), cut(), cut()],
    )
        .prop_map(
            |(
                (kind, part, issued, later),
                state,
                ((is_known, here), (there, class_suspended, stopped)),
                expires,
                cutoffs,
            )| {
                World {
                    kind,
                    part,
                    issued,
                    // Sooner rather than later: most of what can go wrong does so in the first second.
                    now: issued + later / 1_000 * (later % 1_000),
                    state,
                    is_known,
                    revoked_here: here,
                    revoked_there: there,
                    class_suspended,
                    stopped,
                    expires,
                    cutoffs,
                }
            },
        )
}

fn meta(name: &str, id: &str) -> Option<wire::Metadata> {
    let (name, id) = (name.into(), id.into());
    Some(wire::Metadata { name, id, namespace: "pay".into(), version: 1, ..wire::Metadata::default() })
}

impl World {
    fn at(&self, micros: i64) -> Timestamp {
        at(self.part + micros)
    }

    fn cut(&self, n: usize) -> Option<prost_types::Timestamp> {
        self.cutoffs[n].map(|micros| self.at(micros).into())
    }

    fn snapshot(&self) -> Snapshot {
        let mut objects = vec![Object::AgentClass(wire::AgentClass {
            metadata: meta("bots", "obj_1"),
            spec: Some(wire::AgentClassSpec { credential_policy: "loose".into(), ..Default::default() }),
            status: Some(wire::StandingStatus {
                suspended: self.class_suspended,
                authorization_cutoff: self.cut(1),
                ..Default::default()
            }),
        })];
        objects.push(Object::CredentialPolicy(wire::CredentialPolicy {
            metadata: meta("loose", "obj_2"),
            spec: Some(wire::CredentialPolicySpec {
                token_binding: wire::TokenBinding::Optional.into(),
                ..Default::default()
            }),
        }));
        if self.is_known {
            objects.push(Object::Agent(wire::Agent {
                metadata: meta("bot", id().as_str()),
                spec: Some(wire::AgentSpec {
                    agent_class: "bots".into(),
                    owners: vec!["user:ada".into()],
                    expire_time: self.expires.map(|micros| self.at(micros).into()),
                    ..Default::default()
                }),
                status: Some(wire::AgentStatus {
                    state: self.state.into(),
                    lifecycle_version: 1,
                    authorization_cutoff: self.cut(0),
                    ..Default::default()
                }),
            }));
        }
        let everything = Level::WholeNamespace(true);
        let owner = Level::Owner("user:ada".into());
        for (n, level) in [(2, everything), (3, owner)] {
            if let Some(cut) = self.cut(n) {
                let cut_off = Some(wire::CutOff { level: Some(level), authorization_cutoff: Some(cut) });
                objects.push(Object::Revocation(wire::Revocation {
                    metadata: meta(&format!("cut-off-{n}"), &format!("obj_1{n}")),
                    spec: Some(wire::RevocationSpec { cut_off, ..Default::default() }),
                }));
            }
        }
        if self.stopped || self.cutoffs[4].is_some() {
            let metadata = wire::Metadata { name: "everywhere".into(), ..wire::Metadata::default() };
            objects.push(Object::StopOrder(wire::StopOrder {
                metadata: Some(metadata),
                spec: Some(wire::StopOrderSpec { level: Some(wire::stop_order_spec::Level::Everywhere(true)) }),
                status: Some(wire::StandingStatus {
                    suspended: self.stopped,
                    authorization_cutoff: self.cut(4),
                    ..Default::default()
                }),
            }));
        }
        if self.revoked_there {
            objects.push(Object::Revocation(wire::Revocation {
                metadata: meta("cred", "obj_9"),
                spec: Some(wire::RevocationSpec {
                    credential_id: credential().to_string(),
                    x5t_s256: if self.kind == CERTIFICATE { X5T.to_vec() } else { Vec::new() },
                    ..Default::default()
                }),
            }));
        }
        let declared = |object| wire::Declaration { object: Some(object) };
        let all: Vec<wire::Declaration> = objects.into_iter().map(declared).collect();
        Snapshot::of(&all).unwrap()
    }

    fn row(&self) -> Model {
        Model {
            id: credential().to_string(),
            spiffe_id: spiffe().to_string(),
            namespace: "pay".into(),
            agent_id: id().to_string(),
            serial: String::new(),
            key_sha256: Vec::new(),
            to_be_signed: Vec::new(),
            to_be_signed_sha256: Vec::new(),
            certificate: None,
            x5t_s256: (self.kind == CERTIFICATE).then(|| X5T.to_vec()),
            not_before: self.at(0).micros(),
            not_after: self.at(0).plus(Duration::from_secs(3_600)).micros(),
            lifecycle_version: 1,
            origin: String::new(),
            state: if self.revoked_here { REVOKED } else { ISSUED },
            issued_at: self.at(0).micros(),
            revoked_at: None,
            revocation_reason: None,
            instance_id: String::new(),
            kind: self.kind,
            public_key: None,
            pepper: None,
            last_used_at: None,
            misused_at: None,
            status_index: Some(0),
        }
    }

    fn token(&self) -> Claims {
        let issued = u64::try_from(self.at(self.issued).secs()).unwrap();
        let is_bound = self.kind == CERTIFICATE;
        Claims {
            issuer: "https://issuer.example".into(),
            audience: "https://a.example".into(),
            subject: Subject::Agent(spiffe()),
            issued_at: issued,
            expires_at: issued + 600,
            token_id: "0123456789abcdef".into(),
            scope: Scope::All,
            details: Details::default(),
            lifecycle_version: 1,
            namespace: Name::parse("pay").unwrap(),
            agent: id(),
            instance: None,
            chain: Chain::default(),
            confirmation: if is_bound { Confirmation::Certificate(X5T) } else { Confirmation::Bearer },
            credential: (!is_bound).then(credential),
            status: None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))]

    #[test]
    fn what_is_not_active_is_not_valid(world in world()) {
        let (snapshot, now) = (world.snapshot(), world.at(world.now));
        let token = world.token();
        let seconds = u64::try_from(now.secs()).unwrap();
        prop_assume!(seconds <= token.expires_at + legate_token::MAX_LEEWAY);
        let is_invalid = is_taken_back(&snapshot, &world.row(), now);
        let is_active = !world.revoked_here && snapshot.token_standing(&token, now).is_ok();
        prop_assert!(is_active || is_invalid, "VALID, and not active: {:?}", snapshot.token_standing(&token, now).err());
        // And the other way round, but for a credential and a cut-off within one second, while that is news.
        let within = |cut: i64| world.at(cut).secs() == world.at(0).secs();
        if !world.cutoffs.iter().flatten().any(|cut| within(*cut) || *cut > 0) {
            prop_assert_eq!(is_active, !is_invalid);
        }
    }

    /// Whatever was made after the last cut-off is good in the end.
    #[test]
    fn a_credential_of_the_second_of_a_cut_off_is_good_when_that_is_no_news(part in 1i64..1_000_000, before in 1i64..1_000_000) {
        let world = World {
            kind: SECRET, part, issued: 0, now: 0, state: Active, is_known: true, revoked_here: false, revoked_there: false,
            class_suspended: false, stopped: false, expires: None,
            cutoffs: [Some(-before.min(part)), None, None, None, None],
        };
        let snapshot = world.snapshot();
        prop_assert!(is_taken_back(&snapshot, &world.row(), world.at(0)));
        let later = world.at(0).plus(AFTER_THE_END + Duration::from_secs(1));
        prop_assert!(!is_taken_back(&snapshot, &world.row(), later));
    }
}
