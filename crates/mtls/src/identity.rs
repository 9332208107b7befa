//! Our own certificate and key, read again when their files change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use legate_clock::Timestamp;
use legate_ids::SpiffeId;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::TlsError;
use crate::files::Stamp;

/// Who we are. Clones share one certificate, so a reload reaches all of them, and open connections stay.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Inner>);

struct Inner {
    current: ArcSwapOption<CertifiedKey>,
    files: Option<(PathBuf, PathBuf)>,
    stamp: parking_lot::Mutex<Stamp>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads a certificate chain (leaf first) and its private key from PEM files.
    ///
    /// # Errors
    /// When a file is missing or broken, the key is not the certificate's, or others can read the key.
    pub fn from_files(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let stamp = Stamp::of([cert, key]);
        let current = load(cert, key)?;
        Ok(Self(Arc::new(Inner {
            current: ArcSwapOption::from_pointee(current),
            files: Some((cert.to_owned(), key.to_owned())),
            stamp: parking_lot::Mutex::new(stamp),
        })))
    }

    /// Reads a certificate chain (leaf first) and its private key from PEM texts.
    ///
    /// # Errors
    /// When a text is broken or the key is not the certificate's.
    pub fn from_pem(chain: &str, key: &str) -> Result<Self, TlsError> {
        let current = parse(chain.as_bytes(), key.as_bytes())?;
        Ok(Self(Arc::new(Inner {
            current: ArcSwapOption::from_pointee(current),
            files: None,
            stamp: parking_lot::Mutex::default(),
        })))
    }

    /// Nobody: a client that shows no certificate.
    #[must_use]
    pub fn anonymous() -> Self {
        Self(Arc::new(Inner { current: ArcSwapOption::empty(), files: None, stamp: parking_lot::Mutex::default() }))
    }

    /// Takes another certificate and key; new handshakes use it, open connections stay.
    ///
    /// # Errors
    /// As in [`Identity::from_pem`]; then the old certificate stays.
    pub fn replace_pem(&self, chain: &str, key: &str) -> Result<(), TlsError> {
        let current = parse(chain.as_bytes(), key.as_bytes())?;
        self.0.current.store(Some(Arc::new(current)));
        Ok(())
    }

    /// Takes an X.509-SVID as the SPIFFE Workload API gives it: certificates in DER one after the other, leaf first, and the key as PKCS #8
    /// in DER. New handshakes use it, open connections stay.
    ///
    /// # Errors
    /// When the bytes are broken or the key is not the certificate's; then the old certificate stays.
    pub fn replace_svid(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        let all = crate::certificate::one_after_the_other(chain)?;
        if all.is_empty() {
            return Err(TlsError::Pem("no certificate in the SVID".into()));
        }
        let key = PrivateKeyDer::Pkcs8(rustls_pki_types::PrivatePkcs8KeyDer::from(key.to_vec()));
        self.0.current.store(Some(Arc::new(CertifiedKey::from_der(all, key, &crate::provider())?)));
        Ok(())
    }

    /// Lets go of certificate and key: new handshakes show nobody, open connections stay.
    pub fn forget(&self) {
        self.0.current.store(None);
    }

    /// Reads the files again when they have changed; whether they had.
    ///
    /// # Errors
    /// When the new files are broken; then the old certificate stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let Some((cert, key)) = &self.0.files else {
            return Ok(false);
        };
        let now = Stamp::of([cert, key]);
        let mut stamp = self.0.stamp.lock();
        if *stamp == now {
            return Ok(false);
        }
        self.0.current.store(Some(Arc::new(load(cert, key)?)));
        *stamp = now;
        Ok(true)
    }

    /// Reads the files again whenever they change, looking every `interval`, until the task is aborted.
    pub fn watch(&self, interval: Duration) -> tokio::task::JoinHandle<()> {
        let this = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                match this.reload() {
                    Ok(false) => {}
                    Ok(true) => tracing::info!("certificate reloaded"),
                    Err(error) => tracing::error!(%error, "the new certificate cannot be used; the old one stays"),
                }
            }
        })
    }

    /// Our SPIFFE ID, where the certificate has one.
    #[must_use]
    pub fn spiffe_id(&self) -> Option<SpiffeId> {
        let current = self.0.current.load_full()?;
        let leaf = current.cert.first()?;
        use x509_parser::prelude::FromDer;
        let (_, cert) = x509_parser::certificate::X509Certificate::from_der(leaf).ok()?;
        let names = cert.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| match name {
            x509_parser::extensions::GeneralName::URI(uri) => SpiffeId::parse(uri).ok(),
            _ => None,
        })
    }

    /// From when our certificate holds.
    #[must_use]
    pub fn not_before(&self) -> Option<Timestamp> {
        self.validity().map(|(from, _)| from)
    }

    /// Until when our certificate holds.
    #[must_use]
    pub fn not_after(&self) -> Option<Timestamp> {
        self.validity().map(|(_, until)| until)
    }

    fn validity(&self) -> Option<(Timestamp, Timestamp)> {
        let current = self.0.current.load_full()?;
        use x509_parser::prelude::FromDer;
        let (_, cert) = x509_parser::certificate::X509Certificate::from_der(current.cert.first()?).ok()?;
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_secs(time.timestamp());
        Some((at(cert.validity().not_before), at(cert.validity().not_after)))
    }

    /// SHA-256 of our leaf certificate in DER (RFC 8705 section 3.1).
    #[must_use]
    pub fn x5t_s256(&self) -> Option<[u8; 32]> {
        let current = self.0.current.load_full()?;
        current.cert.first().map(|leaf| sha256(leaf))
    }

    pub(crate) fn key(&self) -> Option<Arc<CertifiedKey>> {
        self.0.current.load_full()
    }
}

impl rustls::server::ResolvesServerCert for Identity {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.key()
    }
}

impl rustls::client::ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.key()
    }

    fn has_certs(&self) -> bool {
        self.key().is_some()
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

fn load(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    crate::pki::refuse_open_key(key)?;
    let chain = std::fs::read(cert).map_err(TlsError::file(cert))?;
    let secret = zeroize::Zeroizing::new(std::fs::read(key).map_err(TlsError::file(key))?);
    parse(&chain, &secret).map_err(|e| match e {
        TlsError::Pem(why) => TlsError::Pem(format!("{}, {}: {why}", cert.display(), key.display())),
        other => other,
    })
}

fn parse(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, TlsError> {
    let chain = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| TlsError::Pem(format!("the certificate chain is not PEM: {e}")))?;
    if chain.is_empty() {
        return Err(TlsError::Pem("no certificate in the chain".into()));
    }
    let key =
        PrivateKeyDer::from_pem_slice(key).map_err(|e| TlsError::Pem(format!("the private key is not PEM: {e}")))?;
    Ok(CertifiedKey::from_der(chain, key, &crate::provider())?)
}
