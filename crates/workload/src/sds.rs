//! Envoy's secret discovery service v3 on the same socket: an Envoy takes its certificate as every other process does.

use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64, Encoding as _};
use legate_mtls::pki;
use legate_rpc::Fault;
use legate_wire::sds::data_source::Specifier;
use legate_wire::sds::secret::Type;
use legate_wire::sds::secret_discovery_service_server::SecretDiscoveryService;
use legate_wire::sds::{
    CertificateValidationContext, DataSource, DiscoveryRequest, DiscoveryResponse, Secret, TlsCertificate,
};
use prost::Message as _;
use rustls_pki_types::CertificateDer;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use zeroize::Zeroizing;

use crate::Meter;
use crate::api::caller;
use crate::issuer::Svid;
use crate::keeper::{Entitled, Held, Keeper, State};
use crate::socket::Caller;
use crate::stream::Answers;

/// What a secret is called inside an Any.
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
/// The certificate to use where nobody says which.
const DEFAULT: &str = "default";
/// What verifies others.
const ROOTS: &str = "ROOTCA";
/// Names of one request.
const NAMES: usize = 64;
/// Whoever has not taken the last answer after so long does not read.
const UNREAD: Duration = Duration::from_secs(30);

/// What answers Envoy.
#[derive(Clone, Debug)]
pub(crate) struct Sds {
    keeper: Keeper,
    meter: Meter,
}

impl Sds {
    pub(crate) fn new(keeper: Keeper, meter: Meter) -> Self {
        Self { keeper, meter }
    }

    /// Who calls, and what it has.
    async fn enter(&self, caller: Result<Caller, Fault>) -> Result<Entitled, Fault> {
        let caller = caller?;
        let entitled = self.keeper.of(caller.peer()?).await?;
        caller.entitle();
        Ok(entitled)
    }

    fn refused(&self, method: &'static str, fault: Fault) -> Status {
        self.meter.called(method, fault.reason());
        tracing::info!(method, %fault, "refused");
        fault.into()
    }
}

fn check(request: &DiscoveryRequest) -> Result<(), Fault> {
    if !request.type_url.is_empty() && request.type_url != SECRET {
        return Err(Fault::invalid("type_url", format!("what there is is {SECRET}")));
    }
    if request.resource_names.len() > NAMES {
        return Err(Fault::invalid("resource_names", format!("{NAMES} at most")));
    }
    Ok(())
}

/// The secrets of these names that there are; without names the certificate and what verifies others.
fn secrets(held: &Held, names: &[String]) -> Vec<Secret> {
    let both = [DEFAULT.to_owned(), ROOTS.to_owned()];
    let names = if names.is_empty() { &both[..] } else { names };
    let secret = |name: &String| {
        let foreign = held.federated.iter().find(|bundle| !bundle.x509.is_empty() && *name == bundle.name());
        let ours = (*name == ROOTS || *name == held.bundle.name()).then_some(&held.bundle);
        let kind = if let Some(bundle) = ours.or(foreign) {
            let trusted_ca = Some(inline(bundle.x509_pem.clone().into_bytes()));
            Type::ValidationContext(CertificateValidationContext { trusted_ca })
        } else {
            let is_it = |svid: &&Arc<Svid>| *name == DEFAULT || svid.spiffe_id.as_str() == name;
            Type::TlsCertificate(certificate(held.svids.iter().find(is_it)?))
        };
        Some(Secret { name: name.clone(), r#type: Some(kind) })
    };
    names.iter().filter_map(secret).collect()
}

fn certificate(svid: &Svid) -> TlsCertificate {
    let chain: String = svid.chain.iter().map(|der| pki::to_pem(&CertificateDer::from(der.as_slice()))).collect();
    TlsCertificate {
        certificate_chain: Some(inline(chain.into_bytes())),
        private_key: Some(inline(key_pem(&svid.key).as_bytes().to_vec())),
    }
}

fn key_pem(der: &[u8]) -> Zeroizing<String> {
    let text = Zeroizing::new(Base64::encode_string(der));
    let mut pem = Zeroizing::new(String::with_capacity(text.len() * 2));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|b| char::from(*b)));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

fn inline(bytes: Vec<u8>) -> DataSource {
    DataSource { specifier: Some(Specifier::InlineBytes(bytes)) }
}

fn response(held: &Held, names: &[String], number: u64) -> DiscoveryResponse {
    let any = |secret: Secret| prost_types::Any { type_url: SECRET.to_owned(), value: secret.encode_to_vec() };
    DiscoveryResponse {
        version_info: number.to_string(),
        resources: secrets(held, names).into_iter().map(any).collect(),
        type_url: SECRET.to_owned(),
        nonce: number.to_string(),
    }
}

/// One Envoy's subscription.
struct Subscription {
    asked: Streaming<DiscoveryRequest>,
    state: watch::Receiver<State>,
    to: mpsc::Sender<Result<DiscoveryResponse, Status>>,
    names: Option<Vec<String>>,
    /// What was answered last, and its number.
    said: Option<(Arc<Held>, Vec<String>)>,
    number: u64,
    meter: Meter,
}

impl Subscription {
    async fn run(mut self) {
        let _open = self.meter.stream();
        loop {
            let now = self.state.borrow_and_update().clone();
            let answer = match (now, &self.names) {
                (State::Holds(held), Some(names)) if !self.has_said(&held, names) => {
                    self.number += 1;
                    let answer = response(&held, names, self.number);
                    self.said = Some((held, names.clone()));
                    Some(Ok(answer))
                }
                (without @ State::Without(_), _) => without.held().err().map(|fault| Err(Status::from(fault))),
                _ => None,
            };
            if let Some(answer) = answer
                && !self.say(answer).await
            {
                return;
            }
            tokio::select! {
                changed = self.state.changed() => if changed.is_err() { return },
                asked = self.asked.message() => match asked {
                    Ok(Some(request)) => if let Err(fault) = self.heard(request) {
                        self.say(Err(fault.into())).await;
                        return;
                    },
                    Ok(None) | Err(_) => return,
                },
                () = self.to.closed() => return,
            }
        }
    }

    fn has_said(&self, held: &Held, names: &[String]) -> bool {
        self.said.as_ref().is_some_and(|(before, of)| of == names && before.is_same_x509(held))
    }

    /// Whether it goes on.
    async fn say(&self, answer: Result<DiscoveryResponse, Status>) -> bool {
        let is_last = answer.is_err();
        match tokio::time::timeout(UNREAD, self.to.send(answer)).await {
            Ok(sent) => sent.is_ok() && !is_last,
            Err(_) => {
                self.meter.dropped();
                false
            }
        }
    }

    fn heard(&mut self, request: DiscoveryRequest) -> Result<(), Fault> {
        check(&request)?;
        if let Some(why) = &request.error_detail {
            tracing::warn!(code = why.code, "Envoy does not take its secrets: {}", shown(&why.message));
        }
        // What is said of an answer before the last is late, unless it asks for something else.
        self.names = Some(request.resource_names);
        Ok(())
    }
}

/// What a stranger wrote, for a log.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !legate_ids::is_deceptive(*c)).take(256).collect()
}

#[tonic::async_trait]
impl SecretDiscoveryService for Sds {
    type StreamSecretsStream = Answers<DiscoveryResponse>;

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let entered = self.enter(caller(&request)).await;
        let entitled = entered.map_err(|fault| self.refused("StreamSecrets", fault))?;
        self.meter.called("StreamSecrets", "");
        let (to, stream) = mpsc::channel(1);
        let subscription = Subscription {
            asked: request.into_inner(),
            state: entitled.workload.subscribe(),
            to,
            names: None,
            said: None,
            number: 0,
            meter: self.meter.clone(),
        };
        tokio::spawn(subscription.run());
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn fetch_secrets(&self, request: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
        let entered = self.enter(caller(&request)).await;
        let answer = entered.and_then(|entitled| {
            check(request.get_ref())?;
            Ok(response(&entitled.held, &request.get_ref().resource_names, 1))
        });
        match answer {
            Ok(answer) => {
                self.meter.called("FetchSecrets", "");
                Ok(Response::new(answer))
            }
            Err(fault) => Err(self.refused("FetchSecrets", fault)),
        }
    }
}
