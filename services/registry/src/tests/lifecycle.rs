//! Lifecycle policies are carried out by a clock that the test turns: once, with notice, and so that a resumption begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use legate_clock::Clock as _;
use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::preview_lifecycle_policy_request::Whose;
use legate_wire::registry::*;

use super::faults::BOTH;
use super::operators::given;
use super::scene::*;
use crate::domain::kind::Key;
use crate::domain::lifecycle::Transition;
use crate::flow::list::{self, List};
use crate::flow::transition::{Ask, Step};
use crate::flow::{attest, hear, lifecycle_preview, revoke, sweep};
use crate::schema::Migrator;

pub(super) const DAY: Duration = Duration::from_secs(86_400);
const RESUME: Step = Step::Transition(Transition::Resume);

pub(super) fn days(days: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: days * 86_400, nanos: 0 })
}

/// A policy that is carried out at once, over everybody.
pub(super) fn lifecycle(name: &str, change: impl FnOnce(&mut LifecyclePolicySpec)) -> Declaration {
    let mut spec = LifecyclePolicySpec {
        mode: LifecycleMode::Enforce.into(),
        grace: days(0),
        notify_before: days(0),
        ..LifecyclePolicySpec::default()
    };
    change(&mut spec);
    of(Object::LifecyclePolicy(LifecyclePolicy { metadata: metadata(name), spec: Some(spec), status: None }))
}

fn group(name: &str, selector: &str) -> Declaration {
    let spec = GroupSpec { selector: selector.into(), ..GroupSpec::default() };
    of(Object::Group(Group { metadata: metadata(name), spec: Some(spec) }))
}

/// What the sweep does once the audit log was heard to its end.
pub(super) async fn swept(scene: &Scene) -> usize {
    heard(scene).await;
    sweep::sweep(&scene.desk).await.unwrap()
}

/// The audit log is heard up to now, in which nobody used anything.
async fn heard(scene: &Scene) {
    let place = hear::place(&scene.desk).await.unwrap();
    let now = prost_types::Timestamp::from(scene.desk.clock.now());
    let stretch = legate_wire::audit::ReadUsageResponse {
        origin: "example.org/audit-log".into(),
        through: u64::try_from(now.seconds).unwrap(),
        root: vec![1; 32],
        is_newest: true,
        time: Some(now),
        first_time: Some(prost_types::Timestamp { seconds: NOW - 1_000, nanos: 0 }),
        ..Default::default()
    };
    hear::take(&scene.desk, &place, stretch).await.unwrap();
}

#[tokio::test]
async fn nobody_is_suspended_for_a_silence_that_was_not_heard() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        scene.apply(vec![lifecycle("tidy", |spec| spec.suspend_when_dormant_for = days(30))]).await.unwrap();
        let unheard = async || (sweep::sweep(&scene.desk).await.unwrap(), state(&scene, "invoice-bot").await);
        // Nothing was ever heard.
        scene.clock.advance(40 * DAY);
        assert_eq!(unheard().await, (0, AgentState::Active));
        // Heard for a part of it: audit-collector was away since.
        assert_eq!(swept(&scene).await, 0, "it is looked at again a day later");
        let resumed = Step::Transition(Transition::Suspend);
        scene.step(OTHER, "invoice-bot", resumed).await.unwrap();
        scene.step(OPERATOR, "invoice-bot", RESUME).await.unwrap();
        scene.clock.advance(31 * DAY);
        assert_eq!(unheard().await, (0, AgentState::Active));
        let shown = preview(&scene, OPERATOR, Whose::Name("tidy".into()), Some(NOW + 90 * 86_400)).await.unwrap();
        assert_eq!(shown.len(), 1, "it is foretold all the same");
        // It comes back, and tells that nobody was.
        scene.clock.advance(DAY);
        assert_eq!((swept(&scene).await, state(&scene, "invoice-bot").await), (1, AgentState::Suspended));
    })
    .await;
}

async fn attested(scene: &Scene, actor: &str, name: &str) -> Result<AttestAgentResponse, Fault> {
    let call = scene.call(actor, "still needed", &AttestAgentRequest::default(), "");
    let ask = Ask { agent: Some(by_name(name)), etag: String::new() };
    attest::attest(&scene.desk, call, ask).await
}

pub(super) async fn state(scene: &Scene, name: &str) -> AgentState {
    scene.agent(name).await.status.unwrap().state()
}

pub(super) async fn told(scene: &Scene, kind: &str) -> usize {
    scene.kinds().await.iter().filter(|told| *told == kind).count()
}

pub(super) async fn preview(
    scene: &Scene,
    actor: &str,
    whose: Whose,
    until: Option<i64>,
) -> Result<Vec<LifecycleImpact>, Fault> {
    let mut ask = PreviewLifecyclePolicyRequest {
        namespace: "payments".into(),
        whose: Some(whose),
        until_time: until.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
        page_size: 7,
        page_token: String::new(),
    };
    let mut all = Vec::new();
    loop {
        let page = lifecycle_preview::preview(&scene.desk, &by(actor, ""), ask.clone()).await?;
        all.extend(page.impacts);
        ask.page_token = page.next_page_token;
        if ask.page_token.is_empty() {
            return Ok(all);
        }
    }
}

#[tokio::test]
async fn what_nobody_confirms_is_stopped_and_at_last_retired() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let policy = lifecycle("tidy", |spec| {
            spec.attest_every = days(30);
            spec.retire_after_suspended_for = days(90);
            spec.grace = days(5);
            spec.notify_before = days(3);
        });
        scene.apply(vec![policy]).await.unwrap();
        assert_eq!(swept(&scene).await, 0);
        let status = scene.agent("invoice-bot").await.status.unwrap();
        assert_eq!(status.next_attestation_time.unwrap().seconds, NOW + 30 * 86_400);
        assert_eq!(status.lifecycle_due_time.unwrap().seconds, NOW + 35 * 86_400);

        scene.clock.advance(31 * DAY);
        assert_eq!((swept(&scene).await, told(&scene, "agent.lifecycle_due").await), (0, 0));
        scene.clock.advance(DAY);
        assert_eq!((swept(&scene).await, told(&scene, "agent.lifecycle_due").await), (0, 1), "three days before");
        scene.clock.advance(DAY);
        assert_eq!((swept(&scene).await, told(&scene, "agent.lifecycle_due").await), (0, 1), "once");

        attested(&scene, OTHER, "invoice-bot").await.unwrap();
        scene.clock.advance(30 * DAY);
        assert_eq!(swept(&scene).await, 0, "it was confirmed");
        assert_eq!(state(&scene, "invoice-bot").await, AgentState::Active);
        let notices = scene.events().await;
        let notice = notices.iter().find(|event| event.r#type == "agent.lifecycle_due").unwrap();
        assert_eq!(notice.reason, "lifecycle policy payments/tidy: nobody confirmed it for 30 days");
        assert_eq!((notice.details["action"].as_str(), notice.details["rule"].as_str()), ("SUSPEND", "UNATTESTED"));

        scene.clock.advance(5 * DAY);
        assert_eq!(swept(&scene).await, 1);
        let status = scene.agent("invoice-bot").await.status.unwrap();
        assert_eq!((status.state(), status.lifecycle_version), (AgentState::Suspended, 2));
        assert_eq!(status.state_reason, "lifecycle policy payments/tidy: nobody confirmed it for 30 days");
        assert_eq!(status.state_actor, "spiffe://example.org/legate/registry");
        assert_eq!((swept(&scene).await, told(&scene, "agent.suspended").await), (0, 1), "once");

        // Whoever resumes it has all of the time again.
        scene.step(OTHER, "invoice-bot", RESUME).await.unwrap();
        assert_eq!(swept(&scene).await, 0);
        scene.clock.advance(34 * DAY);
        assert_eq!((swept(&scene).await, state(&scene, "invoice-bot").await), (0, AgentState::Active));
        scene.clock.advance(DAY);
        assert_eq!(swept(&scene).await, 1);
        scene.clock.advance(94 * DAY);
        assert_eq!((swept(&scene).await, state(&scene, "invoice-bot").await), (0, AgentState::Suspended));
        scene.clock.advance(DAY);
        let id = scene.agent("invoice-bot").await.metadata.unwrap().id;
        assert_eq!((swept(&scene).await, told(&scene, "agent.retired").await), (1, 1));
        assert_eq!(reason(&attested(&scene, OTHER, "invoice-bot").await.unwrap_err()), "AGENT_NOT_FOUND");
        scene.clock.advance(1_000 * DAY);
        assert_eq!(swept(&scene).await, 0, "{id} is no more");
    })
    .await;
}

#[tokio::test]
async fn only_who_is_not_its_own_judge_confirms_an_agent() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.appoint(&["ada", "grace"]).await.unwrap();
        scene.apply(payments()).await.unwrap();
        let refused = async |actor: &str, name: &str| reason(&attested(&scene, actor, name).await.unwrap_err());
        assert_eq!(refused(OPERATOR, "invoice-bot").await, "SELF_APPROVAL", "ada declared it");
        assert_eq!(refused("spiffe://example.org/legate/operator/bob", "invoice-bot").await, "OPERATOR_NOT_PERMITTED");
        let done = attested(&scene, OTHER, "invoice-bot").await.unwrap().agent.unwrap().status.unwrap();
        assert_eq!(done.last_attestation_time.unwrap().seconds, NOW);
        assert_eq!((done.last_attestation_actor.as_str(), done.lifecycle_version), (OTHER, 1), "nothing of it dies");
        for role in [OperatorRole::Viewer, OperatorRole::Editor] {
            scene.apply(vec![given("bobs", "payments", &["bob"], role)]).await.unwrap();
            let bob = "spiffe://example.org/legate/operator/bob";
            assert_eq!(refused(bob, "invoice-bot").await, "OPERATOR_NOT_PERMITTED", "{role:?}");
        }
        scene.apply(vec![class("asks", true), agent("new-bot", "asks")]).await.unwrap();
        assert_eq!(refused(OTHER, "new-bot").await, "AGENT_STATE_WRONG", "approve it");
        scene.step(OTHER, "invoice-bot", Step::Transition(Transition::Quarantine)).await.unwrap();
        assert_eq!(refused(OTHER, "invoice-bot").await, "AGENT_STATE_WRONG");
    })
    .await;
}

#[tokio::test]
async fn a_policy_that_reports_only_says_what_it_would_do() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let mode = |mode: LifecycleMode| {
            lifecycle("tidy", |spec| {
                spec.suspend_when_dormant_for = days(30);
                spec.notify_before = days(10);
                spec.mode = mode.into();
            })
        };
        scene.apply(vec![mode(LifecycleMode::Report)]).await.unwrap();
        scene.clock.advance(40 * DAY);
        for _ in 0..2 {
            assert_eq!((swept(&scene).await, state(&scene, "invoice-bot").await), (0, AgentState::Active));
            assert_eq!(told(&scene, "agent.lifecycle_reported").await, 1, "once");
            scene.clock.advance(DAY);
        }
        assert_eq!(told(&scene, "agent.lifecycle_due").await, 0);
        let shown = preview(&scene, OPERATOR, Whose::Name("tidy".into()), None).await.unwrap();
        assert!(shown.len() == 1 && shown[0].report_only);
        scene.apply(vec![mode(LifecycleMode::Enforce)]).await.unwrap();
        assert_eq!((swept(&scene).await, state(&scene, "invoice-bot").await), (1, AgentState::Suspended));
    })
    .await;
}

/// Agents of two classes and several labels, under policies that overlap.
async fn organisation(scene: &Scene, count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|n| format!("bot-{n:04}")).collect();
    let mut all = vec![namespace("payments"), class("worker", false), class("clerk", false)];
    all.extend(names.iter().enumerate().map(|(n, name)| {
        let mut spec = agent_spec(if n % 3 == 0 { "clerk" } else { "worker" });
        spec.model = format!("m-{}", n % 5);
        agent_with(name, spec)
    }));
    for some in all.chunks(400) {
        scene.apply(some.to_vec()).await.unwrap();
    }
    names
}

fn overlapping() -> Vec<Declaration> {
    vec![
        group("odd", "model = m-1 OR model = m-3"),
        lifecycle("a", |spec| {
            spec.groups = vec!["odd".into()];
            spec.attest_every = days(20);
            spec.unattested = LifecycleAction::Quarantine.into();
        }),
        lifecycle("b", |spec| {
            spec.agent_classes = vec!["clerk".into()];
            spec.suspend_when_dormant_for = days(20);
            spec.retire_after_suspended_for = days(15);
        }),
        lifecycle("c", |spec| {
            spec.selector = "model = m-4".into();
            spec.expire_after = days(10);
            spec.grace = days(4);
        }),
        lifecycle("only-told", |spec| {
            spec.mode = LifecycleMode::Report.into();
            spec.expire_after = days(1);
        }),
    ]
}

#[tokio::test]
async fn what_is_previewed_is_what_is_done() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let names = organisation(&scene, 60).await;
        scene.apply(overlapping()).await.unwrap();
        let until = NOW + 22 * 86_400;
        let shown = preview(&scene, OPERATOR, Whose::All(true), Some(until)).await.unwrap();
        let foretold: BTreeMap<String, (LifecycleAction, String)> = shown
            .iter()
            .filter(|impact| !impact.report_only)
            .map(|impact| (impact.agent.clone(), (impact.action(), impact.policy.clone())))
            .collect();
        assert!(foretold.len() > 20 && foretold.len() < 60);
        scene.clock.advance(22 * DAY);
        assert_eq!(swept(&scene).await, foretold.len());
        for name in names {
            let status = scene.agent(&name).await.status.unwrap();
            let expected = match foretold.get(&name) {
                None => (AgentState::Active, String::new()),
                Some((action, policy)) => {
                    let state = match action {
                        LifecycleAction::Suspend => AgentState::Suspended,
                        LifecycleAction::Expire => AgentState::Expired,
                        LifecycleAction::Quarantine => AgentState::Quarantined,
                        _ => AgentState::Retired,
                    };
                    (state, format!("lifecycle policy payments/{policy}: "))
                }
            };
            assert_eq!(status.state(), expected.0, "{name}");
            assert!(status.state_reason.starts_with(&expected.1), "{name}: {}", status.state_reason);
        }
    })
    .await;
}

#[tokio::test]
async fn a_policy_can_be_tried_before_it_is_declared() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        scene.clock.advance(100 * DAY);
        let now = NOW + 100 * 86_400;
        let wanted = lifecycle("tidy", |spec| {
            spec.suspend_when_dormant_for = days(60);
            spec.grace = days(7);
        });
        let Some(Object::LifecyclePolicy(policy)) = wanted.object.clone() else { panic!("no policy") };
        let shown = preview(&scene, OPERATOR, Whose::Policy(policy.clone()), None).await.unwrap();
        assert_eq!(shown.len(), 1);
        let told = (shown[0].agent.as_str(), shown[0].action(), shown[0].rule(), shown[0].act_time.unwrap().seconds);
        let expected = ("invoice-bot", LifecycleAction::Suspend, LifecycleRule::Dormant, now + 7 * 86_400);
        assert_eq!(told, expected, "the grace is everybody's from when it is declared");
        assert_eq!(preview(&scene, OPERATOR, Whose::Policy(policy.clone()), Some(now + 86_400)).await.unwrap(), []);
        assert_eq!(swept(&scene).await, 0, "nothing was changed");

        let refused = async |whose: Whose, until: Option<i64>| {
            reason(&preview(&scene, OPERATOR, whose, until).await.unwrap_err())
        };
        assert_eq!(refused(Whose::Name("nobody".into()), None).await, "OBJECT_NOT_FOUND");
        assert_eq!(refused(Whose::All(false), None).await, "INVALID_ARGUMENT");
        assert_eq!(refused(Whose::All(true), Some(now - 1)).await, "INVALID_ARGUMENT");
        assert_eq!(refused(Whose::All(true), Some(now + 3_700 * 86_400)).await, "INVALID_ARGUMENT");
        let mut elsewhere = policy.clone();
        elsewhere.metadata.as_mut().unwrap().namespace = "sales".into();
        assert_eq!(refused(Whose::Policy(elsewhere), None).await, "INVALID_ARGUMENT");
        let mut absurd = policy;
        absurd.spec.as_mut().unwrap().suspend_when_dormant_for = days(10_000);
        assert_eq!(refused(Whose::Policy(absurd), None).await, "INVALID_ARGUMENT");
    })
    .await;
}

#[tokio::test]
async fn who_has_no_role_in_the_namespace_sees_nothing_of_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let bob = "spiffe://example.org/legate/operator/bob";
        scene.appoint(&["ada"]).await.unwrap();
        scene.apply(payments()).await.unwrap();
        scene.apply(vec![namespace("sales"), given("bobs", "sales", &["bob"], OperatorRole::Admin)]).await.unwrap();
        scene.apply(vec![lifecycle("tidy", |spec| spec.expire_after = days(1))]).await.unwrap();
        for whose in [Whose::All(true), Whose::Name("tidy".into()), Whose::Name("none".into())] {
            let refused = preview(&scene, bob, whose, None).await.unwrap_err();
            assert_eq!(reason(&refused), "OPERATOR_NOT_PERMITTED");
        }
        let written = scene.apply_as(bob, vec![lifecycle("mine", |spec| spec.expire_after = days(1))], "", 0).await;
        assert_eq!(reason(&written.unwrap_err()), "OPERATOR_NOT_PERMITTED");
    })
    .await;
}

#[tokio::test]
async fn thousands_are_reckoned_anew_and_that_goes_on_after_a_crash() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let names = organisation(&scene, 450).await;
        scene.apply(vec![lifecycle("tidy", |spec| spec.attest_every = days(30))]).await.unwrap();
        let due = async |scene: &Scene| {
            let (filter, page_size) = ("lifecycle_due_time:*".to_owned().into(), 1_000);
            let ask = List { by: by(OPERATOR, ""), kind: Kind::Agent, filter, page_size, ..List::default() };
            list::list(&scene.desk, ask).await.unwrap().objects.len()
        };
        // The process dies in the second of three pieces, before and after it is on disk.
        scene.desk.db.faults().plan("lifecycle_replan", BOTH[0]);
        sweep::sweep(&scene.desk).await.unwrap_err();
        assert_eq!(due(&scene).await, 0);
        scene.desk.db.faults().plan("lifecycle_replan", BOTH[1]);
        sweep::sweep(&scene.desk).await.unwrap_err();
        assert_eq!(due(&scene).await, 200);
        let again = Scene::on(fixture.db.clone());
        again.clock.jump_to(scene.clock.now());
        assert_eq!((swept(&again).await, due(&again).await), (0, names.len()));

        again.clock.advance(30 * DAY);
        for fault in BOTH {
            again.desk.db.faults().plan("lifecycle_act", fault);
            sweep::sweep(&again.desk).await.unwrap_err();
        }
        swept(&again).await;
        assert_eq!(told(&again, "agent.suspended").await, names.len(), "each once");
        assert_eq!(swept(&again).await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_group_or_a_policy_that_changes_is_seen_at_once() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        organisation(&scene, 6).await;
        let policy = |span: i64| {
            lifecycle("tidy", |spec| {
                spec.groups = vec!["some".into()];
                spec.attest_every = days(span);
            })
        };
        let due = async || {
            let ask = List {
                by: by(OPERATOR, ""),
                kind: Kind::Agent,
                filter: "lifecycle_due_time < 2030-06-01T00:00:00Z".to_owned().into(),
                ..List::default()
            };
            let found = list::list(&scene.desk, ask).await.unwrap().objects;
            found.iter().map(|one| one.metadata().unwrap().name.clone()).collect::<BTreeSet<_>>().len()
        };
        scene.apply(vec![group("some", "model = m-1"), policy(30)]).await.unwrap();
        swept(&scene).await;
        assert_eq!(due().await, 1);
        scene.apply(vec![group("some", "model = m-0 OR model = m-1")]).await.unwrap();
        swept(&scene).await;
        assert_eq!(due().await, 3);
        scene.apply(vec![policy(700)]).await.unwrap();
        swept(&scene).await;
        assert_eq!(due().await, 0, "in two years");
        scene.apply(vec![policy(3)]).await.unwrap();
        swept(&scene).await;
        let call = scene.call(OPERATOR, "no longer", &(), "");
        let key = Key::new(Kind::LifecyclePolicy, "payments", "tidy");
        revoke::revoke(&scene.desk, call, key, String::new()).await.unwrap();
        swept(&scene).await;
        assert_eq!(due().await, 0);
        scene.clock.advance(1_000 * DAY);
        assert_eq!(swept(&scene).await, 0, "what is taken back does nothing");
    })
    .await;
}

#[tokio::test]
async fn what_is_due_is_known_of_agents_as_they_are_only() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let ask = List {
            by: by(OPERATOR, ""),
            kind: Kind::Agent,
            filter: "lifecycle_due_time:*".to_owned().into(),
            as_of: Some(AsOf { at: Some(as_of::At::Revision(1)) }),
            ..List::default()
        };
        assert_eq!(reason(&list::list(&scene.desk, ask).await.unwrap_err()), "INVALID_ARGUMENT");
    })
    .await;
}

#[tokio::test]
async fn a_namespace_has_so_many_policies_and_no_more() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let one = |n: usize| lifecycle(&format!("p-{n}"), |spec| spec.expire_after = days(1));
        scene.apply((0..64).map(one).collect()).await.unwrap();
        assert_eq!(reason(&scene.apply(vec![one(64)]).await.unwrap_err()), "LIFECYCLE_POLICIES_FULL");
        scene.apply(vec![one(3)]).await.unwrap();
    })
    .await;
}

/// Days pass, people confirm, resume and forget, by chance that is the same each time: the agent is stopped exactly when nobody confirmed or
/// resumed it for ten days and the grace of two.
#[tokio::test]
async fn it_is_stopped_exactly_when_its_time_is_over() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let policy = lifecycle("tidy", |spec| {
            spec.attest_every = days(10);
            spec.grace = days(2);
        });
        scene.apply(vec![policy]).await.unwrap();
        let (mut chance, mut today, mut since, mut is_active) = (7u64, 0u64, 0u64, true);
        for step in 0..120 {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            match chance >> 60 {
                0..=8 => {
                    let passed = 1 + (chance >> 40) % 5;
                    scene.clock.advance(DAY * u32::try_from(passed).unwrap());
                    today += passed;
                }
                9..=11 => {
                    attested(&scene, OTHER, "invoice-bot").await.unwrap();
                    since = today;
                }
                _ if !is_active => {
                    scene.step(OTHER, "invoice-bot", RESUME).await.unwrap();
                    (since, is_active) = (today, true);
                }
                _ => {}
            }
            let is_over = is_active && today >= since + 12;
            is_active &= !is_over;
            assert_eq!(swept(&scene).await, usize::from(is_over), "step {step}, day {today}, since {since}");
            assert_eq!(state(&scene, "invoice-bot").await == AgentState::Active, is_active, "step {step}");
        }
    })
    .await;
}
