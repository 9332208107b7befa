//! Persons leave: what they answer for passes on or is flagged, nobody names them again, and all of it survives a fault.

use std::time::Duration;

use legate_db::Fault as DbFault;
use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    Agent, AgentSpec, AgentState, Declaration, Departure, ListDeparturesRequest, Metadata, NamespaceSpec,
    OffboardPersonRequest, OffboardPersonResponse, OperatorBinding, OperatorBindingSpec, OperatorRole,
    WithdrawDepartureRequest,
};

use super::scene::*;
use crate::domain::lifecycle::Transition;
use crate::flow::transition::Step;
use crate::flow::{create_agent, departures, offboard, offboard_preview, plan, sweep, update};
use crate::schema::Migrator;

const ADA: &str = "user:ada@example.com";
const GRACE: &str = "user:grace@example.com";
const JOAN: &str = "user:joan@example.com";
const DAY: Duration = Duration::from_secs(86_400);
const BOB: &str = "spiffe://example.org/legate/operator/bob";

pub(super) fn leaves(person: &str) -> OffboardPersonRequest {
    OffboardPersonRequest { person: person.into(), ..OffboardPersonRequest::default() }
}

fn agent_of(name: &str, sponsor: &str, manager: &str) -> Declaration {
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

    async fn withdraw(&self, person: &str, namespace: &str) -> Result<Departure, Fault> {
        let ask = WithdrawDepartureRequest {
            person: person.into(),
            namespace: namespace.into(),
            ..WithdrawDepartureRequest::default()
        };
        let call = self.call(OPERATOR, "a mistake", &ask, "");
        Ok(departures::withdraw(&self.desk, call, ask).await?.departure.unwrap())
    }

    pub(super) async fn sweep(&self) -> usize {
        sweep::sweep(&self.desk).await.unwrap()
    }

    async fn departures(&self, actor: &str, ask: ListDeparturesRequest) -> Vec<Departure> {
        departures::list(&self.desk, &by(actor, ""), ask).await.unwrap().departures
    }

    async fn departure(&self, person: &str) -> Departure {
        let ask = ListDeparturesRequest { person: person.into(), with_withdrawn: true, ..Default::default() };
        self.departures(OPERATOR, ask).await.remove(0)
    }

    async fn update(&self, name: &str, change: impl FnOnce(&mut AgentSpec), path: &str) -> Result<(), Fault> {
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

fn is_orphaned(agent: &Agent) -> bool {
    let status = agent.status.as_ref().unwrap();
    assert_eq!(status.orphaned_time.is_some(), status.suspend_after.is_some());
    status.orphaned_time.is_some()
}

fn state(agent: &Agent) -> AgentState {
    agent.status.as_ref().unwrap().state()
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
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
async fn whoever_left_is_named_in_no_write() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        scene.offboard(OffboardPersonRequest { operators: vec!["third".into()], ..leaves(JOAN) }).await;
        let refused = |told: Result<(), Fault>, path: &str| {
            let fault = told.unwrap_err();
            assert_eq!(reason(&fault), "PERSON_DEPARTED", "{fault}");
            assert!(fault.to_string().contains(path) && fault.to_string().contains(JOAN), "{fault}");
        };
        let spec = |change: fn(&mut AgentSpec)| {
            let mut spec = agent_spec("worker");
            change(&mut spec);
            agent_with("late-bot", spec)
        };
        for (wanted, path) in [
            (spec(|s| s.owners.push(JOAN.into())), "spec.owners[1]"),
            (spec(|s| s.sponsors = vec![JOAN.into()]), "spec.sponsors[0]"),
            (spec(|s| s.manager = JOAN.into()), "spec.manager"),
        ] {
            refused(scene.apply(vec![wanted.clone()]).await.map(|_| ()), path);
            let planned = plan::plan(&scene.desk, &by(OPERATOR, ""), vec![wanted.clone()], Vec::new()).await;
            refused(planned.map(|_| ()), path);
            let Some(Object::Agent(agent)) = wanted.object else { panic!("no agent") };
            let call = scene.call(OPERATOR, "", &agent, "");
            refused(create_agent::create_agent(&scene.desk, call, agent).await.map(|_| ()), path);
        }
        let by_update = scene.update("invoice-bot", |spec| spec.owners.push(JOAN.into()), "spec.owners").await;
        refused(by_update, "spec.owners[1]");
        // Nor as a successor, or as an operator in a binding, of any namespace.
        let late = OffboardPersonRequest { successor: JOAN.into(), ..leaves(ADA) };
        refused(scene.offboard_as(OPERATOR, late).await.map(|_| ()), "successor");
        for place in ["", "payments"] {
            let fault = scene.apply(vec![appointed("again", place, &["third"])]).await.unwrap_err();
            assert_eq!(reason(&fault), "PERSON_DEPARTED", "{fault}");
        }
        // Who is only called alike is somebody else.
        scene.apply(vec![agent_of("other-bot", "user:joan@example.co", "group:joan@example.com")]).await.unwrap();
        scene.withdraw(JOAN, "").await.unwrap();
        scene.apply(vec![agent_of("late-bot", JOAN, "")]).await.unwrap();
    })
    .await;
}

fn appointed(name: &str, namespace: &str, operators: &[&str]) -> Declaration {
    let metadata = Metadata { name: name.into(), namespace: namespace.into(), ..Metadata::default() };
    let operators = operators.iter().map(|name| (*name).to_owned()).collect();
    let spec = OperatorBindingSpec { operators, role: OperatorRole::Admin.into(), ..OperatorBindingSpec::default() };
    of(Object::OperatorBinding(OperatorBinding { metadata: Some(metadata), spec: Some(spec) }))
}

#[tokio::test]
async fn an_operators_roles_end_with_the_person_and_the_last_administrator_stays() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        assert!(scene.appoint(&["ada"]).await.unwrap());
        scene.apply(payments()).await.unwrap();
        scene.apply(vec![namespace("sales")]).await.unwrap();
        let all = vec![
            appointed("both", "payments", &["bob", "eve"]),
            appointed("alone", "payments", &["bob"]),
            appointed("elsewhere", "sales", &["bob"]),
        ];
        scene.apply(all).await.unwrap();
        let bobs = OffboardPersonRequest { operators: vec!["bob".into()], ..leaves("user:bob") };
        let from_payments = OffboardPersonRequest { namespace: "payments".into(), ..bobs.clone() };
        let preview = offboard_preview::preview(&scene.desk, &by(OPERATOR, ""), from_payments.clone()).await.unwrap();
        assert_eq!(preview.preview.unwrap().operator_bindings, 2);
        scene.offboard_as(BOB, from_payments).await.unwrap();
        // At once, in that namespace.
        let refused = scene.apply_as(BOB, vec![role("more", "a:b")], "", 0).await.unwrap_err();
        assert_eq!(reason(&refused), "OPERATOR_NOT_PERMITTED");
        let there = |kind: &'static str| {
            let scene = &scene;
            async move {
                let kinds = scene.kinds().await;
                kinds.into_iter().filter(|k| k == kind).count()
            }
        };
        assert_eq!(there("operator_binding.revoked").await, 1, "nobody was left in it");
        assert_eq!(there("operator_binding.updated").await, 1);
        scene.offboard(bobs).await;
        assert_eq!(there("operator_binding.revoked").await, 2, "and everywhere");

        let last = OffboardPersonRequest { operators: vec!["ada".into()], ..leaves(ADA) };
        let before = scene.events().await.len();
        let refused = scene.offboard_as(OPERATOR, last.clone()).await.unwrap_err();
        assert_eq!(reason(&refused), "LAST_ADMINISTRATOR");
        assert_eq!(scene.events().await.len(), before, "nothing of it is written");
        assert!(
            scene
                .departures(OPERATOR, ListDeparturesRequest { person: ADA.into(), ..Default::default() })
                .await
                .is_empty()
        );
        scene.apply(vec![appointed("next", "", &["grace"])]).await.unwrap();
        scene.offboard(last).await;
        let refused = scene.apply(vec![role("more", "a:b")]).await.unwrap_err();
        assert_eq!(reason(&refused), "OPERATOR_NOT_PERMITTED");
    })
    .await;
}

#[tokio::test]
async fn who_may_let_somebody_leave_and_who_sees_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        assert!(scene.appoint(&["ada"]).await.unwrap());
        scene.apply(payments()).await.unwrap();
        scene.apply(vec![namespace("sales"), appointed("bobs", "payments", &["bob"])]).await.unwrap();
        let of = |namespace: &str| OffboardPersonRequest { namespace: namespace.into(), ..leaves(GRACE) };
        for (namespace, expected) in
            [("payments", "done"), ("sales", "OPERATOR_NOT_PERMITTED"), ("", "OPERATOR_NOT_PERMITTED")]
        {
            let told = scene.offboard_as(BOB, of(namespace)).await;
            assert_eq!(told.map_or_else(|fault| reason(&fault), |_| "done"), expected, "{namespace}");
            let told = offboard_preview::preview(&scene.desk, &by(BOB, ""), of(namespace)).await;
            assert_eq!(told.map_or_else(|fault| reason(&fault), |_| "done"), expected, "{namespace}");
        }
        assert_eq!(reason(&scene.offboard_as(OPERATOR, of("nowhere")).await.unwrap_err()), "OBJECT_NOT_FOUND");
        // In its namespace only, and the flag with it.
        scene.sweep().await;
        assert!(is_orphaned(&scene.agent("invoice-bot").await));
        scene.offboard(of("sales")).await;
        scene.offboard(of("")).await;
        let seen = |all: Vec<Departure>| all.into_iter().map(|d| d.namespace).collect::<Vec<_>>();
        assert_eq!(seen(scene.departures(BOB, ListDeparturesRequest::default()).await), ["payments"]);
        let all = seen(scene.departures(OPERATOR, ListDeparturesRequest::default()).await);
        assert_eq!(all.len(), 3);
        // A page at a time, each once.
        let mut paged = Vec::new();
        let mut ask = ListDeparturesRequest { page_size: 1, ..ListDeparturesRequest::default() };
        loop {
            let page = departures::list(&scene.desk, &by(OPERATOR, ""), ask.clone()).await.unwrap();
            paged.extend(seen(page.departures));
            ask.page_token = page.next_page_token;
            if ask.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(paged, all);
        let stolen = ListDeparturesRequest { page_token: "00.11".into(), ..ListDeparturesRequest::default() };
        let refused = departures::list(&scene.desk, &by(OPERATOR, ""), stolen).await.unwrap_err();
        assert_eq!(reason(&refused), "PAGE_TOKEN_INVALID");
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
async fn what_cannot_be_meant_is_refused_by_name() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let with = |change: fn(&mut OffboardPersonRequest)| {
            let mut ask = leaves(GRACE);
            change(&mut ask);
            ask
        };
        for (ask, field) in [
            (leaves(""), "person"),
            (leaves("group:payments"), "person"),
            (leaves("grace@example.com"), "person"),
            (leaves("user:"), "person"),
            (leaves("user:a b"), "person"),
            (leaves("user:a\u{202e}b"), "person"),
            (leaves("user:a\u{0}"), "person"),
            (leaves("user:\u{1b}[2J"), "person"),
            (leaves(&format!("user:{}", "x".repeat(257))), "person"),
            (with(|a| a.successor = "agent:invoice-bot".into()), "successor"),
            (with(|a| a.successor = GRACE.into()), "successor"),
            (with(|a| a.namespace = "Payments".into()), "namespace"),
            (with(|a| a.grace = seconds(90 * 86_400 + 1)), "grace"),
            (with(|a| a.grace = seconds(-1)), "grace"),
            (with(|a| a.operators = vec!["Bob".into()]), "operators[0]"),
            (with(|a| a.operators = vec!["bob".into(), "bob".into()]), "operators[1]"),
            (with(|a| a.operators = (0..17).map(|n| format!("bob-{n}")).collect()), "operators"),
        ] {
            let fault = scene.offboard_as(OPERATOR, ask.clone()).await.unwrap_err();
            assert_eq!(reason(&fault), "INVALID_ARGUMENT", "{ask:?}");
            assert!(fault.to_string().contains(field), "{ask:?}: {fault}");
            let fault = offboard_preview::preview(&scene.desk, &by(OPERATOR, ""), ask).await.unwrap_err();
            assert_eq!(reason(&fault), "INVALID_ARGUMENT");
        }
        let call = scene.call(OPERATOR, " ", &leaves(GRACE), "");
        let fault = offboard::offboard(&scene.desk, call, leaves(GRACE)).await.unwrap_err();
        assert!(fault.to_string().contains("reason"), "{fault}");
        // What is odd and allowed is no other person's name, and no wildcard.
        for odd in ["user:%", "user:_", "user:'; DROP TABLE object; --", "user:*", "user:GRACE@example.com"] {
            if odd.contains(' ') {
                continue;
            }
            scene.offboard(leaves(odd)).await;
        }
        assert_eq!(scene.sweep().await, 0);
        assert!(
            scene
                .departures(OPERATOR, ListDeparturesRequest { person: "user:x".into(), ..Default::default() })
                .await
                .is_empty()
        );
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
