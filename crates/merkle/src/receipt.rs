//! Receipts of inclusion (RFC 9942, COSE Receipts): the same proof in CBOR, the root signed in the form of COSE (RFC 9052).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::cbor::{self, Major, NULL, Reader};
use crate::{Hash, ProofError, VerifierKey, inclusion_root, leaf_hash};

/// The longest receipt that is read.
pub const MAX_RECEIPT: usize = 64 << 10;

/// COSE_Sign1 (RFC 9052 section 4.2).
const SIGN1: u64 = 18;
/// Header labels: algorithm, critical labels, key id (RFC 9052 section 3.1), CWT claims (RFC 9597), RFC 9942.
const ALG: i64 = 1;
const CRIT: i64 = 2;
const KID: i64 = 4;
const CLAIMS: i64 = 15;
const VDS: i64 = 395;
const VDP: i64 = 396;
/// The claim that names who issued it (RFC 8392).
const ISS: i64 = 1;
/// RFC9162_SHA256 (RFC 9942 section 5), and its proofs of inclusion.
const RFC9162_SHA256: u64 = 1;
const INCLUSION: i64 = -1;
/// EdDSA (RFC 9053 section 2.2), and the same said with its curve (RFC 9864).
const EDDSA: i64 = -8;
const ED25519: i64 = -19;
/// No tree is higher.
const MOST_HASHES: u64 = 63;

/// Why a receipt is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Not one, or one of another kind.
    #[error("not a receipt of inclusion that can be read: {0}")]
    Form(&'static str),
    /// It names another key.
    #[error("it names another key")]
    Key,
    /// Its proof leads nowhere.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The key did not sign the root that the proof leads to: it is another entry's, another key's, or was changed.
    #[error("the key did not sign the root that the proof leads to")]
    Signature,
}

/// A receipt, nothing of it checked yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    protected: Vec<u8>,
    /// The key's id, where it is said.
    pub key_id: Option<Vec<u8>>,
    /// Who issued it, where it is said.
    pub issuer: Option<String>,
    /// The size of the tree.
    pub size: u64,
    /// The entry's index.
    pub index: u64,
    /// The audit path, from the leaf upwards.
    pub path: Vec<Hash>,
    /// The root, where it is attached.
    root: Option<Vec<u8>>,
    signature: [u8; 64],
}

impl Receipt {
    /// A receipt that nobody has signed yet.
    #[must_use]
    pub fn unsigned(key: &VerifierKey, size: u64, index: u64, path: Vec<Hash>) -> Self {
        let mut protected = Vec::new();
        cbor::head(&mut protected, Major::Map, 4);
        cbor::int(&mut protected, ALG);
        cbor::int(&mut protected, EDDSA);
        cbor::int(&mut protected, KID);
        cbor::bytes(&mut protected, &key.id());
        cbor::int(&mut protected, CLAIMS);
        cbor::head(&mut protected, Major::Map, 1);
        cbor::int(&mut protected, ISS);
        cbor::text(&mut protected, key.name());
        cbor::int(&mut protected, VDS);
        cbor::head(&mut protected, Major::Unsigned, RFC9162_SHA256);
        let (key_id, issuer) = (Some(key.id().to_vec()), Some(key.name().to_string()));
        Self { protected, key_id, issuer, size, index, path, root: None, signature: [0; 64] }
    }

    /// What the log's key signs: the Sig_structure (RFC 9052 section 4.4) over the root.
    #[must_use]
    pub fn to_be_signed(&self, root: &Hash) -> Vec<u8> {
        let mut out = Vec::new();
        cbor::head(&mut out, Major::Array, 4);
        cbor::text(&mut out, "Signature1");
        cbor::bytes(&mut out, &self.protected);
        cbor::bytes(&mut out, &[]);
        cbor::bytes(&mut out, root);
        out
    }

    /// With its signature.
    #[must_use]
    pub fn signed(self, signature: [u8; 64]) -> Self {
        Self { signature, ..self }
    }

    /// The bytes of it; the root is left out, so that whoever verifies has to compute it.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut proof = Vec::new();
        cbor::head(&mut proof, Major::Array, 3);
        cbor::head(&mut proof, Major::Unsigned, self.size);
        cbor::head(&mut proof, Major::Unsigned, self.index);
        cbor::head(&mut proof, Major::Array, self.path.len() as u64);
        self.path.iter().for_each(|hash| cbor::bytes(&mut proof, hash));
        let mut out = Vec::new();
        cbor::head(&mut out, Major::Tag, SIGN1);
        cbor::head(&mut out, Major::Array, 4);
        cbor::bytes(&mut out, &self.protected);
        cbor::head(&mut out, Major::Map, 1);
        cbor::int(&mut out, VDP);
        cbor::head(&mut out, Major::Map, 1);
        cbor::int(&mut out, INCLUSION);
        cbor::head(&mut out, Major::Array, 1);
        cbor::bytes(&mut out, &proof);
        cbor::head(&mut out, Major::Simple, NULL);
        cbor::bytes(&mut out, &self.signature);
        out
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// [`ReceiptError::Form`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ReceiptError> {
        let form = ReceiptError::Form;
        if bytes.len() > MAX_RECEIPT {
            return Err(form("it is over 64 KiB"));
        }
        let mut all = Reader(bytes);
        let mut head = all.head().ok_or(form("it is no CBOR"))?;
        if head == (Major::Tag, SIGN1) {
            head = all.head().ok_or(form("it breaks off"))?;
        }
        if head != (Major::Array, 4) {
            return Err(form("it is no COSE_Sign1"));
        }
        let protected = all.bytes().ok_or(form("its protected header is no byte string"))?;
        let said = Said::read(protected).ok_or(form("its protected header is not read"))?;
        if said.is_critical {
            return Err(form("it says that there is more to understand than is understood here"));
        }
        if said.vds != Some(RFC9162_SHA256) {
            return Err(form("its tree is not RFC9162_SHA256"));
        }
        if !matches!(said.alg, Some(EDDSA | ED25519)) {
            return Err(form("its signature is not of Ed25519"));
        }
        let proof = inclusion(&mut all).ok_or(form("it has no proof of inclusion"))??;
        let (size, index, path) = read_proof(proof).ok_or(form("its proof is not size, index and hashes"))?;
        let before = all;
        let root = match all.head().ok_or(form("it breaks off"))? {
            (Major::Simple, NULL) => None,
            _ => {
                all = before;
                Some(all.bytes().ok_or(form("its payload is no byte string"))?.to_vec())
            }
        };
        let signature = all.bytes().and_then(|s| s.try_into().ok()).ok_or(form("its signature has not 64 bytes"))?;
        if !all.is_done() {
            return Err(form("something follows it"));
        }
        let Said { key_id, issuer, .. } = said;
        Ok(Self { protected: protected.to_vec(), key_id, issuer, size, index, path, root, signature })
    }

    /// Checks that `entry` is in the tree that `key` signs; gives the tree's root.
    ///
    /// # Errors
    /// [`ReceiptError`].
    pub fn verify(&self, entry: &[u8], key: &VerifierKey) -> Result<Hash, ReceiptError> {
        let root = inclusion_root(self.index, self.size, &leaf_hash(entry), &self.path)?;
        if self.key_id.as_ref().is_some_and(|id| id.len() == 4 && *id != key.id()) {
            return Err(ReceiptError::Key);
        }
        if self.root.as_ref().is_some_and(|attached| *attached != root) {
            return Err(ReceiptError::Proof(ProofError::Root));
        }
        if !key.verifies(&self.to_be_signed(&root), &self.signature) {
            return Err(ReceiptError::Signature);
        }
        Ok(root)
    }
}

/// What the protected header says.
#[derive(Debug, Default)]
struct Said {
    alg: Option<i64>,
    vds: Option<u64>,
    key_id: Option<Vec<u8>>,
    issuer: Option<String>,
    is_critical: bool,
}

impl Said {
    fn read(protected: &[u8]) -> Option<Self> {
        let mut from = Reader(protected);
        let mut said = Self::default();
        for _ in 0..from.map()? {
            match from.label()? {
                Some(ALG) if said.alg.is_none() => said.alg = Some(from.label()??),
                Some(KID) if said.key_id.is_none() => said.key_id = Some(from.bytes()?.to_vec()),
                Some(VDS) if said.vds.is_none() => said.vds = Some(from.unsigned()?),
                Some(CLAIMS) => {
                    for _ in 0..from.map()? {
                        match from.label()? {
                            Some(ISS) => said.issuer = Some(from.text()?.to_string()),
                            _ => from.pass()?,
                        }
                    }
                }
                // Said twice.
                Some(ALG | KID | VDS) => return None,
                Some(CRIT) => {
                    said.is_critical = true;
                    from.pass()?;
                }
                _ => from.pass()?,
            }
        }
        from.is_done().then_some(said)
    }
}

/// The one proof of inclusion in the unprotected header.
fn inclusion<'a>(all: &mut Reader<'a>) -> Option<Result<&'a [u8], ReceiptError>> {
    let mut found = None;
    for _ in 0..all.map()? {
        if all.label()? != Some(VDP) {
            all.pass()?;
            continue;
        }
        for _ in 0..all.map()? {
            if all.label()? != Some(INCLUSION) {
                all.pass()?;
                continue;
            }
            let count = all.array()?;
            if count != 1 || found.is_some() {
                return Some(Err(ReceiptError::Form("it has not one proof of inclusion but several or none")));
            }
            found = Some(all.bytes()?);
        }
    }
    found.map(Ok)
}

fn read_proof(proof: &[u8]) -> Option<(u64, u64, Vec<Hash>)> {
    let mut from = Reader(proof);
    if from.array()? != 3 {
        return None;
    }
    let (size, index, count) = (from.unsigned()?, from.unsigned()?, from.array()?);
    if count > MOST_HASHES {
        return None;
    }
    let path: Option<Vec<Hash>> = (0..count).map(|_| from.bytes()?.try_into().ok()).collect();
    from.is_done().then_some((size, index, path?))
}
