//! The gRPC methods of approvals: for agents that ask, for operators who decide, and for credential-issuer that relays.

use legate_ids::AgentId;
use legate_rpc::{Fault, Permit};
use legate_wire::registry as wire;
use tonic::{Request, Response, Status};
use wire::approval_relay_service_server::ApprovalRelayService;
use wire::approval_request_service_server::ApprovalRequestService;
use wire::approval_service_server::ApprovalService;
use wire::approval_use_service_server::ApprovalUseService;

use super::{Api, call};
use crate::flow::decide_approval::{self, Verdict, Which, narrowed};
use crate::flow::request_approval::{self, Asker};
use crate::flow::use_approvals::{self, Use};
use crate::flow::{By, Calling, approvals};

fn agent(id: &str) -> Result<AgentId, Fault> {
    AgentId::parse(id).map_err(|e| Fault::invalid("agent_id", e.to_string()))
}

#[tonic::async_trait]
impl ApprovalRequestService for Api {
    async fn request_approval(
        &self,
        request: Request<wire::RequestApprovalRequest>,
    ) -> Result<Response<wire::RequestApprovalResponse>, Status> {
        let permit = Permit::of(&request)?;
        let asker = Asker::Calling(Calling::of(&permit)?);
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = request_approval::ask(&self.0, call.clone(), asker, ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn get_own_approval(
        &self,
        request: Request<wire::GetOwnApprovalRequest>,
    ) -> Result<Response<wire::GetOwnApprovalResponse>, Status> {
        let asker = Asker::Calling(Calling::of(&Permit::of(&request)?)?);
        let id = request_approval::id(&request.into_inner().approval_id)?;
        Ok(Response::new(Box::pin(request_approval::get(&self.0, asker, id)).await?))
    }

    async fn list_own_approvals(
        &self,
        request: Request<wire::ListOwnApprovalsRequest>,
    ) -> Result<Response<wire::ListOwnApprovalsResponse>, Status> {
        let asker = Asker::Calling(Calling::of(&Permit::of(&request)?)?);
        Ok(Response::new(Box::pin(request_approval::list(&self.0, asker)).await?))
    }

    async fn cancel_approval(
        &self,
        request: Request<wire::CancelApprovalRequest>,
    ) -> Result<Response<wire::CancelApprovalResponse>, Status> {
        let permit = Permit::of(&request)?;
        let asker = Asker::Calling(Calling::of(&permit)?);
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let id = request_approval::id(&ask.approval_id)?;
        let journey = request_approval::cancel(&self.0, call.clone(), asker, id);
        Box::pin(self.noted(&call, &permit, journey)).await
    }
}

/// Decides: the requests and answers of these methods have the same fields, in types of their own.
macro_rules! decide {
    ($self:ident, $request:ident, $verdict:expr, $answer:ident) => {{
        let permit = Permit::of(&$request)?;
        let ask = $request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let verdict = $verdict(&ask)?;
        let which = Which { id: request_approval::id(&ask.approval_id)?, etag: ask.etag };
        let answer = |approval, revision| wire::$answer { approval: Some(approval), revision };
        let journey = decide_approval::decide(&$self.0, call.clone(), which, verdict, answer);
        Box::pin($self.noted(&call, &permit, journey)).await
    }};
}

#[tonic::async_trait]
impl ApprovalService for Api {
    async fn list_approvals(
        &self,
        request: Request<wire::ListApprovalsRequest>,
    ) -> Result<Response<wire::ListApprovalsResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        Ok(Response::new(Box::pin(approvals::list(&self.0, &by, request.into_inner())).await?))
    }

    async fn get_approval(
        &self,
        request: Request<wire::GetApprovalRequest>,
    ) -> Result<Response<wire::GetApprovalResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        let id = request_approval::id(&request.into_inner().approval_id)?;
        Ok(Response::new(Box::pin(approvals::get(&self.0, &by, id)).await?))
    }

    async fn grant_approval(
        &self,
        request: Request<wire::GrantApprovalRequest>,
    ) -> Result<Response<wire::GrantApprovalResponse>, Status> {
        let verdict = |ask: &wire::GrantApprovalRequest| narrowed(ask.duration).map(Verdict::Approve);
        decide!(self, request, verdict, GrantApprovalResponse)
    }

    async fn deny_approval(
        &self,
        request: Request<wire::DenyApprovalRequest>,
    ) -> Result<Response<wire::DenyApprovalResponse>, Status> {
        let verdict = |_: &wire::DenyApprovalRequest| Ok::<_, Fault>(Verdict::Deny);
        decide!(self, request, verdict, DenyApprovalResponse)
    }

    async fn revoke_approval(
        &self,
        request: Request<wire::RevokeApprovalRequest>,
    ) -> Result<Response<wire::RevokeApprovalResponse>, Status> {
        let verdict = |_: &wire::RevokeApprovalRequest| Ok::<_, Fault>(Verdict::Revoke);
        decide!(self, request, verdict, RevokeApprovalResponse)
    }
}

#[tonic::async_trait]
impl ApprovalUseService for Api {
    async fn use_approvals(
        &self,
        request: Request<wire::UseApprovalsRequest>,
    ) -> Result<Response<wire::UseApprovalsResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let wanted = Use::read(&ask)?;
        let call = call(&permit, &ask, &ask.decision_id, "a decision rests on it, and it counts once")?;
        let journey = use_approvals::use_up(&self.0, call.clone(), wanted);
        Box::pin(self.noted(&call, &permit, journey)).await
    }
}

#[tonic::async_trait]
impl ApprovalRelayService for Api {
    async fn relay_approval(
        &self,
        request: Request<wire::RelayApprovalRequest>,
    ) -> Result<Response<wire::RelayApprovalResponse>, Status> {
        let permit = Permit::of(&request)?;
        let relayed = request.into_inner();
        let ask = relayed.ask.clone().unwrap_or_default();
        let call = call(&permit, &relayed, &ask.request_id, &ask.reason)?;
        let asker = Asker::Relayed(agent(&relayed.agent_id)?);
        let journey = request_approval::ask(&self.0, call.clone(), asker, ask);
        let journey = async {
            let wire::RequestApprovalResponse { approval, revision } = journey.await?;
            Ok(wire::RelayApprovalResponse { approval, revision })
        };
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn get_relayed_approval(
        &self,
        request: Request<wire::GetRelayedApprovalRequest>,
    ) -> Result<Response<wire::GetRelayedApprovalResponse>, Status> {
        Permit::of(&request)?;
        let ask = request.into_inner();
        let (asker, id) = (Asker::Relayed(agent(&ask.agent_id)?), request_approval::id(&ask.approval_id)?);
        let found = Box::pin(request_approval::get(&self.0, asker, id)).await?;
        let wire::GetOwnApprovalResponse { approval, revision } = found;
        Ok(Response::new(wire::GetRelayedApprovalResponse { approval, revision }))
    }
}
