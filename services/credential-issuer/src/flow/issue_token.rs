//! An agent gets an access token for one audience, bound to its certificate, to a key of its own, or where its policy lets it
//! to nothing.

use legate_clock::Timestamp;
use legate_ids::{ActionPattern, Actions, CredentialId, Name, SpiffeId};
use legate_rpc::{Fault, Told};
use legate_token::{Confirmation, Details, MAX_SCOPES, Scope};
use legate_view::{Audience, CERTIFICATE_BACKDATE};
use legate_wire::policy::{AuthorizeIssuanceRequest, AuthorizeIssuanceResponse};

use super::authenticate::{By, Client};
use super::dpop::Proved;
use super::foreign;
use super::renew::{about, caller};
use super::{Call, Desk};
use crate::convert;
use crate::domain::holder::{Holder, Named};
use crate::domain::keyring::KeyUse;
use crate::domain::token::{self, Base, Behalf, Wish};
use crate::error::{
    AGAIN, APPROVAL_REQUIRED, BINDING_REQUIRED, CREDENTIAL_NOT_GOOD, INVALID_SCOPE, INVALID_TARGET, ISSUANCE_DENIED,
    ISSUANCE_UNDECIDED, of_tx,
};
use crate::store::{Once, Proof, RecordedToken, Works};

/// A token that is signed.
pub(crate) struct IssuedToken {
    pub(crate) token: String,
    pub(crate) token_id: String,
    pub(crate) expires: Timestamp,
    pub(crate) scope: Scope,
    pub(crate) details: Details,
    pub(crate) revision: u64,
}

impl std::fmt::Debug for IssuedToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IssuedToken({}, hidden)", self.token_id)
    }
}

/// An agent that asks for a token, and proved that it is the one.
#[derive(Clone, Debug)]
pub(crate) struct Asking {
    pub(crate) holder: Holder,
    /// By what it was proved.
    pub(crate) by: By,
    /// When that ends.
    pub(crate) proof_ends: Timestamp,
    /// What the token is to be bound to.
    pub(crate) confirmation: Confirmation,
    /// Whether a scope of which it gets only a part is refused instead.
    pub(crate) all_or_nothing: bool,
    /// The assertion that is used where the token is recorded.
    unused: Option<Once>,
    /// The DPoP proof that is used there.
    pub(super) dpop: Option<Once>,
}

impl Asking {
    /// A client that asks, and gets all that it asks for or nothing.
    pub(crate) fn of((client, holder): (Client, Holder), confirmation: Confirmation) -> Self {
        let Client { by, proof_ends, unused, .. } = client;
        Self { holder, by, proof_ends, confirmation, all_or_nothing: true, unused, dpop: None }
    }

    /// The same for a client that showed by a DPoP proof that it holds the key to which the token is to be bound.
    pub(crate) fn by_key(client: (Client, Holder), proved: &Proved) -> Self {
        Self { dpop: Some(proved.once), ..Self::of(client, Confirmation::Key(proved.jkt)) }
    }

    pub(super) fn named(&self) -> Result<Named, Fault> {
        Ok(self.holder.agent.clone().map(Named::Agent).ok_or(token::BadToken::NotAnAgent)?)
    }

    /// Refuses a token that would be bound to nothing, where the policy does not allow that.
    pub(super) fn check_binding(&self) -> Result<(), Fault> {
        if self.confirmation == Confirmation::Bearer && !self.holder.means.may_bear {
            let why = "the credential policy of the agent's class does not allow tokens that are bound to no key";
            return Err(Fault::refused(&BINDING_REQUIRED, why));
        }
        Ok(())
    }

    /// What is looked at once more where the token is recorded.
    pub(super) fn proof(&self, call: &Call, now: Timestamp) -> Proof {
        let works = Works { at: now, until: self.proof_ends };
        match (&self.by, self.unused) {
            (By::Certificate(_), _) => Proof::Certificate(call.peer.x5t_s256),
            (By::Credential(id), None) => Proof::Secret(id.clone(), works),
            (By::Credential(id), Some(once)) => Proof::Assertion(id.clone(), works, once),
            (By::Identity(evidence), _) => Proof::Identity(evidence.used(now, b"", ""), evidence.most_used),
        }
    }

    /// Just before an answer leaves: whether the issuer by whose word it is proved is trusted as it was.
    pub(super) fn still_vouched(&self, desk: &Desk) -> Result<(), Fault> {
        match &self.by {
            By::Identity(evidence) => foreign::still(desk, evidence),
            By::Certificate(_) | By::Credential(_) => Ok(()),
        }
    }

    /// What a plan rests on.
    pub(super) fn base<'a>(&self, desk: &'a Desk, behalf: Option<Behalf>) -> Result<Base<'a>, Fault> {
        let credential = match (&self.by, &self.confirmation) {
            // A token that is bound to a certificate dies with that.
            (By::Certificate(_), Confirmation::Certificate(_)) | (By::Identity(_), _) => None,
            // One that is bound to a key of its own would outlive the certificate by which it was obtained.
            (By::Certificate(Some(id)) | By::Credential(id), _) => {
                Some(CredentialId::parse(id).map_err(Fault::broken)?)
            }
            (By::Certificate(None), _) => return Err(Fault::broken("a certificate that was not looked up")),
        };
        Ok(Base {
            issuer: &desk.issuer,
            kid: desk.keys.active(KeyUse::AccessTokens)?.public.kid(),
            token_id: Desk::random()?,
            confirmation: self.confirmation,
            credential,
            proof_ends: self.proof_ends,
            behalf,
            status: None,
        })
    }

    /// Whom an event is about.
    pub(super) fn about(&self) -> Option<(&SpiffeId, &Name, &str)> {
        let agent = self.holder.agent.as_ref()?;
        Some((&self.holder.spiffe_id, &self.holder.namespace, agent.as_str()))
    }
}

/// Issues an access token to the agent whose certificate the call shows, bound to that.
pub(crate) async fn issue_token(desk: &Desk, call: &Call, wish: Wish) -> Result<IssuedToken, Fault> {
    match calling(desk, call).await {
        Ok(asking) => issue(desk, call, asking, wish).await,
        Err(fault) => {
            let (id, principal) = caller(call)?;
            desk.note_refusal(call, "token", about(id, principal), &fault).await;
            Err(fault)
        }
    }
}

/// What a token is bounded by beside what proves its holder.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bounds {
    /// It is decided at this revision of the registry or a later one.
    pub(crate) revision: u64,
    /// It ends no later.
    pub(crate) ends: Option<Timestamp>,
}

/// Issues an access token.
pub(crate) async fn issue(desk: &Desk, call: &Call, asking: Asking, wish: Wish) -> Result<IssuedToken, Fault> {
    issue_within(desk, call, asking, wish, Bounds::default()).await
}

/// The same within bounds.
#[tracing::instrument(skip_all, fields(legate.audience = %wish.audience))]
pub(crate) async fn issue_within(
    desk: &Desk,
    call: &Call,
    asking: Asking,
    wish: Wish,
    bounds: Bounds,
) -> Result<IssuedToken, Fault> {
    let result = attempt(desk, call, &asking, wish, bounds).await;
    match &result {
        Ok(_) => desk.metrics.issued("token"),
        Err(fault) => desk.note_refusal(call, "token", asking.about(), fault).await,
    }
    result
}

/// The agent that calls, by its certificate, where it may have tokens now.
pub(super) async fn calling(desk: &Desk, call: &Call) -> Result<Asking, Fault> {
    let (id, principal) = caller(call)?;
    let (named, instance) = Named::of(id, principal)?;
    let (holder, _) = desk.holder_past_cutoff(&named, instance.as_ref()).await?;
    if holder.spiffe_id != *id {
        return Err(Fault::refused(&CREDENTIAL_NOT_GOOD, format!("{id} is not who the registry knows")));
    }
    if !holder.cutoffs.spare(call.peer.not_before.plus(CERTIFICATE_BACKDATE)) {
        return Err(Fault::refused(&CREDENTIAL_NOT_GOOD, format!("the certificate is of an earlier {id}")));
    }
    Ok(Asking {
        holder,
        by: By::Certificate(None),
        proof_ends: call.peer.not_after,
        confirmation: Confirmation::Certificate(call.peer.x5t_s256),
        all_or_nothing: false,
        unused: None,
        dpop: None,
    })
}

async fn attempt(desk: &Desk, call: &Call, asking: &Asking, wish: Wish, bounds: Bounds) -> Result<IssuedToken, Fault> {
    asking.check_binding()?;
    let holder = &asking.holder;
    let revision = expected(desk, holder, &wish.audience).await?.max(bounds.revision);
    let agreed = authorize(desk, call, holder, &wish, None, revision).await?;
    let scope = narrowed(asking, (&wish.actions, &wish.actions), &agreed, "the agent may do")?;

    let now = desk.clock.now();
    let mut base = asking.base(desk, None)?;
    base.status = desk.status_of(call, asking).await?;
    // What lets it say something of its scope may end before what proves its holder.
    base.proof_ends = [agreed.ends, bounds.ends].into_iter().flatten().fold(base.proof_ends, Timestamp::min);
    let plan = token::plan(holder, &wish, scope, now, &base)?;
    let event = convert::token_issued(call, &plan, agreed.decision_id, agreed.revision, now);
    let event = match &asking.by {
        By::Identity(evidence) => convert::with_evidence(event, evidence),
        By::Certificate(_) | By::Credential(_) => event,
    };
    let recorded =
        desk.batches.register.record(asking.proof(call, now), asking.dpop, plan, event).await.map_err(of_tx)?;
    // A suspension that came in between is seen here, or kills the token by its lifecycle version.
    desk.still(holder, &asking.named()?)?;
    asking.still_vouched(desk)?;
    sign(desk, recorded, agreed.revision).await
}

/// The one place where an access token is signed; it takes what is recorded and nothing else.
pub(super) async fn sign(desk: &Desk, recorded: RecordedToken, revision: u64) -> Result<IssuedToken, Fault> {
    let plan = recorded.into_plan();
    let signature = desk.keys.sign(KeyUse::AccessTokens, plan.unsigned.kid(), plan.unsigned.input()).await?;
    Ok(IssuedToken {
        token: plan.unsigned.with_signature(&signature),
        token_id: plan.claims.token_id,
        expires: Timestamp::from_secs(i64::try_from(plan.claims.expires_at).unwrap_or(i64::MAX)),
        scope: plan.claims.scope,
        details: plan.claims.details,
        revision,
    })
}

/// Whether somebody of the agent's namespace has the audience; the revision by which it was seen.
pub(super) async fn expected(desk: &Desk, holder: &Holder, audience: &str) -> Result<u64, Fault> {
    let ((), revision) = desk
        .look(|snapshot| {
            let is_ours = match snapshot.audience(&holder.namespace, audience) {
                Some(Audience::Point) => true,
                // In full, with our own trust domain.
                Some(Audience::Agent(agent)) => {
                    SpiffeId::agent(&desk.domain, &holder.namespace, &agent.id).as_str() == audience
                }
                None => false,
            };
            is_ours.then_some(()).ok_or_else(|| invalid_target(audience))
        })
        .await?;
    Ok(revision)
}

fn invalid_target(audience: &str) -> Fault {
    let text = format!("no enforcement point, and no agent, of the agent's namespace has the audience {audience}");
    Fault::refused(&INVALID_TARGET, text).field("audience", "is not declared")
}

/// What policy-decision agrees to.
pub(super) struct Agreed {
    pub(super) actions: Actions,
    pub(super) decision_id: String,
    pub(super) revision: u64,
    /// When the chain, or the approval that it rests on, ends by itself.
    pub(super) ends: Option<Timestamp>,
}

/// The scope that comes of what the caller names, of what of it is sought and of what policy-decision agrees to. What a caller that
/// gets all or nothing did not name may be cut for it all the same.
pub(super) fn narrowed(
    asking: &Asking,
    (named, sought): (&Actions, &Actions),
    agreed: &Agreed,
    who_may: &str,
) -> Result<Scope, Fault> {
    let refused = |what: &str| {
        let of = if named.is_empty() { "what there is to do there" } else { "the actions that were asked for" };
        Err(Fault::refused(&INVALID_SCOPE, format!("{who_may} {what} of {of}")))
    };
    let Some(scope) = token::narrow(sought, &agreed.actions) else { return refused("nothing") };
    if asking.all_or_nothing && !scope.actions().include(named) {
        return refused("only a part");
    }
    match &scope {
        Scope::Actions(actions) if actions.len() > MAX_SCOPES => {
            let text = format!("{who_may} {} kinds of actions there; name those that the token is for", actions.len());
            Err(Fault::refused(&INVALID_SCOPE, format!("{text}, {MAX_SCOPES} at most")))
        }
        _ => Ok(scope),
    }
}

/// Asks policy-decision. Whatever is not a clear yes is a no.
pub(super) async fn authorize(
    desk: &Desk,
    call: &Call,
    holder: &Holder,
    wish: &Wish,
    behalf: Option<&Behalf>,
    revision: u64,
) -> Result<Agreed, Fault> {
    let ask = AuthorizeIssuanceRequest {
        agent_id: holder.agent.as_ref().map(ToString::to_string).unwrap_or_default(),
        audience: wish.audience.clone(),
        actions: wish.actions.iter().map(ToString::to_string).collect(),
        at_least_revision: revision,
        delegation: behalf.map(convert::delegation),
    };
    let patience = desk.patience(call);
    let asked = tokio::time::timeout(patience, desk.authorizer.authorize(ask, patience)).await;
    let answer = match asked {
        Ok(Ok(answer)) => answer,
        Ok(Err(status)) => {
            let told = Told::from_status(&status);
            let text = format!("policy-decision did not answer: {}", told.message);
            return Err(Fault::unavailable(&ISSUANCE_UNDECIDED, text, AGAIN).with("decision_reason", told.reason));
        }
        Err(_) => {
            let text = format!("policy-decision did not answer within {} ms", patience.as_millis());
            return Err(Fault::unavailable(&ISSUANCE_UNDECIDED, text, AGAIN));
        }
    };
    if !answer.allowed {
        return Err(denied(wish, answer));
    }
    let actions = answer.actions.iter().map(|text| ActionPattern::parse(text));
    Ok(Agreed {
        actions: actions.collect::<Result<Actions, _>>().map_err(Fault::broken)?,
        decision_id: answer.decision_id,
        revision: answer.revision,
        ends: answer.not_after.map(Timestamp::try_from).transpose().map_err(Fault::broken)?,
    })
}

fn denied(wish: &Wish, answer: AuthorizeIssuanceResponse) -> Fault {
    let fault = match answer.reason_code.as_str() {
        "AUDIENCE_UNKNOWN" => invalid_target(&wish.audience),
        "NOT_PERMITTED" | "NO_POLICY_PERMITS" | "FORBIDDEN_BY_POLICY" => Fault::refused(&INVALID_SCOPE, answer.message),
        "APPROVAL_REQUIRED" => Fault::refused(&APPROVAL_REQUIRED, answer.message),
        "STALE" | "REVISION_NOT_REACHED" | "AUDIT_UNAVAILABLE" | "POLICY_NOT_READY" => {
            Fault::unavailable(&ISSUANCE_UNDECIDED, answer.message, AGAIN)
        }
        _ => Fault::refused(&ISSUANCE_DENIED, answer.message),
    };
    fault.with("decision_reason", answer.reason_code).with("decision_id", answer.decision_id)
}
