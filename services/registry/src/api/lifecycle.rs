//! The gRPC method by which operators ask what lifecycle policies would do.

use legate_rpc::Permit;
use legate_wire::registry as wire;
use tonic::{Request, Response, Status};
use wire::lifecycle_service_server::LifecycleService;

use super::Api;
use crate::flow::{By, lifecycle_preview};

#[tonic::async_trait]
impl LifecycleService for Api {
    async fn preview_lifecycle_policy(
        &self,
        request: Request<wire::PreviewLifecyclePolicyRequest>,
    ) -> Result<Response<wire::PreviewLifecyclePolicyResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        Ok(Response::new(Box::pin(lifecycle_preview::preview(&self.0, &by, request.into_inner())).await?))
    }
}
