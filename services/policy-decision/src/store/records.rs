//! Recorded decisions, read from audit-collector: for simulations alone, never on the path of a check.

use std::fmt;

use legate_rpc::Client;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_wire::audit::{QueryEventsRequest, QueryEventsResponse};
use tonic::Status;

/// A page has up to 1,000 events, each 65,535 bytes at most.
const MAX_MESSAGE: usize = 80 << 20;

/// What audit-collector is asked.
#[async_trait::async_trait]
pub(crate) trait Records: Send + Sync + fmt::Debug + 'static {
    async fn page(&self, ask: QueryEventsRequest) -> Result<QueryEventsResponse, Status>;
}

/// The audit-collector that the client dials.
#[async_trait::async_trait]
impl Records for Client {
    async fn page(&self, ask: QueryEventsRequest) -> Result<QueryEventsResponse, Status> {
        let mut client = QueryServiceClient::new(self.clone()).max_decoding_message_size(MAX_MESSAGE);
        Ok(client.query_events(ask).await?.into_inner())
    }
}
