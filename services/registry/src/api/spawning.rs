//! The gRPC methods of agents that have agents of their own.

use legate_rpc::Permit;
use legate_wire::registry as wire;
use tonic::{Request, Response, Status};
use wire::spawn_service_server::SpawnService;

use super::{Api, call};
use crate::flow::{Calling, spawn, spawned};

#[tonic::async_trait]
impl SpawnService for Api {
    async fn spawn_agent(
        &self,
        request: Request<wire::SpawnAgentRequest>,
    ) -> Result<Response<wire::SpawnAgentResponse>, Status> {
        let permit = Permit::of(&request)?;
        let calling = Calling::of(&permit)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = spawn::spawn(&self.0, call.clone(), calling, ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn list_spawned_agents(
        &self,
        request: Request<wire::ListSpawnedAgentsRequest>,
    ) -> Result<Response<wire::ListSpawnedAgentsResponse>, Status> {
        let calling = Calling::of(&Permit::of(&request)?)?;
        Ok(Response::new(Box::pin(spawned::list(&self.0, calling)).await?))
    }

    async fn end_spawned_agent(
        &self,
        request: Request<wire::EndSpawnedAgentRequest>,
    ) -> Result<Response<wire::EndSpawnedAgentResponse>, Status> {
        let permit = Permit::of(&request)?;
        let calling = Calling::of(&permit)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = spawned::end(&self.0, call.clone(), calling, ask.agent_id);
        Box::pin(self.noted(&call, &permit, journey)).await
    }
}
