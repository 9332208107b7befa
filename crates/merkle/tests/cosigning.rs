//! Laws of witnesses: who judges as the standard says cosigns one history and no other, and a quorum is what the policy says.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_merkle::{
    AddCheckpoint, Checkpoint, Cosigner, CosignerKey, Hash, KeyError, NotCosigned, Note, NoteError, Policy,
    PolicyError, Refusal, SeedSigner, Signer as _, VerifierKey, empty_root, judge, leaf_hash, prove_consistency,
    root_of,
};
use proptest::prelude::*;

const ORIGIN: &str = "example.org/log";

fn log() -> SeedSigner {
    SeedSigner::new(ORIGIN, &[7; 32]).unwrap()
}

fn witness(n: u8) -> Cosigner {
    Cosigner::new(&format!("witness.example/w{n}"), &[n; 32]).unwrap()
}

/// A tree whose leaves from `fork` on are those of another history.
#[derive(Clone, Copy, Debug)]
struct Tree {
    size: u64,
    fork: u64,
}

impl Tree {
    fn node(self, level: u32, index: u64) -> Result<Hash, ()> {
        if level == 0 {
            let history = u8::from(index >= self.fork);
            return Ok(leaf_hash(&[index.to_be_bytes().as_slice(), &[history]].concat()));
        }
        let (left, right) = (self.node(level - 1, index * 2)?, self.node(level - 1, index * 2 + 1)?);
        Ok(legate_merkle::node_hash(&left, &right))
    }

    fn checkpoint(self) -> Checkpoint {
        Checkpoint::new(ORIGIN, self.size, root_of(self.size, |l, i| self.node(l, i)).unwrap())
    }

    fn note(self) -> Note {
        self.checkpoint().sign(&log()).unwrap()
    }

    /// What an honest log would send of this tree.
    fn request(self, old: u64) -> AddCheckpoint {
        let proof = match old {
            0 => Vec::new(),
            old => prove_consistency(old, self.size, |l, i| self.node(l, i)).unwrap_or_default(),
        };
        AddCheckpoint { old, proof, note: self.note() }
    }
}

fn whole(size: u64) -> Tree {
    Tree { size, fork: u64::MAX }
}

fn judged(request: &AddCheckpoint, latest: Option<&Checkpoint>) -> Result<(), Refusal> {
    let new = Checkpoint::parse_text(request.note.text()).unwrap();
    judge(request, &new, log().verifier(), latest)
}

#[test]
fn a_cosignature_says_what_and_when_and_nothing_else() {
    let (note, one) = (whole(5).note(), witness(1));
    let cosigned = note.clone().with([one.cosign(note.text(), 1_700_000_000)]);
    let read = Note::parse(cosigned.to_string().as_bytes()).unwrap();
    assert_eq!(read, cosigned);
    read.verify(log().verifier()).unwrap();
    assert_eq!(one.verifier().cosigned(&read), Ok(Some(1_700_000_000)));
    assert_eq!(witness(2).verifier().cosigned(&read), Ok(None));
    // Twice is once, at the later time.
    let twice = read.clone().with([one.cosign(note.text(), 1_700_000_009)]);
    assert_eq!(one.verifier().cosigned(&twice), Ok(Some(1_700_000_009)));
    // Of another checkpoint, at a time beyond all times, cut short, and a signature of the note itself.
    let wrong = Err(NoteError::Wrong("witness.example/w1".into()));
    for line in [one.cosign(whole(6).note().text(), 1), one.cosign(note.text(), 1 << 63), {
        let mut cut = one.cosign(note.text(), 1);
        cut.signature.pop();
        cut
    }] {
        assert_eq!(one.verifier().cosigned(&note.clone().with([line])), wrong);
    }
    let mut bits = one.cosign(note.text(), 1);
    for at in 0..bits.signature.len() * 8 {
        bits.signature[at / 8] ^= 1 << (at % 8);
        assert_eq!(one.verifier().cosigned(&note.clone().with([bits.clone()])), wrong, "bit {at}");
        bits.signature[at / 8] ^= 1 << (at % 8);
    }
}

#[test]
fn keys_of_logs_and_of_witnesses_are_not_taken_for_each_other() {
    let text = witness(1).verifier().to_string();
    assert_eq!(CosignerKey::parse(&text).unwrap(), *witness(1).verifier());
    assert_eq!(VerifierKey::parse(&text), Err(KeyError::Type { found: 4, wanted: 1 }));
    assert_eq!(CosignerKey::parse(&log().verifier().to_string()), Err(KeyError::Type { found: 1, wanted: 4 }));
    // The same bytes under the same name are two keys with two ids.
    let (signs, cosigns) = (SeedSigner::new("a", &[1; 32]).unwrap(), Cosigner::new("a", &[1; 32]).unwrap());
    assert_eq!(signs.verifier().public(), cosigns.verifier().public());
    let note = Note::sign("text\n", &[&signs]).unwrap();
    assert_eq!(cosigns.verifier().cosigned(&note), Ok(None));
    let (name, rest) = text.split_once('+').unwrap();
    let (id, key) = rest.split_once('+').unwrap();
    assert_eq!(CosignerKey::parse(&format!("{name}x+{id}+{key}")), Err(KeyError::Id));
    assert_eq!(CosignerKey::parse(&format!("{name}+{}+{key}", id.to_uppercase())), Err(KeyError::Form));
    for bad in ["", "a", "a+b", "a+00000000+", "a b+00000000+BA==", "a+00000000+BA==", "a+0+BA=="] {
        assert!(CosignerKey::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn requests_are_read_strictly() {
    let request = whole(9).request(4);
    let text = request.to_string();
    assert_eq!(AddCheckpoint::parse(text.as_bytes()).unwrap(), request);
    let parse = |text: &str| AddCheckpoint::parse(text.as_bytes()).unwrap_err().0;
    assert_eq!(parse(""), "no empty line before the checkpoint");
    assert_eq!(parse(&text.replacen("old 4", "old 04", 1)), "the old size is not in its shortest form");
    assert_eq!(parse(&text.replacen("old 4", "old -4", 1)), "the old size is not a number");
    assert_eq!(parse(&text.replacen("old 4", "old 18446744073709551616", 1)), "the old size is not a number");
    assert_eq!(parse(&text.replacen("old 4", "size 4", 1)), "no line `old SIZE`");
    assert_eq!(parse(&text.replacen("old 4\n", "old 4\nAAAA\n", 1)), "a hash has not 32 bytes");
    assert_eq!(parse(&text.replacen("old 4\n", "old 4\n*\n", 1)), "a hash is not base64");
    assert_eq!(parse(&text.replace("\u{2014} ", "- ")), "the checkpoint is not a signed note");
    let many = AddCheckpoint { proof: vec![[0; 32]; 64], ..request.clone() };
    assert_eq!(parse(&many.to_string()), "it has over 63 hashes");
    assert_eq!(parse(&"x".repeat(legate_merkle::MAX_ADD_CHECKPOINT + 1)), "it is over 68 KiB");
}

#[test]
fn a_request_is_judged_in_the_order_of_the_standard() {
    let latest = whole(4).checkpoint();
    let good = whole(9).request(4);
    assert_eq!(judged(&good, Some(&latest)), Ok(()));
    assert_eq!(judged(&whole(4).request(4), Some(&latest)), Ok(()), "the same tree again");
    assert_eq!(judged(&whole(9).request(0), None), Ok(()));
    assert_eq!(judged(&whole(0).request(0), None), Ok(()));
    assert_eq!(judged(&whole(3).request(0), Some(&whole(0).checkpoint())), Ok(()));
    // 403 comes before 409.
    let unsigned = AddCheckpoint {
        old: 3,
        note: Note::sign(good.note.text(), &[&SeedSigner::new(ORIGIN, &[8; 32]).unwrap()]).unwrap(),
        ..good.clone()
    };
    assert!(matches!(judged(&unsigned, Some(&latest)), Err(Refusal::Unsigned(_))));
    assert_eq!(judged(&AddCheckpoint { old: 10, ..good.clone() }, Some(&latest)), Err(Refusal::Backwards));
    assert_eq!(judged(&AddCheckpoint { old: 3, ..good.clone() }, Some(&latest)), Err(Refusal::Conflict(4)));
    assert_eq!(judged(&AddCheckpoint { old: 4, ..good.clone() }, None), Err(Refusal::Conflict(0)));
    assert_eq!(judged(&whole(2).request(2), Some(&latest)), Err(Refusal::Conflict(4)), "a smaller tree");
    let inconsistent = |r| matches!(r, Err(Refusal::Inconsistent(_)));
    assert!(inconsistent(judged(&AddCheckpoint { proof: vec![], ..good.clone() }, Some(&latest))));
    assert!(inconsistent(judged(&AddCheckpoint { old: 0, ..good.clone() }, None)), "a proof of nothing");
    assert!(
        inconsistent(judged(&Tree { size: 4, fork: 2 }.request(4), Some(&latest))),
        "another tree of the same size"
    );
    let mut empty = whole(0).checkpoint();
    assert_eq!(empty.root, empty_root());
    empty.root = [1; 32];
    let empty = AddCheckpoint { old: 0, proof: vec![], note: empty.sign(&log()).unwrap() };
    assert!(inconsistent(judged(&empty, None)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever is asked in whatever order, of two histories that part somewhere: what was cosigned is one history.
    #[test]
    fn nobody_gets_two_histories_cosigned(fork in 0u64..12, asked in prop::collection::vec((1u64..24, any::<bool>(), 0u64..24, any::<bool>()), 1..24)) {
        let mut latest: Option<Checkpoint> = None;
        let mut cosigned: Vec<Checkpoint> = Vec::new();
        for (size, is_other, old, is_honest) in asked {
            let tree = Tree { size, fork: if is_other { fork } else { u64::MAX } };
            let old = if is_honest { latest.as_ref().map_or(0, |l| l.size) } else { old };
            let request = tree.request(old);
            if judged(&request, latest.as_ref()).is_ok() {
                cosigned.push(tree.checkpoint());
                latest = Some(tree.checkpoint());
            }
        }
        prop_assert!(cosigned.is_sorted_by_key(|c| c.size));
        let last = cosigned.last();
        let histories = [whole(24), Tree { size: 24, fork }];
        let is_one = histories.iter().any(|h| cosigned.iter().all(|c| Tree { size: c.size, ..*h }.checkpoint() == *c));
        prop_assert!(is_one, "{:?} of {:?}", last, cosigned);
    }
}

fn vkey(n: u8) -> String {
    witness(n).verifier().to_string()
}

fn cosigned_by(who: &[u8]) -> Note {
    let note = whole(3).note();
    let lines: Vec<_> = who.iter().map(|n| witness(*n).cosign(note.text(), 1_000 + u64::from(*n))).collect();
    note.with(lines)
}

#[test]
fn a_quorum_is_what_the_policy_says() {
    let text = format!(
        "# two of X and one of Y\n log {}\thttps://log.example \n\nwitness X1 {} https://x1.example/w\nwitness X2 {}\nwitness X3 {}\n\
         group X 2 X1 X2 X3\nwitness Y1 {}\nwitness Y2 {}\ngroup Y any Y1 Y2\ngroup both all X Y\nquorum both\n",
        log().verifier(),
        vkey(1),
        vkey(2),
        vkey(3),
        vkey(4),
        vkey(5),
    );
    let policy = Policy::parse(text.as_bytes()).unwrap();
    assert_eq!((policy.logs(), policy.witnesses().len()), ([log().verifier().clone()].as_slice(), 5));
    assert_eq!(policy.witnesses()[0].url.as_deref(), Some("https://x1.example/w"));
    assert!(!policy.is_enough(|w| w.url.is_some()) && policy.is_enough(|_| true) && !policy.asks_for_none());
    for who in 0u8..32 {
        let has: Vec<u8> = (1..=5).filter(|n| who >> (n - 1) & 1 == 1).collect();
        let wanted = has.iter().filter(|n| **n <= 3).count() >= 2 && has.iter().any(|n| *n > 3);
        // One that nobody knows does not count and does not disturb.
        let note = cosigned_by(&[has.as_slice(), &[9]].concat());
        match policy.check(&note) {
            Ok(found) => {
                assert!(wanted, "{has:?}");
                assert_eq!(found.by.len(), has.len());
                assert_eq!(found.since(), has.first().map(|n| 1_000 + u64::from(*n)));
            }
            Err(NotCosigned::Quorum { by, quorum }) => assert!(!wanted && by.len() == has.len() && quorum == "both"),
            Err(other) => panic!("{other}"),
        }
    }
    // A line of a known witness that is not its own spoils the note, though the others are enough.
    let mut line = witness(3).cosign(whole(4).note().text(), 1);
    let spoilt = cosigned_by(&[1, 2, 4]).with([line.clone()]);
    assert!(matches!(policy.check(&spoilt), Err(NotCosigned::Note(NoteError::Wrong(_)))));
    line.id = [0; 4];
    policy.check(&cosigned_by(&[1, 2, 4]).with([line])).unwrap();
    let said = policy.check(&cosigned_by(&[1])).unwrap_err().to_string();
    assert!(said.contains("quorum both") && said.contains("only witness.example/w1"), "{said}");
}

#[test]
fn policies_are_read_strictly() {
    let none = Policy::parse(b"quorum none").unwrap();
    assert!(none.asks_for_none() && none.is_enough(|_| false));
    none.check(&whole(3).note()).unwrap();
    let one = format!("witness a {}\n", vkey(1));
    let two = format!("{one}witness b {}\n", vkey(2));
    let refused = |text: &str| match Policy::parse(text.as_bytes()).unwrap_err() {
        PolicyError::Line { line, what } => format!("{line}: {what}"),
        other => other.to_string(),
    };
    assert!(refused("").contains("quorum"));
    assert!(refused(&one).contains("quorum"));
    assert!(refused("quorum a\n").starts_with("1: no witness or group \"a\""));
    assert!(refused(&format!("quorum a\n{one}")).starts_with("1: "), "only what stands before it");
    assert!(refused(&format!("{one}quorum a\nquorum none\n")).starts_with("3: there is a quorum"));
    assert!(refused(&format!("{one}witness b {}\nquorum a", vkey(1))).starts_with("2: the witness is there already"));
    assert!(refused(&format!("{one}group a 1 a\nquorum a")).starts_with("2: the name \"a\" is taken"));
    assert!(refused(&format!("witness none {}\nquorum none", vkey(1))).starts_with("1: the name \"none\""));
    for bad in ["0 a", "3 a b", "+1 a", "1", "any", "01x a", "all"] {
        assert!(refused(&format!("{two}group g {bad}\nquorum g")).contains("K from 1"), "{bad}");
    }
    assert!(refused(&format!("{two}group g any none\nquorum g")).contains("\"none\""));
    assert!(refused(&format!("{two}group g any g\nquorum g")).contains("\"g\""), "no circle");
    assert!(refused(&format!("{two}group g all a a\nquorum g")).contains("a member already"));
    assert!(refused(&format!("{two}group g any a\ngroup h any a b\nquorum h")).contains("a member already"));
    assert!(refused(&format!("witness a {}\nquorum a", log().verifier())).contains("0x01"));
    assert!(refused(&format!("log {}\nquorum none", vkey(1))).contains("0x04"));
    assert!(refused(&format!("log {0}\nlog {0}\nquorum none", log().verifier())).contains("there already"));
    assert!(refused("quorum none\r\n").contains("0x0d"));
    assert!(refused("logs x\nquorum none").contains("\"logs\""));
    assert!(refused("quorum none more").contains("too many"));
    assert!(refused(&"#".repeat(legate_merkle::MAX_POLICY + 1)).contains("64 KiB"));
    let many: String = (0..65u8).map(|n| format!("witness w{n} {}\n", vkey(n))).collect();
    assert!(refused(&format!("{many}quorum w0\n")).starts_with("65: "));
    // A comment may be anything, a name any bytes but white space.
    let odd =
        [b"# \xff\xfe\n", format!("{one}group ").as_bytes(), b"\xe2\x84\xaa any a\nquorum \xe2\x84\xaa\n"].concat();
    assert!(Policy::parse(&odd).unwrap().is_enough(|_| true));
}

proptest! {
    #[test]
    fn whatever_comes_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..400), words in prop::collection::vec("(log|witness|group|quorum|all|any|none|a|b|1|\n| )", 0..40)) {
        let _ = Policy::parse(&bytes);
        let _ = AddCheckpoint::parse(&bytes);
        let _ = Policy::parse(words.join(" ").as_bytes());
    }
}
