//! Keys in files of mode 0600, made on first start; the signing itself is aws-lc-rs's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use legate_mtls::pki::{refuse_open_key, write_private};
use legate_token::{PublicKey, SigningFailed};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::{KeyError, KeyStore, KeyUse, Signer, is_missing};

/// A directory of keys.
#[derive(Clone, Debug)]
pub struct FileKeys {
    dir: PathBuf,
}

impl FileKeys {
    /// Keys under `dir`, which is made (mode 0700) where it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn new(dir: &Path) -> Result<Self, KeyError> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| KeyError::file(dir, e))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The file of a key.
    #[must_use]
    pub fn path(&self, purpose: KeyUse) -> PathBuf {
        self.dir.join(match purpose {
            KeyUse::WorkloadsCa => "workloads-ca.key",
            KeyUse::OperatorsCa => "operators-ca.key",
            KeyUse::AccessTokens => "token-signing.key",
        })
    }
}

#[tonic::async_trait]
impl KeyStore for FileKeys {
    async fn open(&self, purpose: KeyUse) -> Result<Arc<dyn Signer>, KeyError> {
        let path = self.path(purpose);
        if is_missing(&path)? {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| KeyError::NoRandomness)?;
            let pem = Zeroizing::new(key.serialize_pem());
            write_private(&path, &pem).map_err(|e| KeyError::file(&path, e))?;
            tracing::info!(path = %path.display(), ?purpose, "a new key was made");
        }
        Ok(Arc::new(InMemory::read(&path)?))
    }
}

/// A private key in aws-lc-rs's memory, which is wiped when it is freed.
struct InMemory {
    pair: EcdsaKeyPair,
    public: PublicKey,
    random: SystemRandom,
}

impl std::fmt::Debug for InMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InMemory({}, hidden)", self.public.kid())
    }
}

impl InMemory {
    fn read(path: &Path) -> Result<Self, KeyError> {
        refuse_open_key(path).map_err(|e| KeyError::file(path, e))?;
        let pem = Zeroizing::new(std::fs::read(path).map_err(|e| KeyError::file(path, e))?);
        let not_ours = || KeyError::file(path, "not a P-256 private key in PKCS #8 PEM");
        let mut der = PrivatePkcs8KeyDer::from_pem_slice(&pem).map_err(|_| not_ours())?;
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der());
        der.zeroize();
        let pair = pair.map_err(|_| not_ours())?;
        let public = PublicKey::from_sec1(pair.public_key().as_ref()).map_err(|_| not_ours())?;
        Ok(Self { pair, public, random: SystemRandom::new() })
    }
}

#[tonic::async_trait]
impl Signer for InMemory {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    async fn sign(&self, message: &[u8]) -> Result<[u8; 64], SigningFailed> {
        let signature = self.pair.sign(&self.random, message).map_err(|_| SigningFailed)?;
        signature.as_ref().try_into().map_err(|_| SigningFailed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_token::{EcVerifier as _, P256Verifier};
    use std::os::unix::fs::PermissionsExt as _;

    #[tokio::test]
    async fn a_key_is_made_once_closed_to_others_and_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        let keys = FileKeys::new(&dir.path().join("keys")).unwrap();
        let first = keys.open(KeyUse::AccessTokens).await.unwrap();
        let again = keys.open(KeyUse::AccessTokens).await.unwrap();
        let other = keys.open(KeyUse::WorkloadsCa).await.unwrap();
        assert_eq!(first.public_key(), again.public_key());
        assert_ne!(first.public_key(), other.public_key());
        let signature = first.sign(b"message").await.unwrap();
        assert!(P256Verifier::new(again.public_key()).verify(b"message", &signature));

        let path = keys.path(KeyUse::AccessTokens);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let pem = std::fs::read_to_string(&path).unwrap();
        let middle = pem.lines().nth(1).unwrap();
        assert!(!format!("{first:?} {keys:?}").contains(middle));

        // A link to a disk that is not there is no missing key: a new one in its place would make all issued worthless.
        let lost = keys.path(KeyUse::WorkloadsCa);
        std::fs::remove_file(&lost).unwrap();
        std::os::unix::fs::symlink(dir.path().join("not-mounted/ca.key"), &lost).unwrap();
        keys.open(KeyUse::WorkloadsCa).await.unwrap_err();
        assert!(std::fs::symlink_metadata(&lost).unwrap().is_symlink());

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let why = keys.open(KeyUse::AccessTokens).await.unwrap_err().to_string();
        assert!(why.contains("token-signing.key"), "{why}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        assert!(keys.open(KeyUse::AccessTokens).await.is_err());
    }
}
