//! A person by a token of its own, end to end on a raised suite: it lets an agent act, sees that, and takes it back.

use legate_clock::Clock as _;
use legate_rpc::Told;
use legate_wire::credential::agent_credential_service_client::AgentCredentialServiceClient;
use legate_wire::credential::personal_grant_service_client::PersonalGrantServiceClient;
use legate_wire::credential::{
    CreateGrantRequest, ExchangeTokenRequest, ListGrantsRequest, RevokeGrantRequest, TokenType,
};

use crate::asking::{ask, at_least, question, word};
use crate::delegation::{Scene, apply, directory, permission, shown};
use crate::outside::Outside;
use crate::raised::AUDIENCE;

/// The directory, by whose tokens people make grants of their own, and which says of what groups they are.
fn of_people(outside: &Outside) -> String {
    let people = r#"
    - {claims: {hd: example.com}, userClaim: email, groupsClaim: groups}
  personalDelegation:
    audiences: [legate-grants]
    permissions: ["invoice:* on Invoice:*"]
    agentClasses: [invoice-worker]
    maxTtl: 1h
    maxAuthAge: 10m
    acrValues: ["urn:example:mfa"]
---
apiVersion: legate/v1
kind: RoleBinding
metadata: {name: auditors-read, namespace: payments}
spec: {role: invoice-reader, users: ["group:auditors"]}
---
apiVersion: legate/v1
kind: DelegationGrant
metadata: {name: auditors-let-scan, namespace: payments}
spec:
  delegator: "group:auditors"
  delegate: scan-bot
  permissions: ["invoice:read on Invoice:apollo/*"]
  purpose: Reads for auditors.
  notAfter: "2036-01-01T00:00:00Z"
"#;
    let without = "\n    - {claims: {hd: example.com}, userClaim: email}\n";
    let all = directory(outside).replace(without, "\n").trim_end().to_owned();
    format!("{all}{people}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_lets_an_agent_act_sees_that_and_takes_it_back_by_a_token_of_its_own() {
    let scene = Scene::new().await;
    let outside = Outside::new().await;
    apply(&scene.raised, &of_people(&outside)).await;
    // She has no certificate of ours.
    let door = || {
        let anonymous = scene.raised.dial("credential-issuer", legate_mtls::Identity::anonymous());
        PersonalGrantServiceClient::new(anonymous)
    };
    let ada = |audience: &str, jti: &str| {
        let now = legate_clock::SystemClock::new().now().secs();
        let claims = serde_json::json!({
            "sub": "1", "hd": "example.com", "email": "ada@example.com", "email_verified": true,
            "auth_time": now - 30, "acr": "urn:example:mfa", "jti": jti, "groups": ["auditors", "gardeners"],
        });
        outside.token(audience, &claims)
    };
    let wish = |token: String| CreateGrantRequest {
        token,
        namespace: "payments".into(),
        name: "scan-for-ada".into(),
        delegate: "scan-bot".into(),
        permissions: vec![permission("invoice:read", "zeus/*")],
        purpose: "Looks up what Ada asks.".into(),
        ttl: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        ..CreateGrantRequest::default()
    };
    let reason = |status: tonic::Status| Told::from_status(&status).reason;
    let exchange = async |token: String, grant: &str| {
        let identity = scene.scan.identity().clone();
        let mut issuer = AgentCredentialServiceClient::new(scene.raised.dial("credential-issuer", identity));
        let request = ExchangeTokenRequest {
            subject_token: token,
            subject_token_type: TokenType::IdToken.into(),
            audience: AUDIENCE.into(),
            grant: grant.into(),
            ..ExchangeTokenRequest::default()
        };
        issuer.exchange_token(request).await.map(tonic::Response::into_inner).map_err(reason)
    };
    // What an agent is handed makes no grant, and what makes a grant is nothing for an agent.
    let refused = door().create_grant(wish(ada("assistant", "a"))).await.unwrap_err();
    assert_eq!(reason(refused), "ISSUER_NOT_TRUSTED");
    assert_eq!(exchange(ada("legate-grants", "a"), "").await.unwrap_err(), "ISSUER_NOT_TRUSTED");
    let pays =
        CreateGrantRequest { permissions: vec![permission("invoice:pay", "*")], ..wish(ada("legate-grants", "b")) };
    assert_eq!(reason(door().create_grant(pays).await.unwrap_err()), "DELEGATION_TOO_WIDE");
    let long = CreateGrantRequest {
        ttl: Some(prost_types::Duration { seconds: 3_601, nanos: 0 }),
        ..wish(ada("legate-grants", "b"))
    };
    assert_eq!(reason(door().create_grant(long).await.unwrap_err()), "PERSONAL_GRANT_TOO_WIDE");

    // She reads as an auditor. Refusals did not use the token up; one grant does, and the same again is the same.
    let token = ada("legate-grants", "b");
    let made = door().create_grant(wish(token.clone())).await.unwrap().into_inner();
    let again = door().create_grant(wish(token.clone())).await.unwrap().into_inner();
    assert_eq!(made, again);
    let metadata = made.grant.clone().unwrap().metadata.unwrap();
    assert_eq!(metadata.created_by, "user:ada@example.com");
    assert!(made.consent_text.contains("\"scan-bot\""), "{}", made.consent_text);
    let other = CreateGrantRequest { name: "another".into(), ..wish(token.clone()) };
    assert_eq!(reason(door().create_grant(other).await.unwrap_err()), "IDENTITY_TOKEN_SPENT");

    // By it the agent does for her what she and it may, and by the auditors' grant what that lets through.
    let acts = exchange(ada("assistant", "c"), "scan-for-ada").await.unwrap();
    assert_eq!(
        (acts.subject.as_str(), acts.subject_groups.as_slice()),
        ("user:ada@example.com", &["group:auditors".to_owned()][..])
    );
    let by_group = exchange(ada("assistant", "d"), "auditors-let-scan").await.unwrap();
    let shown_at =
        |token: &str, id: &str, revision| at_least(question(&shown(&scene.scan, token), "invoice:read", id), revision);
    for (acts, id, expected) in [
        (&acts, "zeus/1", "ALLOWED"),
        (&acts, "apollo/1", "GRANT_NOT_PERMITTED"),
        (&by_group, "apollo/1", "ALLOWED"),
        (&by_group, "zeus/1", "GRANT_NOT_PERMITTED"),
    ] {
        let answer = ask(&scene.backend(), shown_at(&acts.access_token, id, acts.revision)).await;
        assert_eq!(word(&answer), expected, "{id}: {}", answer.message);
    }

    let list = |token: String| ListGrantsRequest { token, namespace: "payments".into(), name: String::new() };
    let listed = door().list_grants(list(token.clone())).await.unwrap().into_inner();
    let names = |grants: Vec<legate_wire::registry::DelegationGrant>| -> Vec<String> {
        grants.into_iter().map(|grant| grant.metadata.unwrap().name).collect()
    };
    assert_eq!(listed.person, "user:ada@example.com");
    assert_eq!(names(listed.of_groups), ["auditors-let-scan"]);
    let pointer =
        listed.grants.iter().find_map(|one| one.audit.clone().filter(|a| a.grant_ids == [metadata.id.clone()]));
    assert!(pointer.is_some());
    assert_eq!(
        names(listed.grants.into_iter().filter_map(|one| one.grant).collect()),
        ["ada-lets-clerk", "scan-for-ada"]
    );

    let end = |name: &str| RevokeGrantRequest {
        token: token.clone(),
        namespace: "payments".into(),
        name: name.into(),
        reason: "enough".into(),
        ..RevokeGrantRequest::default()
    };
    assert_eq!(reason(door().revoke_grant(end("auditors-let-scan")).await.unwrap_err()), "NOT_ITS_GRANT");
    let ended = door().revoke_grant(end("scan-for-ada")).await.unwrap().into_inner();
    let answer = ask(&scene.backend(), shown_at(&acts.access_token, "zeus/1", ended.revision)).await;
    assert_eq!(word(&answer), "GRANT_NOT_IN_FORCE");
    assert!(!scene.introspect(scene.scan.identity().clone(), &acts.access_token).await.active);
    assert_eq!(exchange(ada("assistant", "e"), "scan-for-ada").await.unwrap_err(), "GRANT_MISSING");
    // The record of all of it is hers, though no leaf has her name, and what the agent did is found by the grant.
    let dir = scene.raised.suite.layout().log();
    scene.raised.suite.shutdown().await;
    let log = crate::log::Log::read(&dir);
    for kind in ["delegation_grant.delegated", "delegation_grant.ended"] {
        assert!(log.of_type(kind).any(|event| event.actor == "user:#1" && !event.personal.is_empty()), "{kind}");
    }
    let naming = log.events.iter().find(|event| format!("{event:?}").contains("ada@example.com"));
    assert!(naming.is_none(), "{naming:?}");
    let acted = log.events.iter().filter(|event| event.grant_id == metadata.id);
    assert!(acted.clone().any(|event| event.r#type == "decision.made") && acted.count() >= 4);
    let secret = token.rsplit('.').next().unwrap();
    assert!(!format!("{:?}", log.events).contains(secret), "a token in the log");
}
