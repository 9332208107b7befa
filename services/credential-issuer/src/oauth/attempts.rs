//! Failed authentications, counted by address and client: whoever fails too often waits.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use legate_clock::Clock;

/// How often something may happen within a time.
#[derive(Clone, Copy, Debug)]
struct Window {
    most: u32,
    within: Duration,
}

/// One client from one address. By address as well, so that a stranger cannot lock a client out from elsewhere.
const OF_CLIENT: Window = Window { most: 100, within: Duration::from_secs(60) };
/// All clients from one address.
const OF_ADDRESS: Window = Window { most: 500, within: Duration::from_secs(60) };
/// Different addresses and clients that are told apart at a time; more are counted together.
const APART: usize = 4_096;

/// Whose failures are counted: an address, and a client that was named or none.
type Key = (Option<IpAddr>, String);

/// The failures of the present windows.
#[derive(Debug)]
pub(super) struct Attempts {
    clock: Arc<dyn Clock>,
    failed: Mutex<HashMap<Key, (Duration, u32)>>,
}

impl Attempts {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, failed: Mutex::default() }
    }

    /// How long to wait, where there were too many.
    pub(super) fn wait(&self, from: IpAddr, client: &str) -> Option<Duration> {
        let from = network(from);
        let now = self.clock.monotonic();
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let left = |key: &Key, window: Window| {
            let (since, count) = failed.get(key)?;
            let left = window.within.checked_sub(now.saturating_sub(*since))?;
            (*count >= window.most && !left.is_zero()).then_some(left)
        };
        let others = left(&(None, String::new()), Window { most: OF_ADDRESS.most * 10, ..OF_ADDRESS });
        let of_address = left(&(Some(from), String::new()), OF_ADDRESS).or(left(&key(from, client), OF_CLIENT));
        match failed.contains_key(&(Some(from), String::new())) {
            true => of_address,
            // One that was not told apart is judged with all the others that were not.
            false => others.filter(|_| failed.len() >= APART),
        }
    }

    /// One more.
    pub(super) fn note(&self, from: IpAddr, client: &str) {
        let from = network(from);
        let now = self.clock.monotonic();
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        for key in [(Some(from), String::new()), key(from, client)] {
            if failed.len() >= APART && !failed.contains_key(&key) {
                failed.retain(|_, (since, _)| now.saturating_sub(*since) < OF_ADDRESS.within);
            }
            let is_known = failed.contains_key(&key);
            let key = if failed.len() < APART || is_known { key } else { (None, String::new()) };
            let (since, count) = failed.entry(key).or_insert((now, 0));
            if now.saturating_sub(*since) >= OF_ADDRESS.within {
                (*since, *count) = (now, 0);
            }
            *count = count.saturating_add(1);
        }
    }
}

/// What one host may choose of its address does not count: of IPv6 all of the last 64 bits (RFC 4291 section 2.5.1).
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// What a stranger names is of no use beyond its length's bound.
fn key(from: IpAddr, client: &str) -> Key {
    let end = client.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= 64).last().unwrap_or(0);
    (Some(from), format!("={}", &client[..end]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use legate_clock::{TestClock, Timestamp};

    #[test]
    fn whoever_fails_too_often_waits_and_nobody_else() {
        let clock = TestClock::at(Timestamp::from_secs(1_800_000_000));
        let attempts = Attempts::new(clock.clone());
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        for _ in 0..OF_CLIENT.most {
            assert_eq!(attempts.wait(one, "agt_1"), None);
            attempts.note(one, "agt_1");
        }
        assert!(attempts.wait(one, "agt_1").is_some());
        assert_eq!(attempts.wait(two, "agt_1"), None, "a stranger locks nobody out from elsewhere");
        assert_eq!(attempts.wait(one, "agt_2"), None);
        for n in 0..OF_ADDRESS.most {
            attempts.note(one, &format!("guess_{n}"));
        }
        assert!(attempts.wait(one, "agt_2").is_some());
        clock.advance(OF_ADDRESS.within);
        assert_eq!(attempts.wait(one, "agt_1"), None);
        assert_eq!(attempts.wait(one, "agt_2"), None);
    }

    #[test]
    fn whoever_has_a_network_of_his_own_is_one_address() {
        let attempts = Attempts::new(TestClock::at(Timestamp::from_secs(1_800_000_000)));
        let of = |n: u16| IpAddr::from([0x2001, 0xdb8, 0, 1, n, n, n, n]);
        for n in 0..OF_ADDRESS.most {
            attempts.note(of(u16::try_from(n).unwrap_or(0)), &format!("guess_{n}"));
        }
        assert!(attempts.wait(of(9_999), "agt_1").is_some());
        assert_eq!(attempts.wait(IpAddr::from([0x2001, 0xdb8, 0, 2, 1, 1, 1, 1]), "agt_1"), None);
        // An IPv4 address is the same however it is written, and nobody's neighbour.
        let (plain, mapped) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 1]));
        for _ in 0..OF_CLIENT.most {
            attempts.note(mapped, "agt_1");
        }
        assert!(attempts.wait(plain, "agt_1").is_some());
        assert_eq!(attempts.wait(IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0x0a00, 2]), "agt_1"), None);
    }

    #[test]
    fn a_flood_takes_a_bounded_room() {
        let clock = TestClock::at(Timestamp::from_secs(1_800_000_000));
        let attempts = Attempts::new(clock.clone());
        for n in 0..20_000u32 {
            attempts.note(IpAddr::from(n.to_be_bytes()), &"é".repeat(1_000));
        }
        let kept = attempts.failed.lock().map(|failed| failed.len()).unwrap_or(0);
        assert!(kept <= APART + 1, "{kept}");
        assert!(attempts.wait(IpAddr::from([9, 9, 9, 9]), "agt_1").is_some(), "many of them together are too many");
        clock.advance(OF_ADDRESS.within);
        assert_eq!(attempts.wait(IpAddr::from([9, 9, 9, 9]), "agt_1"), None);
    }
}
