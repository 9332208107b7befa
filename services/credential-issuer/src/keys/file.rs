//! Keys in files of mode 0600, wrapped under a key that is kept elsewhere; the signing itself is aws-lc-rs's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use legate_mtls::pki::{refuse_open_key, write_private};
use legate_token::{KeyId, PublicKey, SigningFailed};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::PrivatePkcs8KeyDer;
use rustls_pki_types::pem::PemObject as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::wrapping::Wrapping;
use super::{Kek, KeyError, KeyPlace, KeyStore, KeyUse, Signer, is_missing};

/// The secrets of one-time tokens and clients, beside the keys.
const PEPPER: &str = "enrolment.pepper";
/// The PIN that a token refused, so that it is not tried again.
const REFUSED_PIN: &str = "refused.pin";
/// What it is bound to.
pub(super) const REFUSED_PIN_LABEL: &str = "refused-pin";

/// A directory of keys.
#[derive(Clone, Debug)]
pub struct FileKeys {
    dir: PathBuf,
    wrapping: Arc<Wrapping>,
}

/// What a change of the key-encryption key found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rewrapped {
    /// Files that were wrapped anew.
    pub changed: usize,
    /// Files that were under the newest version before.
    pub kept: usize,
}

impl FileKeys {
    /// Keys under `dir`, which is made (mode 0700) where it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made, or a file in it cannot be opened with `kek`.
    pub fn new(dir: &Path, kek: Kek) -> Result<Self, KeyError> {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| KeyError::file(dir, e))?;
        Ok(Self { dir: dir.to_owned(), wrapping: Arc::new(Wrapping::new(dir, kek)?) })
    }

    fn path(&self, purpose: KeyUse, kid: &KeyId) -> PathBuf {
        // A key id is a hash in base64url, and can name nothing else.
        self.dir.join(format!("{}.{kid}.key", purpose.word()))
    }

    /// The file of the one key that an earlier version kept for a use, in plain PEM.
    fn earlier(&self, purpose: KeyUse) -> Option<PathBuf> {
        let name = match purpose {
            KeyUse::WorkloadsCa => "workloads-ca.key",
            KeyUse::OperatorsCa => "operators-ca.key",
            KeyUse::AccessTokens => "token-signing.key",
            KeyUse::JwtSvids => return None,
        };
        Some(self.dir.join(name))
    }

    fn keep(&self, purpose: KeyUse, pem: &str) -> Result<InMemory, KeyError> {
        let key = InMemory::from_pem(pem, &self.dir)?;
        let kid = key.public.kid();
        let path = self.path(purpose, &kid);
        self.write(&path, &label(purpose, &kid), pem.as_bytes())?;
        // What is on disk is what opens again.
        self.read(purpose, &kid)?.ok_or_else(|| KeyError::file(&path, "it was written and is not there"))
    }

    fn read(&self, purpose: KeyUse, kid: &KeyId) -> Result<Option<InMemory>, KeyError> {
        let path = self.path(purpose, kid);
        if is_missing(&path)? {
            return Ok(None);
        }
        let pem = self.read_secret(&path, &label(purpose, kid))?;
        let key = InMemory::from_pem(&String::from_utf8_lossy(&pem), &path)?;
        if key.public.kid() != *kid {
            return Err(KeyError::file(&path, "it holds another key than its name says"));
        }
        Ok(Some(key))
    }

    /// The file of peppers.
    pub(crate) fn pepper(&self) -> PathBuf {
        self.dir.join(PEPPER)
    }

    /// Wraps a secret into a file of the directory. The version that wraps it is not dropped before it lies there.
    pub(super) fn write(&self, path: &Path, label: &str, secret: &[u8]) -> Result<(), KeyError> {
        self.wrapping.refresh();
        self.wrapping.with(|kek| write_private(path, &kek.wrap(label, secret)?).map_err(|e| KeyError::file(path, e)))
    }

    /// The file of the PIN that a token refused.
    #[cfg(feature = "pkcs11")]
    pub(super) fn refused_pin(&self) -> PathBuf {
        self.dir.join(REFUSED_PIN)
    }

    /// The secret in a wrapped file of the directory.
    pub(super) fn read_secret(&self, path: &Path, label: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        self.wrapping.refresh();
        self.wrapping.with(|kek| read_wrapped(path, label, kek))
    }

    /// Wraps everything under the newest version of the key-encryption key that is not. What was done when it is cut off stays
    /// done, and every file opens at every moment.
    ///
    /// # Errors
    /// At the first file that cannot be read or written.
    pub fn rewrap(&self) -> Result<Rewrapped, KeyError> {
        let _alone = self.wrapping.alone()?;
        self.wrapping.with(|kek| self.rewrap_under(kek))
    }

    /// The same, and then only the newest version is left in the file of the key-encryption key.
    ///
    /// # Errors
    /// [`KeyError::InUse`] where a process runs that knows no newer version than one that would be dropped; and as
    /// [`rewrap`](Self::rewrap).
    pub fn drop_old(&self, kek: &Path) -> Result<Rewrapped, KeyError> {
        let older = self.wrapping.without_older()?;
        let found = self.rewrap()?;
        Kek::drop_old(kek)?;
        for (path, _) in &older {
            // One that stays is locked by nobody.
            let _ = std::fs::remove_file(path);
        }
        Ok(found)
    }

    fn rewrap_under(&self, kek: &Kek) -> Result<Rewrapped, KeyError> {
        let mut found = Rewrapped::default();
        for entry in std::fs::read_dir(&self.dir).map_err(|e| KeyError::file(&self.dir, e))? {
            let path = entry.map_err(|e| KeyError::file(&self.dir, e))?.path();
            let Some(label) = path.file_name().and_then(|name| name.to_str()).and_then(label_of) else { continue };
            let text = std::fs::read(&path).map_err(|e| KeyError::file(&path, e))?;
            let text = String::from_utf8_lossy(&text);
            if Kek::version_of(&text) == Some(kek.newest()) {
                found.kept += 1;
                continue;
            }
            let secret = read_wrapped(&path, &label, kek)?;
            write_private(&path, &kek.wrap(&label, &secret)?).map_err(|e| KeyError::file(&path, e))?;
            found.changed += 1;
        }
        Ok(found)
    }
}

/// What a wrapped key is bound to, so that no file can stand in the place of another.
fn label(purpose: KeyUse, kid: &KeyId) -> String {
    format!("{} {kid}", purpose.word())
}

/// The same by a file's name; `None`: it is no file of ours.
fn label_of(name: &str) -> Option<String> {
    if name == PEPPER {
        return Some("pepper".to_owned());
    }
    if name == REFUSED_PIN {
        return Some(REFUSED_PIN_LABEL.to_owned());
    }
    let (purpose, kid) = name.strip_suffix(".key")?.split_once('.')?;
    let purpose = KeyUse::ALL.into_iter().find(|one| one.word() == purpose)?;
    Some(label(purpose, &KeyId::parse(kid).ok()?))
}

/// The secret in a wrapped file that its owner alone can read.
fn read_wrapped(path: &Path, label: &str, kek: &Kek) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    refuse_open_key(path).map_err(|e| KeyError::file(path, e))?;
    let text = Zeroizing::new(std::fs::read(path).map_err(|e| KeyError::file(path, e))?);
    kek.unwrap(label, &String::from_utf8_lossy(&text)).map_err(|why| KeyError::file(path, why))
}

#[tonic::async_trait]
impl KeyStore for FileKeys {
    async fn create(&self, purpose: KeyUse) -> Result<Arc<dyn Signer>, KeyError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|_| KeyError::NoRandomness)?;
        let pem = Zeroizing::new(key.serialize_pem());
        let _at_work = self.wrapping.at_work().await?;
        let key = self.keep(purpose, &pem)?;
        tracing::info!(kid = %key.public.kid(), purpose = purpose.word(), "a new key was made");
        Ok(Arc::new(key))
    }

    async fn open(&self, purpose: KeyUse, kid: &KeyId) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        let key = self.read(purpose, kid)?;
        // What was left over when an earlier version's key was adopted goes, now that the database knows its successor.
        if let (Some(_), Some(earlier)) = (&key, self.earlier(purpose))
            && !is_missing(&earlier)?
            && InMemory::read_plain(&earlier)?.public.kid() == *kid
        {
            std::fs::remove_file(&earlier).map_err(|e| KeyError::file(&earlier, e))?;
            tracing::info!(path = %earlier.display(), "a key in plain text is gone; it is wrapped now");
        }
        Ok(key.map(|key| Arc::new(key) as Arc<dyn Signer>))
    }

    async fn destroy(&self, purpose: KeyUse, kid: &KeyId) -> Result<(), KeyError> {
        let _at_work = self.wrapping.at_work().await?;
        let path = self.path(purpose, kid);
        match std::fs::remove_file(&path) {
            Ok(()) => {
                tracing::info!(%kid, purpose = purpose.word(), "a key that signs no more was destroyed");
                Ok(())
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(KeyError::file(&path, e)),
        }
    }

    async fn adopt(&self, purpose: KeyUse) -> Result<Option<Arc<dyn Signer>>, KeyError> {
        let Some(path) = self.earlier(purpose) else { return Ok(None) };
        if is_missing(&path)? {
            return Ok(None);
        }
        refuse_open_key(&path).map_err(|e| KeyError::file(&path, e))?;
        let pem = Zeroizing::new(std::fs::read_to_string(&path).map_err(|e| KeyError::file(&path, e))?);
        let _at_work = self.wrapping.at_work().await?;
        Ok(Some(Arc::new(self.keep(purpose, &pem)?)))
    }

    async fn probe(&self) {
        self.wrapping.refresh();
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
    fn read_plain(path: &Path) -> Result<Self, KeyError> {
        refuse_open_key(path).map_err(|e| KeyError::file(path, e))?;
        let pem = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| KeyError::file(path, e))?);
        Self::from_pem(&pem, path)
    }

    fn from_pem(pem: &str, path: &Path) -> Result<Self, KeyError> {
        let not_ours = || KeyError::file(path, "not a P-256 private key in PKCS #8 PEM");
        let mut der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| not_ours())?;
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

    fn place(&self) -> KeyPlace {
        KeyPlace::File
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

    fn keys(root: &Path) -> FileKeys {
        let kek = root.join("kek");
        if !kek.exists() {
            Kek::add(&kek).unwrap();
        }
        FileKeys::new(&root.join("keys"), Kek::open(&kek).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_key_is_kept_wrapped_closed_to_others_and_never_printed() {
        let root = tempfile::tempdir().unwrap();
        let keys = keys(root.path());
        let first = keys.create(KeyUse::AccessTokens).await.unwrap();
        let kid = first.public_key().kid();
        let again = keys.open(KeyUse::AccessTokens, &kid).await.unwrap().unwrap();
        assert_eq!(first.public_key(), again.public_key());
        assert_ne!(first.public_key(), keys.create(KeyUse::AccessTokens).await.unwrap().public_key());
        let signature = first.sign(b"message").await.unwrap();
        assert!(P256Verifier::new(again.public_key()).verify(b"message", &signature));
        assert!(keys.open(KeyUse::JwtSvids, &kid).await.unwrap().is_none(), "for one use only");

        let path = keys.path(KeyUse::AccessTokens, &kid);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("legate-wrapped-1 1 ") && !text.contains("PRIVATE"));
        assert!(!format!("{first:?} {keys:?}").contains(text.trim_end().rsplit(' ').next().unwrap()));

        // A file in the place of another is not believed, whatever its name.
        let stolen = keys.path(KeyUse::WorkloadsCa, &kid);
        std::fs::copy(&path, &stolen).unwrap();
        let why = keys.open(KeyUse::WorkloadsCa, &kid).await.unwrap_err().to_string();
        assert!(why.contains("another key or purpose"), "{why}");

        // A link to a disk that is not there is no missing key.
        let lost = keys.create(KeyUse::JwtSvids).await.unwrap().public_key().kid();
        let lost_path = keys.path(KeyUse::JwtSvids, &lost);
        std::fs::remove_file(&lost_path).unwrap();
        std::os::unix::fs::symlink(root.path().join("not-mounted/ca.key"), &lost_path).unwrap();
        keys.open(KeyUse::JwtSvids, &lost).await.unwrap_err();

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        keys.open(KeyUse::AccessTokens, &kid).await.unwrap_err();
        keys.destroy(KeyUse::AccessTokens, &kid).await.unwrap();
        keys.destroy(KeyUse::AccessTokens, &kid).await.unwrap();
        assert!(keys.open(KeyUse::AccessTokens, &kid).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_key_of_an_earlier_version_is_adopted_and_its_plain_text_goes() {
        let root = tempfile::tempdir().unwrap();
        let keys = keys(root.path());
        assert!(keys.adopt(KeyUse::AccessTokens).await.unwrap().is_none());
        let plain = root.path().join("keys/token-signing.key");
        let pem = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap().serialize_pem();
        write_private(&plain, &pem).unwrap();
        let adopted = keys.adopt(KeyUse::AccessTokens).await.unwrap().unwrap();
        // Killed here, it is adopted again; the plain text goes once the database knows the key.
        let again = keys.adopt(KeyUse::AccessTokens).await.unwrap().unwrap();
        assert_eq!(adopted.public_key(), again.public_key());
        assert!(plain.exists());
        let kid = adopted.public_key().kid();
        keys.open(KeyUse::AccessTokens, &kid).await.unwrap().unwrap();
        assert!(!plain.exists());
        write_private(&plain, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        keys.adopt(KeyUse::AccessTokens).await.unwrap_err();
    }

    #[tokio::test]
    async fn everything_is_wrapped_anew_and_again_is_harmless() {
        let root = tempfile::tempdir().unwrap();
        let before = keys(root.path());
        let kid = before.create(KeyUse::AccessTokens).await.unwrap().public_key().kid();
        before.create(KeyUse::WorkloadsCa).await.unwrap();
        super::super::Pepper::open(&before).unwrap();
        std::fs::write(root.path().join("keys/credential-issuer.db"), "not ours").unwrap();
        Kek::add(&root.path().join("kek")).unwrap();
        let after = keys(root.path());
        assert_eq!(after.rewrap().unwrap(), Rewrapped { changed: 3, kept: 0 });
        assert_eq!(after.rewrap().unwrap(), Rewrapped { changed: 0, kept: 3 });
        Kek::drop_old(&root.path().join("kek")).unwrap();
        keys(root.path()).open(KeyUse::AccessTokens, &kid).await.unwrap().unwrap();
        super::super::Pepper::open(&keys(root.path())).unwrap();
        // Whoever runs on reads the key-encryption key again.
        before.open(KeyUse::AccessTokens, &kid).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_a_running_service_keeps_is_wrapped_anew_beside_it_and_never_lost() {
        let root = tempfile::tempdir().unwrap();
        let kek = root.path().join("kek");
        let running = keys(root.path());
        let first = running.create(KeyUse::AccessTokens).await.unwrap().public_key().kid();
        Kek::add(&kek).unwrap();
        let other = keys(root.path());
        other.rewrap().unwrap();
        // It has not looked yet: what it wraps now would open for nobody.
        let why = other.drop_old(&kek).unwrap_err();
        assert!(matches!(why, KeyError::InUse { .. }) && why.to_string().contains("newer than 1"), "{why}");
        assert_eq!(Kek::open(&kek).unwrap().newest(), 2);
        running.probe().await;
        let second = running.create(KeyUse::AccessTokens).await.unwrap().public_key().kid();
        assert_eq!(other.drop_old(&kek).unwrap(), Rewrapped { changed: 0, kept: 2 });
        assert_eq!(std::fs::read_to_string(&kek).unwrap().lines().count(), 1);
        for kid in [first, second] {
            running.open(KeyUse::AccessTokens, &kid).await.unwrap().unwrap();
            keys(root.path()).open(KeyUse::AccessTokens, &kid).await.unwrap().unwrap();
        }
        drop((running, other));
        // One that has a version of its own, as systemd hands over, is not surprised either.
        let copy = root.path().join("copy");
        std::fs::copy(&kek, &copy).unwrap();
        let handed = FileKeys::new(&root.path().join("keys"), Kek::open(&copy).unwrap()).unwrap();
        Kek::add(&kek).unwrap();
        let newest = keys(root.path());
        handed.probe().await;
        assert!(matches!(newest.drop_old(&kek), Err(KeyError::InUse { .. })));
        drop(handed);
        newest.drop_old(&kek).unwrap();
    }

    #[tokio::test]
    async fn what_is_destroyed_while_all_is_wrapped_anew_stays_destroyed() {
        let root = tempfile::tempdir().unwrap();
        let running = keys(root.path());
        let mut made = Vec::new();
        for _ in 0..8 {
            made.push(running.create(KeyUse::AccessTokens).await.unwrap().public_key().kid());
        }
        for _ in 0..20 {
            Kek::add(&root.path().join("kek")).unwrap();
            let other = keys(root.path());
            let wrapping = std::thread::spawn(move || other.rewrap().unwrap());
            let kid = made.pop().unwrap();
            running.destroy(KeyUse::AccessTokens, &kid).await.unwrap();
            wrapping.join().unwrap();
            assert!(running.open(KeyUse::AccessTokens, &kid).await.unwrap().is_none());
            made.push(running.create(KeyUse::AccessTokens).await.unwrap().public_key().kid());
            running.probe().await;
            keys(root.path()).drop_old(&root.path().join("kek")).unwrap();
        }
    }
}
