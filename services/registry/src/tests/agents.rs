//! An agent's life: who may take which step, what dies with it, and that a name never brings anything back.

use legate_db::testing::on_each;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, AgentRef, AgentState, AsOf, Kind, as_of};

use super::scene::*;
use crate::domain::kind::Key;
use crate::domain::lifecycle::Transition;
use crate::flow::list::{self, List};
use crate::flow::transition::Step;
use crate::flow::{create_agent, read, update};
use crate::schema::Migrator;

fn state(agent: &Agent) -> AgentState {
    agent.status.as_ref().unwrap().state()
}

#[tokio::test]
async fn a_suspension_is_for_ever_for_what_was_issued() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        scene.clock.advance(std::time::Duration::from_secs(60));
        let (stopped, revision) = scene.suspend("invoice-bot").await;
        assert_eq!((state(&stopped), revision), (AgentState::Suspended, 2));
        let cutoff = stopped.status.as_ref().unwrap().authorization_cutoff.unwrap();
        assert_eq!(cutoff.seconds, NOW + 60);
        scene.clock.advance(std::time::Duration::from_secs(60));
        let (back, _) = scene.step(OTHER, "invoice-bot", Step::Transition(Transition::Resume)).await.unwrap();
        let status = back.status.unwrap();
        assert_eq!((status.state(), status.lifecycle_version), (AgentState::Active, 3));
        assert_eq!(status.authorization_cutoff, Some(cutoff), "what died stays dead");
        assert_eq!((status.state_actor.as_str(), status.state_reason.as_str()), (OTHER, "because"));
        let (revoked, _) = scene.step(OTHER, "invoice-bot", Step::RevokeCredentials).await.unwrap();
        let status = revoked.status.unwrap();
        assert_eq!((status.state(), status.lifecycle_version), (AgentState::Active, 4));
        assert_eq!(status.authorization_cutoff.unwrap().seconds, NOW + 120);
        assert_eq!(scene.kinds().await[7..], ["agent.suspended", "agent.resumed", "agent.credentials_revoked"]);
        let twice = scene.suspend("invoice-bot").await;
        let fault = scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Suspend)).await.unwrap_err();
        assert_eq!((reason(&fault), twice.1), ("AGENT_STATE_WRONG", 5));
    })
    .await;
}

#[tokio::test]
async fn nobody_approves_what_he_declared() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([class("careful", true), agent("payer-bot", "careful")]);
        scene.apply(all).await.unwrap();
        assert_eq!(state(&scene.agent("payer-bot").await), AgentState::PendingApproval);
        let approve = Step::Transition(Transition::Approve);
        for early in [Transition::Activate, Transition::Resume, Transition::Suspend] {
            let fault = scene.step(OTHER, "payer-bot", Step::Transition(early)).await.unwrap_err();
            assert_eq!(reason(&fault), "AGENT_STATE_WRONG");
        }
        assert_eq!(reason(&scene.step(OPERATOR, "payer-bot", approve).await.unwrap_err()), "SELF_APPROVAL");
        // Whoever changes it while it waits does not approve it either.
        let mut spec = agent_spec("careful");
        spec.purpose = "pays everything".into();
        scene.apply_as(OTHER, vec![agent_with("payer-bot", spec)], "", 0).await.unwrap();
        assert_eq!(reason(&scene.step(OTHER, "payer-bot", approve).await.unwrap_err()), "SELF_APPROVAL");
        let third = "spiffe://example.org/legate/operator/third";
        assert_eq!(state(&scene.step(third, "payer-bot", approve).await.unwrap().0), AgentState::Staged);
        let (active, _) = scene.step(OPERATOR, "payer-bot", Step::Transition(Transition::Activate)).await.unwrap();
        assert_eq!(state(&active), AgentState::Active);
    })
    .await;
}

/// An agent of a class that asks for an approver, as `actor` would have it.
async fn declare_payer(scene: &Scene, actor: &str, purpose: &str) {
    let mut spec = agent_spec("careful");
    spec.purpose = purpose.into();
    scene.apply_as(actor, vec![agent_with("payer-bot", spec)], "", 0).await.unwrap();
}

#[tokio::test]
async fn nobody_approves_what_he_changed_before_others_changed_it_too() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.push(class("careful", true));
        scene.apply(all).await.unwrap();
        let [third, fourth] = ["third", "fourth"].map(|who| format!("spiffe://example.org/legate/operator/{who}"));
        declare_payer(&scene, OPERATOR, "pays small invoices").await;
        declare_payer(&scene, OTHER, "pays everything").await;
        declare_payer(&scene, &third, "pays everything, daily").await;
        let approve = Step::Transition(Transition::Approve);
        for by in [OPERATOR, OTHER, &third] {
            assert_eq!(reason(&scene.step(by, "payer-bot", approve).await.unwrap_err()), "SELF_APPROVAL", "{by}");
        }
        scene.step(&fourth, "payer-bot", approve).await.unwrap();

        // What was approved is what is switched on: a change needs an approver again.
        declare_payer(&scene, OPERATOR, "pays whoever asks").await;
        let status = scene.agent("payer-bot").await.status.unwrap();
        assert_eq!((status.state(), status.lifecycle_version), (AgentState::PendingApproval, 3));
        assert_eq!(status.state_actor, OPERATOR);
        let activate = Step::Transition(Transition::Activate);
        let early = scene.step(OPERATOR, "payer-bot", activate).await.unwrap_err();
        assert_eq!(reason(&early), "AGENT_STATE_WRONG");
        // To have approved it before is no change of it.
        scene.step(&fourth, "payer-bot", approve).await.unwrap();
        declare_payer(&scene, OPERATOR, "pays whoever asks").await;
        let active = scene.step(OPERATOR, "payer-bot", activate).await.unwrap().0;
        assert_eq!(state(&active), AgentState::Active);
    })
    .await;
}

#[tokio::test]
async fn an_update_of_what_was_approved_needs_an_approver_again() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut spec = agent_spec("careful");
        spec.expire_time = Some(prost_types::Timestamp { seconds: NOW + 3_600, nanos: 0 });
        let mut all = payments();
        all.extend([class("careful", true), agent_with("payer-bot", spec)]);
        scene.apply(all).await.unwrap();
        scene.step(OTHER, "payer-bot", Step::Transition(Transition::Approve)).await.unwrap();
        // It would never end.
        let wanted = agent("payer-bot", "careful");
        let call = scene.call(OPERATOR, "", &wanted, "");
        update::update(&scene.desk, call, wanted, vec!["spec.expire_time".into()]).await.unwrap();
        let bot = scene.agent("payer-bot").await;
        assert_eq!((state(&bot), bot.spec.unwrap().expire_time), (AgentState::PendingApproval, None));
    })
    .await;
}

#[tokio::test]
async fn no_way_round_an_approver_leads_by_another_class() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.push(class("careful", true));
        scene.apply(all).await.unwrap();
        let wanted = agent("invoice-bot", "careful");
        for stop in [None, Some(Transition::Suspend), Some(Transition::Quarantine)] {
            if let Some(step) = stop {
                scene.step(OPERATOR, "invoice-bot", Step::Transition(step)).await.unwrap();
            }
            let fault = scene.apply(vec![wanted.clone()]).await.unwrap_err();
            assert_eq!(reason(&fault), "AGENT_STATE_WRONG", "{fault}");
            let call = scene.call(OPERATOR, "", &wanted, "");
            let fault = update::update(&scene.desk, call, wanted.clone(), vec!["spec.agent_class".into()]).await;
            assert_eq!(reason(&fault.unwrap_err()), "AGENT_STATE_WRONG");
        }
        // One that waits for an approver anyhow goes where it likes, and still waits.
        scene.apply(vec![class("strict", true), agent("payer-bot", "careful")]).await.unwrap();
        scene.apply(vec![agent("payer-bot", "strict")]).await.unwrap();
        assert_eq!(state(&scene.agent("payer-bot").await), AgentState::PendingApproval);
        // One that is in the class already is changed as ever.
        scene.step(OTHER, "payer-bot", Step::Transition(Transition::Approve)).await.unwrap();
        scene.step(OTHER, "payer-bot", Step::Transition(Transition::Activate)).await.unwrap();
        let mut spec = agent_spec("strict");
        spec.model = "m-2".into();
        scene.apply(vec![agent_with("payer-bot", spec)]).await.unwrap();
        assert_eq!(state(&scene.agent("payer-bot").await), AgentState::Active);
    })
    .await;
}

#[tokio::test]
async fn a_name_that_is_used_again_brings_nothing_along() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([agent("ledger-bot", "worker"), binding("both", "reader", &["invoice-bot", "ledger-bot"])]);
        scene.apply(all).await.unwrap();
        let first = scene.agent("invoice-bot").await.metadata.unwrap().id;
        let retired = scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Retire)).await.unwrap().0;
        assert_eq!(state(&retired), AgentState::Retired);
        // Its bindings are gone with it, or live on for others only.
        let gone =
            read::object(&scene.desk, &by(OPERATOR, ""), Key::new(Kind::RoleBinding, "payments", "bot-reads"), None)
                .await;
        assert_eq!(reason(&gone.unwrap_err()), "OBJECT_NOT_FOUND");
        let both = read::object(&scene.desk, &by(OPERATOR, ""), Key::new(Kind::RoleBinding, "payments", "both"), None)
            .await
            .unwrap()
            .0;
        let Some(Object::RoleBinding(both)) = both.object else { panic!("no binding") };
        assert_eq!(both.spec.unwrap().agents, ["ledger-bot"]);
        // The tombstone is found by its id, and by no name.
        let by_id = AgentRef { id: first.clone(), ..AgentRef::default() };
        assert_eq!(
            state(&read::agent(&scene.desk, &by(OPERATOR, ""), Some(by_id.clone()), None).await.unwrap().0),
            AgentState::Retired
        );
        let missing =
            read::agent(&scene.desk, &by(OPERATOR, ""), Some(by_name("invoice-bot")), None).await.unwrap_err();
        assert_eq!(reason(&missing), "AGENT_NOT_FOUND");
        for step in [Transition::Resume, Transition::Release, Transition::Retire] {
            let again = scene.step_with(OPERATOR, by_id.clone(), "", "", Step::Transition(step)).await;
            assert_eq!(reason(&again.unwrap_err()), "AGENT_STATE_WRONG", "retired is final");
        }
        let Some(Object::Agent(new)) = agent("invoice-bot", "worker").object else { panic!("no agent") };
        let call = scene.call(OPERATOR, "", &new, "");
        let made = create_agent::create_agent(&scene.desk, call.clone(), new.clone()).await.unwrap().agent.unwrap();
        assert_ne!(made.metadata.as_ref().unwrap().id, first);
        assert_eq!(made.status.unwrap().lifecycle_version, 1);
        let twice = create_agent::create_agent(&scene.desk, call, new).await.unwrap_err();
        assert_eq!(reason(&twice), "AGENT_EXISTS");
    })
    .await;
}

#[tokio::test]
async fn a_step_needs_a_reason_an_agent_and_what_was_read() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let suspend = Step::Transition(Transition::Suspend);
        let etag = scene.agent("invoice-bot").await.metadata.unwrap().etag;
        let stale = scene.step_with(OPERATOR, by_name("invoice-bot"), "0-0", "", suspend).await;
        assert_eq!(reason(&stale.unwrap_err()), "ETAG_MISMATCH");
        for nobody in [AgentRef::default(), AgentRef { id: "agt_x".into(), ..AgentRef::default() }] {
            let fault = scene.step_with(OPERATOR, nobody, "", "", suspend).await.unwrap_err();
            assert_eq!(reason(&fault), "INVALID_ARGUMENT");
        }
        assert_eq!(reason(&scene.step(OPERATOR, "nobody", suspend).await.unwrap_err()), "AGENT_NOT_FOUND");
        // A repetition with its request id is no second suspension.
        let which = || by_name("invoice-bot");
        let first = scene.step_with(OPERATOR, which(), &etag, "s-1", suspend).await.unwrap();
        let again = scene.step_with(OPERATOR, which(), &etag, "s-1", suspend).await.unwrap();
        assert_eq!(first, again);
        assert_eq!(scene.kinds().await.iter().filter(|k| *k == "agent.suspended").count(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_agent_is_told_with_the_version_of_its_class_that_governs_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        scene.apply(vec![class("worker", true)]).await.unwrap();
        let versions = |agent: &Agent| {
            let status = agent.status.as_ref().unwrap();
            (status.class_version_in_force, status.agent_class_version)
        };
        let read = async |as_of: Option<AsOf>| {
            let which = Some(by_name("invoice-bot"));
            let one = read::agent(&scene.desk, &by(OPERATOR, ""), which, as_of).await.unwrap().0;
            let ask = List { by: by(OPERATOR, ""), kind: Kind::Agent, as_of, ..List::default() };
            let Some(Object::Agent(listed)) = list::list(&scene.desk, ask).await.unwrap().objects.remove(0).object
            else {
                panic!("no agent")
            };
            assert_eq!(listed, one);
            versions(&one)
        };
        assert_eq!(read(None).await, (2, 1), "in force, and when it was written last");
        let at = |revision| Some(AsOf { at: Some(as_of::At::Revision(revision)) });
        assert_eq!((read(at(1)).await, read(at(2)).await), ((1, 1), (2, 1)));
        // It is no part of the agent: to send back what was read changes nothing, and a step does not keep it.
        let same = of(Object::Agent(scene.agent("invoice-bot").await));
        assert_eq!(scene.apply(vec![same]).await.unwrap().revision, 2);
        assert_eq!(versions(&scene.suspend("invoice-bot").await.0), (0, 1));
        assert_eq!(read(None).await, (2, 1));
        scene.apply(vec![class("worker", false), agent("invoice-bot", "worker")]).await.unwrap();
        assert_eq!(read(None).await.0, 3);
    })
    .await;
}
