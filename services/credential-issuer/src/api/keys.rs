//! The methods by which operators see keys and let them follow one another.

use legate_rpc::Fault;
use legate_wire::credential as wire;
use legate_wire::credential::key_admin_service_server::KeyAdminService;
use tonic::{Request, Response, Status};

use super::{Api, call};
use crate::convert;
use crate::flow::keys::{self, Changed};
use crate::store::signing_key::Model;

impl Api {
    pub(super) fn key(&self, row: Model) -> Result<wire::Key, Fault> {
        let place = self.0.keys.place(&row.kid);
        convert::key(row, self.0.keys.pace, place)
    }

    fn all(&self, rows: Vec<Model>) -> Result<Vec<wire::Key>, Fault> {
        rows.into_iter().map(|row| self.key(row)).collect()
    }
}

/// Why a key is changed.
fn why(reason: String) -> Result<String, Fault> {
    if reason.trim().is_empty() {
        return Err(Fault::invalid("reason", "say why, for the record"));
    }
    convert::reason("reason", reason)
}

#[tonic::async_trait]
impl KeyAdminService for Api {
    async fn list_keys(
        &self,
        request: Request<wire::ListKeysRequest>,
    ) -> Result<Response<wire::ListKeysResponse>, Status> {
        let call = call(&request)?;
        let wire::ListKeysRequest { purpose, with_ended, page_size, page_token } = request.into_inner();
        let ask = keys::Ask { purpose: convert::key_purpose(purpose)?, with_ended, page_size, page_token };
        let (rows, next_page_token) = Box::pin(self.0.for_operator(&call, keys::list(&self.0, &call, ask))).await?;
        Ok(Response::new(wire::ListKeysResponse { keys: self.all(rows)?, next_page_token }))
    }

    async fn prepare_key(
        &self,
        request: Request<wire::PrepareKeyRequest>,
    ) -> Result<Response<wire::PrepareKeyResponse>, Status> {
        let call = call(&request)?;
        let ask = request.into_inner();
        let (purpose, reason) = (convert::one_key_purpose(ask.purpose)?, why(ask.reason)?);
        let row = Box::pin(self.0.for_operator(&call, keys::prepare(&self.0, &call, purpose, reason))).await?;
        Ok(Response::new(wire::PrepareKeyResponse { key: Some(self.key(row)?) }))
    }

    async fn rotate_key(
        &self,
        request: Request<wire::RotateKeyRequest>,
    ) -> Result<Response<wire::RotateKeyResponse>, Status> {
        let call = call(&request)?;
        let ask = request.into_inner();
        let (purpose, reason) = (convert::one_key_purpose(ask.purpose)?, why(ask.reason)?);
        let journey = async {
            if ask.compromised {
                keys::replace(&self.0, &call, purpose, reason).await
            } else {
                keys::rotate(&self.0, &call, purpose, ask.now, reason).await
            }
        };
        let Changed { key, replaced, .. } = Box::pin(self.0.for_operator(&call, journey)).await?;
        Ok(Response::new(wire::RotateKeyResponse { key: Some(self.key(key)?), replaced: self.all(replaced)? }))
    }

    async fn taint_key(
        &self,
        request: Request<wire::TaintKeyRequest>,
    ) -> Result<Response<wire::TaintKeyResponse>, Status> {
        let call = call(&request)?;
        let ask = request.into_inner();
        let (kid, reason) = (convert::kid(&ask.kid)?, why(ask.reason)?);
        let row = Box::pin(self.0.for_operator(&call, keys::taint(&self.0, &call, kid, reason))).await?;
        Ok(Response::new(wire::TaintKeyResponse { key: Some(self.key(row)?) }))
    }

    async fn retire_key(
        &self,
        request: Request<wire::RetireKeyRequest>,
    ) -> Result<Response<wire::RetireKeyResponse>, Status> {
        let call = call(&request)?;
        let ask = request.into_inner();
        let (kid, reason) = (convert::kid(&ask.kid)?, why(ask.reason)?);
        let journey = keys::retire(&self.0, &call, kid, ask.compromised, reason);
        let Changed { key, active, .. } = Box::pin(self.0.for_operator(&call, journey)).await?;
        let active = active.map(|row| self.key(row)).transpose()?;
        Ok(Response::new(wire::RetireKeyResponse { key: Some(self.key(key)?), active }))
    }
}
