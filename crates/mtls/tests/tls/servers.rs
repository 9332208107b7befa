//! Servers that a client of ours may talk to, and those that it may not.

use std::net::SocketAddr;

use legate_ids::{Name, SpiffeId};
use legate_mtls::{Expect, Identity, Limits, Listener, Trust, connector};
use rcgen::{ExtendedKeyUsagePurpose, SanType};

use crate::house::{House, good, identity, issue};

/// Whether a client that expects `expect` talks to a server with this certificate.
async fn talks(house: &House, server: Identity, trust: Trust, expect: Expect) -> bool {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(any, server, house.trust(), house.time(), Limits::default()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let _incoming = listener.into_incoming();
    let client = connector(Identity::anonymous(), trust, expect, house.time()).unwrap();
    client.connect(&addr.to_string()).await.is_ok()
}

#[tokio::test]
async fn a_server_is_known_by_its_spiffe_id() {
    let house = House::new();
    let registry = || identity(&house.service("registry"));
    let id = house.service_id("registry");
    let operator = SpiffeId::operator(&house.domain, &Name::parse("alice").unwrap());
    let operator_cert = || identity(&issue(&house.services, good(&operator, house.now())));
    let agent = || identity(&house.agent(crate::house::HOUR));
    for (server, expect, good) in [
        (registry(), Expect::Service("registry"), true),
        (registry(), Expect::AnyService, true),
        (registry(), Expect::Exactly(id.clone()), true),
        (registry(), Expect::Service("policy-decision"), false),
        (registry(), Expect::Exactly(house.service_id("policy-decision")), false),
        (operator_cert(), Expect::AnyService, false),
        (operator_cert(), Expect::Service("alice"), false),
        (agent(), Expect::AnyService, false),
        // Servers are services: not even an agent that is expected by its id is one.
        (agent(), Expect::Exactly(house.agent_id()), false),
    ] {
        assert_eq!(talks(&house, server, house.trust(), expect.clone()).await, good, "{expect:?}");
    }
}

#[tokio::test]
async fn spoilt_servers_are_refused() {
    let house = House::new();
    let id = house.service_id("registry");
    let make = |spoil: &dyn Fn(&mut rcgen::CertificateParams)| {
        let mut params = good(&id, house.now());
        spoil(&mut params);
        params
    };
    let uri = |u: &str| SanType::URI(u.try_into().unwrap());
    let expect = || Expect::Service("registry");
    assert!(talks(&house, identity(&issue(&house.services, make(&|_| ()))), house.trust(), expect()).await);
    for (what, issued) in [
        ("the workloads' CA", issue(&house.workloads, make(&|_| ()))),
        ("another CA", issue(&House::new().services, make(&|_| ()))),
        (
            "two ids",
            issue(
                &house.services,
                make(&|p| p.subject_alt_names.push(uri("spiffe://example.org/legate/policy-decision"))),
            ),
        ),
        (
            "another trust domain",
            issue(&house.services, make(&|p| p.subject_alt_names = vec![uri("spiffe://example.com/legate/registry")])),
        ),
        (
            "a DNS name only",
            issue(
                &house.services,
                make(&|p| p.subject_alt_names = vec![SanType::DnsName("registry".try_into().unwrap())]),
            ),
        ),
        (
            "clientAuth only",
            issue(&house.services, make(&|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])),
        ),
        ("no extended key usage", issue(&house.services, make(&|p| p.extended_key_usages.clear()))),
    ] {
        assert!(!talks(&house, identity(&issued), house.trust(), expect()).await, "{what}");
    }
    let registry = identity(&house.service("registry"));
    house.clock.advance(crate::house::HOUR * 2);
    assert!(!talks(&house, registry, house.trust(), expect()).await, "expired");
}

#[tokio::test]
async fn nobody_answers_in_time() {
    // A socket that accepts in the kernel and never speaks.
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let house = House::new();
    let client = house.client(Identity::anonymous());
    let error = client.connect(&tcp.local_addr().unwrap().to_string()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}
