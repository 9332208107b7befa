//! The gRPC methods: read the request, make the journey, write the answer.

use std::sync::Arc;

use legate_rpc::Permit;
use legate_wire::audit as wire;
use legate_wire::audit::ingest_service_server::{IngestService, IngestServiceServer};
use legate_wire::audit::proof_service_server::{ProofService, ProofServiceServer};
use legate_wire::audit::query_service_server::{QueryService, QueryServiceServer};
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use crate::flow::{Call, Desk, append, checkpoint, evidence, prove, query, reads, tail, usage};

/// Larger than any request that is taken, so that what is too large is refused with its reason.
const LARGEST_APPEND: usize = 12 << 20;

/// Questions are small.
const LARGEST_QUESTION: usize = 64 << 10;

/// The handlers.
#[derive(Clone, Debug)]
pub(crate) struct Api(Arc<Desk>);

/// The routes of every service here.
pub(crate) fn routes(desk: Arc<Desk>) -> Routes {
    let api = Api(desk);
    Routes::new(IngestServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_APPEND))
        .add_service(QueryServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_QUESTION))
        .add_service(ProofServiceServer::new(api).max_decoding_message_size(LARGEST_QUESTION))
}

fn call<T>(request: &Request<T>) -> Result<Call, Status> {
    Ok(Call::of(&Permit::of(request)?))
}

#[tonic::async_trait]
impl IngestService for Api {
    async fn append_events(
        &self,
        request: Request<wire::AppendEventsRequest>,
    ) -> Result<Response<wire::AppendEventsResponse>, Status> {
        let call = call(&request)?;
        let wire::AppendEventsRequest { epoch, first_seq, events } = request.into_inner();
        let done = append::append(&self.0, &call, append::Ask { epoch, first_seq, events }).await?;
        Ok(Response::new(wire::AppendEventsResponse {
            acked_seq: done.acked_seq,
            first_leaf_index: done.first_leaf,
            appended: u32::try_from(done.appended).unwrap_or(u32::MAX),
        }))
    }
}

#[tonic::async_trait]
impl QueryService for Api {
    async fn query_events(
        &self,
        request: Request<wire::QueryEventsRequest>,
    ) -> Result<Response<wire::QueryEventsResponse>, Status> {
        let call = call(&request)?;
        let ask = request.into_inner().try_into()?;
        let page = Box::pin(query::query(&self.0, &call, ask)).await;
        let page = page.inspect_err(|fault| reads::refused(&self.0, &call, "QueryEvents", fault))?;
        Ok(Response::new(page.into()))
    }

    type TailEventsStream = tokio_stream::wrappers::ReceiverStream<Result<wire::TailEventsResponse, Status>>;

    async fn tail_events(
        &self,
        request: Request<wire::TailEventsRequest>,
    ) -> Result<Response<Self::TailEventsStream>, Status> {
        let call = call(&request)?;
        let ask = request.into_inner().try_into()?;
        let news = Box::pin(tail::tail(&self.0, call.clone(), ask, wire::TailEventsResponse::from)).await;
        let news = news.inspect_err(|fault| reads::refused(&self.0, &call, "TailEvents", fault))?;
        Ok(Response::new(news.into()))
    }

    async fn list_usage(
        &self,
        request: Request<wire::ListUsageRequest>,
    ) -> Result<Response<wire::ListUsageResponse>, Status> {
        let call = call(&request)?;
        let ask = request.into_inner().try_into()?;
        let told = Box::pin(usage::usage(&self.0, &call, ask)).await;
        let told = told.inspect_err(|fault| reads::refused(&self.0, &call, "ListUsage", fault))?;
        Ok(Response::new(told.into()))
    }
}

#[tonic::async_trait]
impl ProofService for Api {
    async fn get_checkpoint(
        &self,
        request: Request<wire::GetCheckpointRequest>,
    ) -> Result<Response<wire::GetCheckpointResponse>, Status> {
        call(&request)?;
        let newest = checkpoint::newest(&self.0);
        Ok(Response::new(wire::GetCheckpointResponse {
            checkpoint: newest.note,
            tree_size: newest.size,
            verifier_key: self.0.log.verifier_key().to_owned(),
        }))
    }

    async fn prove_inclusion(
        &self,
        request: Request<wire::ProveInclusionRequest>,
    ) -> Result<Response<wire::ProveInclusionResponse>, Status> {
        let call = call(&request)?;
        let wire::ProveInclusionRequest { leaf_index, tree_size, with_cose_receipt } = request.into_inner();
        let ask = prove::Ask { leaf_index, tree_size, with_cose_receipt };
        let proved = Box::pin(prove::inclusion(&self.0, &call, ask)).await;
        let proved = proved.inspect_err(|fault| reads::refused(&self.0, &call, "ProveInclusion", fault))?;
        Ok(Response::new(proved.into()))
    }

    async fn prove_consistency(
        &self,
        request: Request<wire::ProveConsistencyRequest>,
    ) -> Result<Response<wire::ProveConsistencyResponse>, Status> {
        call(&request)?;
        let wire::ProveConsistencyRequest { first_size, second_size } = request.into_inner();
        let proved = prove::consistency(&self.0, first_size, second_size).await?;
        Ok(Response::new(proved.into()))
    }

    async fn record_evidence(
        &self,
        request: Request<wire::RecordEvidenceRequest>,
    ) -> Result<Response<wire::RecordEvidenceResponse>, Status> {
        let call = call(&request)?;
        let ask = request.into_inner().try_into()?;
        let recorded = Box::pin(evidence::record(&self.0, &call, ask)).await;
        let recorded = recorded.inspect_err(|fault| reads::refused(&self.0, &call, "RecordEvidence", fault))?;
        Ok(Response::new(recorded.into()))
    }
}
