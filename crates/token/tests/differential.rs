//! p256 and aws-lc-rs agree on every signature, and both on the example of RFC 7515.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, UnparsedPublicKey,
};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_token::{EcSigner, EcVerifier, P256Signer, P256Verifier, PublicKey, SigningFailed};
use proptest::prelude::*;

struct Aws(EcdsaKeyPair, PublicKey);

impl EcSigner for Aws {
    fn public_key(&self) -> &PublicKey {
        &self.1
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SigningFailed> {
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(|_| SigningFailed)?;
        signature.as_ref().try_into().map_err(|_| SigningFailed)
    }
}

impl EcVerifier for Aws {
    fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.1.as_sec1());
        key.verify(message, signature).is_ok()
    }
}

fn both(scalar: &[u8; 32]) -> Option<(P256Signer, P256Verifier, Aws)> {
    let ours = P256Signer::from_scalar(scalar).ok()?;
    let public = *ours.public_key();
    let theirs =
        EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, scalar, public.as_sec1())
            .unwrap();
    assert_eq!(theirs.public_key().as_ref(), public.as_sec1());
    Some((ours, P256Verifier::new(&public), Aws(theirs, public)))
}

/// RFC 7515, appendix A.3.
#[test]
fn both_verify_the_example_of_the_rfc() {
    let jwk = r#"{"kty":"EC","crv":"P-256",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    let input = b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let d = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI";
    let scalar: [u8; 32] = Base64UrlUnpadded::decode_vec(d).unwrap().try_into().unwrap();
    let signature: [u8; 64] = Base64UrlUnpadded::decode_vec(signature).unwrap().try_into().unwrap();
    let (ours, verifier, theirs) = both(&scalar).unwrap();
    assert_eq!(ours.public_key(), &PublicKey::from_jwk(jwk).unwrap());
    assert!(verifier.verify(input, &signature));
    assert!(theirs.verify(input, &signature));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn each_verifies_what_the_other_signs(scalar: [u8; 32], message in prop::collection::vec(any::<u8>(), 0..300)) {
        let Some((ours, verifier, theirs)) = both(&scalar) else { return Ok(()) };
        prop_assert!(theirs.verify(&message, &ours.sign(&message).unwrap()));
        prop_assert!(verifier.verify(&message, &theirs.sign(&message).unwrap()));
    }

    #[test]
    fn both_refuse_the_same(
        scalar: [u8; 32], message in prop::collection::vec(any::<u8>(), 1..100),
        at in any::<prop::sample::Index>(), bit in 0u8..8, of_signature: bool,
    ) {
        let Some((ours, verifier, theirs)) = both(&scalar) else { return Ok(()) };
        let mut signature = ours.sign(&message).unwrap();
        let mut message = message;
        if of_signature {
            signature[at.index(64)] ^= 1 << bit;
        } else {
            let at = at.index(message.len());
            message[at] ^= 1 << bit;
        }
        prop_assert!(!verifier.verify(&message, &signature));
        prop_assert!(!theirs.verify(&message, &signature));
    }

    /// Also of bytes that nobody signed, r and s at the ends of their range among them.
    #[test]
    fn both_say_the_same_of_any_bytes(r in prop::sample::select(vec![0u8, 1, 0x7f, 0xff]), s in prop::sample::select(vec![0u8, 1, 0x7f, 0xff]), message: [u8; 8]) {
        let (_, verifier, theirs) = both(&[3; 32]).unwrap();
        let mut signature = [r; 64];
        signature[32..].fill(s);
        prop_assert_eq!(verifier.verify(&message, &signature), theirs.verify(&message, &signature));
    }
}
