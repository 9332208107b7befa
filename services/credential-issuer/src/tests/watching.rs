//! What nodes are told: their state at once, its changes, and who may no longer be served.

use std::time::Duration;

use futures_util::StreamExt as _;
use legate_clock::{Clock as _, Timestamp};
use legate_db::TxError;
use legate_db::testing::on_each;
use legate_rpc::{Fault, Told};
use legate_wire::credential as wire;
use legate_wire::registry::cut_off::Level;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{AgentClass, AgentState, AttestationSelectorType, RevocationReason};
use sea_orm::{ActiveModelTrait as _, EntityTrait as _};
use tonic::Status;

use super::registry::{self, NAMESPACE, OWNER};
use super::scene::{START, Scene, reason};
use super::workload::{end, issue, node, process, ready};
use crate::flow::Call;
use crate::flow::watch_node::{News, watch};
use crate::schema::Migrator;
use crate::store::instance;

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
        // What was cut off is told apart from what was revoked: only the process of that becomes another instance.
        assert!(state.ended_instances.contains(&rows[2].instance_id));
        assert_eq!(state.cut_off_instances, std::slice::from_ref(&rows[2].instance_id));
        // What is cut off and revoked is revoked; and what the node ended itself it is not told.
        end(&scene, &call, &rows[1].instance_id).await.unwrap();
        scene.declare(registry::revoked(&rows[1])).await;
        scene.revoke(&rows[2].id, RevocationReason::KeyCompromise).await.unwrap();
        scene.declare(registry::revoked(&rows[2])).await;
        let state = watching.until(|state| state.cut_off_instances.is_empty()).await;
        let mut both = vec![rows[0].instance_id.clone(), rows[2].instance_id.clone()];
        both.sort();
        assert_eq!(state.ended_instances, both);
        // Nobody has to be told of what has ended by itself.
        scene.pass(Duration::from_secs(3_600)).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let mut watching = Watching::of(&scene, &call);
        assert!(watching.next().await.unwrap().state.unwrap().ended_instances.is_empty());
    })
    .await;
}

/// Every stop that leaves the agent's own lifecycle version as it is, or lets the agent work on.
#[tokio::test]
async fn whatever_cuts_an_instance_off_is_told_as_that() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let mut watching = Watching::of(&scene, &call);
        let mut before = Vec::new();
        let levels = [
            (NAMESPACE, Level::AgentClass("bots".into())),
            (NAMESPACE, Level::WholeNamespace(true)),
            (NAMESPACE, Level::Owner(OWNER.into())),
            ("", Level::Owner(OWNER.into())),
        ];
        for (n, (namespace, level)) in levels.into_iter().enumerate() {
            let row = issue(&scene, &call, &process(1, &format!("cut-{n}"))).await.unwrap();
            scene.pass(Duration::from_secs(5)).await;
            scene.declare(registry::cut_off(namespace, level.clone(), scene.clock.now())).await;
            before.push(row.instance_id);
            before.sort();
            let state = watching.until(|state| state.cut_off_instances == before).await;
            assert_eq!(state.ended_instances, before, "{level:?}");
            assert!(state.entitlements.iter().all(|by| by.is_usable), "{level:?}");
            scene.pass(Duration::from_secs(5)).await;
        }
        let stopped = |of_class, suspended, cutoff| match registry::standing(of_class, suspended, cutoff) {
            Object::AgentClass(AgentClass { status, .. }) => {
                let Object::AgentClass(class) = registry::class_under((300, 3_600), "strict") else { unreachable!() };
                Object::AgentClass(AgentClass { status, ..class })
            }
            namespace => namespace,
        };
        for (n, of_class) in [true, false].into_iter().enumerate() {
            let row = issue(&scene, &call, &process(1, &format!("stop-{n}"))).await.unwrap();
            scene.pass(Duration::from_secs(5)).await;
            let cutoff = scene.clock.now();
            scene.declare(stopped(of_class, true, cutoff)).await;
            before.push(row.instance_id);
            before.sort();
            watching.until(|state| state.cut_off_instances == before && !state.entitlements[0].is_usable).await;
            scene.declare(stopped(of_class, false, cutoff)).await;
            watching.until(|state| state.cut_off_instances == before && state.entitlements[0].is_usable).await;
            scene.pass(Duration::from_secs(5)).await;
        }
    })
    .await;
}

/// However many processes come and go, what fell of those that stay is told.
#[tokio::test]
async fn what_a_node_ended_itself_hides_nothing_and_a_broker_that_ended_is_told() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        ready(&scene).await;
        let call = scene.holder(&node(&scene, NAMESPACE, "vm-1").await);
        let stays = issue(&scene, &call, &process(1, "stays")).await.unwrap();
        let ended = issue(&scene, &call, &process(2, "ended")).await.unwrap();
        // Rows such as a day of processes leaves, all newer and none over yet.
        let (id, ends) = (ended.instance_id.clone(), ended.not_after);
        end(&scene, &call, &id).await.unwrap();
        scene
            .desk
            .db
            .tx("test", move |tx| {
                let id = id.clone();
                Box::pin(async move {
                    let row = instance::by_id(tx, &id).await?.unwrap();
                    assert!(row.ended_by_node);
                    for hundreds in 0..105 {
                        let more = (0..100).map(|n| {
                            let id = format!("inst_zz{hundreds:03}{n:02}");
                            let row = instance::Model { id, ends_at: ends, ..row.clone() };
                            instance::ActiveModel::from(row).reset_all()
                        });
                        instance::Entity::insert_many(more).exec_without_returning(tx).await?;
                    }
                    Ok::<_, TxError<Fault>>(())
                })
            })
            .await
            .unwrap();
        let mut watching = Watching::of(&scene, &call);
        assert!(watching.next().await.unwrap().state.unwrap().ended_instances.is_empty());
        scene.revoke(&stays.id, RevocationReason::KeyCompromise).await.unwrap();
        scene.declare(registry::revoked(&stays)).await;
        let state = watching.until(|state| !state.ended_instances.is_empty()).await;
        assert_eq!((state.ended_instances, state.cut_off_instances), (vec![stays.instance_id], vec![]));
        // Who holds the certificate of a broker may still connect by it, whatever became of the process that had it.
        let asked = [(AttestationSelectorType::UnixUid, "7"), (AttestationSelectorType::BrokerAgent, "bot-2")];
        scene.declare(registry::attestation_by("brokered", 1, &asked, scene.clock.now())).await;
        watching.until(|state| state.ended_instances.len() > 10_500).await;
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
