//! The methods of access reviews.

use legate_wire::registry as wire;

use super::{Ask, Case, told};

type Reviews = wire::review_service_client::ReviewServiceClient<legate_rpc::Client>;

pub(super) fn add(case: &mut impl FnMut(&'static str, Case)) {
    case(
        "/legate.registry.v1.ReviewService/StartReview",
        call!(registry, Reviews, start_review, |ask| wire::StartReviewRequest {
            namespace: ask.namespace.clone(),
            campaign: format!("{}-campaign", ask.namespace),
            reason: "a test".into(),
            ..Default::default()
        }),
    );
    case(
        "/legate.registry.v1.ReviewService/ListReviews",
        call!(registry, Reviews, list_reviews, |ask| wire::ListReviewsRequest {
            namespace: ask.namespace.clone(),
            ..Default::default()
        }),
    );
    case(
        "/legate.registry.v1.ReviewService/GetReview",
        call!(registry, Reviews, get_review, |ask| wire::GetReviewRequest { review_id: ask.review_id.clone() }),
    );
    case(
        "/legate.registry.v1.ReviewService/ListReviewItems",
        call!(registry, Reviews, list_review_items, |ask| wire::ListReviewItemsRequest {
            review_id: ask.review_id.clone(),
            ..Default::default()
        }),
    );
    case("/legate.registry.v1.ReviewService/DecideReviewItems", |ask| {
        Box::pin(async move {
            let mut reviews = Reviews::new(ask.registry.clone());
            let mut outcomes = Vec::new();
            for validate_only in [true, false] {
                let decision = wire::ItemDecision {
                    item_id: ask.review_item_id.clone(),
                    decision: wire::ReviewDecision::Revoke.into(),
                    ..Default::default()
                };
                let request = wire::DecideReviewItemsRequest {
                    review_id: ask.review_id.clone(),
                    decisions: vec![decision],
                    validate_only,
                    reason: "a test".into(),
                    ..Default::default()
                };
                outcomes.push(told(reviews.decide_review_items(request).await));
            }
            outcomes
        })
    });
    case("/legate.registry.v1.ReviewService/CloseReview", |ask| {
        Box::pin(async move {
            let mut reviews = Reviews::new(ask.registry.clone());
            let mut outcomes = Vec::new();
            for validate_only in [true, false] {
                let (review_id, reason) = (ask.review_id.clone(), "a test".to_owned());
                let request = wire::CloseReviewRequest { review_id, validate_only, reason, ..Default::default() };
                outcomes.push(told(reviews.close_review(request).await));
            }
            outcomes
        })
    });
}
