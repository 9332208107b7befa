//! A client asks a person by CIBA (OpenID CIBA Core 1.0, poll mode), and polls for its token.

use http::StatusCode;
use legate_mtls::Identity;
use legate_rpc::Client;
use legate_wire::registry::approval_service_client::ApprovalServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{
    ApplyDeclarationsRequest, DenyApprovalRequest, GrantApprovalRequest, ListApprovalsRequest,
};

use super::{Clients, RESOURCE, basic};
use crate::raised::Raised;

/// What holds the clients' reading of orders back, and who approves it.
async fn hold_back(raised: &Raised) -> ApprovalServiceClient<Client> {
    let yaml = r#"
apiVersion: legate/v1
kind: Policy
metadata: {name: four-eyes, namespace: shop}
spec:
  mode: ENFORCE
  cedar: |
    @approval("reading of orders")
    forbid(principal, action == Action::"order:read", resource);
---
apiVersion: legate/v1
kind: OperatorBinding
metadata: {name: approvers, namespace: shop}
spec: {operators: [paula], role: APPROVER}
"#;
    let file = raised.dir.path().join("held.yaml");
    std::fs::write(&file, yaml).unwrap();
    let documents = legate::manifest::load(&[file]).unwrap_or_else(|e| panic!("{e}"));
    let declarations = documents.into_iter().map(|document| document.declaration).collect();
    let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    DeclarationServiceClient::new(raised.operator("registry")).apply_declarations(request).await.unwrap();
    let paula = legate_ids::SpiffeId::operator(raised.suite.domain(), &legate_ids::Name::parse("paula").unwrap());
    let paula = crate::raised::certify(&raised.services_ca(), &paula);
    ApprovalServiceClient::new(raised.dial("registry", paula))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_asks_a_person_by_ciba_and_polls_for_its_token() {
    let raised = Raised::new().await;
    let clients = Clients::of(&raised).await;
    let mut paula = hold_back(&raised).await;
    let (secret, _) = clients.secret("with-secret").await;
    let own = basic(&clients.id("with-secret").await, &secret);
    let (other, _) = clients.secret("with-key").await;
    let other = basic(&clients.id("with-key").await, &other);
    let told = clients.get("/.well-known/openid-configuration").await.json;
    assert_eq!(told["backchannel_authentication_endpoint"], format!("{}/oauth2/bc-authorize", clients.url()).as_str());
    assert_eq!(told["backchannel_token_delivery_modes_supported"], serde_json::json!(["poll"]));

    const CIBA: &str = "urn:openid:params:grant-type:ciba";
    let good =
        [("scope", "openid order:read"), ("resource", RESOURCE), ("login_hint", "shop"), ("requested_expiry", "60")];
    let ask = async |who: &str, more: &[(&str, &str)]| {
        let form: Vec<_> =
            good.iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name)).chain(more).copied().collect();
        clients.post(Identity::anonymous(), "/oauth2/bc-authorize", &[("authorization", who)], &form).await
    };
    let poll = async |who: &str, id: &str| {
        let form = [("grant_type", CIBA), ("auth_req_id", id)];
        clients.post(Identity::anonymous(), "/oauth2/token", &[("authorization", who)], &form).await
    };
    for (error, more) in [
        ("invalid_request", [("login_hint", ""), ("x", "")]),
        ("unknown_user_id", [("login_hint", "payments"), ("x", "")]),
        ("invalid_binding_message", [("binding_message", "\u{1b}[2Jfine"), ("x", "")]),
        ("invalid_request", [("requested_expiry", "1"), ("x", "")]),
        ("invalid_request", [("id_token_hint", "x"), ("x", "")]),
        ("invalid_scope", [("scope", "openid"), ("x", "")]),
        // Nothing holds it back.
        ("invalid_scope", [("scope", "order:write"), ("x", "")]),
        ("invalid_target", [("resource", "https://elsewhere.example.com"), ("x", "")]),
    ] {
        let refused = ask(&own, &more).await;
        assert_eq!(
            (refused.status, refused.json["error"].as_str()),
            (StatusCode::BAD_REQUEST, Some(error)),
            "{more:?}"
        );
    }
    let nobody = basic(&clients.id("with-secret").await, "lgt_sec_0");
    let refused = ask(&nobody, &[]).await;
    assert_eq!((refused.status, refused.json["error"].as_str()), (StatusCode::UNAUTHORIZED, Some("invalid_client")));

    let asked = async |message: &str| {
        let asked = ask(&own, &[("binding_message", message)]).await;
        assert_eq!(asked.status, StatusCode::OK, "{}", asked.json);
        assert!((40..=60).contains(&asked.json["expires_in"].as_u64().unwrap()), "{}", asked.json);
        assert_eq!(asked.json["interval"], 5);
        asked.json["auth_req_id"].as_str().unwrap().to_owned()
    };
    let of = async |message: &str| {
        let request = ListApprovalsRequest { namespace: "shop".into(), ..Default::default() };
        let pending = paula.clone().list_approvals(request).await.unwrap().into_inner().approvals;
        let one = pending.into_iter().find(|one| one.spec.as_ref().unwrap().binding_message == message).unwrap();
        one.metadata.unwrap().id
    };
    // One waits, and is another client's nothing.
    let waiting = asked("run 1").await;
    assert_eq!(poll(&own, &waiting).await.json["error"], "authorization_pending");
    assert_eq!(poll(&own, &waiting).await.json["error"], "slow_down");
    for (who, id) in [(&other, waiting.as_str()), (&own, "x")] {
        assert_eq!(poll(who, id).await.json["error"], "invalid_grant");
    }
    // What would narrow the token, and is not done here, is not passed over.
    let details = r#"[{"type":"legate"}]"#;
    let form = [("grant_type", CIBA), ("auth_req_id", waiting.as_str()), ("authorization_details", details)];
    let narrower =
        clients.post(Identity::anonymous(), "/oauth2/token", &[("authorization", own.as_str())], &form).await;
    assert_eq!(narrower.json["error"], "invalid_request");
    // One is denied.
    let denied = asked("run 2").await;
    let deny = DenyApprovalRequest { approval_id: of("run 2").await, reason: "no".into(), ..Default::default() };
    paula.clone().deny_approval(deny).await.unwrap();
    assert_eq!(poll(&own, &denied).await.json["error"], "access_denied");
    // And one is approved: before, its scope is refused, and after, it gives a token, once.
    assert_eq!(clients.by_secret("with-secret", &secret).await.json["reason"], "APPROVAL_REQUIRED");
    let approved = asked("run 3").await;
    let grant = GrantApprovalRequest { approval_id: of("run 3").await, reason: "yes".into(), ..Default::default() };
    paula.grant_approval(grant).await.unwrap();
    let answer = poll(&own, &approved).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    assert_eq!(answer.json["scope"], "order:read");
    let token = answer.json["access_token"].as_str().unwrap();
    let backend = clients.backend().await;
    assert_eq!(super::ask(&backend, token, &[], &[]).await.reason_code, "ALLOWED");
    assert_eq!(poll(&own, &approved).await.json["error"], "invalid_grant");
    assert_eq!(clients.by_secret("with-secret", &secret).await.status, StatusCode::OK);
    raised.suite.shutdown().await;
}
