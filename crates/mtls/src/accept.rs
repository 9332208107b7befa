//! The accept loop: bounded handshakes with a deadline, bounded connections, back-off when files run out.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
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
    // Ends with the loop.
    let mut distrusting = JoinSet::new();
    if let Some(trust) = accept.trust.clone() {
        distrusting.spawn(cut_untrusted(accept.connections.clone(), trust, Arc::clone(&accept.clock)));
    }
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

/// Whenever other CA certificates are believed, cuts the connections of those whose are not among them any more.
async fn cut_untrusted(connections: Connections, trust: Trust, clock: Arc<dyn Clock>) {
    let mut changes = trust.changes();
    while changes.changed().await.is_ok() {
        let (connections, trust, clock) = (connections.clone(), trust.clone(), Arc::clone(&clock));
        // Ten thousand signatures are a second's work.
        let work = move || connections.cut_unless(|chain| is_trusted(&trust, chain, clock.as_ref()));
        match tokio::task::spawn_blocking(work).await {
            Ok(0) => {}
            Ok(cut) => tracing::info!(cut, "connections are cut whose CA is believed no more"),
            Err(error) => tracing::error!(%error, "connections could not be looked through"),
        }
    }
}

fn is_trusted(trust: &Trust, chain: &[CertificateDer<'_>], clock: &dyn Clock) -> bool {
    let [leaf, intermediates @ ..] = chain else { return true };
    let secs = u64::try_from(clock.now().secs()).unwrap_or(0);
    let now = UnixTime::since_unix_epoch(Duration::from_secs(secs));
    trust.verify(leaf, intermediates, now, Side::Client).is_ok()
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
    let changes = accept.trust.as_ref().map(Trust::changes);
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
    let chain = Arc::clone(&peer.chain);
    let Some(entry) = accept.connections.enter(Arc::new(peer), accept.limits.one_peer_within_files()) else {
        return tracing::info!(%addr, "too many connections of one peer");
    };
    // Whoever looked through the book between the verification and the entry has not seen it.
    if let (Some(trust), Some(changes)) = (&accept.trust, changes)
        && changes.has_changed().unwrap_or(true)
        && !is_trusted(trust, &chain, accept.clock.as_ref())
    {
        return tracing::info!(%addr, "the peer's CA is believed no more");
    }
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
        chain: session.peer_certificates().unwrap_or_default().iter().map(|der| der.clone().into_owned()).collect(),
        addr,
    })
}
