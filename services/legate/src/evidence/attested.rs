//! Signatures of emitters, verified offline: each over its batch, by a certificate that names the emitter.

use std::collections::BTreeMap;

use legate_batch::Attested;
use legate_clock::Timestamp;
use legate_merkle::{Checkpoint, Hash, leaf_hash, verify_inclusion};
use legate_mtls::Trust;
use legate_wire::audit::{AuditEvent, IndexedEvent, TrustClass};
use prost::Message as _;

/// What was signed, and by whom.
#[derive(Debug, Default)]
pub(crate) struct Signatures {
    /// The CAs that have to vouch for the certificates, where somebody says which.
    trust: Option<Trust>,
    /// The signature of the events before, by the leaf that holds it.
    last: Option<(u64, Attested)>,
    by: BTreeMap<String, u64>,
}

impl Signatures {
    pub(crate) fn by(trust: Option<Trust>) -> Self {
        Self { trust, ..Self::default() }
    }

    /// How many events each emitter signed.
    pub(crate) fn counts(&self) -> &BTreeMap<String, u64> {
        &self.by
    }

    /// Takes in one event of an answer, whose leaf says this and has this hash. Whatever it is shown to be signed by is verified: that the log
    /// holds the signature, that the emitter's key made it, and that the event is in what was signed.
    pub(crate) fn take(&mut self, tree: &Checkpoint, one: &IndexedEvent, said: &AuditEvent) -> Result<(), String> {
        let is_attested = one.trust() == TrustClass::Attested;
        let Some(shown) = &one.attestation else {
            return if is_attested { Err("its emitter's signature is missing".to_owned()) } else { Ok(()) };
        };
        if !is_attested {
            return Err("it has its emitter's signature, and is shown as one that has none".to_owned());
        }
        let by = shown.leaf_index;
        if !shown.leaf.is_empty() {
            let proof = hashes(&shown.proof)?;
            verify_inclusion(by, tree.size, &leaf_hash(&shown.leaf), &proof, &tree.root)
                .map_err(|e| format!("its emitter's signature, leaf {by}, is not proved to be in the log: {e}"))?;
            self.last = Some((by, self.read(&shown.leaf).map_err(|e| format!("the signature in leaf {by}: {e}"))?));
        }
        let (_, attested) = self
            .last
            .as_ref()
            .filter(|(at, _)| *at == by)
            .ok_or_else(|| format!("its emitter's signature, leaf {by}, is not here"))?;
        let path = hashes(&shown.path)?;
        let held = attested.holds(said, &leaf_hash(&one.leaf), shown.position, &path);
        held.map_err(|e| format!("the signature in leaf {by} is not of it: {e}"))?;
        *self.by.entry(attested.statement.emitter.clone()).or_default() += 1;
        Ok(())
    }

    fn read(&self, leaf: &[u8]) -> Result<Attested, String> {
        let event = AuditEvent::decode(leaf).map_err(|e| e.to_string())?;
        verified(&event, self.trust.as_ref())
    }
}

/// Gives each event of an answer its emitter's signature in full, which an answer gives once for all that it is over: so that each can be
/// taken out by itself.
pub(crate) fn each_in_full(events: &mut [IndexedEvent]) {
    let mut last: Option<legate_wire::audit::Attestation> = None;
    for shown in events.iter_mut().filter_map(|one| one.attestation.as_mut()) {
        if !shown.leaf.is_empty() {
            last = Some(shown.clone());
        } else if let Some(full) = last.as_ref().filter(|full| full.leaf_index == shown.leaf_index) {
            shown.leaf.clone_from(&full.leaf);
            shown.proof.clone_from(&full.proof);
        }
    }
}

/// The signature in an event of the log, where it is its emitter's; and the CA's word for that, where somebody says which CA.
pub(crate) fn verified(event: &AuditEvent, trust: Option<&Trust>) -> Result<Attested, String> {
    let attested = Attested::try_from(event).map_err(|e| e.to_string())?;
    attested.verify().map_err(|e| e.to_string())?;
    let Some(trust) = trust else { return Ok(attested) };
    // Certificates end; whether this one held is asked of the moment at which the log took the batch.
    let at = event.time.and_then(|t| Timestamp::try_from(t).ok()).unwrap_or_default();
    let named = trust.vouches_for(attested.chain(), at);
    let named = named.map_err(|e| format!("the CAs that you gave do not vouch for its certificate: {e}"))?;
    if named.as_str() != attested.statement.emitter {
        return Err(format!("its certificate is of {named}"));
    }
    Ok(attested)
}

fn hashes(all: &[Vec<u8>]) -> Result<Vec<Hash>, String> {
    let read: Option<Vec<Hash>> = all.iter().map(|hash| hash.as_slice().try_into().ok()).collect();
    read.ok_or_else(|| "a hash of its signature's proof has not 32 bytes".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use super::*;
    use legate_batch::{KIND, Statement, sign};
    use legate_ids::{SpiffeId, TrustDomain};
    use legate_merkle::prove_among;
    use legate_mtls::{Identity, pki};
    use legate_wire::audit::{AppendEventsRequest, Emitter};

    const ME: &str = "spiffe://example.org/legate/registry";

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    fn ca() -> pki::Ca {
        pki::Ca::generate("services", now(), Duration::from_secs(3_600)).unwrap()
    }

    fn event(seq: u64) -> AuditEvent {
        let emitter = Some(Emitter { spiffe_id: ME.into(), epoch: "e1".into(), seq });
        AuditEvent { emitter, r#type: "agent.created".into(), ..AuditEvent::default() }
    }

    /// A log of a leaf, a signature and the three events that it is of: the tree, and the events as an answer shows them.
    fn shown(ca: &pki::Ca) -> (Checkpoint, Vec<IndexedEvent>) {
        let id = SpiffeId::parse(ME).unwrap();
        let leaf = pki::Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: Duration::from_secs(60) };
        let issued = ca.issue(&leaf, now()).unwrap();
        let me = Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap();
        let events = (1..=3).map(|seq| event(seq).encode_to_vec().into()).collect();
        let mut request = AppendEventsRequest { epoch: "e1".into(), first_seq: 1, events, ..Default::default() };
        sign(&mut request, &me);
        let statement = Statement::of(ME, "e1", 1, &request.events);
        let attested = Attested::of(statement, request.signature.as_ref().unwrap()).unwrap();
        let told = AuditEvent { r#type: KIND.into(), time: Some(now().into()), ..AuditEvent::from(&attested) };
        let mut leaves = vec![event(9).encode_to_vec(), told.encode_to_vec()];
        leaves.extend(request.events.iter().map(|event| event.to_vec()));
        let hashes: Vec<Hash> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let path = |at: usize, of: &[Hash]| {
            prove_among(at as u64, of).unwrap().into_iter().map(|hash| hash.to_vec()).collect::<Vec<_>>()
        };
        let mut tree = legate_merkle::Frontier::default();
        hashes.iter().for_each(|hash| tree.push(*hash));
        let one = |at: usize| IndexedEvent {
            leaf_index: at as u64,
            trust: TrustClass::Attested.into(),
            leaf: leaves[at].clone(),
            attestation: Some(legate_wire::audit::Attestation {
                leaf_index: 1,
                leaf: if at == 2 { leaves[1].clone() } else { Vec::new() },
                proof: if at == 2 { path(1, &hashes) } else { Vec::new() },
                position: u32::try_from(at - 2).unwrap(),
                path: path(at - 2, &hashes[2..]),
            }),
            ..IndexedEvent::default()
        };
        (Checkpoint::new("example.org/log", 5, tree.root()), (2..5).map(one).collect())
    }

    fn taken(tree: &Checkpoint, events: &[IndexedEvent], trust: Option<Trust>) -> Result<u64, String> {
        let mut signatures = Signatures::by(trust);
        for one in events {
            signatures.take(tree, one, &AuditEvent::decode(one.leaf.as_slice()).unwrap())?;
        }
        Ok(signatures.counts().get(ME).copied().unwrap_or(0))
    }

    #[test]
    fn what_is_said_to_be_signed_is_verified_and_counted_and_nothing_else_passes() {
        let ca = ca();
        let (tree, events) = shown(&ca);
        assert_eq!(taken(&tree, &events, None), Ok(3));
        let domain = || TrustDomain::parse("example.org").unwrap();
        let trust = Trust::from_pem(domain(), ca.cert_pem(), None).unwrap();
        assert_eq!(taken(&tree, &events, Some(trust)), Ok(3));
        let stranger = Trust::from_pem(domain(), self::ca().cert_pem(), None).unwrap();
        assert!(taken(&tree, &events, Some(stranger)).unwrap_err().contains("do not vouch"));

        assert!(taken(&tree, &events[1..], None).unwrap_err().contains("is not here"));
        let mut each = events.clone();
        each_in_full(&mut each);
        assert_eq!(taken(&tree, &each[1..2], None), Ok(1));
        assert_eq!(taken(&tree, &each[2..], None), Ok(1));
        let changes: [fn(&mut IndexedEvent); 7] = [
            |one| one.attestation = None,
            |one| one.set_trust(TrustClass::Authenticated),
            |one| one.attestation.as_mut().unwrap().leaf[60] ^= 1,
            |one| one.attestation.as_mut().unwrap().proof[0][0] ^= 1,
            |one| one.attestation.as_mut().unwrap().position = 1,
            |one| one.attestation.as_mut().unwrap().path[0][0] ^= 1,
            |one| one.leaf = event(2).encode_to_vec(),
        ];
        for (at, change) in changes.into_iter().enumerate() {
            let mut other = events.clone();
            change(&mut other[0]);
            assert!(taken(&tree, &other, None).is_err(), "{at}");
        }
        let mut unsigned = events;
        for one in &mut unsigned {
            one.attestation = None;
            one.set_trust(TrustClass::Authenticated);
        }
        assert_eq!(taken(&tree, &unsigned, None), Ok(0));
    }
}
