//! Whether a token stands: every level that it rests on can take it away by itself, and nothing else does.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_clock::Timestamp;
use legate_ids::{AgentId, CredentialId, Name, SpiffeId, TrustDomain};
use legate_token::{Chain, Claims, Confirmation, Parent, Scope, Subject};
use legate_view::Snapshot;
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;
use proptest::prelude::*;

/// When the newest token of the chain was issued, and when it is judged.
const ISSUED: i64 = 1_800_000_000;
const NOW: i64 = ISSUED + 60;

fn id(n: u8) -> AgentId {
    AgentId::from_parts(1, [n; 10])
}

fn spiffe(n: u8) -> SpiffeId {
    SpiffeId::agent(&TrustDomain::parse("example.org").unwrap(), &Name::parse("pay").unwrap(), &id(n))
}

fn credential(n: u8) -> CredentialId {
    CredentialId::from_parts(1, [n; 10])
}

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(Timestamp::from_secs(seconds).into())
}

fn meta(namespace: &str, name: &str) -> Option<wire::Metadata> {
    let (id, name, namespace) = (format!("obj_{name}"), name.into(), namespace.into());
    Some(wire::Metadata { name, id, namespace, ..wire::Metadata::default() })
}

/// How far one who is in the chain is from having it right.
#[derive(Clone, Debug, Default)]
struct Level {
    /// Seconds from the issue to its cut-off.
    cutoff: Option<i64>,
    steps: u64,
    stopped: bool,
    class_cutoff: Option<i64>,
    class_stopped: bool,
    token_revoked: bool,
    credential_revoked: bool,
    certificate_revoked: bool,
    bearer: bool,
    may_bear: bool,
    /// Of the grant by which it acts; the first has none.
    grant: bool,
    grant_ended: bool,
    grant_not_yet: bool,
}

impl Level {
    fn holds(&self, acts: bool) -> bool {
        let spared = |cutoff: Option<i64>| cutoff.is_none_or(|seconds| seconds < 0);
        spared(self.cutoff)
            && spared(self.class_cutoff)
            && self.steps == 0
            && !(self.stopped || self.class_stopped || self.token_revoked || self.credential_revoked)
            && if self.bearer { self.may_bear } else { !self.certificate_revoked }
            && (!acts || self.grant && !self.grant_ended && !self.grant_not_yet)
    }

    fn confirmation(&self, n: u8) -> Confirmation {
        if self.bearer { Confirmation::Bearer } else { Confirmation::Certificate([n; 32]) }
    }

    fn objects(&self, n: u8) -> Vec<Object> {
        let name = format!("bot-{n}");
        let standing = |suspended, cutoff: Option<i64>| {
            let authorization_cutoff = cutoff.and_then(|seconds| at(ISSUED + seconds));
            Some(wire::StandingStatus { suspended, authorization_cutoff, ..wire::StandingStatus::default() })
        };
        let binding = if self.may_bear { wire::TokenBinding::Optional } else { wire::TokenBinding::Required };
        let policy =
            wire::CredentialPolicySpec { token_binding: binding.into(), ..wire::CredentialPolicySpec::default() };
        let class =
            wire::AgentClassSpec { credential_policy: format!("policy-{n}"), ..wire::AgentClassSpec::default() };
        let state = if self.stopped { wire::AgentState::Suspended } else { wire::AgentState::Active };
        let spec = wire::AgentSpec { agent_class: format!("class-{n}"), ..wire::AgentSpec::default() };
        let status = wire::AgentStatus {
            state: state.into(),
            lifecycle_version: 1 + self.steps,
            authorization_cutoff: self.cutoff.and_then(|seconds| at(ISSUED + seconds)),
            ..wire::AgentStatus::default()
        };
        let mut metadata = meta("pay", &name);
        metadata.as_mut().unwrap().id = id(n).to_string();
        let mut all = vec![
            Object::CredentialPolicy(wire::CredentialPolicy {
                metadata: meta("pay", &format!("policy-{n}")),
                spec: Some(policy),
            }),
            Object::AgentClass(wire::AgentClass {
                metadata: meta("pay", &format!("class-{n}")),
                spec: Some(class),
                status: standing(self.class_stopped, self.class_cutoff),
            }),
            Object::Agent(wire::Agent { metadata, spec: Some(spec), status: Some(status) }),
        ];
        if self.grant && n > 1 {
            let spec = wire::DelegationGrantSpec {
                delegator: format!("agent:bot-{}", n - 1),
                delegate: name,
                may_redelegate: true,
                max_depth: 8,
                not_before: if self.grant_not_yet { at(NOW + 1) } else { None },
                not_after: if self.grant_ended && !self.grant_not_yet { at(NOW) } else { at(NOW + 600) },
                ..wire::DelegationGrantSpec::default()
            };
            let metadata = meta("pay", &format!("grant-{n}"));
            all.push(Object::DelegationGrant(wire::DelegationGrant { metadata, spec: Some(spec) }));
        }
        let mut revoked = |is: bool, spec: wire::RevocationSpec| {
            if is {
                let metadata = meta("pay", &format!("gone-{n}-{}", all.len()));
                all.push(Object::Revocation(wire::Revocation { metadata, spec: Some(spec) }));
            }
        };
        let spec = wire::RevocationSpec::default;
        revoked(self.token_revoked, wire::RevocationSpec { token_id: token(n), ..spec() });
        revoked(self.credential_revoked, wire::RevocationSpec { credential_id: credential(n).to_string(), ..spec() });
        let certificate = credential(n + 100).to_string();
        let x5t_s256 = vec![n; 32];
        revoked(self.certificate_revoked, wire::RevocationSpec { credential_id: certificate, x5t_s256, ..spec() });
        all
    }
}

fn token(n: u8) -> String {
    format!("token-of-the-agent-{n}")
}

/// The token of the last of them, which acts for the one before it, and so on.
fn claims(levels: &[Level]) -> Claims {
    let last = u8::try_from(levels.len()).unwrap();
    let parent = |n: u8| Parent {
        token_id: token(n),
        lifecycle_version: 1,
        confirmation: levels[usize::from(n) - 1].confirmation(n),
        credential: Some(credential(n)),
    };
    let claims = Claims {
        issuer: "https://issuer.example".into(),
        audience: "https://a.example".into(),
        subject: Subject::Agent(spiffe(1)),
        issued_at: u64::try_from(ISSUED).unwrap(),
        expires_at: u64::try_from(ISSUED + 300).unwrap(),
        token_id: token(last),
        scope: Scope::All,
        details: legate_token::Details::default(),
        lifecycle_version: 1,
        namespace: Name::parse("pay").unwrap(),
        agent: id(last),
        instance: None,
        chain: Chain {
            actors: (2..=last).rev().map(spiffe).collect(),
            grants: (2..=last).rev().map(|n| format!("obj_grant-{n}")).collect(),
            parents: (1..last).rev().map(parent).collect(),
            groups: Vec::new(),
        },
        confirmation: levels[levels.len() - 1].confirmation(last),
        credential: Some(credential(last)),
        status: None,
    };
    claims.check().unwrap();
    claims
}

fn seldom() -> impl Strategy<Value = bool> {
    prop::bool::weighted(0.04)
}

fn cutoff() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![12 => Just(None), 3 => (-5i64..0).prop_map(Some), 1 => (0i64..5).prop_map(Some)]
}

prop_compose! {
    fn level()(
        cutoff in cutoff(), class_cutoff in cutoff(), steps in prop_oneof![20 => Just(0u64), 1 => 1u64..3],
        (stopped, class_stopped, token_revoked) in (seldom(), seldom(), seldom()),
        (credential_revoked, certificate_revoked) in (seldom(), seldom()),
        (bearer, may_bear) in (any::<bool>(), prop::bool::weighted(0.9)),
        (grant, grant_ended, grant_not_yet) in (prop::bool::weighted(0.96), seldom(), seldom()),
    ) -> Level {
        Level {
            cutoff, steps, stopped, class_cutoff, class_stopped, token_revoked, credential_revoked, certificate_revoked,
            bearer, may_bear, grant, grant_ended, grant_not_yet,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    /// Namespace, class, agent, credential, certificate, token, grant: of whoever is in the chain.
    #[test]
    fn a_token_stands_where_everything_does_that_it_rests_on(
        levels in prop::collection::vec(level(), 1..=4), namespace in cutoff(), namespace_stopped in seldom(),
        (order, order_stands) in (cutoff(), seldom()),
    ) {
        let status = wire::StandingStatus {
            suspended: namespace_stopped,
            authorization_cutoff: namespace.and_then(|seconds| at(ISSUED + seconds)),
            ..wire::StandingStatus::default()
        };
        let spec = Some(wire::NamespaceSpec::default());
        let mut all = vec![Object::Namespace(wire::Namespace { metadata: meta("", "pay"), spec, status: Some(status) })];
        let status = wire::StandingStatus {
            suspended: order_stands,
            authorization_cutoff: order.and_then(|seconds| at(ISSUED + seconds)),
            ..wire::StandingStatus::default()
        };
        let spec = wire::StopOrderSpec { level: Some(wire::stop_order_spec::Level::WholeNamespace(true)) };
        let metadata = meta("pay", "namespace");
        all.push(Object::StopOrder(wire::StopOrder { metadata, spec: Some(spec), status: Some(status) }));
        for (n, level) in levels.iter().enumerate() {
            all.extend(level.objects(u8::try_from(n).unwrap() + 1));
        }
        let all: Vec<_> = all.into_iter().map(|object| wire::Declaration { object: Some(object) }).collect();
        let standing = Snapshot::of(&all).unwrap().token_standing(&claims(&levels), Timestamp::from_secs(NOW));
        let spared = |cutoff: Option<i64>| cutoff.is_none_or(|seconds| seconds < 0);
        let holds = !(namespace_stopped || order_stands)
            && spared(namespace)
            && spared(order)
            && levels.iter().enumerate().all(|(n, level)| level.holds(n > 0));
        prop_assert_eq!(standing.is_ok(), holds, "{:?}", standing.err());
    }
}
