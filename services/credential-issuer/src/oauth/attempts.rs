//! Failed authentications, counted by address: whoever fails much is looked after a few at a time, and nobody is turned away for it.
//!
//! A secret has 256 bits and an assertion is signed, so nobody guesses one, and nothing is gained by a lock, which anybody could turn
//! for somebody else. What failures cost is looking things up and checking signatures; of that an address gets a bounded part.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use legate_clock::Clock;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So many failures from one address are much.
const MUCH: u32 = 100;
/// Within so long.
const WITHIN: Duration = Duration::from_secs(60);
/// From an address with that many, so many are looked after at a time; the others wait for their turn.
const AT_ONCE: usize = 4;
/// Addresses that are told apart at a time; more are counted together, and get as much as so many addresses.
const APART: usize = 4_096;
const TOGETHER: usize = 16;

/// The failures of the present windows.
#[derive(Debug)]
pub(super) struct Attempts {
    clock: Arc<dyn Clock>,
    failing: Mutex<HashMap<Option<IpAddr>, Failing>>,
}

/// The failures of one address, or of all that are not told apart.
#[derive(Debug)]
struct Failing {
    since: Duration,
    count: u32,
    lane: Arc<Semaphore>,
}

/// The right to be looked after; it ends when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Attempts {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, failing: Mutex::default() }
    }

    /// Waits for the turn of something that is not proved yet and has to be looked up; at once where its address fails little. The
    /// request's deadline ends a wait.
    pub(super) async fn turn(&self, from: IpAddr) -> Turn {
        let permit = match self.lane(from) {
            // A semaphore that nobody closes.
            Some(lane) => lane.acquire_owned().await.ok(),
            None => None,
        };
        Turn { _permit: permit }
    }

    /// Where it has to wait, where it has.
    fn lane(&self, from: IpAddr) -> Option<Arc<Semaphore>> {
        let now = self.clock.monotonic();
        let failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let (one, much) = match failing.get(&Some(network(from))) {
            Some(one) => (one, MUCH),
            // One that is not told apart waits with all the others that are not.
            None if failing.len() >= APART => (failing.get(&None)?, MUCH * u32::try_from(TOGETHER).unwrap_or(1)),
            None => return None,
        };
        let is_now = now.saturating_sub(one.since) < WITHIN;
        (is_now && one.count >= much).then(|| Arc::clone(&one.lane))
    }

    /// One more failure.
    pub(super) fn note(&self, from: IpAddr) {
        let from = Some(network(from));
        let now = self.clock.monotonic();
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        if failing.len() >= APART && !failing.contains_key(&from) {
            failing.retain(|_, one| now.saturating_sub(one.since) < WITHIN);
        }
        let is_apart = failing.len() < APART || failing.contains_key(&from);
        let (key, lanes) = if is_apart { (from, AT_ONCE) } else { (None, AT_ONCE * TOGETHER) };
        let new = || Failing { since: now, count: 0, lane: Arc::new(Semaphore::new(lanes)) };
        let one = failing.entry(key).or_insert_with(new);
        if now.saturating_sub(one.since) >= WITHIN {
            (one.since, one.count) = (now, 0);
        }
        one.count = one.count.saturating_add(1);
    }
}

/// What one host may choose of its address does not count: of IPv6 all of the last 64 bits (RFC 4291 section 2.5.1).
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use legate_clock::{TestClock, Timestamp};

    fn attempts() -> (Arc<TestClock>, Attempts) {
        let clock = TestClock::at(Timestamp::from_secs(1_800_000_000));
        (clock.clone(), Attempts::new(clock))
    }

    /// How many are looked after at a time, up to 100.
    fn at_once(attempts: &Attempts, from: IpAddr) -> usize {
        let turns: Vec<Turn> = (0..100).map_while(|_| attempts.turn(from).now_or_never()).collect();
        turns.len()
    }

    #[test]
    fn whoever_fails_much_waits_for_his_turn_and_gets_it_and_nobody_else_waits() {
        let (clock, attempts) = attempts();
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..MUCH {
            assert_eq!(at_once(&attempts, one), 100);
            attempts.note(one);
        }
        assert_eq!((at_once(&attempts, one), at_once(&attempts, two)), (AT_ONCE, 100));
        // However much it is: whoever waits is next when another is done.
        for _ in 0..10_000 {
            attempts.note(one);
        }
        let mut busy: Vec<Turn> = (0..AT_ONCE).filter_map(|_| attempts.turn(one).now_or_never()).collect();
        let mut next = Box::pin(attempts.turn(one));
        assert!(next.as_mut().now_or_never().is_none());
        drop(busy.pop());
        assert!(next.as_mut().now_or_never().is_some());
        drop((busy, next));
        clock.advance(WITHIN);
        assert_eq!(at_once(&attempts, one), 100);
    }

    #[test]
    fn whoever_has_a_network_of_his_own_is_one_address() {
        let (_, attempts) = attempts();
        let of = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, n, n, n, n]);
        for n in 0..MUCH {
            attempts.note(of(u16::try_from(n).unwrap_or(0)));
        }
        assert_eq!(at_once(&attempts, of(9_999)), AT_ONCE);
        assert_eq!(at_once(&attempts, IpAddr::from([0x2001, 0xdb8, 0, 2, 1, 1, 1, 1])), 100);
        // An IPv4 address is the same however it is written, and nobody's neighbour.
        let (plain, mapped) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 1]));
        for _ in 0..MUCH {
            attempts.note(mapped);
        }
        assert_eq!(at_once(&attempts, plain), AT_ONCE);
        assert_eq!(at_once(&attempts, IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 2])), 100);
    }

    #[test]
    fn a_flood_takes_a_bounded_room_and_turns_nobody_away() {
        let (clock, attempts) = attempts();
        let elsewhere = IpAddr::from([200, 9, 9, 9]);
        for n in 0..20_000u32 {
            attempts.note(IpAddr::from(n.to_be_bytes()));
        }
        let kept = attempts.failing.lock().map(|failing| failing.len()).unwrap_or(0);
        assert!(kept <= APART + 1, "{kept}");
        assert_eq!(at_once(&attempts, elsewhere), AT_ONCE * TOGETHER, "many of them together wait together");
        clock.advance(WITHIN);
        assert_eq!(at_once(&attempts, elsewhere), 100);
    }
}
