//! One accepted connection of a process.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
pub(crate) struct Caller {
    peer: Result<Arc<Peer>, Unseen>,
    /// It was given something.
    is_entitled: Arc<AtomicBool>,
}

impl Caller {
    pub(super) fn new(peer: Result<Peer, Unseen>) -> Self {
        Self { peer: peer.map(Arc::new), is_entitled: Arc::default() }
    }

    /// The process.
    ///
    /// # Errors
    /// Why nobody knows it.
    pub(crate) fn peer(&self) -> Result<&Arc<Peer>, Unseen> {
        self.peer.as_ref().map_err(|unseen| *unseen)
    }

    /// It was given something: its connection is kept for as long as it likes.
    pub(crate) fn entitle(&self) {
        self.is_entitled.store(true, Ordering::Relaxed);
    }
}

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
    /// When a connection over which nothing was given is closed; `None`: it is kept.
    trial: Option<Pin<Box<Sleep>>>,
    _places: (OwnedSemaphorePermit, Seat),
}

impl Conn {
    /// One over which nothing is given for as long as `trial` is closed then, whatever it asks: its places are for whoever is entitled.
    pub(super) fn new(
        stream: UnixStream,
        caller: Caller,
        trial: Duration,
        places: (OwnedSemaphorePermit, Seat),
    ) -> Self {
        Self {
            stream,
            caller,
            speller: Speller::new(),
            spelt: (Vec::new(), 0),
            preface_left: PREFACE,
            deadline: Box::pin(tokio::time::sleep(PREFACE_DEADLINE)),
            writing: false,
            trial: Some(Box::pin(tokio::time::sleep(trial))),
            _places: places,
        }
    }

    fn poll_trial(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.caller.is_entitled.load(Ordering::Relaxed) {
            self.trial = None;
        }
        if self.trial.as_mut().is_some_and(|trial| trial.as_mut().poll(cx).is_ready()) {
            let why = "nothing was given over this connection for a long time";
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        }
        Ok(())
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
        this.poll_trial(cx)?;
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
