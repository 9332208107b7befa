//! Who is at the other end of a connection, as the handshake proved it.

use std::net::SocketAddr;
use std::sync::Arc;

use legate_clock::Timestamp;
use legate_ids::{Principal, SpiffeId};
use rustls_pki_types::CertificateDer;

/// The other end. Only a finished handshake makes one.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Whom the certificate names; `None` for a peer that showed no certificate.
    pub principal: Option<Principal>,
    /// The certificate's SPIFFE ID.
    pub spiffe_id: Option<SpiffeId>,
    /// From when the certificate holds.
    pub not_before: Timestamp,
    /// Until when it holds; the connection ends then.
    pub not_after: Timestamp,
    /// SHA-256 of the DER certificate (RFC 8705 section 3.1); zeros without one.
    pub x5t_s256: [u8; 32],
    /// The certificate's serial number, big endian.
    pub serial: Vec<u8>,
    /// What was shown in the handshake, leaf first; empty without one.
    pub chain: Arc<[CertificateDer<'static>]>,
    /// From where it connected.
    pub addr: SocketAddr,
}

impl Peer {
    /// A peer that showed no certificate.
    #[must_use]
    pub fn anonymous(addr: SocketAddr) -> Self {
        Self {
            principal: None,
            spiffe_id: None,
            not_before: Timestamp::from_micros(i64::MIN),
            not_after: Timestamp::from_micros(i64::MAX),
            x5t_s256: [0; 32],
            serial: Vec::new(),
            chain: Arc::new([]),
            addr,
        }
    }

    /// The SPIFFE ID as text, empty for a peer without one.
    #[must_use]
    pub fn id_text(&self) -> &str {
        self.spiffe_id.as_ref().map_or("", SpiffeId::as_str)
    }
}
