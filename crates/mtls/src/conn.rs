//! One accepted connection, which ends when its certificate does or when it is cut.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use legate_ids::SpiffeId;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
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
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    lines: HashMap<u64, Line>,
    /// How many each peer with a certificate has.
    of: HashMap<SpiffeId, usize>,
}

/// One open connection.
#[derive(Clone, Debug)]
struct Line {
    peer: Arc<Peer>,
    cut: CancellationToken,
}

impl Connections {
    /// Cuts every open connection whose peer `which` picks, at once; how many.
    pub fn cut(&self, which: impl Fn(&Peer) -> bool) -> usize {
        let open = self.0.open.lock();
        let chosen = open.lines.values().filter(|line| which(&line.peer));
        chosen.map(|line| line.cut.cancel()).count()
    }

    /// Cuts every open connection whose peer showed certificates that `trusts` refuses; how many. Others connect meanwhile.
    pub(crate) fn cut_unless(&self, trusts: impl Fn(&[CertificateDer<'static>]) -> bool) -> usize {
        let lines: Vec<Line> = self.0.open.lock().lines.values().cloned().collect();
        let chosen = lines.iter().filter(|line| !line.peer.chain.is_empty() && !trusts(&line.peer.chain));
        chosen.map(|line| line.cut.cancel()).count()
    }

    /// How many are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.open.lock().lines.len()
    }

    /// Whether none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Enters a connection, unless its peer has `most` already. A peer without a certificate is not counted.
    pub(crate) fn enter(&self, peer: Arc<Peer>, most: usize) -> Option<Entry> {
        let cut = CancellationToken::new();
        let mut open = self.0.open.lock();
        if let Some(id) = &peer.spiffe_id {
            let has = open.of.entry(id.clone()).or_default();
            if *has >= most {
                return None;
            }
            *has += 1;
        }
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        open.lines.insert(id, Line { peer: peer.clone(), cut: cut.clone() });
        Some(Entry { id, peer, cut, book: self.0.clone() })
    }
}

/// A line in the book, struck out when the connection is dropped.
#[derive(Debug)]
pub(crate) struct Entry {
    id: u64,
    peer: Arc<Peer>,
    cut: CancellationToken,
    book: Arc<Book>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.book.open.lock();
        open.lines.remove(&self.id);
        let Some(id) = &self.peer.spiffe_id else { return };
        match open.of.get_mut(id) {
            Some(has) if *has > 1 => *has -= 1,
            _ => drop(open.of.remove(id)),
        }
    }
}

/// An accepted connection.
#[derive(Debug)]
pub struct Conn {
    stream: TlsStream<TcpStream>,
    ended: Pin<Box<WaitForCancellationFutureOwned>>,
    expiry: Pin<Box<tokio::time::Sleep>>,
    entry: Entry,
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
    pub(crate) fn new(stream: TlsStream<TcpStream>, left: std::time::Duration, entry: Entry, places: Places) -> Self {
        Self {
            stream,
            ended: Box::pin(entry.cut.clone().cancelled_owned()),
            expiry: Box::pin(tokio::time::sleep(left)),
            entry,
            _places: places,
        }
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Arc<Peer> {
        &self.entry.peer
    }

    fn poll_ended(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.ended.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut: the peer's standing was taken back"));
        }
        if self.expiry.as_mut().poll(cx).is_ready() {
            self.entry.cut.cancel();
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut: the peer's certificate has expired"));
        }
        Ok(())
    }
}

impl Conn {
    /// Whether it was cut, or its certificate has expired.
    fn is_over(&self) -> bool {
        self.entry.cut.is_cancelled() || self.expiry.is_elapsed()
    }

    /// A peer that does not read keeps us from reading too, so that writing has to notice the end as well.
    fn refuse_when_over(&self) -> io::Result<()> {
        if self.is_over() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
    }
}

impl tonic::transport::server::Connected for Conn {
    type ConnectInfo = Arc<Peer>;

    fn connect_info(&self) -> Arc<Peer> {
        self.entry.peer.clone()
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
        self.refuse_when_over()?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.refuse_when_over()?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A peer that does not read could hold up the farewell of TLS; one whose time is over gets none.
        if self.is_over() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.refuse_when_over()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
