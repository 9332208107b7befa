//! What nodes ask.

use legate_rpc::Fault;
use legate_wire::credential as wire;
use legate_wire::credential::workload_service_server::WorkloadService;
use tonic::{Request, Response, Status};

use super::{Api, chain};
use crate::convert;
use crate::flow::watch_node::{self, News};
use crate::flow::{Call, attest, end_instance, issue_jwt_svid};

/// The call of a node, which states no emergency: that is for operators.
fn call<T>(request: &Request<T>) -> Result<Call, Fault> {
    Ok(Call { emergency: None, ..super::call(request)? })
}

#[tonic::async_trait]
impl WorkloadService for Api {
    type WatchNodeStream = News;

    async fn watch_node(
        &self,
        request: Request<wire::WatchNodeRequest>,
    ) -> Result<Response<Self::WatchNodeStream>, Status> {
        let call = call(&request)?;
        Ok(Response::new(watch_node::watch(&self.0, call)?))
    }

    async fn issue_x509_svid(
        &self,
        request: Request<wire::IssueX509SvidRequest>,
    ) -> Result<Response<wire::IssueX509SvidResponse>, Status> {
        let call = call(&request)?;
        let ask = convert::attest(request.into_inner())?;
        let row = Box::pin(attest::issue(&self.0, &call, ask)).await?;
        let lifecycle_version = u64::try_from(row.lifecycle_version).unwrap_or(0);
        let (credential, certificate_chain, _) = chain(&self.0, row);
        Ok(Response::new(wire::IssueX509SvidResponse { credential, certificate_chain, lifecycle_version }))
    }

    async fn issue_jwt_svid(
        &self,
        request: Request<wire::IssueJwtSvidRequest>,
    ) -> Result<Response<wire::IssueJwtSvidResponse>, Status> {
        let call = call(&request)?;
        let ask = convert::jwt_svid(request.into_inner())?;
        let issued = Box::pin(issue_jwt_svid::issue(&self.0, &call, ask)).await?;
        Ok(Response::new(wire::IssueJwtSvidResponse {
            svid: issued.svid,
            spiffe_id: issued.spiffe_id.to_string(),
            expire_time: Some(issued.expires.into()),
        }))
    }

    async fn end_instance(
        &self,
        request: Request<wire::EndInstanceRequest>,
    ) -> Result<Response<wire::EndInstanceResponse>, Status> {
        let call = call(&request)?;
        let id = convert::instance_id(&request.into_inner().instance_id)?;
        let revision = Box::pin(end_instance::end(&self.0, &call, id)).await?;
        Ok(Response::new(wire::EndInstanceResponse { revision }))
    }
}
