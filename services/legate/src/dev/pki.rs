//! The certificates of a suite: two CAs, one certificate for each service, one for an operator.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::{Name, SpiffeId, TrustDomain};
use legate_mtls::TlsError;
use legate_mtls::pki::{Ca, Leaf, write_private, write_public};

/// The services, in the order in which they are raised: each calls only those before it.
pub const SERVICES: [&str; 4] = ["audit-collector", "registry", "policy-decision", "credential-issuer"];

/// The CAs of a throw-away suite live a year; nobody should keep one longer.
const CA_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Service and operator certificates are made anew at every start, and are good for nearly as long as any may be, so that a suite by a clock of
/// nearly a quarter ago can be raised.
const LEAF_LIFE: Duration = Duration::from_secs(89 * 24 * 3600);

/// Where things are in a suite's directory.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

/// Files of one party: certificate and key.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate chain in PEM.
    pub cert: PathBuf,
    /// The private key in PEM, mode 0600.
    pub key: PathBuf,
}

impl Layout {
    /// The layout under `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What one service keeps.
    #[must_use]
    pub fn service(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The CA of services and operators.
    #[must_use]
    pub fn services_ca(&self) -> Files {
        Files { cert: self.root.join("ca.pem"), key: self.root.join("pki/services-ca.key") }
    }

    /// The certificates of the CA of agents and enforcement points.
    #[must_use]
    pub fn workloads_ca(&self) -> PathBuf {
        self.root.join("workloads-ca.pem")
    }

    /// What wraps the keys of credential-issuer.
    #[must_use]
    pub fn kek(&self) -> PathBuf {
        self.root.join("pki/credential-issuer.kek")
    }

    /// What wraps the keys of names in audit events.
    #[must_use]
    pub fn names_kek(&self) -> PathBuf {
        self.root.join("pki/audit-collector.kek")
    }

    /// The names of persons that audit events commit to, sealed.
    #[must_use]
    pub fn names(&self) -> PathBuf {
        self.service("audit-collector").join("personal")
    }

    /// The certificate of the CA of operators who log in, where an identity provider is configured.
    #[must_use]
    pub fn operators_ca(&self) -> PathBuf {
        self.root.join("operators-ca.pem")
    }

    /// A service's certificate.
    #[must_use]
    pub fn tls(&self, service: &str) -> Files {
        let dir = self.service(service);
        Files { cert: dir.join("tls.pem"), key: dir.join("tls.key") }
    }

    /// The audit log: checkpoint and tiles.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.service("audit-collector").join("log")
    }

    /// The log's public key.
    #[must_use]
    pub fn log_key(&self) -> PathBuf {
        self.root.join("log.pub")
    }

    /// The operator's certificate.
    #[must_use]
    pub fn operator(&self) -> Files {
        Files { cert: self.root.join("operator.pem"), key: self.root.join("operator.key") }
    }
}

/// Makes the CAs where there are none yet, and new certificates for every service and for the operator.
///
/// # Errors
/// When a file cannot be written or a name breaks its grammar.
pub fn lay_out(layout: &Layout, domain: &TrustDomain, operator: &Name, now: Timestamp) -> Result<(), TlsError> {
    make_directory(layout.root())?;
    make_directory(&layout.root().join("pki"))?;
    for service in SERVICES {
        make_directory(&layout.service(service))?;
    }
    let services = ca(&layout.services_ca(), &format!("Legate services of {domain}"), now)?;
    first_workloads_ca(layout, domain, now)?;
    for kek in [layout.kek(), layout.names_kek()] {
        if !kek.exists() {
            let made = legate_credential_issuer::Kek::add(&kek);
            made.map_err(|e| TlsError::Pem(format!("the key-encryption key cannot be made: {e}")))?;
        }
    }

    let loopback = [IpAddr::from([127, 0, 0, 1])];
    for service in SERVICES {
        let name = Name::parse(service).map_err(|e| TlsError::Address(e.to_string()))?;
        let id = SpiffeId::service(domain, &name);
        let leaf = Leaf { spiffe_id: &id, dns: &["localhost"], ips: &loopback, ttl: LEAF_LIFE };
        issue(&services, &leaf, &layout.tls(service), now)?;
    }
    let id = SpiffeId::operator(domain, operator);
    let leaf = Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: LEAF_LIFE };
    issue(&services, &leaf, &layout.operator(), now)
}

fn ca(files: &Files, name: &str, now: Timestamp) -> Result<Ca, TlsError> {
    if files.cert.exists() && files.key.exists() {
        return Ca::from_pem(&read(&files.cert)?, &read(&files.key)?);
    }
    let ca = Ca::generate(name, now, CA_LIFE)?;
    write_private(&files.key, &ca.key_pem())?;
    write_public(&files.cert, ca.cert_pem())?;
    Ok(ca)
}

/// The first CA of workloads is made here, so that every service trusts it from its start; credential-issuer adopts its key, and
/// keeps it from then on.
fn first_workloads_ca(layout: &Layout, domain: &TrustDomain, now: Timestamp) -> Result<(), TlsError> {
    let (cert, issuer) = (layout.workloads_ca(), layout.service("credential-issuer"));
    // Where it has begun already, its database knows its CA, and a second one would be a stranger's.
    if !cert.exists() && !issuer.join("credential-issuer.db").exists() {
        let key = issuer.join("workloads-ca.key");
        ca(&Files { cert, key }, &format!("Legate workloads of {domain}"), now)?;
    }
    Ok(())
}

fn issue(ca: &Ca, leaf: &Leaf<'_>, files: &Files, now: Timestamp) -> Result<(), TlsError> {
    let issued = ca.issue(leaf, now)?;
    write_private(&files.key, &issued.key_pem)?;
    write_public(&files.cert, &issued.cert_pem)
}

fn read(path: &Path) -> Result<String, TlsError> {
    std::fs::read_to_string(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

/// A directory that only its owner can enter.
fn make_directory(path: &Path) -> Result<(), TlsError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| TlsError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_cas_stay_and_the_certificates_are_new_at_every_start() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("suite"));
        let domain = TrustDomain::parse("dev.legate").unwrap();
        let operator = Name::parse("dev").unwrap();
        let lay = || lay_out(&layout, &domain, &operator, Timestamp::from_secs(1_800_000_000)).unwrap();
        lay();
        let before = (read(&layout.services_ca().cert).unwrap(), read(&layout.operator().cert).unwrap());
        lay();
        assert_eq!(before.0, read(&layout.services_ca().cert).unwrap());
        assert_ne!(before.1, read(&layout.operator().cert).unwrap());
        legate_mtls::pki::refuse_open_key(&layout.kek()).unwrap();
        // Its first key is credential-issuer's to wrap, and none is made in its place.
        let first = layout.service("credential-issuer").join("workloads-ca.key");
        legate_mtls::pki::refuse_open_key(&first).unwrap();
        std::fs::remove_file(&first).unwrap();
        lay();
        assert!(!first.exists());
    }
}
