//! The gRPC methods of what agents used, and what that is held against.

use legate_rpc::Permit;
use legate_wire::registry as wire;
use tonic::{Request, Response, Status};
use wire::usage_service_server::UsageService;

use super::Api;
use crate::flow::{By, agent_usage, baseline};

#[tonic::async_trait]
impl UsageService for Api {
    async fn list_agent_usage(
        &self,
        request: Request<wire::ListAgentUsageRequest>,
    ) -> Result<Response<wire::ListAgentUsageResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        Ok(Response::new(Box::pin(agent_usage::list(&self.0, &by, request.into_inner())).await?))
    }

    async fn list_agent_baselines(
        &self,
        request: Request<wire::ListAgentBaselinesRequest>,
    ) -> Result<Response<wire::ListAgentBaselinesResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        Ok(Response::new(Box::pin(baseline::list(&self.0, &by, request.into_inner())).await?))
    }
}
