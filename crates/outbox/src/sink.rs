//! Where events go: the trait, and audit-collector behind it.

use std::future::Future;
use std::time::Duration;

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
        let request = legate_personal::request(&batch.epoch, batch.first_seq, &batch.events, rand::random);
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
