//! What came in many steps lies in few pieces, and is found as if it had come at once.

use super::*;
use crate::store::posting::segment;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_in_many_steps_lies_in_few_pieces_and_is_found() {
    on_each::<Migrator>(async |fixture: Fixture| {
        let dir = tempfile::tempdir().unwrap();
        let (log, tasks) = open(dir.path()).await;
        let index = index(&fixture);
        let following = tokio::spawn(index.clone().follow(log.clone()));
        for step in 0..300 {
            tell(&log, 1 + step * 2, 2).await;
            until(&index, log.size()).await;
        }
        is_exact(&index, &log).await;
        let mut pieces: BTreeMap<i16, usize> = BTreeMap::new();
        for piece in rows!(index, segment) {
            *pieces.entry(piece.field).or_default() += 1;
        }
        // 300 is once 256, twice 16 and twelve; what is put together after the last step is as it may be.
        assert!(pieces.values().all(|count| *count <= 1 + 15 + 16), "{pieces:?}");
        let events = every(&log);
        for question in [
            Question { trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".into(), agent_id: "agt_2".into(), ..base() },
            Question { decision_id: "dec_14".into(), namespace: "payments".into(), ..base() },
            Question { filter: filter("decision_id = dec_14 AND NOT outcome = denied"), ..base() },
            Question { filter: filter("decision_id = dec_14 AND decision_id = dec_21"), ..base() },
            Question { via_agent_id: agent(2), subject: "user:ada".into(), ..base() },
        ] {
            let hits = (0u64..).zip(&events).filter(|(_, e)| answers(&question, e)).map(|(leaf, _)| leaf);
            let wanted: Vec<u64> = hits.collect();
            for size in [1_000, 7] {
                let asked = (&index, log.vault());
                let found = pages(asked, &question, &Reach::Everywhere, size, Order::OldestFirst).await;
                assert_eq!(found, wanted, "{question:?}");
            }
        }
        tasks.close().await;
        following.await.unwrap();
        index.close().await;
    })
    .await;
}
