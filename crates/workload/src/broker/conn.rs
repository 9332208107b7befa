//! Connections of brokers: mutual TLS over the unix socket, each until its certificate ends or it is cut.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use legate_clock::Clock;
use legate_mtls::{LocalAcceptor, LocalPeer, LocalStream};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::Limits;
use crate::socket::{Bound, Seat, Seats};

/// Brokers are few: connections of all of them.
const MOST: usize = 256;
/// Of these, handshakes under way.
const HANDSHAKES: usize = 32;
/// When the process has no file left, accepting again at once would only burn the processor.
const BACK_OFF: Duration = Duration::from_millis(100);

/// The connections that are open, to cut them.
#[derive(Clone, Debug, Default)]
pub(super) struct Book(Arc<Lines>);

#[derive(Debug, Default)]
struct Lines {
    next: AtomicU64,
    open: Mutex<HashMap<u64, (Arc<LocalPeer>, CancellationToken)>>,
}

impl Book {
    /// Cuts those whose peer may not be there any more.
    pub(super) fn cut_unless(&self, may: impl Fn(&LocalPeer) -> bool) {
        for (peer, cut) in self.0.open.lock().values() {
            if !may(peer) {
                cut.cancel();
            }
        }
    }

    fn enter(&self, peer: Arc<LocalPeer>) -> Line {
        let (number, cut) = (self.0.next.fetch_add(1, Ordering::Relaxed), CancellationToken::new());
        self.0.open.lock().insert(number, (peer, cut.clone()));
        Line { number, cut, book: Arc::clone(&self.0) }
    }
}

/// A line of the book, struck out when the connection is dropped.
#[derive(Debug)]
struct Line {
    number: u64,
    cut: CancellationToken,
    book: Arc<Lines>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.book.open.lock().remove(&self.number);
    }
}

/// A broker's connection.
#[derive(Debug)]
pub(super) struct Conn {
    stream: LocalStream<UnixStream>,
    peer: Arc<LocalPeer>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    expiry: Pin<Box<tokio::time::Sleep>>,
    _line: Line,
    _places: (OwnedSemaphorePermit, Seat),
}

impl Conn {
    fn poll_over(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut.as_mut().poll(cx).is_ready() || self.expiry.as_mut().poll(cx).is_ready() {
            let why = "the broker's certificate ended, or it may not ask for others any more";
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
        }
        Ok(())
    }
}

impl tonic::transport::server::Connected for Conn {
    type ConnectInfo = Arc<LocalPeer>;

    fn connect_info(&self) -> Arc<LocalPeer> {
        Arc::clone(&self.peer)
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_over(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_over(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_over(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whose time is over gets no farewell, which it might not read.
        if self.poll_over(cx).is_err() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Accepts from now on. Dropping the stream closes the socket and takes it away.
pub(super) fn accept(
    bound: Bound,
    acceptor: LocalAcceptor,
    limits: Limits,
    book: Book,
    clock: Arc<dyn Clock>,
) -> ReceiverStream<io::Result<Conn>> {
    let (ready, incoming) = mpsc::channel(16);
    tokio::spawn(accept_loop(bound, acceptor, limits, book, clock, ready));
    ReceiverStream::new(incoming)
}

async fn accept_loop(
    bound: Bound,
    acceptor: LocalAcceptor,
    limits: Limits,
    book: Book,
    clock: Arc<dyn Clock>,
    ready: mpsc::Sender<io::Result<Conn>>,
) {
    let (listener, _held) = bound.into_parts();
    let places = Arc::new(Semaphore::new(MOST.min(limits.connections)));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let seats = Seats::default();
    loop {
        let turns =
            async { (Arc::clone(&places).acquire_owned().await, Arc::clone(&handshakes).acquire_owned().await) };
        let (Ok(place), Ok(turn)) = (tokio::select! {
            turns = turns => turns,
            () = ready.closed() => return,
        }) else {
            return;
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        let Ok(uid) = stream.peer_cred().map(|peer| peer.uid()) else { continue };
        // No user takes more than half of the places, so that none keeps the brokers of others out.
        let Some(seat) = Seat::take(&seats, uid, MOST / 2) else {
            tracing::warn!(uid, "too many connections of one user");
            continue;
        };
        let (acceptor, book, clock, ready) = (acceptor.clone(), book.clone(), Arc::clone(&clock), ready.clone());
        tokio::spawn(async move {
            let accepted = acceptor.accept(stream).await;
            drop(turn);
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => return tracing::info!(uid, %error, "the handshake of a broker failed"),
            };
            let peer = Arc::new(peer);
            let left = peer.not_after.since(clock.now());
            let line = book.enter(Arc::clone(&peer));
            let conn = Conn {
                stream,
                peer,
                cut: Box::pin(line.cut.clone().cancelled_owned()),
                expiry: Box::pin(tokio::time::sleep(left)),
                _line: line,
                _places: (place, seat),
            };
            // When the helper takes no more connections, this one is closed by being dropped.
            let _gone = ready.send(Ok(conn)).await;
        });
    }
}
