//! The bounds of one service's gRPC server.

use std::time::Duration;

/// Bounds on connections, streams and calls.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams open on one connection.
    pub streams_per_connection: u32,
    /// Bytes of headers in one request.
    pub header_bytes: u32,
    /// A connection that lives longer is asked to reconnect.
    pub connection_age: Duration,
    /// How long calls may go on after that.
    pub connection_grace: Duration,
    /// Resets by the peer that are waiting to be seen (CVE-2023-44487).
    pub pending_resets: usize,
    /// A silent peer is pinged after so long, and given up after `ping_deadline`.
    pub ping_after: Duration,
    /// How long a ping may stay unanswered.
    pub ping_deadline: Duration,
    /// The deadline of calls that name none.
    pub default_deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_per_connection: 1_024,
            header_bytes: 16 * 1_024,
            connection_age: Duration::from_secs(3_600),
            connection_grace: Duration::from_secs(30),
            pending_resets: 20,
            ping_after: Duration::from_secs(20),
            ping_deadline: Duration::from_secs(10),
            default_deadline: Duration::from_secs(5),
        }
    }
}
