//! An identity from the SPIFFE Workload API: no file, no secret, renewed by whoever attests this process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use legate_mtls::Identity;
use legate_rpc::Code;
use legate_wire::spiffe::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use legate_wire::spiffe::{JwtsvidRequest, X509svidRequest, X509svidResponse};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};
use zeroize::{Zeroize as _, Zeroizing};

use crate::ClientError;

/// Where libraries find the socket.
const VARIABLE: &str = "SPIFFE_ENDPOINT_SOCKET";
/// The wait after a failure doubles from the first to the second.
const WAITS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// What one answer may be, in bytes.
const LARGEST: usize = 4 << 20;
/// A unary call that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(15);

/// How many SVIDs came, and whether the last of them is in force.
#[derive(Clone, Copy, Debug, Default)]
struct Came {
    times: u64,
    is_held: bool,
}

/// An identity that is obtained on the socket of this machine and stays fresh for as long as this lives.
///
/// Its [`Identity`] is given to [`Remote::dial`](crate::Remote::dial), [`Runtime::new`](crate::Runtime::new) and listeners like one from
/// files. When the process may have none any more, it is let go of at once: new connections then show nobody.
#[derive(Debug)]
pub struct IdentitySource {
    identity: Identity,
    api: SpiffeWorkloadApiClient<Channel>,
    came: watch::Receiver<Came>,
    task: tokio::task::AbortHandle,
}

impl Drop for IdentitySource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl IdentitySource {
    /// Asks on the socket that `SPIFFE_ENDPOINT_SOCKET` names, for `patience` at most. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the variable names no unix socket, or there was no SVID until then: the last refusal.
    pub async fn from_env(patience: Duration) -> Result<Self, ClientError> {
        let endpoint =
            std::env::var(VARIABLE).map_err(|_| ClientError::Setting("SPIFFE_ENDPOINT_SOCKET is not set"))?;
        Self::at(&endpoint, patience).await
    }

    /// The same on the socket `unix:///PATH`.
    ///
    /// # Errors
    /// As [`IdentitySource::from_env`].
    pub async fn at(endpoint: &str, patience: Duration) -> Result<Self, ClientError> {
        let path = socket(endpoint).ok_or(ClientError::Setting("the endpoint is not unix:///PATH"))?;
        let api = SpiffeWorkloadApiClient::new(channel(path)).max_decoding_message_size(LARGEST);
        let identity = Identity::anonymous();
        let (told, came) = watch::channel(Came::default());
        let (failed, mut failure) = watch::channel(None);
        let task = tokio::spawn(follow(api.clone(), identity.clone(), told, failed)).abort_handle();
        let mut source = Self { identity, api, came, task };
        let is_held = tokio::time::timeout(patience, source.came.wait_for(|came| came.is_held))
            .await
            .is_ok_and(|held| held.is_ok());
        match is_held {
            true => Ok(source),
            false => {
                let last: Option<Status> = failure.borrow_and_update().clone();
                Err(last.map_or(ClientError::Setting("there was no SVID in time"), ClientError::from))
            }
        }
    }

    /// The identity, which is replaced in place. Clones share it.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns when another SVID is in force, or none: which [`Identity::spiffe_id`] says.
    pub async fn changed(&mut self) {
        if self.came.changed().await.is_err() {
            // The task that tells lives as long as we do.
            std::future::pending::<()>().await;
        }
    }

    /// A JWT-SVID of this process for one audience. The node keeps it, so that it may be asked for with every use.
    ///
    /// # Errors
    /// When the node refuses, or is not there.
    pub async fn jwt(&self, audience: &str) -> Result<Zeroizing<String>, ClientError> {
        let ask = JwtsvidRequest { audience: vec![audience.to_owned()], spiffe_id: String::new() };
        let mut api = self.api.clone();
        let call = api.fetch_jwtsvid(marked(ask));
        let late = |_| ClientError::Setting("the node did not answer within 15 s");
        let answer = tokio::time::timeout(DEADLINE, call).await.map_err(late)??.into_inner();
        let first = answer.svids.into_iter().next();
        first.map(|svid| Zeroizing::new(svid.svid)).ok_or(ClientError::Setting("the node answered with no JWT-SVID"))
    }
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

async fn follow(
    mut api: SpiffeWorkloadApiClient<Channel>,
    identity: Identity,
    told: watch::Sender<Came>,
    failed: watch::Sender<Option<Status>>,
) {
    let mut wait = WAITS.0;
    loop {
        let ended = match api.fetch_x509svid(marked(X509svidRequest {})).await {
            Ok(answer) => read(answer.into_inner(), &identity, &told, &mut wait).await,
            Err(status) => Some(status),
        };
        if let Some(status) = ended {
            // Only this says that nothing is ours any more; whatever else it is, what is held is good until it ends.
            if status.code() == Code::PermissionDenied {
                identity.forget();
                told.send_if_modified(|came| std::mem::take(&mut came.is_held));
            }
            tracing::debug!(code = ?status.code(), why = status.message(), "the stream of SVIDs ended");
            failed.send_replace(Some(status));
        }
        tokio::time::sleep(wait.mul_f64(rand::random_range(0.5..1.0))).await;
        wait = (wait * 2).min(WAITS.1);
    }
}

async fn read(
    mut stream: Streaming<X509svidResponse>,
    identity: &Identity,
    told: &watch::Sender<Came>,
    wait: &mut Duration,
) -> Option<Status> {
    loop {
        let mut answer = match stream.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return None,
            Err(status) => return Some(status),
        };
        // X.509-SVID profile of the Workload API, section 5.3: the first is the default one.
        let Some(first) = answer.svids.first() else { continue };
        match identity.replace_svid(&first.x509_svid, &first.x509_svid_key) {
            Ok(()) => {
                *wait = WAITS.0;
                told.send_modify(|came| *came = Came { times: came.times + 1, is_held: true });
            }
            Err(error) => tracing::error!(%error, "the node gave what is no SVID"),
        }
        answer.svids.iter_mut().for_each(|svid| svid.x509_svid_key.zeroize());
    }
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
