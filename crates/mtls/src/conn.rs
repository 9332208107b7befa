//! One accepted connection, which ends when its certificate does or when it is cut.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::Peer;

/// The connections that are open now.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Book>);

#[derive(Debug, Default)]
struct Book {
    next: AtomicU64,
    open: Mutex<HashMap<u64, (Arc<Peer>, CancellationToken)>>,
}

impl Connections {
    /// Cuts every open connection whose peer `which` picks, at once; how many.
    pub fn cut(&self, which: impl Fn(&Peer) -> bool) -> usize {
        let open = self.0.open.lock();
        let chosen = open.values().filter(|(peer, _)| which(peer));
        chosen.map(|(_, token)| token.cancel()).count()
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.open.lock().len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn enter(&self, peer: &Arc<Peer>) -> (Entry, CancellationToken) {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let token = CancellationToken::new();
        self.0.open.lock().insert(id, (peer.clone(), token.clone()));
        (Entry { id, book: self.0.clone() }, token)
    }
}

/// A line in the book, struck out when the connection is dropped.
#[derive(Debug)]
struct Entry {
    id: u64,
    book: Arc<Book>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.book.open.lock().remove(&self.id);
    }
}

/// An accepted connection.
#[derive(Debug)]
pub struct Conn {
    stream: TlsStream<TcpStream>,
    peer: Arc<Peer>,
    cut: CancellationToken,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    expiry: Pin<Box<tokio::time::Sleep>>,
    _entry: Entry,
    _places: Places,
}

/// What a connection takes up while it is open.
#[derive(Debug)]
pub(crate) struct Places {
    pub(crate) _connection: OwnedSemaphorePermit,
    /// Held as well by a peer without a certificate.
    pub(crate) _stranger: Option<OwnedSemaphorePermit>,
}

impl Conn {
    pub(crate) fn new(
        stream: TlsStream<TcpStream>,
        peer: Arc<Peer>,
        left: std::time::Duration,
        connections: &Connections,
        places: Places,
    ) -> Self {
        let (entry, cut) = connections.enter(&peer);
        Self {
            stream,
            peer,
            ended: Box::pin(cut.clone().cancelled_owned()),
            cut,
            expiry: Box::pin(tokio::time::sleep(left)),
            _entry: entry,
            _places: places,
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut: the peer's standing was taken back"));
        }
        if self.expiry.as_mut().poll(cx).is_ready() {
            self.cut.cancel();
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut: the peer's certificate has expired"));
        }
        Ok(())
    }
}

impl Conn {
    /// A peer that does not read keeps us from reading too, so that writing has to notice the cut as well.
    fn refuse_when_cut(&self) -> io::Result<()> {
        if self.cut.is_cancelled() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl tonic::transport::server::Connected for Conn {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        self.peer.clone()
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_ended(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.refuse_when_cut()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.refuse_when_cut()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A peer that does not read could hold up the farewell of TLS; one that was cut gets none.
        if self.cut.is_cancelled() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.refuse_when_cut()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
