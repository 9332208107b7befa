//! The gRPC methods of agents and their life.

use legate_rpc::Permit;
use legate_wire::registry as wire;
use tonic::{Request, Response, Status};
use wire::agent_service_server::AgentService;

use super::{Api, call};
use crate::domain::lifecycle::Transition;
use crate::flow::transition::{Ask, Step};
use crate::flow::{By, adopt, attest, create_agent, hand_over, list, read, transition};

/// Takes one step: every request and answer of these methods has the same fields, in types of their own.
macro_rules! step {
    ($self:ident, $request:ident, $step:expr, $answer:ident) => {{
        let permit = Permit::of(&$request)?;
        let ask = $request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let wanted = Ask { agent: ask.agent, etag: ask.etag };
        let answer = |agent, revision| wire::$answer { agent: Some(agent), revision };
        let journey = transition::transition(&$self.0, call.clone(), wanted, $step, answer);
        Box::pin($self.noted(&call, &permit, journey)).await
    }};
}

#[tonic::async_trait]
impl AgentService for Api {
    async fn create_agent(
        &self,
        request: Request<wire::CreateAgentRequest>,
    ) -> Result<Response<wire::CreateAgentResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = create_agent::create_agent(&self.0, call.clone(), ask.agent.unwrap_or_default());
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn get_agent(
        &self,
        request: Request<wire::GetAgentRequest>,
    ) -> Result<Response<wire::GetAgentResponse>, Status> {
        let by = By::of(&Permit::of(&request)?, "");
        let ask = request.into_inner();
        let (agent, revision) = Box::pin(read::agent(&self.0, &by, ask.agent, ask.as_of)).await?;
        Ok(Response::new(wire::GetAgentResponse { agent: Some(agent), revision }))
    }

    async fn list_agents(
        &self,
        request: Request<wire::ListAgentsRequest>,
    ) -> Result<Response<wire::ListAgentsResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let list = list::List {
            by: By::of(&permit, ""),
            kind: wire::Kind::Agent,
            states: read::states(&ask.states)?,
            namespace: ask.namespace,
            filter: ask.filter.into(),
            order_by: ask.order_by,
            as_of: ask.as_of,
            page_size: ask.page_size,
            page_token: ask.page_token,
        };
        let list::Page { objects, next_page_token, revision, total, .. } = Box::pin(list::list(&self.0, list)).await?;
        let agents = objects.into_iter().filter_map(|object| match object.object {
            Some(wire::declaration::Object::Agent(agent)) => Some(agent),
            _ => None,
        });
        Ok(Response::new(wire::ListAgentsResponse {
            agents: agents.collect(),
            next_page_token,
            revision,
            total_estimate: total.count,
            total_is_exact: total.is_exact,
        }))
    }

    async fn approve_agent(
        &self,
        request: Request<wire::ApproveAgentRequest>,
    ) -> Result<Response<wire::ApproveAgentResponse>, Status> {
        step!(self, request, Step::Transition(Transition::Approve), ApproveAgentResponse)
    }

    async fn activate_agent(
        &self,
        request: Request<wire::ActivateAgentRequest>,
    ) -> Result<Response<wire::ActivateAgentResponse>, Status> {
        step!(self, request, Step::Transition(Transition::Activate), ActivateAgentResponse)
    }

    async fn suspend_agent(
        &self,
        request: Request<wire::SuspendAgentRequest>,
    ) -> Result<Response<wire::SuspendAgentResponse>, Status> {
        step!(self, request, Step::Transition(Transition::Suspend), SuspendAgentResponse)
    }

    async fn resume_agent(
        &self,
        request: Request<wire::ResumeAgentRequest>,
    ) -> Result<Response<wire::ResumeAgentResponse>, Status> {
        step!(self, request, Step::Transition(Transition::Resume), ResumeAgentResponse)
    }

    async fn quarantine_agent(
        &self,
        request: Request<wire::QuarantineAgentRequest>,
    ) -> Result<Response<wire::QuarantineAgentResponse>, Status> {
        step!(self, request, Step::Transition(Transition::Quarantine), QuarantineAgentResponse)
    }

    async fn release_agent(
        &self,
        request: Request<wire::ReleaseAgentRequest>,
    ) -> Result<Response<wire::ReleaseAgentResponse>, Status> {
        step!(self, request, Step::Transition(Transition::Release), ReleaseAgentResponse)
    }

    async fn retire_agent(
        &self,
        request: Request<wire::RetireAgentRequest>,
    ) -> Result<Response<wire::RetireAgentResponse>, Status> {
        step!(self, request, Step::Transition(Transition::Retire), RetireAgentResponse)
    }

    async fn revoke_agent_credentials(
        &self,
        request: Request<wire::RevokeAgentCredentialsRequest>,
    ) -> Result<Response<wire::RevokeAgentCredentialsResponse>, Status> {
        step!(self, request, Step::RevokeCredentials, RevokeAgentCredentialsResponse)
    }

    async fn adopt_agent(
        &self,
        request: Request<wire::AdoptAgentRequest>,
    ) -> Result<Response<wire::AdoptAgentResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = adopt::adopt(&self.0, call.clone(), ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn reject_agent(
        &self,
        request: Request<wire::RejectAgentRequest>,
    ) -> Result<Response<wire::RejectAgentResponse>, Status> {
        step!(self, request, Step::Reject, RejectAgentResponse)
    }
    async fn hand_over_agent(
        &self,
        request: Request<wire::HandOverAgentRequest>,
    ) -> Result<Response<wire::HandOverAgentResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = hand_over::hand_over(&self.0, call.clone(), ask);
        Box::pin(self.noted(&call, &permit, journey)).await
    }

    async fn attest_agent(
        &self,
        request: Request<wire::AttestAgentRequest>,
    ) -> Result<Response<wire::AttestAgentResponse>, Status> {
        let permit = Permit::of(&request)?;
        let ask = request.into_inner();
        let call = call(&permit, &ask, &ask.request_id, &ask.reason)?;
        let journey = attest::attest(&self.0, call.clone(), Ask { agent: ask.agent, etag: ask.etag });
        Box::pin(self.noted(&call, &permit, journey)).await
    }
}
