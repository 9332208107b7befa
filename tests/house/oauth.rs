//! OAuth over real HTTPS: each way of client authentication, and what becomes of the tokens at the one who decides.

mod ciba;
mod failures;
mod guarded;
mod status;

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use legate_client::{Remote, RuntimeKey};
use legate_mtls::Identity;
use legate_rpc::Client;
use legate_wire::credential::create_enrolment_token_request::Holder;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{CreateClientSecretRequest, RegisterClientKeyRequest, RevokeCredentialRequest};
use legate_wire::policy::decision_service_client::DecisionServiceClient;
use legate_wire::policy::{EvaluateRequest, EvaluateResponse, Resource, Subject, subject};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{AgentRef, ApplyDeclarationsRequest, GetAgentRequest, RevocationReason};
use serde_json::Value;
use tonic::body::Body;
use tower::ServiceExt as _;

use crate::raised::{Raised, id_of};

pub(crate) const RESOURCE: &str = "https://orders.example.com/api";

/// The facade, and the clients of tests/oauth/clients.yaml.
pub(crate) struct Clients<'a> {
    pub(crate) raised: &'a Raised,
}

/// An answer: status, headers, JSON.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) json: Value,
}

impl<'a> Clients<'a> {
    pub(crate) async fn of(raised: &'a Raised) -> Self {
        let path = crate::blessed::root().join("tests/oauth/clients.yaml");
        let documents = legate::manifest::load(&[path]).unwrap_or_else(|e| panic!("{e}"));
        let declarations = documents.into_iter().map(|document| document.declaration).collect();
        let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
        let mut registry = DeclarationServiceClient::new(raised.operator("registry"));
        registry.apply_declarations(request).await.unwrap();
        Self { raised }
    }

    pub(crate) async fn id(&self, name: &str) -> String {
        let wanted = AgentRef { namespace: "shop".into(), name: name.into(), ..AgentRef::default() };
        let mut agents = AgentServiceClient::new(self.raised.operator("registry"));
        let answer = agents.get_agent(GetAgentRequest { agent: Some(wanted), as_of: None }).await.unwrap();
        id_of(&answer.into_inner().agent.unwrap())
    }

    pub(crate) fn admin(&self) -> CredentialAdminServiceClient<Client> {
        CredentialAdminServiceClient::new(self.raised.operator("credential-issuer"))
    }

    /// A client secret of an agent, and its credential's id.
    pub(crate) async fn secret(&self, name: &str) -> (String, String) {
        let request =
            CreateClientSecretRequest { agent_id: self.id(name).await, reason: "a test".into(), ..Default::default() };
        let made = self.admin().create_client_secret(request).await.unwrap().into_inner();
        (made.client_secret, made.credential.unwrap().id)
    }

    async fn revoke(&self, credential_id: &str) {
        let request = RevokeCredentialRequest {
            credential_id: credential_id.into(),
            reason: RevocationReason::Superseded.into(),
            comment: "a test".into(),
        };
        self.admin().revoke_credential(request).await.unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.raised.suite.running("credential-issuer").unwrap().web_addr().unwrap())
    }

    async fn send(&self, who: Identity, request: Request<Body>) -> Answer {
        let remote =
            Remote { endpoint: self.url(), trust: self.raised.suite.trust().unwrap(), service: "credential-issuer" };
        let answer = remote.dial(who).unwrap().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let json = serde_json::from_slice(&body).unwrap_or(Value::Null);
        Answer { status: parts.status, headers: parts.headers, json }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).body(Body::empty()).unwrap();
        self.send(Identity::anonymous(), request).await
    }

    pub(crate) async fn post(
        &self,
        who: Identity,
        path: &str,
        headers: &[(&str, &str)],
        form: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        self.send(who, request.body(Body::new(body.join("&"))).unwrap()).await
    }

    /// Asks for a token for the resource.
    pub(crate) async fn token(&self, who: Identity, headers: &[(&str, &str)], more: &[(&str, &str)]) -> Answer {
        let mut form = vec![("grant_type", "client_credentials"), ("resource", RESOURCE), ("scope", "order:read")];
        form.extend_from_slice(more);
        self.post(who, "/oauth2/token", headers, &form).await
    }

    async fn by_secret(&self, name: &str, secret: &str) -> Answer {
        let basic = basic(&self.id(name).await, secret);
        self.token(Identity::anonymous(), &[("authorization", &basic)], &[]).await
    }

    async fn introspect(&self, name: &str, secret: &str, token: &str) -> Value {
        let basic = basic(&self.id(name).await, secret);
        let headers = [("authorization", basic.as_str())];
        let answer = self.post(Identity::anonymous(), "/oauth2/introspect", &headers, &[("token", token)]).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
        answer.json
    }

    /// The backend that the tokens are for.
    async fn backend(&self) -> Client {
        let point = legate_wire::credential::EnforcementPointRef { namespace: "shop".into(), name: "orders".into() };
        let token = self.raised.enrolment_token(Holder::EnforcementPoint(point)).await;
        let remote = self.raised.remote("credential-issuer");
        let identity = legate_client::enrol(&remote, &token).await.unwrap().identity().unwrap();
        self.raised.dial("policy-decision", identity)
    }
}

pub(crate) fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", Base64::encode_string(format!("{id}:{secret}").as_bytes()))
}

fn escape(text: &str) -> String {
    text.bytes()
        .map(|b| if b.is_ascii_alphanumeric() { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// What the backend is told of a token that somebody shows it.
pub(crate) async fn ask(backend: &Client, token: &str, x5t: &[u8], jkt: &[u8]) -> EvaluateResponse {
    let request = EvaluateRequest {
        subject: Some(Subject {
            agent: Some(subject::Agent::AccessToken(token.into())),
            presenter_x5t_s256: x5t.to_vec(),
            presenter_jkt: jkt.to_vec(),
            ..Default::default()
        }),
        action: "order:read".into(),
        resource: Some(Resource { r#type: "Order".into(), id: "1".into(), ..Default::default() }),
        ..Default::default()
    };
    DecisionServiceClient::new(backend.clone()).evaluate(request).await.unwrap().into_inner()
}

/// Waits until the answer is this: news comes by the registry's stream, within its bound.
async fn until(backend: &Client, token: &str, reason: &str) {
    let asked = async {
        loop {
            let answer = ask(backend, token, &[], &[]).await;
            if answer.reason_code == reason {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(crate::raised::LONG, asked).await.unwrap_or_else(|_| panic!("never {reason}"));
}

pub(crate) fn claims(token: &str) -> Value {
    let payload = Base64UrlUnpadded::decode_vec(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// A secret that was taken back is used once more.
pub(crate) async fn use_a_retired_secret(raised: &Raised) {
    let clients = Clients::of(raised).await;
    let (secret, credential) = clients.secret("with-secret").await;
    clients.revoke(&credential).await;
    assert_eq!(clients.by_secret("with-secret", &secret).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_gives_a_bearer_token_that_works_until_it_is_taken_back() {
    let raised = Raised::new().await;
    let clients = Clients::of(&raised).await;
    let (secret, credential) = clients.secret("with-secret").await;
    let answer = clients.by_secret("with-secret", &secret).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    assert_eq!(answer.json["token_type"], "Bearer");
    assert!(answer.headers["cache-control"].to_str().unwrap().contains("no-store"));
    let token = answer.json["access_token"].as_str().unwrap().to_owned();
    let said = claims(&token);
    assert_eq!(said["iss"], clients.url().as_str());
    assert_eq!(said["aud"], RESOURCE);
    assert_eq!(said["client_id"], clients.id("with-secret").await.as_str());
    assert_eq!(said["scope"], "order:read");
    assert_eq!(said.get("cnf"), None);

    let backend = clients.backend().await;
    assert_eq!(ask(&backend, &token, &[], &[]).await.reason_code, "ALLOWED");
    assert_eq!(clients.introspect("with-secret", &secret, &token).await["active"], true);
    let basic = basic(&clients.id("with-secret").await, &secret);
    let headers = [("authorization", basic.as_str())];
    for _ in 0..2 {
        let revoked = clients.post(Identity::anonymous(), "/oauth2/revoke", &headers, &[("token", &token)]).await;
        assert_eq!(revoked.status, StatusCode::OK);
    }
    let told = clients.introspect("with-secret", &secret, &token).await;
    assert_eq!(told, serde_json::json!({"active": false}), "and nothing more");
    until(&backend, &token, "CREDENTIAL_REVOKED").await;

    // What was obtained by a secret dies with it.
    let answer = clients.by_secret("with-secret", &secret).await;
    let token = answer.json["access_token"].as_str().unwrap().to_owned();
    assert_eq!(ask(&backend, &token, &[], &[]).await.reason_code, "ALLOWED");
    clients.revoke(&credential).await;
    let refused = clients.by_secret("with-secret", &secret).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.json["error"], "invalid_client");
    assert!(refused.headers.contains_key("www-authenticate"), "who came by Basic is told of it");
    let form = [("client_id", clients.id("with-secret").await), ("client_secret", secret)];
    let form: Vec<_> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let refused = clients.token(Identity::anonymous(), &[], &form).await;
    assert_eq!((refused.status, &refused.json["error"]), (StatusCode::UNAUTHORIZED, &"invalid_client".into()));
    assert!(
        !refused.headers.contains_key("www-authenticate"),
        "others are not: libraries would tell it in place of the error"
    );
    until(&backend, &token, "CREDENTIAL_REVOKED").await;
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_gives_a_token_that_is_bound_to_it() {
    let raised = Raised::new().await;
    let clients = Clients::of(&raised).await;
    let id = clients.id("with-certificate").await;
    let token = raised.enrolment_token(Holder::AgentId(id.clone())).await;
    let enrolled = legate_client::enrol(&raised.remote("credential-issuer"), &token).await.unwrap();
    let identity = enrolled.identity().unwrap();
    let x5t = identity.x5t_s256().unwrap();
    let answer = clients.token(identity.clone(), &[], &[("client_id", &id)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    let token = answer.json["access_token"].as_str().unwrap();
    assert_eq!(claims(token)["cnf"]["x5t#S256"], Base64UrlUnpadded::encode_string(&x5t));
    let backend = clients.backend().await;
    assert_eq!(ask(&backend, token, &x5t, &[]).await.reason_code, "ALLOWED");
    assert_eq!(ask(&backend, token, &[], &[]).await.reason_code, "TOKEN_BINDING");

    // With a secret over the same connection too, which then names the running copy as well.
    let (secret, _) = clients.secret("with-certificate").await;
    let by_secret = [("authorization", &*basic(&id, &secret))];
    let answer = clients.token(identity.clone(), &by_secret, &[]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    let said = claims(answer.json["access_token"].as_str().unwrap());
    assert_eq!(said["cnf"]["x5t#S256"], Base64UrlUnpadded::encode_string(&x5t));
    assert!(said["sub"].as_str().unwrap().ends_with(said["instance"].as_str().unwrap()), "{said}");

    // Somebody else's certificate proves nothing for this client, nor does a header that claims one.
    let other = clients.id("with-key").await;
    assert_eq!(clients.token(identity.clone(), &[], &[("client_id", &other)]).await.status, StatusCode::UNAUTHORIZED);
    let claimed = [("x-forwarded-client-cert", id.as_str()), ("x-agent-id", id.as_str())];
    let refused = clients.token(Identity::anonymous(), &claimed, &[("client_id", &id)]).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert_eq!(refused.json["error"], "invalid_client");
    // A revoked certificate gets nothing more.
    clients.revoke(&enrolled.credential.id).await;
    let refused = clients.token(identity, &[], &[("client_id", &id)]).await;
    assert_ne!(refused.status, StatusCode::OK, "{}", refused.json);
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tells_what_it_can_do_and_refuses_what_it_cannot() {
    let raised = Raised::new().await;
    let clients = Clients::of(&raised).await;
    let metadata = clients.get("/.well-known/oauth-authorization-server").await.json;
    assert_eq!(metadata["issuer"], clients.url().as_str());
    assert_eq!(metadata, clients.get("/.well-known/openid-configuration").await.json);
    let keys = clients.get("/oauth2/jwks").await;
    assert!(keys.headers["cache-control"].to_str().unwrap().contains("max-age"));
    assert_eq!(keys.json["keys"][0]["alg"], "ES256");

    let (secret, _) = clients.secret("with-secret").await;
    let id = clients.id("with-secret").await;
    let basic = basic(&id, &secret);
    let headers = [("authorization", basic.as_str())];
    let refused = async |form: &[(&str, &str)]| {
        let answer = clients.post(Identity::anonymous(), "/oauth2/token", &headers, form).await;
        (answer.status.as_u16(), answer.json["error"].as_str().unwrap_or_default().to_owned())
    };
    let grant = ("grant_type", "client_credentials");
    let to = ("resource", RESOURCE);
    let cases: [(&[(&str, &str)], &str); 10] = [
        (&[("grant_type", "password"), to], "unsupported_grant_type"),
        (&[to], "invalid_request"),
        (&[grant, grant, to], "invalid_request"),
        (&[grant], "invalid_target"),
        (&[grant, ("resource", "https://orders.example.com/api#x")], "invalid_target"),
        (&[grant, ("resource", "https://orders.example.com")], "invalid_target"),
        (&[grant, to, ("scope", "order:read order:refund")], "invalid_scope"),
        (&[grant, to, ("scope", "\u{1b}[31m")], "invalid_scope"),
        (&[grant, to, ("client_id", "another")], "invalid_request"),
        (&[grant, to, ("client_id", id.as_str()), ("client_secret", secret.as_str())], "invalid_request"),
    ];
    for (form, error) in cases {
        assert_eq!(refused(form).await, (400, error.to_owned()), "{form:?}");
    }
    let get = clients.get("/oauth2/token").await;
    assert_eq!(get.status, StatusCode::METHOD_NOT_ALLOWED);
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registered_key_is_its_agents_and_no_secret_stands_in_the_log() {
    let raised = Raised::new().await;
    let clients = Clients::of(&raised).await;
    let key = RuntimeKey::generate().unwrap();
    let request = |agent_id: String| RegisterClientKeyRequest {
        agent_id,
        jwk: key.to_public_jwk().unwrap(),
        reason: "a test".into(),
        ..Default::default()
    };
    let mut admin = clients.admin();
    admin.register_client_key(request(clients.id("with-key").await)).await.unwrap();
    let refused = admin.register_client_key(request(clients.id("with-secret").await)).await.unwrap_err();
    assert_eq!(legate_rpc::Told::from_status(&refused).reason, "KEY_IN_USE");
    let private = key.to_private_jwk().unwrap();
    let mut with_private = request(clients.id("with-key").await);
    with_private.jwk = private.to_string();
    let refused = admin.register_client_key(with_private).await.unwrap_err();
    assert_eq!(legate_rpc::Told::from_status(&refused).reason, "INVALID_ARGUMENT");

    let (secret, _) = clients.secret("with-secret").await;
    clients.by_secret("with-secret", &secret).await;
    let dir = raised.suite.layout().log();
    raised.suite.shutdown().await;
    let log = crate::log::Log::read(&dir);
    assert!(log.of_type("client.created").count() >= 2);
    assert!(!format!("{:?}", log.events).contains(&secret["lgt_sec_".len()..40]));
}

/// What the clients lack: an issuer outside that vouches for one of them, and for people of its groups; and whom these let act.
pub(crate) fn vouched(outside: &crate::outside::Outside) -> String {
    let (issuer, jwks) = (outside.issuer(), outside.jwks());
    format!(
        r#"
apiVersion: legate/v1
kind: CredentialPolicy
metadata: {{name: oauth-clients, namespace: shop}}
spec:
  methods: [TRUSTED_ISSUER, CLIENT_SECRET]
  tokenBinding: OPTIONAL
---
apiVersion: legate/v1
kind: TrustedIssuer
metadata: {{name: outside, namespace: shop}}
spec:
  issuer: {issuer}
  audiences: [shop]
  jwks: '{jwks}'
  rules:
    - {{claims: {{sub: "run:shop"}}, agent: with-key}}
    - {{claims: {{hd: example.com}}, userClaim: email, groupsClaim: roles/shop}}
---
apiVersion: legate/v1
kind: RoleBinding
metadata: {{name: buyers-read-orders, namespace: shop}}
spec: {{role: order-reader, users: ["group:buyers"]}}
---
apiVersion: legate/v1
kind: DelegationGrant
metadata: {{name: buyers-let-secret, namespace: shop}}
spec:
  delegator: "group:buyers"
  delegate: with-secret
  permissions: ["order:read on Order:*"]
  purpose: Looks orders up for whoever buys.
  notAfter: "2036-01-01T00:00:00Z"
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_an_issuer_outside_give_a_workload_its_own_and_let_a_client_act_for_a_person() {
    use serde_json::json;
    let raised = Raised::new().await;
    let outside = crate::outside::Outside::new().await;
    let clients = Clients::of(&raised).await;
    let revision = crate::delegation::apply(&raised, &vouched(&outside)).await;
    let backend = clients.backend().await;
    let post = async |headers: &[(&str, &str)], form: &[(&str, &str)]| {
        clients.post(Identity::anonymous(), "/oauth2/token", headers, form).await
    };
    let to = [("resource", RESOURCE), ("scope", "order:read")];

    // RFC 7523 section 2.1: the assertion is all that it shows; once.
    const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    let assertion = outside.token("shop", &json!({"sub": "run:shop", "jti": "run-1"}));
    let by_assertion = |assertion: &str, namespace: &str| {
        let form = [("grant_type", JWT_BEARER), ("assertion", assertion), ("namespace", namespace)];
        let form: Vec<(String, String)> =
            form.iter().chain(&to).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        form
    };
    let sent = async |form: Vec<(String, String)>| {
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        post(&[], &form).await
    };
    let answer = sent(by_assertion(&assertion, "shop")).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    assert_eq!((answer.json["token_type"].as_str(), answer.json.get("refresh_token")), (Some("Bearer"), None));
    assert!(answer.headers["cache-control"].to_str().unwrap().contains("no-store"));
    let token = answer.json["access_token"].as_str().unwrap();
    let said = claims(token);
    assert_eq!((&said["client_id"], said.get("act")), (&json!(clients.id("with-key").await), None));
    assert_eq!(ask(&backend, token, &[], &[]).await.reason_code, "ALLOWED");
    let stranger = crate::outside::Outside::new().await.token("shop", &json!({"sub": "run:shop"}));
    let person = json!({"sub": "1", "hd": "example.com", "email": "ada@example.com", "email_verified": true});
    for (form, error) in [
        (by_assertion(&assertion, "shop"), "invalid_grant"),
        (by_assertion(&stranger, "shop"), "invalid_grant"),
        (by_assertion(&outside.token("shop", &json!({"sub": "run:other"})), "shop"), "invalid_grant"),
        (by_assertion(&outside.token("store", &json!({"sub": "run:shop"})), "shop"), "invalid_grant"),
        (by_assertion(&outside.token("shop", &json!({"sub": "run:shop"})), "payments"), "invalid_grant"),
        (by_assertion(&outside.token("shop", &person), "shop"), "invalid_grant"),
        (by_assertion("not.a.token", "shop"), "invalid_grant"),
        (by_assertion("", "shop"), "invalid_request"),
    ] {
        let answer = sent(form).await;
        assert_eq!((answer.status, &answer.json["error"]), (StatusCode::BAD_REQUEST, &json!(error)), "{}", answer.json);
    }

    // RFC 8693: a person's token, by a group that it shows the person in.
    let (secret, _) = clients.secret("with-secret").await;
    let basic = basic(&clients.id("with-secret").await, &secret);
    let exchanged = async |token: &str, kind: &str| {
        let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
        let form = [grant, ("subject_token", token), ("subject_token_type", kind), to[0], to[1]];
        post(&[("authorization", &basic)], &form).await
    };
    const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
    let of_person = |groups: Value| {
        let mut claims = person.clone();
        claims["roles"] = json!({ "shop": groups });
        outside.token("shop", &claims)
    };
    let buyer = of_person(json!(["buyers", "sellers"]));
    let answer = exchanged(&buyer, ID_TOKEN).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.json);
    assert_eq!(answer.json["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    let token = answer.json["access_token"].as_str().unwrap().to_owned();
    let said = claims(&token);
    assert_eq!((&said["sub"], &said["groups"]), (&json!("user:ada@example.com"), &json!(["group:buyers"])));
    assert!(said["act"]["sub"].as_str().unwrap().contains(&clients.id("with-secret").await), "{said}");
    let told = clients.introspect("with-secret", &secret, &token).await;
    assert_eq!((&told["active"], &told["groups"]), (&json!(true), &json!(["group:buyers"])));
    let allowed = ask(&backend, &token, &[], &[]).await;
    assert_eq!((allowed.reason_code.as_str(), allowed.subject.as_str()), ("ALLOWED", "user:ada@example.com"));
    assert!(allowed.revision >= revision);
    // It may be shown again until it ends, as often as there is something to do for the person.
    assert_eq!(exchanged(&buyer, ID_TOKEN).await.status, StatusCode::OK);
    for (token, kind, error) in [
        (of_person(json!(["sellers"])), ID_TOKEN, "invalid_grant"),
        (of_person(json!([])), ID_TOKEN, "invalid_grant"),
        (outside.token("shop", &json!({"sub": "run:shop"})), ID_TOKEN, "invalid_grant"),
        (buyer.clone(), "urn:ietf:params:oauth:token-type:access_token", "invalid_grant"),
        (buyer.clone(), "urn:ietf:params:oauth:token-type:jwt", "invalid_request"),
        (token.clone(), ID_TOKEN, "invalid_grant"),
    ] {
        let answer = exchanged(&token, kind).await;
        assert_eq!((answer.status, &answer.json["error"]), (StatusCode::BAD_REQUEST, &json!(error)), "{}", answer.json);
    }
    // The group's grant is taken back: at the next revision the token is dead.
    crate::delegation::revoke(&raised, "shop", "buyers-let-secret").await;
    until(&backend, &token, "GRANT_NOT_IN_FORCE").await;
    assert_eq!(clients.introspect("with-secret", &secret, &token).await, json!({"active": false}));
    raised.suite.shutdown().await;
}
