//! Policies speak of what there is: of what Legate gives always, and of what the namespace declares where it declares something.

use legate_db::testing::on_each;
use legate_rpc::Fault;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    ChangeAction, Declaration, Kind, Metadata, Namespace, NamespaceSpec, ObjectName, PolicyMode,
};

use super::scene::*;
use crate::domain::kind::Key;
use crate::flow::{plan, read, update};
use crate::schema::Migrator;
use crate::store::object;

const SCHEMA: &str = "entity Invoice { amount: Long, sealed?: Bool };\n\
    action \"invoice:read\", \"invoice:pay\" appliesTo { principal: [Agent], resource: [Invoice], context: { mfa?: Bool } };";

fn declaring(schema: &str) -> Declaration {
    let metadata = Some(Metadata { name: "payments".into(), ..Metadata::default() });
    let spec = NamespaceSpec { policy_schema: schema.into(), ..NamespaceSpec::default() };
    of(Object::Namespace(Namespace { metadata, spec: Some(spec), status: None }))
}

fn when(name: &str, condition: &str) -> Declaration {
    policy(name, &format!("permit (principal, action, resource)\nwhen {{ {condition} }};"))
}

async fn refused(scene: &Scene, all: Vec<Declaration>) -> (&'static str, String) {
    let fault: Fault = scene.apply(all).await.unwrap_err();
    (reason(&fault), fault.to_string())
}

#[tokio::test]
async fn what_legate_gives_is_known_without_a_schema() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        for (wrong, why) in [
            ("principal.enviroment == \"prod\"", "at line 2, column 8: attribute `enviroment` on entity type `Agent` not found"),
            ("principal.owners < 3", "at line 2, column 8: unexpected type"),
            ("principal has enviroment && context.mfa", "asks whether the principal has `enviroment`, which none has"),
            ("ip(\"300.0.0.1\").isLoopback()", "at line 2, column 8: error during extension function argument validation"),
            ("context.on_behalf_of.person == \"ada\"", "at line 2, column 8: attribute `on_behalf_of.person`"),
        ] {
            let (reason, told) = refused(&scene, vec![when("bad", wrong)]).await;
            assert_eq!(reason, "POLICY_INVALID", "{wrong}");
            assert!(told.contains(why), "{wrong}: {told}");
        }
        // What callers state may be anything, and what may be absent need not be asked after.
        for good in [
            "resource.amount < 100 && context.mfa",
            "principal.model like \"claude*\"",
            "principal.labels has team && principal.labels.team == \"x\"",
            "context.tags.contains(\"x\") || [1, \"a\"].contains(context.n) || ip(context.ip).isInRange(ip(\"10.0.0.0/8\"))",
            "resource in Folder::\"x\" && action in [Action::\"a\", Action::\"b\"]",
            "context has on_behalf_of && context.on_behalf_of.kind == \"user\" && context.on_behalf_of.depth < 3",
        ] {
            scene.apply(vec![when("good", good)]).await.unwrap_or_else(|e| panic!("{good}: {e}"));
        }
    })
    .await;
}

/// A policy of so many bytes, most of which say nothing.
fn long(name: &str, bytes: usize) -> Declaration {
    let text = "permit (principal, action, resource); //";
    policy(name, &format!("{text}{}", "x".repeat(bytes - text.len())))
}

#[tokio::test]
async fn a_namespace_holds_so_many_bytes_of_policies_and_no_more() {
    const LONG: usize = 64 << 10;
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let many: Vec<Declaration> = (0..120).map(|n| long(&format!("long-{n}"), LONG)).collect();
        scene.apply(many).await.unwrap();
        // What rests is a little more than the text: seven fit, and the eighth does not.
        let seven = (120..127).map(|n| long(&format!("long-{n}"), LONG)).collect();
        scene.apply(seven).await.unwrap();
        let (word, told) = refused(&scene, vec![long("one-more", LONG)]).await;
        assert_eq!(word, "NAMESPACE_FULL", "{told}");
        assert!(told.contains("8388608 at most"), "{told}");
        // One that is written anew, smaller; and another as much larger in the same write.
        scene.apply(vec![long("long-1", LONG / 2)]).await.unwrap();
        scene.apply(vec![long("long-2", LONG / 2), long("one-more", LONG / 2)]).await.unwrap();
        // There is room for half of one more, and not for three halves.
        let more = vec![long("long-1", LONG), long("long-2", LONG), long("long-3", LONG), long("two-more", LONG)];
        let (word, _) = refused(&scene, more).await;
        assert_eq!(word, "NAMESPACE_FULL");
        // It is of each namespace by itself, and of nothing but policies.
        scene.apply(payments()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn by_a_schema_policies_are_held_strictly() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.retain(|one| one.kind() != Some(Kind::Namespace));
        all.push(declaring(SCHEMA));
        all.push(when("small", "resource.amount < 100 && context has mfa && context.mfa"));
        scene.apply(all).await.unwrap();
        for (wrong, why) in [
            ("resource.amout < 100", "at line 2, column 8: attribute `amout` on entity type `Invoice` not found"),
            ("resource.amount == \"100\"", "at line 2"),
            ("resource.sealed", "unable to guarantee safety of access to optional attribute `sealed`"),
            ("context.mfa", "unable to guarantee safety"),
            ("context.region == \"eu\"", "attribute `region`"),
            ("action == Action::\"invoice:list\"", "unrecognized action"),
            ("resource is Ledger", "unrecognized entity type"),
            ("principal.labels == {}", "compares the principal's labels as a whole"),
        ] {
            let (reason, told) = refused(&scene, vec![when("bad", wrong)]).await;
            assert_eq!(reason, "POLICY_INVALID", "{wrong}");
            assert!(told.contains("spec.cedar") && told.contains(why), "{wrong}: {told}");
            // A plan says the same, and a policy in LOG_ONLY has to fit as well: it may be promoted.
            let planned = plan::plan(&scene.desk, &by(OPERATOR, ""), vec![when("bad", wrong)], Vec::new()).await;
            assert_eq!(planned.unwrap_err().reason(), "POLICY_INVALID");
            let mut trial = when("trial", wrong);
            let Some(Object::Policy(of)) = &mut trial.object else { unreachable!() };
            of.spec.as_mut().unwrap().mode = PolicyMode::LogOnly.into();
            assert_eq!(refused(&scene, vec![trial]).await.0, "POLICY_INVALID");
        }
        for good in [
            "resource has sealed && resource.sealed",
            "principal.labels has team && principal.labels.team == \"x\"",
            "principal has model && principal.model like \"claude*\"",
            "principal in Role::\"reader\" || resource == Invoice::\"1\"",
        ] {
            scene.apply(vec![when("good", good)]).await.unwrap_or_else(|e| panic!("{good}: {e}"));
        }
        // Another namespace declares nothing.
        let mut elsewhere = when("elsewhere", "context.anything");
        elsewhere.metadata_mut().unwrap().namespace = "other".into();
        scene.apply(vec![namespace("other"), elsewhere]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_schema_that_policies_in_force_do_not_fit_is_refused() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        scene.apply(vec![when("region", "context.region == \"eu\"")]).await.unwrap();
        let (reason, told) = refused(&scene, vec![declaring(SCHEMA)]).await;
        assert_eq!(reason, "POLICY_SCHEMA_UNMET");
        assert!(
            told.contains("spec.policy_schema")
                && told.contains("the policy payments/region, which is in force, does not fit it: at line 2"),
            "{told}"
        );
        // Mended in the same apply, whichever comes first.
        scene.apply(vec![when("region", "context has mfa"), declaring(SCHEMA)]).await.unwrap();
        // A policy as it was, given with a schema that it does not fit, is refused itself.
        let narrower = declaring(&SCHEMA.replace("amount: Long, ", ""));
        let (reason, told) = refused(&scene, vec![narrower.clone(), when("region", "resource.amount < 1")]).await;
        assert_eq!(reason, "POLICY_INVALID", "{told}");
        for (bad, why) in [
            ("entity Invoice", "is no schema"),
            ("entity Agent;", "declares the type Agent, which is Legate's own"),
            ("entity R { at: datetime }; action \"a\" appliesTo { principal: [Agent], resource: [R] };", "R.at is a"),
            ("// \u{202e}", "holds U+202E"),
        ] {
            let (reason, told) = refused(&scene, vec![declaring(bad)]).await;
            assert_eq!(reason, "POLICY_SCHEMA_INVALID", "{bad}");
            assert!(told.contains(why), "{bad}: {told}");
        }
        // Without a schema anything can be stated again.
        scene.apply(vec![declaring(""), when("region", "context.region == \"eu\"")]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn what_was_written_before_stays_in_force_until_it_is_written_anew() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let old = "forbid (principal, action, resource) when { principal.enviroment == \"dev\" };";
        // As a registry wrote it that did not look.
        scene
            .apply(vec![policy(
                "old",
                "forbid (principal, action, resource) when { principal.environment == \"dev\" };",
            )])
            .await
            .unwrap();
        scene
            .desk
            .db
            .tx("test_older", move |tx| {
                Box::pin(async move {
                    use prost::Message as _;
                    let key = Key::new(Kind::Policy, "payments", "old");
                    let mut row = object::by_key(tx, &key).await?.unwrap();
                    let mut declaration = row.declaration()?;
                    let Some(Object::Policy(policy)) = &mut declaration.object else { unreachable!() };
                    policy.spec.as_mut().unwrap().cedar = old.to_owned();
                    row.body = declaration.encode_to_vec();
                    object::put(tx, vec![row]).await?;
                    Ok::<_, legate_db::TxError<Fault>>(())
                })
            })
            .await
            .unwrap();
        let same = scene.apply(vec![policy("old", old), role("writer", "invoice:pay")]).await.unwrap();
        assert_eq!(same.changes[0].action(), ChangeAction::Unchanged, "a manifest with it still applies");
        // A new label alone does not judge it again.
        let mut labelled = policy("old", old);
        labelled.metadata_mut().unwrap().labels.insert("team".into(), "pay".into());
        assert_eq!(scene.apply(vec![labelled]).await.unwrap().changes[0].action(), ChangeAction::Updated);
        let (reason, told) = refused(&scene, vec![policy("old", &format!("{old} "))]).await;
        assert_eq!(reason, "POLICY_INVALID");
        assert!(told.contains("enviroment"), "{told}");
        let mut trial = policy("old", old);
        let Some(Object::Policy(of)) = &mut trial.object else { unreachable!() };
        of.spec.as_mut().unwrap().mode = PolicyMode::LogOnly.into();
        let call = scene.call(OPERATOR, "because", &(), "");
        let fault = update::update(&scene.desk, call, trial, vec!["spec.mode".into()]).await.unwrap_err();
        assert_eq!(fault.reason(), "POLICY_INVALID", "every door looks");
        // It can be taken back, and is in force until then.
        read::object(&scene.desk, &by(OPERATOR, ""), Key::new(Kind::Policy, "payments", "old"), None).await.unwrap();
        let gone = ObjectName { kind: Kind::Policy.into(), namespace: "payments".into(), name: "old".into() };
        scene
            .exchange("mended", vec![policy("new", "permit (principal, action, resource);")], vec![gone])
            .await
            .unwrap();
    })
    .await;
}
