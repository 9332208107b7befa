//! Agents made by agents: never more than their maker, never without it, and found again whatever happens to it.

mod ending;

use std::sync::Arc;
use std::time::Duration;

use legate_clock::{Clock as _, Timestamp};
use legate_db::testing::on_each;
use legate_ids::{Principal, SpiffeId};
use legate_mtls::Peer;
use legate_rpc::Fault;
use legate_view::CERTIFICATE_BACKDATE;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::revoke_issued_request::Level;
use legate_wire::registry::{
    Agent, AgentSpec, AgentState, Declaration, EndSpawnedAgentRequest, HandOverAgentRequest, Kind, NamespaceSpec,
    Origin, Permission, ResourceSelector, SpawnAgentRequest,
};
use sea_orm_migration::{MigrationTrait, MigratorTrait};

use super::publish::{ISSUER, revocation};
use super::removal::{everything, named};
use super::scene::*;
use crate::domain::lifecycle::Transition;
use crate::domain::standing::Turn;
use crate::flow::transition::Step;
use crate::flow::{Calling, hand_over, publish, spawn, spawned, standing, sweep};
use crate::schema::Migrator;

const CERTIFICATE: [u8; 32] = [7; 32];

/// The agent over a certificate that was issued at that moment.
pub(super) fn calling_since(agent: &Agent, issued: Timestamp) -> Calling {
    let id = SpiffeId::parse(&agent.status.as_ref().unwrap().spiffe_id).unwrap();
    let mut peer = Peer::anonymous("127.0.0.1:1".parse().unwrap());
    peer.principal = Some(Principal::of(&id).unwrap());
    peer.spiffe_id = Some(id);
    peer.not_before = issued.minus(CERTIFICATE_BACKDATE);
    peer.x5t_s256 = CERTIFICATE;
    Calling::read(Arc::new(peer)).unwrap()
}

fn permission(action: &str, id: &str) -> Permission {
    let resource = ResourceSelector { r#type: "Invoice".into(), id: id.into(), ..ResourceSelector::default() };
    Permission { action: action.into(), resource: Some(resource) }
}

pub(super) fn minutes(n: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds: 60 * n, nanos: 0 })
}

/// A good request.
pub(super) fn wish(name: &str) -> SpawnAgentRequest {
    SpawnAgentRequest {
        name: name.into(),
        purpose: "counts invoices".into(),
        ttl: minutes(10),
        ceiling: vec![permission("invoice:read", "apollo/*")],
        reason: "a part of the work".into(),
        ..SpawnAgentRequest::default()
    }
}

pub(super) fn changed(name: &str, change: impl FnOnce(&mut SpawnAgentRequest)) -> SpawnAgentRequest {
    let mut ask = wish(name);
    change(&mut ask);
    ask
}

impl Scene {
    /// Everything of the payments, where agents may make agents.
    pub(super) async fn spawning(&self, change: impl FnOnce(&mut NamespaceSpec)) {
        let mut all = payments();
        for one in &mut all {
            if let Some(Object::Namespace(namespace)) = &mut one.object {
                let spec = namespace.spec.as_mut().unwrap();
                spec.max_spawn_depth = 2;
                change(spec);
                break;
            }
        }
        self.apply(all).await.unwrap();
    }

    async fn spawn_by(&self, calling: Calling, ask: SpawnAgentRequest) -> Result<(Agent, u64), Fault> {
        let call = self.call("spiffe://example.org/the-agent", &ask.reason, &ask, &ask.request_id);
        let made = spawn::spawn(&self.desk, call, calling, ask).await?;
        Ok((made.agent.unwrap(), made.revision))
    }

    pub(super) async fn spawn(&self, maker: &Agent, ask: SpawnAgentRequest) -> Result<(Agent, u64), Fault> {
        self.spawn_by(calling_since(maker, self.clock.now()), ask).await
    }

    async fn child(&self, maker: &Agent, name: &str) -> Agent {
        self.spawn(maker, wish(name)).await.unwrap().0
    }

    async fn listed(&self, maker: &Agent) -> Vec<String> {
        let listed = spawned::list(&self.desk, calling_since(maker, self.clock.now())).await.unwrap();
        listed.agents.into_iter().map(|agent| agent.metadata.unwrap().name).collect()
    }

    async fn end(&self, maker: &Agent, of: &Agent) -> Result<Agent, Fault> {
        let agent_id = of.metadata.as_ref().unwrap().id.clone();
        let ask = EndSpawnedAgentRequest { agent_id: agent_id.clone(), ..Default::default() };
        let call = self.call("spiffe://example.org/the-agent", "done", &ask, "");
        let calling = calling_since(maker, self.clock.now());
        Ok(spawned::end(&self.desk, call, calling, agent_id).await?.agent.unwrap())
    }

    async fn hand_over(&self, of: &Agent) -> Result<Agent, Fault> {
        let ask = HandOverAgentRequest {
            agent: Some(by_name(&of.metadata.as_ref().unwrap().name)),
            owners: vec!["user:alan@example.com".into()],
            sponsors: vec!["user:joan@example.com".into()],
            ..HandOverAgentRequest::default()
        };
        let call = self.call(OPERATOR, "worth keeping", &ask, "");
        Ok(hand_over::hand_over(&self.desk, call, ask).await?.agent.unwrap())
    }

    pub(super) async fn by_id(&self, agent: &Agent) -> Agent {
        let id = agent.metadata.as_ref().unwrap().id.clone();
        let which = legate_wire::registry::AgentRef { id, ..Default::default() };
        crate::flow::read::agent(&self.desk, &by(OPERATOR, ""), Some(which), None).await.unwrap().0
    }
}

#[tokio::test]
async fn whoever_left_answers_for_no_agent_of_an_agent() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        let maker = scene.agent("invoice-bot").await;
        let child = scene.child(&maker, "child").await;
        // Its maker's sponsor leaves, and is its own too.
        scene.offboard(super::succession::leaves("user:grace@example.com")).await;
        let refused = scene.spawn(&maker, wish("late")).await.unwrap_err();
        assert_eq!(reason(&refused), "PERSON_DEPARTED", "before anything was seen to");
        assert_eq!(scene.sweep().await, 2, "the maker and the child, each by itself");
        assert!(scene.by_id(&child).await.status.unwrap().orphaned_time.is_some());
        let refused = scene.spawn(&maker, wish("late")).await.unwrap_err();
        assert_eq!(reason(&refused), "PERSON_DEPARTED");
        // Who is to take it over has left as well.
        scene.offboard(super::succession::leaves("user:joan@example.com")).await;
        let refused = scene.hand_over(&child).await.unwrap_err();
        assert_eq!(reason(&refused), "PERSON_DEPARTED");
        assert!(refused.to_string().contains("sponsors[0]"), "{refused}");
        scene.withdraw("user:joan@example.com", "").await.unwrap();
        let own = scene.hand_over(&child).await.unwrap();
        assert_eq!(own.status.unwrap().orphaned_time, None);
    })
    .await;
}

fn state(agent: &Agent) -> AgentState {
    agent.status.as_ref().unwrap().state()
}

fn id(agent: &Agent) -> String {
    agent.metadata.as_ref().unwrap().id.clone()
}

#[tokio::test]
async fn an_agent_made_by_an_agent_is_its_makers_in_everything() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        let maker = scene.agent("invoice-bot").await;
        let (made, revision) = scene.spawn(&maker, wish("small-bot")).await.unwrap();
        assert_eq!((state(&made), revision), (AgentState::Active, 2));
        let (spec, status) = (made.spec.clone().unwrap(), made.status.clone().unwrap());
        let of_maker = maker.spec.clone().unwrap();
        assert_eq!(
            (spec.owners, spec.sponsors, spec.agent_class),
            (of_maker.owners, of_maker.sponsors, of_maker.agent_class)
        );
        assert_eq!(spec.parent, id(&maker));
        assert_eq!(spec.expire_time.unwrap().seconds, NOW + 600);
        assert_eq!((status.origin(), status.ancestors.clone()), (Origin::Spawned, vec![id(&maker)]));
        assert_eq!(made.metadata.as_ref().unwrap().created_by, "spiffe://example.org/the-agent");
        let events = scene.events().await;
        let told = events.last().unwrap();
        assert_eq!((told.r#type.as_str(), told.reason.as_str()), ("agent.spawned", "a part of the work"));
        assert_eq!(told.agent_id, id(&made));

        let grandchild = scene.child(&made, "smaller-bot").await;
        assert_eq!(grandchild.status.unwrap().ancestors, [id(&made), id(&maker)]);
        assert_eq!(scene.listed(&maker).await, ["small-bot"]);
        assert_eq!(scene.listed(&made).await, ["smaller-bot"]);
        // An operator who declares it again takes nothing from it.
        let mut spec = agent_spec("worker");
        spec.parent = id(&maker);
        scene.apply(vec![agent_with("small-bot", spec)]).await.unwrap();
        let kept = scene.agent("small-bot").await;
        assert_eq!((kept.spec.unwrap().parent, kept.status.unwrap().ancestors), (id(&maker), vec![id(&maker)]));
    })
    .await;
}

#[tokio::test]
async fn nobody_makes_more_than_he_is() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        let maker = scene.agent("invoice-bot").await;
        let refused = async |ask| reason(&scene.spawn(&maker, ask).await.unwrap_err());
        let one = |p: Permission| changed("b", |ask| ask.ceiling = vec![p]);
        // Wider: another action, another type, the same on more.
        for wide in [
            one(permission("invoice:pay", "apollo/1")),
            one(permission("invoice:*", "apollo/1")),
            one(permission("*", "*")),
            one(Permission {
                action: "invoice:read".into(),
                resource: Some(ResourceSelector { r#type: "Ledger".into(), ..ResourceSelector::default() }),
            }),
            changed("b", |ask| ask.ceiling.push(permission("invoice:pay", "*"))),
        ] {
            assert_eq!(refused(wide).await, "SPAWN_TOO_WIDE");
        }
        // Longer, and never without an end.
        let mut spec = agent_spec("worker");
        spec.expire_time = Some(prost_types::Timestamp { seconds: NOW + 700, nanos: 0 });
        scene.apply(vec![agent_with("invoice-bot", spec)]).await.unwrap();
        for (ttl, word) in [
            (minutes(12), "SPAWN_TOO_LONG"),
            (minutes(0), "SPAWN_TOO_LONG"),
            (None, "INVALID_ARGUMENT"),
            (Some(prost_types::Duration { seconds: -60, nanos: 0 }), "INVALID_ARGUMENT"),
        ] {
            assert_eq!(refused(changed("b", |ask| ask.ttl = ttl)).await, word, "{ttl:?}");
        }
        for bad in [
            changed("B", |_| ()),
            changed("b", |ask| ask.purpose.clear()),
            changed("b", |ask| ask.ceiling.clear()),
            changed("b", |ask| ask.ceiling[0].action = "a b".into()),
        ] {
            assert_eq!(refused(bad).await, "INVALID_ARGUMENT");
        }
        assert_eq!(refused(changed("invoice-bot", |_| ())).await, "AGENT_EXISTS");
        // Its own agent's agent has no more than that one.
        let narrow = scene.child(&maker, "narrow").await;
        let ask = changed("c", |ask| ask.ceiling = vec![permission("invoice:read", "zeus/1")]);
        assert_eq!(reason(&scene.spawn(&narrow, ask).await.unwrap_err()), "SPAWN_TOO_WIDE");
        let ask = changed("c", |ask| ask.ttl = minutes(11));
        assert_eq!(reason(&scene.spawn(&narrow, ask).await.unwrap_err()), "SPAWN_TOO_LONG");
    })
    .await;
}

#[tokio::test]
async fn there_is_an_end_to_how_many_and_how_deep() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        let maker = scene.agent("invoice-bot").await;
        let first = scene.child(&maker, "bot-0").await;
        for n in 1..16 {
            scene.child(&maker, &format!("bot-{n}")).await;
        }
        assert_eq!(reason(&scene.spawn(&maker, wish("bot-16")).await.unwrap_err()), "SPAWN_TOO_MANY");
        let second = scene.child(&first, "deep").await;
        assert_eq!(reason(&scene.spawn(&second, wish("deeper")).await.unwrap_err()), "SPAWN_TOO_DEEP");
        // One that is ended makes room.
        assert_eq!(state(&scene.end(&maker, &first).await.unwrap()), AgentState::Retired);
        assert_eq!(state(&scene.by_id(&second).await), AgentState::Retired, "and all below it with it");
        scene.child(&maker, "bot-16").await;
        scene.spawning(|spec| spec.max_spawn_depth = 0).await;
        assert_eq!(reason(&scene.end(&maker, &first).await.unwrap_err()), "NOT_ITS_MAKER");
        let last = scene.agent("bot-1").await;
        scene.end(&maker, &last).await.unwrap();
        assert_eq!(reason(&scene.spawn(&maker, wish("bot-17")).await.unwrap_err()), "SPAWNING_OFF");
    })
    .await;
}

#[tokio::test]
async fn only_who_is_in_good_standing_has_agents() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        let maker = scene.agent("invoice-bot").await;
        let made = scene.child(&maker, "small-bot").await;
        let old = calling_since(&maker, scene.clock.now());
        let old_of_made = calling_since(&made, scene.clock.now());
        scene.clock.advance(Duration::from_secs(60));
        let refused = async |calling: &Calling| {
            let listed = spawned::list(&scene.desk, calling.clone()).await.unwrap_err();
            let spawned = scene.spawn_by(calling.clone(), wish("b")).await.unwrap_err();
            assert_eq!(reason(&listed), reason(&spawned));
            reason(&spawned)
        };
        let class = || crate::domain::kind::Key::new(legate_wire::registry::Kind::AgentClass, "payments", "worker");
        let space = || crate::domain::kind::Key::new(legate_wire::registry::Kind::Namespace, "", "payments");
        for key in [class(), space()] {
            for turn in [Turn::Suspend, Turn::Resume] {
                let call = scene.call(OPERATOR, "odd", &(), "");
                let answer = |object: Declaration, _| object;
                standing::turn(&scene.desk, call, key.clone(), String::new(), turn, answer).await.unwrap();
                let (fresh, word) = (
                    calling_since(&maker, scene.clock.now()),
                    match turn {
                        Turn::Suspend => "CALLER_NOT_ACTIVE",
                        Turn::Resume => "CALLER_CUT_OFF",
                    },
                );
                assert_eq!(refused(&old).await, word);
                assert_eq!(refused(&fresh).await, word);
                scene.clock.advance(Duration::from_secs(30));
            }
        }
        scene.child(&maker, "again").await;
        scene.suspend("invoice-bot").await;
        let fresh = calling_since(&maker, scene.clock.now());
        let fresh_of_made = calling_since(&made, scene.clock.now());
        assert_eq!((refused(&fresh).await, refused(&fresh_of_made).await), ("CALLER_NOT_ACTIVE", "CALLER_NOT_ACTIVE"));
        scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Resume)).await.unwrap();
        assert_eq!((refused(&old).await, refused(&old_of_made).await), ("CALLER_CUT_OFF", "CALLER_CUT_OFF"));
        scene.clock.advance(Duration::from_secs(1));
        scene.child(&maker, "once-more").await;

        // Its certificate is taken back.
        let mut ask = revocation();
        ask.revocation.as_mut().unwrap().x5t_s256 = CERTIFICATE.to_vec();
        publish::publish_revocation(&scene.desk, scene.call(ISSUER, "", &ask, ""), ask).await.unwrap();
        assert_eq!(refused(&calling_since(&maker, scene.clock.now())).await, "CALLER_REVOKED");
    })
    .await;
}

#[tokio::test]
async fn a_stranger_to_the_namespace_is_told_nothing() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        let maker = scene.agent("invoice-bot").await;
        let mut foreign = maker.clone();
        let status = foreign.status.as_mut().unwrap();
        status.spiffe_id = status.spiffe_id.replace("/ns/payments/", "/ns/sales/");
        let mut nobody = maker.clone();
        let none = legate_ids::AgentId::from_parts(1, [9; 10]);
        nobody.status.as_mut().unwrap().spiffe_id = format!("spiffe://example.org/ns/payments/agent/{none}");
        for stranger in [foreign, nobody] {
            assert_eq!(reason(&scene.spawn(&stranger, wish("b")).await.unwrap_err()), "CALLER_UNKNOWN");
        }
        // Nobody ends another's agent, nor learns that there is one.
        let small = scene.child(&maker, "small-bot").await;
        let other = scene.child(&maker, "other-bot").await;
        assert_eq!(reason(&scene.end(&small, &other).await.unwrap_err()), "NOT_ITS_MAKER");
        assert_eq!(reason(&scene.end(&small, &maker).await.unwrap_err()), "NOT_ITS_MAKER");
    })
    .await;
}

#[tokio::test]
async fn whoever_is_below_ends_with_whoever_is_above() {
    on_each::<Migrator>(async |fixture| {
        for by_time in [false, true] {
            let scene = Scene::on(fixture.db.clone());
            scene.spawning(|_| ()).await;
            let name = if by_time { "brief-bot" } else { "long-bot" };
            let mut spec = agent_spec("worker");
            spec.expire_time = by_time.then_some(prost_types::Timestamp { seconds: NOW + 3_600, nanos: 0 });
            let reads = binding(&format!("{name}-reads"), "reader", &[name]);
            scene.apply(vec![agent_with(name, spec), reads]).await.unwrap();
            let maker = scene.agent(name).await;
            let child = scene.child(&maker, &format!("{name}-child")).await;
            let grandchild = scene.child(&child, &format!("{name}-grandchild")).await;
            let beside = scene.child(&scene.agent("invoice-bot").await, &format!("{name}-beside")).await;
            if by_time {
                // Its end was brought forward, so that those below would have lived on.
                let mut spec = agent_spec("worker");
                spec.expire_time = Some(prost_types::Timestamp { seconds: NOW + 120, nanos: 0 });
                scene.apply(vec![agent_with(name, spec)]).await.unwrap();
                scene.clock.advance(Duration::from_secs(121));
                sweep::sweep(&scene.desk).await.unwrap();
                assert_eq!(state(&scene.by_id(&maker).await), AgentState::Expired);
            } else {
                scene.step(OPERATOR, name, Step::Transition(Transition::Retire)).await.unwrap();
            }
            if by_time {
                // They stop with it, and nothing of them is written: whoever brings it back brings them back.
                for one in [&child, &grandchild] {
                    let refused = scene.spawn(one, wish("more")).await.unwrap_err();
                    assert_eq!(reason(&refused), "CALLER_NOT_ACTIVE");
                    assert_eq!(state(&scene.by_id(one).await), AgentState::Active);
                }
                scene.step(OPERATOR, name, Step::Transition(Transition::Retire)).await.unwrap();
            }
            let (above, child, grandchild) =
                (scene.by_id(&maker).await, scene.by_id(&child).await, scene.by_id(&grandchild).await);
            let revision = above.metadata.unwrap().revision;
            for one in [child, grandchild] {
                assert_eq!((state(&one), one.metadata.unwrap().revision), (AgentState::Retired, revision));
            }
            assert_eq!(state(&scene.by_id(&beside).await), AgentState::Active);
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_cut_off_of_its_makers_owner_killed_stays_dead_when_it_is_handed_over() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        let maker = scene.agent("invoice-bot").await;
        let child = scene.child(&maker, "child").await;
        let spec = AgentSpec { owners: vec!["user:x".into()], ..agent_spec("worker") };
        scene.apply(vec![agent_with("invoice-bot", spec)]).await.unwrap();
        let order = super::revoke_issued::ordered(&scene, "", Level::Owner("user:x".into())).await.unwrap();
        let taken = scene.hand_over(&child).await.unwrap();
        assert_eq!(taken.status.unwrap().authorization_cutoff, order.authorization_cutoff);
    })
    .await;
}

#[tokio::test]
async fn one_that_is_handed_over_lives_on_without_its_maker() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        let maker = scene.agent("invoice-bot").await;
        let child = scene.child(&maker, "child").await;
        let grandchild = scene.child(&child, "grandchild").await;
        assert_eq!(reason(&scene.hand_over(&maker).await.unwrap_err()), "NOT_MADE_BY_AN_AGENT");
        scene.clock.advance(Duration::from_secs(10));
        scene.suspend("invoice-bot").await;

        let taken = scene.hand_over(&child).await.unwrap();
        let (spec, status) = (taken.spec.clone().unwrap(), taken.status.clone().unwrap());
        assert_eq!(
            (spec.owners, spec.sponsors),
            (vec!["user:alan@example.com".into()], vec!["user:joan@example.com".into()])
        );
        assert!(spec.parent.is_empty() && status.ancestors.is_empty());
        assert_eq!(spec.ceiling, child.spec.unwrap().ceiling);
        assert_eq!(state(&taken), AgentState::Active);
        // What died with its maker's suspension stays dead.
        assert_eq!(status.lifecycle_version, 3, "its own and its maker's");
        assert_eq!(status.authorization_cutoff.unwrap().seconds, NOW + 10);
        assert_eq!(scene.by_id(&grandchild).await.status.unwrap().ancestors, [id(&taken)]);

        scene.step(OPERATOR, "invoice-bot", Step::Transition(Transition::Retire)).await.unwrap();
        assert_eq!(state(&scene.by_id(&taken).await), AgentState::Active);
        assert_eq!(state(&scene.by_id(&grandchild).await), AgentState::Active);
        assert_eq!(reason(&scene.hand_over(&child_again(&scene).await).await.unwrap_err()), "NOT_MADE_BY_AN_AGENT");
        scene.step(OPERATOR, "child", Step::Transition(Transition::Retire)).await.unwrap();
        assert_eq!(state(&scene.by_id(&grandchild).await), AgentState::Retired);
    })
    .await;
}

async fn child_again(scene: &Scene) -> Agent {
    scene.agent("child").await
}

#[tokio::test]
async fn a_removal_takes_whoever_is_below_with_it_each_once() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        let maker = scene.agent("invoice-bot").await;
        let child = scene.child(&maker, "child").await;
        scene.spawn(&child, changed("grandchild", |ask| ask.ttl = minutes(5))).await.unwrap();
        let before = scene.kinds().await.len();
        // The grandchild is named by nobody, and holds the class and the namespace no longer than its makers do.
        let mut removals = everything();
        removals.push(named(Kind::Agent, "child"));
        scene.exchange("the team is dissolved", Vec::new(), removals).await.unwrap();
        let kinds = scene.kinds().await;
        let retired = kinds[before..].iter().filter(|kind| *kind == "agent.retired").count();
        assert_eq!(retired, 3, "{kinds:?}");
    })
    .await;
}

/// The migrations as they were before revocations were found by certificate.
#[derive(Debug)]
struct Before;

impl MigratorTrait for Before {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let later = "registry_0005_revoked_certificates";
        Migrator::migrations().into_iter().filter(|migration| migration.name() != later).collect()
    }
}

#[tokio::test]
async fn a_certificate_that_was_revoked_before_is_known_after() {
    on_each::<Before>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        let maker = scene.agent("invoice-bot").await;
        let mut ask = revocation();
        ask.revocation.as_mut().unwrap().x5t_s256 = CERTIFICATE.to_vec();
        publish::publish_revocation(&scene.desk, scene.call(ISSUER, "", &ask, ""), ask).await.unwrap();
        // As a database is that an earlier version wrote.
        let forget = scene.desk.db.tx("test", |tx| {
            Box::pin(async move {
                use sea_orm::ConnectionTrait as _;
                tx.execute_unprepared("DELETE FROM reference WHERE to_name LIKE 'certificate:%'").await?;
                Ok::<_, legate_db::TxError<Fault>>(())
            })
        });
        forget.await.unwrap();
        scene.spawn(&maker, wish("unnoticed")).await.unwrap();
        fixture.db.migrate::<Migrator>().await.unwrap();
        assert_eq!(reason(&scene.spawn(&maker, wish("b")).await.unwrap_err()), "CALLER_REVOKED");
    })
    .await;
}

#[tokio::test]
async fn nobody_approves_what_an_agent_of_his_own_made() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        let maker = scene.agent("invoice-bot").await;
        // From now on new agents of the class wait.
        scene.apply_as(OTHER, vec![class("worker", true)], "", 0).await.unwrap();
        let child = scene.child(&maker, "small-bot").await;
        assert_eq!(state(&child), AgentState::PendingApproval);
        let approve = Step::Transition(Transition::Approve);
        assert_eq!(reason(&scene.step(OPERATOR, "small-bot", approve).await.unwrap_err()), "SELF_APPROVAL");
        // Nor once somebody has taken it out of the maker's hands.
        let ask = HandOverAgentRequest {
            agent: Some(by_name("small-bot")),
            owners: vec!["user:alan@example.com".into()],
            sponsors: vec!["user:joan@example.com".into()],
            ..HandOverAgentRequest::default()
        };
        let third = "spiffe://example.org/legate/operator/third";
        hand_over::hand_over(&scene.desk, scene.call(third, "worth keeping", &ask, ""), ask).await.unwrap();
        for by in [OPERATOR, third] {
            assert_eq!(reason(&scene.step(by, "small-bot", approve).await.unwrap_err()), "SELF_APPROVAL", "{by}");
        }
        assert_eq!(state(&scene.step(OTHER, "small-bot", approve).await.unwrap().0), AgentState::Staged);
    })
    .await;
}

#[tokio::test]
async fn a_name_that_an_agent_took_for_another_gets_nothing_that_is_declared_for_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|spec| spec.own_grant_only = true).await;
        let maker = scene.agent("invoice-bot").await;
        let child = scene.child(&maker, "payer-bot").await;
        // Somebody declares an agent of his own under the name, with a role for it.
        let declared = || vec![agent("payer-bot", "worker"), binding("payer-reads", "reader", &["payer-bot"])];
        assert_eq!(reason(&scene.apply(declared()).await.unwrap_err()), "MADE_BY_AN_AGENT");
        let mut spec = agent_spec("worker");
        spec.parent = id(&child);
        assert_eq!(
            reason(&scene.apply(vec![agent_with("payer-bot", spec.clone())]).await.unwrap_err()),
            "MADE_BY_AN_AGENT"
        );
        // Whoever means it says so.
        spec.parent = id(&maker);
        scene.apply(vec![agent_with("payer-bot", spec)]).await.unwrap();
        // To the one that made it, and to others, the name is taken and no more.
        assert_eq!(reason(&scene.spawn(&maker, wish("payer-bot")).await.unwrap_err()), "AGENT_EXISTS");
        assert_eq!(reason(&scene.spawn(&child, wish("payer-bot")).await.unwrap_err()), "AGENT_EXISTS");
        // Once it has ended, the name is another's.
        scene.end(&maker, &child).await.unwrap();
        scene.apply(declared()).await.unwrap();
        assert!(scene.agent("payer-bot").await.status.unwrap().ancestors.is_empty());
    })
    .await;
}

#[tokio::test]
async fn to_end_agents_at_once_makes_no_room_for_ever_more_of_them() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.spawning(|_| ()).await;
        let maker = scene.agent("invoice-bot").await;
        for n in 0..256 {
            let child = scene.child(&maker, &format!("child-{n}")).await;
            scene.end(&maker, &child).await.unwrap();
        }
        assert_eq!(reason(&scene.spawn(&maker, wish("one-more")).await.unwrap_err()), "SPAWN_TOO_MANY");
        scene.clock.advance(Duration::from_secs(60));
        scene.child(&maker, "one-more").await;
    })
    .await;
}
