//! The gRPC methods of persons who leave.

use legate_rpc::Permit;
use legate_wire::registry as wire;
use tonic::{Request, Response, Status};
use wire::departure_service_server::DepartureService;

use super::{Api, call};
use crate::flow::{By, departures, offboard, offboard_preview};

#[tonic::async_trait]
impl DepartureService for Api {
    async fn offboard_person(
        &self,
        request: Request<wire::OffboardPersonRequest>,
    ) -> Result<Response<wire::OffboardPersonResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        if ask.validate_only {
            let told = offboard_preview::preview(&self.0, &call.by, ask);
            return Ok(Response::new(Box::pin(told).await?));
        }
        let journey = offboard::offboard(&self.0, call.clone(), ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn list_departures(
        &self,
        request: Request<wire::ListDeparturesRequest>,
    ) -> Result<Response<wire::ListDeparturesResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        Ok(Response::new(Box::pin(departures::list(&self.0, &by, request.into_inner())).await?))
    }

    async fn withdraw_departure(
        &self,
        request: Request<wire::WithdrawDepartureRequest>,
    ) -> Result<Response<wire::WithdrawDepartureResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = departures::withdraw(&self.0, call.clone(), ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }
}
