//! TypeIDs: a prefix that says what is named, `_`, and a UUIDv7 in 26 characters (typeid.dev, specification 0.3).

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

/// Characters after the prefix: `_` and the digits.
const AFTER_PREFIX: usize = 27;

/// The text of an id of `N` characters.
fn encode<const N: usize>(prefix: &str, bits: u128) -> [u8; N] {
    let mut text = [b'_'; N];
    text[..prefix.len()].copy_from_slice(prefix.as_bytes());
    for (i, place) in text.iter_mut().rev().take(AFTER_PREFIX - 1).enumerate() {
        let digit = usize::try_from((bits >> (5 * i)) & 31).unwrap_or(0);
        *place = ALPHABET[digit];
    }
    text
}

/// Whether a byte is one of [`ALPHABET`], without a look through it: a view reads a million ids before it answers.
const fn is_digit(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'h' | b'j' | b'k' | b'm' | b'n' | b'p'..=b't' | b'v'..=b'z')
}

fn is_valid(prefix: &str, text: &str) -> bool {
    let Some(digits) = text.strip_prefix(prefix).and_then(|t| t.strip_prefix('_')) else {
        return false;
    };
    // 26 digits hold 130 bits: the first may use only three of its five.
    digits.len() == 26 && digits.bytes().all(is_digit) && digits.as_bytes()[0] <= b'7'
}

macro_rules! type_id {
    ($(#[$doc:meta])* $type:ident, $prefix:literal) => {
        $(#[$doc])*
        ///
        /// The text is held in place, not behind a pointer: a view of the registry holds a million ids.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type([u8; $prefix.len() + AFTER_PREFIX]);

        impl $type {
            /// What stands before the `_`.
            pub const PREFIX: &'static str = $prefix;

            /// A new id from the time in milliseconds since the Unix epoch and ten random bytes.
            #[must_use]
            pub fn from_parts(unix_millis: u64, random: [u8; 10]) -> Self {
                Self(encode($prefix, uuid_v7(unix_millis, random)))
            }

            /// Reads an id.
            ///
            /// # Errors
            /// [`BadTypeId`] when the prefix or the digits are wrong.
            pub fn parse(text: &str) -> Result<Self, BadTypeId> {
                let held = text.as_bytes().try_into().ok().filter(|_| is_valid($prefix, text));
                held.map(Self).ok_or(BadTypeId { prefix: $prefix })
            }

            /// The bytes of the text.
            #[inline]
            #[must_use]
            pub fn as_bytes(&self) -> &[u8] {
                &self.0
            }

            /// The identifier as text, exactly as it was parsed.
            #[must_use]
            pub fn as_str(&self) -> &str {
                // Letters and digits alone were let in.
                core::str::from_utf8(&self.0).unwrap_or_default()
            }
        }

        impl core::fmt::Debug for $type {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.debug_tuple(stringify!($type)).field(&self.as_str()).finish()
            }
        }

        crate::text_traits!($type, BadTypeId, with as_str);
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
    /// A round of a review campaign.
    ReviewId, "rvw"
);
type_id!(
    /// One question of such a round.
    ReviewItemId, "rvi"
);
type_id!(
    /// Any declared object that is not an agent: a role, a policy, a binding.
    ObjectId, "obj"
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use alloc::format;
    use alloc::string::ToString;
    use proptest::prelude::*;

    #[test]
    fn digits_are_those_of_the_alphabet() {
        for byte in 0..=u8::MAX {
            assert_eq!(is_digit(byte), ALPHABET.contains(&byte), "{byte}");
        }
    }

    #[test]
    fn matches_the_specification_examples() {
        // typeid.dev, spec/valid.yml: nil, max and an ordinary UUID.
        assert_eq!(&encode::<28>("p", 0), b"p_00000000000000000000000000");
        assert_eq!(&encode::<28>("p", u128::MAX), b"p_7zzzzzzzzzzzzzzzzzzzzzzzzz");
        let ordinary = 0x0189_0a5d_ac96_774b_bcce_b302_099a_8057;
        assert_eq!(&encode::<33>("prefix", ordinary), b"prefix_01h455vb4pex5vsknk084sn02q");
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
            let id = AgentId::from_parts(a, r);
            prop_assert_eq!(AgentId::parse(id.as_str()), Ok(id.clone()));
            prop_assert_eq!(format!("{id} {id:?}"), format!("{0} AgentId({0:?})", id.as_str()));
        }
    }
}
