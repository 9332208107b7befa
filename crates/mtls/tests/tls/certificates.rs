//! Certificates that a client may show us, and those that it may not.

use std::time::Duration;

use legate_ids::{Name, Principal, SpiffeId};
use legate_mtls::{CaTexts, Identity, Limits, Listener, Trust};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::UnixTime;

use crate::house::{HOUR, House, good, identity, issue, seen};

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Services,
    Workloads,
    Operators,
}

/// What the library's own verifier says of the same certificate, when it trusts all CAs.
fn library_accepts(house: &House, cert_pem: &str) -> bool {
    let mut roots = RootCertStore::empty();
    for ca in [&house.services, &house.workloads, &house.operators] {
        roots.add(legate_mtls::pki::certificates(ca.cert_pem()).unwrap().remove(0)).unwrap();
    }
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
    let leaf = legate_mtls::pki::certificates(cert_pem).unwrap().remove(0);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(house.now().secs().unsigned_abs()));
    verifier.verify_client_cert(&leaf, &[], now).is_ok()
}

fn uris(params: &mut CertificateParams, uris: &[&str]) {
    params.subject_alt_names = uris.iter().map(|u| SanType::URI((*u).try_into().unwrap())).collect();
}

fn at(house: &House, from: i64, until: i64) -> (time::OffsetDateTime, time::OffsetDateTime) {
    let time = |s| time::OffsetDateTime::from_unix_timestamp(house.now().secs() + s).unwrap();
    (time(from), time(until))
}

const LIBRARY_ACCEPTS: bool = true;
const LIBRARY_REFUSES: bool = false;

type Spoil<'a> = Box<dyn Fn(&mut CertificateParams) + 'a>;

fn spoilt(house: &House) -> Vec<(&'static str, By, bool, Spoil<'_>)> {
    const DAY: i64 = 24 * 3_600;
    let registry = "spiffe://example.org/legate/registry";
    let agent = house.agent_id().to_string();
    let (agent_too, by_operators) = (agent.clone(), agent.clone());
    let long = format!("spiffe://example.org/{}", "a".repeat(2_048));
    let mut rows: Vec<(&'static str, By, bool, Spoil<'_>)> = vec![
        (
            "two URI names",
            By::Services,
            LIBRARY_ACCEPTS,
            Box::new(move |p| uris(p, &[registry, "spiffe://example.org/legate/operator/root"])),
        ),
        ("the same URI name twice", By::Services, LIBRARY_ACCEPTS, Box::new(move |p| uris(p, &[registry, registry]))),
        ("no name at all", By::Services, LIBRARY_ACCEPTS, Box::new(|p| p.subject_alt_names.clear())),
        (
            "only CN=admin",
            By::Services,
            LIBRARY_ACCEPTS,
            Box::new(|p| {
                p.subject_alt_names.clear();
                p.distinguished_name.push(DnType::CommonName, "admin");
            }),
        ),
        (
            "only a DNS name",
            By::Services,
            LIBRARY_ACCEPTS,
            Box::new(|p| {
                p.subject_alt_names = vec![SanType::DnsName("registry".try_into().unwrap())];
            }),
        ),
        (
            "another trust domain",
            By::Services,
            LIBRARY_ACCEPTS,
            Box::new(|p| uris(p, &["spiffe://example.com/legate/registry"])),
        ),
        (
            "a longer trust domain",
            By::Services,
            LIBRARY_ACCEPTS,
            Box::new(|p| uris(p, &["spiffe://example.org.evil/legate/registry"])),
        ),
        (
            "an id of ours that names nobody",
            By::Services,
            LIBRARY_ACCEPTS,
            Box::new(|p| uris(p, &["spiffe://example.org/legate"])),
        ),
        ("more than 2048 bytes", By::Services, LIBRARY_ACCEPTS, Box::new(move |p| uris(p, &[&long]))),
        ("an agent by the services' CA", By::Services, LIBRARY_ACCEPTS, Box::new(move |p| uris(p, &[&agent]))),
        (
            "an enforcement point by the services' CA",
            By::Services,
            LIBRARY_ACCEPTS,
            Box::new(|p| uris(p, &["spiffe://example.org/ns/payments/enforcer/api"])),
        ),
        ("a service by the workloads' CA", By::Workloads, LIBRARY_ACCEPTS, Box::new(move |p| uris(p, &[registry]))),
        (
            "an operator by the workloads' CA",
            By::Workloads,
            LIBRARY_ACCEPTS,
            Box::new(|p| uris(p, &["spiffe://example.org/legate/operator/root"])),
        ),
        (
            "a workload with a DNS name",
            By::Workloads,
            LIBRARY_ACCEPTS,
            Box::new(|p| p.subject_alt_names.push(SanType::DnsName("localhost".try_into().unwrap()))),
        ),
        (
            "a workload with an address",
            By::Workloads,
            LIBRARY_ACCEPTS,
            Box::new(|p| p.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()))),
        ),
        (
            "a service with a mail address",
            By::Services,
            LIBRARY_ACCEPTS,
            Box::new(|p| p.subject_alt_names.push(SanType::Rfc822Name("a@b".try_into().unwrap()))),
        ),
        ("no extended key usage", By::Services, LIBRARY_ACCEPTS, Box::new(|p| p.extended_key_usages.clear())),
        (
            "serverAuth only",
            By::Services,
            LIBRARY_REFUSES,
            Box::new(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        (
            "any extended key usage",
            By::Services,
            LIBRARY_REFUSES,
            Box::new(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any]),
        ),
        ("no key usage", By::Services, LIBRARY_ACCEPTS, Box::new(|p| p.key_usages.clear())),
        ("keyCertSign", By::Workloads, LIBRARY_ACCEPTS, Box::new(|p| p.key_usages.push(KeyUsagePurpose::KeyCertSign))),
        ("cRLSign", By::Workloads, LIBRARY_ACCEPTS, Box::new(|p| p.key_usages.push(KeyUsagePurpose::CrlSign))),
        (
            "keyEncipherment and no digitalSignature",
            By::Services,
            LIBRARY_ACCEPTS,
            Box::new(|p| p.key_usages = vec![KeyUsagePurpose::KeyEncipherment]),
        ),
        ("no basic constraints", By::Services, LIBRARY_ACCEPTS, Box::new(|p| p.is_ca = IsCa::NoCa)),
        ("CA:TRUE", By::Workloads, LIBRARY_REFUSES, Box::new(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))),
        ("expired", By::Workloads, LIBRARY_REFUSES, Box::new(|p| (p.not_before, p.not_after) = at(house, -3_600, -1))),
        (
            "not yet valid",
            By::Workloads,
            LIBRARY_REFUSES,
            Box::new(|p| (p.not_before, p.not_after) = at(house, 60, 3_600)),
        ),
        (
            "a workload for two days",
            By::Workloads,
            LIBRARY_ACCEPTS,
            Box::new(|p| (p.not_before, p.not_after) = at(house, 0, 2 * DAY)),
        ),
        (
            "a service for 91 days",
            By::Services,
            LIBRARY_ACCEPTS,
            Box::new(|p| (p.not_before, p.not_after) = at(house, 0, 91 * DAY)),
        ),
        (
            "a service for 20 years",
            By::Services,
            LIBRARY_ACCEPTS,
            Box::new(|p| (p.not_before, p.not_after) = at(house, 0, 20 * 365 * DAY)),
        ),
        ("a service by the operators' CA", By::Operators, LIBRARY_ACCEPTS, Box::new(move |p| uris(p, &[registry]))),
        ("an agent by the operators' CA", By::Operators, LIBRARY_ACCEPTS, Box::new(move |p| uris(p, &[&by_operators]))),
        (
            "an enforcement point by the operators' CA",
            By::Operators,
            LIBRARY_ACCEPTS,
            Box::new(|p| uris(p, &["spiffe://example.org/ns/payments/enforcer/api"])),
        ),
        (
            "an operator's folder, and a service of that name",
            By::Operators,
            LIBRARY_ACCEPTS,
            Box::new(|p| uris(p, &["spiffe://example.org/legate/operator"])),
        ),
        (
            "an operator of another trust domain",
            By::Operators,
            LIBRARY_ACCEPTS,
            Box::new(|p| uris(p, &["spiffe://example.com/legate/operator/ada"])),
        ),
        (
            "an operator who logged in with a DNS name",
            By::Operators,
            LIBRARY_ACCEPTS,
            Box::new(|p| p.subject_alt_names.push(SanType::DnsName("localhost".try_into().unwrap()))),
        ),
        (
            "an operator who logged in for two hours",
            By::Operators,
            LIBRARY_ACCEPTS,
            Box::new(|p| (p.not_before, p.not_after) = at(house, 0, 7_200)),
        ),
        (
            "an operator who logged in, expired",
            By::Operators,
            LIBRARY_REFUSES,
            Box::new(|p| (p.not_before, p.not_after) = at(house, -3_600, -1)),
        ),
        (
            "a copy of an agent's id with another's below it",
            By::Workloads,
            LIBRARY_ACCEPTS,
            Box::new(move |p| uris(p, &[&format!("{agent_too}/root")])),
        ),
    ];
    for uri in [
        "SPIFFE://example.org/legate/registry",
        "spiffe://EXAMPLE.org/legate/registry",
        "spiffe://user@example.org/legate/registry",
        "spiffe://example.org:443/legate/registry",
        "spiffe://example.org/legate/registry?x=y",
        "spiffe://example.org/legate/registry#x",
        "spiffe://example.org/ns/%2e%2e/legate/registry",
        "spiffe://example.org/ns/../legate/registry",
        "spiffe://example.org/./legate/registry",
        "spiffe://example.org//legate/registry",
        "spiffe://example.org/legate//registry",
        "spiffe://example.org/legate/registry/",
        "spiffe://example.org/legate/registry\0",
        "spiffe://example.org/legate/registry\0.evil",
        "spiffe://example.org/legate/registry,spiffe://example.org/legate/operator/root",
        "spiffe://example.org/legate/registry ",
        "https://example.org/legate/registry",
        "spiffe://example.org",
        "registry",
    ] {
        rows.push((uri, By::Services, LIBRARY_ACCEPTS, Box::new(move |p| uris(p, &[uri]))));
    }
    rows
}

#[tokio::test]
async fn every_spoilt_certificate_is_refused() {
    let house = House::new();
    let service = good(&house.service_id("registry"), house.now());
    let agent = good(&house.agent_id(), house.now());
    let operator = good(&SpiffeId::operator(&house.domain, &Name::parse("ada").unwrap()), house.now());
    for (what, by, library, spoil) in spoilt(&house) {
        let (ca, good) = match by {
            By::Services => (&house.services, &service),
            By::Workloads => (&house.workloads, &agent),
            By::Operators => (&house.operators, &operator),
        };
        // The row is about the spoilt part alone: without it the same certificate gets in.
        assert!(seen(&house, identity(&issue(ca, good.clone()))).await.is_some(), "{what}: unspoilt");
        let mut params = good.clone();
        spoil(&mut params);
        let issued = issue(ca, params);
        assert_eq!(library_accepts(&house, &issued.cert_pem), library, "{what}: the library");
        assert!(seen(&house, identity(&issued)).await.is_none(), "{what}");
    }
}

#[tokio::test]
async fn strangers_certificates_are_refused() {
    let house = House::new();
    let stranger = House::new();
    let theirs = identity(&stranger.service("registry"));
    assert!(seen(&house, theirs).await.is_none(), "a CA of the same name with another key");
    let params = good(&house.service_id("registry"), house.now());
    let key = rcgen::KeyPair::generate().unwrap();
    let own = params.self_signed(&key).unwrap();
    assert!(seen(&house, Identity::from_pem(&own.pem(), &key.serialize_pem()).unwrap()).await.is_none(), "self-signed");
}

#[tokio::test]
async fn good_certificates_name_their_bearers() {
    let house = House::new();
    let name = |n: &str| Name::parse(n).unwrap();
    let operator = SpiffeId::operator(&house.domain, &name("alice"));
    let enforcer = SpiffeId::enforcer(&house.domain, &name("payments"), &name("api"));

    for ca in [&house.services, &house.operators] {
        let peer = seen(&house, identity(&issue(ca, good(&operator, house.now())))).await.unwrap();
        assert_eq!(peer.principal, Some(Principal::Operator(name("alice"))));
    }
    let peer = seen(&house, identity(&issue(&house.workloads, good(&enforcer, house.now())))).await.unwrap();
    assert_eq!(peer.principal, Some(Principal::Enforcer { namespace: name("payments"), name: name("api") }));

    let issued = house.agent(HOUR);
    let peer = seen(&house, identity(&issued)).await.unwrap();
    assert!(matches!(peer.principal, Some(Principal::Agent { .. })));
    assert_eq!(peer.not_after, house.now().plus(HOUR));
    assert_eq!(Some(peer.x5t_s256), identity(&issued).x5t_s256());
    assert_eq!(peer.serial.len(), 16);

    let peer = seen(&house, Identity::anonymous()).await.unwrap();
    assert_eq!((peer.principal, peer.spiffe_id, peer.x5t_s256), (None, None, [0; 32]));
}

#[tokio::test]
async fn the_longest_certificates_that_we_make_get_in() {
    let house = House::new();
    let (service, agent) = (house.service_id("registry"), house.agent_id());
    let operator = SpiffeId::operator(&house.domain, &Name::parse("ada").unwrap());
    for (ca, id, ttl) in [
        (&house.services, &service, HOUR * 24 * 90),
        (&house.workloads, &agent, HOUR * 24),
        (&house.operators, &operator, HOUR),
    ] {
        let leaf = legate_mtls::pki::Leaf { spiffe_id: id, dns: &[], ips: &[], ttl };
        let issued = ca.issue(&leaf, house.now()).unwrap();
        assert!(seen(&house, identity(&issued)).await.is_some(), "{id}");
    }
}

#[tokio::test]
async fn only_the_services_ca_certifies_servers() {
    let house = House::new();
    let registry = good(&house.service_id("registry"), house.now());
    for (ca, accepted) in [(&house.services, true), (&house.workloads, false), (&house.operators, false)] {
        let any = "127.0.0.1:0".parse().unwrap();
        let server = identity(&issue(ca, registry.clone()));
        let listener = Listener::bind(any, server, house.trust(), house.time(), Limits::default()).await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let _incoming = listener.into_incoming();
        assert_eq!(house.client(Identity::anonymous()).connect(&addr).await.is_ok(), accepted);
    }
}

#[test]
fn a_ca_stands_in_one_class_only() {
    let house = House::new();
    let (services, workloads, operators) =
        (house.services.cert_pem(), house.workloads.cert_pem(), house.operators.cert_pem());
    let both = format!("{operators}{workloads}");
    for (workloads, operators) in [
        (Some(services), None),
        (None, Some(services)),
        (Some(workloads), Some(workloads)),
        (Some(workloads), Some(both.as_str())),
        (Some(both.as_str()), Some(operators)),
    ] {
        let texts = CaTexts { services, workloads, operators };
        let why = Trust::from_texts(house.domain.clone(), texts).unwrap_err().to_string();
        assert!(why.contains("the same CA"), "{why}");
    }
}
