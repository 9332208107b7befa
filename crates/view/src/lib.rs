//! The registry as last seen: its objects, their revision, and how old that sight may be.
//!
//! [`View::follow`] opens the registry's `Watch` and keeps a [`Snapshot`] in place. Every 500 ms it pings; the registry
//! answers only after everything that it knew has been sent, so the view's age is the monotonic time since the last
//! answered ping was **sent**, whatever the clocks of the two machines say. Past the bound (five seconds at most) the
//! view is [`Stale`] and whoever decides by it has to deny.
//!
//! What cannot be read is closed: a role or class that this version does not understand grants nothing. A revocation, a
//! binding (policies may forbid something to its role), a group, a boundary or a kind of object that it does not understand
//! could be a denial, so then the view stops and goes stale.

mod agent;
mod agents;
mod approvals;
mod attestation;
mod bindings;
mod boundaries;
mod convert;
mod declared;
mod delegation;
mod federated;
mod feed;
mod fields;
mod follow;
mod groups;
mod handle;
mod hypothesis;
mod intake;
mod intern;
mod issuers;
mod life;
mod lineage;
mod operators;
mod record;
mod revocations;
mod selector;
mod set;
mod shards;
mod snapshot;
mod standing;
mod stop_orders;
mod take_in;
mod token;

pub use agent::{Agent, AgentLabel, AgentState, Labels, Names, Nature, People, Text, Texts};
pub use approvals::{Approval, Held};
pub use attestation::{AttestationPolicy, Attested, Node};
pub use boundaries::Boundary;
pub use delegation::{Audience, Broken, Delegation, Delegator, Hop, Person};
pub use federated::{BundleEndpoint, FederatedTrustDomain};
pub use feed::{Feed, News};
pub use follow::{Options, View};
pub use groups::Group;
pub use handle::{Behind, Counts, HARD_BOUND, Reading, Stale, ViewHandle};
pub use issuers::{ClaimRule, IssuerKeys, StandsFor, TrustedIssuer};
pub use life::{Life, Stop};
pub use lineage::CeilingOf;
pub use record::{
    AgentClass, CredentialMethod, CredentialPolicy, DelegationGrant, EnforcementPoint, KeyUse, Label, Level,
    NamespacePolicies, NamespaceRules, Policy, PolicyMode, PolicyTest, Revocation, Revoked, Role, RoleBinding,
    SigningKey, Standing,
};
pub use snapshot::{Otherwise, Snapshot, Source, Unreadable, after_cutoff};
pub use standing::{
    CALLER_CUT_OFF, CALLER_NOT_ACTIVE, CALLER_REVOKED, CALLER_STANDING_UNKNOWN, CALLER_UNKNOWN, CERTIFICATE_BACKDATE,
    OnStale, REASONS, ViewStanding,
};
pub use stop_orders::StopOrder;
pub use token::{Fallen, Standing as TokenStanding};
