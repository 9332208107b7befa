//! Where news of the registry comes from: its `Watch` over the network, or a stand-in in tests.

use std::fmt;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use legate_rpc::Client;
use legate_wire::registry::feed_service_client::FeedServiceClient;
use legate_wire::registry::{WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

/// A piece of a snapshot has up to 500 objects, and a policy of 64 KiB is one of them.
const MAX_MESSAGE: usize = 64 << 20;

/// What the registry tells, in order.
pub type News = BoxStream<'static, Result<WatchResponse, Status>>;

/// Opens `FeedService.Watch`.
#[async_trait::async_trait]
pub trait Feed: Send + Sync + fmt::Debug + 'static {
    /// Opens one stream; what is put into `asks` goes to the registry.
    ///
    /// # Errors
    /// The status with which the registry, or the way to it, refused.
    async fn watch(&self, asks: mpsc::Receiver<WatchRequest>) -> Result<News, Status>;
}

/// The registry that the client dials.
#[async_trait::async_trait]
impl Feed for Client {
    async fn watch(&self, asks: mpsc::Receiver<WatchRequest>) -> Result<News, Status> {
        let mut client = FeedServiceClient::new(self.clone()).max_decoding_message_size(MAX_MESSAGE);
        let answer = client.watch(ReceiverStream::new(asks)).await?;
        Ok(answer.into_inner().boxed())
    }
}
