//! Why a key or token is refused.

/// A text or some bytes are not a P-256 public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// Not a JSON object with exactly the members of a public EC key, or larger than 4 KiB.
    #[error("the key is not a JWK with kty, crv, x, y and perhaps kid, use, alg and nothing else")]
    Form,
    /// Another kind of key, curve, use or algorithm.
    #[error("the key is not for ES256: kty EC, crv P-256, use sig, alg ES256")]
    Kind,
    /// The coordinates name no point of the curve, or the neutral one.
    #[error("the key is no point of P-256")]
    Point,
    /// `kid` is not the thumbprint.
    #[error("the key's kid is not its RFC 7638 thumbprint")]
    Kid,
}

/// Claims that no token may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the claim {claim} {why}")]
pub struct BadClaims {
    /// Which claim.
    pub claim: &'static str,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Why a token is not believed, or not made. No variant holds any part of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN`](crate::MAX_TOKEN).
    #[error("the token is longer than 8,192 bytes")]
    TooLong,
    /// Not three parts of canonical, unpadded base64url.
    #[error("the token is not three parts of base64url joined by '.'")]
    Form,
    /// The header is anything but `alg` ES256, `typ` at+jwt and a `kid` that is a thumbprint.
    #[error("the token's header is not exactly alg ES256, typ at+jwt and a kid")]
    Header,
    /// The payload is not a JSON object with exactly the known claims, each once and of its type.
    #[error("the token's claims are not exactly those of an access token, each once and of its type")]
    Claims,
    /// A claim has a value that it must not have.
    #[error(transparent)]
    Claim(#[from] BadClaims),
    /// The signature is not by the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// The key is not the one that the header names.
    #[error("the token was signed with another key")]
    Key,
    /// Another issuer.
    #[error("the token is another issuer's")]
    Issuer,
    /// Another audience.
    #[error("the token is meant for another audience")]
    Audience,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its `iat` lies in the future.
    #[error("the token was issued in the future")]
    NotYet,
    /// It would live longer than [`MAX_LIFETIME`](crate::MAX_LIFETIME), or ends before it begins.
    #[error("the token's exp is not within 600 s after its iat")]
    Lifetime,
    /// The signer failed.
    #[error("the token could not be signed")]
    Signing,
}

/// Why what a client proves itself with (a client assertion, a DPoP proof) is not believed. No variant holds any part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    /// Longer than [`MAX_TOKEN`](crate::MAX_TOKEN).
    #[error("it is longer than 8,192 bytes")]
    TooLong,
    /// Not three parts of canonical, unpadded base64url.
    #[error("it is not three parts of base64url joined by '.'")]
    Form,
    /// The header is not what it has to be.
    #[error(
        "its header is not alg ES256 with the right typ, and for an assertion a kid that is a thumbprint or none, for a \
         proof a public jwk on P-256, and nothing else"
    )]
    Header,
    /// The claims are missing, there twice or of another type.
    #[error("a claim that it needs is missing, there twice or of another type")]
    Claims,
    /// The signature is not by the key.
    #[error("its signature is wrong, or by a key that is not registered")]
    Signature,
    /// `iss` and `sub` differ.
    #[error("its iss and sub are not both the client")]
    Client,
    /// Another audience, or several.
    #[error("its aud is not the issuer, and nothing but the issuer")]
    Audience,
    /// Its time is over.
    #[error("it has expired")]
    Expired,
    /// It lies in the future.
    #[error("it was made in the future")]
    NotYet,
    /// It would live too long.
    #[error("it lives longer than 300 s")]
    Lifetime,
    /// It is for another method.
    #[error("its htm is not the method of the request")]
    Method,
    /// It is for another URL.
    #[error("its htu is not the URL of the request")]
    Url,
    /// It is for another access token.
    #[error("its ath is not the hash of the access token")]
    AccessToken,
}
