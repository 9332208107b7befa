//! Every reason with which this service refuses a call, and its cure.

use std::time::Duration;

use legate_db::TxError;
use legate_rpc::{Fault, Reason};

legate_rpc::reasons! {
    /// The database does not answer.
    DATABASE_UNAVAILABLE, Unavailable, "The service's database is busy or not reached; the call may or may not have had its effect.", "Try again; operators: see the database and legate doctor.";
    /// No such object.
    OBJECT_NOT_FOUND, NotFound, "No object of this kind, namespace and name is in force.", "Check the kind, the namespace and the name (legate KIND list).";
    /// No such agent.
    AGENT_NOT_FOUND, NotFound, "No agent has this id, or no agent in force has this namespace and name.", "Check the namespace and the name, or give the id of a retired agent (legate agent list).";
    /// The object was changed since it was read.
    ETAG_MISMATCH, Aborted, "The object has been written since the etag was read.", "Read it again, and decide again whether the change still fits.";
    /// What was planned on moved since.
    BASE_MOVED, Aborted, "Something that the change gives, takes away or names was written after the revision that it was planned at.", "Plan again, look at what changed, and apply that plan.";
    /// The request id was used for something else.
    REQUEST_ID_REUSED, AlreadyExists, "The request_id was used within the last 24 hours with another body or for another method.", "Use a new request_id for a new request.";
    /// Something is named that does not exist.
    REFERENCE_MISSING, FailedPrecondition, "An object names another one that is not in force and is not among those given.", "Declare the other object first, or in the same apply.";
    /// Something else still needs it.
    OBJECT_IN_USE, FailedPrecondition, "Another object in force names this one.", "Change or take back the objects that are named first.";
    /// Several objects of one request are the same.
    OBJECT_REPEATED, InvalidArgument, "The request holds two objects of the same kind, namespace and name.", "Give each object once.";
    /// An agent of this name exists.
    AGENT_EXISTS, AlreadyExists, "An agent of this namespace and name is in force.", "Use apply or update to change it, or choose another name.";
    /// Nobody answers for the agent.
    AGENT_SPONSOR_MISSING, InvalidArgument, "The agent has no sponsor; somebody has to be accountable for it.", "Name at least one sponsor, such as user:grace@example.com.";
    /// Nobody owns the agent.
    AGENT_OWNER_MISSING, InvalidArgument, "The agent has no owner; somebody has to answer for it technically.", "Name at least one owner, such as user:ada@example.com.";
    /// The agent is in another state.
    AGENT_STATE_WRONG, FailedPrecondition, "The agent's state does not allow this step.", "See its state (legate agent get) and the steps that lead from it.";
    /// Nobody who is here is accountable for the agent.
    AGENT_ORPHANED, FailedPrecondition, "Every sponsor that the agent names has left, so it cannot be ACTIVE.", "Name a sponsor who is here (legate agent owner AGENT --add-sponsor user:NAME), then take the step again.";
    /// There are too many lifecycle policies.
    LIFECYCLE_POLICIES_FULL, FailedPrecondition, "There would be more than 64 lifecycle policies in the namespace; each is asked about every agent there.", "Put rules into one policy, or take back one that is no longer needed (legate lifecycle-policy list).";
    /// Somebody is named who left.
    PERSON_DEPARTED, FailedPrecondition, "A person or an operator is named who left the namespace, or all of them.", "Name somebody who is here; where the departure was a mistake, have an administrator take it back (legate person list, legate person withdraw).";
    /// No such departure.
    DEPARTURE_NOT_FOUND, NotFound, "No departure of this person from this namespace, or from all of them, stands.", "See who left, and from where (legate person list).";
    /// The class or namespace stands so already.
    STANDING_WRONG, FailedPrecondition, "The class or namespace is suspended already, or is to be resumed and is not suspended; or no stop order that stands names them so.", "See its status (legate class get, legate namespace get, legate stops).";
    /// An agent does not leave a suspended class.
    LEAVES_SUSPENDED_CLASS, FailedPrecondition, "The agent is of a suspended class, and would escape from it into another one.", "Resume the class first (legate class resume), or leave the agent in it.";
    /// Agents make no agents there.
    SPAWNING_OFF, FailedPrecondition, "The caller's namespace lets no agent make agents.", "Have an operator set maxSpawnDepth of the namespace.";
    /// It would be too deep.
    SPAWN_TOO_DEEP, FailedPrecondition, "The new agent would be further below an operator's agent than the namespace allows.", "Let an agent further up make it, or have an operator raise maxSpawnDepth of the namespace.";
    /// There are too many.
    SPAWN_TOO_MANY, FailedPrecondition, "The caller has as many agents as the namespace allows, or there are 256 below the agent at the top, or 256 were made below it within a minute.", "End one that is no longer needed (legate agent end-spawned), wait a minute, or have an operator raise maxChildren of the namespace.";
    /// It would live too long.
    SPAWN_TOO_LONG, InvalidArgument, "The new agent would live less than a minute, longer than the caller or one above it, or longer than its class lets it.", "Ask for a ttl within these.";
    /// It would have too much.
    SPAWN_TOO_WIDE, PermissionDenied, "A permission of the new agent's ceiling goes beyond what the caller may have now.", "Ask for permissions each of which one grant of the caller gives, below every ceiling above it (legate agent get, legate class get).";
    /// The agent is not the caller's.
    NOT_ITS_MAKER, NotFound, "The calling agent made no agent of this id that is not retired.", "See the agents that it made (legate agent spawned); for another agent an operator has to ask.";
    /// Nobody hands over what an operator declared.
    NOT_MADE_BY_AN_AGENT, FailedPrecondition, "The agent was not made by an agent, or was handed over before.", "Change its owners and sponsors with apply or update.";
    /// The name is another's agent's.
    MADE_BY_AN_AGENT, FailedPrecondition, "The name is that of an agent that an agent made, and the declaration does not say that this one is meant: whoever runs it would get what is bound to the name.", "Choose another name, or end that agent first (legate agent retire); where it is meant, give the id of its maker as spec.parent, or hand it over (legate agent hand-over).";
    /// Nobody approves what he declared.
    SELF_APPROVAL, PermissionDenied, "Whoever declared an agent, or ever changed what is declared of it, cannot approve or confirm it, nor approve what it asks for; nor can an owner of it, where a policy says so.", "Let another operator do it.";
    /// Nothing asks for an approval.
    APPROVAL_NOT_NEEDED, FailedPrecondition, "No policy in force in the namespace holds the action back until it is approved, so an approval would change nothing.", "Ask for what a decision answered APPROVAL_REQUIRED to; see the policies with @approval (legate policy list, docs/approvals.md).";
    /// No such approval.
    APPROVAL_NOT_FOUND, NotFound, "There is no approval of this id, it is not the caller's, or it ended further back than the history is kept.", "Check the id (legate approval list --all).";
    /// It is decided already, or over.
    APPROVAL_DECIDED, FailedPrecondition, "The request is not pending any more, or the approval does not hold any more: somebody else decided, it was taken back, it counted once and was used, or its time is over.", "See what became of it (legate approval show); where it is still wanted, let the agent ask again.";
    /// Nobody counts twice.
    APPROVER_NOT_ANOTHER, FailedPrecondition, "Whoever approves has agreed already, and the policy asks for several people.", "Let another approver look at it (legate approval show says who agreed).";
    /// What it rests on changed.
    APPROVAL_OUTDATED, FailedPrecondition, "Since the agent asked, it was stopped or changed its life, or a policy that holds back what it asks for was changed or taken back.", "Deny the request, and let the agent ask again: then it names the policies as they are now.";
    /// One more is too many.
    TOO_MANY_APPROVALS, ResourceExhausted, "The agent has 8 requests that are pending, or 32 that are pending or approved; or 32 were made in its lineage within a minute.", "Cancel what is no longer needed (legate approval cancel), or wait until somebody decides.";
    /// No such round.
    REVIEW_NOT_FOUND, NotFound, "There is no review of this id.", "Check the id (legate review list).";
    /// No such item.
    REVIEW_ITEM_NOT_FOUND, NotFound, "The review has no item of this id.", "See its items (legate review show).";
    /// One at a time.
    REVIEW_UNDER_WAY, FailedPrecondition, "A round of the campaign is under way, and there is one at a time.", "Decide and close that one first (legate review list).";
    /// It is in another state.
    REVIEW_NOT_OPEN, FailedPrecondition, "The review is in another state than the step takes: its items are still being made, or it is closed, or what was decided is not written yet.", "See its state (legate review show); what was decided in a closed one is changed by declaring it, or in the next round.";
    /// Something is not decided.
    REVIEW_UNDECIDED, FailedPrecondition, "The review has items about which nobody has decided, and its grace is not over.", "Decide about them (legate review show --pending), or wait: what nobody decides about is revoked at the end of the grace.";
    /// It is otherwise now.
    REVIEW_ITEM_CHANGED, FailedPrecondition, "What an item is about has changed since the item was made or certified, so nobody has decided about what it is now.", "Look again (legate review show says what changed and at which revision), and decide about that (legate review decide --seen REVISION); what is no longer there is revoked or left.";
    /// Somebody else has to look.
    SOLE_REVIEWER, PermissionDenied, "Whoever closes the review decided about every item of it alone, and its grace is not over.", "Let another approver close it, or wait until it closes by itself.";
    /// Somebody else is asked.
    NOT_ITS_REVIEWER, PermissionDenied, "The caller is not among those who are asked about the item.", "Let one of its reviewers decide, or have it reassigned (legate review decide --decision reassign).";
    /// Nobody reviews himself.
    SELF_REVIEW, PermissionDenied, "Whoever gave an agent what is reviewed, or wrote the role, the class or the group by which it has it, does not decide about it, nor an owner of the agent where others are asked.", "Let another reviewer decide, or have an administrator reassign the item to one.";
    /// That cannot be decided about it.
    REVIEW_DECISION_UNFIT, InvalidArgument, "The decision does not fit the item: what is to stay is no part of it, a class cannot be reduced, or nobody decides for whom it is to be reassigned to.", "Decide as the message says (legate review show).";
    /// A policy cannot be used.
    POLICY_INVALID, InvalidArgument, "The Cedar policy does not parse, is a template, uses what a decision cannot provide, or does not fit the schema of what there is.", "Mend the policy at the place that is named; legate policy schema NAMESPACE prints what there is.";
    /// A schema of a namespace cannot be used.
    POLICY_SCHEMA_INVALID, InvalidArgument, "The policy_schema of the namespace does not parse, or declares what no question could be.", "Mend it as is said; docs/policies.md shows what can be declared.";
    /// Policies in force do not fit.
    POLICY_SCHEMA_UNMET, FailedPrecondition, "A policy in force in the namespace does not fit the policy_schema that is to be declared.", "Mend or take back the policy first, mend it in the same apply, or declare what it uses.";
    /// A grant passes on more than it was given.
    GRANT_EXCEEDS_PARENT, FailedPrecondition, "A delegation grant would give more than the grant that it passes on a part of.", "Narrow what is named: its delegator, permissions, audiences, window or depth; where the earlier grant is narrowed, change or take back those after it first or in the same apply.";
    /// An agent delegates more than it has.
    DELEGATION_TOO_WIDE, PermissionDenied, "A permission of the grant goes beyond what the agent or person that delegates may have now.", "Delegate permissions each of which one grant of the caller gives, below every ceiling above it; what it was given to pass on it names as parent.";
    /// The name is taken.
    GRANT_EXISTS, AlreadyExists, "A delegation grant of this namespace and name is in force.", "Choose another name, or end that grant first.";
    /// Somebody else's grant.
    NOT_ITS_GRANT, NotFound, "The caller gave no delegation grant of this name that is in force.", "See the grants that it gave (legate grant own, legate grant as-person list); for another's an operator has to ask.";
    /// One more is too many.
    TOO_MANY_GRANTS, ResourceExhausted, "The agent or person that calls has made as many delegation grants as it may.", "End some of them first.";
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
    /// A chain of grants goes round or is too long.
    GRANT_CHAIN_INVALID, FailedPrecondition, "An agent would stand twice in one chain of delegation grants, or too many grants hang together.", "Grant to an agent that is not in the chain yet; take grants back that are not needed.";
    /// Two attestation policies could mean one process.
    ATTESTATION_AMBIGUOUS, FailedPrecondition, "Two attestation policies of a namespace that believe one of the same nodes name different agents, and one process could be what both ask for.", "Let both ask for one thing in which the processes of the two agents differ and of which a process has one: UNIX_UID, SYSTEMD_UNIT, what the token of one issuer says, the BROKER_AGENT; or let them believe different nodes.";
    /// No more of this kind fit.
    NAMESPACE_FULL, ResourceExhausted, "The namespace holds as many objects of this kind as it may.", "Take back what is not needed, or use another namespace.";
    /// Nobody could say who may do what.
    LAST_ADMINISTRATOR, FailedPrecondition, "The change would leave nobody who is ADMIN everywhere, in force now and without an end.", "Give another operator ADMIN everywhere first, without not_after, or leave this one as it is.";
    /// There are too many operator bindings.
    OPERATOR_BINDINGS_FULL, ResourceExhausted, "There are 10,000 operator bindings in force, and there can be no more.", "Name up to 64 operators in one binding, and revoke those that are over.";
    /// The filter cannot be used.
    FILTER_INVALID, InvalidArgument, "The filter does not parse, names a field that there is not, or compares one in a way that never holds.", "Mend it at the byte that is named; docs/filters.md shows the language and the fields.";
    /// There is no such point in the past.
    REVISION_UNKNOWN, OutOfRange, "The registry has not come to this revision or time yet, or it lies before the first.", "Give a revision from 1 to the newest, or a time between the first write and now.";
    /// That part of the past is no longer kept.
    REVISION_COMPACTED, OutOfRange, "The revision or time lies further back than this registry keeps its history (retention.history_days).", "Ask as of the oldest revision that is named or later; what was written before is in the audit log (legate audit query).";
    /// The service is going down.
    FEED_STOPPING, Unavailable, "The registry is stopping, so the stream ends.", "Open the stream again; it goes on after the revision that was last received.";
    /// A stream of many objects is not what it has to be.
    BULK_OUT_OF_ORDER, InvalidArgument, "A stream of many objects is one `start`, then items, then one `end` that counts them.", "Mend the program that sends it; what was answered before is written, unless it is all or nothing.";
    /// More differs than is written at once.
    BULK_TOO_LARGE, InvalidArgument, "More objects are new, differ or go than are written at one revision: 25,000 and 16 MiB of them, 5,000 that go. What is already so does not count in a plan.", "Bring most of them in by legate import, which writes each for itself, or apply parts of the manifests without --prune; then plan all of them again. Where the reason is long, give a shorter one.";
    /// A stream of many objects ended early.
    BULK_BROKEN_OFF, Unavailable, "A stream of many objects ended before its `end`: where it is all or nothing, nothing is written, else what was answered.", "Send all of it again, with the same request_id where there was one.";
    /// This kind is not for operators.
    KIND_NOT_APPLICABLE, InvalidArgument, "Objects of this kind are not written in this way.", "Signing keys and revocations come from credential-issuer; agents are retired (legate agent retire), not revoked; approvals are asked for by agents (legate approval); stop orders are legate stop and legate resume.";
}

/// How long a caller waits before it tries again.
pub(crate) const AGAIN: Duration = Duration::from_millis(250);

/// The door behind which a transaction's failure goes.
pub(crate) fn of_tx(e: TxError<Fault>) -> Fault {
    match e {
        TxError::Flow(fault) => fault,
        TxError::Unavailable(e) => Fault::unavailable(&DATABASE_UNAVAILABLE, e.to_string(), AGAIN),
        TxError::Broken(e) => Fault::broken(e),
    }
}

/// A reason by its name.
pub(crate) fn named(name: &str) -> Option<&'static Reason> {
    REASONS.iter().chain(legate_rpc::REASONS).find(|reason| reason.name == name).copied()
}
