//! Identifiers, parsed once and typed for ever: SPIFFE IDs, TypeIDs, names, actions and resources.
#![no_std]

extern crate alloc;

mod action;
mod actions;
mod name;
mod resource;
mod spiffe;
mod typeid;

pub use action::{Action, ActionPattern, BadAction};
pub use actions::Actions;
pub use name::{BadName, Name};
pub use resource::{BadResource, IdPattern, ResourceId, ResourceType, is_deceptive};
pub use spiffe::{BadSpiffeId, Principal, SpiffeId, TrustDomain};
pub use typeid::{
    AgentId, ApprovalId, BadTypeId, CredentialId, DecisionId, EnrolmentId, EventId, InstanceId, ObjectId, ReviewId,
    ReviewItemId,
};

/// Gives a text newtype the traits every identifier has: `Display`, `AsRef<str>`, `FromStr`, `as_str`. With `as_str` of its
/// own: the others.
macro_rules! text_traits {
    ($type:ident, $error:ident) => {
        impl $type {
            /// The identifier as text, exactly as it was parsed.
            #[inline]
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        crate::text_traits!($type, $error, with as_str);
    };
    ($type:ident, $error:ident, with as_str) => {
        impl core::fmt::Display for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
        impl core::str::FromStr for $type {
            type Err = $error;
            fn from_str(text: &str) -> Result<Self, $error> {
                Self::parse(text)
            }
        }
    };
}
pub(crate) use text_traits;
