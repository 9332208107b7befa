//! Access tokens as RFC 9068 has them, and tokens of issuers outside: claims, keys, signing, and verification at a given moment.
//!
//! Trust is a type here: [`Parsed`] is well formed and nothing more; [`Signed`] was signed by the given key, which stays
//! true and may be remembered; [`Verified`] is meant for the one who asks, now. Claims can be read from the second on,
//! and only [`Verified`] is a reason to believe them.
//!
//! Tokens of issuers outside take the same steps ([`ForeignToken`], [`ForeignSigned`], [`ForeignVerified`]).
//!
//! Whoever signs or verifies much brings a faster [`EcSigner`] or [`EcVerifier`]; the portable ones here are p256's.
#![no_std]

extern crate alloc;

mod assertion;
mod chain;
mod claims;
mod confirmation;
mod details;
mod dpop;
mod error;
mod foreign;
mod json;
mod jws;
mod key;
mod mint;
mod signature;
mod svid_verify;
mod verify;

pub use assertion::{Assertion, MAX_ASSERTION_LIFETIME, ProvenClient};
pub use chain::{Chain, MAX_GROUPS, Parent, Subject, group_of_people};
pub use claims::{Claims, MAX_SCOPES, Scope, Status};
pub use confirmation::Confirmation;
pub use details::{DETAILS_TYPE, Detail, Details, MAX_DETAILS_TEXT};
pub use dpop::{DpopProof, ExpectProof, MAX_PROOF_AGE};
pub use error::{BadClaims, BadKey, BadProof, TokenError};
pub use foreign::{
    Algorithm, ClaimedFacts, ForeignError, ForeignExpect, ForeignKey, ForeignKeys, ForeignSigned, ForeignToken,
    ForeignVerified, ForeignVerifier, MAX_FOREIGN_LIFETIME, MAX_FOREIGN_TOKEN, MAX_KEYS_TEXT, TokenFact,
};
pub use key::{KeyId, PublicKey, jwk_set};
pub use mint::{SvidToSign, Unsigned, mint};
pub use signature::{EcSigner, EcVerifier, P256Signer, P256Verifier, SigningFailed};
pub use svid_verify::{BadKeys, BadSvid, ReceivedSvid, SvidKeys, VerifiedSvid};
pub use verify::{Expect, Parsed, Signed, Verified};

/// The longest token, in bytes: what an HTTP header line takes at most servers.
pub const MAX_TOKEN: usize = 8 * 1024;

/// The longest life of a token, in seconds.
pub const MAX_LIFETIME: u64 = 600;

/// The most that the clocks of signer and verifier may be apart, in seconds.
pub const MAX_LEEWAY: u64 = 5;
