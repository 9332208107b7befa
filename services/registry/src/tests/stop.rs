//! Agents are stopped by one write at every level, nobody gets out of it, and a resumption leaves everything as it was.

use std::time::Duration;

use legate_clock::{Clock as _, Timestamp};
use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::stop_scope::Level;
use legate_wire::registry::{
    AgentSpec, AgentState, BlastRadius, Declaration, DelegationGrant, DelegationGrantSpec, Group, GroupSpec,
    HandOverAgentRequest, Kind, ResumeAgentsRequest, ResumeAgentsResponse, StopAgentsRequest, StopAgentsResponse,
    StopScope,
};

use super::scene::*;
use super::spawning::{calling_since, wish};
use crate::domain::kind::Key;
use crate::domain::lifecycle::Transition;
use crate::flow::list::{self, List};
use crate::flow::transition::Step;
use crate::flow::{followers, hand_over, read, revoke, spawn, stop, stop_preview, update};
use crate::schema::Migrator;

fn scope(namespace: &str, level: Level) -> Option<StopScope> {
    Some(StopScope { namespace: namespace.into(), level: Some(level) })
}

async fn stopped_by(
    scene: &Scene,
    who: &str,
    scope: Option<StopScope>,
    request_id: &str,
) -> Result<StopAgentsResponse, Fault> {
    let (request_id, reason) = (request_id.to_owned(), "exfiltrates".to_owned());
    let ask = StopAgentsRequest { scope, validate_only: false, request_id, reason };
    let call = scene.call(who, &ask.reason, &ask, &ask.request_id);
    stop::stop(&scene.desk, call, ask).await
}

async fn stopped(scene: &Scene, namespace: &str, level: Level) -> StopAgentsResponse {
    stopped_by(scene, OPERATOR, scope(namespace, level), "").await.unwrap()
}

async fn resumed_by(scene: &Scene, who: &str, namespace: &str, level: Level) -> Result<ResumeAgentsResponse, Fault> {
    let ask = ResumeAgentsRequest {
        scope: scope(namespace, level),
        reason: "explained".into(),
        ..ResumeAgentsRequest::default()
    };
    let call = scene.call(who, &ask.reason, &ask, "");
    stop::resume(&scene.desk, call, ask).await
}

async fn resumed(scene: &Scene, namespace: &str, level: Level) -> ResumeAgentsResponse {
    resumed_by(scene, OPERATOR, namespace, level).await.unwrap()
}

async fn radius(scene: &Scene, namespace: &str, level: Level) -> BlastRadius {
    let ask = StopAgentsRequest { scope: scope(namespace, level), validate_only: true, ..StopAgentsRequest::default() };
    let told = stop_preview::preview(&scene.desk, &by(OPERATOR, ""), ask).await.unwrap();
    assert!(told.order.is_none() && told.stop_time.is_none());
    told.radius.unwrap()
}

fn group(name: &str, selector: &str, agents: &[&str]) -> Declaration {
    let agents = agents.iter().map(ToString::to_string).collect();
    let spec = GroupSpec { selector: selector.into(), agents, ..GroupSpec::default() };
    of(Object::Group(Group { metadata: metadata(name), spec: Some(spec) }))
}

/// The namespace lets agents make agents, and has a group that `invoice-bot` is in.
fn world() -> Vec<Declaration> {
    let mut all = payments();
    for one in &mut all {
        if let Some(Object::Namespace(namespace)) = &mut one.object {
            namespace.spec.get_or_insert_default().max_spawn_depth = 1;
        }
    }
    all.extend([group("clerks", "", &["invoice-bot"]), class("other", false)]);
    all
}

fn every_level() -> [(&'static str, Level); 7] {
    [
        ("payments", Level::Agent("invoice-bot".into())),
        ("payments", Level::AgentClass("worker".into())),
        ("payments", Level::Group("clerks".into())),
        ("payments", Level::Owner("user:ada@example.com".into())),
        ("", Level::Owner("user:ada@example.com".into())),
        ("payments", Level::WholeNamespace(true)),
        ("", Level::Everywhere(true)),
    ]
}

#[tokio::test]
async fn a_stop_is_one_write_at_every_level_and_a_resumption_leaves_everything_as_it_was() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(world()).await.unwrap();
        let bot = scene.agent("invoice-bot").await;
        let spawned = async |name: &str, issued: Timestamp| {
            let ask = wish(name);
            let call = scene.call("spiffe://example.org/the-agent", &ask.reason, &ask, "");
            let made = spawn::spawn(&scene.desk, call, calling_since(&bot, issued), ask).await;
            made.map_err(|fault| fault.reason()).err()
        };
        for (n, (namespace, level)) in every_level().into_iter().enumerate() {
            let issued = scene.clock.now();
            assert_eq!(spawned(&format!("made-{n}"), issued).await, None, "{level:?}");
            let events = scene.events().await.len();
            let done = stopped(&scene, namespace, level.clone()).await;
            let order = done.order.clone().unwrap();
            let (metadata, status) = (order.metadata.clone().unwrap(), order.status.clone().unwrap());
            assert_eq!((metadata.revision, metadata.namespace.as_str()), (done.revision, namespace));
            assert_eq!(done.stop_time, Some(issued.into()));
            assert_eq!((status.state_actor.as_str(), status.state_reason.as_str()), (OPERATOR, "exfiltrates"));
            let told = scene.events().await;
            assert_eq!(told.len(), events + 1);
            let event = told.last().unwrap();
            assert_eq!((event.r#type.as_str(), event.reason.as_str()), ("stop_order.stopped", "exfiltrates"));
            assert!(event.details.contains_key("stopped") && event.details.contains_key("authorization_cutoff"));
            let mut seen = scene.agent("invoice-bot").await;
            let stops = std::mem::take(&mut seen.status.as_mut().unwrap().stops);
            assert_eq!(seen, bot, "no agent is written");
            // It is said of each whom the order names, and of whoever they made.
            let [said] = &stops[..] else { panic!("{stops:?}") };
            assert_eq!((&said.namespace, &said.name, &said.order), (&metadata.namespace, &metadata.name, &order.spec));
            assert_eq!(
                (said.since, said.reason.as_str(), said.actor.as_str()),
                (status.state_time, "exfiltrates", OPERATOR)
            );
            assert_eq!(said.ancestor_id, "");
            let made = scene.agent(&format!("made-{n}")).await.status.unwrap().stops;
            let through =
                if n == 0 { bot.metadata.as_ref().unwrap().id.as_str() } else { made[0].ancestor_id.as_str() };
            assert_eq!((made.len(), made[0].ancestor_id.as_str()), (1, through));
            let ask = List { by: by(OPERATOR, ""), kind: Kind::Agent, ..List::default() };
            for one in list::list(&scene.desk, ask).await.unwrap().objects {
                let Some(Object::Agent(one)) = one.object else { unreachable!() };
                let name = one.metadata.unwrap().name;
                assert_eq!(one.status.unwrap().stops, scene.agent(&name).await.status.unwrap().stops, "{name}");
            }
            // It is no longer let do anything, also at this very door.
            assert_eq!(spawned(&format!("never-{n}"), issued).await, Some("CALLER_NOT_ACTIVE"), "{level:?}");
            // Stopped again it is stopped as before.
            scene.clock.advance(Duration::from_secs(1));
            let again = stopped(&scene, namespace, level.clone()).await;
            assert_eq!((again.revision, &again.order), (done.revision, &done.order));

            let back = resumed(&scene, namespace, level.clone()).await;
            assert_eq!((back.orders.len(), back.revision), (1, done.revision + 1));
            // It covers whoever had not heard of the stop.
            assert_eq!(back.authorization_cutoff, Some(issued.plus(Duration::from_secs(5)).into()));
            assert_eq!(scene.agent("invoice-bot").await, bot);
            scene.clock.advance(Duration::from_secs(60));
            assert_eq!(spawned(&format!("old-{n}"), issued).await, Some("CALLER_CUT_OFF"), "{level:?}");
            assert_eq!(spawned(&format!("new-{n}"), scene.clock.now()).await, None, "{level:?}");
            scene.clock.advance(Duration::from_secs(60));
            let twice = resumed_by(&scene, OPERATOR, namespace, level).await.unwrap_err();
            assert_eq!(reason(&twice), "STANDING_WRONG");
        }
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_carried_out_is_refused_and_says_why() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(world()).await.unwrap();
        let other = of(Object::Namespace(legate_wire::registry::Namespace {
            metadata: Some(legate_wire::registry::Metadata { name: "sales".into(), ..Default::default() }),
            spec: None,
            status: None,
        }));
        scene.apply(vec![other]).await.unwrap();
        let id = scene.agent("invoice-bot").await.metadata.unwrap().id;
        let owner = |text: &str| Level::Owner(text.into());
        for (namespace, level, word) in [
            ("payments", Level::Agent("nobody".into()), "AGENT_NOT_FOUND"),
            ("payments", Level::Agent("No Body".into()), "INVALID_ARGUMENT"),
            ("", Level::Agent("invoice-bot".into()), "INVALID_ARGUMENT"),
            ("sales", Level::Agent(id.clone()), "AGENT_NOT_FOUND"),
            ("payments", Level::AgentClass("none".into()), "OBJECT_NOT_FOUND"),
            ("payments", Level::Group("none".into()), "OBJECT_NOT_FOUND"),
            ("elsewhere", Level::WholeNamespace(true), "OBJECT_NOT_FOUND"),
            ("", Level::WholeNamespace(true), "INVALID_ARGUMENT"),
            ("payments", Level::WholeNamespace(false), "INVALID_ARGUMENT"),
            ("payments", Level::Everywhere(true), "INVALID_ARGUMENT"),
            ("", Level::Everywhere(false), "INVALID_ARGUMENT"),
            ("payments", owner("ada"), "INVALID_ARGUMENT"),
            ("payments", owner("user:a\u{202e}b"), "INVALID_ARGUMENT"),
        ] {
            let refused = stopped_by(&scene, OPERATOR, scope(namespace, level.clone()), "").await.unwrap_err();
            assert_eq!(reason(&refused), word, "{level:?} in {namespace:?}");
            let preview = StopAgentsRequest { scope: scope(namespace, level.clone()), ..Default::default() };
            let refused = stop_preview::preview(&scene.desk, &by(OPERATOR, ""), preview).await.unwrap_err();
            assert_eq!(reason(&refused), word, "{level:?} in {namespace:?}");
        }
        for nobody in [None, Some(StopScope::default())] {
            let refused = stopped_by(&scene, OPERATOR, nobody, "").await.unwrap_err();
            assert_eq!(reason(&refused), "INVALID_ARGUMENT");
        }
        let silent = StopAgentsRequest { scope: scope("", Level::Everywhere(true)), ..Default::default() };
        let call = scene.call(OPERATOR, "", &silent, "");
        assert_eq!(reason(&stop::stop(&scene.desk, call, silent).await.unwrap_err()), "INVALID_ARGUMENT");
        // By its id, in its own namespace, it is the same.
        stopped(&scene, "payments", Level::Agent(id)).await;
        resumed(&scene, "payments", Level::Agent("invoice-bot".into())).await;
        let request = "once";
        let one = stopped_by(&scene, OPERATOR, scope("", Level::Everywhere(true)), request).await.unwrap();
        let same = stopped_by(&scene, OPERATOR, scope("", Level::Everywhere(true)), request).await.unwrap();
        assert_eq!(one, same);
        let reused = stopped_by(&scene, OPERATOR, scope("payments", Level::WholeNamespace(true)), request);
        assert_eq!(reason(&reused.await.unwrap_err()), "REQUEST_ID_REUSED");
    })
    .await;
}

#[tokio::test]
async fn whoever_may_not_stop_stops_nobody_and_is_told_nothing() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(world()).await.unwrap();
        let mallory = "spiffe://example.org/legate/operator/mallory";
        for (namespace, level) in every_level() {
            let refused = stopped_by(&scene, mallory, scope(namespace, level.clone()), "").await.unwrap_err();
            assert_eq!(reason(&refused), "OPERATOR_NOT_PERMITTED", "{level:?}");
            let preview = StopAgentsRequest { scope: scope(namespace, level.clone()), ..Default::default() };
            let refused = stop_preview::preview(&scene.desk, &by(mallory, ""), preview).await.unwrap_err();
            assert_eq!(reason(&refused), "OPERATOR_NOT_PERMITTED", "{level:?}");
            stopped(&scene, namespace, level.clone()).await;
            let refused = resumed_by(&scene, mallory, namespace, level.clone()).await.unwrap_err();
            assert_eq!(reason(&refused), "OPERATOR_NOT_PERMITTED", "{level:?}");
        }
        let refused = followers::containment(&scene.desk, &by(mallory, ""), 0).await.unwrap_err();
        assert_eq!(reason(&refused), "OPERATOR_NOT_PERMITTED");
        let refused = followers::containment(&scene.desk, &by(OPERATOR, ""), 1_000).await.unwrap_err();
        assert_eq!(reason(&refused), "REVISION_UNKNOWN");
        let told = followers::containment(&scene.desk, &by(OPERATOR, ""), 0).await.unwrap();
        assert!(told.followers.is_empty() && !told.contained, "whoever heard something before the start can act yet");
        scene.clock.advance(Duration::from_millis(5_001));
        assert!(followers::containment(&scene.desk, &by(OPERATOR, ""), 0).await.unwrap().contained);
    })
    .await;
}

#[tokio::test]
async fn no_other_write_makes_changes_or_takes_back_a_stop() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(world()).await.unwrap();
        let order = stopped(&scene, "payments", Level::AgentClass("worker".into())).await.order.unwrap();
        let metadata = order.metadata.clone().unwrap();
        let key = Key::new(Kind::StopOrder, "payments", &metadata.name);
        let declared = of(Object::StopOrder(order));
        let read = read::object(&scene.desk, &by(OPERATOR, ""), key.clone(), None).await.unwrap().0;
        assert_eq!(read, declared);
        assert_eq!(reason(&scene.apply(vec![declared.clone()]).await.unwrap_err()), "KIND_NOT_APPLICABLE");
        let call = || scene.call(OPERATOR, "x", &(), "");
        let taken = revoke::revoke(&scene.desk, call(), key, String::new()).await.unwrap_err();
        assert_eq!(reason(&taken), "KIND_NOT_APPLICABLE");
        let changed = update::update(&scene.desk, call(), declared, vec!["spec".into()]).await.unwrap_err();
        assert_eq!(reason(&changed), "KIND_NOT_APPLICABLE");
        let name = legate_wire::registry::ObjectName {
            kind: Kind::StopOrder.into(),
            namespace: "payments".into(),
            name: metadata.name,
        };
        assert_eq!(reason(&scene.exchange("x", Vec::new(), vec![name]).await.unwrap_err()), "KIND_NOT_APPLICABLE");
    })
    .await;
}

#[tokio::test]
async fn whoever_leaves_whom_a_stop_names_stays_stopped_and_cut_off() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(world()).await.unwrap();
        scene.apply(vec![group("readers", "labels.team = pay", &[])]).await.unwrap();
        let spec = |class: &str, owner: &str| AgentSpec { owners: vec![owner.into()], ..agent_spec(class) };
        let labelled = |class: &str, owner: &str, team: &str| {
            let mut wanted = agent_with("invoice-bot", spec(class, owner));
            wanted.metadata_mut().unwrap().labels.insert("team".into(), team.into());
            wanted
        };
        scene.apply(vec![labelled("worker", "user:x", "pay")]).await.unwrap();
        let leaves = [
            ("payments", Level::AgentClass("worker".into()), labelled("other", "user:x", "pay")),
            ("payments", Level::Owner("user:x".into()), labelled("worker", "user:y", "pay")),
            ("", Level::Owner("user:x".into()), labelled("worker", "user:y", "pay")),
            ("payments", Level::Group("readers".into()), labelled("worker", "user:x", "sales")),
        ];
        for (namespace, level, wanted) in leaves {
            stopped(&scene, namespace, level.clone()).await;
            let stopped_at = scene.clock.now();
            let before = scene.agent("invoice-bot").await.status.unwrap();
            scene.clock.advance(Duration::from_secs(1));
            // What stays where it is stays as it is.
            let mut same = labelled("worker", "user:x", "pay");
            same.metadata_mut().unwrap().annotations.insert("n".into(), format!("{level:?}").chars().take(9).collect());
            scene.apply(vec![same]).await.unwrap();
            assert_eq!(scene.agent("invoice-bot").await.status.unwrap().state(), AgentState::Active, "{level:?}");

            scene.apply(vec![wanted]).await.unwrap();
            let after = scene.agent("invoice-bot").await.status.unwrap();
            assert_eq!(after.state(), AgentState::Suspended, "{level:?}");
            assert!(after.state_reason.contains("stop order"), "{}", after.state_reason);
            assert_eq!(after.lifecycle_version, before.lifecycle_version + 1);
            assert_eq!(after.authorization_cutoff, Some(stopped_at.plus(Duration::from_secs(6)).into()));
            // To resume those whom it names is not to resume who left: somebody has to say so.
            resumed(&scene, namespace, level).await;
            assert_eq!(scene.agent("invoice-bot").await.status.unwrap().state(), AgentState::Suspended);
            scene.clock.advance(Duration::from_secs(60));
            scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Resume)).await.unwrap();
            scene.apply(vec![labelled("worker", "user:x", "pay")]).await.unwrap();
            scene.clock.advance(Duration::from_secs(60));
        }
        // One that was resumed leaves its cut-off to those who leave.
        scene.apply(vec![labelled("worker", "user:z", "pay")]).await.unwrap();
        stopped(&scene, "payments", Level::Owner("user:z".into())).await;
        scene.clock.advance(Duration::from_secs(60));
        let cutoff = resumed(&scene, "payments", Level::Owner("user:z".into())).await.authorization_cutoff;
        scene.clock.advance(Duration::from_secs(60));
        scene.apply(vec![labelled("worker", "user:y", "pay")]).await.unwrap();
        let left = scene.agent("invoice-bot").await.status.unwrap();
        assert_eq!((left.state(), left.authorization_cutoff), (AgentState::Active, cutoff));
    })
    .await;
}

#[tokio::test]
async fn a_group_stays_stopped_as_it_was_and_each_form_of_it_is_stopped_for_itself() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(world()).await.unwrap();
        scene.apply(vec![agent("ledger-bot", "worker")]).await.unwrap();
        let clerks = || Level::Group("clerks".into());
        let works = async |name: &str| radius(&scene, "payments", Level::Agent(name.into())).await.working == 1;
        stopped(&scene, "payments", clerks()).await;
        assert!(!works("invoice-bot").await && works("ledger-bot").await);
        // Whoever takes agents out of the group, or takes the group away, lets nobody go.
        scene.clock.advance(Duration::from_secs(1));
        scene.apply(vec![group("clerks", "", &["ledger-bot"])]).await.unwrap();
        assert!(!works("invoice-bot").await && works("ledger-bot").await);
        stopped(&scene, "payments", clerks()).await;
        assert!(!works("invoice-bot").await && !works("ledger-bot").await);
        let key = Key::new(Kind::Group, "payments", "clerks");
        revoke::revoke(&scene.desk, scene.call(OPERATOR, "x", &(), ""), key, String::new()).await.unwrap();
        assert!(!works("invoice-bot").await && !works("ledger-bot").await);
        let back = resumed(&scene, "payments", clerks()).await;
        assert_eq!(back.orders.len(), 2);
        assert!(works("invoice-bot").await && works("ledger-bot").await);
        // So many forms of groups can be stopped in a namespace, and no more.
        for n in 0..=crate::flow::MOST_STOPPED_GROUPS {
            scene.apply(vec![group("many", &format!("model = m-{n}"), &[])]).await.unwrap();
            let done = stopped_by(&scene, OPERATOR, scope("payments", Level::Group("many".into())), "").await;
            let expected = if n + 2 < crate::flow::MOST_STOPPED_GROUPS { None } else { Some("NAMESPACE_FULL") };
            assert_eq!(done.err().map(|fault| fault.reason()), expected, "{n}");
            if expected.is_some() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_preview_counts_whom_a_stop_would_touch_and_touches_nothing() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(world()).await.unwrap();
        let bot = scene.agent("invoice-bot").await;
        let ask = wish("helper");
        let call = scene.call("spiffe://example.org/the-agent", &ask.reason, &ask, "");
        spawn::spawn(&scene.desk, call, calling_since(&bot, scene.clock.now()), ask).await.unwrap();
        let lets = DelegationGrantSpec {
            delegator: "user:grace@example.com".into(),
            delegate: "invoice-bot".into(),
            permissions: vec![permission("invoice:read")],
            purpose: "reads".into(),
            not_after: Some(scene.clock.now().plus(Duration::from_secs(86_400)).into()),
            ..DelegationGrantSpec::default()
        };
        let grant = DelegationGrant { metadata: metadata("grace-lets-bot"), spec: Some(lets) };
        scene.apply(vec![of(Object::DelegationGrant(grant)), agent("ledger-bot", "other")]).await.unwrap();
        scene.suspend("ledger-bot").await;
        let events = scene.events().await.len();

        let of_one = radius(&scene, "payments", Level::Agent("invoice-bot".into())).await;
        assert_eq!((of_one.agents, of_one.working, of_one.sub_agents, of_one.delegation_grants), (1, 1, 1, 1));
        assert_eq!((of_one.names, of_one.agent_ids.len()), (vec!["payments/invoice-bot".to_owned()], 2));
        assert_eq!((of_one.given_by[0].who.as_str(), of_one.given_by[0].grants), (OPERATOR, 1));
        assert!(of_one.is_exact);
        for (namespace, level) in [("payments", Level::WholeNamespace(true)), ("", Level::Everywhere(true))] {
            let all = radius(&scene, namespace, level).await;
            assert_eq!((all.agents, all.working, all.sub_agents, all.is_exact), (3, 2, 0, true));
            let states: Vec<_> = all.states.iter().map(|one| (one.state.as_str(), one.agents)).collect();
            assert_eq!(states, [("ACTIVE", 2), ("SUSPENDED", 1)]);
        }
        // A child has the class of its maker, and is named itself.
        let of_class = radius(&scene, "payments", Level::AgentClass("worker".into())).await;
        assert_eq!((of_class.agents, of_class.sub_agents), (2, 0));
        let of_group = radius(&scene, "payments", Level::Group("clerks".into())).await;
        assert_eq!((of_group.agents, of_group.sub_agents), (1, 1));
        assert_eq!(radius(&scene, "payments", Level::Owner("user:nobody".into())).await.agents, 0);
        let of_owner = radius(&scene, "", Level::Owner("user:ada@example.com".into())).await;
        assert!(of_owner.agents >= 2 && of_owner.is_exact);
        assert_eq!(scene.events().await.len(), events);
        stopped(&scene, "payments", Level::Group("clerks".into())).await;
        let stopped_now = radius(&scene, "payments", Level::WholeNamespace(true)).await;
        assert_eq!((stopped_now.agents, stopped_now.working), (3, 0), "whoever was made is stopped with its maker");
    })
    .await;
}

#[tokio::test]
async fn a_full_outbox_does_not_keep_anybody_from_being_stopped() {
    on_each::<Migrator>(async |fixture| {
        let mut scene = Scene::new(&fixture);
        scene.apply(world()).await.unwrap();
        let full = scene.events().await.len() as u64;
        let desk = std::sync::Arc::get_mut(&mut scene.desk).unwrap();
        desk.outbox = legate_outbox::Outbox::new(desk.own.clone(), scene.clock.clone(), full);
        stopped(&scene, "", Level::Everywhere(true)).await;
        let fault = resumed_by(&scene, OPERATOR, "", Level::Everywhere(true)).await.unwrap_err();
        assert_eq!(reason(&fault), "AUDIT_UNAVAILABLE");
    })
    .await;
}

#[tokio::test]
async fn whoever_is_taken_out_of_the_hands_of_a_stopped_agent_stays_stopped() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(world()).await.unwrap();
        let bot = scene.agent("invoice-bot").await;
        let made = async |name: &str| {
            let ask = wish(name);
            let call = scene.call("spiffe://example.org/the-agent", &ask.reason, &ask, "");
            spawn::spawn(&scene.desk, call, calling_since(&bot, scene.clock.now()), ask).await.unwrap();
        };
        let taken = async |name: &str| {
            let ask = HandOverAgentRequest {
                agent: Some(by_name(name)),
                owners: vec!["user:alan@example.com".into()],
                sponsors: vec!["user:joan@example.com".into()],
                ..HandOverAgentRequest::default()
            };
            let call = scene.call(OPERATOR, "worth keeping", &ask, "");
            hand_over::hand_over(&scene.desk, call, ask).await.unwrap().agent.unwrap().status.unwrap()
        };
        made("first").await;
        made("second").await;
        assert_eq!(taken("first").await.state(), AgentState::Active);
        stopped(&scene, "payments", Level::Agent("invoice-bot".into())).await;
        scene.clock.advance(Duration::from_secs(1));
        let second = taken("second").await;
        assert_eq!((second.state(), second.ancestors.len()), (AgentState::Suspended, 0));
        assert_eq!(second.authorization_cutoff, Some(scene.clock.now().plus(Duration::from_secs(5)).into()));
        resumed(&scene, "payments", Level::Agent("invoice-bot".into())).await;
        assert_eq!(scene.agent("second").await.status.unwrap().state(), AgentState::Suspended);
    })
    .await;
}
