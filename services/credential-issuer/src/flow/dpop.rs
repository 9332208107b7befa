//! A DPoP proof (RFC 9449) that comes with a request for a token: by which key, for this request, fresh, never seen before.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_clock::Timestamp;
use legate_rpc::Fault;
use legate_token::{BadProof, DpopProof, ExpectProof};

use super::Desk;
use crate::domain::token::hex;
use crate::error::{DPOP_NONCE_NEEDED, DPOP_PROOF_REFUSED};
use crate::keys::Verifier;

/// A nonce is given out for so many seconds, and taken for as many more.
const SLOT: u64 = 120;

/// The thumbprint of the key that is proved to be held.
#[tracing::instrument(skip_all)]
pub(crate) async fn prove(desk: &Desk, proof: &str, method: &str, url: &str) -> Result<[u8; 32], Fault> {
    let proved = attempt(desk, proof, method, url).await;
    if let Err(fault) = &proved {
        desk.metrics.refused("dpop", fault.reason());
    }
    proved
}

async fn attempt(desk: &Desk, proof: &str, method: &str, url: &str) -> Result<[u8; 32], Fault> {
    let bad = |e: BadProof| Fault::refused(&DPOP_PROOF_REFUSED, format!("the DPoP proof is refused: {e}"));
    let proof = DpopProof::read(proof, Verifier::new).map_err(bad)?;
    let now = seconds(desk);
    proof.verify(&ExpectProof { method, url, access_token: None }, now).map_err(bad)?;
    let slot = now / SLOT;
    let is_given = |nonce: &str| [slot, slot.saturating_sub(1)].iter().any(|slot| at(desk, *slot) == nonce);
    if !proof.nonce().is_some_and(is_given) {
        return Err(Fault::refused(&DPOP_NONCE_NEEDED, "the DPoP proof has no nonce, or an old one"));
    }
    let kid = proof.key().kid();
    let until = Timestamp::from_secs(i64::try_from(proof.usable_until()).unwrap_or(i64::MAX));
    if !desk.show_once(["dpop proof", kid.as_str(), proof.token_id()], until).await? {
        return Err(Fault::refused(&DPOP_PROOF_REFUSED, "the DPoP proof was used before; make a new one each time"));
    }
    let mut jkt = [0; 32];
    Base64UrlUnpadded::decode(kid.as_str(), &mut jkt).map_err(|_| Fault::broken("a thumbprint that is none"))?;
    Ok(jkt)
}

/// The nonce to use now. Replicas that share the pepper agree on it.
pub(crate) fn nonce(desk: &Desk) -> String {
    at(desk, seconds(desk) / SLOT)
}

fn at(desk: &Desk, slot: u64) -> String {
    hex(&desk.pepper.nonce(slot))
}

fn seconds(desk: &Desk) -> u64 {
    u64::try_from(desk.clock.now().secs()).unwrap_or(0)
}
