//! Sets of public keys (RFC 7517 section 5), which must not hold a private one.

use serde_json::Value;

use crate::domain::text::hidden;

/// The longest set, in bytes.
const LONGEST: usize = 64 * 1024;
/// The most keys of a set.
const KEYS: usize = 64;
/// Kinds of keys that have a public part.
const KINDS: [&str; 3] = ["EC", "RSA", "OKP"];
/// RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1: what is secret of a key.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// What is wrong with a text that has to be a JWK set of public keys. Nothing of the text is repeated.
pub(super) fn fault_in(text: &str) -> Option<String> {
    if text.len() > LONGEST {
        return Some(format!("is {} bytes long; give at most {LONGEST}", text.len()));
    }
    if let Some(why) = json_hides(text) {
        return Some(why);
    }
    let set: Value = match serde_json::from_str(text) {
        Ok(set) => set,
        Err(e) => return Some(format!("is no JSON: line {}, column {}", e.line(), e.column())),
    };
    if holds_private(&set) {
        return Some("holds a private or secret key; take it out of use, and give the public one alone".into());
    }
    let Some(keys) = set.get("keys").and_then(Value::as_array) else {
        return Some("is no JWK set: a JSON object with a list `keys`".into());
    };
    if !(1..=KEYS).contains(&keys.len()) {
        return Some(format!("has {} keys; give 1 to {KEYS}", keys.len()));
    }
    let is_public = |key: &Value| key.get("kty").and_then(Value::as_str).is_some_and(|kty| KINDS.contains(&kty));
    let bad = keys.iter().position(|key| !is_public(key))?;
    Some(format!("has a key at place {bad} that is not of the kind (kty) {}", KINDS.join(", ")))
}

/// Where a JSON text holds what no text may hold; a JSON of keys may say more than its keys, and people read it. In a string it can
/// be written as an escape.
pub(super) fn json_hides(text: &str) -> Option<String> {
    hidden(text, |c| matches!(c, '\n' | '\r' | '\t'))
}

/// Whether any object within holds a member that only private keys have.
pub(super) fn holds_private(value: &Value) -> bool {
    match value {
        Value::Object(members) => {
            members.keys().any(|name| PRIVATE.contains(&name.as_str())) || members.values().any(holds_private)
        }
        Value::Array(values) => values.iter().any(holds_private),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r#"{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}"#;

    #[test]
    fn sets_hold_public_keys_only() {
        let set = |key: &str| format!("{{\"keys\":[{KEY},{key}]}}");
        for good in [KEY, r#"{"kty":"RSA","n":"AA","e":"AQAB","kid":"a"}"#, r#"{"kty":"OKP","crv":"Ed25519","x":"AA"}"#]
        {
            assert_eq!(fault_in(&set(good)), None, "{good}");
        }
        for member in PRIVATE {
            let why = fault_in(&set(&KEY.replace('}', &format!(",\"{member}\":\"c2VjcmV0\"}}"))));
            assert!(
                why.as_ref().is_some_and(|w| w.contains("private") && !w.contains("c2VjcmV0")),
                "{member}: {why:?}"
            );
        }
        for bad in [
            "",
            "x",
            "[]",
            "{}",
            "null",
            KEY,
            r#"{"keys":[]}"#,
            r#"{"keys":{}}"#,
            r#"{"keys":[{}]}"#,
            r#"{"keys":["EC"]}"#,
            r#"{"keys":[{"kty":"oct"}]}"#,
            r#"{"keys":[{"kty":"EC","\u0064":"AA"}]}"#,
            &format!("{{\"keys\":[{}]}}", vec![KEY; 65].join(",")),
            &format!("{{\"keys\":[{KEY}],\"x\":\"{}\"}}", "x".repeat(LONGEST)),
            &"[".repeat(10_000),
        ] {
            assert!(fault_in(bad).is_some(), "{bad:.40}");
        }
    }
}
