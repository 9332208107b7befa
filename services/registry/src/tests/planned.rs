//! A change over a stream: what is already so takes no place in its plan, what was planned on has to be there still, and what nobody touches
//! may be as it is.

use std::time::Duration;

use legate_db::testing::on_each;
use legate_rpc::Client;
use legate_wire::registry as wire;
use wire::agent_service_client::AgentServiceClient;
use wire::bulk_apply_request::Part;
use wire::declaration::Object;
use wire::{
    BulkAction, BulkApplyRequest, BulkItem, BulkItems, BulkMode, BulkOutcome, BulkStart, ChangeAction, Declaration,
    Kind, ObjectName, Origin,
};

use super::bulk::{actions, declare, end, items, open, say, start};
use super::removal::named;
use super::scene::*;
use super::stream::{Follower, House, PATIENCE};
use crate::flow::{apply, plan};
use crate::schema::Migrator;

fn together() -> BulkStart {
    start(BulkMode::AllOrNothing)
}

fn planning() -> BulkStart {
    BulkStart { plan_only: true, reason: String::new(), ..together() }
}

/// Everything as the parts of a stream; the removals after what is given.
fn parts(start: BulkStart, given: &[Declaration], gone: &[ObjectName]) -> Vec<Part> {
    let removal = |(n, name): (usize, &ObjectName)| BulkItem {
        key: format!("gone-{n}"),
        declaration: None,
        removal: Some(name.clone()),
    };
    let mut parts = vec![Part::Start(start)];
    parts.extend(given.chunks(500).enumerate().map(|(n, some)| Part::Items(items(some, n * 500))));
    let gone: Vec<BulkItem> = gone.iter().enumerate().map(removal).collect();
    parts.extend(gone.chunks(500).map(|some| Part::Items(BulkItems { items: some.to_vec() })));
    parts.push(Part::End(end(given.len() + gone.len())));
    parts
}

fn of<'o>(outcomes: &'o [BulkOutcome], key: &str) -> &'o BulkOutcome {
    outcomes.iter().find(|outcome| outcome.key == key).unwrap()
}

#[tokio::test]
async fn a_plan_answers_what_is_so_as_it_comes_and_the_rest_at_its_end() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        let mut all = payments();
        all.extend((0..1_200).map(|n| agent(&format!("bot-{n}"), "worker")));
        all.push(role("old", "invoice:list"));
        declare(&operator, together(), &all).await.1.unwrap();
        let mut client = house.follower(&running);
        let mut watcher = Follower::begin(&mut client).await;
        let base = watcher.catch_up().await;

        let mut wanted = all[..1_207].to_vec();
        let mut other = agent_spec("worker");
        other.purpose = "pays invoices".into();
        wanted[10] = agent_with("bot-3", other);
        wanted.push(agent("bot-new", "worker"));
        wanted.push(binding("new-reads", "reader", &["bot-new", "bot-3"]));
        let gone = [named(Kind::Role, "old"), named(Kind::Role, "nothing")];

        // Before the end is said, everything that is already so is answered, and nothing else.
        let (asks, mut answers) = open(&operator).await;
        let mut said = parts(planning(), &wanted, &gone);
        let last = said.pop().unwrap();
        for part in said {
            asks.send(BulkApplyRequest { part: Some(part) }).await.unwrap();
        }
        let mut outcomes = Vec::new();
        while outcomes.len() < 1_206 {
            outcomes
                .extend(tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap().outcomes);
        }
        assert_eq!(actions(&outcomes), vec![BulkAction::Unchanged; 1_206]);
        assert!(outcomes.iter().all(|o| o.revision == base && !o.id.is_empty() && o.fields.is_empty()));
        asks.send(BulkApplyRequest { part: Some(last) }).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
        assert_eq!(answer.revision, base);
        let rest = answer.outcomes;
        use BulkAction::{Created, Removed, Unchanged, Updated};
        assert_eq!(actions(&rest), [Updated, Created, Created, Removed, Unchanged]);
        let keys: Vec<&str> = rest.iter().map(|o| o.key.as_str()).collect();
        assert_eq!(keys, ["10", "1207", "1208", "gone-0", "gone-1"]);
        let paths: Vec<&str> = rest[0].fields.iter().map(|field| field.path.as_str()).collect();
        assert_eq!(paths, ["spec.purpose"]);
        assert_eq!((rest[0].revision, rest[1].revision, rest[3].revision, rest[4].revision), (base, 0, base, 0));
        assert!(answers.message().await.unwrap().is_none());
        assert_eq!(watcher.catch_up().await, base, "a plan changes nothing");

        // All of it is so: the plan says at which revision.
        let (outcomes, ended) = say(&operator, parts(planning(), &all, &[])).await;
        ended.unwrap();
        assert_eq!(actions(&outcomes), vec![Unchanged; all.len()]);

        // What differs is written, with what goes, at one revision; and the same again under its id does nothing.
        let moving = [wanted[10].clone(), wanted[1_207].clone(), wanted[1_208].clone()];
        let write = || BulkStart { base_revision: base, request_id: "change-1".into(), ..together() };
        let (written, ended) = say(&operator, parts(write(), &moving, &gone)).await;
        ended.unwrap();
        assert_eq!(actions(&written), [Updated, Created, Created, Removed, Unchanged]);
        assert!(written[..4].iter().all(|outcome| outcome.revision == base + 1), "{written:?}");
        assert_eq!(watcher.catch_up().await, base + 1);
        let (again, ended) = say(&operator, parts(write(), &moving, &gone)).await;
        ended.unwrap();
        assert_eq!(again, written);
        assert_eq!(watcher.catch_up().await, base + 1);
        // Something else under the same id is refused, also where only what goes is another.
        let other = parts(write(), &moving, &gone[..1]);
        assert_eq!(say(&operator, other).await.1.unwrap_err().reason, "REQUEST_ID_REUSED");
        // Written since, though it is as it is wanted: by a plan and by what writes.
        for late in [together(), planning()] {
            let late = BulkStart { base_revision: base, ..late };
            assert_eq!(say(&operator, parts(late, &moving, &[])).await.1.unwrap_err().reason, "BASE_MOVED");
        }
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_plan_refuses_all_of_it_with_every_problem_and_takes_the_right_to_read() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        declare(&operator, together(), &payments()).await.1.unwrap();
        let mut bad = payments();
        bad[0] = binding("bot-reads", "nothing", &["invoice-bot"]);
        bad[3] = role("Upper", "invoice:read");
        bad.push(agent("invoice-bot", "nowhere"));
        let told = say(&operator, parts(planning(), &bad, &[])).await.1.unwrap_err();
        let paths: Vec<&str> = told.violations.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["items[0].spec.role", "items[3].metadata.name", "items[7].spec.agent_class"], "{told:?}");
        let kept = say(&operator, parts(planning(), &[], &[named(Kind::Role, "reader")])).await.1.unwrap_err();
        assert_eq!(kept.reason, "OBJECT_IN_USE");
        let twice = [role("new", "a:b"), role("new", "a:c")];
        assert_eq!(say(&operator, parts(planning(), &twice, &[])).await.1.unwrap_err().reason, "OBJECT_REPEATED");
        let both = parts(planning(), &twice[..1], &[named(Kind::Role, "new")]);
        assert_eq!(say(&operator, both).await.1.unwrap_err().reason, "OBJECT_REPEATED");

        // Who may see nothing is told nothing; who may see plans, and writes nothing.
        let eve = house.operator_named(&running, "eve");
        let refused = say(&eve, parts(planning(), &payments(), &[])).await.1.unwrap_err();
        assert_eq!(refused.reason, "OPERATOR_NOT_PERMITTED");
        let spec = wire::OperatorBindingSpec {
            operators: vec!["eve".into()],
            role: wire::OperatorRole::Viewer.into(),
            ..wire::OperatorBindingSpec::default()
        };
        let viewer = wire::OperatorBinding { metadata: metadata("eve-sees"), spec: Some(spec) };
        let viewer = Declaration { object: Some(Object::OperatorBinding(viewer)) };
        declare(&operator, together(), &[viewer]).await.1.unwrap();
        let (outcomes, ended) = say(&eve, parts(planning(), &payments()[..6], &[])).await;
        ended.unwrap();
        assert_eq!(actions(&outcomes), vec![BulkAction::Unchanged; 6]);
        let elsewhere = [payments()[1].clone(), namespace("x")];
        let refused = say(&eve, parts(planning(), &elsewhere, &[])).await.1.unwrap_err();
        assert_eq!(refused.reason, "OPERATOR_NOT_PERMITTED");
        let wrote = say(&eve, parts(together(), &payments()[..6], &[])).await.1.unwrap_err();
        assert_eq!(wrote.reason, "OPERATOR_NOT_PERMITTED");
        running.shutdown().await;
    })
    .await;
}

async fn change(scene: &Scene, base: u64, given: Vec<Declaration>, gone: Vec<ObjectName>) -> Result<u64, &'static str> {
    let call = scene.call(OTHER, "as planned", &(), "");
    let applied = apply::apply(&scene.desk, call, given, gone, base).await;
    applied.map(|answer| answer.revision).map_err(|fault| reason(&fault))
}

#[tokio::test]
async fn a_change_drifts_by_what_it_speaks_of_and_by_nothing_else() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([
            role("writer", "invoice:pay"),
            role("steady", "invoice:list"),
            agent("other-bot", "worker"),
            class("idle", false),
        ]);
        all.push(namespace("elsewhere"));
        let base = scene.apply(all).await.unwrap().revision;
        // Of others: written, made, taken away, suspended.
        scene.apply(vec![role("writer", "invoice:list"), agent("new-bot", "worker")]).await.unwrap();
        scene.suspend("other-bot").await;
        scene.exchange("not needed", vec![namespace("third")], vec![named(Kind::AgentClass, "idle")]).await.unwrap();

        let mine = |action: &str| vec![role("reader", action)];
        let after = change(&scene, base, mine("invoice:pay"), vec![]).await.unwrap();
        // Itself, though it is as it is wanted already.
        assert_eq!(change(&scene, base, mine("invoice:pay"), vec![]).await, Err("BASE_MOVED"));
        assert_eq!(change(&scene, after, mine("invoice:pay"), vec![]).await, Ok(after));
        // What it names.
        for given in [
            binding("of-writer", "writer", &["invoice-bot"]),
            binding("of-other", "steady", &["other-bot"]),
            binding("of-new", "steady", &["new-bot"]),
        ] {
            assert_eq!(change(&scene, base, vec![given], vec![]).await, Err("BASE_MOVED"));
        }
        let fine = change(&scene, base, vec![binding("of-bot", "steady", &["invoice-bot"])], vec![]).await;
        assert_eq!(fine, Ok(after + 1));
        // What it takes away: written since, or gone and there again.
        assert_eq!(change(&scene, base, vec![], vec![named(Kind::Agent, "other-bot")]).await, Err("BASE_MOVED"));
        assert_eq!(change(&scene, base, vec![], vec![named(Kind::AgentClass, "idle")]).await, Err("BASE_MOVED"));
        // What it would make anew was there when it was planned, and is gone.
        assert_eq!(change(&scene, base, vec![class("idle", false)], vec![]).await, Err("BASE_MOVED"));
        let moved = scene.exchange("x", vec![], vec![named(Kind::RoleBinding, "bot-reads")]).await.unwrap().revision;
        assert_eq!(
            change(&scene, moved, vec![binding("bot-reads", "reader", &["invoice-bot"])], vec![]).await,
            Ok(moved + 1)
        );
        // Its namespace is named by everything in it.
        let mut limits = namespace("payments");
        if let Some(Object::Namespace(namespace)) = &mut limits.object {
            namespace.spec.get_or_insert_default().max_children = 3;
        }
        scene.apply(vec![limits]).await.unwrap();
        assert_eq!(change(&scene, moved + 1, mine("invoice:list"), vec![]).await, Err("BASE_MOVED"));
        // A registry that was set back to an earlier copy is another one.
        let newest = scene.apply(mine("invoice:read")).await.unwrap().revision;
        assert_eq!(change(&scene, newest + 1, mine("invoice:list"), vec![]).await, Err("BASE_MOVED"));
        let call = scene.call(OTHER, "as planned", &(), "");
        let told = apply::apply(&scene.desk, call, mine("invoice:list"), vec![], base).await.unwrap_err();
        let text = format!("{told:?}");
        assert!(text.contains("Role payments/reader at revision") && text.contains("Namespace payments"), "{text}");
    })
    .await;
}

async fn discover(operator: &Client, all: &[Declaration]) {
    let found = BulkStart { origin: Origin::Discovered.into(), ..start(BulkMode::Each) };
    let (outcomes, ended) = declare(operator, found, all).await;
    ended.unwrap();
    assert_eq!(actions(&outcomes), vec![BulkAction::Created; all.len()]);
}

#[tokio::test]
async fn what_is_as_it_was_may_be_without_anybody_who_answers_for_it() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        let leaver = "user:leaver@example.com".to_owned();
        let held =
            wire::AgentSpec { sponsors: vec![leaver.clone()], owners: vec![leaver.clone()], ..agent_spec("worker") };
        let all = [payments(), vec![agent_with("held", held.clone())]].concat();
        declare(&operator, together(), &all).await.1.unwrap();
        let nobody = wire::AgentSpec { owners: Vec::new(), sponsors: Vec::new(), ..agent_spec("worker") };
        discover(&operator, &[agent_with("stray", nobody.clone())]).await;
        let leave = wire::OffboardPersonRequest { person: leaver, reason: "left".into(), ..Default::default() };
        let mut departures = wire::departure_service_client::DepartureServiceClient::new(operator.clone());
        departures.offboard_person(leave).await.unwrap();
        let deadline = tokio::time::Instant::now() + 3 * PATIENCE;
        let orphan = loop {
            let request = wire::GetAgentRequest { agent: Some(by_name("held")), as_of: None };
            let found = AgentServiceClient::new(operator.clone()).get_agent(request).await.unwrap().into_inner();
            let agent = found.agent.unwrap();
            if agent.status.as_ref().unwrap().orphaned_time.is_some() {
                break Declaration { object: Some(Object::Agent(agent)) };
            }
            assert!(tokio::time::Instant::now() < deadline, "nobody is left who is accountable for it");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };

        // As they are, they are nobody's trouble, by the stream or by one request; and the orphan stays one.
        let same = [orphan, agent_with("stray", nobody.clone()), payments()[1].clone()];
        for plan_only in [true, false] {
            let (outcomes, ended) = say(&operator, parts(BulkStart { plan_only, ..together() }, &same, &[])).await;
            ended.unwrap();
            assert_eq!(actions(&outcomes), vec![BulkAction::Unchanged; 3]);
        }
        // Changed, they are, each for what is wrong with it.
        for (change, wanted) in [
            (agent_with("stray", wire::AgentSpec { purpose: "x".into(), ..nobody.clone() }), "AGENT_OWNER_MISSING"),
            (agent_with("new", nobody), "AGENT_OWNER_MISSING"),
            (agent_with("held", wire::AgentSpec { purpose: "x".into(), ..held }), "PERSON_DEPARTED"),
        ] {
            for start in [planning(), together(), start(BulkMode::Each)] {
                let (outcomes, ended) = say(&operator, parts(start, std::slice::from_ref(&change), &[])).await;
                let refused = ended.map_or_else(|told| told.reason, |()| of(&outcomes, "0").reason_code.clone());
                assert_eq!(refused, wanted);
            }
        }
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn one_request_plans_as_the_stream_does() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut spec = agent_spec("worker");
        spec.expire_time = Some(prost_types::Timestamp { seconds: NOW + 86_400, nanos: 0 });
        let all = [payments(), vec![agent_with("ends", spec)]].concat();
        scene.apply(all).await.unwrap();
        // An end that is not declared stays as it was set.
        let by = scene.call(OPERATOR, "", &(), "").by;
        let planned = plan::plan(&scene.desk, &by, vec![agent("ends", "worker")], Vec::new()).await.unwrap();
        assert_eq!(planned.changes[0].action(), ChangeAction::Unchanged);
    })
    .await;
}
