//! What can be wrong with certificates, keys and files that hold them.

use std::path::PathBuf;

/// Why an identity, a trust or a listener could not be made, or a peer was refused.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A private key can be read by others.
    #[error("{path}: the private key can be read by others (mode {mode:o}); run: chmod 600 {path}")]
    OpenKey {
        /// Which.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The text holds no certificate or key, or a broken one.
    #[error("{0}")]
    Pem(String),
    /// rustls refuses it.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
    /// A certificate could not be made.
    #[error("{0}")]
    Make(#[from] rcgen::Error),
    /// A certificate breaks one of our rules.
    #[error("the certificate is refused: {0}")]
    Certificate(#[from] crate::certificate::BadCertificate),
    /// An address cannot be dialled.
    #[error("{0}")]
    Address(String),
}

impl TlsError {
    pub(crate) fn file(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }
}
