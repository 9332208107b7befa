//! Page tokens: where a list goes on, authenticated, and good for the same question of the same caller only.

use aws_lc_rs::hmac;
use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_ids::CredentialId;

/// What was asked, and by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) caller: &'a str,
    pub(crate) agent_id: &'a str,
    pub(crate) namespace: &'a str,
}

fn message(question: Question<'_>, last: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in ["credentials", question.caller, question.agent_id, question.namespace, last] {
        // Length first, so that no two questions are the same bytes.
        bytes.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(part.as_bytes());
    }
    bytes
}

/// A token for what comes after `last`.
pub(crate) fn after(key: &hmac::Key, question: Question<'_>, last: &CredentialId) -> String {
    let tag = hmac::sign(key, &message(question, last.as_str()));
    format!("{}.{}", last, Base64UrlUnpadded::encode_string(tag.as_ref()))
}

/// Reads a token; `None` when it is edited, or another question's or caller's.
pub(crate) fn read(key: &hmac::Key, question: Question<'_>, token: &str) -> Option<CredentialId> {
    let (last, tag) = token.split_once('.')?;
    let last = CredentialId::parse(last).ok()?;
    let mut bytes = [0u8; 32];
    let tag = Base64UrlUnpadded::decode(tag, &mut bytes).ok()?;
    hmac::verify(key, &message(question, last.as_str()), tag).ok()?;
    Some(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_one_question_of_one_caller() {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]);
        let other = hmac::Key::new(hmac::HMAC_SHA256, &[2; 32]);
        let ask = Question { caller: "a", agent_id: "b", namespace: "c" };
        let last = CredentialId::from_parts(1, [1; 10]);
        let token = after(&key, ask, &last);
        assert_eq!(read(&key, ask, &token), Some(last));
        assert_eq!(read(&other, ask, &token), None);
        for foreign in [
            Question { caller: "x", ..ask },
            Question { agent_id: "", ..ask },
            Question { agent_id: "bc", namespace: "", ..ask },
        ] {
            assert_eq!(read(&key, foreign, &token), None);
        }
        for edited in ["", ".", &token[1..], &token[..token.len() - 1], &token.replacen("cred_0", "cred_1", 1)] {
            assert_eq!(read(&key, ask, edited), None);
        }
    }
}
