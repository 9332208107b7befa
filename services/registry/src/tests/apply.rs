//! Declaring: all or nothing, again without effect, against a moved base, twice by one request id, and taken back.

use std::sync::Arc;

use futures_util::future::join_all;
use legate_db::testing::on_each;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{ChangeAction, Declaration, Kind, RevokeDeclarationRequest};

use super::scene::*;
use crate::domain::kind::Key;
use crate::error::of_tx;
use crate::flow::list::{self, List};
use crate::flow::{plan, read, revoke, update};
use crate::schema::Migrator;
use crate::store::change;

fn actions(changes: &[legate_wire::registry::DeclarationChange]) -> Vec<ChangeAction> {
    changes.iter().map(|change| change.action()).collect()
}

async fn get(scene: &Scene, kind: Kind, name: &str) -> Declaration {
    let namespace = if kind == Kind::Namespace { "" } else { "payments" };
    read::object(&scene.desk, &by(OPERATOR, ""), Key::new(kind, namespace, name), None).await.unwrap().0
}

async fn revoke_it(scene: &Scene, kind: Kind, name: &str) -> Result<u64, legate_rpc::Fault> {
    let namespace = if kind == Kind::Namespace { "" } else { "payments" };
    let request = RevokeDeclarationRequest { name: name.into(), ..Default::default() };
    let call = scene.call(OPERATOR, "not needed", &request, "");
    let revoked = revoke::revoke(&scene.desk, call, Key::new(kind, namespace, name), String::new()).await?;
    Ok(revoked.revision)
}

#[tokio::test]
async fn everything_at_one_revision_and_then_nothing() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let by = scene.call(OPERATOR, "", &(), "").by;
        let planned = plan::plan(&scene.desk, &by, payments(), Vec::new()).await.unwrap();
        assert_eq!(planned.revision, 0);
        assert_eq!(actions(&planned.changes), [ChangeAction::Created; 7]);
        assert!(scene.events().await.is_empty(), "a plan changes nothing");

        let applied = scene.apply_as(OPERATOR, payments(), "", planned.revision).await.unwrap();
        assert_eq!((applied.revision, actions(&applied.changes)), (1, vec![ChangeAction::Created; 7]));
        let bot = scene.agent("invoice-bot").await;
        let (metadata, status) = (bot.metadata.unwrap(), bot.status.unwrap());
        assert_eq!(status.spiffe_id, format!("spiffe://example.org/ns/payments/agent/{}", metadata.id));
        assert_eq!((status.lifecycle_version, status.agent_class_version), (1, 1));
        assert_eq!((metadata.version, metadata.revision), (1, 1));
        assert_eq!((metadata.created_by.as_str(), metadata.reason.as_str()), (OPERATOR, "because"));
        let point = get(&scene, Kind::EnforcementPoint, "invoices").await;
        let Some(Object::EnforcementPoint(point)) = point.object else { panic!("no enforcement point") };
        assert_eq!(point.spiffe_id, "spiffe://example.org/ns/payments/enforcer/invoices");

        let again = scene.apply(payments()).await.unwrap();
        assert_eq!((again.revision, actions(&again.changes)), (1, vec![ChangeAction::Unchanged; 7]));
        // Nor does it change anything to send back what was read.
        let read_back = scene.apply(vec![get(&scene, Kind::EnforcementPoint, "invoices").await]).await.unwrap();
        assert_eq!(actions(&read_back.changes), [ChangeAction::Unchanged]);
        let events = scene.events().await;
        assert_eq!(events.len(), 7);
        assert!(events.iter().all(|e| e.revision == 1 && e.actor == OPERATOR && e.r#type.ends_with(".created")));
    })
    .await;
}

#[tokio::test]
async fn one_bad_object_refuses_all() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut nobody = agent_spec("worker");
        nobody.sponsors.clear();
        for (bad, wanted) in [
            (agent_with("b", nobody), "AGENT_SPONSOR_MISSING"),
            (agent("b", "nowhere"), "REFERENCE_MISSING"),
            (binding("b", "nothing", &["invoice-bot"]), "REFERENCE_MISSING"),
            (agent_with("b", made_by_nobody()), "REFERENCE_MISSING"),
            (binding("b", "reader", &["nobody"]), "REFERENCE_MISSING"),
            (policy("b", "permit (principal"), "POLICY_INVALID"),
            (agent("invoice-bot", "worker"), "OBJECT_REPEATED"),
            (Declaration::default(), "INVALID_ARGUMENT"),
            (role("Upper", "invoice:read"), "INVALID_ARGUMENT"),
        ] {
            let mut all = payments();
            all.push(bad);
            let fault = scene.apply(all).await.unwrap_err();
            assert_eq!(reason(&fault), wanted, "{fault}");
            assert_eq!(scene.apply(vec![namespace("x")]).await.unwrap().revision, 1, "nothing was written");
            assert_eq!(revoke_it(&scene, Kind::Namespace, "x").await.unwrap(), 2);
            return_to_start(&scene).await;
        }
    })
    .await;
}

fn made_by_nobody() -> legate_wire::registry::AgentSpec {
    let parent = legate_ids::AgentId::from_parts(1, [1; 10]).to_string();
    legate_wire::registry::AgentSpec { parent, ..agent_spec("worker") }
}

/// The next case begins with the same revision.
async fn return_to_start(scene: &Scene) {
    scene
        .desk
        .db
        .tx("test_reset", |tx| {
            Box::pin(async move {
                use sea_orm::ConnectionTrait as _;
                for table in ["change", "revision", "reference", "object"] {
                    tx.execute_unprepared(&format!("DELETE FROM {table}")).await?;
                }
                tx.execute_unprepared("UPDATE head SET revision = 0").await?;
                Ok::<_, legate_db::TxError<legate_rpc::Fault>>(())
            })
        })
        .await
        .unwrap();
}

#[tokio::test]
async fn what_was_planned_on_a_moved_base_is_refused() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        scene.apply(vec![role("reader", "invoice:*")]).await.unwrap();
        let fault = scene.apply_as(OTHER, vec![role("reader", "invoice:pay")], "", 1).await.unwrap_err();
        assert_eq!(reason(&fault), "BASE_MOVED");
        let reader = get(&scene, Kind::Role, "reader").await;
        assert_eq!(reader.metadata().unwrap().version, 2);
        // One of two who both saw the same etag wins.
        let Some(Object::Role(mut first)) = reader.object else { panic!("no role") };
        first.spec.as_mut().unwrap().description = "one".into();
        let mut second = first.clone();
        second.spec.as_mut().unwrap().description = "two".into();
        let updates = [first, second].map(|role| {
            let declaration = Declaration { object: Some(Object::Role(role)) };
            let call = scene.call(OPERATOR, "", &declaration, "");
            update::update(&scene.desk, call, declaration, vec!["spec.description".into()])
        });
        let outcomes = join_all(updates).await;
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
        let refused = outcomes.iter().find_map(|o| o.as_ref().err()).unwrap();
        assert_eq!(reason(refused), "ETAG_MISMATCH");
    })
    .await;
}

#[tokio::test]
async fn a_request_id_stands_for_one_request_for_a_day() {
    on_each::<Migrator>(async |fixture| {
        let scene = Arc::new(Scene::new(&fixture));
        // Fifty at once: one writes, all hear the same.
        let repeats = (0..50).map(|_| scene.apply_as(OPERATOR, payments(), "r-1", 0));
        let answers: Vec<_> = join_all(repeats).await.into_iter().map(Result::unwrap).collect();
        assert!(answers.iter().all(|answer| answer == &answers[0]));
        assert_eq!(actions(&answers[0].changes), [ChangeAction::Created; 7]);
        assert_eq!(scene.events().await.len(), 7);
        let other = scene.apply_as(OPERATOR, vec![namespace("x")], "r-1", 0).await.unwrap_err();
        assert_eq!(reason(&other), "REQUEST_ID_REUSED");
        // Another caller's r-1 is another request.
        assert!(scene.apply_as(OTHER, vec![namespace("x")], "r-1", 0).await.is_ok());
        scene.clock.advance(std::time::Duration::from_secs(24 * 3600 + 1));
        assert!(scene.apply_as(OPERATOR, vec![namespace("y")], "r-1", 0).await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn nothing_that_is_named_is_taken_back() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        for (kind, name, wanted) in [
            (Kind::Namespace, "payments", "OBJECT_IN_USE"),
            (Kind::AgentClass, "worker", "OBJECT_IN_USE"),
            (Kind::Role, "reader", "OBJECT_IN_USE"),
            (Kind::Role, "nothing", "OBJECT_NOT_FOUND"),
            (Kind::Agent, "invoice-bot", "KIND_NOT_APPLICABLE"),
            (Kind::SigningKey, "invoice-bot", "KIND_NOT_APPLICABLE"),
        ] {
            assert_eq!(reason(&revoke_it(&scene, kind, name).await.unwrap_err()), wanted);
        }
        assert_eq!(revoke_it(&scene, Kind::RoleBinding, "bot-reads").await.unwrap(), 2);
        assert_eq!(revoke_it(&scene, Kind::Role, "reader").await.unwrap(), 3);
        assert_eq!(reason(&revoke_it(&scene, Kind::Role, "reader").await.unwrap_err()), "OBJECT_NOT_FOUND");
        // A new role of the same name is another object.
        let again = scene.apply(vec![role("reader", "invoice:pay")]).await.unwrap();
        assert_eq!(actions(&again.changes), [ChangeAction::Created]);
        let kinds = scene.kinds().await;
        assert_eq!(kinds[7..], ["role_binding.revoked", "role.revoked", "role.created"]);
    })
    .await;
}

#[tokio::test]
async fn an_update_changes_what_the_mask_names_and_nothing_else() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        let mut wanted = agent_spec("worker");
        wanted.purpose = "pays invoices".into();
        wanted.model = "m-2".into();
        let declaration = agent_with("invoice-bot", wanted);
        let call = || scene.call(OTHER, "new model", &declaration, "");
        let paths = |paths: &[&str]| paths.iter().map(ToString::to_string).collect();
        let update = |mask: &[&str]| update::update(&scene.desk, call(), declaration.clone(), paths(mask));
        let updated = update(&["spec.model"]).await.unwrap();
        assert_eq!(updated.revision, 2);
        let bot = scene.agent("invoice-bot").await;
        let spec = bot.spec.unwrap();
        assert_eq!((spec.purpose.as_str(), spec.model.as_str()), ("reads invoices", "m-2"));
        assert_eq!(bot.metadata.unwrap().updated_by, OTHER);
        assert_eq!(bot.status.unwrap().lifecycle_version, 1, "no step in its life");
        for bad in [&[][..], &["status.state"], &["metadata.id"], &["spec.nothing"], &["spec.model", "spec.model"]] {
            assert_eq!(reason(&update(bad).await.unwrap_err()), "INVALID_ARGUMENT", "{bad:?}");
        }
        let last = scene.events().await.pop().unwrap();
        assert_eq!(last.details["spec.model"], "(unset) -> \"m-2\"");
    })
    .await;
}

#[tokio::test]
async fn a_refusal_repeats_nothing_that_deceives_or_floods() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(payments()).await.unwrap();
        for name in ["a\u{0}b", "a\u{202e}b", "a\u{1b}[31mb", &"x".repeat(100_000)] {
            let wanted = role(name, "invoice:read");
            let call = scene.call(OPERATOR, "", &wanted, "");
            let updated = update::update(&scene.desk, call, wanted.clone(), vec!["spec.description".into()]).await;
            let applied = scene.apply(vec![wanted.clone(), wanted]).await;
            for fault in [updated.unwrap_err(), applied.unwrap_err()] {
                assert_eq!(reason(&fault), "INVALID_ARGUMENT");
                let text = format!("{fault:?}");
                assert!(text.len() < 4_096 && !text.contains(name), "{}", text.len());
            }
        }
        let nobody = format!("permit (principal == Nobody::\"{}\", action, resource);", "x".repeat(60_000));
        let fault = scene.apply(vec![policy("long", &nobody)]).await.unwrap_err();
        assert_eq!(reason(&fault), "POLICY_INVALID");
        assert!(format!("{fault:?}").len() < 4_096, "it has to fit into the headers of an answer");
    })
    .await;
}

#[tokio::test]
async fn a_page_ends_where_an_answer_would_be_too_large() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.apply(vec![namespace("payments"), role("reader", "invoice:read")]).await.unwrap();
        for n in 0..5 {
            let heavy = (0..15).map(|i| annotated(role(&format!("heavy-{n}-{i:02}"), "invoice:read")));
            scene.apply(heavy.collect()).await.unwrap();
        }
        let (mut names, mut token, mut pages) = (0, String::new(), 0);
        loop {
            let ask =
                List { by: by(OPERATOR, ""), kind: Kind::Role, page_size: 1_000, page_token: token, ..List::default() };
            let page = list::list(&scene.desk, ask).await.unwrap();
            assert!(page.objects.iter().map(prost::Message::encoded_len).sum::<usize>() < 17 << 20);
            (names, pages, token) = (names + page.objects.len(), pages + 1, page.next_page_token);
            if token.is_empty() {
                break;
            }
        }
        assert_eq!((names, pages), (76, 2));
    })
    .await;
}

#[tokio::test]
async fn lists_go_on_where_they_stopped() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let mut all = payments();
        all.extend((0..25).map(|i| agent(&format!("bot-{i:02}"), "worker")));
        scene.apply(all).await.unwrap();
        let ask = |token: &str| List {
            by: by(OPERATOR, ""),
            kind: Kind::Agent,
            namespace: "payments".into(),
            page_size: 10,
            page_token: token.into(),
            ..List::default()
        };
        let (mut names, mut token, mut pages) = (Vec::new(), String::new(), 0);
        loop {
            let page = list::list(&scene.desk, ask(&token)).await.unwrap();
            names.extend(page.objects.iter().map(|o| o.metadata().unwrap().name.clone()));
            pages += 1;
            if page.next_page_token.is_empty() {
                break;
            }
            token = page.next_page_token;
            // What is written between two pages neither repeats nor skips what was there.
            scene.apply(vec![agent(&format!("aaa-{pages}"), "worker")]).await.unwrap();
        }
        assert_eq!((names.len(), pages), (26, 3));
        assert!(names.is_sorted());
        let other = List { by: by(OTHER, ""), ..ask(&token) };
        assert_eq!(reason(&list::list(&scene.desk, other).await.unwrap_err()), "PAGE_TOKEN_INVALID");
        let edited = ask(&forged(&token));
        assert_eq!(reason(&list::list(&scene.desk, edited).await.unwrap_err()), "PAGE_TOKEN_INVALID");
    })
    .await;
}

#[tokio::test]
async fn writers_at_once_leave_revisions_without_gaps() {
    on_each::<Migrator>(async |fixture| {
        let scene = Arc::new(Scene::new(&fixture));
        scene.apply(payments()).await.unwrap();
        let names: Vec<String> = (0..40).map(|i| format!("bot-{i}")).collect();
        // So many at once can be more than there are connections for; what is asked for again is done once.
        let write = |name: String| {
            let scene = Arc::clone(&scene);
            async move {
                loop {
                    match scene.apply_as(OPERATOR, vec![agent(&name, "worker")], &name, 0).await {
                        Ok(written) => return written.revision,
                        Err(fault) => assert_eq!(reason(&fault), "DATABASE_UNAVAILABLE"),
                    }
                }
            }
        };
        let mut revisions: Vec<u64> = join_all(names.into_iter().map(write)).await;
        revisions.sort_unstable();
        assert_eq!(revisions, (2..=41).collect::<Vec<_>>());
        let told = scene.desk.db.read("test", |tx| Box::pin(change::since(tx, 0))).await.map_err(of_tx).unwrap();
        let crate::store::change::Since::Whole(told) = told else { panic!("all of it is kept") };
        assert_eq!(told.iter().map(|r| r.revision).collect::<Vec<_>>(), (1..=41).collect::<Vec<_>>());
        let mut events: Vec<u64> = scene.events().await.iter().map(|e| e.revision).collect();
        events.dedup();
        assert_eq!(events, (1..=41).collect::<Vec<_>>(), "events are in the order of revisions");
    })
    .await;
}

#[tokio::test]
async fn what_is_taken_is_kept_letter_for_letter() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        let odd = "'; DROP TABLE object; -- %_\\ \"\" Ünïcode 日本語 🤖\n\t<b>$1 ?</b>";
        let mut all = payments();
        let mut spec = agent_spec("worker");
        spec.purpose = odd.into();
        let mut bot = agent_with("odd-bot", spec);
        bot.metadata_mut().unwrap().annotations.insert("example.com/note".into(), odd.into());
        all.extend([
            bot,
            policy("windows", "// Two characters end a line.\r\npermit (principal, action, resource);\r\n"),
        ]);
        scene.apply(all.clone()).await.unwrap();
        assert_eq!(scene.apply(all.clone()).await.unwrap().revision, 1, "it is what is there");
        for wanted in &all[all.len() - 2..] {
            let key = crate::domain::kind::key_of(wanted).unwrap();
            let mut kept = get(&scene, key.kind, &key.name).await;
            crate::domain::check::strip_output_only(&mut kept);
            assert_eq!(&kept, wanted);
        }
    })
    .await;
}
