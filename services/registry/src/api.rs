//! The gRPC methods: read the request, make the journey, write the answer.

use std::sync::Arc;

use legate_rpc::{Fault, Permit};
use legate_wire::registry as wire;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use wire::agent_service_server::AgentServiceServer;
use wire::approval_relay_service_server::ApprovalRelayServiceServer;
use wire::approval_request_service_server::ApprovalRequestServiceServer;
use wire::approval_service_server::ApprovalServiceServer;
use wire::approval_use_service_server::ApprovalUseServiceServer;
use wire::bulk_service_server::{BulkService, BulkServiceServer};
use wire::declaration_service_server::{DeclarationService, DeclarationServiceServer};
use wire::delegation_service_server::DelegationServiceServer;
use wire::departure_service_server::DepartureServiceServer;
use wire::feed_service_server::{FeedService, FeedServiceServer};
use wire::history_service_server::{HistoryService, HistoryServiceServer};
use wire::lifecycle_service_server::LifecycleServiceServer;
use wire::operator_service_server::OperatorServiceServer;
use wire::personal_grant_service_server::PersonalGrantServiceServer;
use wire::publication_service_server::{PublicationService, PublicationServiceServer};
use wire::review_service_server::ReviewServiceServer;
use wire::revocation_service_server::RevocationServiceServer;
use wire::spawn_service_server::SpawnServiceServer;
use wire::stop_service_server::StopServiceServer;
use wire::usage_service_server::UsageServiceServer;

use crate::domain::check;
use crate::domain::standing::Turn;
use crate::flow::{By, Call, Desk, apply, bulk, history, list, plan, publish, read, revoke, standing, update, watch};

mod agents;
mod approvals;
mod delegating;
mod departures;
mod lifecycle;
mod operators;
mod personal;
mod reviews;
mod revoking;
mod spawning;
mod stopping;
mod usage;

/// A thousand objects fit.
const LARGEST_REQUEST: usize = 8 << 20;
/// A ceiling of 256 permissions fits.
const LARGEST_SPAWN: usize = 1 << 20;
/// A watcher says little, and so does who asks for a history.
const LARGEST_ASK: usize = 4 << 10;
/// A page of a thousand objects fits.
const LARGEST_ANSWER: usize = 64 << 20;

/// The handlers.
#[derive(Clone, Debug)]
pub(crate) struct Api(Arc<Desk>);

/// The routes of every service here.
pub(crate) fn routes(desk: Arc<Desk>) -> Routes {
    let api = Api(desk);
    Routes::new(
        DeclarationServiceServer::new(api.clone())
            .max_decoding_message_size(LARGEST_REQUEST)
            .max_encoding_message_size(LARGEST_ANSWER),
    )
    .add_service(
        AgentServiceServer::new(api.clone())
            .max_decoding_message_size(LARGEST_REQUEST)
            .max_encoding_message_size(LARGEST_ANSWER),
    )
    .add_service(OperatorServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_ASK))
    .add_service(
        DepartureServiceServer::new(api.clone())
            .max_decoding_message_size(LARGEST_REQUEST)
            .max_encoding_message_size(LARGEST_ANSWER),
    )
    .add_service(
        UsageServiceServer::new(api.clone())
            .max_decoding_message_size(LARGEST_REQUEST)
            .max_encoding_message_size(LARGEST_ANSWER),
    )
    .add_service(
        LifecycleServiceServer::new(api.clone())
            .max_decoding_message_size(LARGEST_SPAWN)
            .max_encoding_message_size(LARGEST_ANSWER),
    )
    .add_service(RevocationServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_ASK))
    .add_service(
        StopServiceServer::new(api.clone())
            .max_decoding_message_size(LARGEST_ASK)
            .max_encoding_message_size(LARGEST_ANSWER),
    )
    .add_service(BulkServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_REQUEST))
    .add_service(
        HistoryServiceServer::new(api.clone())
            .max_decoding_message_size(LARGEST_ASK)
            .max_encoding_message_size(LARGEST_ANSWER),
    )
    .add_service(SpawnServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_SPAWN))
    .add_service(DelegationServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_SPAWN))
    .add_service(
        PersonalGrantServiceServer::new(api.clone())
            .max_decoding_message_size(LARGEST_SPAWN)
            .max_encoding_message_size(LARGEST_ANSWER),
    )
    .add_service(ApprovalRequestServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_SPAWN))
    .add_service(
        ApprovalServiceServer::new(api.clone())
            .max_decoding_message_size(LARGEST_ASK)
            .max_encoding_message_size(LARGEST_ANSWER),
    )
    .add_service(
        ReviewServiceServer::new(api.clone())
            .max_decoding_message_size(LARGEST_REQUEST)
            .max_encoding_message_size(LARGEST_ANSWER),
    )
    .add_service(ApprovalUseServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_ASK))
    .add_service(ApprovalRelayServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_SPAWN))
    .add_service(PublicationServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_REQUEST))
    .add_service(
        FeedServiceServer::new(api).max_decoding_message_size(LARGEST_ASK).max_encoding_message_size(LARGEST_ANSWER),
    )
}

/// The call of a write; its reason is checked here, and whether it has to be given, in the journey.
fn call<M: prost::Message>(permit: &Permit, request: &M, request_id: &str, reason: &str) -> Result<Call, Fault> {
    crate::flow::refusal(check::check_reason(reason, false))?;
    Call::new(By::of(permit, reason), permit.method(), request, request_id)
}

/// A text without what deceives its reader, and no longer than a reason may be.
fn legible(text: &str) -> String {
    let mut kept: String = text.chars().filter(|c| !c.is_control() && !legate_ids::is_deceptive(*c)).collect();
    let end = (0..=kept.len().min(1_024)).rev().find(|at| kept.is_char_boundary(*at)).unwrap_or(0);
    kept.truncate(end);
    kept
}

impl Api {
    /// Makes a write's journey, and records where it was refused.
    async fn noted<T>(
        &self,
        call: &Call,
        permit: &Permit,
        journey: impl Future<Output = Result<T, Fault>>,
    ) -> Result<Response<T>, Status> {
        match journey.await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(fault) => {
                self.0.note_refusal(call, permit.method(), &fault).await;
                Err(fault.into())
            }
        }
    }
}

#[tonic::async_trait]
impl DeclarationService for Api {
    async fn plan_declarations(
        &self,
        request: Request<wire::PlanDeclarationsRequest>,
    ) -> Result<Response<wire::PlanDeclarationsResponse>, Status> {
        let permit = Permit::of(&request)?;
        let by = By::of(&permit, "");
        let ask = request.into_inner();
        let planned = plan::plan(&self.0, &by, ask.declarations, ask.removals);
        Ok(Response::new(Box::pin(planned).await?))
    }

    async fn apply_declarations(
        &self,
        request: Request<wire::ApplyDeclarationsRequest>,
    ) -> Result<Response<wire::ApplyDeclarationsResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = apply::apply(&self.0, call.clone(), ask.declarations, ask.removals, ask.base_revision);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn get_declaration(
        &self,
        request: Request<wire::GetDeclarationRequest>,
    ) -> Result<Response<wire::GetDeclarationResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        let ask = request.into_inner();
        let key = revoke::key(ask.kind, &ask.namespace, &ask.name)?;
        let read = read::object(&self.0, &by, key, ask.as_of);
        let (object, revision) = Box::pin(read).await?;
        Ok(Response::new(wire::GetDeclarationResponse { declaration: Some(object), revision }))
    }

    async fn list_declarations(
        &self,
        request: Request<wire::ListDeclarationsRequest>,
    ) -> Result<Response<wire::ListDeclarationsResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let list = list::List {
            by: By::of(&permit, ""),
            kind: ask.kind(),
            namespace: ask.namespace,
            states: Vec::new(),
            filter: ask.filter.into(),
            order_by: ask.order_by,
            as_of: ask.as_of,
            page_size: ask.page_size,
            page_token: ask.page_token,
        };
        let list::Page { objects, next_page_token, revision, made, total } =
            Box::pin(list::list(&self.0, list)).await?;
        Ok(Response::new(wire::ListDeclarationsResponse {
            declarations: objects,
            next_page_token,
            revision,
            total_estimate: total.count,
            total_is_exact: total.is_exact,
            revision_time: made.map(Into::into),
        }))
    }

    async fn update_declaration(
        &self,
        request: Request<wire::UpdateDeclarationRequest>,
    ) -> Result<Response<wire::UpdateDeclarationResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let paths = ask.update_mask.unwrap_or_default().paths;
        let journey = update::update(&self.0, call.clone(), ask.declaration.unwrap_or_default(), paths);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn revoke_declaration(
        &self,
        request: Request<wire::RevokeDeclarationRequest>,
    ) -> Result<Response<wire::RevokeDeclarationResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let key = revoke::key(ask.kind, &ask.namespace, &ask.name)?;
        let journey = revoke::revoke(&self.0, call.clone(), key, ask.etag);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn suspend_declaration(
        &self,
        request: Request<wire::SuspendDeclarationRequest>,
    ) -> Result<Response<wire::SuspendDeclarationResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let key = revoke::key(ask.kind, &ask.namespace, &ask.name)?;
        let answer = |object, revision| wire::SuspendDeclarationResponse { declaration: Some(object), revision };
        let journey = standing::turn(&self.0, call.clone(), key, ask.etag, Turn::Suspend, answer);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn resume_declaration(
        &self,
        request: Request<wire::ResumeDeclarationRequest>,
    ) -> Result<Response<wire::ResumeDeclarationResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let key = revoke::key(ask.kind, &ask.namespace, &ask.name)?;
        let answer = |object, revision| wire::ResumeDeclarationResponse { declaration: Some(object), revision };
        let journey = standing::turn(&self.0, call.clone(), key, ask.etag, Turn::Resume, answer);
        Box::pin(self.noted(&call, &permit, journey)).await
    }
}

#[tonic::async_trait]
impl HistoryService for Api {
    async fn list_history(
        &self,
        request: Request<wire::ListHistoryRequest>,
    ) -> Result<Response<wire::ListHistoryResponse>, Status> {
        let permit = Permit::of(&request)?;
        let by = By::of(&permit, "");
        Ok(Response::new(Box::pin(history::history(&self.0, &by, request.into_inner())).await?))
    }

    async fn get_history_horizon(
        &self,
        request: Request<wire::GetHistoryHorizonRequest>,
    ) -> Result<Response<wire::GetHistoryHorizonResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        Ok(Response::new(Box::pin(history::horizon(&self.0, &by)).await?))
    }
}

#[tonic::async_trait]
impl PublicationService for Api {
    async fn publish_signing_key(
        &self,
        request: Request<wire::PublishSigningKeyRequest>,
    ) -> Result<Response<wire::PublishSigningKeyResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, "", "")?;
        let journey = publish::publish_key(&self.0, call.clone(), ask.signing_key);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn publish_revocation(
        &self,
        request: Request<wire::PublishRevocationRequest>,
    ) -> Result<Response<wire::PublishRevocationResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        // A text that cannot be kept as it is must not keep a revocation from being known.
        let call = Call::new(By::of(&permit, &legible(&ask.comment)), permit.method(), &ask, "")?;
        let journey = publish::publish_revocation(&self.0, call.clone(), ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }
}

#[tonic::async_trait]
impl BulkService for Api {
    type BulkApplyStream = tokio_stream::wrappers::ReceiverStream<Result<wire::BulkApplyResponse, Status>>;

    async fn bulk_apply(
        &self,
        request: Request<tonic::Streaming<wire::BulkApplyRequest>>,
    ) -> Result<Response<Self::BulkApplyStream>, Status> {
        let permit = Permit::of(&request)?;
        let by = By::of(&permit, "");
        let (out, answers) = tokio::sync::mpsc::channel(bulk::WAITING);
        // It ends with the stream, as a watcher's does.
        tokio::spawn(bulk::serve(Arc::clone(&self.0), by, permit.method(), request.into_inner(), out));
        Ok(Response::new(answers.into()))
    }
}

#[tonic::async_trait]
impl FeedService for Api {
    type WatchStream = tokio_stream::wrappers::ReceiverStream<Result<wire::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<tonic::Streaming<wire::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let peer = Permit::of(&request)?.shared_peer();
        let (out, news) = tokio::sync::mpsc::channel(watch::WAITING);
        // It ends with the stream: the watcher leaves, is stuck, or the service stops.
        tokio::spawn(watch::serve(Arc::clone(&self.0), peer, request.into_inner(), out));
        Ok(Response::new(news.into()))
    }
}
