//! Every reason with which this service refuses a call, and its cure.

use std::time::Duration;

use legate_db::TxError;
use legate_rpc::{Fault, Reason};
use legate_token::ForeignError;
use legate_view::CredentialMethod;

use crate::domain::certificate::BadPlan;
use crate::domain::csr::BadCsr;
use crate::domain::foreign::Nobody;
use crate::domain::holder::{Means, NoHolder};
use crate::domain::login::NoOperator;
use crate::domain::token::BadToken;
use crate::federation::NotSigned;

legate_rpc::reasons! {
    /// The view of the registry is too old to issue anything by.
    VIEW_STALE, Unavailable, "credential-issuer has not heard the registry within the bound, so it issues nothing.", "Try again; if it stays, look at the connection from credential-issuer to the registry.";
    /// The database does not answer.
    DATABASE_UNAVAILABLE, Unavailable, "The service's database is busy or not reached; the call may or may not have had its effect.", "Try again; operators: see the database and legate doctor.";
    /// The holder may have nothing now.
    HOLDER_NOT_ACTIVE, FailedPrecondition, "The agent is not ACTIVE, its class or namespace is suspended, or the agent, enforcement point or node is not declared; it can obtain nothing.", "See its state (legate agent get, legate class get, legate namespace get); resume or declare it first.";
    /// An agent asks for somebody who is not its own.
    NOT_ITS_MAKER, NotFound, "The calling agent made no agent of this id that is not retired.", "See the agents that it made (legate agent spawned); for another agent an operator has to ask.";
    /// The token was never one.
    ENROLMENT_TOKEN_INVALID, Unauthenticated, "The enrolment token is mistyped, or this issuer never made it.", "Copy the whole token, or have an operator make a new one (legate credential create).";
    /// The token was used.
    ENROLMENT_TOKEN_SPENT, PermissionDenied, "The enrolment token was used before; it works once.", "Have an operator make a new one. Where only the answer was lost, send the same token and the same request again, from 2 s to 5 min after the first time. If nobody of yours used it, revoke the credential that it made.";
    /// The token is too old.
    ENROLMENT_TOKEN_EXPIRED, PermissionDenied, "The enrolment token has expired, or was made before its agent, or the agent's class or namespace, was last stopped.", "Have an operator make a new one (legate credential create).";
    /// There are enough copies of it.
    INSTANCES_FULL, ResourceExhausted, "As many instances of the agent hold certificates as its credential policy allows; 100 where it does not say.", "Revoke instances that are not needed (legate agent instances, legate instance revoke), wait until one ends, or raise maxInstances of the credential policy. The token was not spent.";
    /// The node is not believed.
    NODE_NOT_BELIEVED, PermissionDenied, "No attestation policy of that name believes the calling node, or the caller is no node.", "See which policies name it (legate attestation list); without nodes a policy believes those of its own namespace. Write it anew where a node was declared again under its old name.";
    /// Something is missing.
    ATTESTATION_INSUFFICIENT, PermissionDenied, "The node did not attest of the process all that the attestation policy asks for.", "Run the process as the policy says (its user, its executable, its unit), or compare the policy's selectors with what the node sees.";
    /// The broker is nobody.
    BROKER_NOT_GOOD, PermissionDenied, "The broker that asks for the process was not attested by this node, is not LIVE, or is another agent than the one that the attestation policy names (BROKER_AGENT).", "See the broker's instance (legate instance get) and the policy's selectors; write the policy anew where the broker was declared again under its old name.";
    /// The request's name is taken.
    SVID_REQUEST_REUSED, AlreadyExists, "The node used the request_id within the last minutes, for another request or longer ago than an answer is repeated.", "Choose a new request_id for each new request.";
    /// The node renews it.
    RENEWED_BY_NODE, FailedPrecondition, "The caller is an instance that a node attests, and its node renews what it holds.", "Take the newest SVID from the node (SPIFFE Workload API) in place of renewing the certificate.";
    /// The service stops.
    NODE_STREAM_STOPPING, Unavailable, "credential-issuer is stopping, and the stream of news for a node ends with it.", "Open the stream again: to another replica, or to this one when it is back.";
    /// No such instance.
    INSTANCE_NOT_FOUND, NotFound, "No running copy of an agent has this id, or the calling node did not attest it.", "Check the id (legate agent instances).";
    /// The credential policy does not list that way.
    CREDENTIAL_METHOD_REFUSED, PermissionDenied, "The credential policy of the agent's class does not list the way in which the runtime proves itself, or shall.", "Let the runtime prove itself in a way that the policy lists, or add the way that the message names to the policy's methods (CREDENTIAL_METHOD_...). A class without a policy has enrolment tokens only.";
    /// The client is nobody, or not who it says.
    CLIENT_REFUSED, Unauthenticated, "The OAuth client is not known, or what it showed does not prove that it is the one.", "The client_id is the agent's id (agt_...). See its credentials (legate credential list); an assertion has the issuer as its only audience, lives 5 minutes at most and is used once.";
    /// The proof is no good.
    DPOP_PROOF_REFUSED, InvalidArgument, "The DPoP proof is malformed, not for this request, too old or used before.", "Make a new proof for each request: ES256, with the public key in its header, and htm, htu, iat, jti and nonce.";
    /// The proof needs the nonce.
    DPOP_NONCE_NEEDED, InvalidArgument, "The DPoP proof has no nonce of this server, or one that is too old.", "Repeat the request with a new proof that has the nonce of the answer's DPoP-Nonce header; OAuth libraries do so by themselves.";
    /// The token would be bound to nothing.
    BINDING_REQUIRED, FailedPrecondition, "The token would be bound to no key, and the credential policy of the agent's class does not allow that.", "Send a DPoP proof, or connect with the agent's certificate; or let the policy say TOKEN_BINDING_OPTIONAL.";
    /// The token is another's.
    TOKEN_NOT_YOURS, PermissionDenied, "The token was issued to another client, and only that one, or an operator who may stop its agent, takes it back.", "Let the client that has it revoke it; or suspend the agent, or revoke its credential.";
    /// Two live ones are enough.
    CREDENTIAL_LIMIT, FailedPrecondition, "The agent has two live credentials of this type, which is the most.", "Replace them (legate credential rotate), or revoke one first (legate credential list, legate credential revoke).";
    /// A token of an issuer outside is not believed.
    IDENTITY_TOKEN_REFUSED, Unauthenticated, "The identity token is malformed, not signed by its issuer, meant for somebody else, too old, or not valid yet.", "Obtain a new token from the issuer for an audience that the TrustedIssuer lists, and send it at once; compare the clocks of issuer and Legate.";
    /// Nobody vouches for the issuer.
    ISSUER_NOT_TRUSTED, Unauthenticated, "No TrustedIssuer of the namespace has the token's iss and, alone, its aud; or several have; or operators log in by tokens with these.", "Declare one (kind TrustedIssuer) with exactly the token's iss and aud, and no second one with the same; check the namespace.";
    /// The token is good and stands for nobody.
    IDENTITY_TOKEN_UNMATCHED, PermissionDenied, "The identity token is good, but no rule of its TrustedIssuer says whom it stands for, or the one that does names an agent or person that is not there.", "Compare the token's claims with the rules of the TrustedIssuer (legate issuer get); the first rule whose claims all match decides.";
    /// The token was used.
    IDENTITY_TOKEN_SPENT, PermissionDenied, "The identity token was used before; each makes one credential, or one grant.", "Obtain a new token from its issuer. Where only the answer was lost, send the same token and the same request again: for a certificate from 2 s to 5 min after the first time, for a grant at once.";
    /// There is no room for one more.
    IDENTITY_TOKENS_FULL, ResourceExhausted, "As many used tokens of the identity token's issuer are kept as its TrustedIssuer lets (max_used_tokens): each until a day after it ended.", "Wait until older ones are forgotten, use fewer tokens (an agent renews its certificate instead of enrolling anew), or raise maxUsedTokens.";
    /// The registry does not answer.
    REGISTRY_UNAVAILABLE, Unavailable, "The registry did not answer in time, so what a person asked about grants, or a client about an approval, was not done or not looked up.", "Send the same request again: what was done is not done twice. If it stays, look at the connection from credential-issuer to the registry.";
    /// Something is named that does not exist.
    REFERENCE_MISSING, FailedPrecondition, "An object names another one that is not in force and is not among those given.", "Declare the other object first, or in the same apply.";
    /// Somebody is named who left.
    PERSON_DEPARTED, FailedPrecondition, "A person or an operator is named who left the namespace, or all of them.", "Name somebody who is here; where the departure was a mistake, have an administrator take it back (legate person list, legate person withdraw).";
    /// An agent delegates more than it has.
    DELEGATION_TOO_WIDE, PermissionDenied, "A permission of the grant goes beyond what the agent or person that delegates may have now.", "Delegate permissions each of which one grant of the caller gives, below every ceiling above it; what it was given to pass on it names as parent.";
    /// The name is taken.
    GRANT_EXISTS, AlreadyExists, "A delegation grant of this namespace and name is in force.", "Choose another name, or end that grant first.";
    /// Somebody else's grant.
    NOT_ITS_GRANT, NotFound, "The caller gave no delegation grant of this name that is in force.", "See the grants that it gave (legate grant own, legate grant as-person list); for another's an operator has to ask.";
    /// One more is too many.
    TOO_MANY_GRANTS, ResourceExhausted, "The agent or person that calls has made as many delegation grants as it may.", "End some of them first.";
    /// No more of this kind fit.
    NAMESPACE_FULL, ResourceExhausted, "The namespace holds as many objects of this kind as it may.", "Take back what is not needed, or use another namespace.";
    /// People make no grants there.
    PERSONAL_GRANTS_OFF, FailedPrecondition, "People make no grants of their own here: the TrustedIssuer that vouches for them has no personal_delegation, or the namespace takes grants for people's authority.", "Have an operator declare personalDelegation of the TrustedIssuer, in a namespace with bound personal authority; or have an operator make the grant.";
    /// The grant goes beyond what people may delegate.
    PERSONAL_GRANT_TOO_WIDE, PermissionDenied, "The grant goes beyond what the TrustedIssuer lets its people delegate: a permission, the class of the agent, the time, or how many may follow.", "Ask for less, as the message says; or have an operator widen personalDelegation.";
    /// The person did not sign in as is asked.
    SIGN_IN_NOT_GOOD, PermissionDenied, "The person's token does not say when the person signed in, or that was too long ago, or in another way than is asked for.", "Sign in again, with max_age and, where the message names them, acr_values in the request to the issuer.";
    /// The token is not for this text.
    CONSENT_NOT_BOUND, PermissionDenied, "The nonce of the person's token is not the hash of what the grant says, and the TrustedIssuer asks for that.", "Obtain a token whose nonce is the one that legate grant as-person consent prints for exactly this grant.";
    /// The rules changed.
    TRUSTED_ISSUER_CHANGED, Unavailable, "The TrustedIssuer by whose rules a token was proved was declared anew, or taken back, before the registry judged by it.", "Try again with the same token; it was not used.";
    /// The keys do not come.
    ISSUER_KEYS_UNAVAILABLE, Unavailable, "The keys of the token's issuer cannot be had, so its signature cannot be checked.", "Try again; operators: the log of credential-issuer says what its jwks_uri answered. Private addresses are asked only where federation.allow_private names them; without a way there, give the keys as jwks.";
    /// No provider is configured.
    LOGIN_NOT_CONFIGURED, FailedPrecondition, "Operators do not log in here: the configuration of credential-issuer names no identity provider.", "Use an operator's certificate (deploy/pki), or configure a provider ([[operators.providers]], docs/federation.md).";
    /// Nobody is an operator by that token.
    LOGIN_REFUSED, PermissionDenied, "The configuration names no identity provider of the token's iss and aud, or no rule of it says which operator its bearer is.", "Ask the provider for a token for an audience that [[operators.providers]] lists, and compare its claims with the rules there.";
    /// The certificate request asks what it must not.
    CSR_REFUSED, InvalidArgument, "The certificate request is malformed, does not prove that its key is held, or asks for more than is given.", "Send a PKCS #10 request in DER for a P-256 key, signed with it by ECDSA and SHA-256, without names or with exactly the SPIFFE ID; legate makes one.";
    /// The key is somebody else's.
    KEY_IN_USE, PermissionDenied, "The key of the request was certified for another holder, or is one of the issuer's own.", "Make a new key for this runtime; keys are not shared.";
    /// The key is known to be compromised.
    KEY_COMPROMISED, PermissionDenied, "The key of the request belongs to a credential that was revoked as compromised.", "Make a new key.";
    /// The credential is dead or not ours.
    CREDENTIAL_NOT_GOOD, PermissionDenied, "The certificate of the call was revoked, is of an earlier life of its agent, or was never recorded here.", "Enrol the runtime again with a new enrolment token.";
    /// Nothing that was issued now would work.
    CUT_OFF_TOO_RECENT, Unavailable, "The agent, or its class, namespace or owner, was cut off just now, and what is issued at once would be dead.", "Try again in a second; after everything issued to its class, namespace or owner was revoked, or a class or namespace was resumed within 5 s of its suspension, for up to 5 s.";
    /// The agent ends now.
    HOLDER_ENDS, FailedPrecondition, "The agent, its certificate or the CA ends so soon that nothing can be issued.", "Give the agent a later expiry, or renew the certificate first.";
    /// Nobody has that audience.
    INVALID_TARGET, InvalidArgument, "The audience is that of no enforcement point that the agent could talk to (RFC 8707 invalid_target).", "Ask for an audience that an EnforcementPoint of the agent's namespace declares, letter for letter.";
    /// The scopes are refused.
    INVALID_SCOPE, PermissionDenied, "The agent may do none of what was asked for at that audience, not all of it where all or nothing is given, or more than a scope holds where nothing was named.", "Ask for actions that the agent was given (legate what-can) on types of resources that the audience's enforcement points ask about; name them where there are more than 64.";
    /// The authorization details are refused.
    AUTHORIZATION_DETAILS_REFUSED, InvalidArgument, "The authorization details (RFC 9396) are malformed, of a type or with a member that is not known, for other places than the token, or wider than those of the token that is exchanged.", "Give a JSON array of objects with type legate and some of actions, locations, datatypes and identifier (docs/oauth.md); in an exchange ask for no more than the subject token has.";
    /// The subject token is no good.
    SUBJECT_TOKEN_INVALID, PermissionDenied, "The subject token is malformed, expired, of another issuer, or its signature does not hold.", "Ask its holder for a new token, addressed to the agent that exchanges it.";
    /// The subject token was not handed to the caller.
    SUBJECT_TOKEN_NOT_ADDRESSED, PermissionDenied, "The audience of the subject token is not the caller, so nothing shows that its holder handed it over.", "Let the holder request it for the caller's SPIFFE ID, without instance, as its audience.";
    /// What the subject token rests on is gone.
    SUBJECT_TOKEN_FALLEN, PermissionDenied, "The subject token no longer stands: its holder, an agent before it, a grant, or a certificate of the chain was stopped or taken back.", "See the message; begin anew with a token of an agent that is ACTIVE and a grant that is in force.";
    /// The actor token is somebody else's.
    ACTOR_TOKEN_INVALID, PermissionDenied, "The actor token is not the caller's own access token, addressed to itself.", "Leave it out: who acts is known from the caller's certificate.";
    /// The chain goes round.
    EXCHANGE_CYCLE, PermissionDenied, "The caller stands in the chain of the subject token already, or is its subject.", "Request a token of its own (IssueToken), or exchange the token that it was handed first.";
    /// Nobody lets it.
    GRANT_MISSING, PermissionDenied, "No delegation grant in force lets the caller act for the holder of the subject token.", "See who acts for whom (legate grant tree); have the holder make a grant, or name the right one.";
    /// The grant is for other things.
    GRANT_TOO_NARROW, PermissionDenied, "The delegation grants of the chain are for other audiences, or let none of the actions be done.", "Ask for less, or have the delegator widen the grant (legate grant show).";
    /// The chain may not go on.
    CHAIN_ENDS_HERE, PermissionDenied, "More agents would act one for another than a grant of the chain, or the namespace, allows.", "Act through fewer agents, or raise maxDepth of the grant and maxDelegationDepth of the namespace.";
    /// A person has to approve it.
    APPROVAL_REQUIRED, PermissionDenied, "It is granted and permitted, and a policy of the agent's namespace holds it back until a person approves it.", "Let the agent ask for what the reasons say (ApprovalRequestService.RequestApproval, legate approval request, or CIBA; docs/approvals.md), and ask again once it is approved.";
    /// Nothing asks for an approval.
    APPROVAL_NOT_NEEDED, FailedPrecondition, "No policy in force in the namespace holds the action back until it is approved, so an approval would change nothing.", "Ask for what a decision answered APPROVAL_REQUIRED to; see the policies with @approval (legate policy list, docs/approvals.md).";
    /// One more is too many.
    TOO_MANY_APPROVALS, ResourceExhausted, "The agent has 8 requests that are pending, or 32 that are pending or approved; or 32 were made in its lineage within a minute.", "Cancel what is no longer needed (legate approval cancel), or wait until somebody decides.";
    /// The registry does not take the request.
    APPROVAL_REFUSED, FailedPrecondition, "The registry does not take the request for an approval; registry_reason in the metadata says why.", "Mend what the message names, and ask again.";
    /// Nobody has decided.
    AUTHORIZATION_PENDING, FailedPrecondition, "Nobody has decided about the request yet (OpenID CIBA authorization_pending).", "Poll again after the interval.";
    /// The client polls too often.
    SLOW_DOWN, ResourceExhausted, "The client polls more often than it was told to (OpenID CIBA slow_down).", "Wait 5 s longer between two polls from now on.";
    /// An approver denied it.
    APPROVAL_DENIED, PermissionDenied, "An approver denied the request, or it was taken back (OpenID CIBA access_denied).", "See who and why (legate approval show); ask anew only where something has changed.";
    /// It is over.
    APPROVAL_EXPIRED, FailedPrecondition, "Nobody decided about the request in time, or what was approved is over (OpenID CIBA expired_token).", "Ask anew.";
    /// The request is not the client's.
    AUTH_REQ_UNKNOWN, PermissionDenied, "The auth_req_id is not one of the client's, or a token was made of it already.", "Poll with the auth_req_id of the answer of bc-authorize, until there is a token, which is given once.";
    /// policy-decision says no.
    ISSUANCE_DENIED, PermissionDenied, "policy-decision does not let this agent have a token.", "See the reason in the message and in the metadata.";
    /// policy-decision does not say.
    ISSUANCE_UNDECIDED, Unavailable, "policy-decision could not say whether the token may be issued, so it was not.", "Try again; if it stays, look at policy-decision.";
    /// No such credential.
    CREDENTIAL_NOT_FOUND, NotFound, "No credential of this id was issued here.", "Check the id (legate credential list).";
    /// No such status list.
    STATUS_LIST_NOT_FOUND, NotFound, "No status list of this number is published here, or everything in it ended long ago.", "Take the URI from the status claim of a token that has not ended.";
    /// Too many status lists at once.
    STATUS_LIST_BUSY, Unavailable, "Other status lists are being made at this moment.", "Try again, and keep a list for as long as its ttl says.";
    /// The revocation waits for the registry.
    REVOCATION_PENDING, Unavailable, "The credential or key is revoked and that is recorded, but the registry has not confirmed it yet, or the file of CA certificates could not be written; it is tried again until it is done.", "Ask again to learn the revision; until then other services may accept the certificate.";
    /// The key did not sign.
    SIGNING_UNAVAILABLE, Unavailable, "The signing key cannot be reached, or was replaced at this moment.", "Try again; operators: see the key store and legate key list.";
    /// No such key.
    KEY_NOT_FOUND, NotFound, "No signing key of this id was ever here.", "Check the kid (legate key list --with-ended).";
    /// The key is needed.
    KEY_IN_SERVICE, FailedPrecondition, "The key is in a state in which that cannot be done to it.", "See its state (legate key list); rotate before a key is tainted or retired, or say that it is compromised.";
    /// The next key may not sign yet.
    KEY_NOT_READY, FailedPrecondition, "No key is prepared, or it was not published long enough: verifiers that keep the key set from before would refuse what it signs.", "Prepare one (legate key prepare), wait until its usable time, or rotate with --now and let verifiers fetch the key set again.";
    /// Too many keys are believed.
    KEYS_FULL, ResourceExhausted, "Of this purpose 16 keys are published, which is the most.", "Wait until one that is RETIRING ends, or retire one (legate key retire).";
    /// There are no such keys.
    KEY_PURPOSE_NOT_SERVED, FailedPrecondition, "This credential-issuer has no keys of that purpose.", "The operators' CA is there where [operators] names an identity provider and tls.operators_ca a file.";
    /// A key cannot be made.
    KEY_STORE_UNAVAILABLE, Unavailable, "Where keys are kept cannot be reached or written, so no key was made.", "Try again; operators: the log of credential-issuer says why.";
}

/// Those with which the registry refuses what a person asks about its grants, and this service on its behalf.
const OF_REGISTRY: [&Reason; 13] = [
    &legate_rpc::INVALID_ARGUMENT,
    &REFERENCE_MISSING,
    &PERSON_DEPARTED,
    &DELEGATION_TOO_WIDE,
    &GRANT_EXISTS,
    &NOT_ITS_GRANT,
    &TOO_MANY_GRANTS,
    &NAMESPACE_FULL,
    &PERSONAL_GRANTS_OFF,
    &PERSONAL_GRANT_TOO_WIDE,
    &SIGN_IN_NOT_GOOD,
    &CONSENT_NOT_BOUND,
    &TRUSTED_ISSUER_CHANGED,
];

/// A reason of the registry that people are told under the same name.
pub(crate) fn of_registry(name: &str) -> Option<&'static Reason> {
    OF_REGISTRY.into_iter().find(|reason| reason.name == name)
}

/// How long a caller waits before it tries again.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// The door behind which a transaction's failure goes.
pub(crate) fn of_tx(e: TxError<Fault>) -> Fault {
    match e {
        TxError::Flow(fault) => fault,
        TxError::Unavailable(e) => Fault::unavailable(&DATABASE_UNAVAILABLE, e.to_string(), AGAIN),
        TxError::Broken(e) => Fault::broken(e),
    }
}

/// A refusal in the midst of a transaction; nothing of the transaction is kept.
pub(crate) fn flow(fault: Fault) -> TxError<Fault> {
    TxError::Flow(fault)
}

impl From<NoHolder> for Fault {
    fn from(e: NoHolder) -> Self {
        Self::refused(&HOLDER_NOT_ACTIVE, e.to_string())
    }
}

impl Means {
    /// Refuses a way that the credential policy does not list.
    pub(crate) fn demand(&self, method: CredentialMethod) -> Result<(), Fault> {
        if self.list(method) {
            return Ok(());
        }
        let what = match method {
            CredentialMethod::EnrolmentToken => "enrolment tokens",
            CredentialMethod::PrivateKeyJwt => "registered keys (PRIVATE_KEY_JWT)",
            CredentialMethod::TlsClientAuth => "certificates at the token endpoint (TLS_CLIENT_AUTH)",
            CredentialMethod::ClientSecret => "client secrets (CLIENT_SECRET)",
            CredentialMethod::TrustedIssuer => "tokens of trusted issuers (TRUSTED_ISSUER)",
            CredentialMethod::Attestation => "attestation (ATTESTATION)",
        };
        let text = match self.policy.as_str() {
            "" => format!("the agent's class names no credential policy, and without one {what} are not enough"),
            policy => format!("the credential policy {policy} of the agent's class does not list {what}"),
        };
        Err(Fault::refused(&CREDENTIAL_METHOD_REFUSED, text))
    }
}

impl From<BadCsr> for Fault {
    fn from(e: BadCsr) -> Self {
        Self::refused(&CSR_REFUSED, format!("the certificate request is refused: {e}")).field("csr", e.to_string())
    }
}

impl From<BadPlan> for Fault {
    fn from(e: BadPlan) -> Self {
        match e {
            BadPlan::TooSoon => Self::unavailable(&CUT_OFF_TOO_RECENT, e.to_string(), AGAIN),
            BadPlan::TooShort => Self::refused(&HOLDER_ENDS, e.to_string()),
        }
    }
}

impl From<BadToken> for Fault {
    fn from(e: BadToken) -> Self {
        match e {
            BadToken::Ttl => Fault::invalid("ttl", e.to_string()),
            BadToken::NotAnAgent => Self::refused(&HOLDER_NOT_ACTIVE, e.to_string()),
            BadToken::TooSoon => Self::unavailable(&CUT_OFF_TOO_RECENT, e.to_string(), AGAIN),
            BadToken::TooShort => Self::refused(&HOLDER_ENDS, e.to_string()),
            BadToken::Claims(e) => Fault::invalid("scopes", e.to_string()),
        }
    }
}

/// What is wrong with a token of an issuer outside.
pub(crate) fn of_foreign(e: ForeignError) -> Fault {
    match e {
        // The issuer's own keys are broken as they are declared; its tokens are not to blame.
        ForeignError::Keys => Fault::unavailable(&ISSUER_KEYS_UNAVAILABLE, e.to_string(), AGAIN),
        _ => Fault::refused(&IDENTITY_TOKEN_REFUSED, e.to_string()),
    }
}

/// An assertion counts once.
pub(crate) fn assertion_used() -> Fault {
    Fault::refused(&CLIENT_REFUSED, "the client assertion was used before; make a new one each time")
}

/// A DPoP proof counts once.
pub(crate) fn proof_used() -> Fault {
    Fault::refused(&DPOP_PROOF_REFUSED, "the DPoP proof was used before; make a new one each time")
}

impl From<NotSigned> for Fault {
    fn from(e: NotSigned) -> Self {
        match e {
            NotSigned::Token(e) => of_foreign(e),
            // Where the keys are is the operators' business; whoever sent the token may be anybody.
            NotSigned::Keys(_) => {
                Self::unavailable(&ISSUER_KEYS_UNAVAILABLE, "the keys of the token's issuer cannot be had now", AGAIN)
            }
        }
    }
}

impl From<NoOperator> for Fault {
    fn from(e: NoOperator) -> Self {
        Self::refused(&LOGIN_REFUSED, e.to_string())
    }
}

impl From<Nobody> for Fault {
    fn from(e: Nobody) -> Self {
        match e {
            Nobody::NotTrusted | Nobody::OfOperators | Nobody::Ambiguous => {
                Self::refused(&ISSUER_NOT_TRUSTED, e.to_string())
            }
            _ => Self::refused(&IDENTITY_TOKEN_UNMATCHED, e.to_string()),
        }
    }
}
