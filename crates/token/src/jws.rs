//! A compact JWS (RFC 7515 section 7.1) taken apart; nothing in it is believed yet.

use alloc::vec::Vec;

use base64ct::{Base64UrlUnpadded, Encoding as _};

/// Three parts of canonical, unpadded base64url, the last of 64 bytes.
pub(crate) struct Compact<'a> {
    /// What was signed.
    pub(crate) input: &'a str,
    pub(crate) header: Vec<u8>,
    payload: &'a str,
    pub(crate) signature: [u8; 64],
}

impl<'a> Compact<'a> {
    /// `None` for what is not of that form.
    pub(crate) fn split(text: &'a str) -> Option<Self> {
        let (input, signature) = text.rsplit_once('.')?;
        let (header, payload) = input.split_once('.')?;
        if payload.is_empty() || payload.contains('.') {
            return None;
        }
        let mut bytes = [0u8; 64];
        match Base64UrlUnpadded::decode(signature, &mut bytes) {
            Ok(all) if all.len() == 64 => {}
            _ => return None,
        }
        Some(Self { input, header: decode(header)?, payload, signature: bytes })
    }

    /// The payload; `None` when it is not base64url.
    pub(crate) fn payload(&self) -> Option<Vec<u8>> {
        decode(self.payload)
    }
}

fn decode(part: &str) -> Option<Vec<u8>> {
    Base64UrlUnpadded::decode_vec(part).ok()
}
