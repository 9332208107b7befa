//! The gRPC methods of agents that let others act for them.

use legate_rpc::Permit;
use legate_wire::registry as wire;
use tonic::{Request, Response, Status};
use wire::delegation_service_server::DelegationService;

use super::{Api, call};
use crate::flow::{Calling, delegate};

#[tonic::async_trait]
impl DelegationService for Api {
    async fn grant_delegation(
        &self,
        request: Request<wire::GrantDelegationRequest>,
    ) -> Result<Response<wire::GrantDelegationResponse>, Status> {
        let permit = Permit::of(&request)?;
        let calling = Calling::of(&permit)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = delegate::grant(&self.0, call.clone(), calling, ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn list_own_delegations(
        &self,
        request: Request<wire::ListOwnDelegationsRequest>,
    ) -> Result<Response<wire::ListOwnDelegationsResponse>, Status> {
        let calling = Calling::of(&Permit::of(&request)?)?;
        Ok(Response::new(Box::pin(delegate::list(&self.0, calling)).await?))
    }

    async fn end_delegation(
        &self,
        request: Request<wire::EndDelegationRequest>,
    ) -> Result<Response<wire::EndDelegationResponse>, Status> {
        let permit = Permit::of(&request)?;
        let calling = Calling::of(&permit)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = delegate::end(&self.0, call.clone(), calling, ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }
}
