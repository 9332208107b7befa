//! Who we are and who they are: certificates, trust, our own accept loop; the only door to rustls.
//!
//! tonic's own TLS configuration is not used: it resumes sessions (and then does not ask the verifier again), has no
//! handshake deadline, no reload and no check of SPIFFE IDs.

mod accept;
mod allow;
mod among;
mod certificate;
mod conn;
mod connector;
mod error;
mod files;
mod foreign;
mod identity;
mod listener;
mod local;
mod peer;
pub mod pki;
mod signature;
mod trust;
mod verifier;
mod web;

pub use allow::Allow;
pub use among::{client_config, server_config};
pub use certificate::BadCertificate;
pub use conn::{Conn, Connections};
pub use connector::{Connector, Expect, connector};
pub use error::TlsError;
pub use foreign::ForeignConnector;
pub use identity::Identity;
pub use listener::{Limits, Listener};
pub use local::{LocalAcceptor, LocalConnector, LocalPeer, LocalStream};
pub use peer::Peer;
pub use rustls::{ClientConfig, ServerConfig};
pub use signature::{ECDSA_P256_SHA256, Signatory, Signed};
pub use trust::{CaFiles, CaTexts, Trust};
pub use web::WebConnector;

use std::sync::{Arc, LazyLock};

use legate_clock::Clock;
use rustls::crypto::CryptoProvider;
use rustls_pki_types::UnixTime;

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static ONE: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    ONE.clone()
}

/// Tells rustls the time of our clock.
#[derive(Debug)]
pub(crate) struct OurTime(pub(crate) Arc<dyn Clock>);

impl rustls::time_provider::TimeProvider for OurTime {
    fn current_time(&self) -> Option<UnixTime> {
        let secs = u64::try_from(self.0.now().secs()).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(secs)))
    }
}
