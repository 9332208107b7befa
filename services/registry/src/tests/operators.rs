//! Delegated administration: roles in namespaces, emergencies, and that somebody always can say who may do what.

use legate_db::testing::{Fixture, on_each};
use legate_rpc::Fault;
use legate_wire::registry::OperatorRole::{Admin, Approver, BreakGlass, Editor, Viewer};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::*;
use sea_orm_migration::{MigrationTrait, MigratorTrait};

use super::scene::*;
use crate::domain::kind::Key;
use crate::domain::lifecycle::Transition;
use crate::flow::list::{self, List};
use crate::flow::transition::{self, Ask, Step};
use crate::flow::{By, Call, apply, history, plan, read, revoke, update};
use crate::schema::Migrator;

const BOB: &str = "spiffe://example.org/legate/operator/bob";

/// A registry whose first revision appoints ada, with the example in it.
async fn begin(fixture: &Fixture) -> Scene {
    let scene = Scene::new(fixture);
    assert!(scene.appoint(&["ada"]).await.unwrap());
    scene.apply(payments()).await.unwrap();
    scene.apply(vec![namespace("sales")]).await.unwrap();
    scene
}

pub(super) fn given(name: &str, namespace: &str, operators: &[&str], role: OperatorRole) -> Declaration {
    let metadata = Metadata { name: name.into(), namespace: namespace.into(), ..Metadata::default() };
    let operators = operators.iter().map(|name| (*name).to_owned()).collect();
    let spec = OperatorBindingSpec { operators, role: role.into(), ..OperatorBindingSpec::default() };
    Declaration {
        object: Some(Object::OperatorBinding(OperatorBinding { metadata: Some(metadata), spec: Some(spec) })),
    }
}

/// Gives bob this role and no other.
async fn make_bob(scene: &Scene, namespace: &str, role: OperatorRole) {
    scene.apply(vec![given("bobs", namespace, &["bob"], role)]).await.unwrap();
}

async fn take_back(scene: &Scene, actor: &str, kind: Kind, namespace: &str, name: &str) -> Result<(), Fault> {
    let call = scene.call(actor, "no longer", &RevokeDeclarationRequest::default(), "");
    let key = revoke::key(kind.into(), namespace, name).unwrap();
    revoke::revoke(&scene.desk, call, key, String::new()).await.map(|_| ())
}

fn why<T>(told: Result<T, Fault>) -> String {
    told.map(|_| "done".to_owned()).unwrap_or_else(|fault| reason(&fault).to_owned())
}

fn by_id(agent: &Agent) -> AgentRef {
    AgentRef { id: agent.metadata.clone().unwrap().id, ..AgentRef::default() }
}

/// Bob, in an emergency.
fn broken() -> By {
    By { operator: who(BOB, Some("the pager rang")), ..by(BOB, "because") }
}

async fn suspend_by(scene: &Scene, by: By) -> Result<GetAgentResponse, Fault> {
    let call = Call::new(by, "/test", &GetAgentRequest::default(), "").unwrap();
    let ask = Ask { agent: Some(by_name("invoice-bot")), etag: String::new() };
    let answer = |agent, revision| GetAgentResponse { agent: Some(agent), revision };
    transition::transition(&scene.desk, call, ask, Step::Transition(Transition::Suspend), answer).await
}

#[tokio::test]
async fn each_role_may_what_it_is_for() {
    on_each::<Migrator>(async |fixture| {
        let scene = begin(&fixture).await;
        let suspend = Step::Transition(Transition::Suspend);
        let resume = Step::Transition(Transition::Resume);
        let no = "OPERATOR_NOT_PERMITTED";
        for (role, writes, starts, administers) in [
            (Viewer, no, no, no),
            (Editor, "done", "done", no),
            (Approver, no, "done", no),
            (Admin, "done", "done", "done"),
        ] {
            make_bob(&scene, "payments", role).await;
            read::agent(&scene.desk, &by(BOB, ""), Some(by_name("invoice-bot")), None).await.unwrap();
            plan::plan(&scene.desk, &by(BOB, ""), payments(), Vec::new()).await.unwrap();
            let purpose = format!("for {role:?}");
            let mut spec = agent_spec("worker");
            spec.purpose = purpose;
            assert_eq!(
                why(scene.apply_as(BOB, vec![agent_with("invoice-bot", spec)], "", 0).await),
                writes,
                "{role:?}"
            );
            assert_eq!(why(scene.step(BOB, "invoice-bot", suspend).await), starts, "{role:?}");
            if starts == "done" {
                scene.step(BOB, "invoice-bot", resume).await.unwrap();
            }
            let more = given("more", "payments", &["carol"], Viewer);
            assert_eq!(why(scene.apply_as(BOB, vec![more], "", 0).await), administers, "{role:?}");
            // Nobody has a say elsewhere, or in what belongs to no namespace.
            for beyond in [namespace("new"), given("x", "", &["bob"], Viewer), given("x", "sales", &["bob"], Viewer)] {
                assert_eq!(why(scene.apply_as(BOB, vec![beyond], "", 0).await), no, "{role:?}");
            }
            // All or nothing.
            let both = vec![role_of("payments", "fine"), role_of("sales", "not-fine")];
            assert_eq!(why(scene.apply_as(BOB, both, "", 0).await), no);
        }
        assert_eq!(why(take_back(&scene, BOB, Kind::Namespace, "", "sales").await), no);
        assert_eq!(why(take_back(&scene, OPERATOR, Kind::Namespace, "", "sales").await), "done");
    })
    .await;
}

fn role_of(namespace: &str, name: &str) -> Declaration {
    let mut declaration = role(name, "invoice:read");
    if let Some(Object::Role(role)) = &mut declaration.object {
        role.metadata.as_mut().unwrap().namespace = namespace.into();
    }
    declaration
}

#[tokio::test]
async fn what_is_of_another_namespace_is_not_there() {
    on_each::<Migrator>(async |fixture| {
        let scene = begin(&fixture).await;
        make_bob(&scene, "sales", Admin).await;
        let bob = by(BOB, "");
        let agent = scene.agent("invoice-bot").await;
        let said = |told: Result<(), Fault>| told.unwrap_err().to_string();
        for which in [by_name("invoice-bot"), by_id(&agent)] {
            let told = read::agent(&scene.desk, &bob, Some(which.clone()), None).await.map(|_| ());
            let named = if which.id.is_empty() { "payments/invoice-bot".to_owned() } else { which.id.clone() };
            assert_eq!(said(told), format!("AGENT_NOT_FOUND: there is no agent {named}"));
        }
        let key = Key::new(Kind::Role, "payments", "reader");
        let missing = Key::new(Kind::Role, "payments", "never-was");
        let foreign = said(read::object(&scene.desk, &bob, key, None).await.map(|_| ())).replace("reader", "never-was");
        assert_eq!(foreign, said(read::object(&scene.desk, &bob, missing, None).await.map(|_| ())));
        // By the id that he guessed he is told what he would be told of none; by the name that he gave, what he lacks.
        let stop = Step::Transition(Transition::Suspend);
        let told = scene.step_with(BOB, by_id(&agent), "", "", stop).await.map(|_| ());
        assert_eq!(said(told), format!("AGENT_NOT_FOUND: there is no agent {}", by_id(&agent).id));
        let told = scene.step_with(BOB, by_name("invoice-bot"), "", "", stop).await.map(|_| ());
        assert!(said(told).ends_with("needs the right STOP in payments"));
        // Lists.
        let list =
            |kind, namespace: &str| List { by: by(BOB, ""), kind, namespace: namespace.into(), ..List::default() };
        for (kind, namespace, count) in [
            (Kind::Agent, "", 0),
            (Kind::Agent, "payments", 0),
            (Kind::Role, "", 0),
            (Kind::Namespace, "", 1),
            (Kind::OperatorBinding, "", 1),
            (Kind::OperatorBinding, "payments", 0),
        ] {
            let page = list::list(&scene.desk, list(kind, namespace)).await.unwrap();
            assert_eq!(page.objects.len(), count, "{kind:?} {namespace}");
            assert_eq!(page.total.count, count as u64, "{kind:?} {namespace}");
        }
        // Searched or as it was, it is not there either; nor is it counted.
        let at = |revision| Some(AsOf { at: Some(as_of::At::Revision(revision)) });
        for filter in [
            "",
            "owners:user:ada@example.com",
            "environment = prod",
            "state = active",
            "name = \"inv*\"",
            "NOT manager:*",
        ] {
            for as_of in [None, at(2)] {
                let page = list::list(&scene.desk, List { filter: filter.into(), as_of, ..list(Kind::Agent, "") })
                    .await
                    .unwrap();
                assert_eq!((page.objects.len(), page.total.count), (0, 0), "{filter} {as_of:?}");
                let seen = List { by: by(OPERATOR, ""), filter: filter.into(), as_of, ..list(Kind::Agent, "") };
                assert_eq!(list::list(&scene.desk, seen).await.unwrap().objects.len(), 1, "{filter} {as_of:?}");
            }
        }
        for which in [by_name("invoice-bot"), by_id(&agent)] {
            assert_eq!(why(read::agent(&scene.desk, &bob, Some(which), at(2)).await), "AGENT_NOT_FOUND");
        }
        let reader = Key::new(Kind::Role, "payments", "reader");
        assert_eq!(why(read::object(&scene.desk, &bob, reader, at(2)).await), "OBJECT_NOT_FOUND");
        let id = by_id(&agent).id;
        let named = |kind: Kind, namespace: &str, name: &str| ListHistoryRequest {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..ListHistoryRequest::default()
        };
        for ask in [
            named(Kind::Agent, "payments", "invoice-bot"),
            named(Kind::Namespace, "", "payments"),
            ListHistoryRequest { id: id.clone(), ..ListHistoryRequest::default() },
        ] {
            assert_eq!(why(history::history(&scene.desk, &bob, ask.clone()).await), "OBJECT_NOT_FOUND", "{ask:?}");
            assert!(history::history(&scene.desk, &by(OPERATOR, ""), ask).await.is_ok());
        }
        assert!(history::history(&scene.desk, &bob, named(Kind::Namespace, "", "sales")).await.is_ok());
        make_bob(&scene, "sales", Viewer).await;
        scene.apply(vec![given("bobs", "payments", &["bob"], Viewer)]).await.unwrap();
        assert_eq!(list::list(&scene.desk, list(Kind::Namespace, "")).await.unwrap().objects.len(), 2);
        assert_eq!(list::list(&scene.desk, list(Kind::Agent, "")).await.unwrap().objects.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn in_an_emergency_he_acts_as_an_administrator_and_that_is_on_record_first() {
    on_each::<Migrator>(async |fixture| {
        let scene = begin(&fixture).await;
        assert_eq!(why(suspend_by(&scene, broken()).await), "BREAK_GLASS_REFUSED");
        make_bob(&scene, "payments", BreakGlass).await;
        assert_eq!(why(suspend_by(&scene, by(BOB, "because")).await), "OPERATOR_NOT_PERMITTED");
        let before = scene.events().await.len();
        suspend_by(&scene, broken()).await.unwrap();
        read::agent(&scene.desk, &broken(), Some(by_name("invoice-bot")), None).await.unwrap();
        let events = scene.events().await;
        let kinds: Vec<_> = events[before..].iter().map(|event| event.r#type.as_str()).collect();
        assert_eq!(kinds, ["operator.broke_glass", "agent.suspended", "operator.broke_glass"]);
        assert_eq!(events[before].details["emergency"], "the pager rang");
        assert_eq!(events[before].revision, events[before + 1].revision, "of the same write");
        // What is refused for another reason leaves no trace of an act that was none.
        assert_eq!(why(suspend_by(&scene, broken()).await), "AGENT_STATE_WRONG");
        assert_eq!(scene.events().await.len(), before + 3);

        // It lifts neither the separation of duties nor the last administrator.
        scene.apply(vec![class("careful", true)]).await.unwrap();
        let apply_broken = async |declarations: Vec<Declaration>| {
            let call = Call::new(broken(), "/test", &ApplyDeclarationsRequest::default(), "").unwrap();
            apply::apply(&scene.desk, call, declarations, Vec::new(), 0).await
        };
        apply_broken(vec![agent("payer-bot", "careful")]).await.unwrap();
        let approve = async || {
            let call = Call::new(broken(), "/test", &ApproveAgentRequest::default(), "").unwrap();
            let ask = Ask { agent: Some(by_name("payer-bot")), etag: String::new() };
            let answer = |agent, revision| GetAgentResponse { agent: Some(agent), revision };
            transition::transition(&scene.desk, call, ask, Step::Transition(Transition::Approve), answer).await
        };
        assert_eq!(why(approve().await), "SELF_APPROVAL");
        scene.apply(vec![given("glass", "", &["bob"], BreakGlass)]).await.unwrap();
        let call = Call::new(broken(), "/test", &RevokeDeclarationRequest::default(), "").unwrap();
        let key = Key::new(Kind::OperatorBinding, "", "bootstrap");
        assert_eq!(why(revoke::revoke(&scene.desk, call, key, String::new()).await), "LAST_ADMINISTRATOR");
    })
    .await;
}

#[tokio::test]
async fn somebody_can_always_say_who_may_do_what() {
    on_each::<Migrator>(async |fixture| {
        let scene = begin(&fixture).await;
        let last = "LAST_ADMINISTRATOR";
        let remove = async |name| why(take_back(&scene, OPERATOR, Kind::OperatorBinding, "", name).await);
        assert_eq!(remove("bootstrap").await, last);
        let mut ending = given("bootstrap", "", &["ada"], Admin);
        if let Some(Object::OperatorBinding(binding)) = &mut ending.object {
            binding.spec.as_mut().unwrap().not_after = Some(prost_types::Timestamp { seconds: NOW + 10_000, nanos: 0 });
        }
        let mut starting = given("bootstrap", "", &["ada"], Admin);
        if let Some(Object::OperatorBinding(binding)) = &mut starting.object {
            binding.spec.as_mut().unwrap().not_before =
                Some(prost_types::Timestamp { seconds: NOW + 10_000, nanos: 0 });
        }
        for narrower in [given("bootstrap", "", &["ada"], Editor), ending.clone(), starting] {
            assert_eq!(why(scene.apply(vec![narrower.clone()]).await), last);
            let call = scene.call(OPERATOR, "because", &UpdateDeclarationRequest::default(), "");
            let told = update::update(&scene.desk, call, narrower, vec!["spec".into()]).await;
            assert_eq!(why(told), last);
        }
        // One of a namespace, or with an end, does not count; another one does.
        scene.apply(vec![given("of-sales", "sales", &["bob"], Admin)]).await.unwrap();
        assert_eq!(remove("bootstrap").await, last);
        scene.apply(vec![given("second", "", &["ada", "bob"], Admin)]).await.unwrap();
        // Both at once: one of the two stays, whoever was faster.
        let (one, other) = tokio::join!(
            Box::pin(take_back(&scene, OPERATOR, Kind::OperatorBinding, "", "bootstrap")),
            Box::pin(take_back(&scene, OPERATOR, Kind::OperatorBinding, "", "second")),
        );
        let mut told = [why(one), why(other)];
        told.sort();
        assert_eq!(told, ["LAST_ADMINISTRATOR", "done"]);
    })
    .await;
}

#[tokio::test]
async fn the_configuration_counts_only_where_nobody_is_an_administrator() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        assert_eq!(why(scene.appoint(&[]).await), "LAST_ADMINISTRATOR");
        assert!(scene.appoint(&["ada", "grace", "ada"]).await.unwrap());
        let events = scene.events().await;
        assert_eq!((events.len(), events[0].r#type.as_str()), (1, "operator_binding.created"));
        assert_eq!(events[0].actor, "spiffe://example.org/legate/registry");
        assert!(!scene.appoint(&["mallory"]).await.unwrap() && !scene.appoint(&[]).await.unwrap());
        let mallory = "spiffe://example.org/legate/operator/mallory";
        assert_eq!(why(scene.apply_as(mallory, payments(), "", 0).await), "OPERATOR_NOT_PERMITTED");
        scene.apply_as(OTHER, payments(), "", 0).await.unwrap();
        // Every replica looks by itself; what one reads is what another wrote.
        let again = Scene::on(fixture.db.clone());
        assert_eq!(why(again.apply_as(mallory, vec![namespace("x")], "", 0).await), "OPERATOR_NOT_PERMITTED");
        again.apply_as(OTHER, vec![given("new", "payments", &["mallory"], Editor)], "", 0).await.unwrap();
        scene.apply_as(mallory, vec![role("another", "invoice:read")], "", 0).await.unwrap();
        again.apply_as(OTHER, vec![given("new", "payments", &["mallory"], Viewer)], "", 0).await.unwrap();
        assert_eq!(
            why(scene.apply_as(mallory, vec![role("third", "invoice:read")], "", 0).await),
            "OPERATOR_NOT_PERMITTED",
            "at once, on every replica"
        );
    })
    .await;
}

#[tokio::test]
async fn the_record_says_whole_what_each_binding_gives_and_every_start_says_all_of_them() {
    on_each::<Migrator>(async |fixture| {
        let scene = begin(&fixture).await;
        let mut bounded = given("bounded", "sales", &["grace", "joan"], Viewer);
        if let Some(Object::OperatorBinding(binding)) = &mut bounded.object {
            let spec = binding.spec.as_mut().unwrap();
            spec.not_after = Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 });
        }
        scene.apply(vec![bounded]).await.unwrap();
        let gone = scene.apply(vec![given("gone", "payments", &["eve"], Admin)]).await;
        gone.unwrap();
        let before = scene.events().await.len();
        take_back(&scene, OPERATOR, Kind::OperatorBinding, "payments", "gone").await.unwrap();
        crate::flow::administrators::state(&scene.desk).await.unwrap();
        let events = scene.events().await.split_off(before);
        let kinds: Vec<&str> = events.iter().map(|event| event.r#type.as_str()).collect();
        let wanted =
            ["operator_binding.revoked", "operators.stated", "operator_binding.stated", "operator_binding.stated"];
        assert_eq!(kinds, wanted);
        assert_eq!(events[1].details["bindings"], "2");
        let said: Vec<[&str; 4]> = events[2..]
            .iter()
            .map(|event| {
                let detail = |name: &str| event.details.get(name).map_or("", String::as_str);
                [&event.namespace, detail("operators"), detail("role"), detail("not_after")]
            })
            .collect();
        assert_eq!(said, [["", "ada", "ADMIN", ""], ["sales", "grace joan", "VIEWER", "2096-10-02T07:06:40Z"]]);
    })
    .await;
}

#[tokio::test]
async fn a_window_counts_and_who_needs_no_approval_is_for_administrators_to_say() {
    on_each::<Migrator>(async |fixture| {
        let scene = begin(&fixture).await;
        let mut binding = given("bobs", "payments", &["bob"], Editor);
        if let Some(Object::OperatorBinding(binding)) = &mut binding.object {
            let spec = binding.spec.as_mut().unwrap();
            spec.not_before = Some(prost_types::Timestamp { seconds: NOW + 10, nanos: 0 });
            spec.not_after = Some(prost_types::Timestamp { seconds: NOW + 20, nanos: 0 });
        }
        scene.apply(vec![binding, class("careful", true)]).await.unwrap();
        let write = async |name: &str| why(scene.apply_as(BOB, vec![role(name, "invoice:read")], "", 0).await);
        assert_eq!(write("early").await, "OPERATOR_NOT_PERMITTED");
        scene.clock.advance(std::time::Duration::from_secs(10));
        assert_eq!(write("now").await, "done");
        let loosened = scene.apply_as(BOB, vec![class("careful", false)], "", 0).await;
        assert!(loosened.unwrap_err().to_string().ends_with("needs the right ADMINISTER in payments"));
        scene.clock.advance(std::time::Duration::from_secs(10));
        assert_eq!(write("late").await, "OPERATOR_NOT_PERMITTED");
        scene.apply(vec![class("careful", false)]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_was_approved_below_a_ceiling_is_not_lifted_above_it_by_an_editor() {
    on_each::<Migrator>(async |fixture| {
        let scene = begin(&fixture).await;
        let with = |actions: &[&str], asks: bool| {
            let mut declared = class("careful", asks);
            if let Some(Object::AgentClass(class)) = &mut declared.object {
                class.spec.as_mut().unwrap().ceiling = actions.iter().map(|action| permission(action)).collect();
            }
            declared
        };
        let read_and_pay = with(&["invoice:read", "invoice:pay"], true);
        scene.apply(vec![given("bobs", "payments", &["bob"], Editor), read_and_pay]).await.unwrap();
        let write = async |declared| why(scene.apply_as(BOB, vec![declared], "", 0).await);
        for raised in [&["*"][..], &["invoice:*"], &["invoice:read", "invoice:pay", "ledger:read"]] {
            assert_eq!(write(with(raised, true)).await, "OPERATOR_NOT_PERMITTED", "{raised:?}");
        }
        // To lower it is his, and then to raise it again is not.
        assert_eq!(write(with(&["invoice:read"], true)).await, "done");
        assert_eq!(write(with(&["invoice:read", "invoice:pay"], true)).await, "OPERATOR_NOT_PERMITTED");
        scene.apply(vec![with(&["*"], true)]).await.unwrap();
        assert_eq!(write(with(&["invoice:*"], true)).await, "done");
        // Of a class that asks for nobody he says it all.
        scene.apply(vec![with(&["invoice:*"], false)]).await.unwrap();
        assert_eq!(write(with(&["*"], false)).await, "done");
    })
    .await;
}

#[tokio::test]
async fn a_class_that_asks_for_an_approver_is_not_taken_back_and_declared_anew_without() {
    on_each::<Migrator>(async |fixture| {
        let scene = begin(&fixture).await;
        let bobs = given("bobs", "payments", &["bob"], Editor);
        scene.apply(vec![bobs, class("careful", true), class("plain", false)]).await.unwrap();
        let remove = async |actor: &str, name: &str| {
            let named =
                vec![ObjectName { kind: Kind::AgentClass.into(), namespace: "payments".into(), name: name.into() }];
            let call = scene.call(actor, "no longer", &ApplyDeclarationsRequest::default(), "");
            why(apply::apply(&scene.desk, call, vec![], named, 0).await)
        };
        let no = "OPERATOR_NOT_PERMITTED";
        assert_eq!(why(take_back(&scene, BOB, Kind::AgentClass, "payments", "careful").await), no);
        assert_eq!(remove(BOB, "careful").await, no);
        assert_eq!(remove(BOB, "plain").await, "done");
        assert_eq!(remove(OPERATOR, "careful").await, "done");
    })
    .await;
}

/// The schema before operators had roles.
struct Before;

impl MigratorTrait for Before {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = Migrator::migrations();
        let at = all.iter().position(|one| one.name() == "registry_0003_operators").unwrap();
        all.truncate(at);
        all
    }
}

#[tokio::test]
async fn a_database_from_before_comes_through_with_what_it_holds() {
    on_each::<Before>(async |fixture| {
        use sea_orm::ConnectionTrait as _;
        let added = fixture.db.tx("old", |tx| {
            Box::pin(async move {
                tx.execute_unprepared("UPDATE head SET revision = 7").await?;
                Ok::<_, legate_db::TxError<Fault>>(())
            })
        });
        added.await.unwrap();
        fixture.db.migrate::<Migrator>().await.unwrap();
        let scene = Scene::new(&fixture);
        assert!(scene.appoint(&["ada"]).await.unwrap());
        assert_eq!(scene.apply(payments()).await.unwrap().revision, 9);
        assert_eq!(why(scene.apply_as(BOB, vec![namespace("x")], "", 0).await), "OPERATOR_NOT_PERMITTED");
    })
    .await;
}
