//! Persons leave: what they answer for passes on or is flagged, nobody names them again, and all of it survives a fault.

use std::time::Duration;

use legate_db::Fault as DbFault;
use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Agent, AgentSpec, AgentState, AsOf, Declaration, Departure, Kind, ListDeparturesRequest, NamespaceSpec,
    OffboardPersonRequest, OffboardPersonResponse, WithdrawDepartureRequest, as_of::At,
};

use super::scene::*;
use crate::domain::lifecycle::Transition;
use crate::flow::list::{self, List};
use crate::flow::transition::Step;
use crate::flow::{departures, offboard, offboard_preview, sweep, update};
use crate::schema::Migrator;

pub(super) const ADA: &str = "user:ada@example.com";
pub(super) const GRACE: &str = "user:grace@example.com";
pub(super) const JOAN: &str = "user:joan@example.com";
const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn leaves(person: &str) -> OffboardPersonRequest {
    OffboardPersonRequest { person: person.into(), ..OffboardPersonRequest::default() }
}

pub(super) fn agent_of(name: &str, sponsor: &str, manager: &str) -> Declaration {
    let spec = AgentSpec { sponsors: vec![sponsor.into()], manager: manager.into(), ..agent_spec("worker") };
    agent_with(name, spec)
}

impl Scene {
    pub(super) async fn offboard_as(
        &self,
        actor: &str,
        ask: OffboardPersonRequest,
    ) -> Result<OffboardPersonResponse, Fault> {
        let call = self.call(actor, "on to other things", &ask, &ask.request_id);
        offboard::offboard(&self.desk, call, ask).await
    }

    pub(super) async fn offboard(&self, ask: OffboardPersonRequest) -> Departure {
        self.offboard_as(OPERATOR, ask).await.unwrap().departure.unwrap()
    }

    pub(super) async fn withdraw(&self, person: &str, namespace: &str) -> Result<Departure, Fault> {
        let ask = WithdrawDepartureRequest {
            person: person.into(),
            namespace: namespace.into(),
            ..WithdrawDepartureRequest::default()
        };
        let call = self.call(OPERATOR, "a mistake", &ask, "");
        Ok(departures::withdraw(&self.desk, call, ask).await?.departure.unwrap())
    }

    fn now(&self) -> i64 {
        use legate_clock::Clock as _;
        self.clock.now().micros() / 1_000_000
    }

    pub(super) async fn sweep(&self) -> usize {
        sweep::sweep(&self.desk).await.unwrap()
    }

    pub(super) async fn departures(&self, actor: &str, ask: ListDeparturesRequest) -> Vec<Departure> {
        departures::list(&self.desk, &by(actor, ""), ask).await.unwrap().departures
    }

    async fn departure(&self, person: &str) -> Departure {
        let ask = ListDeparturesRequest { person: person.into(), with_withdrawn: true, ..Default::default() };
        self.departures(OPERATOR, ask).await.remove(0)
    }

    pub(super) async fn update(
        &self,
        name: &str,
        change: impl FnOnce(&mut AgentSpec),
        path: &str,
    ) -> Result<(), Fault> {
        let mut spec = self.agent(name).await.spec.unwrap();
        change(&mut spec);
        let wanted = agent_with(name, spec);
        let call = self.call(OPERATOR, "somebody else", &wanted, "");
        update::update(&self.desk, call, wanted, vec![path.into()]).await.map(|_| ())
    }
}

fn who(agent: &Agent) -> (Vec<String>, Vec<String>, String) {
    let spec = agent.spec.clone().unwrap();
    (spec.owners, spec.sponsors, spec.manager)
}

pub(super) fn is_orphaned(agent: &Agent) -> bool {
    let status = agent.status.as_ref().unwrap();
    assert_eq!(status.orphaned_time.is_some(), status.suspend_after.is_some());
    status.orphaned_time.is_some()
}

fn state(agent: &Agent) -> AgentState {
    agent.status.as_ref().unwrap().state()
}

pub(super) fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[tokio::test]
async fn a_sponsors_duty_passes_on_or_the_agent_is_flagged_and_stopped_after_a_grace() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([agent_of("passes", GRACE, JOAN), agent_of("stays", JOAN, "")]);
        scene.apply(all).await.unwrap();
        let departure = scene.offboard(leaves(GRACE)).await;
        assert_eq!(departure.settle_time, None);
        assert_eq!(scene.sweep().await, 2);
        assert_eq!(scene.sweep().await, 0, "once");

        let passed = scene.agent("passes").await;
        assert_eq!(who(&passed), (vec![ADA.into()], vec![JOAN.into()], JOAN.into()));
        let metadata = passed.metadata.clone().unwrap();
        assert_eq!(metadata.updated_by, "spiffe://example.org/legate/registry");
        assert_eq!(metadata.reason, format!("{GRACE} left"));
        assert_eq!(passed.status.as_ref().unwrap().lifecycle_version, 1, "what was issued goes on working");
        assert!(!is_orphaned(&passed) && !is_orphaned(&scene.agent("stays").await));
        let orphan = scene.agent("invoice-bot").await;
        assert_eq!(who(&orphan).1, [GRACE], "who answered last stays to be seen");
        let status = orphan.status.clone().unwrap();
        let at = |secs: i64| Some(prost_types::Timestamp { seconds: NOW + secs, nanos: 0 });
        assert_eq!((status.orphaned_time, status.suspend_after), (at(0), at(14 * 86_400)));
        assert_eq!(status.state(), AgentState::Active);
        let departure = scene.departure(GRACE).await;
        assert_eq!((departure.agents_passed, departure.agents_orphaned), (1, 1));
        assert!(departure.settle_time.is_some());

        scene.clock.advance(DAY * 14 - Duration::from_secs(1));
        assert_eq!(scene.sweep().await, 0);
        scene.clock.advance(Duration::from_secs(1));
        assert_eq!(scene.sweep().await, 1);
        let stopped = scene.agent("invoice-bot").await;
        let status = stopped.status.clone().unwrap();
        assert_eq!(status.state(), AgentState::Suspended);
        assert!(status.state_reason.contains("every sponsor of it has left"), "{}", status.state_reason);
        assert_eq!(status.state_actor, "spiffe://example.org/legate/registry");
        assert!(status.authorization_cutoff.is_some() && is_orphaned(&stopped));

        // Nobody resumes it while nobody is accountable; a manager alone is not.
        let resume = Step::Transition(Transition::Resume);
        let refused = scene.step(OPERATOR, "invoice-bot", resume).await.unwrap_err();
        assert_eq!(reason(&refused), "AGENT_ORPHANED", "{refused}");
        let refused = scene.update("invoice-bot", |spec| spec.manager = JOAN.into(), "spec.manager").await.unwrap_err();
        assert_eq!(reason(&refused), "PERSON_DEPARTED", "{refused}");
        scene.update("invoice-bot", |spec| spec.sponsors = vec![JOAN.into()], "spec.sponsors").await.unwrap();
        let named = scene.agent("invoice-bot").await;
        assert!(!is_orphaned(&named));
        assert_eq!(state(&named), AgentState::Suspended, "to resume is an operator's act");
        let resumed = scene.step(OPERATOR, "invoice-bot", resume).await.unwrap().0;
        assert_eq!(state(&resumed), AgentState::Active);
        assert_eq!(scene.sweep().await, 0);

        let kinds = scene.kinds().await;
        let count = |kind: &str| kinds.iter().filter(|k| *k == kind).count();
        for (kind, times) in
            [("person.offboarded", 1), ("agent.passed_on", 1), ("agent.orphaned", 1), ("agent.suspended", 1)]
        {
            assert_eq!(count(kind), times, "{kind} of {kinds:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_departure_that_was_a_mistake_is_taken_back() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.push(agent_of("passes", GRACE, JOAN));
        scene.apply(all).await.unwrap();
        let zero = OffboardPersonRequest { grace: seconds(0), ..leaves(GRACE) };
        scene.offboard(zero.clone()).await;
        assert_eq!(scene.sweep().await, 3, "passed on, flagged, and with no grace suspended at once");
        assert_eq!(state(&scene.agent("invoice-bot").await), AgentState::Suspended);
        // The same again is the same; anything else is not.
        let revision = scene.offboard_as(OPERATOR, zero).await.unwrap().revision;
        assert_eq!(scene.sweep().await, 0);
        let other = OffboardPersonRequest { successor: JOAN.into(), ..leaves(GRACE) };
        assert_eq!(reason(&scene.offboard_as(OPERATOR, other).await.unwrap_err()), "PERSON_DEPARTED");
        let back = scene.withdraw(GRACE, "").await.unwrap();
        assert_eq!((back.withdraw_reason.as_str(), back.settle_time), ("a mistake", None));
        assert_eq!(scene.sweep().await, 1);
        let bot = scene.agent("invoice-bot").await;
        assert!(!is_orphaned(&bot));
        assert_eq!(bot.metadata.clone().unwrap().reason, format!("{GRACE} is back"));
        assert_eq!(state(&bot), AgentState::Suspended, "to resume is an operator's act");
        assert_eq!(who(&scene.agent("passes").await).1, [JOAN], "what has passed on stays");
        scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Resume)).await.unwrap();
        assert!(scene.agent("invoice-bot").await.metadata.unwrap().revision > revision);
        assert_eq!(reason(&scene.withdraw(GRACE, "").await.unwrap_err()), "DEPARTURE_NOT_FOUND");
        // And leaves once more.
        scene.offboard(leaves(GRACE)).await;
        assert_eq!(scene.sweep().await, 1);
        assert!(is_orphaned(&scene.agent("invoice-bot").await));
    })
    .await;
}

#[tokio::test]
async fn very_many_agents_pass_on_whatever_happens_in_between() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend((0..450).map(|n| agent_of(&format!("bot-{n:03}"), GRACE, if n % 9 == 0 { "" } else { JOAN })));
        scene.apply(all).await.unwrap();
        let said = offboard_preview::preview(&scene.desk, &by(OPERATOR, ""), leaves(GRACE)).await.unwrap();
        let said = said.preview.unwrap();
        assert_eq!((said.agents_named, said.agents_passing, said.agents_orphaned), (451, 400, 51));
        assert!(said.is_exact && said.orphans.len() == 51 && said.orphans[0] == "payments/bot-000");
        assert!(scene.departures(OPERATOR, ListDeparturesRequest::default()).await.is_empty(), "nothing was changed");
        scene.offboard(leaves(GRACE)).await;
        for fault in [DbFault::NotPersisted, DbFault::PersistedButReplyLost, DbFault::NotPersisted] {
            scene.desk.db.faults().plan("succession", fault);
            sweep::sweep(&scene.desk).await.unwrap_err();
        }
        // Somebody else goes on, as after a restart.
        let scene = Scene::on(fixture.db.clone());
        scene.sweep().await;
        assert_eq!(scene.sweep().await, 0);
        let departure = scene.departure(GRACE).await;
        assert_eq!((departure.agents_passed, departure.agents_orphaned), (400, 51));
        let mut orphaned = 0;
        for n in 0..450 {
            let bot = scene.agent(&format!("bot-{n:03}")).await;
            orphaned += usize::from(is_orphaned(&bot));
            assert_eq!(is_orphaned(&bot), n % 9 == 0);
            assert_eq!(bot.metadata.unwrap().version, 2, "each once");
        }
        assert_eq!(orphaned, 50);
        let kinds = scene.kinds().await;
        assert_eq!(kinds.iter().filter(|kind| *kind == "agent.passed_on").count(), 400);
        assert_eq!(kinds.iter().filter(|kind| *kind == "agent.orphaned").count(), 51);
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_made_at_the_same_time_is_caught() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let makes = (0..24).map(|n| {
            let scene = &scene;
            async move { scene.apply(vec![agent_of(&format!("race-{n}"), GRACE, JOAN)]).await.map(|_| n) }
        });
        let ((), made) = futures_util::join!(
            async {
                tokio::task::yield_now().await;
                scene.offboard(leaves(GRACE)).await;
                scene.sweep().await;
            },
            futures_util::future::join_all(makes)
        );
        scene.sweep().await;
        for made in made {
            match made {
                Ok(n) => assert_eq!(who(&scene.agent(&format!("race-{n}")).await).1, [JOAN], "caught"),
                Err(fault) => assert_eq!(reason(&fault), "PERSON_DEPARTED"),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_namespace_says_how_long_and_a_repetition_is_harmless() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        for one in &mut all {
            if let Some(Object::Namespace(namespace)) = &mut one.object {
                namespace.spec = Some(NamespaceSpec { orphan_grace: seconds(60), ..NamespaceSpec::default() });
            }
        }
        scene.apply(all).await.unwrap();
        let ask = OffboardPersonRequest { request_id: "once".into(), ..leaves(GRACE) };
        for fault in [DbFault::NotPersisted, DbFault::PersistedButReplyLost] {
            scene.desk.db.faults().plan("offboard_person", fault);
            scene.offboard_as(OPERATOR, ask.clone()).await.unwrap_err();
        }
        scene.offboard(ask.clone()).await;
        let kinds = scene.kinds().await;
        assert_eq!(kinds.iter().filter(|kind| *kind == "person.offboarded").count(), 1);
        scene.sweep().await;
        let status = scene.agent("invoice-bot").await.status.unwrap();
        assert_eq!(status.suspend_after, Some(prost_types::Timestamp { seconds: NOW + 60, nanos: 0 }));
        // An expiry that comes first is one; a retired agent is nobody's any more.
        scene.clock.advance(Duration::from_secs(59));
        let retired = scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Retire)).await.unwrap().0;
        assert!(!is_orphaned(&retired));
        scene.clock.advance(Duration::from_secs(2));
        assert_eq!(scene.sweep().await, 0);
        let refused = offboard::offboard(
            &scene.desk,
            scene.call(OPERATOR, "on to other things", &leaves(ADA), "once"),
            leaves(ADA),
        );
        assert_eq!(reason(&refused.await.unwrap_err()), "REQUEST_ID_REUSED");
    })
    .await;
}

async fn found(scene: &Scene, filter: &str, as_of: Option<u64>) -> Vec<String> {
    let as_of = as_of.map(|revision| AsOf { at: Some(At::Revision(revision)) });
    let filter = filter.to_owned();
    let list = List { by: by(OPERATOR, ""), kind: Kind::Agent, filter: filter.into(), as_of, ..List::default() };
    let page = list::list(&scene.desk, list).await.unwrap();
    page.objects.iter().map(|one| one.metadata().unwrap().name.clone()).collect()
}

#[tokio::test]
async fn those_that_nobody_is_accountable_for_are_found_also_as_they_were() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend([agent_of("a-bot", GRACE, ""), agent_of("b-bot", JOAN, "")]);
        let before = scene.apply(all).await.unwrap().revision;
        scene.offboard(leaves(GRACE)).await;
        scene.sweep().await;
        let then = scene.agent("a-bot").await.metadata.unwrap().revision;
        assert_eq!(found(&scene, "orphaned_time:*", None).await, ["a-bot", "invoice-bot"]);
        assert_eq!(found(&scene, "NOT orphaned_time:* AND name = b*", None).await, ["b-bot"]);
        assert!(found(&scene, "orphaned_time < 2001-01-01T00:00:00Z", None).await.is_empty());
        scene.clock.advance(DAY * 20);
        scene.sweep().await;
        assert_eq!(found(&scene, "orphaned_time:* AND state = suspended", None).await, ["a-bot", "invoice-bot"]);
        assert_eq!(found(&scene, "orphaned_time:*", Some(then)).await, ["a-bot", "invoice-bot"]);
        assert!(found(&scene, "orphaned_time:*", Some(before)).await.is_empty());
    })
    .await;
}

/// A small source of chance, the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}

#[tokio::test]
async fn whatever_happens_somebody_is_accountable_or_it_is_flagged() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        scene.apply(vec![namespace("sales")]).await.unwrap();
        let mut chance = Chance(0x5eed);
        let person = |n: u64| if n == 0 { String::new() } else { format!("user:p{n}") };
        let mut refused = 0;
        for step in 0..90 {
            let (a, b) = (person(1 + chance.below(6)), person(chance.below(7)));
            let place = if chance.below(3) == 0 { "payments" } else { "" };
            let told = match chance.below(8) {
                0..=3 => {
                    let name = format!("bot-{}", chance.below(6));
                    let c = person(1 + chance.below(6));
                    let spec =
                        AgentSpec { owners: vec![c.clone()], sponsors: vec![a], manager: b, ..agent_spec("worker") };
                    scene.apply(vec![agent_with(&name, spec)]).await.map(|_| ())
                }
                4 | 5 => {
                    let grace = (chance.below(2) == 0).then_some(prost_types::Duration { seconds: 3_600, nanos: 0 });
                    let ask = OffboardPersonRequest { namespace: place.into(), successor: b, grace, ..leaves(&a) };
                    scene.offboard_as(OPERATOR, ask).await.map(|_| ())
                }
                6 => scene.withdraw(&a, place).await.map(|_| ()),
                _ => {
                    scene.clock.advance(Duration::from_secs(1_800));
                    Ok(())
                }
            };
            if let Err(fault) = told {
                refused += 1;
                let known = ["PERSON_DEPARTED", "DEPARTURE_NOT_FOUND", "INVALID_ARGUMENT"];
                assert!(known.contains(&reason(&fault)), "step {step}: {fault}");
            }
            scene.sweep().await;
            assert_eq!(scene.sweep().await, 0, "step {step}: twice is once");
            let ask = ListDeparturesRequest { page_size: 1_000, ..ListDeparturesRequest::default() };
            let left = scene.departures(OPERATOR, ask).await;
            let is_here = |who: &String| !left.iter().any(|gone| gone.person == *who && gone.namespace != "sales");
            for name in found(&scene, "name:*", None).await {
                let agent = scene.agent(&name).await;
                let sponsors = who(&agent).1;
                assert_eq!(sponsors.iter().any(is_here), !is_orphaned(&agent), "step {step}: {name} {sponsors:?}");
                let until = agent.status.as_ref().unwrap().suspend_after;
                let is_over = until.is_some_and(|at| at.seconds <= scene.now());
                assert!(!(is_over && state(&agent) == AgentState::Active), "step {step}: {name} goes on");
            }
        }
        assert!(refused > 5, "the steps meet what is refused too: {refused}");
    })
    .await;
}
