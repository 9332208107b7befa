//! Where approvals that count once are used up: the registry gives each to one decision, and no other check calls anybody.

use std::fmt;
use std::time::Duration;

use legate_rpc::Client;
use legate_wire::registry::UseApprovalsRequest;
use legate_wire::registry::approval_use_service_client::ApprovalUseServiceClient;
use tonic::{Request, Status};

/// Who gives what counts once.
#[async_trait::async_trait]
pub(crate) trait Uses: Send + Sync + fmt::Debug + 'static {
    /// Uses up all of them for a decision, or none; the registry's revision.
    async fn use_up(&self, ask: UseApprovalsRequest, patience: Duration) -> Result<u64, Status>;
}

/// The registry that the client dials.
#[async_trait::async_trait]
impl Uses for Client {
    async fn use_up(&self, ask: UseApprovalsRequest, patience: Duration) -> Result<u64, Status> {
        let mut request = Request::new(ask);
        request.set_timeout(patience);
        Ok(ApprovalUseServiceClient::new(self.clone()).use_approvals(request).await?.into_inner().revision)
    }
}
