//! What looks like ours in a text that somebody found: secrets and tokens by their form, certificates and keys by their armour.

use std::collections::HashSet;

/// What was found, and on which line, counted from 1.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) line: usize,
    pub(crate) what: What,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum What {
    /// A secret of ours, or a token that is signed like ours.
    Text(String),
    /// A PEM block: its label, and its text with its armour.
    Pem(String, String),
    /// A JWK; private ones too.
    Jwk(String),
}

/// Hides what was found.
impl std::fmt::Debug for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Candidate(line {}, hidden)", self.line)
    }
}

/// What every secret of ours begins with.
const PREFIXES: [&str; 2] = ["lgt_sec_", "lgt_enr_"];
/// Hexadecimal digits after the prefix: 64 of the secret, 8 of the checksum.
const DIGITS: usize = 72;
/// Letters of an ES256 signature in base64url.
const SIGNATURE: usize = 86;
const BEGIN: &str = "-----BEGIN ";
/// The longest token or PEM block that is looked at, in bytes.
const LONGEST: usize = 16 << 10;

/// Everything in the text that looks like ours, each once, in the order of its first place.
pub(crate) fn candidates(text: &str) -> Vec<Candidate> {
    if let Some(jwk) = jwk(text) {
        return vec![Candidate { line: 1, what: What::Jwk(jwk) }];
    }
    let mut found: Vec<(usize, What)> = Vec::new();
    for prefix in PREFIXES {
        for (at, _) in text.match_indices(prefix) {
            let rest = &text[at + prefix.len()..];
            let digits = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
            let is_ours = digits == DIGITS && rest.bytes().take(DIGITS).all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            if is_ours {
                found.push((at, What::Text(text[at..at + prefix.len() + DIGITS].to_owned())));
            }
        }
    }
    // A JSON header begins with `{"`.
    for (at, _) in text.match_indices("eyJ") {
        let stands_alone = !text[..at].bytes().next_back().is_some_and(is_base64url);
        found.extend(token(&text[at..]).filter(|_| stands_alone).map(|token| (at, What::Text(token.to_owned()))));
    }
    for (at, _) in text.match_indices(BEGIN) {
        found.extend(pem(&text[at..]).map(|what| (at, what)));
    }
    found.sort_by_key(|(at, _)| *at);
    let mut seen = HashSet::new();
    let once = found.into_iter().filter(|(_, what)| seen.insert(what.clone()));
    once.map(|(at, what)| Candidate { line: 1 + text[..at].matches('\n').count(), what }).collect()
}

fn is_base64url(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

/// Three parts with dots between them, the last as long as our signatures are.
fn token(text: &str) -> Option<&str> {
    let end = text.bytes().take(LONGEST).take_while(|b| is_base64url(*b) || *b == b'.').count();
    // A full stop after it belongs to the sentence.
    let text = text[..end].trim_end_matches('.');
    let mut parts = text.split('.');
    let (_, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    (payload.starts_with("eyJ") && signature.len() == SIGNATURE && parts.next().is_none()).then_some(text)
}

fn pem(text: &str) -> Option<What> {
    let label = text[BEGIN.len()..].split_once("-----")?.0;
    let end = format!("-----END {label}-----");
    let close = text.find(&end)? + end.len();
    let is_one = label.bytes().all(|b| b.is_ascii_uppercase() || b == b' ') && close <= LONGEST;
    // In a string of JSON or of a shell the ends of lines are written out.
    is_one.then(|| What::Pem(label.to_owned(), text[..close].replace("\\n", "\n").replace("\\r", "")))
}

/// The text as a whole, where it is a JWK.
fn jwk(text: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(text.trim()).ok()?;
    let is_one = value.get("kty")?.as_str() == Some("EC") && value.get("x").is_some() && value.get("y").is_some();
    is_one.then(|| text.trim().to_owned())
}

/// The public half of a JWK, whatever else is in it.
pub(crate) fn public_half(jwk: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(jwk).ok()?;
    let text = |name: &str| value.get(name)?.as_str();
    let (crv, x, y) = (text("crv")?, text("x")?, text("y")?);
    Some(serde_json::json!({"kty": "EC", "crv": crv, "x": x, "y": y}).to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    fn told(text: &str) -> Vec<(usize, String)> {
        let text_of = |what: What| match what {
            What::Text(text) | What::Jwk(text) => text,
            What::Pem(label, text) => format!("{label}:{}", text.len()),
        };
        candidates(text).into_iter().map(|one| (one.line, text_of(one.what))).collect()
    }

    fn secret() -> String {
        format!("lgt_sec_{}", "0a".repeat(36))
    }

    fn jwt() -> String {
        format!("eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.{}", "A".repeat(86))
    }

    #[test]
    fn finds_each_once_with_its_line() {
        let (secret, token) = (secret(), jwt());
        let pem = "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----";
        let text = format!("a\nSECRET=\"{secret}\"\nBearer {token}.\n{secret}\n{pem}\nend");
        assert_eq!(told(&text), [(2, secret), (3, token), (5, format!("PRIVATE KEY:{}", pem.len()))],);
        let escaped = pem.replace('\n', "\\n");
        assert_eq!(told(&escaped), [(1, format!("PRIVATE KEY:{}", pem.len()))]);
        assert_eq!(format!("{:?}", candidates(&text)[0]), "Candidate(line 2, hidden)");
    }

    #[test]
    fn passes_over_what_is_none_of_ours() {
        let (secret, token) = (secret(), jwt());
        for other in [
            &secret[..79],
            &format!("{secret}0"),
            &secret.to_uppercase(),
            &secret.replace("sec", "foo"),
            &token[..token.len() - 1],
            &format!("{token}A"),
            &format!("{token}.eyJ4"),
            &format!("x{token}"),
            "-----BEGIN CERTIFICATE-----",
            "-----BEGIN X-----\n-----END Y-----",
            "eyJ eyJ. eyJ.. lgt_sec_ lgt_enr_",
            "{\"kty\":\"RSA\"}",
        ] {
            assert_eq!(told(other), [], "{other}");
        }
    }

    #[test]
    fn of_a_private_jwk_only_the_public_half_goes_on() {
        let private = r#"{"kty":"EC","crv":"P-256","x":"AA","y":"BB","d":"CC","use":"sig"}"#;
        assert_eq!(told(private), [(1, private.to_owned())]);
        let public: serde_json::Value = serde_json::from_str(&public_half(private).unwrap()).unwrap();
        assert_eq!(public, serde_json::json!({"kty": "EC", "crv": "P-256", "x": "AA", "y": "BB"}));
        assert_eq!(public_half("{}"), None);
    }

    proptest! {
        #[test]
        fn never_panics_and_finds_a_secret_wherever_it_stands(before in "[ -~\n\u{e4}]{0,80}", after in "[^0-9A-Za-z]{0,40}") {
            let text = format!("{before} {}{after}", secret());
            prop_assert!(candidates(&text).iter().any(|one| one.what == What::Text(secret())));
            candidates(&before);
        }
    }
}
