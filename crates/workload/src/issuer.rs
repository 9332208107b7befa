//! Asking credential-issuer, for so many at once and never for ever.

use std::sync::Arc;
use std::time::Duration;

use legate_client::RuntimeKey;
use legate_clock::{Clock, Timestamp};
use legate_ids::{Principal, SpiffeId};
use legate_mtls::Identity;
use legate_rpc::{Client, Code, Told};
use legate_wire::credential::workload_service_client::WorkloadServiceClient;
use legate_wire::credential::{EndInstanceRequest, IssueJwtSvidRequest, IssueX509SvidRequest};
use tokio::time::Instant;
use tonic::Status;
use zeroize::{Zeroize as _, Zeroizing};

use crate::Meter;
use crate::knowledge::{Entitlement, Signer};
use crate::moment::Moment;
use crate::shown::Shown;
use crate::turns::{Turn, Turns};

/// Requests for certificates under way at once, of all and of one user's processes; the rest wait their turn. Nothing waits behind a request for a
/// token: a certificate that ends unrenewed stops more.
const CERTIFICATES: (usize, usize) = (32, 16);
/// Requests for tokens.
const TOKENS: (usize, usize) = (16, 8);
/// A request that takes longer has failed.
const DEADLINE: Duration = Duration::from_secs(10);
/// For so long a request for a certificate waits its turn: whoever were refused would ask again, and stand behind those who came later. A machine
/// that starts has all its processes ask at once.
pub(crate) const LINE: Duration = Duration::from_secs(60);

/// Why an SVID was not obtained.
#[derive(Clone, Debug)]
pub(crate) enum NotIssued {
    /// credential-issuer refused, and would again.
    Refused(Box<Told>),
    /// It was not reached, had no time, or answered what cannot be: perhaps later.
    Unreached(String),
}

impl From<Status> for NotIssued {
    fn from(status: Status) -> Self {
        let told = Told::from_status(&status);
        let passes = matches!(
            told.code,
            Code::Unavailable
                | Code::DeadlineExceeded
                | Code::ResourceExhausted
                | Code::Cancelled
                | Code::Aborted
                | Code::Internal
                | Code::Unknown
        );
        if passes {
            Self::Unreached(format!("{} {}", told.reason, told.message))
        } else {
            Self::Refused(Box::new(told))
        }
    }
}

/// An X.509-SVID that a process holds.
pub(crate) struct Svid {
    pub(crate) entitlement: Arc<Entitlement>,
    pub(crate) instance_id: String,
    pub(crate) spiffe_id: SpiffeId,
    /// The certificate and any intermediates in DER, leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
    /// PKCS #8 in DER.
    pub(crate) key: Zeroizing<Vec<u8>>,
    /// As the certificate says.
    pub(crate) not_after: Timestamp,
    /// When it is dead.
    pub(crate) ends: Moment,
    /// From when on it is to be replaced.
    pub(crate) rotate_at: Moment,
    pub(crate) lifecycle_version: u64,
    /// Whose signature it has.
    pub(crate) signer: Signer,
    /// Counts what is held, so that it goes down when this is dropped.
    meter: Meter,
}

#[cfg(test)]
impl Svid {
    /// One that is held until then, with nothing in it.
    pub(crate) fn of_nothing(entitlement: &Arc<Entitlement>, instance_id: &str, ends: Moment) -> Self {
        let meter = Meter::new(&legate_rpc::Metrics::new());
        meter.svids(1);
        Self {
            entitlement: Arc::clone(entitlement),
            instance_id: instance_id.to_owned(),
            spiffe_id: entitlement.spiffe_id.clone(),
            chain: Vec::new(),
            key: Zeroizing::new(Vec::new()),
            not_after: Timestamp::from_secs(0),
            ends,
            rotate_at: ends,
            lifecycle_version: entitlement.lifecycle_version,
            signer: Signer::Name(Vec::new()),
            meter,
        }
    }
}

impl std::fmt::Debug for Svid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Svid").field("spiffe_id", &self.spiffe_id).field("key", &"(hidden)").finish_non_exhaustive()
    }
}

impl Drop for Svid {
    fn drop(&mut self) {
        self.meter.svids(-1);
    }
}

/// A request for an X.509-SVID, kept until it is answered: repeated as it is, it gives one certificate.
pub(crate) struct Wish {
    key: RuntimeKey,
    request: IssueX509SvidRequest,
    /// Before this the issuer remembers the request.
    made: Instant,
}

/// For so long a request is repeated as it is: the issuer remembers it for 5 minutes.
const REPEATED: Duration = Duration::from_secs(240);

impl std::fmt::Debug for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wish").field("request_id", &self.request.request_id).finish_non_exhaustive()
    }
}

impl Wish {
    /// A new key, and the request for a certificate of it.
    pub(crate) fn new(entitlement: &Entitlement, shown: &Shown, instance_id: Option<&str>) -> Result<Self, NotIssued> {
        let broken = |e: legate_client::ClientError| NotIssued::Unreached(e.to_string());
        let key = RuntimeKey::generate().map_err(broken)?;
        let request = IssueX509SvidRequest {
            namespace: entitlement.policy.0.clone(),
            policy: entitlement.policy.1.clone(),
            selectors: shown.selectors.to_vec(),
            csr: key.request().map_err(broken)?,
            instance_id: instance_id.unwrap_or_default().to_owned(),
            request_id: format!("{:032x}", rand::random::<u128>()),
            identity_token: token(shown, entitlement),
            broker_instance_id: broker(shown),
        };
        Ok(Self { key, request, made: Instant::now() })
    }

    /// Whether the same is still what is wanted.
    pub(crate) fn is_still(&self, entitlement: &Entitlement, shown: &Shown, instance_id: Option<&str>) -> bool {
        self.made.elapsed() < REPEATED
            && self.request.selectors == *shown.selectors
            && self.request.identity_token == token(shown, entitlement)
            && self.request.broker_instance_id == broker(shown)
            && self.request.instance_id == instance_id.unwrap_or_default()
    }
}

/// The token that the policy asks for; empty: none.
fn token(shown: &Shown, by: &Entitlement) -> String {
    shown.token_for(by).map(|token| token.text.to_string()).unwrap_or_default()
}

/// The instance that asks; empty: the process itself does.
fn broker(shown: &Shown) -> String {
    shown.broker.as_ref().map(|broker| broker.instance_id.clone()).unwrap_or_default()
}

impl Drop for Wish {
    fn drop(&mut self) {
        self.request.identity_token.zeroize();
    }
}

/// For whom a JWT-SVID is asked: by an SVID of a process, the policy as it is now, what is shown of the process, and its user.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder<'a> {
    pub(crate) svid: &'a Svid,
    pub(crate) by: &'a Entitlement,
    pub(crate) shown: &'a Shown,
    pub(crate) uid: u32,
}

/// A JWT-SVID.
#[derive(Clone)]
pub(crate) struct Token {
    pub(crate) svid: Zeroizing<String>,
    pub(crate) expires: Timestamp,
}

/// Waits until a request of a process of that user may be made, for so long.
async fn turn(turns: &Turns<u32>, uid: u32, patience: Duration) -> Result<Turn<u32>, NotIssued> {
    let late = |_| NotIssued::Unreached("too many requests of the node, or of this user, are under way".into());
    tokio::time::timeout(patience, turns.next(uid)).await.map_err(late)
}

/// The way to credential-issuer. Clones share the bounds.
#[derive(Clone, Debug)]
pub(crate) struct Issuer {
    client: Client,
    certificates: Turns<u32>,
    tokens: Turns<u32>,
    clock: Arc<dyn Clock>,
    meter: Meter,
}

impl Issuer {
    pub(crate) fn new(client: Client, clock: Arc<dyn Clock>, meter: Meter) -> Self {
        let turns = |(all, of_one)| Turns::new(all, of_one);
        Self { client, certificates: turns(CERTIFICATES), tokens: turns(TOKENS), clock, meter }
    }

    /// Obtains the X.509-SVID that was wished for, for a process of that user.
    pub(crate) async fn x509(&self, wish: &Wish, entitlement: Arc<Entitlement>, uid: u32) -> Result<Svid, NotIssued> {
        let mut service = WorkloadServiceClient::new(self.client.clone());
        let _turn = turn(&self.certificates, uid, LINE).await?;
        let answer = self.ask("x509", service.issue_x509_svid(wish.request.clone())).await?;
        let svid = self.read(wish, entitlement, answer);
        svid.map_err(|why| NotIssued::Unreached(format!("credential-issuer answered what cannot be: {why}")))
    }

    fn read(
        &self,
        wish: &Wish,
        entitlement: Arc<Entitlement>,
        answer: legate_wire::credential::IssueX509SvidResponse,
    ) -> Result<Svid, String> {
        let chain = answer.certificate_chain;
        // That the certificate is of our key is checked here, too.
        let shown =
            Identity::from_pem(&legate_client::chain_pem(&chain), &wish.key.to_pem()).map_err(|e| e.to_string())?;
        let spiffe_id = shown.spiffe_id().ok_or("the certificate names nobody")?;
        if spiffe_id.without_instance() != entitlement.spiffe_id {
            return Err(format!("the certificate names {spiffe_id}"));
        }
        let Ok(Principal::Agent { instance: Some(instance), .. }) = Principal::of(&spiffe_id) else {
            return Err(format!("{spiffe_id} names no instance"));
        };
        let not_after = shown.not_after().ok_or("the certificate never ends")?;
        let now = Moment::now(self.clock.as_ref());
        // Not longer than it lives at all, however far our clock is behind.
        let life = not_after.since(shown.not_before().unwrap_or(not_after));
        let left = now.until(not_after).min(life);
        if left.is_zero() {
            return Err("the certificate has ended already; see that the clocks agree".into());
        }
        let signer = chain.first().and_then(|leaf| Signer::of_leaf(leaf)).ok_or("nobody signed the certificate")?;
        // Half of its life, and a little less, so that those that were made together are not replaced together.
        let rotate_at = now.after(left.mul_f64(0.5 - rand::random_range(0.0..0.05)));
        self.meter.svids(1);
        Ok(Svid {
            entitlement,
            instance_id: instance.to_string(),
            spiffe_id,
            chain,
            key: wish.key.to_der(),
            not_after,
            ends: now.after(left),
            rotate_at,
            lifecycle_version: answer.lifecycle_version,
            signer,
            meter: self.meter.clone(),
        })
    }

    /// Obtains a JWT-SVID for an instance.
    pub(crate) async fn jwt(&self, holder: Holder<'_>, audiences: &[String]) -> Result<Token, NotIssued> {
        let Holder { svid, by, shown, uid } = holder;
        let mut service = WorkloadServiceClient::new(self.client.clone());
        let request = IssueJwtSvidRequest {
            instance_id: svid.instance_id.clone(),
            selectors: shown.selectors.to_vec(),
            audiences: audiences.to_vec(),
            ttl: None,
            identity_token: token(shown, by),
            broker_instance_id: broker(shown),
        };
        let _turn = turn(&self.tokens, uid, DEADLINE).await?;
        let answer = self.ask("jwt", service.issue_jwt_svid(request)).await?;
        let token = Zeroizing::new(answer.svid);
        let bad = |why: &str| NotIssued::Unreached(format!("credential-issuer answered what cannot be: {why}"));
        if answer.spiffe_id != svid.spiffe_id.as_str() {
            return Err(bad("the JWT-SVID is somebody else's"));
        }
        let expires =
            answer.expire_time.and_then(|at| Timestamp::try_from(at).ok()).ok_or_else(|| bad("it never ends"))?;
        Ok(Token { svid: token, expires })
    }

    /// Says that an instance ended.
    pub(crate) async fn end(&self, instance_id: &str) -> Result<(), NotIssued> {
        let mut service = WorkloadServiceClient::new(self.client.clone());
        let request = EndInstanceRequest { instance_id: instance_id.to_owned() };
        self.ask("end", service.end_instance(request)).await.map(|_| ())
    }

    async fn ask<T>(
        &self,
        kind: &'static str,
        call: impl Future<Output = Result<tonic::Response<T>, Status>>,
    ) -> Result<T, NotIssued> {
        let begun = Instant::now();
        let answer = match tokio::time::timeout(DEADLINE, call).await {
            Ok(answer) => answer.map(tonic::Response::into_inner).map_err(NotIssued::from),
            Err(_) => Err(NotIssued::Unreached("credential-issuer did not answer within 10 s".into())),
        };
        let outcome = match &answer {
            Ok(_) => "ok",
            Err(NotIssued::Refused(_)) => "refused",
            Err(NotIssued::Unreached(_)) => "unreached",
        };
        self.meter.issued(kind, outcome, begun.elapsed());
        answer
    }
}
