//! The gRPC methods: read the request, make the journey, write the answer.

mod otlp;

use std::sync::Arc;

use legate_rpc::Permit;
use legate_wire::audit as wire;
use legate_wire::audit::alert_feed_service_server::{AlertFeedService, AlertFeedServiceServer};
use legate_wire::audit::alert_service_server::{AlertService, AlertServiceServer};
use legate_wire::audit::custody_service_server::{CustodyService, CustodyServiceServer};
use legate_wire::audit::ingest_service_server::{IngestService, IngestServiceServer};
use legate_wire::audit::proof_service_server::{ProofService, ProofServiceServer};
use legate_wire::audit::query_service_server::{QueryService, QueryServiceServer};
use legate_wire::audit::usage_feed_service_server::{UsageFeedService, UsageFeedServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::LogsServiceServer;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::TraceServiceServer;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::flow::{
    Call, Desk, alert_feed, alerts, append, change_alert, checkpoint, completeness, custody, evidence, not_taken,
    prove, query, reads, receipts, tail, usage, usage_feed,
};
use crate::seat::Seat;

/// Larger than any request that is taken, so that what is too large is refused with its reason.
const LARGEST_APPEND: usize = 12 << 20;

/// Questions are small.
const LARGEST_QUESTION: usize = 64 << 10;

/// The handlers.
#[derive(Clone, Debug)]
pub(crate) struct Api(Seat);

/// The routes of every service here.
pub(crate) fn routes(seat: Seat) -> Routes {
    let api = Api(seat.clone());
    intake(seat)
        .add_service(IngestServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_APPEND))
        .add_service(AlertServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_QUESTION))
        .add_service(AlertFeedServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_QUESTION))
        .add_service(QueryServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_QUESTION))
        .add_service(UsageFeedServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_QUESTION))
        .add_service(CustodyServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_QUESTION))
        .add_service(ProofServiceServer::new(api).max_decoding_message_size(LARGEST_QUESTION))
}

/// The routes by which OpenTelemetry's clients tell, packed or not. The bound holds for what is unpacked, too.
pub(crate) fn intake(seat: Seat) -> Routes {
    let api = Api(seat);
    let gzip = CompressionEncoding::Gzip;
    let traces = TraceServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_APPEND).accept_compressed(gzip);
    let logs = LogsServiceServer::new(api).max_decoding_message_size(LARGEST_APPEND).accept_compressed(gzip);
    Routes::new(traces).add_service(logs)
}

impl Api {
    /// The desk, and who asks at it. One that stands by has none.
    fn enter<T>(&self, request: &Request<T>) -> Result<(Arc<Desk>, Call), Status> {
        let call = Call::of(&Permit::of(request)?);
        Ok((self.0.desk()?, call))
    }
}

#[tonic::async_trait]
impl IngestService for Api {
    async fn append_events(
        &self,
        request: Request<wire::AppendEventsRequest>,
    ) -> Result<Response<wire::AppendEventsResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let done = append::append(&desk, &call, request.into_inner().try_into()?).await;
        let done = done.inspect_err(|fault| not_taken::note(&desk, &call, fault))?;
        Ok(Response::new(wire::AppendEventsResponse {
            acked_seq: done.acked_seq,
            first_leaf_index: done.first_leaf,
            appended: u32::try_from(done.appended).unwrap_or(u32::MAX),
        }))
    }

    async fn get_receipts(
        &self,
        request: Request<wire::GetReceiptsRequest>,
    ) -> Result<Response<wire::GetReceiptsResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let wire::GetReceiptsRequest { epoch, first_seq, count } = request.into_inner();
        let given = Box::pin(receipts::receipts(&desk, &call, receipts::Ask { epoch, first_seq, count })).await?;
        Ok(Response::new(given.into()))
    }
}

#[tonic::async_trait]
impl QueryService for Api {
    async fn query_events(
        &self,
        request: Request<wire::QueryEventsRequest>,
    ) -> Result<Response<wire::QueryEventsResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let ask = request.into_inner().try_into()?;
        let page = Box::pin(query::query(&desk, &call, ask)).await;
        let page = page.inspect_err(|fault| reads::refused(&desk, &call, "QueryEvents", fault))?;
        Ok(Response::new(page.into()))
    }

    type TailEventsStream = tokio_stream::wrappers::ReceiverStream<Result<wire::TailEventsResponse, Status>>;

    async fn tail_events(
        &self,
        request: Request<wire::TailEventsRequest>,
    ) -> Result<Response<Self::TailEventsStream>, Status> {
        let (desk, call) = self.enter(&request)?;
        let ask = request.into_inner().try_into()?;
        let news = Box::pin(tail::tail(&desk, call.clone(), ask, wire::TailEventsResponse::from)).await;
        let news = news.inspect_err(|fault| reads::refused(&desk, &call, "TailEvents", fault))?;
        Ok(Response::new(news.into()))
    }

    async fn list_usage(
        &self,
        request: Request<wire::ListUsageRequest>,
    ) -> Result<Response<wire::ListUsageResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let ask = request.into_inner().try_into()?;
        let told = Box::pin(usage::usage(&desk, &call, ask)).await;
        let told = told.inspect_err(|fault| reads::refused(&desk, &call, "ListUsage", fault))?;
        Ok(Response::new(told.into()))
    }
}

#[tonic::async_trait]
impl UsageFeedService for Api {
    async fn read_usage(
        &self,
        request: Request<wire::ReadUsageRequest>,
    ) -> Result<Response<wire::ReadUsageResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let heard = usage_feed::read(&desk, &call, request.into_inner().try_into()?).await?;
        Ok(Response::new(heard.into()))
    }
}

#[tonic::async_trait]
impl AlertService for Api {
    async fn list_alerts(
        &self,
        request: Request<wire::ListAlertsRequest>,
    ) -> Result<Response<wire::ListAlertsResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let ask = request.into_inner().try_into()?;
        let page = Box::pin(alerts::list(&desk, &call, ask)).await;
        let page = page.inspect_err(|fault| reads::refused(&desk, &call, "ListAlerts", fault))?;
        Ok(Response::new(page.into()))
    }

    async fn acknowledge_alert(
        &self,
        request: Request<wire::AcknowledgeAlertRequest>,
    ) -> Result<Response<wire::AcknowledgeAlertResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let ask = request.into_inner().try_into()?;
        let alert = Box::pin(change_alert::change(&desk, &call, ask)).await;
        let alert = alert.inspect_err(|fault| reads::not_permitted(&desk, &call, "AcknowledgeAlert", fault))?;
        Ok(Response::new(wire::AcknowledgeAlertResponse { alert: Some(alert.into()) }))
    }

    async fn resolve_alert(
        &self,
        request: Request<wire::ResolveAlertRequest>,
    ) -> Result<Response<wire::ResolveAlertResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let ask = request.into_inner().try_into()?;
        let alert = Box::pin(change_alert::change(&desk, &call, ask)).await;
        let alert = alert.inspect_err(|fault| reads::not_permitted(&desk, &call, "ResolveAlert", fault))?;
        Ok(Response::new(wire::ResolveAlertResponse { alert: Some(alert.into()) }))
    }

    async fn report_completeness(
        &self,
        request: Request<wire::ReportCompletenessRequest>,
    ) -> Result<Response<wire::ReportCompletenessResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let ask = request.into_inner().try_into()?;
        let report = Box::pin(completeness::report(&desk, &call, ask)).await;
        let report = report.inspect_err(|fault| reads::refused(&desk, &call, "ReportCompleteness", fault))?;
        Ok(Response::new(report.into()))
    }
}

#[tonic::async_trait]
impl AlertFeedService for Api {
    type WatchRaisedAlertsStream =
        tokio_stream::wrappers::ReceiverStream<Result<wire::WatchRaisedAlertsResponse, Status>>;

    async fn watch_raised_alerts(
        &self,
        request: Request<wire::WatchRaisedAlertsRequest>,
    ) -> Result<Response<Self::WatchRaisedAlertsStream>, Status> {
        let (desk, call) = self.enter(&request)?;
        let news = alert_feed::watch(&desk, &call, request.into_inner());
        let news = news.inspect_err(|fault| reads::refused(&desk, &call, "WatchRaisedAlerts", fault))?;
        Ok(Response::new(news.into()))
    }
}

#[tonic::async_trait]
impl ProofService for Api {
    async fn get_checkpoint(
        &self,
        request: Request<wire::GetCheckpointRequest>,
    ) -> Result<Response<wire::GetCheckpointResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let wire::GetCheckpointRequest { cosigned, at_least_size } = request.into_inner();
        let ask = checkpoint::Ask { cosigned, at_least: at_least_size };
        let (newest, rotations) = checkpoint::newest(&desk, &call, ask).await?;
        Ok(Response::new(wire::GetCheckpointResponse {
            checkpoint: newest.note,
            tree_size: newest.size,
            verifier_key: desk.log.verifier_key().to_owned(),
            key_rotations: rotations.into_iter().map(Into::into).collect(),
        }))
    }

    async fn prove_inclusion(
        &self,
        request: Request<wire::ProveInclusionRequest>,
    ) -> Result<Response<wire::ProveInclusionResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let wire::ProveInclusionRequest { leaf_index, tree_size, with_cose_receipt } = request.into_inner();
        let ask = prove::Ask { leaf_index, tree_size, with_cose_receipt };
        let proved = Box::pin(prove::inclusion(&desk, &call, ask)).await;
        let proved = proved.inspect_err(|fault| reads::refused(&desk, &call, "ProveInclusion", fault))?;
        Ok(Response::new(proved.into()))
    }

    async fn prove_consistency(
        &self,
        request: Request<wire::ProveConsistencyRequest>,
    ) -> Result<Response<wire::ProveConsistencyResponse>, Status> {
        let (desk, _) = self.enter(&request)?;
        let wire::ProveConsistencyRequest { first_size, second_size } = request.into_inner();
        let proved = prove::consistency(&desk, first_size, second_size).await?;
        Ok(Response::new(proved.into()))
    }

    async fn record_evidence(
        &self,
        request: Request<wire::RecordEvidenceRequest>,
    ) -> Result<Response<wire::RecordEvidenceResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let ask = request.into_inner().try_into()?;
        let recorded = Box::pin(evidence::record(&desk, &call, ask)).await;
        let recorded = recorded.inspect_err(|fault| reads::not_permitted(&desk, &call, "RecordEvidence", fault))?;
        Ok(Response::new(recorded.into()))
    }
}

#[tonic::async_trait]
impl CustodyService for Api {
    async fn erase_subject(
        &self,
        request: Request<wire::EraseSubjectRequest>,
    ) -> Result<Response<wire::EraseSubjectResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let done = Box::pin(custody::erase(&desk, &call, request.into_inner().into())).await;
        let done = done.inspect_err(|fault| reads::not_permitted(&desk, &call, "EraseSubject", fault))?;
        Ok(Response::new(done.into()))
    }

    async fn create_hold(
        &self,
        request: Request<wire::CreateHoldRequest>,
    ) -> Result<Response<wire::CreateHoldResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let hold = request.into_inner().hold.unwrap_or_default().try_into()?;
        let done = Box::pin(custody::set(&desk, &call, hold)).await;
        let (hold, leaf_index) = done.inspect_err(|fault| reads::not_permitted(&desk, &call, "CreateHold", fault))?;
        Ok(Response::new(wire::CreateHoldResponse { hold: Some(hold.into()), leaf_index }))
    }

    async fn list_holds(
        &self,
        request: Request<wire::ListHoldsRequest>,
    ) -> Result<Response<wire::ListHoldsResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let holds = Box::pin(custody::list(&desk, &call)).await;
        let holds = holds.inspect_err(|fault| reads::refused(&desk, &call, "ListHolds", fault))?;
        Ok(Response::new(wire::ListHoldsResponse { holds: holds.into_iter().map(Into::into).collect() }))
    }

    async fn release_hold(
        &self,
        request: Request<wire::ReleaseHoldRequest>,
    ) -> Result<Response<wire::ReleaseHoldResponse>, Status> {
        let (desk, call) = self.enter(&request)?;
        let wire::ReleaseHoldRequest { id, reason } = request.into_inner();
        let done = Box::pin(custody::release(&desk, &call, id, reason)).await;
        let leaf_index = done.inspect_err(|fault| reads::not_permitted(&desk, &call, "ReleaseHold", fault))?;
        Ok(Response::new(wire::ReleaseHoldResponse { leaf_index }))
    }
}
