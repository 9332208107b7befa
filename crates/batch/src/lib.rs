//! Batches of audit events that their emitter signed: what is signed, how it rests in the log, and how anybody verifies it there.
//!
//! An emitter signs the root of a Merkle tree over the batch, so that one signature is enough for all of its events and each of
//! them can be shown alone, with its way to that root. The signature holds by the emitter's certificate, whoever passes it on.
//! What the log itself signs as an event is here too: that its key is followed by another ([`rotated`]).

mod rest;
pub mod rotated;

use std::collections::HashMap;
use std::fmt;

use legate_merkle::{Frontier, Hash, ProofError, leaf_hash, verify_inclusion};
use legate_mtls::{BadCertificate, Identity, Signatory};
use legate_wire::audit::{AppendEventsRequest, AuditEvent, BatchSignature};

pub use rest::KIND;

/// For what the key signs.
const PURPOSE: &str = "legate-audit-batch/1";

/// Certificates with one signature.
const MOST_CERTIFICATES: usize = 4;

/// The longest certificate, in bytes: in base64 it is a text of an event.
const LONGEST_CERTIFICATE: usize = 3_000;

/// The longest signature, in bytes: two numbers of 32 bytes in DER have 72.
const LONGEST_SIGNATURE: usize = 80;

/// Which events somebody emits.
#[derive(Clone, PartialEq, Eq)]
pub struct Statement {
    /// The emitter's SPIFFE ID.
    pub emitter: String,
    /// The epoch of the events.
    pub epoch: String,
    /// The number of the first.
    pub first_seq: u64,
    /// How many they are.
    pub count: u32,
    /// The root of the tree over them (RFC 6962 section 2.1).
    pub root: Hash,
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Statement({} {} {}+{})", self.emitter, self.epoch, self.first_seq, self.count)
    }
}

/// Why an emitter's signature does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// It is not of the form that a signature has.
    #[error("{0}")]
    Form(&'static str),
    /// The certificate is none of ours.
    #[error("the certificate of the signature is refused: {0}")]
    Certificate(#[from] BadCertificate),
    /// No CA of ours vouches for the certificate.
    #[error("the certificate of the signature is not believed: {0}")]
    Untrusted(String),
    /// The certificate is somebody else's.
    #[error("the certificate of the signature is of {0}, and the events are not")]
    Another(String),
    /// The key did not sign this.
    #[error("the key of the certificate did not sign these events")]
    Signature,
    /// The event is not one of those that were signed.
    #[error("the event is not at that place of the batch that was signed")]
    Place,
    /// The event does not lead to the root that was signed.
    #[error("the event is not in the batch that was signed: {0}")]
    Path(#[from] ProofError),
}

impl Statement {
    /// What events come to, byte for byte as they become leaves.
    #[must_use]
    pub fn of<T: AsRef<[u8]>>(emitter: &str, epoch: &str, first_seq: u64, events: &[T]) -> Self {
        let mut tree = Frontier::default();
        for event in events {
            tree.push(leaf_hash(event.as_ref()));
        }
        Self {
            emitter: emitter.to_owned(),
            epoch: epoch.to_owned(),
            first_seq,
            count: u32::try_from(events.len()).unwrap_or(u32::MAX),
            root: tree.root(),
        }
    }

    /// What is signed. Each text comes with its length, so that no two statements are the same bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        for text in [&self.emitter, &self.epoch] {
            let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
            out.extend(len.to_be_bytes());
            out.extend(&text.as_bytes()[..usize::from(len)]);
        }
        out.extend(self.first_seq.to_be_bytes());
        out.extend(self.count.to_be_bytes());
        out.extend(self.root);
        out
    }
}

/// Under which name a refusal says how many events stand before the bad one, so that they can be offered without it.
pub const EVENTS_BEFORE: &str = "events_before";

/// The reason with which the log refuses other events under numbers that it knows: what waits has to be told in a new epoch.
pub const EVENTS_DIFFER: &str = "AUDIT_EVENTS_DIFFER";

/// How many events of a refused batch are good, by what the refusal says; `None`: none, or it does not say.
#[must_use]
pub fn events_before(metadata: &HashMap<String, String>) -> Option<usize> {
    metadata.get(EVENTS_BEFORE)?.parse().ok().filter(|good| *good > 0)
}

/// Signs a request with the key of our certificate. Who has none, or one of another kind, does not sign.
pub fn sign(request: &mut AppendEventsRequest, identity: &Identity) {
    let Some(me) = identity.spiffe_id() else { return };
    let statement = Statement::of(me.as_str(), &request.epoch, request.first_seq, &request.events);
    let fits = |chain: &[Vec<u8>]| {
        (1..=MOST_CERTIFICATES).contains(&chain.len()) && chain.iter().all(|der| der.len() <= LONGEST_CERTIFICATE)
    };
    let signed = identity.sign(PURPOSE, &statement.to_bytes()).filter(|signed| fits(&signed.chain));
    request.signature = signed.map(|signed| BatchSignature {
        scheme: signed.scheme.into(),
        signature: signed.signature,
        certificates: signed.chain,
    });
}

/// A statement with a signature under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attested {
    /// What is signed.
    pub statement: Statement,
    scheme: u16,
    signature: Vec<u8>,
    certificates: Vec<Vec<u8>>,
}

impl Attested {
    /// A statement and what came with it. Nothing is verified but its form.
    ///
    /// # Errors
    /// [`NotSigned::Form`].
    pub fn of(statement: Statement, with: &BatchSignature) -> Result<Self, NotSigned> {
        Self {
            statement,
            scheme: u16::try_from(with.scheme).unwrap_or(0),
            signature: with.signature.clone(),
            certificates: with.certificates.clone(),
        }
        .of_form()
    }

    fn of_form(self) -> Result<Self, NotSigned> {
        match () {
            () if self.scheme != legate_mtls::ECDSA_P256_SHA256 => {
                Err(NotSigned::Form("scheme is 0x0403, ECDSA by P-256 with SHA-256"))
            }
            () if !(1..=LONGEST_SIGNATURE).contains(&self.signature.len()) => {
                Err(NotSigned::Form("a signature has 1 to 80 bytes"))
            }
            () if !(1..=MOST_CERTIFICATES).contains(&self.certificates.len()) => {
                Err(NotSigned::Form("a signature comes with 1 to 4 certificates"))
            }
            () if self.certificates.iter().any(|der| !(1..=LONGEST_CERTIFICATE).contains(&der.len())) => {
                Err(NotSigned::Form("a certificate has 1 to 3,000 bytes"))
            }
            () if self.statement.count == 0 => Err(NotSigned::Form("a batch has one event at least")),
            () => Ok(self),
        }
    }

    /// Whose signature it is, where it is the emitter's. That a CA vouches for the certificate is another question.
    ///
    /// # Errors
    /// [`NotSigned`].
    pub fn verify(&self) -> Result<Signatory, NotSigned> {
        let who = Signatory::read(self.certificate())?;
        if who.spiffe_id.as_str() != self.statement.emitter {
            return Err(NotSigned::Another(who.spiffe_id.to_string()));
        }
        let is_its = who.signed(self.scheme, PURPOSE, &self.statement.to_bytes(), &self.signature);
        is_its.then_some(who).ok_or(NotSigned::Signature)
    }

    /// The certificate of the key, in DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        self.certificates.first().map(Vec::as_slice).unwrap_or_default()
    }

    /// The same and those behind it.
    #[must_use]
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.certificates
    }

    /// Verifies that an event of this hash is the one at that place of the batch.
    ///
    /// # Errors
    /// [`NotSigned::Place`], [`NotSigned::Path`].
    pub fn holds(&self, event: &AuditEvent, hash: &Hash, position: u32, path: &[Hash]) -> Result<(), NotSigned> {
        let of = event.emitter.as_ref().ok_or(NotSigned::Place)?;
        let its = (of.spiffe_id.as_str(), of.epoch.as_str(), Some(of.seq));
        let Statement { emitter, epoch, first_seq, count, root } = &self.statement;
        if its != (emitter.as_str(), epoch.as_str(), first_seq.checked_add(position.into())) {
            return Err(NotSigned::Place);
        }
        Ok(verify_inclusion(position.into(), (*count).into(), hash, path, root)?)
    }
}

#[cfg(test)]
mod tests;
