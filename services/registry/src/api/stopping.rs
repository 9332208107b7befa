//! The gRPC methods of the switch that stops agents.

use legate_rpc::Permit;
use legate_wire::registry as wire;
use tonic::{Request, Response, Status};
use wire::stop_service_server::StopService;

use super::{Api, call};
use crate::flow::{By, followers, stop, stop_preview};

#[tonic::async_trait]
impl StopService for Api {
    async fn stop_agents(
        &self,
        request: Request<wire::StopAgentsRequest>,
    ) -> Result<Response<wire::StopAgentsResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        if ask.validate_only {
            let told = stop_preview::preview(&self.0, &call.by, ask);
            return Ok(Response::new(Box::pin(told).await?));
        }
        let journey = stop::stop(&self.0, call.clone(), ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn resume_agents(
        &self,
        request: Request<wire::ResumeAgentsRequest>,
    ) -> Result<Response<wire::ResumeAgentsResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = stop::resume(&self.0, call.clone(), ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn get_containment(
        &self,
        request: Request<wire::GetContainmentRequest>,
    ) -> Result<Response<wire::GetContainmentResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        let told = followers::containment(&self.0, &by, request.into_inner().revision);
        Ok(Response::new(Box::pin(told).await?))
    }
}
