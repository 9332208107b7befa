//! Access tokens: what they say, and everything that keeps them from being issued.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use legate_clock::{Clock as _, Timestamp};
use legate_db::testing::on_each;
use legate_ids::{ActionPattern, Actions, Name};
use legate_token::{Expect, P256Verifier, Parsed, Scope};
use legate_wire::policy::AuthorizeIssuanceResponse;
use legate_wire::registry::{AgentState, RevocationReason};
use tonic::Status;

use super::registry::{self, AUDIENCE, NAMESPACE, agent_id};
use super::scene::{START, Scene, new_key, reason, request, wish, yes};
use crate::domain::holder::Named;
use crate::domain::token::Wish;
use crate::schema::Migrator;

pub(super) fn actions(all: &[&str]) -> Actions {
    all.iter().map(|one| ActionPattern::parse(one).unwrap()).collect()
}

#[tokio::test]
async fn a_token_says_who_for_whom_until_when_and_with_which_key() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        let issued = scene.issue(&row, wish()).await.unwrap();
        let verifier = P256Verifier::new(&scene.token_key());
        let expect = Expect { issuer: "https://issuer.example", audience: AUDIENCE, leeway: 0 };
        let now = u64::try_from(START).unwrap();
        let parsed = Parsed::parse(&issued.token).unwrap();
        assert_eq!(parsed.kid(), &scene.token_key().kid());
        let claims = parsed.verify(&verifier, &expect, now).unwrap().into_claims();
        assert_eq!(claims.subject.to_string(), row.spiffe_id);
        assert_eq!(claims.agent, agent_id(1));
        assert_eq!(claims.namespace.as_str(), NAMESPACE);
        assert_eq!(claims.lifecycle_version, 1);
        assert_eq!(claims.scope, Scope::All);
        assert_eq!((claims.issued_at, claims.expires_at), (now, now + 300));
        assert_eq!(claims.confirmation.certificate().map(|x5t| &x5t[..]), row.x5t_s256.as_deref());
        assert_eq!(claims.token_id, issued.token_id);
        assert_eq!(issued.expires, Timestamp::from_secs(START + 300));

        let events = scene.events().await;
        let event = events.iter().find(|e| e.r#type == "token.issued").unwrap();
        assert_eq!(event.credential_id, row.id);
        assert_eq!(event.resource.as_ref().unwrap().id, issued.token_id);
        assert_eq!(event.decision.as_ref().unwrap().decision_id, "dec_1");
        let signature = issued.token.rsplit_once('.').unwrap().1;
        let text = format!("{events:?} {issued:?} {:?}", scene.desk);
        assert!(!text.contains(signature), "a token in the audit trail or in Debug");
        assert_ne!(scene.issue(&row, wish()).await.unwrap().token_id, issued.token_id);
    })
    .await;
}

#[tokio::test]
async fn it_is_narrowed_to_what_was_asked_and_agreed() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        let asking = |named: &[&str]| Wish { actions: actions(named), ..wish() };
        let all = scene.issue(&row, asking(&["invoice:read", "invoice:pay"])).await.unwrap();
        assert_eq!(all.scope, Scope::Actions(actions(&["invoice:read", "invoice:pay"])));
        // policy-decision leaves one out, and names one that was not asked for.
        *scene.says.0.lock().unwrap() = Box::new(|ask| {
            Ok(AuthorizeIssuanceResponse { actions: vec!["invoice:pay".into(), "admin".into()], ..yes(ask) })
        });
        let cut = scene.issue(&row, asking(&["invoice:read", "invoice:pay"])).await.unwrap();
        assert_eq!(cut.scope, Scope::Actions(actions(&["invoice:pay"])));
        assert_eq!(reason(scene.issue(&row, asking(&["invoice:read"])).await), "INVALID_SCOPE");
        // Without a scope the token says what policy-decision says, whatever that is, and no more.
        let says = async |agreed: &'static [&'static str]| {
            *scene.says.0.lock().unwrap() = Box::new(|ask| {
                let actions = agreed.iter().map(ToString::to_string).collect();
                Ok(AuthorizeIssuanceResponse { actions, ..yes(ask) })
            });
            scene.issue(&row, wish()).await
        };
        let all = says(&["ledger:*", "invoice:read", "ledger:write"]).await.unwrap();
        assert_eq!(all.scope, Scope::Actions(actions(&["ledger:*", "invoice:read"])));
        assert_eq!(says(&["*"]).await.unwrap().scope, Scope::All);
        assert_eq!(reason(says(&[]).await), "INVALID_SCOPE", "nothing is no scope, and never all");
        let many = |n: usize| (0..n).map(|n| format!("invoice:n{n}")).collect::<Vec<_>>();
        for (count, expected) in [(64, None), (65, Some("INVALID_SCOPE"))] {
            let agreed = many(count);
            *scene.says.0.lock().unwrap() =
                Box::new(move |ask| Ok(AuthorizeIssuanceResponse { actions: agreed.clone(), ..yes(ask) }));
            let issued = scene.issue(&row, wish()).await;
            assert_eq!(issued.as_ref().err().map(legate_rpc::Fault::reason), expected, "{count}");
            if let Err(fault) = issued {
                assert!(format!("{fault:?}").contains("name those that the token is for"), "{fault:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn it_lives_no_longer_than_class_certificate_and_agent() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        let ttl = async |class: i64, asked: u64| {
            scene.declare(registry::class(class, 3600)).await;
            let wish = Wish { ttl: Duration::from_secs(asked), ..wish() };
            let issued = scene.issue(&row, wish).await.unwrap();
            issued.expires.since(scene.clock.now()).as_secs()
        };
        for (class, asked, lives) in [(300, 600, 300), (600, 600, 600), (600, 30, 30), (30, 300, 30), (9_999, 600, 600)]
        {
            assert_eq!(ttl(class, asked).await, lives, "{class} {asked}");
        }
        scene.pass(Duration::from_secs(3_500)).await;
        assert_eq!(ttl(600, 600).await, 100);
        let ends = scene.clock.now().plus(Duration::from_secs(40));
        scene.declare(registry::agent(1, AgentState::Active, 1, None, Some(ends))).await;
        assert_eq!(ttl(600, 600).await, 40);
    })
    .await;
}

#[tokio::test]
async fn only_a_declared_audience_of_the_namespace() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        scene.declare(registry::enforcement_point("other", "treasury", "https://treasury.example")).await;
        let (row, _) = scene.enrolled(1).await;
        for audience in [
            "https://nobody.example",
            "https://invoices.example/",
            "https://treasury.example",
            "https://INVOICES.example",
        ] {
            let wish = Wish { audience: audience.into(), ..wish() };
            assert_eq!(reason(scene.issue(&row, wish).await), "INVALID_TARGET", "{audience}");
        }
        assert_eq!(scene.count("token.refused").await, 4);
        assert_eq!(scene.tokens.signed.load(Ordering::SeqCst), 0);
        scene.take_back(registry::enforcement_point("invoices", NAMESPACE, AUDIENCE)).await;
        assert_eq!(reason(scene.issue(&row, wish()).await), "INVALID_TARGET");
    })
    .await;
}

#[tokio::test]
async fn whatever_is_not_a_clear_yes_is_a_no() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (row, _) = scene.enrolled(1).await;
        for (code, reason_given) in [
            ("", "ISSUANCE_DENIED"),
            ("AGENT_SUSPENDED", "ISSUANCE_DENIED"),
            ("AUDIENCE_UNKNOWN", "INVALID_TARGET"),
            ("NOT_PERMITTED", "INVALID_SCOPE"),
            ("STALE", "ISSUANCE_UNDECIDED"),
            ("AUDIT_UNAVAILABLE", "ISSUANCE_UNDECIDED"),
        ] {
            *scene.says.0.lock().unwrap() = Box::new(move |_| {
                Ok(AuthorizeIssuanceResponse { reason_code: code.into(), ..AuthorizeIssuanceResponse::default() })
            });
            assert_eq!(reason(scene.issue(&row, wish()).await), reason_given, "{code}");
        }
        for status in [Status::unavailable("down"), Status::internal("broken"), Status::permission_denied("no")] {
            *scene.says.0.lock().unwrap() = Box::new(move |_| Err(status.clone()));
            assert_eq!(reason(scene.issue(&row, wish()).await), "ISSUANCE_UNDECIDED");
        }
        *scene.says.0.lock().unwrap() =
            Box::new(|ask| Ok(AuthorizeIssuanceResponse { actions: vec!["not an action".into()], ..yes(ask) }));
        assert_eq!(reason(scene.issue(&row, wish()).await), "INTERNAL");
        assert_eq!(scene.tokens.signed.load(Ordering::SeqCst), 0);
        assert_eq!(scene.count("token.issued").await, 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_midst_of_issuing_wins() {
    on_each::<Migrator>(async |fixture| {
        let scene = Arc::new(Scene::on(&fixture).await);
        let (row, _) = scene.enrolled(1).await;
        // The registry suspends while policy-decision, which does not know it yet, still says yes.
        let (registry, clock, view) = (scene.registry.clone(), scene.clock.clone(), scene.desk.view.clone());
        *scene.says.0.lock().unwrap() = Box::new(move |ask| {
            let object = registry::agent(1, AgentState::Suspended, 2, Some(clock.now()), None);
            let revision = registry.declare(object, false);
            let view = view.clone();
            let wait = async move { view.wait_for(revision, Duration::from_secs(20)).await.map(|_| ()) };
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(wait)).unwrap();
            Ok(yes(ask))
        });
        assert_eq!(reason(scene.issue(&row, wish()).await), "HOLDER_NOT_ACTIVE");
        assert_eq!(scene.tokens.signed.load(Ordering::SeqCst), 0);
    })
    .await;
}

#[tokio::test]
async fn refuses_the_stopped_the_revoked_the_unknown_and_enforcement_points() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::on(&fixture).await;
        let (one, _) = scene.enrolled(1).await;
        let (two, _) = scene.enrolled(2).await;
        scene.pass(Duration::from_secs(5)).await;
        let cutoff = scene.clock.now();
        scene.suspend(1, 2).await;
        assert_eq!(reason(scene.issue(&one, wish()).await), "HOLDER_NOT_ACTIVE");
        scene.pass(Duration::from_secs(5)).await;
        scene.resume(1, 3, cutoff).await;
        assert_eq!(reason(scene.issue(&one, wish()).await), "CREDENTIAL_NOT_GOOD");
        scene.revoke(&two.id, RevocationReason::PrivilegeWithdrawn).await.unwrap();
        assert_eq!(reason(scene.issue(&two, wish()).await), "CREDENTIAL_NOT_GOOD");

        let point = Named::EnforcementPoint {
            namespace: Name::parse(NAMESPACE).unwrap(),
            name: Name::parse("invoices").unwrap(),
        };
        let created = scene.create(point).await.unwrap();
        let point = scene.enrol(&created.token.to_text(), &request(&new_key())).await.unwrap();
        assert_eq!(reason(scene.issue(&point, wish()).await), "HOLDER_NOT_ACTIVE");
        assert_eq!(scene.tokens.signed.load(Ordering::SeqCst), 0);

        scene.registry.answers.store(false, Ordering::SeqCst);
        scene.clock.advance(Duration::from_secs(6));
        assert_eq!(reason(scene.issue(&one, wish()).await), "VIEW_STALE");
    })
    .await;
}

#[tokio::test]
async fn a_full_audit_trail_stops_issuing_and_a_silent_key_too() {
    on_each::<Migrator>(async |fixture| {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let scene = Scene::over(fixture.db.clone(), dir, 9).await;
        scene.declare(registry::class(300, 3600)).await;
        scene.declare(registry::enforcement_point("invoices", NAMESPACE, AUDIENCE)).await;
        scene.declare(registry::agent(1, AgentState::Active, 1, None, None)).await;
        let (row, _) = scene.enrolled(1).await;
        scene.tokens.fails.store(true, Ordering::SeqCst);
        assert_eq!(reason(scene.issue(&row, wish()).await), "SIGNING_UNAVAILABLE");
        scene.tokens.fails.store(false, Ordering::SeqCst);
        // Three events wait now beside six of keys, which is the bound.
        assert_eq!(reason(scene.issue(&row, wish()).await), "AUDIT_UNAVAILABLE");
        assert_eq!(scene.tokens.signed.load(Ordering::SeqCst), 0);
        // To stop somebody there is a reserve.
        scene.revoke(&row.id, RevocationReason::Unspecified).await.unwrap();
    })
    .await;
}
