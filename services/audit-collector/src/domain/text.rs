//! A text as it is indexed, remembered and asked for.

use aws_lc_rs::digest::{SHA256, digest};

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// PostgreSQL takes no NUL, and neither database an index entry without bound; the hash keeps long texts apart.
pub(crate) fn key(text: &str) -> String {
    const LONGEST: usize = 256;
    if text.len() <= LONGEST && !text.contains('\0') {
        return text.to_owned();
    }
    let hash = hex(digest(&SHA256, text.as_bytes()).as_ref());
    let beginning: String = text.chars().take(32).filter(|c| *c != '\0').collect();
    format!("{beginning}\u{2026}{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_are_bounded_hold_no_nul_and_keep_texts_apart(a in "[\\x00a-c\u{e9}]{0,600}", b in "[\\x00a-c\u{e9}]{0,600}") {
            let (x, y) = (key(&a), key(&b));
            prop_assert!(x.len() <= 256 && !x.contains('\0'));
            prop_assert_eq!(x == y, a == b);
        }
    }
}
