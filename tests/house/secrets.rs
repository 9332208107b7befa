//! No secret is ever in a log line, an audit event, an error or a database (I7).

mod spans;

use std::path::{Path, PathBuf};

use base64ct::{Base64UrlUnpadded, Encoding as _};
use http_body_util::BodyExt as _;
use legate_client::enrol;
use legate_clock::{Clock as _, SystemClock};
use legate_token::{EcSigner as _, P256Signer};
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::credential::{CreateClientSecretRequest, RegisterClientKeyRequest};
use legate_wire::registry::agent_service_client::AgentServiceClient;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::{AgentRef, ApplyDeclarationsRequest, GetAgentRequest};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::asking::{Shown, ask, question};
use crate::processes::Processes;
use crate::raised::{AUDIENCE, id_of, unwrapped};

/// Every file below a directory.
fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, into) } else { into.push(path) }
    }
}

/// What an OAuth client shows over HTTPS, rightly and wrongly: the secret parts of it, and everything that it was answered
/// when it was refused.
async fn over_https(suite: &Processes) -> (Vec<String>, Vec<String>) {
    let clients = std::fs::read_to_string(crate::blessed::root().join("tests/oauth/clients.yaml")).unwrap();
    declare(suite, &clients).await;
    let id = async |name: &str| {
        let wanted = AgentRef { namespace: "shop".into(), name: name.into(), ..AgentRef::default() };
        let mut agents = AgentServiceClient::new(suite.operator("registry"));
        let found = agents.get_agent(GetAgentRequest { agent: Some(wanted), as_of: None }).await.unwrap();
        id_of(&found.into_inner().agent.unwrap())
    };
    let (by_secret, by_key) = (id("with-secret").await, id("with-key").await);
    let mut admin = CredentialAdminServiceClient::new(suite.operator("credential-issuer"));
    let request =
        CreateClientSecretRequest { agent_id: by_secret.clone(), reason: "a test".into(), ..Default::default() };
    let secret = admin.create_client_secret(request).await.unwrap().into_inner().client_secret;
    let key = P256Signer::from_scalar(&[21; 32]).unwrap();
    let (agent_id, jwk) = (by_key.clone(), key.public_key().to_jwk());
    let request = RegisterClientKeyRequest { agent_id, jwk, reason: "a test".into(), ..Default::default() };
    admin.register_client_key(request).await.unwrap();

    let post = async |path: &str, proof: Option<&str>, form: &[(&str, &str)]| {
        let escaped = |text: &str| text.bytes().map(|b| format!("%{b:02X}")).collect::<String>();
        let body: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let mut request = http::Request::post(path).header("content-type", "application/x-www-form-urlencoded");
        if let Some(proof) = proof {
            request = request.header("dpop", proof);
        }
        let request = request.body(tonic::body::Body::new(body.join("&"))).unwrap();
        let answer = suite.web().dial(legate_mtls::Identity::anonymous()).unwrap().oneshot(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let text = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        let nonce = parts.headers.get("dpop-nonce").map(|nonce| nonce.to_str().unwrap().to_owned());
        (parts.status.as_u16(), text, nonce)
    };
    let signed = |header: &Value, claims: &Value| {
        let part = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
        let input = format!("{}.{}", part(header), part(claims));
        let signature = Base64UrlUnpadded::encode_string(&key.sign(input.as_bytes()).unwrap());
        (format!("{input}.{signature}"), signature)
    };
    let now = SystemClock::new().now().secs();
    let grant = ("grant_type", "client_credentials");
    let to = ("resource", "https://orders.example.com/api");
    let own = [("client_id", by_secret.as_str()), ("client_secret", secret.as_str())];
    let mut errors = Vec::new();
    let mut secrets = vec![secret.clone()];
    let mut refused = |(status, text, _): (u16, String, Option<String>)| {
        assert!((400..500).contains(&status), "{status} {text}");
        errors.push(text);
    };

    // A secret, and one like it.
    let (status, text, _) = post("/oauth2/token", None, &[grant, to, own[0], own[1]]).await;
    assert_eq!(status, 200, "{text}");
    let token: Value = serde_json::from_str(&text).unwrap();
    let token = token["access_token"].as_str().unwrap().to_owned();
    secrets.push(token.rsplit('.').next().unwrap().to_owned());
    let mistyped = format!("{secret}x");
    refused(post("/oauth2/token", None, &[grant, to, own[0], ("client_secret", &mistyped)]).await);
    refused(post("/oauth2/token", None, &[grant, to, ("client_id", &by_key), own[1]]).await);

    // A token, where it is asked about and where it belongs to nobody.
    let (status, text, _) = post("/oauth2/introspect", None, &[own[0], own[1], ("token", &token)]).await;
    assert!(status == 200 && text.contains("true"), "{text}");
    let exchange = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
    let of_type = |name| ("subject_token_type", name);
    let access = of_type("urn:ietf:params:oauth:token-type:access_token");
    refused(post("/oauth2/token", None, &[exchange, to, own[0], own[1], access, ("subject_token", &token)]).await);

    // A proof of a key, once with and once without its nonce, and once more.
    let jwk: Value = serde_json::from_str(&key.public_key().to_jwk()).unwrap();
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": jwk["x"], "y": jwk["y"]});
    let header = json!({"alg": "ES256", "typ": "dpop+jwt", "jwk": jwk});
    let claims = json!({"jti": "p1", "htm": "POST", "htu": "https://issuer.dev.legate/oauth2/token", "iat": now});
    let (proof, signature) = signed(&header, &claims);
    secrets.push(signature);
    let first = post("/oauth2/token", Some(&proof), &[grant, to, own[0], own[1]]).await;
    let mut claims = claims;
    claims["nonce"] = first.2.clone().unwrap().into();
    refused(first);
    let (proof, signature) = signed(&header, &claims);
    secrets.push(signature);
    let (status, text, _) = post("/oauth2/token", Some(&proof), &[grant, to, own[0], own[1]]).await;
    assert_eq!(status, 200, "{text}");
    refused(post("/oauth2/token", Some(&proof), &[grant, to, own[0], own[1]]).await);

    // An assertion of a key, and once more.
    let claims = json!({"iss": by_key, "sub": by_key, "aud": "https://issuer.dev.legate", "jti": "a1", "iat": now, "exp": now + 60});
    let (assertion, signature) = signed(&json!({"alg": "ES256"}), &claims);
    secrets.push(signature);
    let jwt_bearer = ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    let by_assertion = [grant, to, jwt_bearer, ("client_assertion", assertion.as_str())];
    let (status, text, _) = post("/oauth2/token", None, &by_assertion).await;
    assert_eq!(status, 200, "{text}");
    refused(post("/oauth2/token", None, &by_assertion).await);

    // A token of an issuer outside, for an agent and for a person; and what nobody can read.
    let claims = json!({"iss": "https://outside.example", "sub": "x", "aud": "legate", "jti": "i1", "iat": now, "exp": now + 60});
    let (identity, signature) = signed(&json!({"alg": "ES256", "typ": "JWT"}), &claims);
    secrets.push(signature);
    let bearer = ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
    refused(post("/oauth2/token", None, &[bearer, to, ("namespace", "shop"), ("assertion", &identity)]).await);
    let of_person = of_type("urn:ietf:params:oauth:token-type:id_token");
    refused(
        post("/oauth2/token", None, &[exchange, to, own[0], own[1], of_person, ("subject_token", &identity)]).await,
    );
    let turned: String = identity.chars().rev().collect();
    secrets.push(turned.split('.').next().unwrap().to_owned());
    refused(post("/oauth2/token", None, &[bearer, to, ("namespace", "shop"), ("assertion", &turned)]).await);

    // Whoever fails much waits for his turn, whatever he tries with.
    for _ in 0..110 {
        let guessed = [bearer, to, ("namespace", "payments"), ("assertion", identity.as_str())];
        refused(post("/oauth2/token", None, &guessed).await);
    }

    let (status, text, _) = post("/oauth2/revoke", None, &[own[0], own[1], ("token", &token)]).await;
    assert_eq!(status, 200, "{text}");

    // Tokens of an issuer outside that are believed: an agent's own, used once and shown again, and a person's, for whom one acts.
    let outside = crate::outside::Outside::new().await;
    declare(suite, &crate::oauth::vouched(&outside)).await;
    let mut shown = |claims: Value| {
        let token = outside.token("shop", &claims);
        secrets.push(token.rsplit('.').next().unwrap().to_owned());
        token
    };
    let run = shown(json!({"sub": "run:shop", "jti": "run-1"}));
    let person = json!({"sub": "1", "hd": "example.com", "email": "ada@example.com", "email_verified": true, "roles": {"shop": ["buyers"]}});
    let person = shown(person);
    let by_run = [bearer, to, ("namespace", "shop"), ("assertion", run.as_str())];
    let (status, text, _) = post("/oauth2/token", None, &by_run).await;
    assert_eq!(status, 200, "{text}");
    secrets.push(signature_in(&text));
    refused(post("/oauth2/token", None, &by_run).await);
    let for_person = [exchange, to, own[0], own[1], of_person, ("subject_token", person.as_str())];
    let (status, text, _) = post("/oauth2/token", None, &for_person).await;
    assert_eq!(status, 200, "{text}");
    secrets.push(signature_in(&text));

    // By what a client asks after what a person was asked to approve.
    declare(suite, HOLD_BACK).await;
    let wish = [own[0], own[1], to, ("scope", "order:read"), ("login_hint", "shop"), ("binding_message", "run 1")];
    let (status, text, _) = post("/oauth2/bc-authorize", None, &wish).await;
    assert_eq!(status, 200, "{text}");
    let asked: Value = serde_json::from_str(&text).unwrap();
    let request = asked["auth_req_id"].as_str().unwrap().to_owned();
    secrets.push(request.clone());
    let ciba = ("grant_type", "urn:openid:params:grant-type:ciba");
    refused(post("/oauth2/token", None, &[ciba, own[0], own[1], ("auth_req_id", &request)]).await);
    let mistyped = format!("{request}0");
    refused(post("/oauth2/token", None, &[ciba, own[0], own[1], ("auth_req_id", &mistyped)]).await);
    (secrets, errors)
}

/// What holds the clients' reading of orders back until a person approves it.
const HOLD_BACK: &str = r#"
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

async fn declare(suite: &Processes, manifest: &str) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("more.yaml");
    std::fs::write(&file, manifest).unwrap();
    let documents = legate::manifest::load(&[file]).unwrap_or_else(|e| panic!("{e}"));
    let declarations = documents.into_iter().map(|document| document.declaration).collect();
    let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    DeclarationServiceClient::new(suite.operator("registry")).apply_declarations(request).await.unwrap();
}

/// The signature of the access token in an answer.
fn signature_in(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    answer["access_token"].as_str().unwrap().rsplit('.').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_nowhere_but_with_their_holders() {
    // Everything that our own code can say, and what the libraries say at `debug`.
    let spans = spans::Spans::start().await;
    let mut suite = Processes::start_traced(&spans.endpoint, "debug,legate=trace,legate_rpc=trace,legate_registry=trace,legate_credential_issuer=trace,legate_policy_decision=trace,legate_audit_collector=trace,legate_outbox=trace,legate_db=trace,legate_view=trace,legate_mtls=trace,legate_web=trace,legate_token=trace").await;
    let mut parties = suite.parties().await;
    let mut secrets = std::mem::take(&mut parties.secrets);
    let token = parties.runtime.token(AUDIENCE).await.unwrap().access_token;
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    secrets.extend([signature(&parties.shown.token), signature(&token)]);

    // Each is used, rightly and wrongly, so that every path that meets it has run.
    let mut errors = Vec::new();
    let spent = enrol(&suite.remote("credential-issuer"), &secrets[0]).await.unwrap_err();
    assert_eq!(spent.reason(), "ENROLMENT_TOKEN_SPENT");
    errors.push(spent.to_string());
    let mistyped = format!("{}x", secrets[0]);
    errors.push(enrol(&suite.remote("credential-issuer"), &mistyped).await.unwrap_err().to_string());
    ask(&parties.backend, question(&parties.shown, "invoice:read", "apollo/1")).await;
    for wrong in [format!("{token}x"), format!("x{token}"), token.replace('.', "")] {
        let shown = Shown { token: wrong, presenter: parties.shown.presenter };
        let answer = ask(&parties.backend, question(&shown, "invoice:read", "apollo/1")).await;
        errors.push(format!("{answer:?}"));
    }
    let other = Shown { token: token.clone(), presenter: [1; 32] };
    let known = ask(&parties.backend, question(&other, "invoice:read", "apollo/1")).await.decision_id;
    parties.runtime.renew().await.unwrap();
    let (shown, told) = over_https(&suite).await;
    secrets.extend(shown);
    errors.extend(told);
    suite.stop();

    let read = |path: &str| std::fs::read_to_string(suite.root().join(path)).unwrap();
    let mut private: Vec<String> = ["operator.key", "pki/services-ca.key", "registry/tls.key"].map(read).into();
    // Keys at rest are wrapped: not even in their own files is anything of them to be read.
    let layout = legate::dev::pki::Layout::new(suite.root());
    private.extend(["access-tokens", "jwt-svids", "workloads-ca"].map(|purpose| unwrapped(&layout, purpose)));
    for pem in private {
        let lines = pem.lines().filter(|line| !line.starts_with("--"));
        secrets.push(lines.max_by_key(|line| line.len()).unwrap().to_owned());
    }
    let digits = |text: &str| text.trim_end().rsplit(' ').next().unwrap().to_owned();
    secrets.push(digits(&read("pki/credential-issuer.kek")));
    secrets.push(digits(&read("pki/audit-collector.kek")));
    let kek = legate_credential_issuer::Kek::open(&layout.kek()).unwrap();
    let pepper = kek.unwrap("pepper", &read("credential-issuer/enrolment.pepper")).unwrap();
    secrets.push(digits(std::str::from_utf8(&pepper).unwrap()));
    let mut all = Vec::new();
    files(suite.root(), &mut all);
    for service in legate::dev::pki::SERVICES {
        all.push(suite.log_file(service));
    }
    let mut found = Vec::new();
    let mut is_looking = false;
    for path in all {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let is_theirs =
            ["operator.key", "services-ca.key", "tls.key", "log.key", "credential-issuer.kek", "audit-collector.kek"];
        if is_theirs.contains(&name.as_str()) {
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        // What is no secret is found: so a secret would be.
        is_looking |= text.contains(&known);
        for (number, secret) in secrets.iter().enumerate() {
            if text.contains(secret.as_str()) {
                found.push(format!("secret {number} in {name}"));
            }
        }
    }
    // The services have ended, and sent what they had.
    let exported = spans.text();
    assert!(
        exported.contains("credential-issuer"),
        "no span came of what issues, so the search is broken: {} bytes",
        exported.len()
    );
    for (number, secret) in secrets.iter().enumerate() {
        assert!(!exported.contains(secret.as_str()), "secret {number} in a span");
        assert!(secret.len() >= 32, "secret {number} is no secret");
        assert!(!errors.iter().any(|error| error.contains(secret.as_str())), "secret {number} in an error");
    }
    assert!(is_looking, "the decision {known} was found nowhere, so the search is broken");
    assert!(found.is_empty(), "{found:?}");
}
