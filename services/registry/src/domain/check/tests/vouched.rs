//! The rules of what tokens and brokers attest, and of other trust domains.

use super::*;

fn attestation_policy(change: impl FnOnce(&mut wire::AttestationPolicySpec)) -> Object {
    let mut sample = samples::attestation_policy();
    change(sample.spec.as_mut().unwrap());
    Object::AttestationPolicy(sample)
}

fn federated_trust_domain(change: impl FnOnce(&mut wire::FederatedTrustDomainSpec)) -> Object {
    let mut sample = samples::federated_trust_domain();
    change(sample.spec.as_mut().unwrap());
    Object::FederatedTrustDomain(sample)
}

fn taken(object: Object) {
    assert_eq!(check(&samples::declared(object)), []);
}

#[test]
fn attestation_by_tokens_and_brokers() {
    use wire::AttestationSelectorType as Type;
    const ISSUER: &str = "https://kubernetes.default.svc";
    let of = |all: &[(Type, &str)]| {
        let one =
            |(of, value): &(Type, &str)| wire::AttestationSelector { r#type: (*of).into(), value: (*value).into() };
        attestation_policy(|spec| spec.selectors = all.iter().map(one).collect())
    };
    for (claim, good, bad) in [
        (Type::KubernetesServiceAccount, "pay/bot.v1", &["bot", "/bot", "pay/", "a/b/c", "Pay/bot"][..]),
        (Type::KubernetesNamespace, "pay", &["", "a/b", "PAY"]),
        (
            Type::KubernetesPodUid,
            "123e4567-e89b-42d3-a456-426614174000",
            &["1", "123E4567-e89b-42d3-a456-426614174000"],
        ),
        (Type::OidcSubject, "system:serviceaccount:pay:bot", &[""]),
        (Type::OidcClaim, "kubernetes.io/node/name=worker-1", &["=x", "a=", "a", "/a=x", "a//b=x", " a=x"]),
    ] {
        taken(of(&[(Type::OidcIssuer, ISSUER), (claim, good)]));
        // Whose token it is has to be said, once; nobody would know otherwise which cluster is meant.
        refused(of(&[(claim, good)]), &["spec.selectors"]);
        refused(of(&[(Type::OidcIssuer, ISSUER), (Type::OidcIssuer, "https://b"), (claim, good)]), &["spec.selectors"]);
        for bad in bad.iter().copied().chain([&*"/".repeat(513)]) {
            refused(of(&[(Type::OidcIssuer, ISSUER), (claim, bad)]), &["spec.selectors[1].value"]);
        }
    }
    refused(of(&[(Type::OidcIssuer, ISSUER), (Type::UnixUid, "1000")]), &["spec.selectors"]);
    for bad in ["http://a", "https://a?b", "a", "https://A"] {
        refused(of(&[(Type::OidcIssuer, bad), (Type::OidcSubject, "a")]), &["spec.selectors[0].value"]);
    }
    taken(of(&[(Type::BrokerAgent, "launcher"), (Type::BrokerSandbox, "run-1")]));
    refused(of(&[(Type::BrokerSandbox, "run-1")]), &["spec.selectors"]);
    refused(of(&[(Type::BrokerAgent, "a"), (Type::BrokerAgent, "b")]), &["spec.selectors"]);
    refused(of(&[(Type::BrokerAgent, "invoice-bot")]), &["spec.selectors"]);
    refused(of(&[(Type::BrokerAgent, "a"), (Type::BrokerSandbox, "run 1")]), &["spec.selectors[1].value"]);
}

#[test]
fn federated_trust_domains() {
    taken(federated_trust_domain(|_| {}));
    taken(federated_trust_domain(|spec| (spec.endpoint, spec.refresh) = (None, None)));
    taken(federated_trust_domain(|spec| {
        spec.bundle.clear();
        spec.endpoint =
            Some(wire::BundleEndpoint { url: "https://partner.example/b".into(), spiffe_id: String::new() });
    }));
    for bad in ["", "Partner", "spiffe://partner.example", "a/b", &"x".repeat(256)] {
        let only = |spec: &mut wire::FederatedTrustDomainSpec| {
            (spec.trust_domain, spec.endpoint, spec.refresh) = (bad.into(), None, None);
        };
        refused(federated_trust_domain(only), &["spec.trust_domain"]);
    }
    let with_bundle = |text: &str| federated_trust_domain(|spec| spec.bundle = text.into());
    let private = r#"{"keys":[{"kty":"EC","d":"AA"}]}"#;
    for bad in ["x", "[]", "{}", r#"{"keys":{}}"#, private, &format!("{{\"keys\":[\"{}\"]}}", "x".repeat(65_536))] {
        refused(with_bundle(bad), &["spec.bundle"]);
    }
    let with_url = |url: &str| federated_trust_domain(|spec| spec.endpoint.as_mut().unwrap().url = url.into());
    for bad in ["", "http://a", "https://a@b/", "https://a#b"] {
        refused(with_url(bad), &["spec.endpoint.url"]);
    }
    let with_id = |id: &str| federated_trust_domain(|spec| spec.endpoint.as_mut().unwrap().spiffe_id = id.into());
    for bad in ["partner", "spiffe://other.example/x", "spiffe://partner.example/../x"] {
        refused(with_id(bad), &["spec.endpoint.spiffe_id"]);
    }
    refused(federated_trust_domain(|spec| spec.bundle.clear()), &["spec.bundle"]);
    refused(
        federated_trust_domain(|spec| spec.refresh = Some(prost_types::Duration { seconds: 59, nanos: 0 })),
        &["spec.refresh"],
    );
    refused(federated_trust_domain(|spec| spec.endpoint = None), &["spec.refresh"]);
    let nothing = |spec: &mut wire::FederatedTrustDomainSpec| {
        (spec.bundle, spec.endpoint, spec.refresh) = (String::new(), None, None);
    };
    refused(federated_trust_domain(nothing), &["spec.endpoint"]);
    for bad in ["payments", "Platform"] {
        refused(federated_trust_domain(|spec| spec.namespaces = vec![bad.into()]), &["spec.namespaces[0]"]);
    }
    refused(federated_trust_domain(|spec| spec.namespaces.push("platform".into())), &["spec.namespaces[1]"]);
    refused(
        federated_trust_domain(|spec| spec.namespaces = (0..65).map(|n| format!("n{n}")).collect()),
        &["spec.namespaces"],
    );
}
