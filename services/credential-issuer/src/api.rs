//! The gRPC methods: read the request, make the journey, write the answer.

use std::sync::Arc;

use legate_rpc::{Fault, Permit};
use legate_token::PublicKey;
use legate_wire::credential as wire;
use legate_wire::credential::agent_credential_service_server::{AgentCredentialService, AgentCredentialServiceServer};
use legate_wire::credential::credential_admin_service_server::{CredentialAdminService, CredentialAdminServiceServer};
use legate_wire::credential::enrolment_service_server::{EnrolmentService, EnrolmentServiceServer};
use legate_wire::credential::instance_service_server::{InstanceService, InstanceServiceServer};
use legate_wire::credential::key_admin_service_server::KeyAdminServiceServer;
use legate_wire::credential::key_service_server::{KeyService, KeyServiceServer};
use legate_wire::credential::operator_login_service_server::{OperatorLoginService, OperatorLoginServiceServer};
use legate_wire::credential::personal_grant_service_server::{PersonalGrantService, PersonalGrantServiceServer};
use legate_wire::credential::token_service_server::{TokenService, TokenServiceServer};
use legate_wire::credential::workload_service_server::WorkloadServiceServer;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

mod keys;
mod workload;

use crate::convert;
use crate::domain::keyring::KeyUse;
use crate::flow::authenticate::Asker;
use crate::flow::exchange::{self, Exchanged};
use crate::flow::keys::should_renew;
use crate::flow::{
    Call, Desk, create_client, create_enrolment, enrol, enrol_by_identity, find_leaked, health, instances, issue_token,
    list, live, login, personal_grant, preview_revocation, renew, revoke, revoke_instance,
};
use crate::store::credential;

/// No request of this service is larger, and strangers may send some.
const LARGEST_REQUEST: usize = 64 * 1024;
/// But a grant of a person: a token and 256 permissions.
const LARGEST_GRANT: usize = 512 * 1024;
/// A thousand grants fit.
const LARGEST_LIST: usize = 64 << 20;

/// The handlers.
#[derive(Clone, Debug)]
pub(crate) struct Api(Arc<Desk>);

/// The routes of every service here.
pub(crate) fn routes(desk: Arc<Desk>) -> Routes {
    let api = Api(desk);
    Routes::new(EnrolmentServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_REQUEST))
        .add_service(AgentCredentialServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_REQUEST))
        .add_service(CredentialAdminServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_REQUEST))
        .add_service(TokenServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_REQUEST))
        .add_service(WorkloadServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_REQUEST))
        .add_service(InstanceServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_REQUEST))
        .add_service(OperatorLoginServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_REQUEST))
        .add_service(
            PersonalGrantServiceServer::new(api.clone())
                .max_decoding_message_size(LARGEST_GRANT)
                .max_encoding_message_size(LARGEST_LIST),
        )
        .add_service(KeyAdminServiceServer::new(api.clone()).max_decoding_message_size(LARGEST_REQUEST))
        .add_service(KeyServiceServer::new(api).max_decoding_message_size(LARGEST_REQUEST))
}

fn call<T>(request: &Request<T>) -> Result<Call, Fault> {
    let permit = Permit::of(request)?;
    Ok(Call {
        peer: Arc::new(permit.peer().clone()),
        trace: permit.trace().clone(),
        deadline: permit.deadline(),
        emergency: permit.emergency().map(Into::into),
        client: None,
    })
}

/// A signed credential as an answer: the credential, its chain, the roots.
fn chain(desk: &Desk, row: credential::Model) -> (Option<wire::Credential>, Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let certificate = row.certificate.clone().into_iter().collect();
    let roots = desk.keys.authority(KeyUse::WorkloadsCa).map(|authority| authority.roots()).unwrap_or_default();
    (Some(row.into()), certificate, roots)
}

#[tonic::async_trait]
impl EnrolmentService for Api {
    async fn enrol(&self, request: Request<wire::EnrolRequest>) -> Result<Response<wire::EnrolResponse>, Status> {
        let call = call(&request)?;
        let ask = request.into_inner();
        let row = Box::pin(enrol::enrol(&self.0, &call, &ask.token, &ask.csr)).await?;
        let (credential, certificate_chain, workload_roots) = chain(&self.0, row);
        Ok(Response::new(wire::EnrolResponse { credential, certificate_chain, workload_roots }))
    }

    async fn enrol_with_identity_token(
        &self,
        request: Request<wire::EnrolWithIdentityTokenRequest>,
    ) -> Result<Response<wire::EnrolWithIdentityTokenResponse>, Status> {
        let call = call(&request)?;
        let wire::EnrolWithIdentityTokenRequest { token, namespace, csr } = request.into_inner();
        let row = Box::pin(enrol_by_identity::enrol(&self.0, &call, &namespace, &token, &csr)).await?;
        let (credential, certificate_chain, workload_roots) = chain(&self.0, row);
        Ok(Response::new(wire::EnrolWithIdentityTokenResponse { credential, certificate_chain, workload_roots }))
    }
}

#[tonic::async_trait]
impl OperatorLoginService for Api {
    async fn login(&self, request: Request<wire::LoginRequest>) -> Result<Response<wire::LoginResponse>, Status> {
        let call = call(&request)?;
        let wire::LoginRequest { token, csr } = request.into_inner();
        let row = Box::pin(login::login(&self.0, &call, &token, &csr)).await?;
        let certificate_chain = row.certificate.clone().into_iter().collect();
        Ok(Response::new(wire::LoginResponse { credential: Some(row.into()), certificate_chain }))
    }
}

#[tonic::async_trait]
impl PersonalGrantService for Api {
    async fn create_grant(
        &self,
        request: Request<wire::CreateGrantRequest>,
    ) -> Result<Response<wire::CreateGrantResponse>, Status> {
        let call = call(&request)?;
        Ok(Response::new(Box::pin(personal_grant::make(&self.0, &call, request.into_inner())).await?))
    }

    async fn list_grants(
        &self,
        request: Request<wire::ListGrantsRequest>,
    ) -> Result<Response<wire::ListGrantsResponse>, Status> {
        let call = call(&request)?;
        Ok(Response::new(Box::pin(personal_grant::list(&self.0, &call, request.into_inner())).await?))
    }

    async fn revoke_grant(
        &self,
        request: Request<wire::RevokeGrantRequest>,
    ) -> Result<Response<wire::RevokeGrantResponse>, Status> {
        let call = call(&request)?;
        Ok(Response::new(Box::pin(personal_grant::end(&self.0, &call, request.into_inner())).await?))
    }
}

#[tonic::async_trait]
impl AgentCredentialService for Api {
    async fn renew_certificate(
        &self,
        request: Request<wire::RenewCertificateRequest>,
    ) -> Result<Response<wire::RenewCertificateResponse>, Status> {
        let call = call(&request)?;
        let row = Box::pin(renew::renew(&self.0, &call, &request.into_inner().csr)).await?;
        let (credential, certificate_chain, workload_roots) = chain(&self.0, row);
        Ok(Response::new(wire::RenewCertificateResponse { credential, certificate_chain, workload_roots }))
    }

    async fn issue_token(
        &self,
        request: Request<wire::IssueTokenRequest>,
    ) -> Result<Response<wire::IssueTokenResponse>, Status> {
        let call = call(&request)?;
        let wish = convert::wish(request.into_inner())?;
        let issued = Box::pin(issue_token::issue_token(&self.0, &call, wish)).await?;
        Ok(Response::new(wire::IssueTokenResponse {
            access_token: issued.token,
            token_id: issued.token_id,
            expire_time: Some(issued.expires.into()),
            scopes: convert::scopes(&issued.scope),
            authorization_details: issued.details.to_string(),
            revision: issued.revision,
            renew_certificate: should_renew(&self.0, &call).await,
        }))
    }

    async fn exchange_token(
        &self,
        request: Request<wire::ExchangeTokenRequest>,
    ) -> Result<Response<wire::ExchangeTokenResponse>, Status> {
        let call = call(&request)?;
        let ask = convert::exchange(request.into_inner())?;
        let Exchanged { issued, behalf } = Box::pin(exchange::exchange(&self.0, &call, ask)).await?;
        Ok(Response::new(wire::ExchangeTokenResponse {
            access_token: issued.token,
            token_id: issued.token_id,
            expire_time: Some(issued.expires.into()),
            scopes: convert::scopes(&issued.scope),
            authorization_details: issued.details.to_string(),
            revision: issued.revision,
            subject: behalf.subject.to_string(),
            chain: behalf.chain.actors.iter().map(ToString::to_string).collect(),
            grants: behalf.chain.grants,
            subject_groups: behalf.chain.groups,
        }))
    }
}

#[tonic::async_trait]
impl TokenService for Api {
    async fn introspect(
        &self,
        request: Request<wire::IntrospectRequest>,
    ) -> Result<Response<wire::IntrospectResponse>, Status> {
        let call = call(&request)?;
        let asker = Asker::of(&call);
        let found = Box::pin(live::introspect(&self.0, &call, &asker, &request.into_inner().token)).await?;
        Ok(Response::new(convert::introspection(found)))
    }
}

#[tonic::async_trait]
impl CredentialAdminService for Api {
    async fn create_enrolment_token(
        &self,
        request: Request<wire::CreateEnrolmentTokenRequest>,
    ) -> Result<Response<wire::CreateEnrolmentTokenResponse>, Status> {
        let call = call(&request)?;
        let ask = request.into_inner();
        let named = convert::holder(ask.holder)?;
        let ttl = convert::duration("ttl", ask.ttl)?;
        let reason = convert::reason("reason", ask.reason)?;
        let made = create_enrolment::create_enrolment(&self.0, &call, named, ttl, reason);
        let made = Box::pin(self.0.for_operator(&call, made)).await?;
        Ok(Response::new(wire::CreateEnrolmentTokenResponse {
            token: made.token.to_text().to_string(),
            enrolment_id: made.id,
            expire_time: Some(made.expires.into()),
            spiffe_id: made.spiffe_id,
        }))
    }

    async fn create_client_secret(
        &self,
        request: Request<wire::CreateClientSecretRequest>,
    ) -> Result<Response<wire::CreateClientSecretResponse>, Status> {
        let call = call(&request)?;
        let wire::CreateClientSecretRequest { agent_id, ttl, replace, reason } = request.into_inner();
        let ask = convert::client(&agent_id, ttl, replace, reason)?;
        let made = create_client::secret(&self.0, &call, ask);
        let (secret, made) = Box::pin(self.0.for_operator(&call, made)).await?;
        Ok(Response::new(wire::CreateClientSecretResponse {
            client_id: made.row.agent_id.clone(),
            client_secret: secret.to_text().to_string(),
            credential: Some(made.row.into()),
            replaced: made.replaced.into_iter().map(Into::into).collect(),
        }))
    }

    async fn register_client_key(
        &self,
        request: Request<wire::RegisterClientKeyRequest>,
    ) -> Result<Response<wire::RegisterClientKeyResponse>, Status> {
        let call = call(&request)?;
        let wire::RegisterClientKeyRequest { agent_id, jwk, ttl, replace, reason } = request.into_inner();
        let ask = convert::client(&agent_id, ttl, replace, reason)?;
        let key = PublicKey::from_jwk(&jwk).map_err(|e| Fault::invalid("jwk", e.to_string()))?;
        let made = create_client::register(&self.0, &call, ask, key);
        let made = Box::pin(self.0.for_operator(&call, made)).await?;
        Ok(Response::new(wire::RegisterClientKeyResponse {
            client_id: made.row.agent_id.clone(),
            credential: Some(made.row.into()),
            replaced: made.replaced.into_iter().map(Into::into).collect(),
        }))
    }

    async fn list_credentials(
        &self,
        request: Request<wire::ListCredentialsRequest>,
    ) -> Result<Response<wire::ListCredentialsResponse>, Status> {
        let call = call(&request)?;
        let wire::ListCredentialsRequest { agent_id, namespace, page_size, page_token, instance_id } =
            request.into_inner();
        let ask = list::Ask { agent_id, namespace, instance_id, page_size, page_token };
        let (rows, next_page_token) = Box::pin(self.0.for_operator(&call, list::list(&self.0, &call, ask))).await?;
        let credentials = rows.into_iter().map(Into::into).collect();
        Ok(Response::new(wire::ListCredentialsResponse { credentials, next_page_token }))
    }

    async fn revoke_credential(
        &self,
        request: Request<wire::RevokeCredentialRequest>,
    ) -> Result<Response<wire::RevokeCredentialResponse>, Status> {
        let call = call(&request)?;
        let ask = request.into_inner();
        let id = convert::credential_id(&ask.credential_id)?;
        let reason = convert::revocation_reason(ask.reason)?;
        let comment = convert::comment(ask.comment)?;
        let revoked = revoke::revoke(&self.0, &call, id, reason, comment);
        let (row, revision) = Box::pin(self.0.for_operator(&call, revoked)).await?;
        Ok(Response::new(wire::RevokeCredentialResponse { credential: Some(row.into()), revision }))
    }

    async fn preview_revocation(
        &self,
        request: Request<wire::PreviewRevocationRequest>,
    ) -> Result<Response<wire::PreviewRevocationResponse>, Status> {
        let call = call(&request)?;
        let ask = request.into_inner();
        let whom = preview_revocation::whom(&ask.namespace, convert::level(ask.level)?)?;
        let touched = preview_revocation::preview(&self.0, &call, whom);
        let touched = Box::pin(self.0.for_operator(&call, touched)).await?;
        Ok(Response::new(convert::touched(touched)))
    }

    async fn find_leaked(
        &self,
        request: Request<wire::FindLeakedRequest>,
    ) -> Result<Response<wire::FindLeakedResponse>, Status> {
        let call = call(&request)?;
        let (found, revoke) = convert::leaked(request.into_inner())?;
        let told = find_leaked::find_leaked(&self.0, &call, found, revoke);
        let told = Box::pin(self.0.for_operator(&call, told)).await?;
        let key = told.known.as_ref().and_then(|known| known.key.clone());
        let key = key.map(|row| self.key(row)).transpose()?;
        Ok(Response::new(convert::told_of_leaked(told, key)))
    }

    async fn list_credential_health(
        &self,
        request: Request<wire::ListCredentialHealthRequest>,
    ) -> Result<Response<wire::ListCredentialHealthResponse>, Status> {
        let call = call(&request)?;
        let ask = convert::health(request.into_inner())?;
        let page = self.0.for_operator(&call, health::health(&self.0, &call, ask));
        Ok(Response::new(convert::page_of_health(Box::pin(page).await?)))
    }
}

#[tonic::async_trait]
impl InstanceService for Api {
    async fn list_instances(
        &self,
        request: Request<wire::ListInstancesRequest>,
    ) -> Result<Response<wire::ListInstancesResponse>, Status> {
        let call = call(&request)?;
        let wire::ListInstancesRequest { agent_id, namespace, states, page_size, page_token, node } =
            request.into_inner();
        let states = convert::states(&states)?;
        let ask = instances::Ask { agent_id, namespace, node, states, page_size, page_token };
        let listed = self.0.for_operator(&call, instances::list(&self.0, &call, ask));
        let (found, next_page_token) = Box::pin(listed).await?;
        let instances = found.into_iter().map(convert::instance).collect();
        Ok(Response::new(wire::ListInstancesResponse { instances, next_page_token }))
    }

    async fn get_instance(
        &self,
        request: Request<wire::GetInstanceRequest>,
    ) -> Result<Response<wire::GetInstanceResponse>, Status> {
        let call = call(&request)?;
        let id = convert::instance_id(&request.into_inner().instance_id)?;
        let found = Box::pin(self.0.for_operator(&call, instances::get(&self.0, &call, id))).await?;
        Ok(Response::new(wire::GetInstanceResponse { instance: Some(convert::instance(found)) }))
    }

    async fn revoke_instance(
        &self,
        request: Request<wire::RevokeInstanceRequest>,
    ) -> Result<Response<wire::RevokeInstanceResponse>, Status> {
        let call = call(&request)?;
        let ask = request.into_inner();
        let id = convert::instance_id(&ask.instance_id)?;
        let reason = convert::revocation_reason(ask.reason)?;
        let comment = convert::comment(ask.comment)?;
        let revoked = revoke_instance::revoke_instance(&self.0, &call, id, reason, comment);
        let (found, revision) = Box::pin(self.0.for_operator(&call, revoked)).await?;
        Ok(Response::new(wire::RevokeInstanceResponse { instance: Some(convert::instance(found)), revision }))
    }
}

#[tonic::async_trait]
impl KeyService for Api {
    async fn get_jwks(
        &self,
        request: Request<wire::GetJwksRequest>,
    ) -> Result<Response<wire::GetJwksResponse>, Status> {
        call(&request)?;
        let jwks = legate_token::jwk_set(&self.0.keys.published(KeyUse::AccessTokens));
        Ok(Response::new(wire::GetJwksResponse { jwks }))
    }

    async fn get_trust_bundle(
        &self,
        request: Request<wire::GetTrustBundleRequest>,
    ) -> Result<Response<wire::GetTrustBundleResponse>, Status> {
        call(&request)?;
        let authority = self.0.keys.authority(KeyUse::WorkloadsCa)?;
        Ok(Response::new(wire::GetTrustBundleResponse {
            trust_domain: self.0.domain.to_string(),
            workload_roots: authority.roots(),
            jwt_authorities: legate_token::jwk_set(&self.0.keys.published(KeyUse::JwtSvids)),
            tainted_roots: authority.tainted_roots(),
        }))
    }
}
