//! SPIFFE's Broker API, a draft (as of commit 06733d88): who starts processes for others obtains their identities, so that they need not ask
//! themselves.
//!
//! A broker is a process that was attested itself, and whom attestation policies name (BROKER_AGENT). It shows its own X.509-SVID on a
//! socket of its own, says by number which process it means, and is given what the policies give that name it and that the process
//! meets. What the process is, is seen by us and not said by the broker.

mod conn;

use std::sync::Arc;

use legate_clock::Clock;
use legate_ids::{Principal, SpiffeId, TrustDomain};
use legate_mtls::{Identity, LocalAcceptor, LocalPeer};
use legate_rpc::Fault;
use legate_wire::broker::api_server::{Api, ApiServer};
use legate_wire::broker::{
    FetchJwtsvidRequest, FetchJwtsvidResponse, Jwtsvid, SubscribeToJwtBundlesRequest, SubscribeToJwtBundlesResponse,
    SubscribeToX509BundlesRequest, SubscribeToX509BundlesResponse, SubscribeToX509svidRequest,
    SubscribeToX509svidResponse, WorkloadPidReference, WorkloadReference, X509svid,
};
use legate_wire::registry::{AttestationSelector, AttestationSelectorType as Type};
use legate_wire::workload::SandboxReference;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::api::{all_jwt, all_x509, audiences, federated_x509};
use crate::attest::{Newcomer, Unseen};
use crate::error::{BROKER_HEADER_MISSING, BROKER_NOT_ALLOWED, WORKLOAD_NOT_FOUND, WORKLOAD_REFERENCE_INVALID};
use crate::follow::News;
use crate::keeper::{Entitled, Held, Keeper};
use crate::knowledge::Knowledge;
use crate::shown;
use crate::socket::Bound;
use crate::stream::{Answers, answers};
use crate::{Limits, Meter};
use conn::{Book, accept};

/// The metadata that every call carries (SPIFFE Broker Endpoint section 3).
const HEADER: &str = "broker.spiffe.io";
/// What a process is referred to by.
const PID: &str = "type.googleapis.com/spiffe.broker.WorkloadPIDReference";
/// The same, with the broker's word for it.
const SANDBOX: &str = "type.googleapis.com/legate.workload.v1.SandboxReference";
/// The longest word of a broker for a process, in bytes.
const LONGEST_SANDBOX: usize = 128;
/// The most bytes of one request.
const REQUEST: usize = 64 << 10;
/// The most bytes of its headers.
const HEADERS: u32 = 16 << 10;
/// Resets by the peer that wait to be seen (CVE-2023-44487).
const RESETS: usize = 20;

/// What the socket of brokers works with.
#[derive(Clone, Debug)]
pub(crate) struct Broker {
    pub(crate) keeper: Keeper,
    pub(crate) domain: TrustDomain,
    /// The node's own.
    pub(crate) identity: Identity,
    pub(crate) limits: Limits,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) meter: Meter,
}

/// Serves brokers until the helper stops.
pub(crate) async fn serve(bound: Bound, broker: Broker, stop: CancellationToken) {
    let acceptor = LocalAcceptor::new(broker.identity.clone(), broker.domain.clone(), Arc::clone(&broker.clock));
    let acceptor = match acceptor {
        Ok(acceptor) => acceptor,
        Err(error) => return tracing::error!(%error, "brokers are not served"),
    };
    let book = Book::default();
    let api = ApiServer::new(Served { keeper: broker.keeper.clone(), meter: broker.meter.clone() });
    let incoming = accept(bound, acceptor.clone(), broker.limits, book.clone(), Arc::clone(&broker.clock));
    let server = tonic::transport::Server::builder()
        .max_concurrent_streams(broker.limits.streams)
        .http2_max_header_list_size(HEADERS)
        .http2_max_pending_accept_reset_streams(Some(RESETS))
        .add_service(api.max_decoding_message_size(REQUEST))
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned());
    tokio::select! {
        ended = server => if let Err(error) = ended {
            tracing::error!(%error, "brokers are served no more");
        },
        () = follow(broker.keeper, acceptor, book) => {}
    }
}

/// Believes whom credential-issuer says to believe, and cuts who may not ask any more.
async fn follow(keeper: Keeper, acceptor: LocalAcceptor, book: Book) {
    let mut news = keeper.ear().subscribe();
    loop {
        let known = match &*news.borrow_and_update() {
            News::Known(known) => Some(Arc::clone(known)),
            News::Nothing | News::Refused(_) => None,
        };
        if let Some(known) = &known
            && let Err(error) = acceptor.believe(&known.bundle.x509_pem)
        {
            tracing::error!(%error, "the CA certificates cannot be used; those of before stay");
        }
        book.cut_unless(|peer| known.as_ref().is_some_and(|known| is_broker(known, peer).is_ok()));
        if news.changed().await.is_err() {
            return;
        }
    }
}

/// The broker that a peer is: a policy that believes this node names its agent, and its instance did not fall.
fn is_broker(known: &Knowledge, peer: &LocalPeer) -> Result<shown::Broker, Fault> {
    let refused = |why: &str| Fault::refused(&BROKER_NOT_ALLOWED, format!("{} {why}", peer.spiffe_id));
    let Ok(Principal::Agent { instance: Some(instance), .. }) = Principal::of(&peer.spiffe_id) else {
        return Err(refused("is no instance of an agent"));
    };
    let agent: SpiffeId = peer.spiffe_id.without_instance();
    if known.ended.contains_key(instance.as_str()) {
        return Err(refused("was revoked or cut off"));
    }
    if !known.entitlements.iter().any(|by| by.broker.as_ref() == Some(&agent)) {
        return Err(refused("is named by no attestation policy that believes this node"));
    }
    Ok(shown::Broker { agent, instance_id: instance.to_string() })
}

/// What answers brokers.
#[derive(Clone, Debug)]
struct Served {
    keeper: Keeper,
    meter: Meter,
}

/// Which process a broker means, and what it calls it.
fn referred(reference: Option<WorkloadReference>) -> Result<(i32, Option<AttestationSelector>), Fault> {
    let bad = |why: &str| Fault::refused(&WORKLOAD_REFERENCE_INVALID, why);
    let any = reference.and_then(|of| of.reference).ok_or_else(|| bad("the request refers to no workload"))?;
    let malformed = |_| bad("the reference is malformed");
    let (pid, name) = match any.type_url.as_str() {
        PID => (WorkloadPidReference::decode(any.value.as_slice()).map_err(malformed)?.pid, None),
        SANDBOX => {
            let of = SandboxReference::decode(any.value.as_slice()).map_err(malformed)?;
            let is_word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            if !(1..=LONGEST_SANDBOX).contains(&of.sandbox.len()) || !of.sandbox.bytes().all(is_word) {
                return Err(bad("a sandbox is called by 1 to 128 of A-Za-z0-9._-"));
            }
            let name = AttestationSelector { r#type: Type::BrokerSandbox.into(), value: of.sandbox };
            (of.pid, Some(name))
        }
        _ => {
            return Err(bad(
                "workloads are referred to by WorkloadPIDReference or legate.workload.v1.SandboxReference",
            ));
        }
    };
    if pid <= 0 {
        return Err(bad("the number of a process is positive"));
    }
    Ok((pid, name))
}

impl Served {
    /// Who calls, for which process, and what that one has.
    async fn enter<T>(&self, request: &Request<T>, of: Option<WorkloadReference>) -> Result<Entitled, Fault> {
        let mut given = request.metadata().get_all(HEADER).iter();
        if given.next().is_none_or(|value| value != "true") || given.next().is_some() {
            let what = "the call does not carry the metadata broker.spiffe.io: true";
            return Err(Fault::refused(&BROKER_HEADER_MISSING, what));
        }
        let peer = request.extensions().get::<Arc<LocalPeer>>();
        let peer = peer.ok_or_else(|| Fault::broken("a call came over no connection"))?;
        let broker = match self.keeper.ear().news() {
            News::Known(known) => is_broker(&known, peer)?,
            News::Nothing | News::Refused(_) => {
                return Err(Fault::refused(&BROKER_NOT_ALLOWED, "nothing is known yet of who may ask for others"));
            }
        };
        let (pid, name) = referred(of)?;
        let process = match Newcomer::of_pid(pid) {
            Ok(newcomer) => newcomer.seen(self.keeper.looks()).await,
            Err(unseen) => Err(unseen),
        };
        let process = match process {
            Ok(process) => Arc::new(process),
            Err(Unseen::Gone | Unseen::Changed) => {
                return Err(Fault::refused(&WORKLOAD_NOT_FOUND, format!("there is no process {pid}")));
            }
            Err(unseen @ (Unseen::NotSeen | Unseen::NotRead)) => return Err(unseen.into()),
        };
        self.keeper.asked_for(&process, Some((broker, name))).await
    }

    fn told<T>(&self, method: &'static str, answer: Result<T, Fault>) -> Result<Response<T>, Status> {
        match answer {
            Ok(answer) => {
                self.meter.called(method, "");
                Ok(Response::new(answer))
            }
            Err(fault) => {
                self.meter.called(method, fault.reason());
                tracing::info!(method, %fault, "refused");
                Err(fault.into())
            }
        }
    }
}

fn x509(held: &Held) -> SubscribeToX509svidResponse {
    let svid = |svid: &Arc<crate::issuer::Svid>| X509svid {
        spiffe_id: svid.spiffe_id.to_string(),
        x509_svid: svid.chain.concat(),
        x509_svid_key: svid.key.to_vec(),
        bundle: held.bundle.x509.clone(),
        hint: svid.entitlement.hint(),
    };
    SubscribeToX509svidResponse {
        svids: held.svids.iter().map(svid).collect(),
        crl: Vec::new(),
        federated_bundles: federated_x509(held),
    }
}

#[tonic::async_trait]
impl Api for Served {
    type SubscribeToX509SVIDStream = Answers<SubscribeToX509svidResponse>;
    type SubscribeToX509BundlesStream = Answers<SubscribeToX509BundlesResponse>;
    type SubscribeToJWTBundlesStream = Answers<SubscribeToJwtBundlesResponse>;

    async fn subscribe_to_x509svid(
        &self,
        request: Request<SubscribeToX509svidRequest>,
    ) -> Result<Response<Self::SubscribeToX509SVIDStream>, Status> {
        let entered = self.enter(&request, request.get_ref().reference.clone()).await;
        let meter = self.meter.clone();
        self.told("SubscribeToX509SVID", entered.map(|entitled| answers(entitled, meter, Held::is_same_x509, x509)))
    }

    async fn subscribe_to_x509_bundles(
        &self,
        request: Request<SubscribeToX509BundlesRequest>,
    ) -> Result<Response<Self::SubscribeToX509BundlesStream>, Status> {
        let entered = self.enter(&request, request.get_ref().reference.clone()).await;
        let is_same = |a: &Held, b: &Held| a.has_same_bundles(b, |bundle| &bundle.x509);
        let say = |held: &Held| SubscribeToX509BundlesResponse { crl: Vec::new(), bundles: all_x509(held) };
        let meter = self.meter.clone();
        self.told("SubscribeToX509Bundles", entered.map(|entitled| answers(entitled, meter, is_same, say)))
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<FetchJwtsvidRequest>,
    ) -> Result<Response<FetchJwtsvidResponse>, Status> {
        let work = async {
            let FetchJwtsvidRequest { reference, audience, spiffe_id } = request.get_ref();
            let entitled = self.enter(&request, reference.clone()).await?;
            let tokens = entitled.tokens(&self.keeper, &audiences(audience)?, spiffe_id).await?;
            let svids = tokens.into_iter().map(|(hint, token)| Jwtsvid {
                spiffe_id: token.spiffe_id,
                svid: token.svid.to_string(),
                hint,
            });
            Ok::<_, Fault>(FetchJwtsvidResponse { svids: svids.collect() })
        };
        let answer = work.await;
        self.told("BrokerFetchJWTSVID", answer)
    }

    async fn subscribe_to_jwt_bundles(
        &self,
        request: Request<SubscribeToJwtBundlesRequest>,
    ) -> Result<Response<Self::SubscribeToJWTBundlesStream>, Status> {
        let entered = self.enter(&request, request.get_ref().reference.clone()).await;
        let is_same = |a: &Held, b: &Held| a.has_same_bundles(b, |bundle| &bundle.jwt);
        let say = |held: &Held| SubscribeToJwtBundlesResponse { bundles: all_jwt(held) };
        let meter = self.meter.clone();
        self.told("SubscribeToJWTBundles", entered.map(|entitled| answers(entitled, meter, is_same, say)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn reference(type_url: &str, value: Vec<u8>) -> Option<WorkloadReference> {
        Some(WorkloadReference { reference: Some(prost_types::Any { type_url: type_url.into(), value }) })
    }

    fn pid(pid: i32) -> Vec<u8> {
        WorkloadPidReference { pid }.encode_to_vec()
    }

    fn sandbox(sandbox: &str) -> Vec<u8> {
        SandboxReference { pid: 7, sandbox: sandbox.into() }.encode_to_vec()
    }

    #[test]
    fn a_process_is_referred_to_by_its_number() {
        assert_eq!(referred(reference(PID, pid(7))).unwrap(), (7, None));
        let (number, name) = referred(reference(SANDBOX, sandbox("run-1"))).unwrap();
        assert_eq!((number, name.unwrap().value.as_str()), (7, "run-1"));
        for bad in [
            None,
            Some(WorkloadReference { reference: None }),
            reference("type.googleapis.com/spiffe.broker.KubernetesObjectReference", pid(7)),
            reference(PID, pid(0)),
            reference(PID, pid(-7)),
            reference(PID, vec![0xff]),
            reference(SANDBOX, sandbox("")),
            reference(SANDBOX, sandbox("run 1")),
            reference(SANDBOX, sandbox(&"x".repeat(129))),
        ] {
            assert_eq!(referred(bad).unwrap_err().reason(), "WORKLOAD_REFERENCE_INVALID");
        }
    }
}
