//! The log's key is rotated: what is there afterwards, whatever it was interrupted by, and what is refused.

use std::path::Path;

use legate_batch::rotated::{ROTATED, event as rotated_event};
use legate_merkle::{Checkpoint, Frontier, Hash, KeyChain, Note, Rotation, SeedSigner, Signer as _, leaf_hash};

use super::scene::{
    ORIGIN, Place, all, append, audit, checkpoint, copy, join, open, open_at, own, producer, refusal, segments,
    try_open_at, until_published,
};
use crate::log::recover::LogError;
use crate::log::{Own, prepare_key};

/// The private key in a file.
fn seed(path: &Path) -> [u8; 32] {
    let text = std::fs::read_to_string(path).unwrap();
    let digits = text.lines().next().unwrap();
    std::array::from_fn(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
}

fn signer(path: &Path) -> SeedSigner {
    SeedSigner::new(ORIGIN, &seed(path)).unwrap()
}

/// A log that was used, and closed; its newest checkpoint.
async fn used() -> (tempfile::TempDir, Checkpoint) {
    let dir = tempfile::tempdir().unwrap();
    let (log, tasks) = open(dir.path()).await;
    append(&log, &producer("registry", "e1"), 1, 300).await.unwrap();
    until_published(&log).await;
    tasks.close().await;
    let saved = checkpoint(dir.path());
    (dir, saved)
}

/// Every file under a directory.
fn files(dir: &Path, out: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, out) } else { out.push(path) }
    }
}

fn holds(dir: &Path, secret: &str) -> bool {
    let mut all = Vec::new();
    files(dir, &mut all);
    all.iter().any(|path| std::fs::read(path).unwrap().windows(secret.len()).any(|part| part == secret.as_bytes()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_takes_over_at_the_next_start_and_the_one_before_is_gone() {
    let (dir, saved) = used().await;
    let first = std::fs::read_to_string(dir.path().join("log.key")).unwrap();
    let first_public = std::fs::read_to_string(dir.path().join("log.pub")).unwrap();
    let next = prepare_key(dir.path(), "the host was sold").unwrap();
    assert!(prepare_key(dir.path(), "").is_err(), "one waits already");
    assert_eq!(std::fs::read_to_string(dir.path().join("log.pub")).unwrap(), first_public, "until the next start");

    let (log, tasks) = open(dir.path()).await;
    assert_eq!((log.verifier_key(), log.keys().rotations().len()), (next.to_string().as_str(), 1));
    append(&log, &producer("registry", "e1"), 301, 5).await.unwrap();
    until_published(&log).await;
    let told = own(&log);
    let kinds: Vec<&str> = told.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(kinds, ["log.opened", "log.closed", ROTATED, "log.opened"], "before anything else of that start");
    assert_eq!(
        (told[2].reason.as_str(), told[2].details["to"].as_str()),
        ("the host was sold", next.to_string().as_str())
    );
    // The tree from before the rotation was signed by the key of then, and the newest by the key of now.
    let place = log.keys().rotations()[0].size();
    assert_eq!((log.keys().in_force(place).to_string() + "\n", log.keys().in_force(place + 1)), (first_public, &next));
    let proved = log.prove_rotations(log.published().borrow().size).unwrap();
    assert_eq!((proved.len(), proved[0].leaf_index), (1, place));
    assert!(log.prove_rotations(place).unwrap().is_empty());
    tasks.close().await;
    drop(log);
    assert!(!holds(dir.path(), first.trim()), "the old private key is in no file any more");
    assert!(!dir.path().join("log.key.next").exists());
    assert_eq!(audit(dir.path(), Some(&saved)).unwrap().continues, Some(saved.size));

    // And once more; what was signed under either of them stays.
    let between = checkpoint(dir.path());
    let newest = prepare_key(dir.path(), "").unwrap();
    let (log, tasks) = open(dir.path()).await;
    assert_eq!(log.keys().keys().count(), 3);
    until_published(&log).await;
    tasks.close().await;
    for earlier in [&saved, &between] {
        assert_eq!(audit(dir.path(), Some(earlier)).unwrap().continues, Some(earlier.size));
    }
    let written = KeyChain::parse(&std::fs::read(dir.path().join("log.rotations")).unwrap()).unwrap();
    assert_eq!((written.newest(), &written), (&newest, log.keys()));
}

/// Ends the newest segment behind leaf `at` and `more` bytes, as a kill does that comes then; the bytes of the log's tree up to there.
fn cut_behind(dir: &Path, at: u64, more: usize) -> (u64, Hash) {
    let mut tree = Frontier::new();
    let all = segments(dir);
    for (n, path) in all.iter().enumerate() {
        let mut bytes = std::fs::read(path).unwrap();
        let mut place = 16;
        loop {
            let length = u32::from_le_bytes(bytes[place..place + 4].try_into().unwrap()) as usize;
            if length == 0 || tree.size() > at {
                break;
            }
            tree.push(leaf_hash(&bytes[place + 8..place + 8 + length]));
            place += 8 + length;
        }
        if tree.size() > at {
            bytes[place + more..].fill(0);
            std::fs::write(path, bytes).unwrap();
            all[n + 1..].iter().for_each(|later| std::fs::remove_file(later).unwrap());
            break;
        }
    }
    // What was acknowledged behind it never was.
    std::fs::remove_file(dir.join("acked")).unwrap();
    assert_eq!(tree.size(), at + 1);
    (tree.size(), tree.root())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_is_killed_between_any_two_steps_is_finished_by_the_next_start() {
    let (before, saved) = used().await;
    let next = prepare_key(before.path(), "").unwrap();
    let after = copy(before.path());
    let (log, tasks) = open(after.path()).await;
    let place = log.keys().rotations()[0].size();
    let whole = log.size();
    tasks.close().await;
    drop(log);
    assert!(whole > place);

    for step in 0..=5 {
        let dir = copy(before.path());
        let put = |from: &Path, name: &str| {
            std::fs::copy(from.join(name), dir.path().join(name)).unwrap();
        };
        std::fs::remove_dir_all(dir.path().join("segments")).unwrap();
        std::fs::create_dir(dir.path().join("segments")).unwrap();
        for path in segments(after.path()) {
            std::fs::copy(&path, dir.path().join("segments").join(path.file_name().unwrap())).unwrap();
        }
        // Step 0: a half of the leaf is on the disk.
        let (size, root) = match step {
            0 => cut_behind(dir.path(), place - 1, 100),
            _ => cut_behind(dir.path(), place, 0),
        };
        if step >= 2 {
            put(after.path(), "log.rotations");
        }
        if step >= 3 {
            let by = signer(&before.path().join("log.key.next"));
            let note = Checkpoint::new(ORIGIN, size, root).sign(&by).unwrap().to_string();
            std::fs::write(dir.path().join("checkpoint"), note).unwrap();
        }
        if step >= 4 {
            std::fs::rename(dir.path().join("log.key.next"), dir.path().join("log.key")).unwrap();
        }
        if step >= 5 {
            put(after.path(), "log.pub");
        }
        let (log, tasks) = open(dir.path()).await;
        assert_eq!((log.verifier_key(), log.keys().rotations().len()), (next.to_string().as_str(), 1), "{step}");
        assert_eq!(log.keys().rotations()[0].size(), place, "{step}");
        append(&log, &producer("registry", "e1"), 301, 3).await.unwrap();
        until_published(&log).await;
        let told = own(&log);
        assert_eq!(told.iter().filter(|event| event.r#type == ROTATED).count(), 1, "{step}");
        let mine: Vec<u64> = told.iter().map(|event| event.emitter.as_ref().unwrap().seq).collect();
        assert!(mine.iter().zip(1..).all(|(seq, wanted)| *seq == wanted), "{step}: {mine:?}");
        assert_eq!(all(&log).len() as u64, log.size());
        tasks.close().await;
        drop(log);
        assert_eq!(audit(dir.path(), Some(&saved)).unwrap().continues, Some(saved.size), "{step}");
        assert!(!dir.path().join("log.key.next").exists(), "{step}");
        assert_eq!(seed(&dir.path().join("log.key")), seed(&after.path().join("log.key")), "{step}");
        let (_log, tasks) = open(dir.path()).await;
        tasks.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_that_was_taken_back_and_keys_that_nobody_announced_are_refused() {
    let (before, _) = used().await;
    prepare_key(before.path(), "").unwrap();
    let after = copy(before.path());
    let (log, tasks) = open(after.path()).await;
    until_published(&log).await;
    tasks.close().await;
    let size = log.size();
    drop(log);

    // The old key is brought back, over the log in which it ended.
    let dir = copy(after.path());
    let put = |from: &Path, name: &str| {
        std::fs::copy(from.join(name), dir.path().join(name)).unwrap();
    };
    put(before.path(), "log.key");
    assert!(matches!(refusal(dir.path()).await, LogError::OtherKey { .. }));
    std::fs::remove_file(dir.path().join("log.rotations")).unwrap();
    assert!(matches!(refusal(dir.path()).await, LogError::Checkpoint(_)));
    // It signs what it has no right to any more.
    let tree = checkpoint(after.path());
    let by_old = Checkpoint::new(ORIGIN, tree.size, tree.root).sign(&signer(&before.path().join("log.key"))).unwrap();
    std::fs::write(dir.path().join("checkpoint"), by_old.to_string()).unwrap();
    assert!(matches!(refusal(dir.path()).await, LogError::OtherKey { .. }));
    // The same under the new key: that one did not sign it.
    put(after.path(), "log.key");
    assert!(matches!(refusal(dir.path()).await, LogError::Checkpoint(_)));

    // The log is set back behind the rotation, and the keys are not.
    let dir = copy(after.path());
    let put = |from: &Path, name: &str| {
        std::fs::copy(from.join(name), dir.path().join(name)).unwrap();
    };
    std::fs::remove_dir_all(dir.path().join("segments")).unwrap();
    std::fs::create_dir(dir.path().join("segments")).unwrap();
    for path in segments(before.path()) {
        std::fs::copy(&path, dir.path().join("segments").join(path.file_name().unwrap())).unwrap();
    }
    put(before.path(), "acked");
    put(before.path(), "checkpoint");
    assert!(matches!(refusal(dir.path()).await, LogError::RotationGone { .. }));

    // A key that nobody announced signs the newest checkpoint.
    let dir = copy(after.path());
    let stranger = SeedSigner::new(ORIGIN, &[9; 32]).unwrap();
    let note = Checkpoint::new(ORIGIN, tree.size, tree.root).sign(&stranger).unwrap();
    std::fs::write(dir.path().join("checkpoint"), note.to_string()).unwrap();
    assert!(matches!(refusal(dir.path()).await, LogError::Checkpoint(_)));

    // What was only lost is made again from the log.
    let dir = copy(after.path());
    std::fs::remove_file(dir.path().join("log.rotations")).unwrap();
    let (log, tasks) = open(dir.path()).await;
    assert!(log.size() >= size && log.keys().rotations().len() == 1);
    assert!(dir.path().join("log.rotations").exists());
    tasks.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaf_that_only_one_key_signed_or_that_is_of_another_tree_is_refused() {
    let (dir, _) = used().await;
    let (ours, next) = (signer(&dir.path().join("log.key")), SeedSigner::new(ORIGIN, &[9; 32]).unwrap());
    let halves = |rotation: &Rotation, kept: [u8; 4]| {
        let note = Note::parse(rotation.to_string().as_bytes()).unwrap().only(|line| line.id == kept);
        let mut event = rotated_event(rotation, "");
        event.details.insert("rotation".to_owned(), note.to_string());
        event
    };
    for case in 0..4 {
        let dir = copy(dir.path());
        let (log, tasks) = open(dir.path()).await;
        // What is opened is a leaf; nobody else appends anything.
        let mut published = log.published();
        published.wait_for(|published| published.size == log.size() && published.size > 302).await.unwrap();
        let (size, root) = (log.size(), published.borrow().root);
        let rotation = match case {
            2 => Rotation::sign(size, [7; 32], &ours, &next).unwrap(),
            3 => Rotation::sign(size + 1, root, &ours, &next).unwrap(),
            _ => Rotation::sign(size, root, &ours, &next).unwrap(),
        };
        let event = match case {
            0 => halves(&rotation, ours.verifier().id()),
            1 => halves(&rotation, next.verifier().id()),
            _ => rotated_event(&rotation, ""),
        };
        assert_eq!(log.record(Own::from_event(ROTATED, event)).await.unwrap(), size, "{case}");
        tasks.close().await;
        drop(log);
        let refused = refusal(dir.path()).await;
        assert!(matches!(refused, LogError::Rotation(_)), "{case}: {refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn collectors_that_share_a_log_go_on_under_the_key_that_all_of_them_have() {
    super::rows::on_rows(async |place| {
        let (a, b, c) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (log, tasks) = open_at(&place, a.path()).await;
        append(&log, &producer("registry", "e1"), 1, 20).await.unwrap();
        until_published(&log).await;
        tasks.close().await;
        drop(log);
        let saved = checkpoint(a.path());
        join(a.path(), b.path());
        join(a.path(), c.path());
        let first = std::fs::read_to_string(a.path().join("log.pub")).unwrap().trim().to_owned();
        let next = prepare_key(a.path(), "").unwrap().to_string();
        std::fs::copy(a.path().join("log.key.next"), b.path().join("log.key.next")).unwrap();

        let (log, tasks) = open_at(&place, a.path()).await;
        assert_eq!(log.verifier_key(), next);
        append(&log, &producer("registry", "e1"), 21, 5).await.unwrap();
        until_published(&log).await;
        tasks.close().await;
        drop(log);
        assert_eq!(named(&place).await, next, "the lease names the key that signs");

        // Whoever has the old one alone does not lead any more.
        let refused = try_open_at(&place, c.path()).await.unwrap_err();
        assert!(matches!(refused, LogError::OtherKey { .. }), "{refused}");

        // As if the first had been killed right behind the leaf: the lease and the checkpoint beside the rows are still of the old key.
        let by_old = Checkpoint::new(ORIGIN, saved.size, saved.root).sign(&signer(&c.path().join("log.key"))).unwrap();
        let hex: String = by_old.to_string().bytes().map(|byte| format!("{byte:02x}")).collect();
        super::rows::by_hand(&place, &format!("UPDATE log_lease SET verifier_key = '{first}'")).await;
        let sql = format!("UPDATE log_note SET value = decode('{hex}', 'hex') WHERE name = 'checkpoint'");
        super::rows::by_hand(&place, &sql).await;
        let refused = try_open_at(&place, c.path()).await.unwrap_err();
        assert!(matches!(refused, LogError::OtherKey { .. }), "it says so once it has read the rows: {refused}");
        let (log, tasks) = open_at(&place, b.path()).await;
        assert_eq!((log.verifier_key(), log.keys().rotations().len()), (next.as_str(), 1));
        assert_eq!(append(&log, &producer("registry", "e1"), 26, 1).await.unwrap().appended, 1);
        until_published(&log).await;
        tasks.close().await;
        assert_eq!(named(&place).await, next);
        assert!(!b.path().join("log.key.next").exists());
        assert_eq!(seed(&b.path().join("log.key")), seed(&a.path().join("log.key")));
        assert_eq!(audit(b.path(), Some(&saved)).unwrap().continues, Some(saved.size));
        drop(log);
        // Somebody who joins later has the key of now.
        let d = tempfile::tempdir().unwrap();
        join(a.path(), d.path());
        let (log, tasks) = open_at(&place, d.path()).await;
        assert_eq!(log.keys().rotations().len(), 1);
        until_published(&log).await;
        tasks.close().await;
        audit(d.path(), Some(&saved)).unwrap();
    })
    .await;
}

/// The key that the lease names.
async fn named(place: &Place) -> String {
    let Place::Shared(url) = place else { panic!("not shared") };
    let ledger = crate::ledger::Ledger::open(url, ORIGIN).await.unwrap();
    let standing = ledger.look().await.unwrap().unwrap();
    ledger.close().await;
    standing.verifier_key
}
