//! Where events go: the trait, and audit-collector behind it.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use legate_mtls::Identity;
use legate_rpc::{Client, Told};
use legate_wire::audit::ingest_service_client::IngestServiceClient;

use crate::Batch;

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

/// audit-collector, to which each batch goes signed.
#[derive(Clone, Debug)]
pub struct Collector {
    line: IngestServiceClient<Client>,
    identity: Identity,
}

impl Collector {
    /// The collector that `client` dials as `identity`, whose key signs what is offered.
    #[must_use]
    pub fn new(client: Client, identity: Identity) -> Self {
        Self { line: IngestServiceClient::new(client).max_encoding_message_size(4 << 20), identity }
    }

    async fn offer(&self, batch: &Batch, events: &[Bytes]) -> Result<u64, Told> {
        let mut request = legate_personal::request(&batch.epoch, batch.first_seq, events, rand::random);
        // Signed as it goes, by the certificate of now: what waits is numbered anew and outlives certificates.
        legate_batch::sign(&mut request, &self.identity);
        let answer = self.line.clone().append_events(request).await;
        answer.map(|answer| answer.into_inner().acked_seq).map_err(|status| Told::from_status(&status))
    }
}

impl Sink for Collector {
    async fn append(&self, batch: &Batch) -> Result<u64, SinkError> {
        let told = match self.offer(batch, &batch.events).await {
            Ok(acked) => return Ok(acked),
            // A signed batch is taken whole or not at all: what stands before a bad event goes by itself.
            Err(told) => match legate_batch::events_before(&told.metadata).and_then(|good| batch.events.get(..good)) {
                Some(good) => match self.offer(batch, good).await {
                    Ok(acked) => return Ok(acked),
                    Err(told) => told,
                },
                None => told,
            },
        };
        Err(SinkError {
            is_refusal: matches!(
                told.code,
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
