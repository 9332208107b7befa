//! Questions that go to policy-decision together, over real mutual TLS, and what becomes of the others where one is none.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use legate_clock::{Clock, TestClock, Timestamp};
use legate_ids::{AgentId, Name, SpiffeId, TrustDomain};
use legate_mtls::pki::{Ca, Issued, Leaf};
use legate_mtls::{Expect, Identity, Listener, Trust};
use legate_rpc::{
    AlwaysGood, Caller, Client, Dial, Fault, Limits, Metrics, Refusals, Rule, Service, Serving, dial, serve,
};
use legate_wire::policy as wire;
use tokio::sync::Semaphore;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};
use wire::issuance_service_server::{IssuanceService, IssuanceServiceServer};

use super::registry::agent_id;
use crate::outside::{Authorizer as _, PolicyDecision};

const HOUR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(20);

const ACCESS: &[Rule] = &[
    Rule {
        method: "/legate.policy.v1.IssuanceService/AuthorizeIssuance",
        callers: &[Caller::Service("credential-issuer")],
    },
    Rule {
        method: "/legate.policy.v1.IssuanceService/AuthorizeIssuanceBatch",
        callers: &[Caller::Service("credential-issuer")],
    },
];

/// Reads questions as policy-decision does, refuses a group in which one is none, and says when it answers.
#[derive(Clone, Debug)]
struct Played {
    /// How many questions each call had, in order; a group of one is not a group.
    calls: Arc<Mutex<Vec<String>>>,
    gate: Arc<Semaphore>,
}

impl Played {
    fn read(ask: &wire::AuthorizeIssuanceRequest) -> Result<wire::AuthorizeIssuanceResponse, Fault> {
        AgentId::parse(&ask.agent_id).map_err(|e| Fault::invalid("agent_id", e.to_string()))?;
        let decision_id = format!("of {}", ask.agent_id);
        Ok(wire::AuthorizeIssuanceResponse { allowed: true, decision_id, revision: 7, ..Default::default() })
    }

    async fn note(&self, call: String) {
        self.calls.lock().unwrap().push(call);
        self.gate.acquire().await.unwrap().forget();
    }
}

#[tonic::async_trait]
impl IssuanceService for Played {
    async fn authorize_issuance(
        &self,
        request: Request<wire::AuthorizeIssuanceRequest>,
    ) -> Result<Response<wire::AuthorizeIssuanceResponse>, Status> {
        self.note("alone".into()).await;
        Ok(Response::new(Self::read(request.get_ref())?))
    }

    async fn authorize_issuance_batch(
        &self,
        request: Request<wire::AuthorizeIssuanceBatchRequest>,
    ) -> Result<Response<wire::AuthorizeIssuanceBatchResponse>, Status> {
        let questions = request.into_inner().questions;
        self.note(format!("{} together", questions.len())).await;
        let answers = questions.into_iter().map(|one| Self::read(&one.ask.unwrap_or_default()));
        let answers = answers.collect::<Result<_, _>>()?;
        Ok(Response::new(wire::AuthorizeIssuanceBatchResponse { answers }))
    }
}

async fn raise(played: &Played) -> (Client, Serving) {
    let clock: Arc<dyn Clock> = TestClock::at(Timestamp::from_secs(1_800_000_000));
    let domain = TrustDomain::parse("example.org").unwrap();
    let services = Ca::generate("services", clock.now(), HOUR * 24).unwrap();
    let workloads = Ca::generate("workloads", clock.now(), HOUR * 24).unwrap();
    let trust = || Trust::from_pem(domain.clone(), services.cert_pem(), Some(workloads.cert_pem())).unwrap();
    let identity = |name: &str| {
        let id = SpiffeId::service(&domain, &Name::parse(name).unwrap());
        let leaf = Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: HOUR };
        let Issued { cert_pem, key_pem } = services.issue(&leaf, clock.now()).unwrap();
        Identity::from_pem(&cert_pem, &key_pem).unwrap()
    };
    let addr = ([127, 0, 0, 1], 0).into();
    let limits = legate_mtls::Limits::default();
    let listener =
        Listener::bind(addr, identity("policy-decision"), trust(), Arc::clone(&clock), limits).await.unwrap();
    let service = Service {
        name: "policy-decision",
        access: ACCESS,
        routes: Routes::new(IssuanceServiceServer::new(played.clone())),
        standing: Arc::new(AlwaysGood),
        clock: Arc::clone(&clock),
        limits: Limits::default(),
        metrics: Arc::new(Metrics::new()),
        refusals: Arc::new(Refusals::default()),
        descriptors: None,
    };
    let serving = serve(service, listener).await.unwrap();
    let client = dial(Dial {
        endpoint: format!("https://{}", serving.addr()),
        identity: identity("credential-issuer"),
        trust: trust(),
        expect: Expect::Service("policy-decision"),
        timeout: PATIENCE,
        clock,
    });
    (client.unwrap(), serving)
}

fn about(agent_id: &str) -> wire::AuthorizeIssuanceRequest {
    wire::AuthorizeIssuanceRequest { agent_id: agent_id.into(), at_least_revision: 7, ..Default::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_one_of_a_group_is_no_question_each_is_asked_alone_and_only_that_one_is_refused() {
    let played = Played { calls: Arc::default(), gate: Arc::new(Semaphore::new(1)) };
    let (client, serving) = raise(&played).await;
    let decision = Arc::new(PolicyDecision::new(client));
    let [one, two, three] = [1, 2, 3].map(|n| agent_id(n).to_string());
    // Whoever has not answered at the revision yet is asked alone.
    decision.authorize(about(&one), PATIENCE).await.unwrap();
    // While this one is on its way, the others gather.
    let first = {
        let (decision, one) = (Arc::clone(&decision), one.clone());
        tokio::spawn(async move { decision.authorize(about(&one), PATIENCE).await })
    };
    while played.calls.lock().unwrap().len() < 2 {
        tokio::task::yield_now().await;
    }
    let group = join_all([two.as_str(), "no agent", three.as_str()].map(|id| decision.authorize(about(id), PATIENCE)));
    tokio::pin!(group);
    assert!(futures_util::poll!(&mut group).is_pending());
    played.gate.add_permits(5);
    let answers = group.await;
    first.await.unwrap().unwrap();
    let told: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().map(|told| told.decision_id.clone()).map_err(Status::code))
        .collect();
    assert_eq!(told, [Ok(format!("of {two}")), Err(Code::InvalidArgument), Ok(format!("of {three}"))]);
    let calls = played.calls.lock().unwrap().clone();
    assert_eq!(calls, ["alone", "alone", "3 together", "alone", "alone", "alone"]);

    // And where all of them are questions, they go together once.
    played.calls.lock().unwrap().clear();
    let first = decision.authorize(about(&one), PATIENCE);
    let group = join_all([&two, &three].map(|id| decision.authorize(about(id), PATIENCE)));
    tokio::pin!(first, group);
    assert!(futures_util::poll!(&mut first).is_pending());
    while played.calls.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(futures_util::poll!(&mut group).is_pending());
    played.gate.add_permits(2);
    first.await.unwrap();
    assert!(group.await.iter().all(Result::is_ok));
    assert_eq!(*played.calls.lock().unwrap(), ["alone", "2 together"]);
    serving.shutdown(PATIENCE).await;
}
