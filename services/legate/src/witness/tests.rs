//! A witness that is asked, restarted, and lied to.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use legate_clock::{TestClock, Timestamp};
use legate_merkle::{
    Hash, Note, NoteSignature, SeedSigner, Signer as _, leaf_hash, node_hash, prove_consistency, root_of,
};

use super::*;

const ORIGIN: &str = "example.org/log";

fn log() -> SeedSigner {
    SeedSigner::new(ORIGIN, &[7; 32]).unwrap()
}

/// A history, and another that parts from it at leaf 5.
#[derive(Clone, Copy)]
struct History(u8);

impl History {
    fn node(self, level: u32, index: u64) -> Result<Hash, ()> {
        match level {
            0 if index < 5 => Ok(leaf_hash(&index.to_be_bytes())),
            0 => Ok(leaf_hash(&[self.0, u8::try_from(index).unwrap()])),
            _ => Ok(node_hash(&self.node(level - 1, index * 2)?, &self.node(level - 1, index * 2 + 1)?)),
        }
    }

    fn request(self, old: u64, size: u64) -> String {
        self.request_by(&log(), old, size)
    }

    fn request_by(self, signer: &SeedSigner, old: u64, size: u64) -> String {
        let root = root_of(size, |l, i| self.node(l, i)).unwrap();
        let note = Checkpoint::new(ORIGIN, size, root).sign(signer).unwrap();
        let proof = if old == 0 { Vec::new() } else { prove_consistency(old, size, |l, i| self.node(l, i)).unwrap() };
        AddCheckpoint { old, proof, note }.to_string()
    }
}

const ONE: History = History(1);
const OTHER: History = History(2);

struct Scene {
    dir: tempfile::TempDir,
    clock: Arc<TestClock>,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        make(&dir.path().join("key"), &dir.path().join("book"), "witness.example/w1").unwrap();
        Self { dir, clock: TestClock::at(Timestamp::from_secs(1_800_000_000)) }
    }

    fn book(&self) -> std::path::PathBuf {
        self.dir.path().join("book")
    }

    /// The witness as a start finds it.
    fn start(&self) -> (Witness, Book) {
        self.start_with(&[7])
    }

    /// The same, for a log that has these keys.
    fn start_with(&self, seeds: &[u8]) -> (Witness, Book) {
        let cosigner = open(&self.dir.path().join("key"), &self.book()).unwrap();
        let book = Book::open(&self.book(), cosigner.verifier()).unwrap();
        let keys = seeds.iter().map(|seed| SeedSigner::new(ORIGIN, &[*seed; 32]).unwrap().verifier().clone()).collect();
        let logs = BTreeMap::from([(ORIGIN.to_owned(), keys)]);
        let clock: Arc<dyn Clock> = self.clock.clone();
        (Witness::new(cosigner, logs, &book, clock).unwrap(), book)
    }
}

fn ask(witness: &Witness, request: &str) -> (u16, String) {
    let answer = witness.add_checkpoint(request.as_bytes());
    assert_eq!(answer.kind == "text/x.tlog.size", answer.status == StatusCode::CONFLICT);
    (answer.status.as_u16(), answer.body)
}

#[test]
fn what_grows_is_cosigned_and_what_does_not_is_refused_with_the_status_of_the_standard() {
    let scene = Scene::new();
    let (witness, _book) = scene.start();
    assert_eq!(ask(&witness, &ONE.request(0, 8)).0, 200);
    assert_eq!(ask(&witness, &ONE.request(0, 9)), (409, "8\n".into()));
    let (status, lines) = ask(&witness, &ONE.request(8, 12));
    assert_eq!(status, 200);
    let note = Note::parse(ONE.request(8, 12).split_once("\n\n").unwrap().1.as_bytes()).unwrap();
    let note = note.with(NoteSignature::parse_lines(&lines).unwrap());
    assert_eq!(witness.cosigner.verifier().cosigned(&note), Ok(Some(1_800_000_000)));

    assert_eq!(ask(&witness, &OTHER.request(8, 12)).0, 409);
    let fork = OTHER.request(8, 12).replacen("old 8", "old 12", 1);
    assert_eq!(ask(&witness, &fork).0, 422, "a proof of nothing, and another root");
    assert_eq!(ask(&witness, &OTHER.request(12, 16)).0, 422);
    assert_eq!(ask(&witness, &ONE.request(8, 8)).0, 409, "a smaller tree");
    assert_eq!(ask(&witness, &ONE.request(12, 12)).0, 200, "the same again");
    assert_eq!(ask(&witness, &ONE.request(12, 13).replacen("old 12", "old 14", 1)).0, 400);
    assert_eq!(ask(&witness, "old 0\n").0, 400);
    let unsigned = ONE.request(12, 13).replace("\u{2014} example.org/log", "\u{2014} example.org/other");
    assert_eq!(ask(&witness, &unsigned).0, 403);
    let elsewhere = ONE.request(12, 13).replacen("\n\nexample.org/log\n", "\n\nexample.org/elsewhere\n", 1);
    assert_eq!(ask(&witness, &elsewhere).0, 404);
    // Another's signatures are neither looked at nor kept.
    let more = format!("{}\u{2014} somebody.example AAAAAAAA\n", ONE.request(12, 13));
    assert_eq!(ask(&witness, &more).0, 200);
    let hash = sha256(ORIGIN.as_bytes());
    let kept = witness.checkpoint(&hash);
    let note = Note::parse(kept.body.as_bytes()).unwrap();
    assert_eq!((kept.status, note.signatures().len()), (StatusCode::OK, 2));
    note.verify(log().verifier()).unwrap();
    assert_eq!(witness.checkpoint(&hash.to_uppercase()).status, StatusCode::NOT_FOUND);
    assert_eq!(witness.checkpoint("").status, StatusCode::NOT_FOUND);
}

#[test]
fn what_was_written_and_not_answered_counts_after_a_crash() {
    let scene = Scene::new();
    let (witness, book) = scene.start();
    assert_eq!(ask(&witness, &ONE.request(0, 8)).0, 200);
    // It is killed after the write of 12, before anybody is told.
    drop(witness.add_checkpoint(ONE.request(8, 12).as_bytes()));
    drop((witness, book));
    let (witness, book) = scene.start();
    assert_eq!(ask(&witness, &OTHER.request(8, 12)), (409, "12\n".into()));
    assert_eq!(ask(&witness, &ONE.request(12, 16)).0, 200);
    drop((witness, book));
    // And before the write: what is beside the page is not the page.
    let page = scene.book().join(format!("{}.checkpoint", sha256(ORIGIN.as_bytes())));
    std::fs::write(page.with_extension("new"), "half of").unwrap();
    let (witness, _book) = scene.start();
    assert_eq!(ask(&witness, &OTHER.request(8, 20)), (409, "16\n".into()));
    assert_eq!(ask(&witness, &ONE.request(16, 20)).0, 200);
}

#[test]
fn a_page_that_cannot_be_written_stops_the_log_until_a_restart() {
    let scene = Scene::new();
    let (witness, book) = scene.start();
    assert_eq!(ask(&witness, &ONE.request(0, 8)).0, 200);
    // Where the new page would be written, a directory stands in the way.
    let page = scene.book().join(format!("{}.new", sha256(ORIGIN.as_bytes())));
    std::fs::create_dir(&page).unwrap();
    assert_eq!(ask(&witness, &ONE.request(8, 12)).0, 503);
    std::fs::remove_dir(&page).unwrap();
    assert_eq!(ask(&witness, &ONE.request(8, 12)).0, 503, "nobody knows what the disk holds");
    drop((witness, book));
    let (witness, _book) = scene.start();
    assert_eq!(ask(&witness, &ONE.request(8, 12)).0, 200);
}

#[test]
fn nothing_is_dated_before_what_was_signed_last() {
    let scene = Scene::new();
    let (witness, _book) = scene.start();
    assert_eq!(ask(&witness, &ONE.request(0, 8)).0, 200);
    scene.clock.jump_to(Timestamp::from_secs(1_799_999_999));
    assert_eq!(ask(&witness, &ONE.request(8, 12)).0, 503);
    scene.clock.jump_to(Timestamp::from_secs(1_800_000_000));
    assert_eq!(ask(&witness, &ONE.request(8, 12)).0, 200);
}

#[test]
fn two_histories_that_race_are_one_in_the_end() {
    let scene = Scene::new();
    let (witness, _book) = scene.start();
    assert_eq!(ask(&witness, &ONE.request(0, 5)).0, 200);
    let won = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..8)
            .map(|n| {
                let request = if n % 2 == 0 { ONE.request(5, 9) } else { OTHER.request(5, 9) };
                let witness = &witness;
                scope.spawn(move || (n % 2, ask(witness, &request).0))
            })
            .collect();
        let ended = racers.into_iter().map(|racer| racer.join().unwrap());
        ended.filter(|(_, status)| *status == 200).map(|(which, _)| which).collect::<Vec<_>>()
    });
    // The first takes it; all others see a conflict, those of the same history too.
    assert_eq!(won.len(), 1);
}

#[test]
fn a_log_goes_on_under_the_key_that_followed_and_never_again_under_the_one_before() {
    let scene = Scene::new();
    let next = SeedSigner::new(ORIGIN, &[8; 32]).unwrap();
    let (witness, book) = scene.start();
    assert_eq!(ask(&witness, &ONE.request(0, 5)).0, 200);
    assert_eq!(ask(&witness, &ONE.request_by(&next, 5, 8)).0, 403, "nobody told it of that key");
    drop((witness, book));
    let (witness, book) = scene.start_with(&[7, 8]);
    assert_eq!(ask(&witness, &ONE.request(5, 6)).0, 200, "the one before signs until the other does");
    assert_eq!(ask(&witness, &OTHER.request_by(&next, 6, 9)).0, 422, "it has to be the same log");
    assert_eq!(ask(&witness, &ONE.request_by(&next, 6, 9)).0, 200);
    assert_eq!(ask(&witness, &ONE.request(9, 10)).0, 403, "whoever has the old key still");
    drop((witness, book));
    let (witness, book) = scene.start_with(&[7, 8]);
    assert_eq!(ask(&witness, &ONE.request(9, 10)).0, 403, "after a restart too");
    assert_eq!(ask(&witness, &ONE.request_by(&next, 9, 10)).0, 200);
    drop((witness, book));
    // The one before is no longer needed.
    let (witness, _book) = scene.start_with(&[8]);
    assert_eq!(ask(&witness, &ONE.request_by(&next, 10, 11)).0, 200);
}

#[test]
fn a_book_and_a_key_belong_together() {
    let scene = Scene::new();
    let book = scene.book();
    let key = scene.dir.path().join("key");
    let refused = |key: &Path, book: &Path| open(key, book).map(drop).unwrap_err().to_string();
    assert!(make(&key, &scene.dir.path().join("new"), "a").unwrap_err().to_string().contains("there already"));
    assert!(make(&scene.dir.path().join("new.key"), &book, "a").is_err(), "a book is never begun twice");
    assert!(make(&scene.dir.path().join("new.key"), &scene.dir.path().join("new"), "a b").is_err());
    assert!(refused(&key, &scene.dir.path().join("nowhere")).contains("could cosign another history"));

    let (cosigner, (_witness, open_book)) = (open(&key, &book).unwrap(), scene.start());
    assert!(matches!(Book::open(&book, cosigner.verifier()), Err(BadBook::Taken(_))));
    drop(open_book);
    let stranger = Cosigner::new("witness.example/w1", &[9; 32]).unwrap();
    assert!(matches!(Book::open(&book, stranger.verifier()), Err(BadBook::Owner { .. })));

    let page = book.join(format!("{}.checkpoint", sha256(ORIGIN.as_bytes())));
    let logs = || BTreeMap::from([(ORIGIN.to_owned(), vec![log().verifier().clone()])]);
    let by_log = ONE.request(0, 5).split_once("\n\n").unwrap().1.to_owned();
    for damaged in ["", "half of", &by_log, &"x".repeat(70_000)] {
        std::fs::write(&page, damaged).unwrap();
        let book = Book::open(&book, cosigner.verifier()).unwrap();
        let cosigner = open(&key, &scene.book()).unwrap();
        let found = Witness::new(cosigner, logs(), &book, scene.clock.clone());
        assert!(matches!(found, Err(BadBook::Page { .. })), "{damaged:?}");
    }
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    assert!(refused(&key, &book).contains("key"));
}
