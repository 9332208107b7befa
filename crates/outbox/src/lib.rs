//! The outbox: an audit event commits with the change it tells of, and reaches the collector in order.
//!
//! A flow calls [`Outbox::record`] in its own transaction, last, since it takes the row lock that keeps
//! `seq` without gaps. [`ship`] carries what was committed to the collector: in order, in batches, again
//! and again until it is acknowledged, and it never holds up a writer. A backlog past its bound refuses
//! new writes with `AUDIT_UNAVAILABLE`. The same loop serves any other [`Source`], such as a spool on disk.

mod error;
mod heartbeat;
mod record;
mod refusals;
mod schema;
mod ship;
mod sink;
mod source;

pub use error::{AUDIT_UNAVAILABLE, REASONS, RecordError};
pub use heartbeat::{HEARTBEAT, LEFT, REPLICA, heartbeat};
pub use record::{Outbox, Standard};
pub use refusals::{EVERY, access_refused, record_refusals_forever};
pub use schema::migration;
pub use ship::{Metrics, Pace, Shipper, ship};
pub use sink::{Collector, Sink, SinkError};
pub use source::{Batch, DbSource, Source, SourceError, begin_epoch};
