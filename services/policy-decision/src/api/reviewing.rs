//! The gRPC method by which access reviews are held against decisions, to and from the wire.

use legate_ids::ReviewId;
use legate_rpc::Permit;
use legate_wire::policy as wire;
use legate_wire::policy::review_check_service_server::ReviewCheckService;
use tonic::{Request, Response, Status};

use super::{Api, invalid};
use crate::flow::Asker;
use crate::flow::check_review::{CheckReview, check_review};

#[tonic::async_trait]
impl ReviewCheckService for Api {
    async fn check_review(
        &self,
        request: Request<wire::CheckReviewRequest>,
    ) -> Result<Response<wire::CheckReviewResponse>, Status> {
        let asker = Asker::of(&Permit::of(&request)?);
        let from = request.into_inner();
        let review = ReviewId::parse(&from.review_id).map_err(|e| invalid("review_id", e.to_string()))?;
        let ask = CheckReview { review, page_token: from.page_token };
        let checked = Box::pin(check_review(&self.0, &asker, ask)).await?;
        Ok(Response::new(wire::CheckReviewResponse {
            items: checked.items,
            notes: checked.notes,
            next_page_token: checked.next_page_token,
            revision: checked.revision,
        }))
    }
}
