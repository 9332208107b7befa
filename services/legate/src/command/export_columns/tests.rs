//! An export into a directory that is cut short at any moment goes on, and each row is there once.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use legate_clock::Timestamp;
use legate_wire::audit::{AuditEvent, Emitter, EventDecision, Outcome, TrustClass};
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::record::{Field, RowAccessor as _};

use super::*;

const START: i64 = 1_800_000_000;

fn event(leaf: u64) -> IndexedEvent {
    let namespace = ["payments", "", "a/../b"][usize::try_from(leaf % 3).unwrap()];
    let time = Timestamp::from_secs(START + i64::try_from(leaf).unwrap() * 40_000);
    IndexedEvent {
        leaf_index: leaf,
        leaf_hash: vec![u8::try_from(leaf).unwrap(); 32],
        trust: TrustClass::Attested.into(),
        event: Some(AuditEvent {
            r#type: "decision.made".into(),
            namespace: namespace.into(),
            time: Some(time.into()),
            chain: vec!["agt_1".into(), "agt_2".into()],
            outcome: Outcome::Denied.into(),
            decision: leaf.is_multiple_of(2).then(|| EventDecision { allowed: true, ..EventDecision::default() }),
            emitter: Some(Emitter {
                spiffe_id: "spiffe://example.org/legate/registry".into(),
                epoch: "e1".into(),
                seq: leaf + 1,
            }),
            ..AuditEvent::default()
        }),
        ..IndexedEvent::default()
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { all.extend(files(&path)) } else { all.push(path) }
    }
    all.sort();
    all
}

/// Leaves of every file that has its name.
fn leaves(dir: &Path) -> Vec<i64> {
    let mut all = Vec::new();
    for path in files(dir).iter().filter(|path| path.extension().is_some_and(|end| end == "parquet")) {
        let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
        all.extend(reader.get_row_iter(None).unwrap().map(|row| row.unwrap().get_long(0).unwrap()));
    }
    all.sort_unstable();
    all
}

fn asked() -> QueryEventsRequest {
    QueryEventsRequest { namespace: "payments".into(), ..QueryEventsRequest::default() }
}

#[test]
fn a_row_says_what_its_event_says_and_lies_where_it_is_looked_for() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("out");
    let mut shelf = Shelf::begin(&dir, &asked()).unwrap();
    shelf.take(&(0..6).map(event).collect::<Vec<_>>(), "").unwrap();
    assert_eq!(shelf.end().unwrap(), 6);
    let names: Vec<String> =
        files(&dir).iter().map(|path| path.strip_prefix(&dir).unwrap().to_str().unwrap().to_owned()).collect();
    let wanted = [
        "day=2027-01-15/namespace=__HIVE_DEFAULT_PARTITION__/leaves-000000000001-000000000001.parquet",
        "day=2027-01-15/namespace=payments/leaves-000000000000-000000000000.parquet",
        "day=2027-01-16/namespace=a%2F..%2Fb/leaves-000000000002-000000000002.parquet",
        "day=2027-01-16/namespace=payments/leaves-000000000003-000000000003.parquet",
        "day=2027-01-17/namespace=__HIVE_DEFAULT_PARTITION__/leaves-000000000004-000000000004.parquet",
        "day=2027-01-17/namespace=a%2F..%2Fb/leaves-000000000005-000000000005.parquet",
    ];
    assert_eq!(names, wanted);
    let reader = SerializedFileReader::new(File::open(dir.join(wanted[1])).unwrap()).unwrap();
    let row = reader.get_row_iter(None).unwrap().next().unwrap().unwrap();
    let field = |name: &str| row.get_column_iter().find(|(column, _)| *column == name).unwrap().1.clone();
    assert_eq!(field("leaf_hash"), Field::Bytes(vec![0; 32].into()));
    assert_eq!(field("time"), Field::TimestampMicros(START * 1_000_000));
    assert_eq!(field("namespace"), Field::Str("payments".into()));
    assert_eq!(field("chain"), Field::Str("agt_1 agt_2".into()));
    assert_eq!(field("outcome"), Field::Str("DENIED".into()));
    assert_eq!(field("trust"), Field::Str("ATTESTED".into()));
    assert_eq!(field("decision_allowed"), Field::Bool(true));
    assert_eq!(field("emitter_seq"), Field::Long(1));
    assert_eq!((field("reason"), field("revision")), (Field::Null, Field::Null));
    let Field::Str(json) = field("event") else { panic!("no text") };
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["type"], "decision.made");
    let broken = IndexedEvent { leaf_hash: vec![1; 31], ..event(1) };
    assert!(Row::of(&broken).is_err());
}

#[test]
fn what_was_cut_short_goes_on_and_no_row_comes_twice() {
    let root = tempfile::tempdir().unwrap();
    // Cut before the mark, between the mark and the names, and behind them.
    for cut in 0..3 {
        let dir = root.path().join(format!("out{cut}"));
        let mut shelf = Shelf::begin(&dir, &asked()).unwrap();
        shelf.most = 4;
        shelf.take(&[event(0), event(1)], "one").unwrap();
        shelf.take(&[event(2), event(3)], "two").unwrap();
        assert_eq!(leaves(&dir), [0, 1, 2, 3]);
        shelf.take(&[event(4)], "three").unwrap();
        let (mark, kept) = (mark_path(&dir), root.path().join("kept"));
        std::fs::copy(&mark, &kept).unwrap();
        shelf.take(&[event(5), event(6), event(7)], "four").unwrap();
        drop(shelf);
        let is_new = |path: &&PathBuf| {
            let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
            reader.get_row_iter(None).unwrap().any(|row| row.unwrap().get_long(0).unwrap() >= 4)
        };
        let latest: Vec<PathBuf> = files(&dir).iter().filter(is_new).cloned().collect();
        if cut < 2 {
            // Some had their names already.
            for path in latest.iter().skip(cut) {
                std::fs::rename(path, unnamed(path)).unwrap();
            }
        }
        let next = if cut == 0 {
            std::fs::copy(&kept, &mark).unwrap();
            "two"
        } else {
            "four"
        };
        assert!(Shelf::begin(&dir, &asked()).is_err(), "it is not begun anew over what is there");
        let mut again = Shelf::open_again(&dir).unwrap();
        let question = again.mark.question(&again.mark_at).unwrap();
        assert_eq!((question.page_token.as_str(), question.namespace.as_str()), (next, "payments"));
        if cut == 0 {
            assert_eq!(leaves(&dir), [0, 1, 2, 3]);
            // The pages may be cut elsewhere now.
            again.take(&[event(4), event(5)], "x").unwrap();
            again.take(&[event(6), event(7)], "four").unwrap();
        }
        again.take(&[event(8)], "").unwrap();
        assert_eq!(again.end().unwrap(), 9);
        assert_eq!(leaves(&dir), (0..9).collect::<Vec<i64>>());
        let ends: BTreeSet<String> =
            files(&dir).iter().map(|path| path.extension().unwrap().to_str().unwrap().to_owned()).collect();
        assert_eq!(ends, BTreeSet::from(["parquet".to_owned()]), "nothing else is left");
        assert!(!mark.exists());
        assert_eq!(Shelf::open_again(&dir).unwrap_err().reason, "USAGE", "it ended");
    }
}

#[test]
fn the_same_rows_are_the_same_bytes() {
    let rows: Vec<Row> = (0..5).map(|leaf| Row::of(&event(leaf)).unwrap()).collect();
    assert_eq!(write_rows(Vec::new(), &rows).unwrap(), write_rows(Vec::new(), &rows).unwrap());
}
