//! The accept loop: bounded handshakes with a deadline, bounded connections, back-off when files run out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use rustls_pki_types::UnixTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;

use crate::certificate::Side;
use crate::conn::Places;
use crate::{Conn, Connections, Limits, Peer, Trust};

/// What one loop works with.
pub(crate) struct Accept {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) trust: Option<Trust>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    pub(crate) connections: Connections,
    /// Places for peers without a certificate.
    pub(crate) strangers: Arc<Semaphore>,
    pub(crate) ready: mpsc::Sender<io::Result<Conn>>,
}

/// When the process has no file left, accepting again at once would only burn the processor.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Accepts until the receiving side is gone.
pub(crate) async fn accept_loop(tcp: TcpListener, accept: Accept) {
    let places = Arc::new(Semaphore::new(accept.limits.connections_within_files()));
    let handshakes = Arc::new(Semaphore::new(accept.limits.handshakes.max(1)));
    let accept = Arc::new(accept);
    loop {
        // A place first: with none left, connections wait in the kernel's queue.
        let (Ok(place), Ok(turn)) = (places.clone().acquire_owned().await, handshakes.clone().acquire_owned().await)
        else {
            return;
        };
        let accepted = tokio::select! {
            accepted = tcp.accept() => accepted,
            () = accept.ready.closed() => return,
        };
        match accepted {
            Ok((stream, addr)) => {
                tokio::spawn(handshake(accept.clone(), stream, addr, place, turn));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                // ECONNABORTED and the like concern one connection; anything else will come again.
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tokio::time::sleep(BACK_OFF).await;
                }
            }
        }
    }
}

async fn handshake(
    accept: Arc<Accept>,
    tcp: TcpStream,
    addr: SocketAddr,
    place: OwnedSemaphorePermit,
    turn: OwnedSemaphorePermit,
) {
    let _best_effort = tcp.set_nodelay(true);
    let finished = tokio::time::timeout(accept.limits.handshake_deadline, accept.acceptor.accept(tcp)).await;
    let stream = match finished {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::info!(%addr, %error, "handshake failed"),
        Err(_) => return tracing::info!(%addr, "handshake took too long"),
    };
    let Some(peer) = peer_of(&accept, &stream, addr) else {
        return tracing::warn!(%addr, "handshake succeeded and the certificate did not");
    };
    drop(turn);
    let stranger = match peer.principal.is_none() && accept.trust.is_some() {
        false => None,
        true => match accept.strangers.clone().try_acquire_owned() {
            Ok(place) => Some(place),
            Err(_) => return tracing::info!(%addr, "too many peers without a certificate"),
        },
    };
    let places = Places { _connection: place, _stranger: stranger };
    let left = peer.not_after.since(accept.clock.now());
    // tokio's timers end about two years ahead; no certificate lives that long, and nobody has none.
    let left = left.min(Duration::from_secs(365 * 24 * 3600));
    let Some(entry) = accept.connections.enter(Arc::new(peer), accept.limits.one_peer_within_files()) else {
        return tracing::info!(%addr, "too many connections of one peer");
    };
    let conn = Conn::new(stream, left, entry, places);
    // When the service no longer takes connections, this one is closed by being dropped.
    let _gone = accept.ready.send(Ok(conn)).await;
}

fn peer_of(accept: &Accept, stream: &tokio_rustls::server::TlsStream<TcpStream>, addr: SocketAddr) -> Option<Peer> {
    let (_, session) = stream.get_ref();
    let (Some(trust), Some([leaf, intermediates @ ..])) = (&accept.trust, session.peer_certificates()) else {
        return Some(Peer::anonymous(addr));
    };
    // The handshake verified the chain; reading it once more tells which CA did, and whom it names.
    let secs = u64::try_from(accept.clock.now().secs()).ok()?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(secs));
    let read = trust.verify(leaf, intermediates, now, Side::Client).ok()?;
    Some(Peer {
        principal: Some(read.principal),
        spiffe_id: Some(read.spiffe_id),
        not_before: read.not_before,
        not_after: read.not_after,
        x5t_s256: crate::identity::sha256(leaf),
        serial: read.serial,
        addr,
    })
}
