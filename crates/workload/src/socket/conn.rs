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
use super::spelling::{PREFACE, Speller};
use crate::attest::{Peer, Unseen};

/// Whoever has not sent them after so long is no client.
const PREFACE_DEADLINE: Duration = Duration::from_secs(3);
/// Whoever does not take what was written for so long is dropped.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// So much is read at once.
const ROOM: usize = 4_096;

/// Who is at the other end, or why nobody knows: then every call is refused with that.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) Result<Arc<Peer>, Unseen>);

/// A connection, with the places that it takes up.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: UnixStream,
    caller: Caller,
    speller: Speller,
    /// What came and was not read yet, and from where on.
    spelt: (Vec<u8>, usize),
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
            speller: Speller::new(),
            spelt: (Vec::new(), 0),
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
        let this = &mut *self;
        loop {
            let (spelt, from) = (&mut this.spelt.0, &mut this.spelt.1);
            if *from < spelt.len() {
                let now = (spelt.len() - *from).min(buf.remaining());
                buf.put_slice(&spelt[*from..*from + now]);
                *from += now;
                return Poll::Ready(Ok(()));
            }
            spelt.clear();
            *from = 0;
            let mut room = [0; ROOM];
            let mut came = ReadBuf::new(&mut room);
            match Pin::new(&mut this.stream).poll_read(cx, &mut came) {
                Poll::Ready(Ok(())) if came.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(())) => {
                    this.preface_left = this.preface_left.saturating_sub(came.filled().len());
                    this.speller.feed(came.filled(), spelt);
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if this.preface_left > 0 && this.deadline.as_mut().poll(cx).is_ready() => {
                    let why = "no HTTP/2 preface within 3 s";
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
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
