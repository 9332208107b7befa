//! An agent changed and stopped, or set going, in one write.

use legate_db::testing::on_each;
use legate_ids::AgentId;
use legate_outbox::Standard;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Agent, AgentState, UpdateDeclarationResponse};

use super::scene::*;
use crate::domain::lifecycle::Transition;
use crate::flow::amend::{self, Change, Whose};
use crate::flow::create_agent::{self, Beginning};
use crate::flow::transition::Step;
use crate::schema::Migrator;

/// What is asked: another purpose, or none, and whether it is to be ACTIVE.
#[derive(Clone, Copy, Default)]
struct Ask<'a> {
    actor: &'a str,
    namespace: &'a str,
    etag: &'a str,
    request_id: &'a str,
    purpose: Option<&'static str>,
    active: Option<bool>,
}

fn ask<'a>() -> Ask<'a> {
    Ask { actor: OPERATOR, namespace: "payments", ..Ask::default() }
}

/// Makes the change of an agent by its name.
pub(super) async fn amend(
    scene: &Scene,
    name: &str,
    request_id: &str,
    active: bool,
) -> Result<UpdateDeclarationResponse, Fault> {
    let id = scene.agent(name).await.metadata.unwrap().id;
    let purpose = Some(if active { "goes" } else { "stands" });
    made(scene, &id, Ask { actor: OTHER, request_id, purpose, active: Some(active), ..ask() }).await
}

async fn made(scene: &Scene, id: &str, ask: Ask<'_>) -> Result<UpdateDeclarationResponse, Fault> {
    let call = scene.call(ask.actor, "because", &vec![u8::from(ask.active == Some(true))], ask.request_id);
    let (namespace, etag) = (ask.namespace.to_owned(), ask.etag.to_owned());
    let whose = Whose { namespace, id: AgentId::parse(id).unwrap(), etag };
    let (purpose, active) = (ask.purpose, ask.active);
    let change = move |agent: &Agent| {
        let mut agent = agent.clone();
        let paths = purpose.map(|purpose| {
            agent.spec.get_or_insert_default().purpose = purpose.to_owned();
            "spec.purpose".to_owned()
        });
        Ok(Change { agent, paths: paths.into_iter().collect(), active })
    };
    amend::amend(&scene.desk, call, whose, Standard::Ordinary, change).await
}

fn of_answer(answer: UpdateDeclarationResponse) -> Agent {
    match answer.declaration.and_then(|declaration| declaration.object) {
        Some(Object::Agent(agent)) => agent,
        other => panic!("{other:?}"),
    }
}

fn state(agent: &Agent) -> AgentState {
    agent.status.clone().unwrap_or_default().state()
}

#[tokio::test]
async fn a_change_and_a_stop_are_one_write_and_one_event() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let before = scene.agent("invoice-bot").await;
        let id = before.metadata.clone().unwrap().id;
        let events = scene.kinds().await.len();

        let stop = Ask { purpose: Some("reads less"), active: Some(false), ..ask() };
        let answer = made(&scene, &id, stop).await.unwrap();
        let agent = of_answer(answer.clone());
        let mut read = scene.agent("invoice-bot").await;
        // Told to whoever reads it, and no part of it.
        read.status.as_mut().unwrap().class_version_in_force = 0;
        assert_eq!(agent, read);
        assert_eq!(
            (state(&agent), agent.spec.clone().unwrap().purpose.as_str()),
            (AgentState::Suspended, "reads less")
        );
        let (status, was) = (agent.status.clone().unwrap(), before.status.unwrap());
        assert_eq!(status.lifecycle_version, was.lifecycle_version + 1);
        assert!(status.authorization_cutoff.is_some() && status.state_reason == "because");
        assert_eq!(agent.metadata.unwrap().version, before.metadata.unwrap().version + 1);
        assert_eq!(scene.kinds().await[events..], ["agent.suspended"]);
        let told = scene.events().await.pop().unwrap();
        assert!(told.details.keys().any(|field| field.contains("purpose")), "{:?}", told.details);

        // What is so already is no write.
        let same = made(&scene, &id, stop).await.unwrap();
        assert_eq!(same.revision, answer.revision);
        let up = of_answer(made(&scene, &id, Ask { active: Some(true), ..ask() }).await.unwrap());
        assert_eq!((state(&up), scene.kinds().await.len()), (AgentState::Active, events + 2));
        let told = of_answer(made(&scene, &id, Ask { purpose: Some("reads"), ..ask() }).await.unwrap());
        assert_eq!((state(&told), scene.kinds().await.pop().unwrap().as_str()), (AgentState::Active, "agent.updated"));
    })
    .await;
}

#[tokio::test]
async fn nobody_comes_past_an_approver_a_quarantine_or_the_end() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([class("guarded", true), agent("waits", "guarded")]);
        scene.apply(all).await.unwrap();
        let id = scene.agent("waits").await.metadata.unwrap().id;
        let up = Ask { active: Some(true), ..ask() };
        let refused = async |ask| reason(&made(&scene, &id, ask).await.unwrap_err());
        assert_eq!(refused(up).await, "AGENT_STATE_WRONG", "it waits");
        let down = made(&scene, &id, Ask { active: Some(false), ..ask() }).await.unwrap();
        assert_eq!(state(&of_answer(down)), AgentState::PendingApproval, "it is stopped already");

        // Approved is what was looked at: a change on the way leads back, and nothing of the write stays.
        scene.step(OTHER, "waits", Step::Transition(Transition::Approve)).await.unwrap();
        assert_eq!(refused(Ask { purpose: Some("more"), ..up }).await, "AGENT_STATE_WRONG");
        assert_eq!(state(&scene.agent("waits").await), AgentState::Staged);
        assert_eq!(state(&of_answer(made(&scene, &id, up).await.unwrap())), AgentState::Active);

        scene.step(OPERATOR, "waits", Step::Transition(Transition::Quarantine)).await.unwrap();
        assert_eq!(refused(up).await, "AGENT_STATE_WRONG");
        assert_eq!(refused(Ask { etag: "0-0", ..up }).await, "ETAG_MISMATCH");
        assert_eq!(refused(Ask { namespace: "travel", ..up }).await, "AGENT_NOT_FOUND");
        let stranger = "spiffe://example.org/legate/operator/nobody";
        assert_eq!(refused(Ask { actor: stranger, ..up }).await, "AGENT_NOT_FOUND");
        scene.step(OPERATOR, "waits", Step::Transition(Transition::Retire)).await.unwrap();
        assert_eq!(refused(up).await, "AGENT_NOT_FOUND");
    })
    .await;
}

#[tokio::test]
async fn an_agent_can_begin_stopped() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.push(class("guarded", true));
        scene.apply(all).await.unwrap();
        for (name, class, wanted) in
            [("a", "worker", AgentState::Suspended), ("b", "guarded", AgentState::PendingApproval)]
        {
            let Some(Object::Agent(new)) = agent(name, class).object else { panic!("no agent") };
            let call = scene.call(OPERATOR, "", &new, "");
            let made = create_agent::begin(&scene.desk, call, new, Beginning::Stopped).await.unwrap().agent.unwrap();
            assert_eq!((state(&made), made.metadata.unwrap().version), (wanted, 1), "{name}");
        }
    })
    .await;
}
