//! One accepted connection of a process.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::accept::Seat;
use crate::attest::{Peer, Unseen};

/// HTTP/2 begins with so many bytes (RFC 9113 section 3.4).
const PREFACE: usize = 24;
/// Whoever has not sent them after so long is no client.
const PREFACE_DEADLINE: Duration = Duration::from_secs(3);
/// Whoever does not take what was written for so long is dropped.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// Who is at the other end, or why nobody knows: then every call is refused with that.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Result<Arc<Peer>, Unseen>);

/// A connection, with the places that it takes up.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: UnixStream,
    caller: Caller,
    /// Bytes of the preface that are still to come.
    preface_left: usize,
    deadline: Pin<Box<Sleep>>,
    /// Whether `deadline` is that of a write.
    writing: bool,
    _places: (OwnedSemaphorePermit, Seat),
}

impl Conn {
    pub(super) fn new(stream: UnixStream, caller: Caller, places: (OwnedSemaphorePermit, Seat)) -> Self {
        Self {
            stream,
            caller,
            preface_left: PREFACE,
            deadline: Box::pin(tokio::time::sleep(PREFACE_DEADLINE)),
            writing: false,
            _places: places,
        }
    }

    /// Keeps the time of a write that waits.
    fn within<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing = false;
            return written;
        }
        if !self.writing {
            self.writing = true;
            self.deadline.as_mut().reset(Instant::now() + WRITE_DEADLINE);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the process does not read what it asked for")))
    }
}

impl tonic::transport::server::Connected for Conn {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Conn {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if self.preface_left > 0 {
            self.preface_left = self.preface_left.saturating_sub(buf.filled().len() - before);
            if read.is_pending() && self.deadline.as_mut().poll(cx).is_ready() {
                let why = "no HTTP/2 preface within 3 s";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
            }
        }
        read
    }
}

impl AsyncWrite for Conn {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if self.preface_left > 0 { written } else { self.within(cx, written) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if self.preface_left > 0 { written } else { self.within(cx, written) }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
