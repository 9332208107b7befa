//! For every named transaction: the process dies before the commit, or after it with the answer lost.

use legate_db::Fault;
use legate_db::testing::on_each;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{GetDeclarationResponse, RevokeDeclarationRequest, SuspendDeclarationRequest};

use super::publish::revocation;
use super::scene::*;
use crate::domain::kind::Key;
use crate::domain::lifecycle::Transition;
use crate::domain::standing::Turn;
use crate::flow::transition::Step;
use crate::flow::{create_agent, publish, revoke, standing, sweep};
use crate::schema::Migrator;

pub(super) const BOTH: [Fault; 2] = [Fault::NotPersisted, Fault::PersistedButReplyLost];

/// How far the registry is, and how many events tell of it.
async fn place(scene: &Scene) -> (u64, usize) {
    scene.desk.tail.refresh(&scene.desk.db).await.unwrap();
    (scene.desk.tail.revision(), scene.events().await.len())
}

/// The first try fails as planned; the repetition of the same request is what counts, once.
pub(super) async fn survives<T: std::fmt::Debug>(
    scene: &Scene,
    name: &'static str,
    fault: Fault,
    events: usize,
    request: impl AsyncFn() -> Result<T, legate_rpc::Fault>,
) {
    let before = place(scene).await;
    scene.desk.db.faults().plan(name, fault);
    let first = request().await.unwrap_err();
    assert_eq!(reason(&first), "DATABASE_UNAVAILABLE", "{name}");
    let between = place(scene).await;
    let lost = (before.0 + 1, before.1 + events);
    assert_eq!(between, if fault == Fault::NotPersisted { before } else { lost }, "{name}");
    request().await.unwrap();
    assert_eq!(place(scene).await, lost, "{name}: exactly once");
    assert_eq!(scene.desk.db.faults().pending(), 0);
}

#[tokio::test]
async fn every_write_happens_once_or_not_at_all() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        for (n, fault) in BOTH.into_iter().enumerate() {
            let id = |what: &str| format!("{what}-{n}");
            let name = format!("bot-{n}");
            survives(&scene, "apply", fault, 2, async || {
                let all = vec![class(&id("class"), true), role(&id("role"), "invoice:read")];
                scene.apply_as(OPERATOR, all, &id("apply"), 0).await
            })
            .await;
            survives(&scene, "create_agent", fault, 1, async || {
                let Some(Object::Agent(agent)) = agent(&name, &id("class")).object else { panic!("no agent") };
                let call = scene.call(OPERATOR, "", &agent, &id("create"));
                create_agent::create_agent(&scene.desk, call, agent).await
            })
            .await;
            use Transition::{Activate, Approve, Quarantine, Release, Resume, Retire, Suspend};
            let steps: [(&'static str, Step); 8] = [
                ("approve_agent", Step::Transition(Approve)),
                ("activate_agent", Step::Transition(Activate)),
                ("revoke_agent_credentials", Step::RevokeCredentials),
                ("suspend_agent", Step::Transition(Suspend)),
                ("resume_agent", Step::Transition(Resume)),
                ("quarantine_agent", Step::Transition(Quarantine)),
                ("release_agent", Step::Transition(Release)),
                ("resume_agent", Step::Transition(Resume)),
            ];
            for (at, (tx, step)) in steps.into_iter().enumerate() {
                survives(&scene, tx, fault, 1, async || {
                    scene.step_with(OTHER, by_name(&name), "", &id(&format!("step-{at}")), step).await
                })
                .await;
            }
            for active in [false, true] {
                survives(&scene, "amend_agent", fault, 1, async || {
                    super::amend::amend(&scene, &name, &id(&format!("amend-{active}")), active).await
                })
                .await;
            }
            survives(&scene, "retire_agent", fault, 1, async || {
                scene.step_with(OTHER, by_name(&name), "", &id("retire"), Step::Transition(Retire)).await
            })
            .await;
            survives(&scene, "revoke_declaration", fault, 1, async || {
                let request = RevokeDeclarationRequest { name: id("role"), ..Default::default() };
                let call = scene.call(OPERATOR, "done", &request, &id("revoke"));
                let key = Key::new(legate_wire::registry::Kind::Role, "payments", &id("role"));
                revoke::revoke(&scene.desk, call, key, String::new()).await
            })
            .await;
            for (tx, turn) in [("suspend_declaration", Turn::Suspend), ("resume_declaration", Turn::Resume)] {
                survives(&scene, tx, fault, 1, async || {
                    let request = SuspendDeclarationRequest { name: id("class"), ..Default::default() };
                    let call = scene.call(OPERATOR, "odd", &request, &id(tx));
                    let key = Key::new(legate_wire::registry::Kind::AgentClass, "payments", &id("class"));
                    let answer = |object, revision| GetDeclarationResponse { declaration: Some(object), revision };
                    standing::turn(&scene.desk, call, key, String::new(), turn, answer).await
                })
                .await;
            }
            survives(&scene, "publish_revocation", fault, 1, async || {
                let mut ask = revocation();
                let credential = legate_ids::CredentialId::from_parts(n as u64, [9; 10]);
                ask.revocation.as_mut().unwrap().credential_id = credential.to_string();
                let call = scene.call(super::publish::ISSUER, "", &ask, "");
                publish::publish_revocation(&scene.desk, call, ask).await
            })
            .await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_sweep_that_fails_is_made_again() {
    on_each::<Migrator>(async |fixture| {
        for fault in BOTH {
            let scene = Scene::on(fixture.db.clone());
            let mut spec = agent_spec("worker");
            spec.expire_time = Some(prost_types::Timestamp { seconds: NOW + 10, nanos: 0 });
            let name = format!("{fault:?}").to_lowercase();
            let mut all = payments();
            all.push(agent_with(&name, spec));
            scene.apply(all).await.unwrap();
            scene.clock.advance(std::time::Duration::from_secs(11));
            scene.desk.db.faults().plan("sweep", fault);
            sweep::sweep(&scene.desk).await.unwrap_err();
            sweep::sweep(&scene.desk).await.unwrap();
            let expired = scene.events().await;
            let id = scene.agent(&name).await.metadata.unwrap().id;
            let expired = expired.iter().filter(|e| e.r#type == "agent.expired" && e.agent_id == id).count();
            assert_eq!(expired, 1);
        }
    })
    .await;
}

#[tokio::test]
async fn a_full_outbox_stops_writes_but_not_suspensions() {
    on_each::<Migrator>(async |fixture| {
        let mut scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let full = scene.events().await.len() as u64;
        let desk = std::sync::Arc::get_mut(&mut scene.desk).unwrap();
        desk.outbox = legate_outbox::Outbox::new(desk.own.clone(), scene.clock.clone(), full);
        let fault = scene.apply(vec![namespace("x")]).await.unwrap_err();
        assert_eq!(reason(&fault), "AUDIT_UNAVAILABLE");
        assert_eq!(scene.suspend("invoice-bot").await.1, 2);
    })
    .await;
}
