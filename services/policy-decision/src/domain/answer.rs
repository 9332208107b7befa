//! An answer: allow, or one of three kinds of denial with a stable word and what made or cut it.

use std::collections::BTreeSet;

use legate_clock::Timestamp;

/// Three denials that are different.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Denial {
    /// A policy or a state says no.
    Forbidden,
    /// Nothing says yes.
    NotPermitted,
    /// It could not be decided; asking again may help.
    Undecided,
}

impl Denial {
    /// As it is written in the audit log and in metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Forbidden => "FORBIDDEN",
            Self::NotPermitted => "NOT_PERMITTED",
            Self::Undecided => "UNDECIDED",
        }
    }
}

/// Defines every word of a denial once: name, kind, word.
macro_rules! whys {
    ($($(#[$doc:meta])* $name:ident, $kind:ident, $word:literal;)*) => {
        /// Why an answer is a denial.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Why { $($(#[$doc])* $name,)* }

        impl Why {
            /// Every one, for the documentation.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The kind of denial that it is.
            pub(crate) fn kind(self) -> Denial {
                match self { $(Self::$name => Denial::$kind,)* }
            }

            /// The stable word, a reason in `docs/errors.md`.
            pub(crate) fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
        }
    };
}

whys! {
    /// A Cedar policy forbids.
    ForbiddenByPolicy, Forbidden, "FORBIDDEN_BY_POLICY";
    /// The agent is suspended.
    AgentSuspended, Forbidden, "AGENT_SUSPENDED";
    /// The agent's class is suspended.
    ClassSuspended, Forbidden, "CLASS_SUSPENDED";
    /// The agent's namespace is suspended.
    NamespaceSuspended, Forbidden, "NAMESPACE_SUSPENDED";
    /// A stop order names the agent.
    AgentStopped, Forbidden, "AGENT_STOPPED";
    /// Whoever made the agent, or is further above it, does not work.
    ParentStopped, Forbidden, "PARENT_STOPPED";
    /// The agent is quarantined.
    AgentQuarantined, Forbidden, "AGENT_QUARANTINED";
    /// The agent's time ran out.
    AgentExpired, Forbidden, "AGENT_EXPIRED";
    /// The agent is retired.
    AgentRetired, Forbidden, "AGENT_RETIRED";
    /// The agent was never switched on.
    AgentNotActive, Forbidden, "AGENT_NOT_ACTIVE";
    /// The token was issued in an earlier life of the agent.
    TokenOutlived, Forbidden, "TOKEN_OUTLIVED";
    /// The certificate that the token is bound to was revoked.
    CredentialRevoked, Forbidden, "CREDENTIAL_REVOKED";
    /// A token that was exchanged for this one was taken back, or its holder's life ended.
    ParentTokenFallen, Forbidden, "PARENT_TOKEN_FALLEN";
    /// A grant of the chain is not in force.
    GrantNotInForce, Forbidden, "GRANT_NOT_IN_FORCE";
    /// An agent of the chain, for whom another acts, does not work.
    DelegatorStopped, Forbidden, "DELEGATOR_STOPPED";
    /// A grant of the chain does not hold now.
    GrantOutsideWindow, NotPermitted, "GRANT_OUTSIDE_WINDOW";
    /// A grant of the chain is for other audiences.
    GrantAudience, NotPermitted, "GRANT_AUDIENCE";
    /// A grant of the chain lets other things be done.
    GrantNotPermitted, NotPermitted, "GRANT_NOT_PERMITTED";
    /// The grants make no chain from the subject to the agent.
    ChainInvalid, NotPermitted, "CHAIN_INVALID";
    /// The chain is longer than a grant or the namespace allows.
    ChainTooLong, NotPermitted, "CHAIN_TOO_LONG";
    /// Somebody for whom the agent acts may not do it.
    DelegatorNotPermitted, NotPermitted, "DELEGATOR_NOT_PERMITTED";
    /// No agent of that id in the caller's namespace.
    AgentUnknown, NotPermitted, "AGENT_UNKNOWN";
    /// The token is malformed, signed by nobody known, or not of the right kind.
    TokenInvalid, NotPermitted, "TOKEN_INVALID";
    /// The token's time is over, or has not come.
    TokenExpired, NotPermitted, "TOKEN_EXPIRED";
    /// The token is meant for somebody else.
    TokenAudience, NotPermitted, "TOKEN_AUDIENCE";
    /// The token was shown by somebody other than its holder, or is bound to nobody.
    TokenBinding, NotPermitted, "TOKEN_BINDING";
    /// The certificate that was shown is no agent's, or not good now.
    CertificateInvalid, NotPermitted, "CERTIFICATE_INVALID";
    /// The certificate that was shown was issued in an earlier life of the agent.
    CertificateOutlived, Forbidden, "CERTIFICATE_OUTLIVED";
    /// The token is narrowed to other actions.
    TokenScope, NotPermitted, "TOKEN_SCOPE";
    /// The audience is no enforcement point's of the agent's namespace.
    AudienceUnknown, NotPermitted, "AUDIENCE_UNKNOWN";
    /// No class permission and no role binding gives it.
    NotPermitted, NotPermitted, "NOT_PERMITTED";
    /// A role binding gives it for other resources only.
    BindingNarrowed, NotPermitted, "BINDING_NARROWED";
    /// A role binding gives it, but not now.
    BindingOutsideWindow, NotPermitted, "BINDING_OUTSIDE_WINDOW";
    /// It is given, and above a ceiling: of the agent, of its class, or of whoever made it.
    AboveCeiling, NotPermitted, "ABOVE_CEILING";
    /// It is given, and a boundary is for other regions.
    BoundaryRegion, NotPermitted, "BOUNDARY_REGION";
    /// It is given, and a boundary is for other classes of data.
    BoundaryData, NotPermitted, "BOUNDARY_DATA";
    /// It is given, and a boundary is for other purposes.
    BoundaryPurpose, NotPermitted, "BOUNDARY_PURPOSE";
    /// It is given, and a boundary is for other regimes.
    BoundaryRegime, NotPermitted, "BOUNDARY_REGIME";
    /// It is given, and a boundary is for agents of other environments.
    BoundaryEnvironment, NotPermitted, "BOUNDARY_ENVIRONMENT";
    /// It is given, and a boundary is for other hours.
    BoundaryHours, NotPermitted, "BOUNDARY_HOURS";
    /// It is given and permitted, and a policy holds it back until a person approves it.
    ApprovalRequired, NotPermitted, "APPROVAL_REQUIRED";
    /// It is given, and no Cedar policy permits it.
    NoPolicyPermits, NotPermitted, "NO_POLICY_PERMITS";
    /// It is given and permitted, and the namespace declares that it is asked in another way.
    OutsideSchema, NotPermitted, "OUTSIDE_SCHEMA";
    /// The view of the registry is too old.
    Stale, Undecided, "STALE";
    /// The wanted revision did not come in time.
    RevisionNotReached, Undecided, "REVISION_NOT_REACHED";
    /// The agent's class names a boundary that is not known here.
    BoundaryUnknown, Undecided, "BOUNDARY_UNKNOWN";
    /// A policy that could forbid failed, or the policies cannot be read.
    PolicyError, Undecided, "POLICY_ERROR";
    /// The policies of the newest revision are still being compiled.
    PolicyNotReady, Undecided, "POLICY_NOT_READY";
    /// The key of the token is not known here, or not yet.
    TokenKeyUnknown, Undecided, "TOKEN_KEY_UNKNOWN";
    /// Nobody knows whether an approval that counts once was used.
    ApprovalUnconfirmed, Undecided, "APPROVAL_UNCONFIRMED";
    /// The decision could not be recorded.
    AuditUnavailable, Undecided, "AUDIT_UNAVAILABLE";
}

/// What a cause is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CauseKind {
    Class,
    Binding,
    Ceiling,
    Boundary,
    Permit,
    Forbid,
    /// A policy that holds something back until it is approved.
    Holding,
    /// What lifted such a policy.
    Approval,
    PolicyError,
    AgentState,
    Grant,
    Delegator,
    Token,
    View,
    Audit,
    /// A declared object that is none of these.
    Object,
}

/// One thing that made a decision, or cut it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) kind: CauseKind,
    /// `NAMESPACE/NAME`, empty for what has none.
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) text: String,
}

impl Cause {
    /// A cause that is no declared object.
    pub(crate) fn plain(kind: CauseKind, text: impl Into<String>) -> Self {
        Self { kind, name: String::new(), version: 0, id: String::new(), text: text.into() }
    }

    /// A cause that is a declared object.
    pub(crate) fn of(kind: CauseKind, label: &legate_view::Label, text: impl Into<String>) -> Self {
        let (version, id) = (label.version, label.id.to_string());
        Self { kind, name: format!("{}/{}", label.namespace, label.name), version, id, text: text.into() }
    }

    /// A cause that is an agent.
    pub(crate) fn of_agent(kind: CauseKind, agent: &legate_view::Agent, text: impl Into<String>) -> Self {
        let legate_view::AgentLabel { namespace, name, version, .. } = &agent.label;
        Self {
            kind,
            name: format!("{namespace}/{name}"),
            version: *version,
            id: agent.id.to_string(),
            text: text.into(),
        }
    }

    /// As the audit log writes it: `policy:payments/sealed@3`.
    pub(crate) fn line(&self) -> String {
        let kind = match self.kind {
            CauseKind::Class => "class",
            CauseKind::Binding => "binding",
            CauseKind::Ceiling => "ceiling",
            CauseKind::Boundary => "boundary",
            CauseKind::Permit | CauseKind::Forbid | CauseKind::Holding => "policy",
            CauseKind::Approval => "approval",
            CauseKind::PolicyError => "policy-error",
            CauseKind::AgentState => "agent",
            CauseKind::Grant => "grant",
            CauseKind::Delegator => "delegator",
            CauseKind::Token => "token",
            CauseKind::View => "view",
            CauseKind::Object => "object",
            CauseKind::Audit => "audit",
        };
        if self.name.is_empty() {
            return kind.to_owned();
        }
        format!("{kind}:{}@{}", self.name, self.version)
    }
}

/// What was decided, before it is recorded and said.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// `None`: allowed.
    pub(crate) denied: Option<Why>,
    /// What made or cut it.
    pub(crate) causes: Vec<Cause>,
    /// What policies in LOG_ONLY would have said.
    pub(crate) log_only: Vec<Cause>,
    /// Those in LOG_ONLY that would have turned the answer round, had they decided.
    pub(crate) shadow: Vec<super::shadow::Flip>,
    /// The first moment at which time alone may change the answer.
    pub(crate) until: Option<Timestamp>,
    /// Approvals that count once, `apr_...`, on which it rests where it allows.
    pub(crate) uses: BTreeSet<String>,
}

impl Answer {
    /// A denial with the one thing that cut it.
    pub(crate) fn deny(why: Why, cause: Cause) -> Self {
        Self { denied: Some(why), ..Self::allow(vec![cause]) }
    }

    /// What is allowed so far, with what gives it.
    pub(crate) fn allow(causes: Vec<Cause>) -> Self {
        let (log_only, shadow, uses) = Default::default();
        Self { denied: None, causes, log_only, shadow, until: None, uses }
    }

    /// The stable word of the answer.
    pub(crate) fn word(&self) -> &'static str {
        self.denied.map_or("ALLOWED", Why::word)
    }
}
