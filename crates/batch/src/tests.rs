//! A signature holds for what was signed, at its place, by its emitter, and for nothing else.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use legate_clock::Timestamp;
use legate_ids::{SpiffeId, TrustDomain};
use legate_merkle::prove_among;
use legate_mtls::{Trust, pki};
use legate_wire::audit::Emitter;
use proptest::prelude::*;
use prost::Message as _;

use super::*;

const ME: &str = "spiffe://example.org/legate/registry";

fn now() -> Timestamp {
    Timestamp::from_secs(1_800_000_000)
}

fn named(ca: &pki::Ca, id: &str) -> Identity {
    let id = SpiffeId::parse(id).unwrap();
    let leaf = pki::Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: Duration::from_secs(60) };
    let issued = ca.issue(&leaf, now()).unwrap();
    Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap()
}

static CA: LazyLock<pki::Ca> =
    LazyLock::new(|| pki::Ca::generate("services", now(), Duration::from_secs(3_600)).unwrap());
static REGISTRY: LazyLock<Identity> = LazyLock::new(|| named(&CA, ME));

fn event(seq: u64) -> AuditEvent {
    let emitter = Some(Emitter { spiffe_id: ME.into(), epoch: "e1".into(), seq });
    AuditEvent { emitter, r#type: "agent.created".into(), ..AuditEvent::default() }
}

fn request(first_seq: u64, count: u64) -> AppendEventsRequest {
    let events = (first_seq..first_seq + count).map(|seq| Bytes::from(event(seq).encode_to_vec())).collect();
    AppendEventsRequest { epoch: "e1".into(), first_seq, events, ..Default::default() }
}

fn statement(emitter: &str, of: &AppendEventsRequest) -> Statement {
    Statement::of(emitter, &of.epoch, of.first_seq, &of.events)
}

fn signed(first_seq: u64, count: u64) -> (AppendEventsRequest, Attested) {
    let mut request = request(first_seq, count);
    sign(&mut request, &REGISTRY);
    let with = request.signature.clone().unwrap();
    let attested = Attested::of(statement(ME, &request), &with).unwrap();
    (request, attested)
}

/// The way from an event to the batch's root.
fn path(request: &AppendEventsRequest, position: u32) -> Vec<Hash> {
    let hashes: Vec<Hash> = request.events.iter().map(|event| leaf_hash(event)).collect();
    prove_among(position.into(), &hashes).unwrap()
}

#[test]
fn a_signature_holds_and_rests_as_an_event() {
    let (request, attested) = signed(5, 3);
    let who = attested.verify().unwrap();
    assert_eq!(who.spiffe_id.as_str(), ME);
    let trust = Trust::from_pem(TrustDomain::parse("example.org").unwrap(), CA.cert_pem(), None).unwrap();
    assert_eq!(trust.vouches_for(attested.chain(), now()).unwrap().as_str(), ME);
    assert!(
        trust.vouches_for(attested.chain(), now().plus(Duration::from_secs(3_600))).is_err(),
        "it has ended by then"
    );

    let event = AuditEvent { r#type: KIND.into(), ..AuditEvent::from(&attested) };
    let again = Attested::try_from(&AuditEvent::decode(event.encode_to_vec().as_slice()).unwrap()).unwrap();
    assert_eq!(again, attested);
    assert!(again.verify().is_ok());
    for (position, bytes) in (0u32..).zip(&request.events) {
        let event = AuditEvent::decode(bytes.clone()).unwrap();
        let path = path(&request, position);
        assert_eq!(again.holds(&event, &leaf_hash(bytes), position, &path), Ok(()));
        assert!(again.holds(&event, &leaf_hash(b"another"), position, &path).is_err());
        assert_eq!(again.holds(&event, &leaf_hash(bytes), position + 1, &path), Err(NotSigned::Place));
    }
    for missing in ["epoch", "first_seq", "count", "root", "scheme", "signature", "certificate"] {
        let mut less = event.clone();
        less.details.remove(missing);
        assert!(matches!(Attested::try_from(&less), Err(NotSigned::Form(_))), "{missing}");
    }
    assert!(Attested::try_from(&AuditEvent { r#type: "log.opened".into(), ..event }).is_err());
}

#[test]
fn nothing_else_than_what_was_signed_is_verified() {
    let (request, attested) = signed(5, 3);
    let with = request.signature.clone().unwrap();
    let of = |change: &dyn Fn(&mut AppendEventsRequest)| {
        let mut other = request.clone();
        change(&mut other);
        Attested::of(statement(ME, &other), &with).unwrap().verify()
    };
    assert!(of(&|_| ()).is_ok());
    assert_eq!(of(&|r| r.first_seq = 6), Err(NotSigned::Signature));
    assert_eq!(of(&|r| r.epoch = "e2".into()), Err(NotSigned::Signature));
    assert_eq!(of(&|r| drop(r.events.pop())), Err(NotSigned::Signature));
    assert_eq!(of(&|r| r.events.swap(0, 1)), Err(NotSigned::Signature));
    let another = "spiffe://example.org/legate/policy-decision";
    let theirs = Attested::of(statement(another, &request), &with).unwrap().verify();
    assert_eq!(theirs, Err(NotSigned::Another(ME.into())));
    let mut with_its_own = request.clone();
    sign(&mut with_its_own, &named(&CA, another));
    let swapped = with_its_own.signature.unwrap();
    assert!(Attested::of(statement(ME, &request), &swapped).unwrap().verify().is_err());
    let forms: [fn(&mut BatchSignature); 6] = [
        |s| s.scheme = 0x0804,
        |s| s.signature = Vec::new(),
        |s| s.signature = vec![1; 81],
        |s| s.certificates.clear(),
        |s| s.certificates = vec![s.certificates[0].clone(); 5],
        |s| s.certificates.push(vec![1; 3_001]),
    ];
    for form in forms {
        let mut other = with.clone();
        form(&mut other);
        assert!(matches!(Attested::of(statement(ME, &request), &other), Err(NotSigned::Form(_))), "{other:?}");
    }
    assert!(attested.verify().is_ok());
    let mut unsigned = request;
    unsigned.signature = None;
    sign(&mut unsigned, &Identity::anonymous());
    assert_eq!(unsigned.signature, None);
}

proptest! {
    /// No two statements are signed as the same bytes.
    #[test]
    fn a_statement_is_one_text(
        one in ("[a-c/]{0,4}", "[a-c0]{0,4}", 0u64..3, 0u32..3, any::<bool>()),
        two in ("[a-c/]{0,4}", "[a-c0]{0,4}", 0u64..3, 0u32..3, any::<bool>()),
    ) {
        let of = |(emitter, epoch, first_seq, count, root): (String, String, u64, u32, bool)| Statement {
            emitter, epoch, first_seq, count, root: [u8::from(root); 32],
        };
        let (one, two) = (of(one), of(two));
        prop_assert_eq!(one == two, one.to_bytes() == two.to_bytes());
    }

    /// Every event of a batch of any size leads to the root.
    #[test]
    fn each_event_leads_to_the_root(count in 1u64..40, at in any::<prop::sample::Index>()) {
        let (request, attested) = signed(1, count);
        let at = at.index(request.events.len());
        let event = AuditEvent::decode(request.events[at].clone()).unwrap();
        let position = u32::try_from(at).unwrap();
        let path = path(&request, position);
        prop_assert_eq!(attested.holds(&event, &leaf_hash(&request.events[at]), position, &path), Ok(()));
    }
}
