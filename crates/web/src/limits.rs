//! The bounds of one HTTPS port.

use std::time::Duration;

/// Bounds on connections, headers, bodies and requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Streams open on one connection.
    pub streams_per_connection: u32,
    /// Bytes of headers in one request.
    pub header_bytes: usize,
    /// Headers in one request.
    pub headers: usize,
    /// Headers have to be there within this, also those of the next request on the same connection (HTTP/1.1). Who has asked
    /// nothing by then is cut, whatever he speaks.
    pub header_deadline: Duration,
    /// Bytes in the body of one request; it is read whole before its handler is asked.
    pub body_bytes: usize,
    /// From the end of the headers to the answer.
    pub request_deadline: Duration,
    /// Resets by the peer that are waiting to be seen (CVE-2023-44487).
    pub pending_resets: usize,
    /// A silent peer is pinged after so long (HTTP/2), and given up after `ping_deadline`.
    pub ping_after: Duration,
    /// How long a ping may stay unanswered.
    pub ping_deadline: Duration,
    /// A connection is asked to end after this.
    pub connection_age: Duration,
    /// And is cut after this.
    pub connection_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            streams_per_connection: 32,
            header_bytes: 16 << 10,
            headers: 64,
            header_deadline: Duration::from_secs(5),
            body_bytes: 64 << 10,
            request_deadline: Duration::from_secs(5),
            pending_resets: 20,
            ping_after: Duration::from_secs(20),
            ping_deadline: Duration::from_secs(10),
            connection_age: Duration::from_secs(60),
            connection_grace: Duration::from_secs(10),
        }
    }
}
