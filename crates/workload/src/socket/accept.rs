//! The accept loop: so many connections at most, and so many of one user.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::bind::Held;
use super::conn::{Caller, Conn};
use crate::attest::{Looks, Newcomer, Unseen};
use crate::{Limits, Meter};

/// When the process has no file left, accepting again at once would only burn the processor.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How often the loop says that it goes round, whether or not anybody comes.
const BEAT: Duration = Duration::from_secs(1);

/// The loop's word that it goes round.
#[derive(Clone, Debug)]
pub(crate) struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    fn beat(&self) {
        *self.0.lock() = Instant::now();
    }

    /// How long ago it did.
    pub(crate) fn age(&self) -> Duration {
        self.0.lock().elapsed()
    }
}

/// What comes in.
pub(super) type Incoming = ReceiverStream<io::Result<Conn>>;

/// How many connections each user has.
pub(crate) type Seats = Arc<Mutex<HashMap<u32, usize>>>;

/// A place among those of one user, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    uid: u32,
    book: Seats,
}

impl Seat {
    pub(crate) fn take(book: &Seats, uid: u32, most: usize) -> Option<Self> {
        let mut open = book.lock();
        let has = open.entry(uid).or_default();
        if *has >= most {
            return None;
        }
        *has += 1;
        drop(open);
        Some(Self { uid, book: Arc::clone(book) })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut open = self.book.lock();
        match open.get_mut(&self.uid) {
            Some(has) if *has > 1 => *has -= 1,
            _ => drop(open.remove(&self.uid)),
        }
    }
}

/// Accepts from now on. Dropping the stream closes the socket and takes it away.
pub(crate) fn accept(
    (listener, held): (UnixListener, Held),
    limits: Limits,
    looks: Looks,
    pulse: Pulse,
    meter: Meter,
) -> Incoming {
    let (ready, incoming) = mpsc::channel(64);
    tokio::spawn(accept_loop((listener, held), limits, looks, pulse, meter, ready));
    ReceiverStream::new(incoming)
}

async fn accept_loop(
    (listener, _held): (UnixListener, Held),
    limits: Limits,
    looks: Looks,
    pulse: Pulse,
    meter: Meter,
    ready: mpsc::Sender<io::Result<Conn>>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let book = Seats::default();
    loop {
        pulse.beat();
        // A place first: with none left, connections wait in the kernel's queue.
        let place = tokio::select! {
            place = Arc::clone(&places).acquire_owned() => place,
            () = ready.closed() => return,
            () = tokio::time::sleep(BEAT) => continue,
        };
        let Ok(place) = place else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = ready.closed() => return,
            () = tokio::time::sleep(BEAT) => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                if error.kind() != io::ErrorKind::ConnectionAborted {
                    tokio::time::sleep(BACK_OFF).await;
                }
                continue;
            }
        };
        let Ok(uid) = stream.peer_cred().map(|peer| peer.uid()) else { continue };
        let Some(seat) = Seat::take(&book, uid, limits.connections_of_one_user) else {
            meter.turned_away();
            tracing::warn!(uid, "too many connections of one user");
            continue;
        };
        // Before its number can be another's; what it runs is looked at apart from here, where nobody waits for it.
        let newcomer = Newcomer::of(&stream);
        let (looks, meter, ready) = (looks.clone(), meter.clone(), ready.clone());
        tokio::spawn(async move {
            let peer = match newcomer {
                Ok(newcomer) => newcomer.seen(&looks).await,
                Err(unseen) => Err(unseen),
            };
            if let Err(unseen @ Unseen::NotRead) = peer {
                // It may try again; what was not looked at once is nobody for as long as it is connected.
                meter.turned_away();
                return tracing::warn!(uid, %unseen, "a connection is closed");
            }
            let conn = Conn::new(stream, Caller::new(peer), limits.trial, (place, seat));
            // When the helper takes no more connections, this one is closed by being dropped.
            let _gone = ready.send(Ok(conn)).await;
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn one_user_has_so_many_and_gives_them_back() {
        let book = Seats::default();
        let first = Seat::take(&book, 1, 2).unwrap();
        let _second = Seat::take(&book, 1, 2).unwrap();
        assert!(Seat::take(&book, 1, 2).is_none());
        let _other = Seat::take(&book, 2, 2).unwrap();
        drop(first);
        assert_eq!(book.lock().get(&1), Some(&1));
        drop(Seat::take(&book, 1, 2).unwrap());
        drop((_second, _other));
        assert!(book.lock().is_empty());
    }
}
