//! Chains of delegation: no link gives more than the one before it, whichever of them is written last.

use legate_db::testing::on_each;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{Declaration, DelegationGrant, DelegationGrantSpec, Kind, RoleBinding};

use super::scene::*;
use crate::domain::kind::Key;
use crate::domain::lifecycle::Transition;
use crate::flow::transition::Step;
use crate::flow::{plan, read, revoke};
use crate::schema::Migrator;

/// A grant of `invoice:*` from a delegator to an agent, in which so many links may follow.
fn grant(name: &str, delegator: &str, delegate: &str, parent: &str, max_depth: u32) -> Declaration {
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let spec = DelegationGrantSpec {
        delegator: delegator.into(),
        delegate: delegate.into(),
        permissions: vec![permission("invoice:*")],
        purpose: "closes the month".into(),
        not_after: at(NOW + 3_600),
        may_redelegate: max_depth > 0,
        max_depth,
        parent: parent.into(),
        ..DelegationGrantSpec::default()
    };
    of(Object::DelegationGrant(DelegationGrant { metadata: metadata(name), spec: Some(spec) }))
}

fn changed(mut declaration: Declaration, change: impl FnOnce(&mut DelegationGrantSpec)) -> Declaration {
    let Some(Object::DelegationGrant(grant)) = &mut declaration.object else { panic!("no grant") };
    change(grant.spec.as_mut().unwrap());
    declaration
}

fn root() -> Declaration {
    grant("root", "user:ada@example.com", "a", "", 3)
}

/// Ada lets a, a lets b, b lets c.
fn chain() -> Vec<Declaration> {
    vec![grant("b-to-c", "agent:b", "c", "a-to-b", 0), grant("a-to-b", "agent:a", "b", "root", 2), root()]
}

async fn raised(scene: &Scene) {
    let mut all = payments();
    all.extend(["a", "b", "c", "d"].map(|name| agent(name, "worker")));
    all.extend(chain());
    scene.apply(all).await.unwrap();
}

#[tokio::test]
async fn a_link_gives_no_more_than_the_one_before() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        raised(&scene).await;
        let link = || grant("more", "agent:a", "d", "root", 2);
        type Change = fn(&mut DelegationGrantSpec);
        let wider: [(&str, Change); 6] = [
            ("delegator", |spec| spec.delegator = "agent:b".into()),
            ("permissions", |spec| spec.permissions.push(permission("ledger:read"))),
            ("permissions", |spec| spec.permissions = vec![permission("*")]),
            ("not_after", |spec| spec.not_after.as_mut().unwrap().seconds += 1),
            ("max_depth", |spec| spec.max_depth = 3),
            ("parent", |spec| (spec.parent, spec.delegator) = ("b-to-c".into(), "agent:c".into())),
        ];
        for (field, change) in wider {
            let bad = changed(link(), change);
            let fault = scene.apply(vec![bad.clone()]).await.unwrap_err();
            assert_eq!(reason(&fault), "GRANT_EXCEEDS_PARENT", "{fault}");
            assert!(fault.to_string().contains(&format!("declarations[0].spec.{field}:")), "{fault}");
            // A plan says it as well.
            let by = scene.call(OPERATOR, "", &(), "").by;
            assert_eq!(
                reason(&plan::plan(&scene.desk, &by, vec![bad], Vec::new()).await.unwrap_err()),
                "GRANT_EXCEEDS_PARENT"
            );
        }
        let narrow = changed(link(), |spec| spec.permissions = vec![permission("invoice:read")]);
        scene.apply(vec![narrow]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_grant_that_others_pass_on_keeps_what_they_pass_on() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        raised(&scene).await;
        type Change = fn(&mut DelegationGrantSpec);
        let narrower: [(&str, Change); 5] = [
            ("payments/a-to-b", |spec| spec.permissions = vec![permission("invoice:read")]),
            ("payments/a-to-b", |spec| spec.audiences = vec!["https://ledger.example.com".into()]),
            ("payments/a-to-b", |spec| spec.not_after.as_mut().unwrap().seconds -= 1),
            ("payments/a-to-b", |spec| (spec.may_redelegate, spec.max_depth) = (false, 0)),
            ("payments/a-to-b", |spec| spec.delegate = "d".into()),
        ];
        for (child, change) in narrower {
            let fault = scene.apply(vec![changed(root(), change)]).await.unwrap_err();
            assert_eq!(reason(&fault), "GRANT_EXCEEDS_PARENT", "{fault}");
            assert!(fault.to_string().contains(child), "{fault}");
        }
        // All of them narrowed in one apply are well.
        let narrowed: Vec<_> = chain()
            .into_iter()
            .map(|one| changed(one, |spec| spec.permissions = vec![permission("invoice:read")]))
            .collect();
        scene.apply(narrowed).await.unwrap();
        let fault = scene.apply(vec![chain().remove(0)]).await.unwrap_err();
        assert_eq!(reason(&fault), "GRANT_EXCEEDS_PARENT", "the last may not be as wide as it was");
        // What does not bear on others is free.
        scene.apply(vec![changed(root(), |spec| spec.purpose = "closes the year".into())]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn no_chain_goes_round() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        raised(&scene).await;
        for (what, bad) in [
            ("back to the first agent", grant("back", "agent:b", "a", "a-to-b", 1)),
            // Far below, c is there already.
            ("from an agent that comes later", changed(root(), |spec| spec.delegator = "agent:c".into())),
        ] {
            let fault = scene.apply(vec![bad]).await.unwrap_err();
            assert_eq!(reason(&fault), "GRANT_CHAIN_INVALID", "{what}: {fault}");
        }
        // Each the parent of the other.
        let pair = vec![grant("x", "agent:b", "a", "y", 2), grant("y", "agent:a", "b", "x", 1)];
        assert_eq!(reason(&scene.apply(pair).await.unwrap_err()), "GRANT_EXCEEDS_PARENT");
        // Other agents, without end.
        let own = changed(root(), |spec| (spec.delegator, spec.parent) = ("agent:c".into(), "b-to-c".into()));
        let fault = scene.apply(vec![own]).await.unwrap_err();
        assert_eq!(reason(&fault), "GRANT_EXCEEDS_PARENT", "{fault}");
    })
    .await;
}

#[tokio::test]
async fn a_chain_is_taken_back_from_its_end_or_with_its_agent() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        raised(&scene).await;
        let take_back = async |name: &str| {
            let key = Key::new(Kind::DelegationGrant, "payments", name);
            revoke::revoke(&scene.desk, scene.call(OPERATOR, "over", &(), ""), key, String::new()).await
        };
        assert_eq!(reason(&take_back("root").await.unwrap_err()), "OBJECT_IN_USE");
        assert_eq!(reason(&take_back("a-to-b").await.unwrap_err()), "OBJECT_IN_USE");
        take_back("b-to-c").await.unwrap();
        scene.apply(chain()).await.unwrap();
        // With b goes what it was given and what it gave.
        let before = scene.kinds().await.len();
        scene.step(OPERATOR, "b", Step::Transition(Transition::Retire)).await.unwrap();
        let kinds = scene.kinds().await;
        assert_eq!(kinds[before..], ["delegation_grant.revoked", "delegation_grant.revoked", "agent.retired"]);
        for (name, is_there) in [("root", true), ("a-to-b", false), ("b-to-c", false)] {
            let found =
                read::object(&scene.desk, &by(OPERATOR, ""), Key::new(Kind::DelegationGrant, "payments", name), None)
                    .await;
            assert_eq!(found.is_ok(), is_there, "{name}");
        }
        // A new agent of that name has nothing of it, and the chain can be made anew.
        scene.apply(vec![agent("b", "worker")]).await.unwrap();
        scene.apply(chain()).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn with_the_giver_goes_the_whole_chain() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        raised(&scene).await;
        // d gives to a, who passes it on to b, who passes it on to c.
        scene
            .apply(vec![
                grant("d-to-a", "agent:d", "a", "", 3),
                grant("d-a-b", "agent:a", "b", "d-to-a", 2),
                grant("d-a-b-c", "agent:b", "c", "d-a-b", 1),
            ])
            .await
            .unwrap();
        scene.step(OPERATOR, "d", Step::Transition(Transition::Retire)).await.unwrap();
        for (name, is_there) in
            [("d-to-a", false), ("d-a-b", false), ("d-a-b-c", false), ("root", true), ("b-to-c", true)]
        {
            let found =
                read::object(&scene.desk, &by(OPERATOR, ""), Key::new(Kind::DelegationGrant, "payments", name), None)
                    .await;
            assert_eq!(found.is_ok(), is_there, "{name}");
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_acts_for_a_person_who_left() {
    use legate_wire::registry::OffboardPersonRequest;
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        raised(&scene).await;
        let kept = grant("kept", "user:ada@example.co", "d", "", 0);
        scene.apply(vec![kept, grant("of-a-group", "group:ada@example.com", "d", "", 0)]).await.unwrap();
        let for_whom = |name: &str, agents: &[&str], users: &[&str]| {
            let mut all = binding(name, "reader", agents);
            if let Some(Object::RoleBinding(RoleBinding { spec: Some(spec), .. })) = &mut all.object {
                spec.users = users.iter().map(|who| format!("user:{who}@example.com")).collect();
            }
            all
        };
        let bindings = [
            for_whom("of-both", &["d"], &["ada", "joan"]),
            for_whom("of-her", &[], &["ada"]),
            for_whom("of-joan", &[], &["joan"]),
        ];
        scene.apply(vec![role("reader", "invoice:read")]).await.unwrap();
        scene.apply(bindings.to_vec()).await.unwrap();
        // More than are looked at in one transaction, and none of them another person's.
        let many = (0..230).map(|n| grant(&format!("x-{n:03}"), "user:joan@example.com", "d", "", 0));
        scene.apply(many.collect()).await.unwrap();
        let asked = super::succession::leaves("user:ada@example.com");
        let said = crate::flow::offboard_preview::preview(&scene.desk, &by(OPERATOR, ""), asked.clone()).await.unwrap();
        let said = said.preview.unwrap();
        assert_eq!((said.delegation_grants, said.is_exact), (1, true));
        let sales = OffboardPersonRequest { namespace: "sales".into(), ..asked.clone() };
        scene.apply(vec![namespace("sales")]).await.unwrap();
        scene.offboard(sales).await;
        assert_eq!(scene.sweep().await, 0, "from another namespace");
        scene.offboard(asked).await;
        let refused = scene.apply(vec![grant("late", "user:ada@example.com", "d", "", 0)]).await.unwrap_err();
        assert_eq!(reason(&refused), "PERSON_DEPARTED", "{refused}");
        assert!(refused.to_string().contains("spec.delegator"), "{refused}");
        let refused = scene.apply(vec![for_whom("late", &["d"], &["joan", "ada"])]).await.unwrap_err();
        assert_eq!(reason(&refused), "PERSON_DEPARTED", "{refused}");
        assert!(refused.to_string().contains("spec.users[1]"), "{refused}");
        scene.sweep().await;
        assert_eq!(scene.sweep().await, 0);
        for (name, is_there) in [
            ("root", false),
            ("a-to-b", false),
            ("b-to-c", false),
            ("kept", true),
            ("of-a-group", true),
            ("x-229", true),
        ] {
            let key = Key::new(Kind::DelegationGrant, "payments", name);
            let found = read::object(&scene.desk, &by(OPERATOR, ""), key, None).await;
            assert_eq!(found.is_ok(), is_there, "{name}");
        }
        let users = async |name: &str| {
            let key = Key::new(Kind::RoleBinding, "payments", name);
            let found = read::object(&scene.desk, &by(OPERATOR, ""), key, None).await.ok()?;
            match found.0.object {
                Some(Object::RoleBinding(RoleBinding { spec: Some(spec), .. })) => Some(spec.users),
                _ => None,
            }
        };
        assert_eq!(users("of-both").await, Some(vec!["user:joan@example.com".to_owned()]));
        assert_eq!(users("of-her").await, None);
        assert!(users("of-joan").await.is_some());
        // Back again, it may let somebody act for it; nothing of that is taken away.
        scene.withdraw("user:ada@example.com", "").await.unwrap();
        scene.sweep().await;
        scene.apply(vec![root()]).await.unwrap();
        scene.sweep().await;
        let key = Key::new(Kind::DelegationGrant, "payments", "root");
        assert!(read::object(&scene.desk, &by(OPERATOR, ""), key, None).await.is_ok());
    })
    .await;
}
