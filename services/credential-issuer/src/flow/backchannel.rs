//! A client asks for what a policy holds back, and polls until a person has decided (OpenID CIBA Core 1.0, poll mode).
//!
//! The request itself rests at the registry, like one over gRPC; here is only who may poll for it, and how often.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use legate_clock::Timestamp;
use legate_ids::{ActionPattern, Actions};
use legate_rpc::{Fault, Reason, Told};
use legate_token::Details;
use legate_wire::registry::{
    Approval, ApprovalState, GetRelayedApprovalRequest, Permission, RelayApprovalRequest, RequestApprovalRequest,
    ResourceSelector,
};
use tonic::Status;

use super::issue_token::{self, Asking, Bounds, IssuedToken};
use super::{Call, Desk};
use crate::domain::holder::Holder;
use crate::domain::token::{self, Wish, hex};
use crate::error::{
    AGAIN, APPROVAL_DENIED, APPROVAL_EXPIRED, APPROVAL_NOT_NEEDED, APPROVAL_REFUSED, AUTH_REQ_UNKNOWN,
    AUTHORIZATION_PENDING, REGISTRY_UNAVAILABLE, SLOW_DOWN, TOO_MANY_APPROVALS, of_tx,
};
use crate::store::backchannel;

/// Seconds that a client waits between two times (section 7.3), and so many more when it does not (section 11).
const WAIT: i32 = 5;
/// The longest that an approval can hold once it is given: so long a token can be had by the request.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);
/// Those who poll for one and the same request: each leaves a row.
const MOST_OF_ONE: u64 = 32;

/// What a client asks for.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The token that it wants in the end.
    pub(crate) wish: Wish,
    /// Shown to the approver.
    pub(crate) binding_message: String,
    /// How long the request waits; `None`: as long as the registry lets one wait.
    pub(crate) patience: Option<Duration>,
}

/// What the client is told.
pub(crate) struct Asked {
    /// A secret of the client's, of 256 bits.
    pub(crate) auth_req_id: String,
    /// Seconds.
    pub(crate) expires_in: u64,
    /// Seconds.
    pub(crate) interval: u64,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Asked(hidden, {} s)", self.expires_in)
    }
}

fn hash(auth_req_id: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, auth_req_id.as_bytes()).as_ref());
    hash
}

/// Asks.
#[tracing::instrument(skip_all)]
pub(crate) async fn ask(desk: &Desk, call: &Call, holder: &Holder, request: Request) -> Result<Asked, Fault> {
    let asked = attempt(desk, call, holder, request).await;
    if let Err(fault) = &asked {
        desk.metrics.refused("approval", fault.reason());
    }
    asked
}

async fn attempt(desk: &Desk, call: &Call, holder: &Holder, request: Request) -> Result<Asked, Fault> {
    let agent_id = holder.agent.as_ref().ok_or(token::BadToken::NotAnAgent)?.to_string();
    issue_token::expected(desk, holder, &request.wish.audience).await?;
    let everything = || ResourceSelector { r#type: "*".into(), id: "*".into(), ..ResourceSelector::default() };
    let actions = request.wish.actions.iter().map(ToString::to_string);
    let purpose = match request.binding_message.as_str() {
        "" => format!("asked by an OAuth client: {}", actions.clone().collect::<Vec<_>>().join(" ")),
        message => message.to_owned(),
    };
    let ask = RequestApprovalRequest {
        permissions: actions.map(|action| Permission { action, resource: Some(everything()) }).collect(),
        audience: request.wish.audience.clone(),
        purpose,
        binding_message: request.binding_message,
        patience: request.patience.and_then(|patience| patience.try_into().ok()),
        reason: "OpenID CIBA backchannel authentication request".into(),
        ..RequestApprovalRequest::default()
    };
    let relayed = RelayApprovalRequest { agent_id: agent_id.clone(), ask: Some(ask) };
    let patience = desk.patience(call);
    let approval = within(patience, desk.relay.ask(relayed, patience)).await?;
    let now = desk.clock.now();
    let ends = approval.spec.as_ref().and_then(|spec| spec.expire_time);
    let ends = ends.and_then(|at| Timestamp::try_from(at).ok());
    let ends = ends.ok_or_else(|| Fault::broken("the registry took a request that does not end"))?;
    let auth_req_id = hex(&Desk::random::<32>()?);
    let row = backchannel::Model {
        request: hash(&auth_req_id).to_vec(),
        agent_id,
        approval_id: approval.metadata.unwrap_or_default().id,
        audience: request.wish.audience,
        scope: request.wish.actions.to_string(),
        until: ends.plus(LONGEST).micros(),
        polled_at: None,
        wait: WAIT,
        spent: false,
    };
    let noted = desk.db.tx("note_backchannel", move |tx| {
        let row = row.clone();
        Box::pin(async move {
            // The registry takes a repetition for the request that it knows, and so does not count it.
            if backchannel::beside(tx, &row, MOST_OF_ONE).await? as u64 >= MOST_OF_ONE {
                let text = format!(
                    "{MOST_OF_ONE} clients poll for this request already; poll by an auth_req_id that is known"
                );
                return Err(legate_db::TxError::Flow(Fault::refused(&TOO_MANY_APPROVALS, text)));
            }
            backchannel::insert(tx, row).await
        })
    });
    noted.await.map_err(of_tx)?;
    let left = ends.since(now);
    // Rounded up: it was asked for by the whole second.
    let expires_in = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    Ok(Asked { auth_req_id, expires_in, interval: u64::try_from(WAIT).unwrap_or(0) })
}

/// What the client is answered when it polls: the token, once, or that it has to wait, or that there will be none.
#[tracing::instrument(skip_all)]
pub(crate) async fn redeem(desk: &Desk, call: &Call, asking: Asking, auth_req_id: &str) -> Result<IssuedToken, Fault> {
    let request = hash(auth_req_id);
    let row = poll(desk, &asking.holder, request).await?;
    let patience = desk.patience(call);
    let ask = GetRelayedApprovalRequest { agent_id: row.agent_id, approval_id: row.approval_id };
    let (approval, revision) = within(patience, desk.relay.state(ask, patience)).await?;
    let ends = decided(&approval)?;
    let taken = desk
        .db
        .tx("take_backchannel", move |tx| Box::pin(async move { backchannel::set_spent(tx, &request, true).await }));
    if !taken.await.map_err(of_tx)? {
        return Err(unknown());
    }
    let actions = row.scope.split(' ').filter(|text| !text.is_empty()).map(ActionPattern::parse);
    let actions = actions.collect::<Result<Actions, _>>().map_err(Fault::broken)?;
    let wish = Wish { audience: row.audience, actions, details: Details::default(), ttl: token::ttl(None)? };
    let bounds = Bounds { revision, ends: Some(ends) };
    let issued = issue_token::issue_within(desk, call, asking, wish, bounds).await;
    // What was not issued for now can be asked for again.
    if let Err(Fault::Unavailable(_)) = &issued {
        let back = desk.db.tx("give_backchannel_back", move |tx| {
            Box::pin(async move { backchannel::set_spent(tx, &request, false).await })
        });
        if let Err(fault) = back.await.map_err(of_tx) {
            tracing::warn!(%fault, "a request by CIBA could not be given back; the client has to ask anew");
        }
    }
    issued
}

/// The client's request, where it does not ask too often.
async fn poll(desk: &Desk, holder: &Holder, request: [u8; 32]) -> Result<backchannel::Model, Fault> {
    let agent_id = holder.agent.as_ref().ok_or(token::BadToken::NotAnAgent)?.to_string();
    let now = desk.clock.now();
    let polled = desk.db.tx("poll_backchannel", move |tx| {
        let agent_id = agent_id.clone();
        Box::pin(async move {
            let Some(row) = backchannel::find(tx, &request, &agent_id).await? else { return Ok(None) };
            let wait = Duration::from_secs(u64::try_from(row.wait).unwrap_or(0));
            let is_early = row.polled_at.is_some_and(|at| now < Timestamp::from_micros(at).plus(wait));
            let wait = if is_early { row.wait.saturating_add(WAIT) } else { row.wait };
            backchannel::polled(tx, &request, now, wait).await?;
            Ok(Some((backchannel::Model { wait, ..row }, is_early)))
        })
    });
    match polled.await.map_err(of_tx)? {
        None => Err(unknown()),
        Some((row, true)) => {
            Err(Fault::refused(&SLOW_DOWN, format!("wait {} s between two polls from now on", row.wait)))
        }
        Some((row, false)) => Ok(row),
    }
}

fn unknown() -> Fault {
    Fault::refused(&AUTH_REQ_UNKNOWN, "the client made no such request, or a token was made of it already")
}

/// Until when the approval holds; the refusal, where it was not given or holds no more.
fn decided(approval: &Approval) -> Result<Timestamp, Fault> {
    let status = approval.status.clone().unwrap_or_default();
    match status.state() {
        ApprovalState::Pending => Err(Fault::refused(&AUTHORIZATION_PENDING, "nobody has decided yet")),
        ApprovalState::Approved => {
            let ends = status.not_after.and_then(|at| Timestamp::try_from(at).ok());
            ends.ok_or_else(|| Fault::broken("an approval that does not end"))
        }
        ApprovalState::Denied => Err(Fault::refused(&APPROVAL_DENIED, "an approver denied it")),
        ApprovalState::Cancelled | ApprovalState::Revoked => Err(Fault::refused(&APPROVAL_DENIED, "it was taken back")),
        ApprovalState::Expired => Err(Fault::refused(&APPROVAL_EXPIRED, "nobody decided in time")),
        ApprovalState::Used => Err(Fault::refused(&APPROVAL_EXPIRED, "it counted once, and was used")),
        ApprovalState::Ended => Err(Fault::refused(&APPROVAL_EXPIRED, "its time is over")),
        ApprovalState::Unspecified => Err(Fault::broken("an approval in no state")),
    }
}

/// What the registry answers, within the time that there is for it.
async fn within<T>(patience: Duration, asked: impl Future<Output = Result<T, Status>>) -> Result<T, Fault> {
    match tokio::time::timeout(patience, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(status)) => Err(refused(&status)),
        Err(_) => {
            let text = format!("the registry did not answer within {} ms", patience.as_millis());
            Err(Fault::unavailable(&REGISTRY_UNAVAILABLE, text, AGAIN))
        }
    }
}

/// The registry's refusal in words of ours.
fn refused(status: &Status) -> Fault {
    let told = Told::from_status(status);
    let reason: &'static Reason = match told.reason.as_str() {
        "APPROVAL_NOT_NEEDED" => &APPROVAL_NOT_NEEDED,
        "TOO_MANY_APPROVALS" => &TOO_MANY_APPROVALS,
        "APPROVAL_NOT_FOUND" => &APPROVAL_EXPIRED,
        _ => match status.code() {
            tonic::Code::InvalidArgument | tonic::Code::FailedPrecondition | tonic::Code::PermissionDenied => {
                &APPROVAL_REFUSED
            }
            _ => return Fault::unavailable(&REGISTRY_UNAVAILABLE, told.message, AGAIN),
        },
    };
    Fault::refused(reason, told.message).with("registry_reason", told.reason)
}
