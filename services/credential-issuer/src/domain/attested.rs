//! What each type of selector rests on: what a node saw, what a token says, or which broker asks.

use legate_token::TokenFact;
use legate_wire::registry::AttestationSelectorType as Type;

/// The longest value of a selector, in bytes.
pub(crate) const LONGEST_VALUE: usize = 512;

/// What a token has to say for it; `None`: it is not of a token.
pub(crate) fn fact_of(of: Type) -> Option<TokenFact> {
    match of {
        Type::KubernetesServiceAccount => Some(TokenFact::KubernetesServiceAccount),
        Type::KubernetesNamespace => Some(TokenFact::KubernetesNamespace),
        Type::KubernetesPodUid => Some(TokenFact::KubernetesPodUid),
        Type::OidcIssuer => Some(TokenFact::Issuer),
        Type::OidcSubject => Some(TokenFact::Subject),
        Type::OidcClaim => Some(TokenFact::Claim),
        Type::Unspecified
        | Type::UnixUid
        | Type::UnixGid
        | Type::UnixPath
        | Type::UnixSha256
        | Type::SystemdUnit
        | Type::Cgroup
        | Type::ContainerId
        | Type::BrokerAgent
        | Type::BrokerSandbox => None,
    }
}

/// Whether it counts only where a broker asks.
pub(crate) fn is_of_broker(of: Type) -> bool {
    matches!(of, Type::BrokerAgent | Type::BrokerSandbox)
}

/// Whether a node says it of its own: who a broker is, and what a token says, is read from these.
pub(crate) fn is_for_nodes(of: Type) -> bool {
    fact_of(of).is_none() && !matches!(of, Type::BrokerAgent | Type::Unspecified)
}
