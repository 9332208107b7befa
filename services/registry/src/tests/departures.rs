//! Who may let a person leave, what cannot be meant by it, and that nobody is named any more who left.

use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    AgentSpec, Declaration, Departure, Kind, ListDeparturesRequest, Metadata, OffboardPersonRequest, OperatorBinding,
    OperatorBindingSpec, OperatorRole,
};

use super::scene::*;
use super::succession::{ADA, GRACE, JOAN, agent_of, is_orphaned, leaves, seconds};
use crate::flow::{create_agent, departures, offboard, offboard_preview, plan, revoke};
use crate::schema::Migrator;

const BOB: &str = "spiffe://example.org/legate/operator/bob";

pub(super) fn appointed(name: &str, namespace: &str, operators: &[&str]) -> Declaration {
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

#[tokio::test]
async fn a_namespace_that_is_taken_back_takes_its_departures_along() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(vec![namespace("sales")]).await.unwrap();
        scene.offboard(OffboardPersonRequest { namespace: "sales".into(), ..leaves(GRACE) }).await;
        let key = revoke::key(Kind::Namespace.into(), "", "sales").unwrap();
        let call = scene.call(OPERATOR, "over", &leaves(GRACE), "");
        revoke::revoke(&scene.desk, call, key, String::new()).await.unwrap();
        scene.apply(vec![namespace("sales")]).await.unwrap();
        assert!(scene.departures(OPERATOR, ListDeparturesRequest::default()).await.is_empty());
        let mut late = vec![class("worker", false), agent("late-bot", "worker")];
        for one in &mut late {
            one.metadata_mut().unwrap().namespace = "sales".into();
        }
        scene.apply(late).await.unwrap();
        let all = ListDeparturesRequest { with_withdrawn: true, ..ListDeparturesRequest::default() };
        assert_eq!(scene.departures(OPERATOR, all).await[0].withdraw_reason, "the namespace was taken back");
        assert_eq!(scene.sweep().await, 0);
    })
    .await;
}
