//! The gRPC methods of access reviews.

use legate_rpc::Permit;
use legate_wire::registry as wire;
use tonic::{Request, Response, Status};
use wire::review_service_server::ReviewService;

use super::{Api, call};
use crate::flow::{By, review};

#[tonic::async_trait]
impl ReviewService for Api {
    async fn start_review(
        &self,
        request: Request<wire::StartReviewRequest>,
    ) -> Result<Response<wire::StartReviewResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = review::start(&self.0, call.clone(), ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn list_reviews(
        &self,
        request: Request<wire::ListReviewsRequest>,
    ) -> Result<Response<wire::ListReviewsResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        Ok(Response::new(Box::pin(review::list(&self.0, &by, request.into_inner())).await?))
    }

    async fn get_review(
        &self,
        request: Request<wire::GetReviewRequest>,
    ) -> Result<Response<wire::GetReviewResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        let id = review::review_id(&request.into_inner().review_id)?;
        Ok(Response::new(Box::pin(review::get(&self.0, &by, id)).await?))
    }

    async fn list_review_items(
        &self,
        request: Request<wire::ListReviewItemsRequest>,
    ) -> Result<Response<wire::ListReviewItemsResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        Ok(Response::new(Box::pin(review::items(&self.0, &by, request.into_inner())).await?))
    }

    async fn decide_review_items(
        &self,
        request: Request<wire::DecideReviewItemsRequest>,
    ) -> Result<Response<wire::DecideReviewItemsResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = review::decide(&self.0, call.clone(), ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn close_review(
        &self,
        request: Request<wire::CloseReviewRequest>,
    ) -> Result<Response<wire::CloseReviewResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = review::close(&self.0, call.clone(), ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn record_review_verification(
        &self,
        request: Request<wire::RecordReviewVerificationRequest>,
    ) -> Result<Response<wire::RecordReviewVerificationResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, "")?;
        let journey = review::verify(&self.0, call.clone(), ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }
}
