//! Page tokens: where a list goes on, authenticated, and good for the same question of the same caller only.

use aws_lc_rs::hmac;

use crate::{Fault, PAGE_TOKEN_INVALID};

/// The longest place that a token holds, in bytes.
const LONGEST: usize = 1_024;

/// Makes and reads the page tokens of one service; replicas share its key.
pub struct Pages(hmac::Key);

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pages(hidden)")
    }
}

impl Pages {
    /// Pages under a secret key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// A token for what comes after `last`. `question` holds everything that was asked, the caller among it.
    #[must_use]
    pub fn after(&self, question: &[&str], last: &str) -> String {
        let tag = hmac::sign(&self.0, &message(question, last.as_bytes()));
        format!("{}.{}", hex(last.as_bytes()), hex(tag.as_ref()))
    }

    /// The place that a token names; `None` for the empty token, which stands for the beginning.
    ///
    /// # Errors
    /// `PAGE_TOKEN_INVALID` when it is edited, or another question's or caller's.
    pub fn read(&self, question: &[&str], token: &str) -> Result<Option<String>, Fault> {
        if token.is_empty() {
            return Ok(None);
        }
        let refused = || {
            Fault::refused(&PAGE_TOKEN_INVALID, "the page token is not one of this question's")
                .field("page_token", "is edited, or another question's or caller's")
        };
        let (last, tag) = token.split_once('.').ok_or_else(refused)?;
        if last.len() > 2 * LONGEST {
            return Err(refused());
        }
        let (last, tag) = (unhex(last).ok_or_else(refused)?, unhex(tag).ok_or_else(refused)?);
        hmac::verify(&self.0, &message(question, &last), &tag).map_err(|_| refused())?;
        Ok(Some(String::from_utf8(last).map_err(|_| refused())?))
    }
}

fn message(question: &[&str], last: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in question.iter().map(|part| part.as_bytes()).chain([last]) {
        // Length first, so that no two questions are the same bytes.
        bytes.extend(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend(part);
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(|d| matches!(d, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let pair = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..digits.len()).step_by(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_is_good_for_one_question_of_one_caller() {
        let (pages, others) = (Pages::new(&[1; 32]), Pages::new(&[2; 32]));
        let ask = ["agents", "spiffe://a", "b", "c"];
        let token = pages.after(&ask, "payments/invoice-bot");
        assert_eq!(pages.read(&ask, &token).unwrap().as_deref(), Some("payments/invoice-bot"));
        assert!(pages.read(&ask, "").unwrap().is_none());
        assert!(others.read(&ask, &token).is_err());
        for foreign in [["agents", "spiffe://x", "b", "c"], ["agents", "spiffe://a", "bc", ""]] {
            assert_eq!(pages.read(&foreign, &token).unwrap_err().reason(), "PAGE_TOKEN_INVALID");
        }
        for edited in [".", &token[1..], &token[..token.len() - 1], &token.to_uppercase(), &format!("00{token}")] {
            assert!(pages.read(&ask, edited).is_err(), "{edited}");
        }
    }

    proptest! {
        #[test]
        fn any_place_comes_back_and_any_text_is_survived(last in ".{0,40}", noise in ".{0,80}") {
            let pages = Pages::new(&[1; 32]);
            prop_assert_eq!(pages.read(&["q"], &pages.after(&["q"], &last)).unwrap(), Some(last));
            prop_assert!(noise.is_empty() || pages.read(&["q"], &noise).is_err());
        }
    }
}
