//! The two services below that this one calls: policy-decision is asked, the registry is told.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use legate_rpc::{Client, Fault, TraceContext};
use legate_wire::policy::issuance_service_client::IssuanceServiceClient;
use legate_wire::policy::{
    AuthorizeIssuanceBatchRequest, AuthorizeIssuanceRequest, AuthorizeIssuanceResponse, IssuanceQuestion,
};
use legate_wire::registry::approval_relay_service_client::ApprovalRelayServiceClient;
use legate_wire::registry::personal_grant_service_client::PersonalGrantServiceClient;
use legate_wire::registry::publication_service_client::PublicationServiceClient;
use legate_wire::registry::{
    Approval, EndPersonalGrantRequest, EndPersonalGrantResponse, GetRelayedApprovalRequest, ListPersonalGrantsRequest,
    ListPersonalGrantsResponse, MakePersonalGrantRequest, MakePersonalGrantResponse, PublishRevocationRequest,
    PublishSigningKeyRequest, RelayApprovalRequest,
};
use tonic::{Code, Request, Status};

use crate::error::{AGAIN, ISSUANCE_UNDECIDED};
use crate::together::Together;

/// Who says what a token may carry.
#[tonic::async_trait]
pub(crate) trait Authorizer: Send + Sync + Debug {
    /// Asks, and waits for the answer as long as `patience`.
    async fn authorize(
        &self,
        ask: AuthorizeIssuanceRequest,
        patience: Duration,
    ) -> Result<AuthorizeIssuanceResponse, Status>;
}

/// Who makes our public news known.
#[tonic::async_trait]
pub(crate) trait Publisher: Send + Sync + Debug {
    /// Makes a public key known; returns the registry's revision.
    async fn key(&self, key: PublishSigningKeyRequest) -> Result<u64, Status>;

    /// Makes a revocation known; returns the registry's revision.
    async fn revocation(&self, revocation: PublishRevocationRequest) -> Result<u64, Status>;
}

/// Who keeps what people let agents do.
#[tonic::async_trait]
pub(crate) trait PersonalGrants: Send + Sync + Debug {
    /// Makes a grant of a person whose token was proved, and waits for the answer as long as `patience`.
    async fn make(
        &self,
        ask: MakePersonalGrantRequest,
        patience: Duration,
    ) -> Result<MakePersonalGrantResponse, Status>;

    /// Lists the grants of such a person.
    async fn list(
        &self,
        ask: ListPersonalGrantsRequest,
        patience: Duration,
    ) -> Result<ListPersonalGrantsResponse, Status>;

    /// Ends one of them.
    async fn end(&self, ask: EndPersonalGrantRequest, patience: Duration) -> Result<EndPersonalGrantResponse, Status>;
}

/// Who takes requests for approvals in the name of clients.
#[tonic::async_trait]
pub(crate) trait Relay: Send + Sync + Debug {
    /// Asks in an agent's name; the request as it is taken.
    async fn ask(&self, ask: RelayApprovalRequest, patience: Duration) -> Result<Approval, Status>;

    /// What became of a request, and the registry's revision.
    async fn state(&self, ask: GetRelayedApprovalRequest, patience: Duration) -> Result<(Approval, u64), Status>;
}

/// policy-decision, dialled. What is asked while a question is on its way goes with the next one.
pub(crate) struct PolicyDecision {
    client: Client,
    /// The newest revision of the registry that it has answered at.
    known: Arc<AtomicU64>,
    together: Together<Asked, Result<AuthorizeIssuanceResponse, Status>>,
}

/// A question, and how long its answer is waited for.
#[derive(Debug)]
struct Asked {
    question: IssuanceQuestion,
    patience: Duration,
}

/// The registry, dialled.
#[derive(Clone)]
pub(crate) struct Registry(pub(crate) Client);

impl Debug for PolicyDecision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PolicyDecision")
    }
}

impl Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry")
    }
}

impl PolicyDecision {
    pub(crate) fn new(client: Client) -> Self {
        let known = Arc::new(AtomicU64::new(0));
        let (asking, seen) = (client.clone(), Arc::clone(&known));
        let together = Together::start(move |asked| ask_together(asking.clone(), Arc::clone(&seen), asked));
        Self { client, known, together }
    }
}

#[tonic::async_trait]
impl Authorizer for PolicyDecision {
    async fn authorize(
        &self,
        ask: AuthorizeIssuanceRequest,
        patience: Duration,
    ) -> Result<AuthorizeIssuanceResponse, Status> {
        let is_known = ask.at_least_revision <= self.known.load(Ordering::Relaxed);
        let traceparent = TraceContext::current().traceparent;
        let asked = Asked { question: IssuanceQuestion { ask: Some(ask), traceparent }, patience };
        if is_known {
            self.together.ask(asked).await.map_err(|why| undecided(why.to_string()))?
        } else {
            // It may have to wait until policy-decision has heard of that revision, and nobody waits with it.
            ask_alone(self.client.clone(), &self.known, asked).await
        }
    }
}

fn undecided(why: impl Into<String>) -> Status {
    Fault::unavailable(&ISSUANCE_UNDECIDED, why.into(), AGAIN).into()
}

async fn ask_alone(client: Client, known: &AtomicU64, asked: Asked) -> Result<AuthorizeIssuanceResponse, Status> {
    let IssuanceQuestion { ask, traceparent } = asked.question;
    let mut request = within(ask.unwrap_or_default(), asked.patience);
    if !traceparent.is_empty()
        && let Ok(trace) = traceparent.parse()
    {
        request.metadata_mut().insert("traceparent", trace);
    }
    let answer = IssuanceServiceClient::new(client).authorize_issuance(request).await?.into_inner();
    known.fetch_max(answer.revision, Ordering::Relaxed);
    Ok(answer)
}

async fn ask_together(
    client: Client,
    known: Arc<AtomicU64>,
    mut asked: Vec<Asked>,
) -> Vec<Result<AuthorizeIssuanceResponse, Status>> {
    if asked.len() == 1
        && let Some(one) = asked.pop()
    {
        return vec![ask_alone(client, &known, one).await];
    }
    let patience = asked.iter().map(|one| one.patience).max().unwrap_or_default();
    let questions: Vec<_> = asked.iter().map(|one| one.question.clone()).collect();
    let request = within(AuthorizeIssuanceBatchRequest { questions }, patience);
    match IssuanceServiceClient::new(client.clone()).authorize_issuance_batch(request).await {
        Ok(answer) => {
            let answers = answer.into_inner().answers;
            if answers.len() != asked.len() {
                let why = "policy-decision answered another number of questions than it was asked";
                return asked.iter().map(|_| Err(undecided(why))).collect();
            }
            known.fetch_max(answers.iter().map(|one| one.revision).max().unwrap_or_default(), Ordering::Relaxed);
            answers.into_iter().map(Ok).collect()
        }
        // One of them is no question, which is no reason to refuse the others.
        Err(status) if status.code() == Code::InvalidArgument => {
            let alone = asked.into_iter().map(|one| ask_alone(client.clone(), &known, one));
            futures_util::future::join_all(alone).await
        }
        Err(status) => asked.iter().map(|_| Err(status.clone())).collect(),
    }
}

#[tonic::async_trait]
impl Publisher for Registry {
    async fn key(&self, key: PublishSigningKeyRequest) -> Result<u64, Status> {
        let mut client = PublicationServiceClient::new(self.0.clone());
        Ok(client.publish_signing_key(key).await?.into_inner().revision)
    }

    async fn revocation(&self, revocation: PublishRevocationRequest) -> Result<u64, Status> {
        let mut client = PublicationServiceClient::new(self.0.clone());
        Ok(client.publish_revocation(revocation).await?.into_inner().revision)
    }
}

/// A thousand grants fit.
const LARGEST_LIST: usize = 64 << 20;

fn within<T>(ask: T, patience: Duration) -> Request<T> {
    let mut request = Request::new(ask);
    request.set_timeout(patience);
    request
}

#[tonic::async_trait]
impl PersonalGrants for Registry {
    async fn make(
        &self,
        ask: MakePersonalGrantRequest,
        patience: Duration,
    ) -> Result<MakePersonalGrantResponse, Status> {
        let mut client = PersonalGrantServiceClient::new(self.0.clone());
        Ok(client.make_personal_grant(within(ask, patience)).await?.into_inner())
    }

    async fn list(
        &self,
        ask: ListPersonalGrantsRequest,
        patience: Duration,
    ) -> Result<ListPersonalGrantsResponse, Status> {
        let client = PersonalGrantServiceClient::new(self.0.clone());
        let mut client = client.max_decoding_message_size(LARGEST_LIST);
        Ok(client.list_personal_grants(within(ask, patience)).await?.into_inner())
    }

    async fn end(&self, ask: EndPersonalGrantRequest, patience: Duration) -> Result<EndPersonalGrantResponse, Status> {
        let mut client = PersonalGrantServiceClient::new(self.0.clone());
        Ok(client.end_personal_grant(within(ask, patience)).await?.into_inner())
    }
}

#[tonic::async_trait]
impl Relay for Registry {
    async fn ask(&self, ask: RelayApprovalRequest, patience: Duration) -> Result<Approval, Status> {
        let mut relay = ApprovalRelayServiceClient::new(self.0.clone());
        let answer = relay.relay_approval(within(ask, patience)).await?.into_inner();
        Ok(answer.approval.unwrap_or_default())
    }

    async fn state(&self, ask: GetRelayedApprovalRequest, patience: Duration) -> Result<(Approval, u64), Status> {
        let mut relay = ApprovalRelayServiceClient::new(self.0.clone());
        let answer = relay.get_relayed_approval(within(ask, patience)).await?.into_inner();
        Ok((answer.approval.unwrap_or_default(), answer.revision))
    }
}
