//! How a database is opened: sizes and waits, all bounded.

use std::time::Duration;

/// Sizes and waits of a [`Db`](crate::Db).
#[derive(Clone, Debug)]
pub struct Options {
    /// Connections for reads on SQLite. 1 to 64, default 4.
    pub readers: u32,
    /// Connections on PostgreSQL. 1 to 1,000, default 16.
    pub pool: u32,
    /// How long a transaction waits for its turn or its connection. Default 2 s.
    pub acquire_timeout: Duration,
    /// How long a transaction may run. Default 10 s.
    pub tx_timeout: Duration,
    /// Transactions waiting for the SQLite writer. Default 4,096.
    pub queue: usize,
    /// The most transactions in one commit on SQLite. Default 256.
    pub group: usize,
    /// The longest a commit on SQLite waits for more transactions that are already queued. Default 10 ms.
    pub group_time: Duration,
    /// How often a transaction is repeated after a serialization failure on PostgreSQL. Default 8.
    pub retries: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            readers: 4,
            pool: 16,
            acquire_timeout: Duration::from_secs(2),
            tx_timeout: Duration::from_secs(10),
            queue: 4_096,
            group: 256,
            group_time: Duration::from_millis(10),
            retries: 8,
        }
    }
}
