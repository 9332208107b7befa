//! What nodes are told: their state at once, its changes, and who may no longer be served.

use std::time::Duration;

use futures_util::StreamExt as _;
use legate_clock::{Clock as _, Timestamp};
use legate_db::testing::on_each;
use legate_rpc::Told;
use legate_wire::credential as wire;
use legate_wire::registry::{AgentState, RevocationReason};
use tonic::Status;

use super::registry::{self, NAMESPACE};
use super::scene::{START, Scene, reason};
use super::workload::{end, issue, node, process, ready};
use crate::flow::Call;
use crate::flow::watch_node::{News, watch};
use crate::schema::Migrator;

const PATIENCE: Duration = Duration::from_secs(20);

/// A stream, read until something is so.
struct Watching(News);

impl Watching {
    fn of(scene: &Scene, call: &Call) -> Self {
        Self(watch(&scene.desk, call.clone()).unwrap())
    }

    async fn next(&mut self) -> Result<wire::WatchNodeResponse, Status> {
        tokio::time::timeout(PATIENCE, self.0.next()).await.unwrap().unwrap()
    }

    /// The first state of which that is so.
    async fn until(&mut self, is_so: impl Fn(&wire::NodeState) -> bool) -> wire::NodeState {
        let look = async {
            loop {
                if let Some(state) = self.next().await.unwrap().state.filter(|state| is_so(state)) {
                    return state;
                }
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap()
    }

    /// Why it ends.
    async fn end(&mut self) -> String {
        let look = async {
            loop {
                if let Err(status) = self.next().await {
                    return Told::from_status(&status).reason;
                }
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap()
    }
}

fn usable(state: &wire::NodeState) -> Vec<(String, bool, u64)> {
    state.entitlements.iter().map(|e| (e.policy.clone(), e.is_usable, e.lifecycle_version)).collect()
}

#[tokio::test]
async fn a_node_hears_whom_it_may_vouch_for_and_when_that_changes() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let (own, foreign) = (node(&scene, NAMESPACE, "vm-1").await, node(&scene, "platform", "vm-1").await);
        let mut watching = Watching::of(&scene, &scene.holder(&own));
        let mut stranger = Watching::of(&scene, &scene.holder(&foreign));
        let first = watching.next().await.unwrap();
        assert_eq!(first.revision, scene.desk.view.current().revision());
        assert!(Timestamp::try_from(first.as_of_time.unwrap()).unwrap() <= scene.clock.now());
        let state = first.state.unwrap();
        let both = |a, b| vec![("bot-1-on-vm".to_owned(), a, 1), ("bot-2-on-vm".to_owned(), b, 1)];
        assert_eq!(usable(&state), both(true, true));
        let one = &state.entitlements[0];
        assert_eq!((one.namespace.as_str(), one.agent_id.as_str()), (NAMESPACE, registry::agent_id(1).as_str()));
        assert_eq!(one.spiffe_id, format!("spiffe://example.org/ns/payments/agent/{}", one.agent_id));
        assert_eq!((one.selectors[0].value.as_str(), one.serve_unheard), ("1001", None));
        let bundle = state.bundle.unwrap();
        assert_eq!((bundle.trust_domain.as_str(), bundle.x509_authorities.len()), ("example.org", 1));
        assert!(bundle.jwt_authorities.contains(r#""kid""#) && bundle.tainted_authorities.is_empty());
        // Nothing changed: a heartbeat without a state.
        assert_eq!(watching.next().await.unwrap().state, None);
        let nothing = stranger.next().await.unwrap().state.unwrap();
        assert!(nothing.entitlements.is_empty(), "who is named nowhere is told of nobody: {nothing:?}");

        scene.suspend(1, 2).await;
        let state = watching.until(|state| !state.entitlements[0].is_usable).await;
        assert_eq!(usable(&state)[0], ("bot-1-on-vm".into(), false, 2));
        scene.declare(registry::agent(1, AgentState::Active, 3, None, None)).await;
        watching.until(|state| state.entitlements[0].is_usable && state.entitlements[0].lifecycle_version == 3).await;
        // A policy that lists attestation no longer lets nobody have anything by it.
        scene.declare(registry::class(300, 3_600)).await;
        watching.until(|state| state.entitlements.iter().all(|e| !e.is_usable)).await;
        let named = registry::attestation("bot-1-on-vm", 1, "1001", &["platform/vm-1"], scene.clock.now());
        scene.declare(named).await;
        let state = watching.until(|state| state.entitlements.len() == 1).await;
        assert_eq!(usable(&state)[0].0, "bot-2-on-vm");
        stranger.until(|state| state.entitlements.len() == 1).await;
    })
    .await;
}

#[tokio::test]
async fn a_node_hears_which_of_its_instances_fell() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let other = scene.holder(&node(&scene, NAMESPACE, "vm-2").await);
        let mut rows = Vec::new();
        for (n, id) in [(1, "a"), (1, "b"), (2, "c")] {
            rows.push(issue(&scene, &call, &process(n, id)).await.unwrap());
        }
        let of_other = issue(&scene, &other, &process(1, "d")).await.unwrap();
        let mut watching = Watching::of(&scene, &call);
        assert!(watching.next().await.unwrap().state.unwrap().ended_instances.is_empty());
        // The registry tells of a revocation, and the node hears of its own alone.
        for row in [&rows[0], &of_other] {
            scene.revoke(&row.id, RevocationReason::Superseded).await.unwrap();
            scene.declare(registry::revoked(row)).await;
        }
        let state = watching.until(|state| !state.ended_instances.is_empty()).await;
        assert_eq!(state.ended_instances, std::slice::from_ref(&rows[0].instance_id));
        scene.pass(Duration::from_secs(5)).await;
        scene.suspend(2, 2).await;
        let state = watching.until(|state| state.ended_instances.len() == 2).await;
        assert!(state.ended_instances.contains(&rows[2].instance_id));
        end(&scene, &call, &rows[1].instance_id).await.unwrap();
        scene.declare(registry::revoked(&rows[1])).await;
        watching.until(|state| state.ended_instances.len() == 3).await;
        // Nobody has to be told of what has ended by itself.
        scene.pass(Duration::from_secs(3_600)).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let mut watching = Watching::of(&scene, &call);
        assert!(watching.next().await.unwrap().state.unwrap().ended_instances.is_empty());
    })
    .await;
}

#[tokio::test]
async fn a_stream_ends_with_its_node() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let rows = [node(&scene, NAMESPACE, "vm-1").await, node(&scene, NAMESPACE, "vm-2").await];
        let calls = rows.each_ref().map(|row| scene.holder(row));
        let mut gone = Watching::of(&scene, &calls[0]);
        gone.next().await.unwrap();
        scene.take_back(registry::node(NAMESPACE, "vm-1", Timestamp::from_secs(START))).await;
        assert_eq!(gone.end().await, "CALLER_UNKNOWN");
        let mut revoked = Watching::of(&scene, &calls[1]);
        revoked.next().await.unwrap();
        scene.declare(registry::revoked(&rows[1])).await;
        assert_eq!(revoked.end().await, "CALLER_REVOKED");
        // It is not told by a view that may be old.
        let third = scene.holder(&node(&scene, "platform", "vm-1").await);
        let mut stale = Watching::of(&scene, &third);
        stale.next().await.unwrap();
        scene.registry.answers.store(false, std::sync::atomic::Ordering::SeqCst);
        scene.clock.advance(Duration::from_secs(6));
        assert_eq!(stale.end().await, "VIEW_STALE");
        // Nor by a certificate that has ended.
        scene.registry.answers.store(true, std::sync::atomic::Ordering::SeqCst);
        scene.pass(Duration::from_secs(3_600)).await;
        assert_eq!(Watching::of(&scene, &third).end().await, "UNAUTHENTICATED");
        // And the service stops.
        let fourth = scene.holder(&node(&scene, "platform", "vm-1").await);
        let stopping = tokio_util::sync::CancellationToken::new();
        scene.desk.stopping.set(stopping.clone()).unwrap();
        let mut stopped = Watching::of(&scene, &fourth);
        stopped.next().await.unwrap();
        stopping.cancel();
        assert_eq!(stopped.end().await, "NODE_STREAM_STOPPING");
    })
    .await;
}

#[tokio::test]
async fn a_node_has_few_streams() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let mut held: Vec<_> = (0..4).map(|_| Watching::of(&scene, &call)).collect();
        for one in &mut held {
            one.next().await.unwrap();
        }
        assert_eq!(reason(watch(&scene.desk, call.clone()).map(drop)), "OVERLOADED");
        drop(held);
        let free = async {
            while watch(&scene.desk, call.clone()).is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, free).await.unwrap();
    })
    .await;
}
