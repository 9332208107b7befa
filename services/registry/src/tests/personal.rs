//! People's own grants: within what their issuer's declaration lets be delegated and what they have, by one token once, and
//! taken back whole.

use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_db::Fault::{NotPersisted, PersistedButReplyLost};
use legate_db::testing::on_each;
use legate_rpc::{Fault, TraceContext};
use legate_wire::registry::declaration::Object;
use legate_wire::registry::{
    ClaimRule, Declaration, DelegationGrant, DelegationGrantSpec, EndPersonalGrantRequest, EndPersonalGrantResponse,
    Kind, ListPersonalGrantsRequest, ListPersonalGrantsResponse, MakePersonalGrantRequest, MakePersonalGrantResponse,
    Namespace, NamespaceSpec, PersonalAuthority, PersonalDelegation, ProvenPerson, RoleBinding, TrustedIssuer,
    TrustedIssuerSpec, claim_rule::StandsFor,
};

use super::scene::*;
use crate::domain::kind::Key;
use crate::flow::personal_grant::{self, Asker};
use crate::flow::read;
use crate::schema::Migrator;

const ADA: &str = "user:ada@example.com";

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn issuer(change: impl FnOnce(&mut PersonalDelegation)) -> Declaration {
    let mut delegation = PersonalDelegation {
        audiences: vec!["grants".into()],
        permissions: vec![permission("invoice:*"), permission("ledger:read")],
        agent_classes: vec!["worker".into()],
        max_ttl: seconds(3_600),
        max_depth: 1,
        ..PersonalDelegation::default()
    };
    change(&mut delegation);
    let people = ClaimRule {
        claims: [("hd".to_owned(), "example.com".to_owned())].into(),
        stands_for: Some(StandsFor::UserClaim("email".into())),
        groups_claim: "groups".into(),
    };
    let spec = TrustedIssuerSpec {
        issuer: "https://accounts.example.com".into(),
        audiences: vec!["legate".into()],
        jwks_uri: "https://accounts.example.com/keys".into(),
        rules: vec![people],
        personal_delegation: Some(delegation),
        ..TrustedIssuerSpec::default()
    };
    of(Object::TrustedIssuer(TrustedIssuer { metadata: metadata("people"), spec: Some(spec) }))
}

fn bound(name: &str, role: &str, users: &[&str]) -> Declaration {
    let mut all = binding(name, role, &[]);
    if let Some(Object::RoleBinding(RoleBinding { spec: Some(spec), .. })) = &mut all.object {
        spec.users = users.iter().map(ToString::to_string).collect();
    }
    all
}

fn wish(name: &str) -> MakePersonalGrantRequest {
    MakePersonalGrantRequest {
        name: name.into(),
        delegate: "invoice-bot".into(),
        permissions: vec![permission("invoice:read")],
        purpose: "Answers Ada.".into(),
        ttl: seconds(600),
        ..MakePersonalGrantRequest::default()
    }
}

impl Scene {
    /// The payments with a class that people may not let act, and whom the issuer vouches for.
    async fn personal(&self) {
        let mut all = payments();
        all.extend([
            agent("helper", "worker"),
            class("closer", false),
            agent("closer-bot", "closer"),
            role("ledgers", "ledger:*"),
            bound("ada-reads", "reader", &[ADA]),
            bound("finance-keeps", "ledgers", &["group:finance"]),
            issuer(|_| ()),
        ]);
        self.apply(all).await.unwrap();
    }

    /// Ada by a token that is called so.
    async fn ada(&self, token: u8) -> ProvenPerson {
        let key = Key::new(Kind::TrustedIssuer, "payments", "people");
        let found = read::object(&self.desk, &by(OPERATOR, ""), key, None).await.unwrap().0;
        let issuer = found.metadata().unwrap();
        ProvenPerson {
            person: ADA.into(),
            groups: vec!["group:sales".into()],
            namespace: "payments".into(),
            trusted_issuer_id: issuer.id.clone(),
            trusted_issuer_version: issuer.version,
            issuer: "https://accounts.example.com".into(),
            subject: "00u1".into(),
            token_sha256: format!("{token:02x}").repeat(32),
            auth_time: Some(prost_types::Timestamp { seconds: NOW - 60, nanos: 0 }),
            acr: "mfa".into(),
            nonce: String::new(),
        }
    }

    async fn make_own(
        &self,
        person: ProvenPerson,
        mut ask: MakePersonalGrantRequest,
    ) -> Result<MakePersonalGrantResponse, Fault> {
        let asker = Asker::read(Some(person))?;
        ask.person = asker.in_short();
        let call = asker.call(&TraceContext::default(), "/make", &ask, (asker.token(), "a test"))?;
        personal_grant::make(&self.desk, call, asker, ask).await
    }

    async fn own_grants(&self, person: ProvenPerson) -> ListPersonalGrantsResponse {
        let asker = Asker::read(Some(person)).unwrap();
        personal_grant::list(&self.desk, asker, ListPersonalGrantsRequest::default()).await.unwrap()
    }

    async fn end_own(&self, person: ProvenPerson, name: &str, id: &str) -> Result<EndPersonalGrantResponse, Fault> {
        let asker = Asker::read(Some(person))?;
        let ask = EndPersonalGrantRequest { person: asker.in_short(), name: name.into(), ..Default::default() };
        let call = asker.call(&TraceContext::default(), "/end", &ask, (id, "over"))?;
        personal_grant::end(&self.desk, call, asker, ask).await
    }
}

fn names(grants: &[DelegationGrant]) -> Vec<&str> {
    grants.iter().map(|grant| grant.metadata.as_ref().unwrap().name.as_str()).collect()
}

#[tokio::test]
async fn a_grant_says_who_made_it_and_how_that_was_proved() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.personal().await;
        let made = scene.make_own(scene.ada(1).await, wish("for-ada")).await.unwrap();
        let grant = made.grant.unwrap();
        let (metadata, spec) = (grant.metadata.unwrap(), grant.spec.unwrap());
        assert_eq!((metadata.created_by.as_str(), metadata.updated_by.as_str()), (ADA, ADA));
        assert_eq!((spec.delegator.as_str(), spec.delegate.as_str()), (ADA, "invoice-bot"));
        assert_eq!(spec.not_after.unwrap().seconds, NOW + 600);
        let consent = spec.consent.unwrap();
        assert_eq!((consent.method.as_str(), consent.acr.as_str(), consent.subject.as_str()), ("oidc", "mfa", "00u1"));
        assert_eq!(consent.token_sha256, "01".repeat(32));
        assert_eq!(consent.auth_time.unwrap().seconds, NOW - 60);
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, made.consent_text.as_bytes());
        assert_eq!(consent.sha256, hash.as_ref().iter().map(|b| format!("{b:02x}")).collect::<String>());
        assert!(made.consent_text.starts_with("\"user:ada@example.com\" lets the agent \"invoice-bot\""));
        let events = scene.events().await;
        let event = events.last().unwrap();
        assert_eq!((event.r#type.as_str(), event.actor.as_str()), ("delegation_grant.delegated", ADA));
        let told = |name: &str| event.details[name].clone();
        assert_eq!(
            (told("consent_token_sha256"), told("consent_text_sha256")),
            ("01".repeat(32), consent.sha256.clone())
        );
        assert_eq!((told("consent_issuer"), told("consent_subject")), (consent.issuer.clone(), "00u1".to_owned()));
        assert_eq!((told("consent_acr"), told("consent_method")), ("mfa".to_owned(), "oidc".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn a_person_delegates_within_the_rule_and_what_it_has() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.personal().await;
        type Change = fn(&mut ProvenPerson, &mut MakePersonalGrantRequest);
        let refused: [(&str, Change); 19] = [
            ("PERSONAL_GRANT_TOO_WIDE", |_, ask| ask.permissions = vec![permission("*")]),
            ("PERSONAL_GRANT_TOO_WIDE", |_, ask| ask.permissions.push(permission("ledger:pay"))),
            ("PERSONAL_GRANT_TOO_WIDE", |_, ask| ask.delegate = "closer-bot".into()),
            ("PERSONAL_GRANT_TOO_WIDE", |_, ask| ask.ttl = seconds(3_601)),
            ("PERSONAL_GRANT_TOO_WIDE", |_, ask| ask.max_depth = 2),
            // The rule lets it be delegated, and she has it not: her own role is to read.
            ("DELEGATION_TOO_WIDE", |_, ask| ask.permissions = vec![permission("invoice:pay")]),
            ("DELEGATION_TOO_WIDE", |_, ask| ask.permissions = vec![permission("invoice:*")]),
            // What a group has is hers where the token says that she is in it.
            ("DELEGATION_TOO_WIDE", |_, ask| ask.permissions = vec![permission("ledger:read")]),
            ("SIGN_IN_NOT_GOOD", |who, _| who.auth_time = None),
            ("SIGN_IN_NOT_GOOD", |who, _| who.auth_time.as_mut().unwrap().seconds = NOW - 3_606),
            ("TRUSTED_ISSUER_CHANGED", |who, _| who.trusted_issuer_version = 2),
            ("TRUSTED_ISSUER_CHANGED", |who, _| who.trusted_issuer_id = "obj_nobody".into()),
            ("TRUSTED_ISSUER_CHANGED", |who, _| who.namespace = "sales".into()),
            ("REFERENCE_MISSING", |_, ask| ask.delegate = "nobody".into()),
            ("INVALID_ARGUMENT", |_, ask| ask.name = "For Ada".into()),
            ("INVALID_ARGUMENT", |_, ask| ask.ttl = None),
            ("INVALID_ARGUMENT", |_, ask| ask.permissions.clear()),
            ("INVALID_ARGUMENT", |who, _| who.person = "group:finance".into()),
            ("INVALID_ARGUMENT", |who, _| who.groups = vec!["finance".into()]),
        ];
        for (n, (expected, change)) in refused.into_iter().enumerate() {
            let (mut who, mut ask) = (scene.ada(1).await, wish("for-ada"));
            change(&mut who, &mut ask);
            let fault = scene.make_own(who, ask).await.unwrap_err();
            assert_eq!(reason(&fault), expected, "{n}: {fault}");
        }
        // None of that used the token up.
        let ask = MakePersonalGrantRequest { permissions: vec![permission("ledger:read")], ..wish("for-ada") };
        let finance = ProvenPerson { groups: vec!["group:finance".into()], ..scene.ada(1).await };
        scene.make_own(finance, ask).await.unwrap();

        // A namespace whose people may by their grants alone lets none of them make one.
        let spec = NamespaceSpec { personal_authority: PersonalAuthority::Granted.into(), ..Default::default() };
        let Some(Object::Namespace(mut granted)) = namespace("payments").object else { unreachable!() };
        granted.spec = Some(spec);
        scene.apply(vec![of(Object::Namespace(Namespace { ..granted }))]).await.unwrap();
        let fault = scene.make_own(scene.ada(2).await, wish("another")).await.unwrap_err();
        assert_eq!(reason(&fault), "PERSONAL_GRANTS_OFF");
        scene.apply(vec![namespace("payments")]).await.unwrap();
        // Nor does an issuer that says nothing of it; nor one that asks for more than there is.
        for (change, expected) in [
            ((|rule| rule.consent_bound = true) as fn(&mut PersonalDelegation), "CONSENT_NOT_BOUND"),
            (|rule| rule.acr_values = vec!["hardware".into()], "SIGN_IN_NOT_GOOD"),
        ] {
            scene.apply(vec![issuer(change)]).await.unwrap();
            let fault = scene.make_own(scene.ada(2).await, wish("another")).await.unwrap_err();
            assert_eq!(reason(&fault), expected);
        }
        let Some(Object::TrustedIssuer(mut silent)) = issuer(|_| ()).object else { unreachable!() };
        silent.spec.as_mut().unwrap().personal_delegation = None;
        scene.apply(vec![of(Object::TrustedIssuer(silent))]).await.unwrap();
        let fault = scene.make_own(scene.ada(2).await, wish("another")).await.unwrap_err();
        assert_eq!(reason(&fault), "PERSONAL_GRANTS_OFF");
    })
    .await;
}

#[tokio::test]
async fn a_token_whose_nonce_is_the_texts_hash_makes_that_grant_and_no_other() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.personal().await;
        let text = scene.make_own(scene.ada(1).await, wish("for-ada")).await.unwrap().consent_text;
        scene.end_own(scene.ada(1).await, "for-ada", "").await.unwrap();
        scene.apply(vec![issuer(|rule| rule.consent_bound = true)]).await.unwrap();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        let nonce = Base64UrlUnpadded::encode_string(hash.as_ref());
        let ada = ProvenPerson { nonce, ..scene.ada(2).await };
        for other in [
            MakePersonalGrantRequest { delegate: "helper".into(), ..wish("for-ada") },
            MakePersonalGrantRequest { ttl: seconds(601), ..wish("for-ada") },
            MakePersonalGrantRequest { max_depth: 1, ..wish("for-ada") },
            wish("for-eve"),
        ] {
            assert_eq!(reason(&scene.make_own(ada.clone(), other).await.unwrap_err()), "CONSENT_NOT_BOUND");
        }
        let made = scene.make_own(ada, wish("for-ada")).await.unwrap();
        assert_eq!(made.grant.unwrap().spec.unwrap().consent.unwrap().method, "oidc-nonce");
        assert_eq!(made.consent_text, text);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_makes_one_grant_however_often_it_is_shown() {
    on_each::<Migrator>(async |fixture| {
        let scene = Arc::new(Scene::new(&fixture));
        scene.personal().await;
        let tries: Vec<_> = (0..16)
            .map(|n| {
                let scene = Arc::clone(&scene);
                tokio::spawn(async move {
                    let made = scene.make_own(scene.ada(1).await, wish(&format!("grant-{n}"))).await;
                    made.map_err(|fault| reason(&fault)).map(|made| made.grant.unwrap().metadata.unwrap().name)
                })
            })
            .collect();
        let mut made = Vec::new();
        for one in tries {
            match one.await.unwrap() {
                Ok(name) => made.push(name),
                Err(reason) => assert_eq!(reason, "REQUEST_ID_REUSED"),
            }
        }
        let [name] = made.as_slice() else { panic!("{made:?}") };
        assert_eq!(names(&scene.own_grants(scene.ada(1).await).await.grants), [name]);
        // The same request is answered again, whatever else changed; what it made is made once.
        let again = scene.make_own(scene.ada(1).await, wish(name)).await.unwrap();
        assert_eq!(again.grant.unwrap().metadata.unwrap().version, 1);
        // And a lost answer is found again by the same token.
        for (n, fault) in [(2, NotPersisted), (3, PersistedButReplyLost)] {
            scene.desk.db.faults().plan("make_personal_grant", fault);
            let name = format!("lost-{n}");
            assert_eq!(
                reason(&scene.make_own(scene.ada(n).await, wish(&name)).await.unwrap_err()),
                "DATABASE_UNAVAILABLE"
            );
            let made = scene.make_own(scene.ada(n).await, wish(&name)).await.unwrap();
            assert_eq!(made.grant.unwrap().metadata.unwrap().version, 1);
        }
        assert_eq!(scene.own_grants(scene.ada(1).await).await.grants.len(), 3);
    })
    .await;
}

#[tokio::test]
async fn a_person_sees_its_grants_and_ends_them_whole() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.personal().await;
        let grant = |name: &str, delegator: &str, to: &str, parent: &str, depth: u32| {
            let spec = DelegationGrantSpec {
                delegator: delegator.into(),
                delegate: to.into(),
                permissions: vec![permission("invoice:read")],
                purpose: "a test".into(),
                not_after: Some(prost_types::Timestamp { seconds: NOW + 500, nanos: 0 }),
                may_redelegate: depth > 0,
                max_depth: depth,
                parent: parent.into(),
                ..DelegationGrantSpec::default()
            };
            of(Object::DelegationGrant(DelegationGrant { metadata: metadata(name), spec: Some(spec) }))
        };
        let ask = MakePersonalGrantRequest { max_depth: 1, ..wish("for-ada") };
        scene.make_own(scene.ada(1).await, ask).await.unwrap();
        let all = [
            grant("passed-on", "agent:invoice-bot", "helper", "for-ada", 0),
            grant("by-operator", ADA, "helper", "", 0),
            grant("of-eve", "user:eve@example.com", "helper", "", 0),
            grant("of-sales", "group:sales", "helper", "", 0),
            grant("of-finance", "group:finance", "helper", "", 0),
        ];
        scene.apply(all.to_vec()).await.unwrap();
        let listed = scene.own_grants(scene.ada(1).await).await;
        assert_eq!(names(&listed.grants), ["by-operator", "for-ada"]);
        assert_eq!((names(&listed.passed_on), names(&listed.of_groups)), (vec!["passed-on"], vec!["of-sales"]));
        for not_hers in ["of-eve", "of-sales", "passed-on", "nobody"] {
            let fault = scene.end_own(scene.ada(1).await, not_hers, "").await.unwrap_err();
            assert_eq!(reason(&fault), "NOT_ITS_GRANT", "{not_hers}");
        }
        // Once, whoever asks again; and what an operator made for her too.
        for fault in [NotPersisted, PersistedButReplyLost] {
            scene.desk.db.faults().plan("end_personal_grant", fault);
            let lost = scene.end_own(scene.ada(2).await, "for-ada", "end-1").await.unwrap_err();
            assert_eq!(reason(&lost), "DATABASE_UNAVAILABLE");
        }
        let ended = scene.end_own(scene.ada(3).await, "for-ada", "end-1").await.unwrap();
        assert_eq!((ended.passed_on, ended.grant.unwrap().metadata.unwrap().updated_by.as_str()), (1, ADA));
        scene.end_own(scene.ada(1).await, "by-operator", "").await.unwrap();
        let listed = scene.own_grants(scene.ada(1).await).await;
        assert_eq!((listed.grants.len(), listed.passed_on.len()), (0, 0));
        let ended: Vec<_> = scene.events().await.into_iter().filter(|e| e.r#type == "delegation_grant.ended").collect();
        assert_eq!(ended.len(), 3);
        assert!(ended.iter().all(|event| event.actor == ADA));
    })
    .await;
}

#[tokio::test]
async fn a_person_makes_so_many_and_none_who_left() {
    on_each::<Migrator>(async |fixture| {
        let scene = Scene::new(&fixture);
        scene.personal().await;
        for n in 0..64u8 {
            scene.make_own(scene.ada(n).await, wish(&format!("grant-{n}"))).await.unwrap();
        }
        assert_eq!(reason(&scene.make_own(scene.ada(64).await, wish("more")).await.unwrap_err()), "TOO_MANY_GRANTS");
        scene.end_own(scene.ada(64).await, "grant-7", "").await.unwrap();
        scene.make_own(scene.ada(64).await, wish("more")).await.unwrap();
        scene.end_own(scene.ada(64).await, "more", "").await.unwrap();
        scene.offboard(super::succession::leaves(ADA)).await;
        assert_eq!(reason(&scene.make_own(scene.ada(65).await, wish("late")).await.unwrap_err()), "PERSON_DEPARTED");
    })
    .await;
}
