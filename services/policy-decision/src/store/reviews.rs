//! Rounds of access reviews, read from the registry, and what was found of them, written there: never on the path of a check.

use std::fmt;
use std::time::Duration;

use legate_rpc::Client;
use legate_wire::registry as wire;
use legate_wire::registry::review_service_client::ReviewServiceClient;
use tonic::{Request, Status};

/// A page of items has up to 16 MiB of them.
const MAX_MESSAGE: usize = 32 << 20;
/// Nothing is waited for longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who keeps rounds.
#[async_trait::async_trait]
pub(crate) trait Reviews: Send + Sync + fmt::Debug + 'static {
    async fn review(&self, ask: wire::GetReviewRequest) -> Result<wire::GetReviewResponse, Status>;
    async fn reviews(&self, ask: wire::ListReviewsRequest) -> Result<wire::ListReviewsResponse, Status>;
    async fn items(&self, ask: wire::ListReviewItemsRequest) -> Result<wire::ListReviewItemsResponse, Status>;
    async fn record(
        &self,
        ask: wire::RecordReviewVerificationRequest,
    ) -> Result<wire::RecordReviewVerificationResponse, Status>;
}

fn timed<T>(ask: T) -> Request<T> {
    let mut request = Request::new(ask);
    request.set_timeout(PATIENCE);
    request
}

/// The registry that the client dials.
#[async_trait::async_trait]
impl Reviews for Client {
    async fn review(&self, ask: wire::GetReviewRequest) -> Result<wire::GetReviewResponse, Status> {
        Ok(ReviewServiceClient::new(self.clone()).get_review(timed(ask)).await?.into_inner())
    }

    async fn reviews(&self, ask: wire::ListReviewsRequest) -> Result<wire::ListReviewsResponse, Status> {
        Ok(ReviewServiceClient::new(self.clone()).list_reviews(timed(ask)).await?.into_inner())
    }

    async fn items(&self, ask: wire::ListReviewItemsRequest) -> Result<wire::ListReviewItemsResponse, Status> {
        let mut client = ReviewServiceClient::new(self.clone()).max_decoding_message_size(MAX_MESSAGE);
        Ok(client.list_review_items(timed(ask)).await?.into_inner())
    }

    async fn record(
        &self,
        ask: wire::RecordReviewVerificationRequest,
    ) -> Result<wire::RecordReviewVerificationResponse, Status> {
        Ok(ReviewServiceClient::new(self.clone()).record_review_verification(timed(ask)).await?.into_inner())
    }
}
