//! The gRPC methods of credential-issuer for people whose tokens it has proved.

use legate_rpc::Permit;
use legate_wire::registry as wire;
use tonic::{Request, Response, Status};
use wire::personal_grant_service_server::PersonalGrantService;

use super::Api;
use crate::flow::personal_grant::{self, Asker};

#[tonic::async_trait]
impl PersonalGrantService for Api {
    async fn make_personal_grant(
        &self,
        request: Request<wire::MakePersonalGrantRequest>,
    ) -> Result<Response<wire::MakePersonalGrantResponse>, Status> {
        let permit = Permit::of(&request)?;
        let mut ask = request.into_inner();
        let asker = Asker::read(ask.person.take())?;
        ask.person = asker.in_short();
        // The token is the request id: it makes one grant.
        let call =
            asker.call(permit.trace(), permit.method(), &ask, (asker.token(), "by a token of the person's own"))?;
        let journey = personal_grant::make(&self.0, call.clone(), asker, ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn list_personal_grants(
        &self,
        request: Request<wire::ListPersonalGrantsRequest>,
    ) -> Result<Response<wire::ListPersonalGrantsResponse>, Status> {
        Permit::of(&request)?;
        let mut ask = request.into_inner();
        let asker = Asker::read(ask.person.take())?;
        Ok(Response::new(Box::pin(personal_grant::list(&self.0, asker, ask)).await?))
    }

    async fn end_personal_grant(
        &self,
        request: Request<wire::EndPersonalGrantRequest>,
    ) -> Result<Response<wire::EndPersonalGrantResponse>, Status> {
        let permit = Permit::of(&request)?;
        let mut ask = request.into_inner();
        let asker = Asker::read(ask.person.take())?;
        ask.person = asker.in_short();
        let call = asker.call(permit.trace(), permit.method(), &ask, (&ask.request_id, &ask.reason))?;
        let journey = personal_grant::end(&self.0, call.clone(), asker, ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }
}
