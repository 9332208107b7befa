//! Who may hold a credential now: an ACTIVE agent, a declared enforcement point or node, as the registry was last seen.

use std::collections::BTreeSet;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{AgentId, InstanceId, Name, Principal, SpiffeId, TrustDomain};
use legate_planted::Bug;
use legate_view::{Agent, AgentState, CredentialMethod, CredentialPolicy, Label, Snapshot, Stop};

use super::cutoff::{Cutoffs, Of};
use super::instance::USUAL_INSTANCES;

/// The longest a certificate lives, whatever is declared.
pub(crate) const LONGEST_CERTIFICATE: Duration = Duration::from_secs(24 * 3600);
/// How long a certificate lives where nothing is declared.
const USUAL_CERTIFICATE: Duration = Duration::from_secs(3600);
/// The longest an access token lives, whatever is declared.
pub(crate) const LONGEST_TOKEN: Duration = Duration::from_secs(legate_token::MAX_LIFETIME);
/// How long a token lives where nothing is declared or asked.
pub(crate) const USUAL_TOKEN: Duration = Duration::from_secs(300);
/// How long a client secret or key lives where nothing is declared.
const USUAL_SECRET: Duration = Duration::from_secs(90 * 24 * 3600);
/// The longest it lives, whatever is declared: a year of 365.25 days.
const LONGEST_SECRET: Duration = Duration::from_secs(31_557_600);
/// The longest that a replaced one still works, whatever is declared.
const LONGEST_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);

/// Whom an enrolment names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Agent(AgentId),
    EnforcementPoint { namespace: Name, name: Name },
    Node { namespace: Name, name: Name },
}

/// Somebody who may hold credentials at this moment, and within which bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) namespace: Name,
    pub(crate) agent: Option<AgentId>,
    pub(crate) instance: Option<InstanceId>,
    /// 0 for enforcement points and nodes, which have no lifecycle.
    pub(crate) lifecycle_version: u64,
    pub(crate) cutoffs: Cutoffs,
    /// When the agent, or one above it, ends by itself.
    pub(crate) ends: Option<Timestamp>,
    pub(crate) certificate_ttl: Duration,
    pub(crate) token_ttl: Duration,
    /// How many running copies may hold certificates at once.
    pub(crate) max_instances: u32,
    /// How its runtimes may prove themselves.
    pub(crate) means: Means,
}

/// How the runtimes of a holder may prove themselves, and what they may be given then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Means {
    /// The credential policy that says so, by name and version; empty where there is none.
    pub(crate) policy: String,
    methods: BTreeSet<CredentialMethod>,
    /// Whether tokens may be given that are bound to no key.
    pub(crate) may_bear: bool,
    /// The longest that a client secret or key lives.
    pub(crate) secret_ttl: Duration,
    /// How long a client secret or key still works beside the one that replaces it.
    pub(crate) overlap: Duration,
}

impl Means {
    /// What the policy of a class says; without one, that an enrolment token is the only way.
    pub(crate) fn of(policy: Option<&CredentialPolicy>) -> Self {
        Self {
            policy: policy.map(|p| p.label.to_string()).unwrap_or_default(),
            methods: policy.map_or_else(|| BTreeSet::from([CredentialMethod::EnrolmentToken]), |p| p.methods.clone()),
            may_bear: policy.is_some_and(|p| p.may_bear),
            secret_ttl: policy.and_then(|p| p.max_secret_ttl).unwrap_or(USUAL_SECRET).min(LONGEST_SECRET),
            overlap: policy.and_then(|p| p.rotation_overlap).unwrap_or(Duration::ZERO).min(LONGEST_OVERLAP),
        }
    }

    /// Of a node: what lets it enrol is made for it by name, whether that is a token of ours or the rule of a trusted issuer.
    fn of_node() -> Self {
        let methods = BTreeSet::from([CredentialMethod::EnrolmentToken, CredentialMethod::TrustedIssuer]);
        Self { methods, ..Self::of(None) }
    }

    /// Whether a runtime may prove itself in this way.
    pub(crate) fn list(&self, method: CredentialMethod) -> bool {
        self.methods.contains(&method)
    }
}

/// Why somebody may hold nothing now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoHolder {
    #[error("the registry knows no agent {0}")]
    NoAgent(AgentId),
    #[error("the registry knows no enforcement point {0}/{1}")]
    NoEnforcementPoint(Name, Name),
    #[error("the registry knows no node {0}/{1}")]
    NoNode(Name, Name),
    #[error("the agent {0} is {1:?}; only an ACTIVE agent can obtain or use anything")]
    NotActive(AgentId, AgentState),
    #[error("the time of the agent {0} has run out")]
    Expired(AgentId),
    #[error("the class of the agent {0} names the credential policy {1}, which is not known here")]
    NoPolicy(AgentId, Name),
    #[error("the class {0}/{1} is suspended; none of its agents can obtain or use anything")]
    ClassSuspended(Name, Name),
    #[error("an agent that made {0}, or is further above it, is not ACTIVE; it can obtain or use nothing")]
    ParentStopped(AgentId),
    #[error("the namespace {0} is suspended; none of its agents can obtain or use anything")]
    NamespaceSuspended(Name),
    #[error("a stop order that stands names the agent {0}; it can obtain or use nothing")]
    Stopped(AgentId),
    #[error("{0} is no agent, enforcement point or node")]
    NotAWorkload(SpiffeId),
}

impl Holder {
    /// The same, by whichever of its running copies.
    pub(crate) fn of_any_copy(self) -> Self {
        Self { spiffe_id: self.spiffe_id.without_instance(), instance: None, ..self }
    }
}

impl Named {
    /// Whom a certificate names.
    pub(crate) fn of(id: &SpiffeId, principal: &Principal) -> Result<(Self, Option<InstanceId>), NoHolder> {
        match principal {
            Principal::Agent { id, instance, .. } => Ok((Self::Agent(id.clone()), instance.clone())),
            Principal::Enforcer { namespace, name } => {
                let (namespace, name) = (namespace.clone(), name.clone());
                Ok((Self::EnforcementPoint { namespace, name }, None))
            }
            Principal::Node { namespace, name } => {
                Ok((Self::Node { namespace: namespace.clone(), name: name.clone() }, None))
            }
            Principal::Operator(_) | Principal::Service(_) => Err(NoHolder::NotAWorkload(id.clone())),
        }
    }
}

/// The longest that an access token of the agent lives, by its class and credential policy; of two limits the narrower holds.
pub(crate) fn token_ttl(snapshot: &Snapshot, agent: &Agent) -> Duration {
    let class = snapshot.class(agent.label.namespace.as_str(), agent.class.as_str());
    let policy = snapshot.credential_policy_of(agent).ok().flatten();
    let limits = class.and_then(|c| c.max_token_ttl).into_iter().chain(policy.and_then(|p| p.max_token_ttl));
    limits.min().unwrap_or(USUAL_TOKEN).min(LONGEST_TOKEN)
}

/// Finds the one who is named and says whether it may hold anything at `now`.
pub(crate) fn find(
    snapshot: &Snapshot,
    domain: &TrustDomain,
    named: &Named,
    instance: Option<InstanceId>,
    now: Timestamp,
) -> Result<Holder, NoHolder> {
    match named {
        Named::EnforcementPoint { namespace, name } => {
            let point = snapshot
                .enforcement_point(namespace.as_str(), name.as_str())
                .ok_or_else(|| NoHolder::NoEnforcementPoint(namespace.clone(), name.clone()))?;
            let spiffe_id = SpiffeId::enforcer(domain, namespace, name);
            Ok(without_life(spiffe_id, &point.label, Of::EnforcementPoint, Means::of(None)))
        }
        Named::Node { namespace, name } => {
            let node = snapshot
                .node(namespace.as_str(), name.as_str())
                .ok_or_else(|| NoHolder::NoNode(namespace.clone(), name.clone()))?;
            let spiffe_id = SpiffeId::node(domain, namespace, name);
            Ok(without_life(spiffe_id, &node.label, Of::Node, Means::of_node()))
        }
        Named::Agent(id) => {
            let agent = snapshot.agent(id).ok_or_else(|| NoHolder::NoAgent(id.clone()))?;
            let life = snapshot.life_of(agent, now);
            let namespace = agent.label.namespace.clone();
            match life.stop {
                None => {}
                Some(_) if legate_planted::is(Bug::SkipStateOnRenew) => {}
                Some(Stop::State(state)) => return Err(NoHolder::NotActive(id.clone(), state)),
                Some(Stop::Expired) => return Err(NoHolder::Expired(id.clone())),
                Some(Stop::Namespace) => return Err(NoHolder::NamespaceSuspended(namespace)),
                Some(Stop::Order) => return Err(NoHolder::Stopped(id.clone())),
                Some(Stop::Ancestor) => return Err(NoHolder::ParentStopped(id.clone())),
                Some(Stop::Class) => return Err(NoHolder::ClassSuspended(namespace, agent.class.clone())),
            }
            let class = snapshot.class(namespace.as_str(), agent.class.as_str());
            let policy = policy(snapshot, agent)?;
            // Of two limits the narrower holds.
            let narrower = |a: Option<Duration>, b: Option<Duration>| a.into_iter().chain(b).min();
            let of_class = class.and_then(|c| c.max_certificate_ttl);
            let certificate_ttl = narrower(of_class, policy.and_then(|p| p.max_certificate_ttl));
            Ok(Holder {
                spiffe_id: match &instance {
                    Some(copy) => SpiffeId::instance(domain, &namespace, id, copy),
                    None => SpiffeId::agent(domain, &namespace, id),
                },
                namespace,
                agent: Some(id.clone()),
                instance,
                lifecycle_version: life.lifecycle_version,
                cutoffs: Cutoffs::default()
                    .with(Of::Agent, life.own_cutoff)
                    .with(Of::Class, life.class_cutoff)
                    .with(Of::Namespace, life.namespace_cutoff)
                    .with(Of::Owner, life.owners_cutoff)
                    .with(Of::StopOrder, life.orders_cutoff)
                    .with(Of::Parent, life.ancestors_cutoff),
                ends: life.ends,
                certificate_ttl: certificate_ttl.unwrap_or(USUAL_CERTIFICATE).min(LONGEST_CERTIFICATE),
                token_ttl: token_ttl(snapshot, agent),
                max_instances: policy.and_then(|p| p.max_instances).unwrap_or(USUAL_INSTANCES),
                means: Means::of(policy),
            })
        }
    }
}

/// An enforcement point or a node: it is there, or it is not.
fn without_life(spiffe_id: SpiffeId, label: &Label, of: Of, means: Means) -> Holder {
    // Taken back and declared anew it is another one. Certificates count in seconds, so that of its own first second is its own.
    let before = Timestamp::from_secs(label.created.secs()).minus(Duration::from_micros(1));
    Holder {
        spiffe_id,
        namespace: label.namespace.clone(),
        agent: None,
        instance: None,
        lifecycle_version: 0,
        cutoffs: Cutoffs::default().with(of, Some(before)),
        ends: None,
        certificate_ttl: USUAL_CERTIFICATE,
        token_ttl: Duration::ZERO,
        max_instances: 0,
        means,
    }
}

/// The credential policy that the agent's class names. Without one that is named nobody can say what it would refuse.
fn policy<'a>(snapshot: &'a Snapshot, agent: &Agent) -> Result<Option<&'a CredentialPolicy>, NoHolder> {
    let policy = snapshot.credential_policy_of(agent);
    policy.map(|p| p.map(|p| &**p)).map_err(|name| NoHolder::NoPolicy(agent.id.clone(), name.clone()))
}

/// How the runtimes of an agent may prove themselves.
pub(crate) fn means(snapshot: &Snapshot, agent: &Agent) -> Result<Means, NoHolder> {
    policy(snapshot, agent).map(Means::of)
}
