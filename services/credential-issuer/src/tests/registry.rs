//! A registry played by hand: declared objects, a revision, and a stream that answers pings while it is told to.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use legate_clock::Timestamp;
use legate_ids::AgentId;
use legate_view::{Feed, News};
use legate_wire::registry as wire;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::watch_request::Ask;
use legate_wire::registry::watch_response::News as Told;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

pub(super) const NAMESPACE: &str = "payments";
/// Who owns every agent.
pub(super) const OWNER: &str = "user:ada";
pub(super) const AUDIENCE: &str = "https://invoices.example";

/// Everything that was ever declared, in order; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Played {
    changes: Arc<Mutex<Vec<(wire::Declaration, bool)>>>,
    pub(super) answers: Arc<AtomicBool>,
}

impl Played {
    pub(super) fn new() -> Self {
        Self { changes: Arc::default(), answers: Arc::new(AtomicBool::new(true)) }
    }

    /// Declares, or takes back, one object; the revision.
    pub(super) fn declare(&self, object: Object, revoked: bool) -> u64 {
        let mut changes = self.changes.lock().unwrap();
        changes.push((wire::Declaration { object: Some(object) }, revoked));
        changes.len() as u64
    }
}

#[tonic::async_trait]
impl Feed for Played {
    async fn watch(&self, mut asks: mpsc::Receiver<wire::WatchRequest>) -> Result<News, Status> {
        let (news, told) = mpsc::unbounded_channel();
        let this = self.clone();
        tokio::spawn(async move {
            let tell = |told: Told| news.send(Ok(wire::WatchResponse { news: Some(told) })).is_ok();
            let mut sent = 0;
            while let Some(ask) = asks.recv().await {
                let ping = match ask.ask {
                    // A clock that is turned far makes the watcher come again; it is told what it has missed.
                    Some(Ask::Start(start)) => {
                        sent = usize::try_from(start.from_revision).unwrap();
                        if this.changes.lock().unwrap().is_empty() {
                            let part = wire::SnapshotPart {
                                revision: 0,
                                objects: vec![],
                                first: true,
                                last: true,
                                ..Default::default()
                            };
                            tell(Told::Snapshot(part));
                        }
                        continue;
                    }
                    Some(Ask::Ping(ping)) => ping,
                    None => continue,
                };
                if !this.answers.load(Ordering::SeqCst) {
                    continue;
                }
                let changes = this.changes.lock().unwrap().clone();
                for (object, revoked) in changes.into_iter().skip(sent) {
                    sent += 1;
                    let changes = vec![wire::Change { object: Some(object), revoked }];
                    tell(Told::Changes(wire::RevisionChanges { revision: sent as u64, changes, ..Default::default() }));
                }
                if !tell(Told::Pong(wire::WatchPong { nonce: ping.nonce, revision: sent as u64 })) {
                    return;
                }
            }
        });
        Ok(Box::pin(UnboundedReceiverStream::new(told)))
    }
}

fn metadata(name: &str, id: &str, namespace: &str) -> Option<wire::Metadata> {
    Some(wire::Metadata {
        name: name.into(),
        namespace: namespace.into(),
        id: id.into(),
        version: 1,
        ..wire::Metadata::default()
    })
}

pub(super) fn agent_id(n: u8) -> AgentId {
    AgentId::from_parts(1, [n; 10])
}

/// The agent number `n`, called `bot-N`.
pub(super) fn agent(
    n: u8,
    state: wire::AgentState,
    lifecycle_version: u64,
    cutoff: Option<Timestamp>,
    expires: Option<Timestamp>,
) -> Object {
    Object::Agent(wire::Agent {
        metadata: metadata(&format!("bot-{n}"), agent_id(n).as_str(), NAMESPACE),
        spec: Some(wire::AgentSpec {
            agent_class: "bots".into(),
            owners: vec![OWNER.into()],
            expire_time: expires.map(Into::into),
            ..wire::AgentSpec::default()
        }),
        status: Some(wire::AgentStatus {
            state: state.into(),
            lifecycle_version,
            authorization_cutoff: cutoff.map(Into::into),
            ..wire::AgentStatus::default()
        }),
    })
}

pub(super) fn class(max_token_secs: i64, max_certificate_secs: i64) -> Object {
    class_under((max_token_secs, max_certificate_secs), "")
}

/// The class with a credential policy; 0 stands for what is not declared.
pub(super) fn class_under((max_token_secs, max_certificate_secs): (i64, i64), policy: &str) -> Object {
    Object::AgentClass(wire::AgentClass {
        metadata: metadata("bots", "obj_1", NAMESPACE),
        spec: Some(wire::AgentClassSpec {
            max_token_ttl: secs(max_token_secs),
            max_certificate_ttl: secs(max_certificate_secs),
            credential_policy: policy.into(),
            ..wire::AgentClassSpec::default()
        }),
        status: None,
    })
}

/// The credential policy `strict`; 0 stands for what is not declared.
pub(super) fn credential_policy(
    (max_token_secs, max_certificate_secs): (i64, i64),
    methods: &[wire::CredentialMethod],
) -> Object {
    strict(wire::CredentialPolicySpec {
        max_token_ttl: secs(max_token_secs),
        max_certificate_ttl: secs(max_certificate_secs),
        methods: methods.iter().map(|m| (*m).into()).collect(),
        ..wire::CredentialPolicySpec::default()
    })
}

/// The credential policy `strict`, with room for so many instances.
pub(super) fn room_for(max_instances: u32) -> Object {
    strict(wire::CredentialPolicySpec { max_instances, ..wire::CredentialPolicySpec::default() })
}

/// The same by attestation.
pub(super) fn few_attested(max_instances: u32) -> Object {
    let methods = vec![wire::CredentialMethod::Attestation.into()];
    strict(wire::CredentialPolicySpec { max_instances, methods, ..wire::CredentialPolicySpec::default() })
}

fn strict(spec: wire::CredentialPolicySpec) -> Object {
    Object::CredentialPolicy(wire::CredentialPolicy {
        metadata: metadata("strict", "obj_3", NAMESPACE),
        spec: Some(spec),
    })
}

fn secs(seconds: i64) -> Option<prost_types::Duration> {
    (seconds > 0).then_some(prost_types::Duration { seconds, nanos: 0 })
}

/// The class `bots`, or the namespace, as it stands.
pub(super) fn standing(of_class: bool, suspended: bool, cutoff: Timestamp) -> Object {
    let authorization_cutoff = Some(cutoff.into());
    let status = Some(wire::StandingStatus { suspended, authorization_cutoff, ..wire::StandingStatus::default() });
    match class(300, 3600) {
        Object::AgentClass(class) if of_class => Object::AgentClass(wire::AgentClass { status, ..class }),
        _ => Object::Namespace(wire::Namespace { metadata: metadata(NAMESPACE, "obj_4", ""), spec: None, status }),
    }
}

/// Everything of a level is taken back; of the empty namespace: everywhere.
pub(super) fn cut_off(namespace: &str, level: wire::cut_off::Level, at: Timestamp) -> Object {
    let cut_off = wire::CutOff { level: Some(level.clone()), authorization_cutoff: Some(at.into()) };
    Object::Revocation(wire::Revocation {
        metadata: metadata("cut-off", "obj_6", namespace),
        spec: Some(wire::RevocationSpec { cut_off: Some(cut_off), ..wire::RevocationSpec::default() }),
    })
}

/// Lets agent `n` act for whoever is named.
pub(super) fn grant(delegator: &str, n: u8) -> Object {
    Object::DelegationGrant(wire::DelegationGrant {
        metadata: metadata(&format!("lets-{n}"), &format!("obj_7{n}"), NAMESPACE),
        spec: Some(wire::DelegationGrantSpec {
            delegator: delegator.into(),
            delegate: format!("bot-{n}"),
            not_after: Some(Timestamp::from_secs(super::scene::START + 1_000_000).into()),
            ..wire::DelegationGrantSpec::default()
        }),
    })
}

/// An enforcement point that was declared at that moment.
pub(super) fn enforcement_point_since(name: &str, created: Timestamp) -> Object {
    let mut object = enforcement_point(name, NAMESPACE, AUDIENCE);
    if let Object::EnforcementPoint(point) = &mut object {
        point.metadata.as_mut().unwrap().create_time = Some(created.into());
    }
    object
}

pub(super) fn enforcement_point(name: &str, namespace: &str, audience: &str) -> Object {
    Object::EnforcementPoint(wire::EnforcementPoint {
        metadata: metadata(name, "obj_2", namespace),
        spec: Some(wire::EnforcementPointSpec {
            audiences: vec![audience.into()],
            resource_types: vec!["Invoice".into()],
            ..wire::EnforcementPointSpec::default()
        }),
        spiffe_id: String::new(),
    })
}

/// A node that was declared at that moment.
pub(super) fn node(namespace: &str, name: &str, created: Timestamp) -> Object {
    let mut metadata = metadata(name, &format!("obj_{namespace}_{name}"), namespace);
    metadata.as_mut().unwrap().create_time = Some(created.into());
    Object::Node(wire::Node { metadata, spec: Some(wire::NodeSpec::default()), spiffe_id: String::new() })
}

/// Makes processes of a user `bot-N`, where one of the nodes attests them.
pub(super) fn attestation(name: &str, n: u8, uid: &str, nodes: &[&str], updated: Timestamp) -> Object {
    let mut metadata = metadata(name, &format!("obj_8{n}"), NAMESPACE);
    metadata.as_mut().unwrap().update_time = Some(updated.into());
    let r#type = wire::AttestationSelectorType::UnixUid.into();
    let spec = wire::AttestationPolicySpec {
        agent: format!("bot-{n}"),
        selectors: vec![wire::AttestationSelector { r#type, value: uid.into() }],
        nodes: nodes.iter().map(ToString::to_string).collect(),
        ..wire::AttestationPolicySpec::default()
    };
    Object::AttestationPolicy(wire::AttestationPolicy { metadata, spec: Some(spec) })
}

/// Makes processes `bot-N` that have all of these.
pub(super) fn attestation_by(
    name: &str,
    n: u8,
    selectors: &[(wire::AttestationSelectorType, &str)],
    updated: Timestamp,
) -> Object {
    let Object::AttestationPolicy(mut policy) = attestation(name, n, "", &[], updated) else { unreachable!() };
    let one = |(of, value): &(wire::AttestationSelectorType, &str)| wire::AttestationSelector {
        r#type: (*of).into(),
        value: (*value).into(),
    };
    policy.spec.as_mut().unwrap().selectors = selectors.iter().map(one).collect();
    policy.metadata.as_mut().unwrap().id = format!("obj_{name}");
    Object::AttestationPolicy(policy)
}

/// A key that signs access tokens.
pub(super) fn signing_key(key: &legate_token::PublicKey, issuer: &str) -> Object {
    Object::SigningKey(wire::SigningKey {
        metadata: metadata("key-1", "obj_5", ""),
        spec: Some(wire::SigningKeySpec {
            kid: key.kid().to_string(),
            issuer: issuer.into(),
            jwk: key.to_jwk(),
            r#use: wire::SigningKeyUse::AccessToken.into(),
            ..wire::SigningKeySpec::default()
        }),
    })
}

/// A key as the issuer publishes it.
pub(super) fn published_key(spec: wire::SigningKeySpec) -> Object {
    Object::SigningKey(wire::SigningKey { metadata: metadata("key-2", "obj_6", ""), spec: Some(spec) })
}

/// A certificate that was taken back.
pub(super) fn revoked(row: &crate::store::credential::Model) -> Object {
    Object::Revocation(wire::Revocation {
        metadata: metadata(&row.id.replace('_', "-"), "obj_9", &row.namespace),
        spec: Some(wire::RevocationSpec {
            credential_id: row.id.clone(),
            spiffe_id: row.spiffe_id.clone(),
            x5t_s256: row.x5t_s256.clone().unwrap(),
            ..wire::RevocationSpec::default()
        }),
    })
}

/// Gives one operator a role.
pub(super) fn operators(name: &str, namespace: &str, operator: &str, role: wire::OperatorRole) -> Object {
    Object::OperatorBinding(wire::OperatorBinding {
        metadata: metadata(name, "obj_3", namespace),
        spec: Some(wire::OperatorBindingSpec {
            operators: vec![operator.into()],
            role: role.into(),
            ..wire::OperatorBindingSpec::default()
        }),
    })
}
