//! An identity from the SPIFFE Workload API: no file, no secret, renewed by whoever attests this process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use legate_mtls::Identity;
use legate_rpc::Code;
use legate_wire::spiffe::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use legate_wire::spiffe::{JwtsvidRequest, X509svid, X509svidRequest, X509svidResponse};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use zeroize::{Zeroize as _, Zeroizing};

use super::slot::{Slot, named};
use crate::ClientError;

/// The wait after a failure doubles from the first to the second.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// What one answer may be, in bytes.
const LARGEST: usize = 4 << 20;
/// A unary call that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(15);

/// The node's socket.
pub(super) type Api = SpiffeWorkloadApiClient<Channel>;

/// The socket that `unix:///PATH` names.
pub(super) fn api(endpoint: &str) -> Result<Api, ClientError> {
    let path = socket(endpoint).ok_or(ClientError::Setting("the endpoint is not unix:///PATH"))?;
    Ok(Api::new(channel(path)).max_decoding_message_size(LARGEST))
}

/// A JWT-SVID for one audience.
pub(super) async fn jwt(api: &Api, audience: &str) -> Result<Zeroizing<String>, ClientError> {
    let ask = JwtsvidRequest { audience: vec![audience.to_owned()], spiffe_id: String::new() };
    let mut api = api.clone();
    let call = api.fetch_jwtsvid(marked(ask));
    let late = |_| ClientError::Setting("the node did not answer within 15 s");
    let answer = tokio::time::timeout(DEADLINE, call).await.map_err(late)??.into_inner();
    let first = answer.svids.into_iter().next();
    first.map(|svid| Zeroizing::new(svid.svid)).ok_or(ClientError::Setting("the node answered with no JWT-SVID"))
}

/// The path in `unix:///PATH` or `unix:/PATH`.
fn socket(endpoint: &str) -> Option<PathBuf> {
    let path = endpoint.strip_prefix("unix:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    path.starts_with('/').then(|| Path::new(path).to_owned())
}

fn channel(path: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

/// Workload Endpoint specification section 4: the metadata that says that the call was meant.
fn marked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

/// Follows the stream of SVIDs, and opens it again after every failure. Never returns.
pub(super) async fn follow(mut api: Api, slot: Arc<Slot>, failed: watch::Sender<Option<Status>>) {
    let mut wait = WAITS.0;
    loop {
        let ended = match api.fetch_x509svid(marked(X509svidRequest {})).await {
            Ok(answer) => read(answer.into_inner(), &slot, &mut wait).await,
            Err(status) => Some(status),
        };
        if let Some(status) = ended {
            // Only this says that nothing is ours any more; whatever else it is, what is held is good until it ends.
            if status.code() == Code::PermissionDenied {
                slot.forget();
            }
            tracing::debug!(code = ?status.code(), why = status.message(), "the stream of SVIDs ended");
            failed.send_replace(Some(status));
        }
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
        wait = (wait * 2).min(WAITS.1);
    }
}

async fn read(mut stream: Streaming<X509svidResponse>, slot: &Slot, wait: &mut Duration) -> Option<Status> {
    loop {
        let mut answer = match stream.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return None,
            Err(status) => return Some(status),
        };
        // X.509-SVID profile of the Workload API, section 5.3: the first is the default one.
        let Some(first) = answer.svids.first() else { continue };
        match take(slot, first) {
            Ok(()) => {
                *wait = WAITS.0;
                slot.held();
            }
            Err(error) => tracing::error!(%error, "the node gave what is no SVID"),
        }
        answer.svids.iter_mut().for_each(|svid| svid.x509_svid_key.zeroize());
    }
}

fn take(slot: &Slot, svid: &X509svid) -> Result<(), ClientError> {
    let fresh = Identity::anonymous();
    fresh.replace_svid(&svid.x509_svid, &svid.x509_svid_key)?;
    slot.believe(&named(&fresh)?, &svid.bundle)?;
    slot.identity.replace_svid(&svid.x509_svid, &svid.x509_svid_key)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_named_in_two_ways() {
        for good in ["unix:///run/a.sock", "unix:/run/a.sock"] {
            assert_eq!(socket(good), Some(PathBuf::from("/run/a.sock")), "{good}");
        }
        for bad in ["/run/a.sock", "unix:run/a.sock", "unix://run/a.sock", "tcp://127.0.0.1:1", ""] {
            assert_eq!(socket(bad), None, "{bad}");
        }
    }
}
