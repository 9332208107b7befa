//! A runtime's identity in a directory: key and certificate in one file, so that a renewal replaces both at once.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use legate_client::RuntimeKey;
use legate_mtls::{Identity, pki};
use legate_wire::credential::Credential;

use crate::error::FILE_REFUSED;
use crate::{Failure, proto};

/// Private key and certificate chain, mode 0600.
const IDENTITY: &str = "identity.pem";
/// The CA certificates that verify workloads.
const ROOTS: &str = "workloads-ca.pem";
/// What was issued last.
const CREDENTIAL: &str = "credential.json";

/// What is put into the directory.
pub(crate) struct Kept<'a> {
    pub(crate) key: &'a RuntimeKey,
    pub(crate) chain_pem: &'a str,
    pub(crate) workload_roots_pem: &'a str,
    pub(crate) credential: &'a Credential,
}

/// The file with key and chain.
pub(crate) fn file(dir: &Path) -> PathBuf {
    dir.join(IDENTITY)
}

/// Makes the directory; an identity that is there already is never overwritten.
///
/// It is made before the one-time token is spent, so that a full or foreign disk costs no token.
pub(crate) fn make_room(dir: &Path) -> Result<(), Failure> {
    if file(dir).exists() {
        let why = "an identity is there already; give another directory, or renew it (legate credential renew)";
        return Err(Failure::file(dir, why));
    }
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Failure::file(dir, e))?;
    let probe = dir.join(".probe");
    pki::write_private(&probe, "").map_err(refused)?;
    std::fs::remove_file(&probe).map_err(|e| Failure::file(&probe, e))
}

/// Writes everything; the identity itself last.
pub(crate) fn keep(dir: &Path, kept: &Kept<'_>) -> Result<(), Failure> {
    pki::write_public(&dir.join(ROOTS), kept.workload_roots_pem).map_err(refused)?;
    let credential = proto::json(&proto::dynamic(kept.credential), true).unwrap_or_default();
    pki::write_public(&dir.join(CREDENTIAL), &(credential + "\n")).map_err(refused)?;
    let key = kept.key.to_pem();
    let mut both = String::with_capacity(key.len() + kept.chain_pem.len());
    both.push_str(&key);
    both.push_str(kept.chain_pem);
    pki::write_private(&file(dir), &both).map_err(refused)
}

/// Reads an identity.
pub(crate) fn open(dir: &Path) -> Result<Identity, Failure> {
    let file = file(dir);
    if !file.exists() {
        let why = "there is no identity.pem in it; legate credential enrol --out makes one";
        return Err(Failure::file(dir, why));
    }
    crate::place::identity(&file, &file)
}

fn refused(e: legate_mtls::TlsError) -> Failure {
    Failure::local(&FILE_REFUSED, e.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_clock::Timestamp;
    use legate_ids::SpiffeId;
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    #[test]
    fn an_identity_comes_back_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("deep/bot");
        make_room(&out).unwrap();
        let now = Timestamp::from_secs(1_800_000_000);
        let ca = pki::Ca::generate("workloads", now, Duration::from_secs(3_600)).unwrap();
        let id = SpiffeId::parse("spiffe://dev.legate/ns/payments/enforcer/invoices").unwrap();
        let leaf = pki::Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: Duration::from_secs(60) };
        let issued = ca.issue(&leaf, now).unwrap();
        let key = RuntimeKey::from_pem(&issued.key_pem).unwrap();
        let credential = Credential { id: "cred_1".into(), ..Credential::default() };
        let kept =
            Kept { key: &key, chain_pem: &issued.cert_pem, workload_roots_pem: ca.cert_pem(), credential: &credential };
        keep(&out, &kept).unwrap();
        assert_eq!(open(&out).unwrap().spiffe_id(), Some(id));
        let mode = |name: &str| std::fs::metadata(out.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(IDENTITY), mode(".")), (0o600, 0o700));
        assert!(make_room(&out).unwrap_err().what.contains("already"));
        assert!(open(dir.path()).unwrap_err().what.contains("identity.pem"));
        std::fs::set_permissions(out.join(IDENTITY), std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(open(&out).unwrap_err().reason, "FILE_REFUSED");
    }
}
