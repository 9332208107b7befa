//! Tokens of issuers outside, over real TLS on both sides: an agent enrols by one, an operator logs in by one.

use legate_client::{Runtime, enrol_with_identity_token, login};
use legate_ids::{AgentId, Name, SpiffeId};
use legate_mtls::Identity;
use legate_mtls::pki::Ca;
use legate_rpc::Told;
use legate_wire::audit::QueryEventsRequest;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::credential::RevokeCredentialRequest;
use legate_wire::credential::credential_admin_service_client::CredentialAdminServiceClient;
use legate_wire::registry::claim_rule::StandsFor;
use legate_wire::registry::declaration::Object;
use legate_wire::registry::declaration_service_client::DeclarationServiceClient;
use legate_wire::registry::operator_service_client::OperatorServiceClient;
use legate_wire::registry::{
    ApplyDeclarationsRequest, ClaimRule, CredentialMethod, CredentialPolicy, CredentialPolicySpec, Declaration,
    GetOwnRolesRequest, Kind, ListDeclarationsRequest, Metadata, OperatorBinding, OperatorBindingSpec, OperatorRole,
    RevokeDeclarationRequest, TrustedIssuer, TrustedIssuerSpec,
};
use serde_json::json;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::blessed::{read, root};
use crate::outside::Outside;
use crate::raised::{AUDIENCE, LONG, Raised, certify, unwrapped};

/// A suite that believes the issuer: in its configuration for operators, by declaration for agents.
async fn believing(outside: &Outside) -> Raised {
    let (issuer, keys, ca) = (outside.issuer(), outside.jwks_uri(), outside.ca());
    Raised::with_federation(&format!(
        "[federation]\nallow_private = [\"127.0.0.0/8\", \"::1/128\"]\nca = {ca:?}\n\n\
         [operators]\ncertificate_seconds = 600\n\n\
         [[operators.providers]]\nname = \"ci\"\nissuer = {issuer:?}\naudiences = [\"legate-operators\"]\njwks_uri = {keys:?}\n\n\
         [[operators.providers.rules]]\nclaims = {{ repository = \"pay/agents\", ref = \"refs/heads/main\" }}\noperator = \"ci-apply\"\n"
    ))
    .await
}

fn metadata(namespace: &str, name: &str) -> Option<Metadata> {
    Some(Metadata { namespace: namespace.into(), name: name.into(), ..Metadata::default() })
}

/// The example, whose class lists tokens of trusted issuers, and an issuer whose `pay/bot` is its agent.
fn declared(outside: &Outside) -> Vec<Declaration> {
    let documents = legate::manifest::load(&[root().join("deploy/examples/invoice.yaml")]).unwrap();
    let mut all: Vec<Declaration> = documents.into_iter().map(|document| document.declaration).collect();
    for declaration in &mut all {
        if let Some(Object::AgentClass(class)) = &mut declaration.object {
            class.spec.as_mut().unwrap().credential_policy = "federated".into();
        }
    }
    let rule = ClaimRule {
        claims: [("sub".to_owned(), "repo:pay/bot".to_owned())].into(),
        stands_for: Some(StandsFor::Agent("invoice-bot".into())),
        groups_claim: String::new(),
    };
    let policy = Object::CredentialPolicy(CredentialPolicy {
        metadata: metadata("payments", "federated"),
        spec: Some(CredentialPolicySpec {
            methods: vec![CredentialMethod::TrustedIssuer.into()],
            ..CredentialPolicySpec::default()
        }),
    });
    let issuer = Object::TrustedIssuer(TrustedIssuer {
        metadata: metadata("payments", "ci"),
        spec: Some(TrustedIssuerSpec {
            issuer: outside.issuer(),
            audiences: vec!["legate".into()],
            jwks_uri: outside.jwks_uri(),
            rules: vec![rule],
            ..TrustedIssuerSpec::default()
        }),
    });
    all.extend([policy, issuer].map(|object| Declaration { object: Some(object) }));
    all
}

#[allow(clippy::result_large_err, reason = "a test tells a refusal whole, and seldom")]
async fn apply(raised: &Raised, who: Identity, declarations: Vec<Declaration>) -> Result<u64, Told> {
    let request = ApplyDeclarationsRequest { declarations, reason: "a test".into(), ..Default::default() };
    let mut registry = DeclarationServiceClient::new(raised.dial("registry", who));
    let applied = registry.apply_declarations(request).await;
    applied.map(|answer| answer.into_inner().revision).map_err(|status| Told::from_status(&status))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_enrols_with_a_token_of_an_issuer_that_its_namespace_trusts() {
    let outside = Outside::new().await;
    let raised = believing(&outside).await;
    apply(&raised, raised.suite.operator().unwrap(), declared(&outside)).await.unwrap();
    let issuer = raised.remote("credential-issuer");
    let token = outside.token("legate", &json!({"sub": "repo:pay/bot", "jti": "run-1"}));
    let enrolled = enrol_with_identity_token(&issuer, "payments", &token).await.unwrap();
    let agent = raised.agent().await;
    assert_eq!(enrolled.credential.agent_id, crate::raised::id_of(&agent));
    // It is that agent from there on: it renews, and obtains tokens.
    let runtime = Runtime::new(&issuer, enrolled.identity().unwrap()).unwrap();
    runtime.token(AUDIENCE).await.unwrap();
    runtime.renew().await.unwrap();

    for (token, namespace, reason) in [
        (token, "payments", "IDENTITY_TOKEN_SPENT"),
        (outside.token("legate", &json!({"sub": "repo:pay/other"})), "payments", "IDENTITY_TOKEN_UNMATCHED"),
        (outside.token("legate-operators", &json!({"sub": "repo:pay/bot"})), "payments", "ISSUER_NOT_TRUSTED"),
        (outside.token("legate", &json!({"sub": "repo:pay/bot"})), "elsewhere", "ISSUER_NOT_TRUSTED"),
        (Outside::new().await.token("legate", &json!({"sub": "repo:pay/bot"})), "payments", "ISSUER_NOT_TRUSTED"),
    ] {
        let refused = enrol_with_identity_token(&issuer, namespace, &token).await.unwrap_err();
        assert_eq!(refused.reason(), reason, "{namespace}");
    }
    // What an agent is enrolled with makes nobody an operator.
    let refused = login(&issuer, &outside.token("legate", &json!({"repository": "pay/agents"}))).await.unwrap_err();
    assert_eq!(refused.reason(), "LOGIN_REFUSED");

    // The evidence is in the log.
    let id = enrolled.credential.id.clone();
    let mut audit = QueryServiceClient::new(raised.operator("audit-collector"));
    let found = async {
        loop {
            let ask = QueryEventsRequest { r#type: "credential.issued".into(), ..QueryEventsRequest::default() };
            let events = audit.query_events(ask).await.unwrap().into_inner().events;
            let of_ours = events.into_iter().filter_map(|e| e.event).find(|e| e.credential_id == id);
            if let Some(event) = of_ours {
                return event;
            }
            tokio::task::yield_now().await;
        }
    };
    let event = tokio::time::timeout(LONG, found).await.unwrap();
    assert_eq!(event.details.get("token_subject").map(String::as_str), Some("repo:pay/bot"));
    assert_eq!(event.details.get("token_id").map(String::as_str), Some("run-1"));
    raised.suite.shutdown().await;
}

fn main_branch() -> serde_json::Value {
    json!({"sub": "x", "repository": "pay/agents", "ref": "refs/heads/main"})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_logs_in_and_has_the_rights_that_are_declared_of_his_name() {
    let outside = Outside::new().await;
    let raised = believing(&outside).await;
    let admin = raised.suite.operator().unwrap();
    apply(&raised, admin.clone(), declared(&outside)).await.unwrap();
    let issuer = raised.remote("credential-issuer");
    let refused = json!({"sub": "x", "repository": "pay/agents", "ref": "refs/heads/feature"});
    let refused = login(&issuer, &outside.token("legate-operators", &refused)).await.unwrap_err();
    assert_eq!(refused.reason(), "LOGIN_REFUSED");
    let token = outside.token("legate-operators", &main_branch());
    let logged_in = login(&issuer, &token).await.unwrap();
    assert_eq!(logged_in.credential.spiffe_id, "spiffe://dev.legate/legate/operator/ci-apply");
    assert_eq!(login(&issuer, &token).await.unwrap_err().reason(), "IDENTITY_TOKEN_SPENT");
    let us = logged_in.identity().unwrap();

    // Every service believes it, as soon as it has read the new CA's file.
    for service in ["registry", "credential-issuer", "policy-decision", "audit-collector"] {
        let believed = async {
            loop {
                let mut health = HealthClient::new(raised.dial(service, us.clone()));
                if health.check(HealthCheckRequest::default()).await.is_ok() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, believed).await.unwrap_or_else(|_| panic!("{service} does not believe it"));
    }

    // The certificate gives nothing; a binding does, and only as long as it is there.
    let mut own = OperatorServiceClient::new(raised.dial("registry", us.clone()));
    let roles = own.get_own_roles(GetOwnRolesRequest {}).await.unwrap().into_inner();
    assert!(roles.roles.is_empty() && roles.spiffe_id.ends_with("/operator/ci-apply"));
    let told = apply(&raised, us.clone(), declared(&outside)).await.unwrap_err();
    assert_eq!(told.reason, "OPERATOR_NOT_PERMITTED");
    let binding = Object::OperatorBinding(OperatorBinding {
        metadata: metadata("payments", "pipeline"),
        spec: Some(OperatorBindingSpec {
            operators: vec!["ci-apply".into()],
            role: OperatorRole::Editor.into(),
            ..OperatorBindingSpec::default()
        }),
    });
    apply(&raised, admin.clone(), vec![Declaration { object: Some(binding) }]).await.unwrap();
    // What is of the namespace; the namespace itself is not an editor's.
    let inside =
        || declared(&outside).into_iter().filter(|d| !matches!(d.object, Some(Object::Namespace(_)))).collect();
    apply(&raised, us.clone(), inside()).await.unwrap();
    let revoke = RevokeDeclarationRequest {
        kind: Kind::OperatorBinding.into(),
        namespace: "payments".into(),
        name: "pipeline".into(),
        reason: "a test".into(),
        ..RevokeDeclarationRequest::default()
    };
    let mut registry = DeclarationServiceClient::new(raised.operator("registry"));
    registry.revoke_declaration(revoke).await.unwrap();
    assert_eq!(apply(&raised, us.clone(), inside()).await.unwrap_err().reason, "OPERATOR_NOT_PERMITTED");

    // Taken back, it is refused at once.
    let mut admins = CredentialAdminServiceClient::new(raised.operator("credential-issuer"));
    let revoke = RevokeCredentialRequest {
        credential_id: logged_in.credential.id.clone(),
        comment: "a test".into(),
        ..RevokeCredentialRequest::default()
    };
    admins.revoke_credential(revoke).await.unwrap();
    let list = ListDeclarationsRequest { kind: Kind::Role.into(), ..ListDeclarationsRequest::default() };
    let mut revoked = DeclarationServiceClient::new(raised.dial("registry", us));
    let told = Told::from_status(&revoked.list_declarations(list).await.unwrap_err());
    assert_eq!(told.reason, "CALLER_REVOKED");
    raised.suite.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_ca_certifies_nobody_else() {
    let outside = Outside::new().await;
    let raised = believing(&outside).await;
    let issuer = raised.remote("credential-issuer");
    let believed = login(&issuer, &outside.token("legate-operators", &main_branch())).await.unwrap();
    let accepts = async |who: Identity| {
        HealthClient::new(raised.dial("credential-issuer", who)).check(HealthCheckRequest::default()).await.is_ok()
    };
    assert!(accepts(believed.identity().unwrap()).await);
    let layout = raised.suite.layout();
    let read = |path| std::fs::read_to_string(path).unwrap();
    let ca = Ca::from_pem(&read(layout.operators_ca()), &unwrapped(layout, "operators-ca")).unwrap();
    let domain = raised.suite.domain();
    let name = |text: &str| Name::parse(text).unwrap();
    assert!(accepts(certify(&ca, &SpiffeId::operator(domain, &name("ada")))).await);
    for id in [
        SpiffeId::service(domain, &name("registry")),
        SpiffeId::service(domain, &name("policy-decision")),
        SpiffeId::agent(domain, &name("payments"), &AgentId::from_parts(1, [7; 10])),
        SpiffeId::enforcer(domain, &name("payments"), &name("invoices")),
    ] {
        assert!(!accepts(certify(&ca, &id)).await, "{id}");
    }
    raised.suite.shutdown().await;
}

/// The blocks of a page in one language.
fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    let begin = format!("```{language}\n");
    page.split(begin.as_str()).skip(1).filter_map(|rest| rest.split_once("\n```")).map(|(block, _)| block).collect()
}

#[test]
fn every_manifest_and_setting_of_the_page_is_one() {
    let page = read("docs/federation.md");
    let dir = tempfile::tempdir().unwrap();
    let manifests = blocks(&page, "yaml");
    assert!(manifests.len() >= 4, "{}", manifests.len());
    for (n, manifest) in manifests.iter().enumerate() {
        let path = dir.path().join(format!("{n}.yaml"));
        std::fs::write(&path, manifest).unwrap();
        legate::manifest::load(&[path]).unwrap_or_else(|e| panic!("{manifest}\n{e}"));
    }
    let settings = blocks(&page, "toml");
    assert_eq!(settings.len(), 1);
    let (tls, rest) = settings[0].split_once("\n[operators]\n").unwrap();
    let sample = read("deploy/config/credential-issuer.toml");
    let operators_ca = tls.strip_prefix("[tls]\n").unwrap();
    let sample = sample.replace("[tls]\n", &format!("[tls]\n{operators_ca}\n")).replace("[operators]\n", "");
    let path = dir.path().join("credential-issuer.toml");
    std::fs::write(&path, format!("{sample}\n[operators]\n{rest}\n")).unwrap();
    let config: legate_credential_issuer::Config = legate_boot::config::load(&path).unwrap();
    config.check().unwrap();
    assert_eq!(config.operators.providers.len(), 2);
}
