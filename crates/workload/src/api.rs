//! SPIFFE's Workload API, as the standard has it and not a word more.

use std::collections::BTreeMap;
use std::sync::Arc;

use legate_clock::Clock;
use legate_rpc::Fault;
use legate_token::{P256Verifier, ReceivedSvid};
use legate_wire::spiffe::spiffe_workload_api_server::SpiffeWorkloadApi;
use legate_wire::spiffe::{
    JwtBundlesRequest, JwtBundlesResponse, Jwtsvid, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest, X509svidResponse,
};
use tonic::{Request, Response, Status};

use crate::Meter;
use crate::claims::claims;
use crate::error::{SVID_INVALID, WORKLOAD_HEADER_MISSING};
use crate::keeper::{Entitled, Held, Keeper};
use crate::socket::Caller;
use crate::stream::{Answers, answers};

/// The metadata that every call carries: a request that somebody was tricked into sending does not (Workload Endpoint specification
/// section 4).
const HEADER: &str = "workload.spiffe.io";
/// Audiences of one request, and the length of each.
const AUDIENCES: std::ops::RangeInclusive<usize> = 1..=8;
const AUDIENCE: std::ops::RangeInclusive<usize> = 1..=512;

/// What answers.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    keeper: Keeper,
    clock: Arc<dyn Clock>,
    meter: Meter,
}

impl Api {
    pub(crate) fn new(keeper: Keeper, clock: Arc<dyn Clock>, meter: Meter) -> Self {
        Self { keeper, clock, meter }
    }

    /// Who calls, and what it has.
    async fn enter<T>(&self, request: &Request<T>) -> Result<Entitled, Fault> {
        let mut given = request.metadata().get_all(HEADER).iter();
        if given.next().is_none_or(|value| value != "true") || given.next().is_some() {
            let what = "the call does not carry the metadata workload.spiffe.io: true";
            return Err(Fault::refused(&WORKLOAD_HEADER_MISSING, what));
        }
        let caller = caller(request)?;
        let entitled = self.keeper.of(caller.peer()?).await?;
        caller.entitle();
        Ok(entitled)
    }

    /// Counts the call, and makes of a refusal what is told.
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

    fn verified(
        &self,
        entitled: &Entitled,
        request: &ValidateJwtsvidRequest,
    ) -> Result<ValidateJwtsvidResponse, Fault> {
        let held = &entitled.held;
        let now = u64::try_from(self.clock.now().secs()).unwrap_or(0);
        let bad = |why: &dyn std::fmt::Display| Fault::refused(&SVID_INVALID, why.to_string());
        let received = ReceivedSvid::parse(&request.svid).map_err(|e| bad(&e))?;
        // Each trust domain's own keys, and no others (SPIFFE Federation section 4.2). One that nobody federates with is held against ours,
        // and refused.
        let claimed = received.claimed_trust_domain();
        let foreign = held.federated.iter().find(|bundle| Some(&bundle.domain) == claimed.as_ref());
        let bundle = foreign.unwrap_or(&held.bundle);
        let verified = received
            .verify(&bundle.domain, &bundle.jwt_keys, P256Verifier::new, &request.audience, now)
            .map_err(|e| bad(&e))?;
        let claims = claims(&verified.claims).ok_or_else(|| bad(&"the claims are nested too deeply"))?;
        Ok(ValidateJwtsvidResponse { spiffe_id: verified.spiffe_id.to_string(), claims: Some(claims) })
    }
}

/// Who calls.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Fault> {
    request.extensions().get::<Caller>().cloned().ok_or_else(|| Fault::broken("a call came over no connection"))
}

/// As credential-issuer has it.
pub(crate) fn audience(text: &str) -> Result<(), Fault> {
    if AUDIENCE.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
        return Ok(());
    }
    Err(Fault::invalid("audience", "1 to 512 printable ASCII characters"))
}

pub(crate) fn audiences(all: &[String]) -> Result<Vec<String>, Fault> {
    if !AUDIENCES.contains(&all.len()) {
        return Err(Fault::invalid("audience", "give 1 to 8"));
    }
    all.iter().try_for_each(|one| audience(one))?;
    // Those who ask for the same, in whatever order, are shown the same.
    let mut all = all.to_vec();
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

fn x509(held: &Held) -> X509svidResponse {
    let svid = |svid: &Arc<crate::issuer::Svid>| X509svid {
        spiffe_id: svid.spiffe_id.to_string(),
        x509_svid: svid.chain.concat(),
        x509_svid_key: svid.key.to_vec(),
        bundle: held.bundle.x509.clone(),
        hint: svid.entitlement.hint(),
    };
    X509svidResponse {
        svids: held.svids.iter().map(svid).collect(),
        crl: Vec::new(),
        federated_bundles: federated_x509(held),
    }
}

/// By the SPIFFE ID of each other trust domain its CA certificates; one that has none verifies no certificate.
pub(crate) fn federated_x509(held: &Held) -> BTreeMap<String, Vec<u8>> {
    let all = held.federated.iter().filter(|bundle| !bundle.x509.is_empty());
    all.map(|bundle| (bundle.name(), bundle.x509.clone())).collect()
}

/// The same with our own.
pub(crate) fn all_x509(held: &Held) -> BTreeMap<String, Vec<u8>> {
    let mut all = federated_x509(held);
    all.insert(held.bundle.name(), held.bundle.x509.clone());
    all
}

/// By the SPIFFE ID of each trust domain the keys of its JWT-SVIDs.
pub(crate) fn all_jwt(held: &Held) -> BTreeMap<String, Vec<u8>> {
    let all = std::iter::once(&held.bundle).chain(&held.federated);
    all.map(|bundle| (bundle.name(), bundle.jwt.clone().into_bytes())).collect()
}

fn x509_bundles(held: &Held) -> X509BundlesResponse {
    X509BundlesResponse { crl: Vec::new(), bundles: all_x509(held) }
}

fn jwt_bundles(held: &Held) -> JwtBundlesResponse {
    JwtBundlesResponse { bundles: all_jwt(held) }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for Api {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<X509BundlesResponse>;
    type FetchJWTBundlesStream = Answers<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let entered = self.enter(&request).await;
        let meter = self.meter.clone();
        self.told("FetchX509SVID", entered.map(|entitled| answers(entitled, meter, Held::is_same_x509, x509)))
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let entered = self.enter(&request).await;
        let is_same = |a: &Held, b: &Held| a.has_same_bundles(b, |bundle| &bundle.x509);
        let meter = self.meter.clone();
        self.told("FetchX509Bundles", entered.map(|entitled| answers(entitled, meter, is_same, x509_bundles)))
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        let work = async {
            let entitled = self.enter(&request).await?;
            let JwtsvidRequest { audience, spiffe_id } = request.get_ref();
            let tokens = entitled.tokens(&self.keeper, &audiences(audience)?, spiffe_id).await?;
            let svids = tokens.into_iter().map(|(hint, token)| Jwtsvid {
                spiffe_id: token.spiffe_id,
                svid: token.svid.to_string(),
                hint,
            });
            Ok::<_, Fault>(JwtsvidResponse { svids: svids.collect() })
        };
        let answer = work.await;
        self.told("FetchJWTSVID", answer)
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        let entered = self.enter(&request).await;
        let is_same = |a: &Held, b: &Held| a.has_same_bundles(b, |bundle| &bundle.jwt);
        let meter = self.meter.clone();
        self.told("FetchJWTBundles", entered.map(|entitled| answers(entitled, meter, is_same, jwt_bundles)))
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let entered = self.enter(&request).await;
        let answer = entered.and_then(|entitled| {
            audience(&request.get_ref().audience)?;
            self.verified(&entitled, request.get_ref())
        });
        self.told("ValidateJWTSVID", answer)
    }
}
