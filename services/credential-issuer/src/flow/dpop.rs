//! A DPoP proof (RFC 9449) that comes with a request for a token: by which key, for this request, fresh, never seen before.
//!
//! It is used where the token is recorded, or by the refusal of what it came with.

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_clock::Timestamp;
use legate_rpc::Fault;
use legate_token::{BadProof, DpopProof, ExpectProof};

use super::Desk;
use super::authenticate::once;
use crate::domain::token::hex;
use crate::error::{DPOP_NONCE_NEEDED, DPOP_PROOF_REFUSED, of_tx, proof_used};
use crate::keys::Verifier;
use crate::store::Once;

/// A nonce is given out for so many seconds, and taken for as many more.
const SLOT: u64 = 120;

/// A key that is proved to be held.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proved {
    /// Its thumbprint.
    pub(crate) jkt: [u8; 32],
    /// The proof, to be used.
    pub(crate) once: Once,
}

/// The key that is proved to be held, by a proof that was not used when it was looked up.
#[tracing::instrument(skip_all)]
pub(crate) async fn prove(desk: &Desk, proof: &str, method: &str, url: &str) -> Result<Proved, Fault> {
    let proved = attempt(desk, proof, method, url).await;
    if let Err(fault) = &proved {
        desk.metrics.refused("dpop", fault.reason());
    }
    proved
}

async fn attempt(desk: &Desk, proof: &str, method: &str, url: &str) -> Result<Proved, Fault> {
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
    let once = once(["dpop proof", kid.as_str(), proof.token_id()], until);
    if desk.batches.was_shown(once.what).await.map_err(of_tx)? {
        return Err(proof_used());
    }
    let mut jkt = [0; 32];
    Base64UrlUnpadded::decode(kid.as_str(), &mut jkt).map_err(|_| Fault::broken("a thumbprint that is none"))?;
    Ok(Proved { jkt, once })
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
