//! What cannot be put on record is not shown.

use legate_clock::TestClock;
use legate_rpc::TraceContext;
use tokio::time::Instant;

use super::erased::desk;
use super::*;
use crate::domain::question::Question;
use crate::flow::reads::Reads;
use crate::flow::{Call, Reader, query};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_has_stopped_answers_no_question_and_one_without_a_record_of_reads_does() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open(dir.path()).await;
        let index = index(&fixture);
        let following = tokio::spawn(index.clone().follow(log.clone()));
        tell(&log, 1, 20).await;
        until(&index, log.size()).await;
        let name = legate_ids::Name::parse("alice").unwrap();
        let call = Call {
            caller: "spiffe://example.org/legate/operator/alice".into(),
            reader: Reader::Operator(name.clone()),
            certificate: [0; 32],
            emergency: None,
            trace: TraceContext::default(),
            deadline: Instant::now() + Duration::from_secs(60),
        };
        let clock = TestClock::at(Timestamp::from_secs(START + 1_000));
        let mut desk = desk(&log, &index, &clock);
        desk.auditors = [name].into();
        desk.reads = Reads::new(true);
        let ask = || query::Ask { question: Question::default(), ..query::Ask::default() };
        let before = log.size();
        assert!(!query::query(&desk, &call, ask()).await.unwrap().leaves.is_empty());
        assert_eq!(log.size(), before + 1, "it is on disk before the answer");
        // The engine finds that somebody wrote behind its back, and stops.
        log.meddle().await;
        log.record(Own::new("test.told")).await.unwrap_err();
        let refused = query::query(&desk, &call, ask()).await.unwrap_err();
        assert_eq!(refused.reason(), "AUDIT_LOG_STOPPED");
        desk.reads = Reads::new(false);
        assert!(!query::query(&desk, &call, ask()).await.unwrap().leaves.is_empty());
        following.abort();
        index.close().await;
        tasks.close().await;
    })
    .await;
}
