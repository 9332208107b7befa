//! Taking away beside declaring: at one revision, in an order that works, and never what something in force still names.

use legate_db::testing::on_each;
use legate_wire::registry::{AgentState, ChangeAction, Kind, ObjectName};

use super::scene::*;
use crate::flow::{plan, read};
use crate::schema::Migrator;

pub(super) fn named(kind: Kind, name: &str) -> ObjectName {
    let namespace = if kind == Kind::Namespace { "" } else { "payments" };
    ObjectName { kind: kind.into(), namespace: namespace.into(), name: name.into() }
}

pub(super) fn everything() -> Vec<ObjectName> {
    vec![
        named(Kind::Namespace, "payments"),
        named(Kind::AgentClass, "worker"),
        named(Kind::Agent, "invoice-bot"),
        named(Kind::Role, "reader"),
        named(Kind::RoleBinding, "bot-reads"),
        named(Kind::Policy, "all"),
        named(Kind::EnforcementPoint, "invoices"),
    ]
}

#[tokio::test]
async fn what_goes_together_goes_in_any_order_at_one_revision() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let id = scene.agent("invoice-bot").await.metadata.unwrap().id;
        let by = scene.call(OPERATOR, "", &(), "").by;
        let planned = plan::plan(&scene.desk, &by, Vec::new(), everything()).await.unwrap();
        let removed = |changes: &[legate_wire::registry::DeclarationChange]| {
            changes.iter().filter(|c| c.action() == ChangeAction::Removed && !c.id.is_empty()).count()
        };
        assert_eq!((planned.revision, removed(&planned.changes)), (1, 7));
        assert_eq!(scene.events().await.len(), 7, "a plan changes nothing");

        let gone = scene.exchange("the team is dissolved", Vec::new(), everything()).await.unwrap();
        assert_eq!((gone.revision, removed(&gone.changes)), (2, 7));
        let by_id = legate_wire::registry::AgentRef { id, ..Default::default() };
        let tombstone = read::agent(&scene.desk, &by, Some(by_id), None).await.unwrap().0;
        let status = tombstone.status.unwrap();
        assert_eq!(status.state(), AgentState::Retired);
        assert!(status.authorization_cutoff.is_some());
        let kinds = scene.kinds().await;
        assert_eq!(kinds[7..].iter().filter(|kind| kind.ends_with(".revoked")).count(), 6, "{kinds:?}");
        assert_eq!(kinds[7..].iter().filter(|kind| *kind == "agent.retired").count(), 1, "{kinds:?}");
        assert_eq!(kinds.last().unwrap(), "namespace.revoked");

        // Gone is gone: the same again changes nothing, and the names are free.
        let again = scene.exchange("again", Vec::new(), everything()).await.unwrap();
        assert_eq!((again.revision, removed(&again.changes)), (2, 0));
        assert!(again.changes.iter().all(|c| c.action() == ChangeAction::Unchanged));
        assert_eq!(scene.apply(payments()).await.unwrap().revision, 3);
    })
    .await;
}

#[tokio::test]
async fn what_something_in_force_names_stays_and_so_does_everything_else() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.push(agent("other-bot", "worker"));
        scene.apply(all).await.unwrap();
        for (removals, by) in [
            (vec![named(Kind::Role, "reader")], "RoleBinding payments/bot-reads"),
            (vec![named(Kind::Agent, "invoice-bot")], "RoleBinding payments/bot-reads"),
            (vec![named(Kind::AgentClass, "worker"), named(Kind::Agent, "invoice-bot")], "Agent payments/other-bot"),
            (everything(), "Agent payments/other-bot"),
        ] {
            let fault = scene.exchange("no", Vec::new(), removals).await.unwrap_err();
            assert_eq!(reason(&fault), "OBJECT_IN_USE");
            assert!(format!("{fault:?}").contains(by), "{fault:?}");
        }
        // Named by what is written in the same change.
        let written = vec![binding("other-reads", "reader", &["other-bot"])];
        let removals = vec![named(Kind::Role, "reader"), named(Kind::RoleBinding, "bot-reads")];
        let fault = scene.exchange("no", written, removals).await.unwrap_err();
        assert_eq!(reason(&fault), "OBJECT_IN_USE");
        assert_eq!(scene.events().await.len(), 8, "nothing was written");

        // No longer named by what is written in the same change.
        let written = vec![binding("bot-reads", "payer", &["other-bot"]), role("payer", "invoice:pay")];
        let removals = vec![named(Kind::Role, "reader"), named(Kind::Agent, "invoice-bot")];
        let changed = scene.exchange("yes", written, removals).await.unwrap();
        let actions: Vec<_> = changed.changes.iter().map(|change| change.action()).collect();
        assert_eq!(
            actions,
            [ChangeAction::Updated, ChangeAction::Created, ChangeAction::Removed, ChangeAction::Removed]
        );
        assert_eq!(changed.revision, 2);
    })
    .await;
}

#[tokio::test]
async fn a_removal_says_which_object_and_why() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let key = named(Kind::SigningKey, "key");
        let key = ObjectName { namespace: String::new(), ..key };
        let evil = ObjectName { name: "a\u{202e}b".into(), ..named(Kind::Role, "") };
        for (why, removals, wanted) in [
            ("", vec![named(Kind::Policy, "all")], "INVALID_ARGUMENT"),
            ("x", vec![], "INVALID_ARGUMENT"),
            ("x", vec![named(Kind::Unspecified, "all")], "INVALID_ARGUMENT"),
            ("x", vec![evil], "INVALID_ARGUMENT"),
            ("x", vec![key], "KIND_NOT_APPLICABLE"),
            ("x", vec![named(Kind::Policy, "all"), named(Kind::Policy, "all")], "OBJECT_REPEATED"),
            ("x", (0..1_001).map(|n| named(Kind::Role, &format!("r{n}"))).collect(), "INVALID_ARGUMENT"),
        ] {
            let fault = scene.exchange(why, Vec::new(), removals).await.unwrap_err();
            assert_eq!(reason(&fault), wanted, "{fault}");
            assert!(!format!("{fault:?}").contains('\u{202e}'));
        }
        let both = scene.exchange("x", payments(), vec![named(Kind::Policy, "all")]).await.unwrap_err();
        assert_eq!(reason(&both), "OBJECT_REPEATED");
    })
    .await;
}
