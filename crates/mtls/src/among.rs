//! TLS of workloads among one another: rustls configurations that follow a rotation, for any library on rustls.

use std::sync::Arc;

use legate_clock::Clock;
use legate_planted::Bug;
use rustls::{ClientConfig, ServerConfig};

use crate::verifier::{Clients, Servers};
use crate::{Allow, Expect, Identity, OurTime, TlsError, Trust};

/// A client's: it shows `identity`, as it is at each handshake, and speaks to a server on the list alone. Without a certificate it
/// speaks to nobody. TLS 1.3, no session resumption; the name that the library gives is neither sent nor compared. ALPN is left to whoever takes it.
///
/// # Errors
/// When the provider lacks TLS 1.3 (it does not).
pub fn client_config(
    identity: Identity,
    trust: Trust,
    allow: Allow,
    clock: Arc<dyn Clock>,
) -> Result<ClientConfig, TlsError> {
    let servers = Servers { trust, expect: Expect::OneOf(allow), needs: Some(identity.clone()) };
    client(identity, servers, clock)
}

/// A server's: it shows `identity`, as it is at each handshake, demands a certificate, and lets in who is on the list. TLS 1.3, no session
/// resumption; ALPN is left to whoever takes it.
///
/// What was let in stays until it is closed: whoever accepts with it closes a connection when its certificate ends, as [`Listener`](crate::Listener) does.
///
/// # Errors
/// When the provider lacks TLS 1.3 (it does not).
pub fn server_config(
    identity: Identity,
    trust: Trust,
    allow: Allow,
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, TlsError> {
    server(identity, Some(Clients { trust, allow: Some(allow) }), clock)
}

/// Every client of ours.
pub(crate) fn client(identity: Identity, servers: Servers, clock: Arc<dyn Clock>) -> Result<ClientConfig, TlsError> {
    let mut config = ClientConfig::builder_with_details(crate::provider(), Arc::new(OurTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(servers))
        .with_client_cert_resolver(Arc::new(identity));
    // On a resumed session neither side's certificate would be looked at again.
    config.resumption = rustls::client::Resumption::disabled();
    config.enable_sni = false;
    Ok(config)
}

/// Every server of ours.
pub(crate) fn server(
    identity: Identity,
    clients: Option<Clients>,
    clock: Arc<dyn Clock>,
) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_details(crate::provider(), Arc::new(OurTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::new(clients)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(identity));
    // A resumed session would let a client in without its certificate being verified again.
    if !legate_planted::is(Bug::ResumeTls) {
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.max_early_data_size = 0;
    Ok(config)
}
