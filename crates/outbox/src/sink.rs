//! Where events go: the trait, and audit-collector behind it.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use legate_personal::Split;
use legate_rpc::{Client, Told};
use legate_wire::audit::ingest_service_client::IngestServiceClient;
use legate_wire::audit::{AppendEventsRequest, AuditEvent, EventPersonal};
use prost::Message as _;

use crate::Batch;

/// Events and names in one request, in bytes; the collector takes 4 MiB of each.
const MOST_BYTES: usize = 3 << 20;

/// Why a batch was not taken; it is offered again.
#[derive(Debug, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct SinkError {
    /// The stable reason.
    pub reason: String,
    /// What the sink said.
    pub message: String,
    /// How long the sink wants to be left alone.
    pub retry_after: Option<Duration>,
    /// The sink refuses these events, and will again: somebody has to look.
    pub is_refusal: bool,
}

/// Where events go. To take a batch twice has to be harmless.
pub trait Sink: Send + Sync + 'static {
    /// Offers a batch; the answer is the `seq` up to which every event of the epoch is safe.
    fn append(&self, batch: &Batch) -> impl Future<Output = Result<u64, SinkError>> + Send;
}

/// audit-collector.
#[derive(Clone, Debug)]
pub struct Collector(IngestServiceClient<Client>);

impl Collector {
    /// The collector that `client` dials.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(IngestServiceClient::new(client).max_encoding_message_size(4 << 20))
    }
}

impl Sink for Collector {
    async fn append(&self, batch: &Batch) -> Result<u64, SinkError> {
        let request = apart(batch);
        match self.0.clone().append_events(request).await {
            Ok(answer) => Ok(answer.into_inner().acked_seq),
            Err(status) => {
                let told = Told::from_status(&status);
                Err(SinkError {
                    is_refusal: matches!(
                        status.code(),
                        tonic::Code::InvalidArgument
                            | tonic::Code::FailedPrecondition
                            | tonic::Code::PermissionDenied
                            | tonic::Code::AlreadyExists
                    ),
                    reason: told.reason,
                    message: told.message,
                    retry_after: told.retry_after,
                })
            }
        }
    }
}

/// The events of a batch as they are logged, and the names of persons beside them. An event that was refused or whose
/// answer was lost is cut anew with other salts: the collector keeps what it took first. Of a batch that has grown too large
/// the beginning goes.
fn apart(batch: &Batch) -> AppendEventsRequest {
    let mut request =
        AppendEventsRequest { epoch: batch.epoch.clone(), first_seq: batch.first_seq, ..Default::default() };
    let mut size = 0;
    for (at, event) in (0..).zip(&batch.events) {
        let (event, parts) = match AuditEvent::decode(event.clone()) {
            Ok(whole) => match legate_personal::split(whole, rand::random) {
                Split { parts, .. } if parts.is_empty() => (event.clone(), parts),
                Split { event, parts } => (Bytes::from(event.encode_to_vec()), parts),
            },
            // The collector says what is wrong with it.
            Err(_) => (event.clone(), Vec::new()),
        };
        size += event.len() + parts.iter().map(|part| part.encoded_len() + 8).sum::<usize>();
        if at > 0 && size > MOST_BYTES {
            break;
        }
        request.events.push(event);
        if !parts.is_empty() {
            request.personal.push(EventPersonal { event: at, parts });
        }
    }
    request
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_clock::Timestamp;

    fn batch(events: Vec<Bytes>) -> Batch {
        let waiting = events.len() as u64;
        Batch { epoch: "e1".into(), first_seq: 7, events, oldest: Timestamp::from_secs(1), waiting }
    }

    #[test]
    fn names_travel_beside_events_that_do_not_hold_them() {
        let of = |subject: &str| AuditEvent { subject: subject.into(), ..AuditEvent::default() };
        let events = [of("user:ada"), of(""), of("user:grace")].map(|e| Bytes::from(e.encode_to_vec()));
        let mut all = events.to_vec();
        all.push(Bytes::from_static(b"\xff\xff"));
        let request = apart(&batch(all));
        assert_eq!((request.first_seq, request.events.len()), (7, 4));
        assert_eq!(request.events[1], events[1], "an event that names nobody goes as it is");
        let places: Vec<u32> = request.personal.iter().map(|one| one.event).collect();
        assert_eq!(places, [0, 2]);
        for one in &request.personal {
            let leaf = AuditEvent::decode(request.events[one.event as usize].clone()).unwrap();
            assert_eq!(leaf.subject, "user:#1");
            legate_personal::check(&leaf, &one.parts, false).unwrap();
        }
        let again = apart(&batch(events.to_vec()));
        assert_ne!(again.personal[0].parts[0].salt, request.personal[0].parts[0].salt);
    }

    #[test]
    fn a_batch_that_grows_too_large_goes_in_part() {
        let users: Vec<String> = (0..7_000).map(|n| format!("user:{n:05}")).collect();
        let crowd =
            AuditEvent { details: [("users".to_owned(), users[..5_000].join(" "))].into(), ..AuditEvent::default() };
        let request = apart(&batch(vec![Bytes::from(crowd.encode_to_vec()); 512]));
        assert!((1..512).contains(&request.events.len()));
        assert!(request.encoded_len() < 4 << 20);
    }
}
