//! The files of a service: whose certificate, whose eyes, and what is said when something is wrong.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use legate_boot::config::Tls;
use legate_boot::{Context, Party};
use legate_ids::{Name, SpiffeId, TrustDomain};
use legate_mtls::pki::{Ca, Leaf, write_private, write_public};

const HOUR: Duration = Duration::from_secs(3_600);

/// A folder with the certificate of the service called `name`.
fn files(dir: &Path, ctx: &Context, name: &str) -> Tls {
    let now = ctx.clock.now();
    let domain = TrustDomain::parse("example.org").unwrap();
    let ca = Ca::generate("services", now, HOUR * 24).unwrap();
    let id = SpiffeId::service(&domain, &Name::parse(name).unwrap());
    let issued = ca.issue(&Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: HOUR }, now).unwrap();
    write_public(&dir.join("cert.pem"), &issued.cert_pem).unwrap();
    write_private(&dir.join("key.pem"), &issued.key_pem).unwrap();
    write_public(&dir.join("services-ca.pem"), ca.cert_pem()).unwrap();
    Tls {
        trust_domain: "example.org".into(),
        cert: dir.join("cert.pem"),
        key: dir.join("key.pem"),
        services_ca: dir.join("services-ca.pem"),
        workloads_ca: None,
        operators_ca: None,
    }
}

#[tokio::test]
async fn a_service_is_who_its_certificate_says_and_nobody_else() {
    let (dir, ctx) = (tempfile::tempdir().unwrap(), Context::new());
    let tls = files(dir.path(), &ctx, "registry");
    let party = Party::open(&tls, "registry", &ctx).unwrap();
    assert_eq!(party.id.as_str(), "spiffe://example.org/legate/registry");
    assert!(party.dial("https://127.0.0.1:1", "audit-collector").is_ok());
    assert!(party.dial("http://127.0.0.1:1", "audit-collector").is_err(), "nothing is dialled in the clear");

    let why = Party::open(&tls, "policy-decision", &ctx).unwrap_err().to_string();
    assert!(
        why.contains("/legate/registry") && why.contains("has to name") && why.contains("policy-decision"),
        "{why}"
    );
    let elsewhere = Tls { trust_domain: "example.com".into(), ..tls.clone() };
    let why = Party::open(&elsewhere, "registry", &ctx).unwrap_err().to_string();
    assert!(why.contains("spiffe://example.com/legate/registry"), "{why}");
    let odd = Tls { trust_domain: "Example.org:443".into(), ..tls };
    let why = Party::open(&odd, "registry", &ctx).unwrap_err().to_string();
    assert!(why.starts_with("tls.trust_domain"), "{why}");
}

#[tokio::test]
async fn files_that_are_missing_open_or_anothers_are_refused_by_name() {
    let (dir, ctx) = (tempfile::tempdir().unwrap(), Context::new());
    let tls = files(dir.path(), &ctx, "registry");
    let refused = |tls: &Tls| Party::open(tls, "registry", &ctx).unwrap_err().to_string();

    std::fs::set_permissions(&tls.key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let why = refused(&tls);
    assert!(why.contains("key.pem"), "{why}");
    std::fs::set_permissions(&tls.key, std::fs::Permissions::from_mode(0o600)).unwrap();
    Party::open(&tls, "registry", &ctx).unwrap();

    let missing = Tls { services_ca: dir.path().join("none.pem"), ..tls.clone() };
    assert!(refused(&missing).contains("none.pem"));
    let missing = Tls { cert: dir.path().join("none.pem"), ..tls.clone() };
    assert!(refused(&missing).contains("none.pem"));

    let other = tempfile::tempdir().unwrap();
    let another = files(other.path(), &ctx, "registry");
    refused(&Tls { key: another.key, ..tls.clone() });
    // The workloads' CA may come later: the issuer makes it.
    Party::open(&Tls { workloads_ca: Some(dir.path().join("later.pem")), ..tls }, "registry", &ctx).unwrap();
}
