//! TypeIDs: a prefix that says what is named, `_`, and a UUIDv7 in 26 characters (typeid.dev, specification 0.3).

use alloc::string::String;
use alloc::sync::Arc;

/// Crockford's base32 in lower case, without i, l, o, u.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A text is not an id of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id of this kind is '{prefix}_' and 26 characters of 0-9 a-z without i, l, o, u")]
pub struct BadTypeId {
    /// The prefix that the wanted kind has.
    pub prefix: &'static str,
}

/// The 128 bits of a UUID, version 7 (RFC 9562 section 5.7).
fn uuid_v7(unix_millis: u64, random: [u8; 10]) -> u128 {
    let mut bytes = [0u8; 16];
    bytes[..6].copy_from_slice(&unix_millis.to_be_bytes()[2..]);
    bytes[6..].copy_from_slice(&random);
    bytes[6] = 0x70 | (bytes[6] & 0x0f);
    bytes[8] = 0x80 | (bytes[8] & 0x3f);
    u128::from_be_bytes(bytes)
}

fn encode(prefix: &str, bits: u128) -> String {
    let mut text = String::with_capacity(prefix.len() + 27);
    text.push_str(prefix);
    text.push('_');
    for i in (0..26).rev() {
        let digit = usize::try_from((bits >> (5 * i)) & 31).unwrap_or(0);
        text.push(char::from(ALPHABET[digit]));
    }
    text
}

fn is_valid(prefix: &str, text: &str) -> bool {
    let Some(digits) = text.strip_prefix(prefix).and_then(|t| t.strip_prefix('_')) else {
        return false;
    };
    // 26 digits hold 130 bits: the first may use only three of its five.
    digits.len() == 26 && digits.bytes().all(|b| ALPHABET.contains(&b)) && digits.as_bytes()[0] <= b'7'
}

macro_rules! type_id {
    ($(#[$doc:meta])* $type:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// What stands before the `_`.
            pub const PREFIX: &'static str = $prefix;

            /// A new id from the time in milliseconds since the Unix epoch and ten random bytes.
            #[must_use]
            pub fn from_parts(unix_millis: u64, random: [u8; 10]) -> Self {
                Self(encode($prefix, uuid_v7(unix_millis, random)).into())
            }

            /// Reads an id.
            ///
            /// # Errors
            /// [`BadTypeId`] when the prefix or the digits are wrong.
            pub fn parse(text: &str) -> Result<Self, BadTypeId> {
                is_valid($prefix, text)
                    .then(|| Self(text.into()))
                    .ok_or(BadTypeId { prefix: $prefix })
            }
        }

        impl $type {
            /// The text itself, which clones share.
            #[must_use]
            pub fn shared_text(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        crate::text_traits!($type, BadTypeId);
    };
}

type_id!(
    /// An agent; never reused.
    AgentId, "agt"
);
type_id!(
    /// One running copy of an agent.
    InstanceId, "inst"
);
type_id!(
    /// A credential that was issued: a certificate, a key, a secret.
    CredentialId, "cred"
);
type_id!(
    /// A one-time enrolment token.
    EnrolmentId, "enr"
);
type_id!(
    /// One answer of policy-decision.
    DecisionId, "dec"
);
type_id!(
    /// One audit event.
    EventId, "evt"
);
type_id!(
    /// What an agent asked a person to approve.
    ApprovalId, "apr"
);
type_id!(
    /// Any declared object that is not an agent: a role, a policy, a binding.
    ObjectId, "obj"
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn matches_the_specification_examples() {
        // typeid.dev, spec/valid.yml: nil, max and an ordinary UUID.
        assert_eq!(encode("p", 0), "p_00000000000000000000000000");
        assert_eq!(encode("p", u128::MAX), "p_7zzzzzzzzzzzzzzzzzzzzzzzzz");
        assert_eq!(encode("prefix", 0x0189_0a5d_ac96_774b_bcce_b302_099a_8057), "prefix_01h455vb4pex5vsknk084sn02q");
    }

    #[test]
    fn refuses_what_is_not_one() {
        let good = AgentId::from_parts(1, [7; 10]).to_string();
        assert!(AgentId::parse(&good).is_ok());
        for bad in [
            "",
            "agt_",
            "agt",
            &good[1..],
            &good.to_uppercase(),
            &good.replace("agt", "evt"),
            "agt_8zzzzzzzzzzzzzzzzzzzzzzzzz",
        ] {
            assert!(AgentId::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn later_ids_sort_later(a in 0u64..1 << 48, b in 0u64..1 << 48, r: [u8; 10], s: [u8; 10]) {
            prop_assume!(a < b);
            prop_assert!(AgentId::from_parts(a, r) < AgentId::from_parts(b, s));
            prop_assert!(AgentId::parse(AgentId::from_parts(a, r).as_str()).is_ok());
        }
    }
}
