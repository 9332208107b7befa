//! The gRPC method by which everything is taken back that was issued to many.

use legate_rpc::Permit;
use legate_wire::registry as wire;
use tonic::{Request, Response, Status};
use wire::revocation_service_server::RevocationService;

use super::{Api, call};
use crate::flow::revoke_issued;

#[tonic::async_trait]
impl RevocationService for Api {
    async fn revoke_issued(
        &self,
        request: Request<wire::RevokeIssuedRequest>,
    ) -> Result<Response<wire::RevokeIssuedResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.comment)?;
        let journey = revoke_issued::revoke_issued(&self.0, call.clone(), ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }
}
