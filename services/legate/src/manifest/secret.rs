//! Texts that look like a secret: a manifest is kept in version control, so it must hold none.

/// What begins a secret, and what it then is.
const BEGINNINGS: [(&str, &str); 11] = [
    ("lgt_", "a token of Legate"),
    ("ghp_", "a GitHub token"),
    ("gho_", "a GitHub token"),
    ("ghs_", "a GitHub token"),
    ("github_pat_", "a GitHub token"),
    ("glpat-", "a GitLab token"),
    ("xoxb-", "a Slack token"),
    ("xoxp-", "a Slack token"),
    ("sk-ant-", "an API key"),
    ("sk-proj-", "an API key"),
    ("AKIA", "an AWS access key id"),
];
/// After the beginning come so many letters or digits at least, or it is a word in a sentence.
const LEAST: usize = 12;

/// RFC 7518 sections 6.2.2, 6.3.2 and 6.4.1: members of a JWK that are secret.
const MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// Whether members of these names are those of a private or secret JWK.
pub(super) fn is_private_key(has: impl Fn(&str) -> bool) -> bool {
    has("kty") && MEMBERS.iter().any(|member| has(member))
}

/// Whether JSON stands in the text that has a member of this name.
fn has_member(text: &str, name: &str) -> bool {
    let quoted = format!("\"{name}\"");
    text.match_indices(&quoted).any(|(at, _)| text[at + quoted.len()..].trim_start().starts_with(':'))
}

/// What kind of secret a text seems to hold.
pub(super) fn found_in(text: &str) -> Option<&'static str> {
    if text.contains("PRIVATE KEY-----") || is_private_key(|name| has_member(text, name)) {
        return Some("a private key");
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    for word in text.split(|c| !is_part(c)) {
        for (beginning, kind) in BEGINNINGS {
            if word.strip_prefix(beginning).is_some_and(|rest| rest.len() >= LEAST) {
                return Some(kind);
            }
        }
        // RFC 7515 section 3.1: three parts, the first the JSON of a header, so it begins with `{"`.
        if word.starts_with("eyJ") && word.len() > 60 && word.split('.').count() == 3 {
            return Some("a signed token");
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_secrets_and_leaves_sentences_alone() {
        let jws = format!("eyJ{}.{}.{}", "a".repeat(30), "b".repeat(30), "c".repeat(30));
        for secret in [
            "lgt_enr_0123456789abcdef",
            "use token ghp_0123456789abcdef0123",
            "-----BEGIN EC PRIVATE KEY-----",
            &jws,
            "AKIAIOSFODNN7EXAMPLE",
            r#"{"keys":[{"kty":"EC","x":"AA","d" : "AA"}]}"#,
            r#"{"kty":"oct","k":"AA"}"#,
        ] {
            assert!(found_in(secret).is_some(), "{secret}");
        }
        assert_eq!(found_in(r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AA","y":"AA","kid":"d"}]}"#), None);
        for fine in ["Reads invoices.", "the lgt_ prefix", "sk-ant-", "https://invoices.example.com", "eyJ.a.b"] {
            assert_eq!(found_in(fine), None, "{fine}");
        }
    }
}
