//! The only caller of `SystemTime::now`: time as an argument, real or turned by hand.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment in Unix time, microseconds since 1970-01-01T00:00:00Z, without leap seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment `micros` microseconds after (or, negative, before) the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The moment `secs` seconds after the Unix epoch; saturates at the ends of the range.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down (JWT `NumericDate`, RFC 7519 section 2).
    #[must_use]
    pub const fn secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// This moment and `d` more; saturates.
    #[must_use]
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(micros_of(d)))
    }

    /// This moment less `d`; saturates.
    #[must_use]
    pub fn minus(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(micros_of(d)))
    }

    /// How long ago `earlier` was, zero when it lies in the future.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This moment as the `time` crate's type, `None` outside years 0..=9999.
    #[must_use]
    pub fn to_datetime(self) -> Option<time::OffsetDateTime> {
        time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000)
            .ok()
            .filter(|t| (0..=9999).contains(&t.year()))
    }

    /// The moment an RFC 3339 text names, such as `2026-11-24T08:00:00Z`.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let t = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339);
        i64::try_from(t.ok()?.unix_timestamp_nanos() / 1_000).ok().map(Self)
    }
}

fn micros_of(d: Duration) -> i64 {
    i64::try_from(d.as_micros()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC; a moment outside years 0..=9999 prints as `@MICROSECONDS`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_datetime().and_then(|t| t.format(&time::format_description::well_known::Rfc3339).ok());
        match text {
            Some(text) => f.write_str(&text),
            None => write!(f, "@{}", self.0),
        }
    }
}

impl From<Timestamp> for prost_types::Timestamp {
    fn from(t: Timestamp) -> Self {
        Self { seconds: t.secs(), nanos: i32::try_from(t.0.rem_euclid(1_000_000) * 1_000).unwrap_or(0) }
    }
}

/// A protobuf timestamp outside the range of [`Timestamp`], or with nanoseconds outside 0..1e9.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange;

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the timestamp is outside years 0001 to 9999 or its nanoseconds are not in 0..1000000000")
    }
}

impl std::error::Error for OutOfRange {}

impl TryFrom<prost_types::Timestamp> for Timestamp {
    type Error = OutOfRange;

    /// Nanoseconds are cut to whole microseconds.
    fn try_from(t: prost_types::Timestamp) -> Result<Self, OutOfRange> {
        // google.protobuf.Timestamp: from 0001-01-01T00:00:00Z to 9999-12-31T23:59:59.999999999Z.
        const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
        if !RANGE.contains(&t.seconds) || !(0..1_000_000_000).contains(&t.nanos) {
            return Err(OutOfRange);
        }
        Ok(Self(t.seconds * 1_000_000 + i64::from(t.nanos) / 1_000))
    }
}

/// Where time comes from. Services hold one `Arc<dyn Clock>` and pass its readings down.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Wall-clock time; may jump.
    fn now(&self) -> Timestamp;

    /// Time that never goes back, from an arbitrary start; goes on while the process is stopped by a signal.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic reading starts near zero now.
    #[must_use]
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// The same, ready to share.
    #[must_use]
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self::new())
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that may ask")]
    fn now(&self) -> Timestamp {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(d) => Timestamp(micros_of(d)),
            Err(e) => Timestamp(-micros_of(e.duration())),
        }
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is turned.
#[derive(Debug)]
pub struct TestClock {
    now: AtomicI64,
    mono: AtomicU64,
}

impl TestClock {
    /// A clock standing at `now`, monotonic reading zero.
    #[must_use]
    pub fn at(now: Timestamp) -> Arc<Self> {
        Arc::new(Self { now: AtomicI64::new(now.0), mono: AtomicU64::new(0) })
    }

    /// Lets `d` pass, on both readings.
    pub fn advance(&self, d: Duration) {
        self.now.fetch_add(micros_of(d), Ordering::SeqCst);
        let micros = u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        self.mono.fetch_add(micros, Ordering::SeqCst);
    }

    /// Makes the wall clock jump, as a clock set by hand would; monotonic time does not move.
    pub fn jump_to(&self, now: Timestamp) {
        self.now.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::from_micros(self.mono.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn prints_and_reads_rfc3339() {
        let t = Timestamp::from_micros(1_764_000_000_123_456);
        assert_eq!(t.to_string(), "2025-11-24T16:00:00.123456Z");
        assert_eq!(Timestamp::parse_rfc3339(&t.to_string()), Some(t));
        assert_eq!(Timestamp::from_micros(i64::MAX).to_string(), format!("@{}", i64::MAX));
    }

    #[test]
    fn protobuf_round_trip_keeps_microseconds_also_before_the_epoch() {
        for micros in [-1, 0, 1, -62_135_596_800_000_000, 253_402_300_799_999_999] {
            let t = Timestamp::from_micros(micros);
            assert_eq!(Timestamp::try_from(prost_types::Timestamp::from(t)), Ok(t));
        }
        let bad = prost_types::Timestamp { seconds: 0, nanos: -1 };
        assert_eq!(Timestamp::try_from(bad), Err(OutOfRange));
    }

    #[test]
    fn a_turned_clock_moves_only_when_turned() {
        let clock = TestClock::at(Timestamp::from_secs(10));
        clock.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), Timestamp::from_secs(15));
        clock.jump_to(Timestamp::from_secs(1));
        assert_eq!(clock.monotonic(), Duration::from_secs(5));
        assert_eq!(clock.now().since(Timestamp::from_secs(15)), Duration::ZERO);
    }
}
