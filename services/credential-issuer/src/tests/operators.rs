//! What operators may do here: by their roles, as the view knows them.

use legate_db::testing::on_each;
use legate_ids::Name;
use legate_rpc::Fault;
use legate_wire::registry::OperatorRole::{self, Admin, Approver, BreakGlass, Editor, Viewer};
use legate_wire::registry::RevocationReason;

use super::registry::{self, NAMESPACE};
use super::scene::*;
use crate::domain::holder::Named;
use crate::flow::{Call, create_enrolment, list, revoke};
use crate::schema::Migrator;
use crate::store::credential;

/// Gives `who` a role in place of the one that he had.
async fn make(scene: &Scene, namespace: &str, who: &str, role: OperatorRole) {
    scene.declare(registry::operators(&format!("of-{who}"), namespace, who, role)).await;
}

async fn listed(scene: &Scene, call: &Call, namespace: &str) -> Result<Vec<String>, Fault> {
    let ask = list::Ask { namespace: namespace.into(), ..list::Ask::default() };
    let (rows, _) = list::list(&scene.desk, call, ask).await?;
    Ok(rows.into_iter().map(|row: credential::Model| row.id).collect())
}

async fn enrolment(scene: &Scene, call: &Call, named: Named) -> Result<(), Fault> {
    let made = create_enrolment::create_enrolment(&scene.desk, call, named, None, "a test".into());
    scene.desk.for_operator(call, made).await.map(|_| ())
}

async fn revoked(scene: &Scene, call: &Call, id: &str) -> Result<(), Fault> {
    let why = RevocationReason::Superseded;
    let revoked = revoke::revoke(&scene.desk, call, id.parse().unwrap(), why, "a test".into());
    scene.desk.for_operator(call, revoked).await.map(|_| ())
}

fn bot() -> Named {
    Named::Agent(registry::agent_id(1))
}

fn point() -> Named {
    Named::EnforcementPoint { namespace: Name::parse(NAMESPACE).unwrap(), name: Name::parse("invoices").unwrap() }
}

#[tokio::test]
async fn each_role_gives_what_the_matrix_says() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (known, _) = scene.enrolled(1).await;
        let bob = scene.operator_called("bob", None);
        for (role, issues, stops) in
            [(Viewer, false, false), (Editor, true, true), (Approver, false, true), (Admin, true, true)]
        {
            make(&scene, NAMESPACE, "bob", role).await;
            assert!(listed(&scene, &bob, "").await.unwrap().contains(&known.id), "{role:?}");
            for named in [bot(), point()] {
                let told = enrolment(&scene, &bob, named).await;
                assert_eq!(told.map_err(|f| f.reason()), if issues { Ok(()) } else { Err("OPERATOR_NOT_PERMITTED") });
            }
            let told = revoked(&scene, &bob, &known.id).await;
            assert_eq!(told.map_err(|f| f.reason()), if stops { Ok(()) } else { Err("OPERATOR_NOT_PERMITTED") });
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_of_another_namespace_is_not_there() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (known, _) = scene.enrolled(1).await;
        let bob = scene.operator_called("bob", None);
        make(&scene, "sales", "bob", Admin).await;
        let said = |told: Result<(), Fault>, id: &str| told.unwrap_err().to_string().replace(id, "THIS");
        let none = registry::agent_id(99);
        let foreign = said(enrolment(&scene, &bob, bot()).await, registry::agent_id(1).as_str());
        let missing = said(enrolment(&scene, &bob, Named::Agent(none.clone())).await, none.as_str());
        assert_eq!(foreign, missing);
        let nothing = legate_ids::CredentialId::from_parts(9, [9; 10]).to_string();
        let foreign = said(revoked(&scene, &bob, &known.id).await, &known.id);
        assert_eq!(foreign, said(revoked(&scene, &bob, &nothing).await, &nothing));
        for namespace in ["", NAMESPACE, "sales"] {
            assert_eq!(listed(&scene, &bob, namespace).await.unwrap(), Vec::<String>::new());
        }
        // What he names himself he is told.
        let told = enrolment(&scene, &bob, point()).await.unwrap_err();
        assert!(told.reason() == "OPERATOR_NOT_PERMITTED" && told.to_string().contains("ISSUE in payments"), "{told}");
        assert_eq!(scene.count("credential.revoked").await, 0);
        assert_eq!(scene.count("operator.refused").await, 1);
        assert!(listed(&scene, &scene.operator(), "").await.unwrap().contains(&known.id));
    })
    .await;
}

#[tokio::test]
async fn an_emergency_is_on_record_first_and_takes_the_role_for_it() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (known, _) = scene.enrolled(1).await;
        let broken = scene.operator_called("bob", Some("the pager rang"));
        make(&scene, NAMESPACE, "bob", Admin).await;
        assert_eq!(revoked(&scene, &broken, &known.id).await.unwrap_err().reason(), "BREAK_GLASS_REFUSED");
        make(&scene, NAMESPACE, "bob", BreakGlass).await;
        let calm = scene.operator_called("bob", None);
        assert_eq!(revoked(&scene, &calm, &known.id).await.unwrap_err().reason(), "CREDENTIAL_NOT_FOUND");
        let before = scene.events().await.len();
        assert_eq!(listed(&scene, &broken, "").await.unwrap(), std::slice::from_ref(&known.id));
        revoked(&scene, &broken, &known.id).await.unwrap();
        enrolment(&scene, &broken, bot()).await.unwrap();
        let events = scene.events().await;
        let kinds: Vec<_> = events[before..].iter().map(|event| event.r#type.as_str()).collect();
        let glass = "operator.broke_glass";
        assert_eq!(kinds, [glass, glass, "credential.revoked", glass, "enrolment.created"]);
        assert_eq!(events[before].details["emergency"], "the pager rang");
    })
    .await;
}

#[tokio::test]
async fn by_a_view_that_is_too_old_nobody_may_do_anything() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (known, _) = scene.enrolled(1).await;
        scene.registry.answers.store(false, std::sync::atomic::Ordering::SeqCst);
        scene.clock.advance(std::time::Duration::from_secs(6));
        let call = scene.operator();
        assert_eq!(listed(&scene, &call, "").await.unwrap_err().reason(), "VIEW_STALE");
        assert_eq!(enrolment(&scene, &call, bot()).await.unwrap_err().reason(), "VIEW_STALE");
        assert_eq!(revoked(&scene, &call, &known.id).await.unwrap_err().reason(), "VIEW_STALE");
    })
    .await;
}
