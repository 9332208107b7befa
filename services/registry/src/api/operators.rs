//! The gRPC methods of operators about themselves.

use legate_rpc::Permit;
use legate_wire::registry as wire;
use tonic::{Request, Response, Status};
use wire::operator_service_server::OperatorService;

use super::Api;
use crate::flow::{By, own_roles};

#[tonic::async_trait]
impl OperatorService for Api {
    async fn get_own_roles(
        &self,
        request: Request<wire::GetOwnRolesRequest>,
    ) -> Result<Response<wire::GetOwnRolesResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        Ok(Response::new(own_roles::own_roles(&self.0, &by).await?))
    }
}
