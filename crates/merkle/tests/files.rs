//! Proofs in files: C2SP tlog-proof and COSE receipts, written, read back, changed byte by byte, and those that others wrote.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_merkle::{
    Checkpoint, Hash, ProofError, Receipt, ReceiptError, SeedSigner, Signer as _, TlogProof, TlogProofError,
    VerifierKey, leaf_hash, node_hash, prove_inclusion, root_of,
};
use proptest::prelude::*;

const ORIGIN: &str = "example.org/vector";

/// What tests/evidence/receipt_vector.py prints, which knows nothing of this crate.
const FOREIGN_RECEIPT: &str = "\
    d2845823a4012704449d6d65040fa101726578616d706c652e6f72672f766563746f7219018b01a119018ca12081586a8307048358209f\
    f537b618a257ef82908c45915acbaeb6d9dea035d6d93964fc88c19e98c8b35820be15781b628a28414c1c8a11b86db8422fa1041215fe\
    0d7c4496d23cda1e414258209799f307517ef517c2205df9b67762bf34756b20099fb7dfcce76bcebd273b2ef65840b2004ef05c38c577\
    359823e9be0620e602b162457595ab320d81356f82c54f171b4c354216084d57b44e02e9a63f275ea6715cf51f629043a4f0119a47b722\
    03";

fn signer() -> SeedSigner {
    let seed: Vec<u8> = (0..32).collect();
    SeedSigner::new(ORIGIN, &seed.try_into().unwrap()).unwrap()
}

fn entries(count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| format!("entry {n}").into_bytes()).collect()
}

fn node(hashes: &[Hash], level: u32, index: u64) -> Hash {
    let (first, count) = (usize::try_from(index << level).unwrap(), 1 << level);
    match &hashes[first..first + count] {
        [one] => *one,
        _ => node_hash(&node(hashes, level - 1, index * 2), &node(hashes, level - 1, index * 2 + 1)),
    }
}

/// The root of a log of so many entries, and the path of one.
fn proved(count: usize, index: usize) -> (Hash, Vec<Hash>) {
    let hashes: Vec<Hash> = entries(count).iter().map(|e| leaf_hash(e)).collect();
    let of = |level, index| Ok::<_, ()>(node(&hashes, level, index));
    (root_of(count as u64, of).unwrap(), prove_inclusion(index as u64, count as u64, of).unwrap())
}

fn receipt(count: usize, index: usize) -> Vec<u8> {
    let (root, path) = proved(count, index);
    let unsigned = Receipt::unsigned(signer().verifier(), count as u64, index as u64, path);
    let signature = signer().sign(&unsigned.to_be_signed(&root)).unwrap();
    unsigned.signed(signature).encode()
}

fn file(count: usize, index: usize, extra: Option<Vec<u8>>) -> String {
    let (root, hashes) = proved(count, index);
    let checkpoint = Checkpoint::new(ORIGIN, count as u64, root).sign(&signer()).unwrap().to_string();
    TlogProof { extra, index: index as u64, hashes, checkpoint }.to_string()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn a_receipt_that_another_library_made_is_ours_byte_for_byte() {
    let foreign = unhex(FOREIGN_RECEIPT);
    assert_eq!(receipt(7, 4), foreign);
    let read = Receipt::decode(&foreign).unwrap();
    assert_eq!((read.size, read.index, read.issuer.as_deref()), (7, 4, Some(ORIGIN)));
    assert_eq!(read.encode(), foreign);
    read.verify(b"entry 4", signer().verifier()).unwrap();
    assert_eq!(read.verify(b"entry 5", signer().verifier()), Err(ReceiptError::Signature));
    let stranger = SeedSigner::new(ORIGIN, &[9; 32]).unwrap();
    assert_eq!(read.verify(b"entry 4", stranger.verifier()), Err(ReceiptError::Key));
}

#[test]
fn receipts_of_others_may_say_more_and_may_carry_the_root() {
    let key = signer();
    let (root, path) = proved(7, 4);
    // {1: -19, 395: 1, 3: "x", "y": [1]}, no key id; payload attached; one more unprotected header before the proofs.
    let protected = unhex("a401321901 8b01036178617981 01".replace(' ', "").as_str());
    let mut signed = unhex("846a5369676e617475726531");
    signed.extend([0x40 | u8::try_from(protected.len()).unwrap()].iter().chain(&protected));
    signed.extend([0x40, 0x58, 0x20].iter().chain(&root));
    let signature = key.sign(&signed).unwrap();
    let mut proof = vec![0x83, 7, 4, 0x83];
    path.iter().for_each(|hash| proof.extend([0x58, 0x20].iter().chain(hash)));
    let mut whole = vec![0x84, 0x40 | u8::try_from(protected.len()).unwrap()];
    whole.extend(&protected);
    whole.extend(unhex("a2183061 7a19018ca12081".replace(' ', "").as_str()));
    whole.extend([0x58, u8::try_from(proof.len()).unwrap()].iter().chain(&proof));
    whole.extend([0x58, 0x20].iter().chain(&root));
    whole.extend([0x58, 0x40].iter().chain(&signature));
    let read = Receipt::decode(&whole).unwrap();
    assert_eq!((read.key_id.as_ref(), read.issuer.as_ref()), (None, None));
    read.verify(b"entry 4", key.verifier()).unwrap();
    assert_eq!(read.verify(b"entry 3", key.verifier()), Err(ReceiptError::Proof(ProofError::Root)));
    // An algorithm, a tree and a duty that are not understood.
    let with = |from: &[u8], to: &[u8]| {
        let at = whole.windows(from.len()).position(|w| w == from).unwrap();
        let mut other = whole.clone();
        other[at..at + from.len()].copy_from_slice(to);
        Receipt::decode(&other).unwrap_err()
    };
    for (from, to) in [(&[1, 0x32][..], &[1, 0x26][..]), (&[0x8b, 1], &[0x8b, 2]), (&[1, 3, 0x61], &[1, 2, 0x61])] {
        assert!(matches!(with(from, to), ReceiptError::Form(_)), "{from:x?}");
    }
}

#[test]
fn no_changed_byte_of_a_receipt_is_believed() {
    let good = receipt(7, 4);
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            let believed = Receipt::decode(&bad).and_then(|r| r.verify(b"entry 4", signer().verifier()));
            assert!(believed.is_err(), "byte {at} bit {bit}");
        }
    }
    for end in 0..good.len() {
        assert!(Receipt::decode(&good[..end]).is_err(), "cut at {end}");
    }
    assert!(Receipt::decode(&[&good[..], &[0]].concat()).is_err());
}

#[test]
fn no_changed_byte_of_a_proof_file_is_believed() {
    let good = file(7, 4, None).into_bytes();
    let verified = |bytes: &[u8]| TlogProof::parse(bytes).and_then(|p| p.verify(b"entry 4", signer().verifier()));
    assert_eq!(verified(&good).unwrap().size, 7);
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut bad = good.clone();
            bad[at] ^= 1 << bit;
            assert!(verified(&bad).is_err(), "byte {at} bit {bit}");
        }
    }
}

#[test]
fn the_form_of_a_proof_file_is_one() {
    // The forms are those of the specification and of github.com/transparency-dev/formats.
    let with_extra = file(7, 0, Some(b"extra information".to_vec()));
    assert!(
        with_extra.starts_with("c2sp.org/tlog-proof@v1\nextra ZXh0cmEgaW5mb3JtYXRpb24=\nindex 0\n"),
        "{with_extra}"
    );
    let read = TlogProof::parse(with_extra.as_bytes()).unwrap();
    assert_eq!(read.extra.as_deref(), Some(&b"extra information"[..]));
    assert_eq!(read.to_string(), with_extra);
    let alone = file(1, 0, None);
    assert!(alone.starts_with("c2sp.org/tlog-proof@v1\nindex 0\n\nexample.org/vector\n1\n"), "{alone}");
    assert!(TlogProof::parse(alone.as_bytes()).unwrap().verify(b"entry 0", signer().verifier()).is_ok());
    for (from, to) in [
        ("c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2"),
        ("index 0", "index 00"),
        ("index 0", "index +0"),
        ("index 0", "index"),
        ("index 0\n", ""),
        ("index 0\n", "index 0\n\n"),
        ("extra ZX", "extra !!"),
        ("\nindex", "\nextra AA==\nindex"),
        ("index 0\n", "index 0\nAA==\n"),
    ] {
        let bad = with_extra.replacen(from, to, 1);
        assert_ne!(bad, with_extra);
        let refused = TlogProof::parse(bad.as_bytes()).and_then(|p| p.verify(b"entry 0", signer().verifier()));
        assert!(matches!(refused, Err(TlogProofError::Form(_) | TlogProofError::Checkpoint(_))), "{from:?} to {to:?}");
    }
    let many = with_extra.replacen("index 0\n", &format!("index 0\n{}", "A".repeat(43) + "=\n").repeat(70), 1);
    assert!(TlogProof::parse(many.as_bytes()).is_err());
    assert!(TlogProof::parse(&vec![b'a'; 300 << 10]).is_err());
}

proptest! {
    #[test]
    fn every_place_of_every_tree_is_proved_in_both_forms(count in 1usize..70, at in any::<prop::sample::Index>()) {
        let index = at.index(count);
        let entry = format!("entry {index}").into_bytes();
        let key: &VerifierKey = &signer().verifier().clone();
        let (root, path) = proved(count, index);
        let file = TlogProof::parse(file(count, index, None).as_bytes()).unwrap();
        prop_assert_eq!(file.verify(&entry, key).unwrap().root, root);
        let read = Receipt::decode(&receipt(count, index)).unwrap();
        prop_assert_eq!(read.verify(&entry, key), Ok(root));
        prop_assert_eq!(&read.path, &path);
        prop_assert!(read.verify(b"something else", key) != Ok(root));
    }

    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..400) {
        let _any = (Receipt::decode(&bytes), TlogProof::parse(&bytes));
        let mut near = receipt(7, 4);
        let at = at % near.len();
        near.splice(at..at, bytes.iter().copied().take(8));
        let _any = Receipt::decode(&near);
    }
}
