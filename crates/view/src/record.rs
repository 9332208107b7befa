//! The declared objects as the services above the registry use them: parsed once, when they arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use legate_authority::{Ceiling, Link, Permission, ResourceSelector, Window};
use legate_clock::Timestamp;
use legate_ids::{Action, ActionPattern, CredentialId, Name, ResourceType};

/// What every declared object is called, and which of its versions this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its namespace.
    pub namespace: Name,
    /// Its name there.
    pub name: Name,
    /// Its id.
    pub id: Arc<str>,
    /// Counts its own writes from 1.
    pub version: u32,
    /// The registry's revision at its last write.
    pub revision: u64,
    /// When it was first written.
    pub created: Timestamp,
    /// When it was last written.
    pub updated: Timestamp,
}

/// `NAMESPACE/NAME@VERSION`.
impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.namespace, self.name, self.version)
    }
}

/// Whether everything below a class or a namespace is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Whether it is suspended.
    pub suspended: bool,
    /// Nothing issued at or before this moment works.
    pub cutoff: Option<Timestamp>,
}

/// A template for agents.
#[derive(Clone, Debug)]
pub struct AgentClass {
    /// Its name and namespace.
    pub label: Label,
    /// What every agent of the class may do.
    pub permissions: Vec<Permission>,
    /// The most an agent of the class can ever have.
    pub ceiling: Ceiling,
    /// Whether a new agent waits for an approver.
    pub requires_approval: bool,
    /// The longest an access token lives, where declared.
    pub max_token_ttl: Option<Duration>,
    /// The longest a certificate lives, where declared.
    pub max_certificate_ttl: Option<Duration>,
    /// The credential policy in the same namespace that its agents' credentials follow.
    pub credential_policy: Option<Name>,
    /// Boundaries in the same namespace that apply to its agents, beside those that name it.
    pub boundaries: Vec<Name>,
}

/// How a runtime proves that it is an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialMethod {
    /// A one-time enrolment token, with a key of its own.
    EnrolmentToken,
    /// A JWT signed by a registered key.
    PrivateKeyJwt,
    /// Its certificate.
    TlsClientAuth,
    /// A client secret.
    ClientSecret,
    /// A token of a trusted issuer.
    TrustedIssuer,
    /// What the node attests of its process.
    Attestation,
}

/// How the agents of classes that name it may obtain credentials.
#[derive(Clone, Debug)]
pub struct CredentialPolicy {
    /// Its name and namespace.
    pub label: Label,
    /// How a runtime may prove itself. Where none is declared: by an enrolment token.
    pub methods: BTreeSet<CredentialMethod>,
    /// The longest an access token lives, where declared.
    pub max_token_ttl: Option<Duration>,
    /// The longest a certificate lives, where declared.
    pub max_certificate_ttl: Option<Duration>,
    /// Whether tokens may be given that are bound to no key.
    pub may_bear: bool,
    /// The longest a secret or a registered key lives, where declared.
    pub max_secret_ttl: Option<Duration>,
    /// How long the old secret or key still works beside the new one, where declared.
    pub rotation_overlap: Option<Duration>,
    /// How long before its end a credential counts as due for rotation, where declared.
    pub rotate_before: Option<Duration>,
    /// How many running copies of one agent may hold certificates at once, where declared.
    pub max_instances: Option<u32>,
}

/// Questions with the answers they must have; asked by previews, never by what decides.
#[derive(Clone, Debug)]
pub struct PolicyTest {
    /// Its name and namespace.
    pub label: Label,
    /// The questions.
    pub cases: Vec<legate_wire::registry::PolicyTestCase>,
}

/// A set of permissions.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its name and namespace.
    pub label: Label,
    /// What it lets its holders do.
    pub permissions: Vec<Permission>,
}

/// Gives a role to agents.
#[derive(Clone, Debug)]
pub struct RoleBinding {
    /// Its name and namespace.
    pub label: Label,
    /// The role, in the same namespace.
    pub role: Name,
    /// The agents, in the same namespace.
    pub agents: Vec<Name>,
    /// The groups whose agents it speaks of too, in the same namespace.
    pub groups: Vec<Name>,
    /// Agents of these groups that it gives nothing, in the same namespace.
    pub except: Vec<Name>,
    /// The people who hold the role where an agent acts for them, as `user:NAME` or `group:NAME`.
    pub users: Vec<String>,
    /// Where given, the role holds only for resources that one of these matches.
    pub narrowing: Option<Vec<ResourceSelector>>,
    /// When it holds.
    pub window: Window,
}

/// What holds for everything in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamespaceRules {
    /// Whether agents made by agents have only what is bound to themselves.
    pub own_grant_only: bool,
    /// How many agents may stand in one chain of delegation.
    pub max_delegation_depth: u32,
    /// Whether a delegation grant alone bounds a person's authority; else it is what bindings give the person.
    pub people_by_grant: bool,
    /// Whether pipelines write what is declared in it.
    pub has_pipelines: bool,
}

/// Of a namespace that is not known nothing is inherited, and nobody acts for anybody.
impl Default for NamespaceRules {
    fn default() -> Self {
        Self { own_grant_only: true, max_delegation_depth: 0, people_by_grant: false, has_pipelines: false }
    }
}

/// Lets an agent act for another, or for a person.
#[derive(Clone, Debug)]
pub struct DelegationGrant {
    /// Its name and namespace.
    pub label: Label,
    /// Who lets it, as `user:NAME`, `group:NAME` or `agent:NAME`.
    pub delegator: String,
    /// The agent that acts, in the same namespace.
    pub delegate: Name,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Towards whom; none: towards anybody.
    pub audiences: Vec<String>,
    /// When it holds.
    pub window: Window,
    /// How many links may follow.
    pub max_depth: u32,
    /// The grant that it passes on a part of, in the same namespace.
    pub parent: Option<Name>,
    /// Whether the person whom it is from made it itself: then it is never taken for the person's authority.
    pub is_by_person: bool,
}

impl DelegationGrant {
    /// The grant as the arithmetic of authority takes it.
    #[must_use]
    pub fn link(&self) -> Link<'_> {
        Link {
            delegator: &self.delegator,
            delegate: self.delegate.as_str(),
            permissions: &self.permissions,
            audiences: &self.audiences,
            window: self.window,
            max_depth: self.max_depth,
        }
    }
}

/// Whether a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PolicyMode {
    /// It decides.
    Enforce,
    /// It is evaluated and reported.
    LogOnly,
    /// A word that this version does not know; the namespace cannot be decided about.
    Unknown,
}

/// A Cedar policy.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Its name and namespace.
    pub label: Label,
    /// Its text.
    pub cedar: String,
    /// Whether it decides.
    pub mode: PolicyMode,
}

/// All policies of one namespace, and by what they are read. A change makes a new one, so the same `Arc` means the same policies.
#[derive(Clone, Debug, Default)]
pub struct NamespacePolicies {
    /// The revision of the last change among them.
    pub revision: u64,
    /// The policies, by name.
    pub by_name: BTreeMap<Name, Arc<Policy>>,
    /// What the namespace declares of what callers state, as `Snapshot::policy_schema` gives it.
    pub schema: Option<Arc<str>>,
}

/// A backend, gateway or tool server that asks for decisions.
#[derive(Clone, Debug)]
pub struct EnforcementPoint {
    /// Its name and namespace.
    pub label: Label,
    /// The resource types it may ask about.
    pub resource_types: BTreeSet<ResourceType>,
    /// The audiences of tokens meant for it.
    pub audiences: BTreeSet<String>,
    /// Whether it may name an agent without showing a token.
    pub may_assert_subject: bool,
    /// Whether it may ask who can do something, and what somebody can do.
    pub may_search: bool,
    /// Whether it may have decisions explained.
    pub may_explain: bool,
    /// Actions whose decision records are on disk before the answer.
    pub durable_actions: Vec<ActionPattern>,
}

impl EnforcementPoint {
    /// Whether the record of a decision on `action` has to be on disk before the answer.
    #[must_use]
    pub fn is_durable(&self, action: &Action) -> bool {
        self.durable_actions.iter().any(|p| p.covers(action))
    }
}

/// What a signing key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyUse {
    /// Access tokens.
    AccessToken,
    /// JWT-SVIDs.
    JwtSvid,
}

/// A public key that verifies tokens.
#[derive(Clone, Debug)]
pub struct SigningKey {
    /// The key id.
    pub kid: String,
    /// The `iss` of tokens that it signs.
    pub issuer: String,
    /// The key as a JWK in JSON.
    pub jwk: String,
    /// What it signs.
    pub purpose: KeyUse,
    /// Tokens issued earlier are refused.
    pub not_before: Option<Timestamp>,
    /// After this moment it verifies nothing.
    pub not_after: Option<Timestamp>,
}

/// What was taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// A credential.
    Credential(CredentialId),
    /// One access token, by its `jti`.
    Token(String),
    /// Everything that was issued to some at or before a moment.
    Issued(Level, Timestamp),
}

/// Whom a cut-off names, in one namespace or, where that is `None`, in every one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Level {
    /// Every agent of a class.
    Class(Name, Name),
    /// Every agent of a namespace.
    Namespace(Name),
    /// Every agent of an owner, `user:NAME` or `group:NAME`.
    Owner(Option<Name>, String),
    /// Every token by which an agent acts for a person, `user:NAME`.
    Subject(Option<Name>, String),
}

/// What was taken back.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// Which.
    pub what: Revoked,
    /// Its holder, as a SPIFFE ID.
    pub spiffe_id: String,
    /// SHA-256 of the certificate, where the credential is one.
    pub x5t_s256: Option<[u8; 32]>,
    /// When it would have ended by itself.
    pub expires: Option<Timestamp>,
}
