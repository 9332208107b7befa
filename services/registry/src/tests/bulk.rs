//! Very many objects over one stream, on real mutual TLS: each for itself, or all or nothing.

use std::time::Duration;

use legate_clock::{Clock as _, SystemClock, TestClock};
use legate_db::testing::on_each;
use legate_rpc::{Client, Told};
use legate_wire::registry as wire;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use wire::agent_service_client::AgentServiceClient;
use wire::bulk_apply_request::Part;
use wire::bulk_service_client::BulkServiceClient;
use wire::declaration_service_client::DeclarationServiceClient;
use wire::{
    AgentState, BulkAction, BulkApplyRequest, BulkApplyResponse, BulkEnd, BulkItem, BulkItems, BulkMode, BulkOutcome,
    BulkStart, Declaration, GetDeclarationRequest, Kind, Origin, SanctionedStatus,
};

use super::operators::given;
use super::removal::named;
use super::scene::*;
use super::stream::{Follower, House, PATIENCE, apply};
use crate::schema::Migrator;

pub(super) fn start(mode: BulkMode) -> BulkStart {
    BulkStart { mode: mode.into(), reason: "moved here".into(), ..BulkStart::default() }
}

/// Items with their numbers as keys.
pub(super) fn items(declarations: &[Declaration], from: usize) -> BulkItems {
    let one =
        |(n, of): (usize, &Declaration)| BulkItem { key: n.to_string(), declaration: Some(of.clone()), removal: None };
    BulkItems { items: (from..).zip(declarations).map(one).collect() }
}

fn keyed_item(key: &str) -> BulkItem {
    BulkItem { key: key.into(), declaration: Some(namespace("x")), removal: None }
}

pub(super) fn end(items: usize) -> BulkEnd {
    BulkEnd { items: items as u64 }
}

pub(super) async fn open(operator: &Client) -> (mpsc::Sender<BulkApplyRequest>, Streaming<BulkApplyResponse>) {
    let (asks, outgoing) = mpsc::channel(64);
    let mut client = BulkServiceClient::new(operator.clone());
    let answers = client.bulk_apply(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
    (asks, answers)
}

/// Says the parts one after the other and leaves; the outcomes, and how the stream ended.
pub(super) async fn say(operator: &Client, parts: Vec<Part>) -> (Vec<BulkOutcome>, Result<(), Told>) {
    let (asks, mut answers) = open(operator).await;
    tokio::spawn(async move {
        for part in parts {
            // A stream that was refused takes no more.
            if asks.send(BulkApplyRequest { part: Some(part) }).await.is_err() {
                return;
            }
        }
    });
    let mut outcomes = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, answers.message()).await.unwrap() {
            Ok(Some(answer)) => outcomes.extend(answer.outcomes),
            Ok(None) => return (outcomes, Ok(())),
            Err(status) => return (outcomes, Err(Told::from_status(&status))),
        }
    }
}

pub(super) async fn declare(
    operator: &Client,
    start: BulkStart,
    all: &[Declaration],
) -> (Vec<BulkOutcome>, Result<(), Told>) {
    let mut parts = vec![Part::Start(start)];
    parts.extend(all.chunks(700).enumerate().map(|(n, some)| Part::Items(items(some, n * 700))));
    parts.push(Part::End(end(all.len())));
    say(operator, parts).await
}

pub(super) fn actions(outcomes: &[BulkOutcome]) -> Vec<BulkAction> {
    outcomes.iter().map(BulkOutcome::action).collect()
}

fn count(outcomes: &[BulkOutcome], action: BulkAction) -> usize {
    outcomes.iter().filter(|outcome| outcome.action() == action).count()
}

async fn agent_of(operator: &Client, name: &str) -> wire::Agent {
    let request = wire::GetAgentRequest { agent: Some(by_name(name)), as_of: None };
    AgentServiceClient::new(operator.clone()).get_agent(request).await.unwrap().into_inner().agent.unwrap()
}

#[tokio::test]
async fn each_item_is_written_or_refused_for_itself() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        let mut all = payments();
        all.extend((0..1_500).map(|n| agent(&format!("bot-{n}"), "worker")));
        let mut nobody = agent_spec("worker");
        nobody.sponsors.clear();
        // Refused: for itself, for what it names, and for naming one that is refused.
        all[100] = agent_with("nobody", nobody);
        all[101] = agent("lost", "nowhere");
        all[102] = binding("of-lost", "reader", &["lost"]);
        all[103] = Declaration::default();
        // The same object again is a change of it.
        let mut again = agent_spec("worker");
        again.purpose = "pays invoices".into();
        all[104] = agent_with("bot-1", again);
        let (outcomes, ended) = declare(&operator, start(BulkMode::Each), &all).await;
        ended.unwrap();
        assert_eq!(outcomes.len(), all.len());
        assert!(outcomes.iter().enumerate().all(|(n, outcome)| outcome.key == n.to_string()), "in their order");
        let reasons: Vec<&str> = outcomes[100..104].iter().map(|o| o.reason_code.as_str()).collect();
        let wanted = ["AGENT_SPONSOR_MISSING", "REFERENCE_MISSING", "REFERENCE_MISSING", "INVALID_ARGUMENT"];
        assert_eq!(reasons, wanted, "{:?}", &outcomes[100..104]);
        assert_eq!((count(&outcomes, BulkAction::Refused), outcomes[104].action()), (4, BulkAction::Updated));
        assert!(outcomes[104].revision > outcomes[8].revision && outcomes[104].id == outcomes[8].id);
        assert_eq!(count(&outcomes, BulkAction::Created), all.len() - 5);

        // All of it again changes only what was changed in between: the first declaration of bot-1, and then the second.
        let (again, ended) = declare(&operator, start(BulkMode::Each), &all).await;
        ended.unwrap();
        assert_eq!((count(&again, BulkAction::Created), count(&again, BulkAction::Updated)), (0, 2));
        let same = |at: usize| again[at].revision == outcomes[at].revision && again[at].id == outcomes[at].id;
        assert!((9..100).all(same), "what is as it was keeps its revision");
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn all_or_nothing_is_one_revision_or_one_refusal_and_reaches_whoever_watches() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        let mut client = house.follower(&running);
        let mut watcher = Follower::begin(&mut client).await;
        let (base, before) = (watcher.catch_up().await, watcher.held.len());
        let mut all = payments();
        all.extend((0..2_500).map(|n| agent(&format!("bot-{n}"), "worker")));
        let together = || start(BulkMode::AllOrNothing);

        let mut bad = all.clone();
        bad[1_000] = agent("lost", "nowhere");
        bad[2_000] = agent("bot-7", "worker");
        let (outcomes, ended) = declare(&operator, together(), &bad).await;
        let told = ended.unwrap_err();
        assert_eq!((told.reason.as_str(), outcomes.len()), ("REFERENCE_MISSING", 0), "{told:?}");
        let paths: Vec<&str> = told.violations.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["items[1000].spec.agent_class", "items[2000].object"]);

        // Not all of it came: whatever the reason, nothing is written.
        for parts in [
            vec![Part::Start(together()), Part::Items(items(&all[..50], 0))],
            vec![Part::Start(together()), Part::Items(items(&all[..50], 0)), Part::End(end(51))],
        ] {
            let (outcomes, ended) = say(&operator, parts).await;
            let told = ended.unwrap_err();
            assert!(["BULK_BROKEN_OFF", "BULK_OUT_OF_ORDER"].contains(&told.reason.as_str()), "{told:?}");
            assert!(outcomes.is_empty());
        }
        assert_eq!(watcher.catch_up().await, base, "nothing was written");

        let (outcomes, ended) = declare(&operator, together(), &all).await;
        ended.unwrap();
        assert!(outcomes.iter().all(|o| o.action() == BulkAction::Created && o.revision == base + 1));
        assert_eq!((watcher.catch_up().await, watcher.held.len(), watcher.snapshots), (base + 1, before + 2_507, 1));
        let (outcomes, ended) = declare(&operator, together(), &all).await;
        ended.unwrap();
        assert_eq!(actions(&outcomes), vec![BulkAction::Unchanged; all.len()]);
        assert_eq!(watcher.catch_up().await, base + 1);
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_request_id_makes_the_stream_one_request() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        let mut all = payments();
        all.extend((0..600).map(|n| agent(&format!("bot-{n}"), "worker")));
        let named = |mode| BulkStart { request_id: "move-1".into(), ..start(mode) };
        // The first time it breaks off in the middle.
        let parts = vec![Part::Start(named(BulkMode::Each)), Part::Items(items(&all[..500], 0))];
        let (some, ended) = say(&operator, parts).await;
        assert_eq!((some.len(), ended.unwrap_err().reason.as_str()), (500, "BULK_BROKEN_OFF"));
        let whole = || {
            let rest = Part::Items(items(&all[500..], 500));
            vec![Part::Start(named(BulkMode::Each)), Part::Items(items(&all[..500], 0)), rest, Part::End(end(607))]
        };
        let (first, ended) = say(&operator, whole()).await;
        ended.unwrap();
        assert_eq!(first[..500], some, "what was answered is answered again");
        assert_eq!(actions(&first), vec![BulkAction::Created; 607]);
        let (second, ended) = say(&operator, whole()).await;
        ended.unwrap();
        assert_eq!(first, second);
        // Something else under the same id is refused.
        let mut other = all.clone();
        other[3] = role("reader", "invoice:pay");
        let parts = vec![Part::Start(named(BulkMode::Each)), Part::Items(items(&other[..500], 0)), Part::End(end(500))];
        assert_eq!(say(&operator, parts).await.1.unwrap_err().reason, "REQUEST_ID_REUSED");
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_breaks_the_rules_is_refused() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        let each = || Part::Start(start(BulkMode::Each));
        let some = || Part::Items(items(&payments(), 0));
        let many = |n: usize| Part::Items(BulkItems { items: vec![BulkItem::default(); n] });
        let keyed = |key: &str| Part::Items(BulkItems { items: vec![keyed_item(key)] });
        let bad_start = |change: fn(&mut BulkStart)| {
            let mut start = start(BulkMode::Each);
            change(&mut start);
            Part::Start(start)
        };
        let together = || Part::Start(start(BulkMode::AllOrNothing));
        let found = |change: fn(&mut BulkStart)| {
            let mut start = BulkStart { origin: Origin::Discovered.into(), ..start(BulkMode::Each) };
            change(&mut start);
            Part::Start(start)
        };
        // The same name again and again: refused at the end, unless they are too many before.
        let gone = |count: usize| -> Vec<Part> {
            let removal = Some(named(Kind::Role, "reader"));
            let one = BulkItem { key: String::new(), declaration: None, removal };
            let all = vec![one; count];
            all.chunks(1_000).map(|some| Part::Items(BulkItems { items: some.to_vec() })).collect()
        };
        let both = || {
            let (declaration, removal) = (Some(namespace("x")), Some(named(Kind::Role, "reader")));
            Part::Items(BulkItems { items: vec![BulkItem { key: "1".into(), declaration, removal }] })
        };
        for (parts, wanted) in [
            (vec![some()], "BULK_OUT_OF_ORDER"),
            (vec![Part::End(end(0))], "BULK_OUT_OF_ORDER"),
            (vec![each(), each()], "BULK_OUT_OF_ORDER"),
            (vec![each(), some(), Part::End(end(8))], "BULK_OUT_OF_ORDER"),
            (vec![], "BULK_BROKEN_OFF"),
            (vec![each()], "BULK_BROKEN_OFF"),
            (vec![each(), Part::Items(BulkItems::default())], "INVALID_ARGUMENT"),
            (vec![each(), many(1_001)], "INVALID_ARGUMENT"),
            (vec![each(), keyed(&"x".repeat(65))], "INVALID_ARGUMENT"),
            (vec![each(), keyed("a\u{1b}[2Jb")], "INVALID_ARGUMENT"),
            (vec![bad_start(|s| s.mode = 0)], "INVALID_ARGUMENT"),
            (vec![bad_start(|s| s.mode = 9)], "INVALID_ARGUMENT"),
            (vec![bad_start(|s| s.origin = 9)], "INVALID_ARGUMENT"),
            (vec![bad_start(|s| s.request_id = "x".repeat(49))], "INVALID_ARGUMENT"),
            (vec![bad_start(|s| s.reason = "\u{202e}".into())], "INVALID_ARGUMENT"),
            (vec![together(), Part::End(end(0))], "INVALID_ARGUMENT"),
            ([vec![together()], vec![many(1_000); 25], vec![many(1)]].concat(), "BULK_TOO_LARGE"),
            (vec![together(), gone(5_000)[0].clone(), Part::End(end(1_000))], "OBJECT_REPEATED"),
            ([vec![together()], gone(5_001)].concat(), "BULK_TOO_LARGE"),
            (vec![each(), gone(1)[0].clone()], "INVALID_ARGUMENT"),
            (vec![found(|s| s.mode = BulkMode::AllOrNothing.into()), gone(1)[0].clone()], "INVALID_ARGUMENT"),
            (vec![together(), gone(1)[0].clone(), some()], "BULK_OUT_OF_ORDER"),
            (vec![together(), both()], "INVALID_ARGUMENT"),
            (vec![bad_start(|s| s.base_revision = 1)], "INVALID_ARGUMENT"),
            (vec![found(|s| (s.mode, s.plan_only) = (BulkMode::AllOrNothing.into(), true))], "INVALID_ARGUMENT"),
        ] {
            let said = format!("{:.300}", format!("{parts:?}"));
            let (_, ended) = say(&operator, parts).await;
            assert_eq!(ended.unwrap_err().reason, wanted, "{said}");
        }
        // A message that says nothing, and one that is too large.
        let (asks, mut answers) = open(&operator).await;
        asks.send(BulkApplyRequest { part: None }).await.unwrap();
        let status = answers.message().await.unwrap_err();
        assert_eq!(Told::from_status(&status).reason, "BULK_OUT_OF_ORDER");
        let large = Part::Items(items(&vec![annotated(role("heavy", "invoice:read")); 40], 0));
        let (_, ended) = say(&operator, vec![each(), large]).await;
        assert!(ended.is_err(), "a message of 10 MiB was taken");

        // The streams that one caller may have open are bounded, and every one of those above is closed again.
        let mut held = Vec::new();
        for _ in 0..2 {
            let (asks, answers) = open(&operator).await;
            asks.send(BulkApplyRequest { part: Some(each()) }).await.unwrap();
            asks.send(BulkApplyRequest { part: Some(keyed("1")) }).await.unwrap();
            held.push((asks, answers));
        }
        for (_, answers) in &mut held {
            assert_eq!(answers.message().await.unwrap().unwrap().outcomes.len(), 1);
        }
        assert_eq!(say(&operator, vec![each()]).await.1.unwrap_err().reason, "OVERLOADED");
        // They end with the service.
        running.shutdown().await;
        for (_, mut answers) in held {
            assert!(answers.message().await.is_err());
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_takes_all_the_turns_of_the_others() {
    on_each::<Migrator>(async |fixture| {
        let house = House::by(TestClock::at(SystemClock::new().now()));
        let running = house.raise(&fixture.url).await;
        let names = ["one", "two", "three", "four", "five", "six"];
        apply(&house.operator(&running), vec![given("editors", "", &names, wire::OperatorRole::Admin)]).await;
        // Each has as many as anybody may, until there are no more; then whoever has none is turned away as well.
        let mut held = Vec::new();
        for name in &names[..4] {
            let operator = house.operator_named(&running, name);
            for _ in 0..2 {
                held.push(begun(&operator).await);
            }
            let refused = say(&operator, vec![Part::Start(start(BulkMode::Each))]).await.1.unwrap_err();
            assert_eq!(refused.reason, "OVERLOADED");
            assert!(refused.message.contains(&format!("operator/{name} has 2")), "{}", refused.message);
        }
        let last = house.operator_named(&running, "five");
        let refused = say(&last, vec![Part::Start(start(BulkMode::Each))]).await.1.unwrap_err();
        assert_eq!(refused.reason, "OVERLOADED");
        assert!(refused.message.contains("8 streams"), "{}", refused.message);
        let (asks, mut answers) = held.remove(0);
        asks.send(BulkApplyRequest { part: Some(Part::End(end(1))) }).await.unwrap();
        assert!(tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap().is_none());
        // The room is for whoever was turned away, and for none who has a stream or comes later.
        for name in ["one", "six"] {
            let (_, ended) = say(&house.operator_named(&running, name), vec![Part::Start(start(BulkMode::Each))]).await;
            assert_eq!(ended.unwrap_err().reason, "OVERLOADED", "{name}");
        }
        let (_, ended) = declare(&last, start(BulkMode::Each), &[namespace("late")]).await;
        ended.unwrap();
        drop(held);
        running.shutdown().await;
    })
    .await;
}

/// A stream that has its turn: its first item is answered.
async fn begun(operator: &Client) -> (mpsc::Sender<BulkApplyRequest>, Streaming<BulkApplyResponse>) {
    let (asks, mut answers) = open(operator).await;
    for part in [Part::Start(start(BulkMode::Each)), Part::Items(items(&[namespace("x")], 0))] {
        asks.send(BulkApplyRequest { part: Some(part) }).await.unwrap();
    }
    let answer = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(answer.outcomes.len(), 1);
    (asks, answers)
}

#[tokio::test]
async fn a_stream_that_says_a_little_now_and_then_loses_its_turn() {
    on_each::<Migrator>(async |fixture| {
        let clock = TestClock::at(SystemClock::new().now());
        let house = House::by(clock.clone());
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        let item = |name: &str| Part::Items(items(&[namespace(name)], 0));
        let (asks, mut answers) = begun(&operator).await;
        clock.advance(Duration::from_secs(3_599));
        asks.send(BulkApplyRequest { part: Some(item("y")) }).await.unwrap();
        assert!(tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap().is_some());
        clock.advance(Duration::from_secs(1));
        asks.send(BulkApplyRequest { part: Some(item("z")) }).await.unwrap();
        let refused = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "BULK_BROKEN_OFF");

        let (asks, mut answers) = open(&operator).await;
        for part in [Part::Start(start(BulkMode::AllOrNothing)), item("z")] {
            asks.send(BulkApplyRequest { part: Some(part) }).await.unwrap();
        }
        // Its time runs from its turn on, which nothing tells before the end: so the clock is turned until it is over.
        let over = async {
            loop {
                clock.advance(Duration::from_secs(600));
                if asks.send(BulkApplyRequest { part: Some(item("z")) }).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let (_, refused) = tokio::join!(over, tokio::time::timeout(PATIENCE, answers.message()));
        assert_eq!(Told::from_status(&refused.unwrap().unwrap_err()).reason, "BULK_BROKEN_OFF");
        let request = GetDeclarationRequest { kind: Kind::Namespace.into(), name: "z".into(), ..Default::default() };
        let mut declarations = DeclarationServiceClient::new(house.operator(&running)); // the first one's certificate may be over
        let none = Told::from_status(&declarations.get_declaration(request).await.unwrap_err());
        assert_eq!(none.reason, "OBJECT_NOT_FOUND");
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_adopts_an_agent_as_it_was_found_does_not_approve_it() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let ada = house.operator(&running);
        let mut first = payments();
        first.extend([class("guarded", true), given("more", "", &["grace", "joan"], wire::OperatorRole::Admin)]);
        declare(&ada, start(BulkMode::Each), &first).await.1.unwrap();
        // It is found with those who answer for it, so that to adopt it changes nothing of what is declared.
        let found = [agent("stray", "guarded")];
        let discovered = BulkStart { origin: Origin::Discovered.into(), ..start(BulkMode::Each) };
        declare(&ada, discovered, &found).await.1.unwrap();
        let spec = agent_of(&ada, "stray").await.spec.unwrap();
        let grace = house.operator_named(&running, "grace");
        let adopt = wire::AdoptAgentRequest {
            agent: Some(by_name("stray")),
            owners: spec.owners.clone(),
            sponsors: spec.sponsors.clone(),
            reason: "ours since March".into(),
            ..Default::default()
        };
        let adopted = AgentServiceClient::new(grace.clone()).adopt_agent(adopt).await.unwrap().into_inner();
        let adopted = adopted.agent.unwrap();
        assert_eq!((adopted.spec.unwrap(), adopted.status.unwrap().state()), (spec, AgentState::PendingApproval));
        let approve = async |operator: &Client| {
            let agent = Some(by_name("stray"));
            let ask = wire::ApproveAgentRequest { agent, reason: "looked at".into(), ..Default::default() };
            let approved = AgentServiceClient::new(operator.clone()).approve_agent(ask).await;
            approved.map(|_| ()).map_err(|status| Told::from_status(&status).reason)
        };
        for operator in [&ada, &grace] {
            assert_eq!(approve(operator).await.unwrap_err(), "SELF_APPROVAL");
        }
        drop((ada, grace));
        running.shutdown().await;

        // Nor when that is so long ago that its versions are forgotten.
        let scene = Scene::keeping(fixture.db.clone(), Some(Duration::from_secs(1)));
        assert!(crate::flow::compact::compact(&scene.desk).await.unwrap() > 0);
        let running = house.raise(&fixture.url).await;
        for name in ["ada", "grace"] {
            assert_eq!(approve(&house.operator_named(&running, name)).await.unwrap_err(), "SELF_APPROVAL", "{name}");
        }
        approve(&house.operator_named(&running, "joan")).await.unwrap();
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_left_answers_neither_for_what_is_brought_in_nor_for_what_is_adopted() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        declare(&operator, start(BulkMode::Each), &payments()).await.1.unwrap();
        let person = "user:leaver@example.com";
        let leave = wire::OffboardPersonRequest { person: person.into(), reason: "left".into(), ..Default::default() };
        let mut departures = wire::departure_service_client::DepartureServiceClient::new(operator.clone());
        departures.offboard_person(leave).await.unwrap();
        let spec = wire::AgentSpec { sponsors: vec![person.into()], ..agent_spec("worker") };
        let all = [agent("good-bot", "worker"), agent_with("late-bot", spec.clone())];
        let (outcomes, ended) = declare(&operator, start(BulkMode::Each), &all).await;
        ended.unwrap();
        assert_eq!(actions(&outcomes), [BulkAction::Created, BulkAction::Refused]);
        assert_eq!(outcomes[1].reason_code, "PERSON_DEPARTED");
        assert!(outcomes[1].refusal.contains("spec.sponsors[0]"), "{}", outcomes[1].refusal);
        let (_, ended) = declare(&operator, start(BulkMode::AllOrNothing), &all).await;
        assert_eq!(ended.unwrap_err().reason, "PERSON_DEPARTED");
        // Found elsewhere, an agent may be without anybody, and not with somebody who left.
        let discovered = BulkStart { origin: Origin::Discovered.into(), ..start(BulkMode::Each) };
        let stray = wire::AgentSpec { owners: Vec::new(), sponsors: Vec::new(), ..agent_spec("worker") };
        let all = [agent_with("stray", stray), agent_with("late-stray", spec)];
        let (outcomes, _) = declare(&operator, discovered, &all).await;
        assert_eq!(actions(&outcomes), [BulkAction::Created, BulkAction::Refused]);
        let adopt = wire::AdoptAgentRequest {
            agent: Some(by_name("stray")),
            owners: vec![person.into()],
            sponsors: vec!["user:grace@example.com".into()],
            reason: "ours".into(),
            ..Default::default()
        };
        let refused = AgentServiceClient::new(operator.clone()).adopt_agent(adopt).await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "PERSON_DEPARTED");
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn what_was_found_elsewhere_waits_until_somebody_answers_for_it() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        let mut first = payments();
        first.push(class("guarded", true));
        declare(&operator, start(BulkMode::Each), &first).await.1.unwrap();
        let found = |name: &str, class: &str| {
            let spec = wire::AgentSpec { owners: Vec::new(), sponsors: Vec::new(), ..agent_spec(class) };
            agent_with(name, spec)
        };
        let mut other = agent_spec("worker");
        other.purpose = "something else".into();
        let all = [
            found("stray-1", "worker"),
            found("stray-2", "guarded"),
            found("stray-3", "worker"),
            // One that is there is left alone, and only agents are found.
            agent_with("invoice-bot", other),
            role("reader", "invoice:pay"),
            found("stray-4", "nowhere"),
        ];
        let discovered = BulkStart { origin: Origin::Discovered.into(), ..start(BulkMode::Each) };
        let (outcomes, ended) = declare(&operator, discovered, &all).await;
        ended.unwrap();
        use BulkAction::{Created, Refused, Unchanged};
        assert_eq!(actions(&outcomes), [Created, Created, Created, Unchanged, Refused, Refused], "{outcomes:?}");
        assert_eq!(agent_of(&operator, "invoice-bot").await.spec.unwrap().purpose, "reads invoices");
        let stray = agent_of(&operator, "stray-1").await.status.unwrap();
        assert_eq!((stray.state(), stray.origin()), (AgentState::PendingApproval, Origin::Discovered));
        assert_eq!(stray.sanctioned_status(), SanctionedStatus::Unsanctioned);

        let mut agents = AgentServiceClient::new(operator.clone());
        let reason = || "seen in the logs".to_owned();
        let adopt = |name: &str| wire::AdoptAgentRequest {
            agent: Some(by_name(name)),
            owners: vec!["user:ada@example.com".into()],
            sponsors: vec!["user:grace@example.com".into()],
            reason: reason(),
            ..Default::default()
        };
        // It is not approved, nor is it adopted by nobody; one that is declared is neither adopted nor rejected.
        let approve =
            wire::ApproveAgentRequest { agent: Some(by_name("stray-1")), reason: reason(), ..Default::default() };
        let refused = agents.approve_agent(approve).await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "AGENT_STATE_WRONG");
        let nobody = wire::AdoptAgentRequest { sponsors: Vec::new(), ..adopt("stray-1") };
        let refused = agents.adopt_agent(nobody).await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "AGENT_SPONSOR_MISSING");
        let refused = agents.adopt_agent(adopt("invoice-bot")).await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "AGENT_STATE_WRONG");
        let reject = |name: &str| wire::RejectAgentRequest {
            agent: Some(by_name(name)),
            reason: reason(),
            ..Default::default()
        };
        let refused = agents.reject_agent(reject("invoice-bot")).await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "AGENT_STATE_WRONG");
        let elsewhere = wire::AdoptAgentRequest { agent_class: "nowhere".into(), ..adopt("stray-1") };
        let refused = agents.adopt_agent(elsewhere).await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "REFERENCE_MISSING");

        let adopted = agents.adopt_agent(adopt("stray-1")).await.unwrap().into_inner().agent.unwrap();
        let (spec, status) = (adopted.spec.unwrap(), adopted.status.unwrap());
        assert_eq!((status.state(), status.origin()), (AgentState::Active, Origin::Discovered));
        assert_eq!(status.sanctioned_status(), SanctionedStatus::Sanctioned);
        assert_eq!(spec.sponsors, ["user:grace@example.com"]);
        // Where its class asks for an approver it waits for one, who is not the one that adopted it.
        let adopted = agents.adopt_agent(adopt("stray-2")).await.unwrap().into_inner().agent.unwrap();
        assert_eq!(adopted.status.unwrap().state(), AgentState::PendingApproval);
        let approve =
            wire::ApproveAgentRequest { agent: Some(by_name("stray-2")), reason: reason(), ..Default::default() };
        let refused = agents.approve_agent(approve).await.unwrap_err();
        assert_eq!(Told::from_status(&refused).reason, "SELF_APPROVAL");
        let rejected = agents.reject_agent(reject("stray-3")).await.unwrap().into_inner().agent.unwrap();
        assert_eq!(rejected.status.unwrap().state(), AgentState::Retired);
        running.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn whoever_may_write_nowhere_takes_no_stream_from_those_who_may() {
    on_each::<Migrator>(async |fixture| {
        let house = House::new();
        let running = house.raise(&fixture.url).await;
        let operator = house.operator(&running);
        // As many as there may be at once, and more.
        let (nobody, mut held) = (house.operator_named(&running, "eve"), Vec::new());
        for said in [Some(Part::Start(start(BulkMode::Each))), None].into_iter().cycle().take(20) {
            let (asks, mut answers) = open(&nobody).await;
            if let Some(part) = said {
                asks.send(BulkApplyRequest { part: Some(part) }).await.unwrap();
                let refused = tokio::time::timeout(PATIENCE, answers.message()).await.unwrap().unwrap_err();
                assert_eq!(Told::from_status(&refused).reason, "OPERATOR_NOT_PERMITTED");
            }
            held.push((asks, answers));
        }
        let (outcomes, ended) = declare(&operator, start(BulkMode::Each), &payments()).await;
        ended.unwrap();
        assert_eq!(count(&outcomes, BulkAction::Refused), 0);
        running.shutdown().await;
    })
    .await;
}
