//! Making a token: what is to be signed, and then the signature, as two steps, since the first is recorded before the second.

use alloc::format;
use alloc::string::String;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use sha2::{Digest as _, Sha256};

use crate::{Claims, EcSigner, KeyId, MAX_TOKEN, TokenError};

/// A token without its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsigned {
    kid: KeyId,
    input: String,
}

impl Unsigned {
    /// What the key named `kid` is to sign for `claims`.
    ///
    /// # Errors
    /// A claim out of its range, or a token that would be too long.
    pub fn new(claims: &Claims, kid: KeyId) -> Result<Self, TokenError> {
        claims.check()?;
        let header = format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{kid}"}}"#);
        let input = format!(
            "{}.{}",
            Base64UrlUnpadded::encode_string(header.as_bytes()),
            Base64UrlUnpadded::encode_string(&claims.to_json()?)
        );
        // A '.' and 64 bytes of signature are still to come.
        if input.len() + 1 + 86 > MAX_TOKEN {
            return Err(TokenError::TooLong);
        }
        Ok(Self { kid, input })
    }

    /// SHA-256 of what is to be signed, for the record.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.input.as_bytes()).into()
    }

    /// What is to be signed, for a key that lives elsewhere.
    #[must_use]
    pub fn input(&self) -> &[u8] {
        self.input.as_bytes()
    }

    /// The name of the key that is to sign.
    #[must_use]
    pub fn kid(&self) -> &KeyId {
        &self.kid
    }

    /// The token, from a signature over [`Unsigned::input`] as r and s of 32 bytes each.
    #[must_use]
    pub fn with_signature(self, signature: &[u8; 64]) -> String {
        let mut token = self.input;
        token.push('.');
        token.push_str(&Base64UrlUnpadded::encode_string(signature));
        token
    }

    /// The token.
    ///
    /// # Errors
    /// [`TokenError::Key`] when `signer` holds another key than the one named, [`TokenError::Signing`] when it fails.
    pub fn sign<S: EcSigner + ?Sized>(self, signer: &S) -> Result<String, TokenError> {
        if signer.public_key().kid() != self.kid {
            return Err(TokenError::Key);
        }
        let signature = signer.sign(self.input()).map_err(|_| TokenError::Signing)?;
        Ok(self.with_signature(&signature))
    }
}

/// Makes a token in one step.
///
/// # Errors
/// As [`Unsigned::new`] and [`Unsigned::sign`].
pub fn mint<S: EcSigner + ?Sized>(claims: &Claims, signer: &S) -> Result<String, TokenError> {
    Unsigned::new(claims, signer.public_key().kid())?.sign(signer)
}
