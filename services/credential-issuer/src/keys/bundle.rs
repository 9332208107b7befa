//! The file of CA certificates that other services read: ours as they stand, and whatever else somebody put there.

use std::path::Path;

use legate_mtls::pki::{certificates, to_pem, write_public};
use rustls_pki_types::CertificateDer;

use super::{KeyError, is_missing};

/// The certificates in the file; none where there is no file.
pub(crate) fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, KeyError> {
    if is_missing(path)? {
        return Ok(Vec::new());
    }
    let pem = std::fs::read_to_string(path).map_err(|e| KeyError::file(path, e))?;
    certificates(&pem).map_err(|e| KeyError::file(path, e))
}

/// Writes ours first, then those that were there and are neither ours nor past; whether the file changed.
pub(crate) fn write(path: &Path, ours: &[Vec<u8>], past: &[Vec<u8>]) -> Result<bool, KeyError> {
    let there = read(path)?;
    let mut wanted: Vec<CertificateDer<'static>> = ours.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let is_other = |der: &&CertificateDer<'_>| !ours.iter().chain(past).any(|known| known[..] == der[..]);
    wanted.extend(there.iter().filter(is_other).cloned());
    if wanted == there {
        return Ok(false);
    }
    let pem: String = wanted.iter().map(to_pem).collect();
    write_public(path, &pem).map_err(|e| KeyError::file(path, e))?;
    Ok(true)
}

/// Somebody else's CA stands where ours would.
pub(crate) fn not_ours(path: &Path) -> KeyError {
    let why = "no certificate in it is of a CA key that is kept here; restore the database and the keys that belong to it, or move \
               the file away so that a new CA is made (then everybody whom it certified has to enrol or log in again)";
    KeyError::file(path, why)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_clock::Timestamp;
    use legate_mtls::pki::Ca;
    use std::time::Duration;

    #[test]
    fn what_others_put_there_stays_and_what_is_past_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("workloads-ca.pem");
        let ca = |name| {
            let ca = Ca::generate(name, Timestamp::from_secs(1_800_000_000), Duration::from_secs(600)).unwrap();
            certificates(ca.cert_pem()).unwrap().remove(0)
        };
        let (old, new, other) = (ca("old"), ca("new"), ca("other"));
        let (old, new) = (old.to_vec(), new.to_vec());
        assert_eq!(read(&path).unwrap(), []);
        assert!(write(&path, std::slice::from_ref(&old), &[]).unwrap());
        assert!(!write(&path, std::slice::from_ref(&old), &[]).unwrap(), "written once");
        let text = std::fs::read_to_string(&path).unwrap();
        write_public(&path, &format!("{text}{}", to_pem(&other))).unwrap();
        assert!(write(&path, &[new.clone(), old.clone()], &[]).unwrap());
        assert_eq!(read(&path).unwrap(), [new.clone().into(), old.clone().into(), other.clone()]);
        assert!(write(&path, std::slice::from_ref(&new), &[old]).unwrap());
        assert_eq!(read(&path).unwrap(), [new.into(), other]);
        std::fs::write(&path, "no PEM").unwrap();
        read(&path).unwrap_err();
    }
}
