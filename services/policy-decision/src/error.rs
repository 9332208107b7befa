//! Every reason with which this service refuses a call or denies a question, and its cure.

legate_rpc::reasons! {
    /// A question cannot be read.
    QUESTION_INVALID, InvalidArgument, "A field of the question is missing or breaks its grammar.", "Mend the field that the violation names.";
    /// The name is under way.
    STREAM_ITEM_IN_FLIGHT, InvalidArgument, "Another question of this item_id is under way on the stream.", "Give each question that is under way a name of its own, such as the next number.";
    /// The stream ends with the service.
    STREAM_STOPPING, Unavailable, "The service is stopping; every question that was read is answered.", "Open a stream to another replica, or to this one when it is back, and ask what was not answered again.";
    /// The caller may not ask about this resource type.
    CALLER_MAY_NOT_ASK, PermissionDenied, "The enforcement point has no right to ask about this resource type.", "Add the type to the EnforcementPoint's resourceTypes, or ask from the right one.";
    /// The caller may not name an agent without a token.
    SUBJECT_NOT_PROVEN, PermissionDenied, "The enforcement point named an agent, or for whom it acts, on its own word, and has no right to assert a subject.", "Pass the agent's access token, or declare mayAssertSubject for the EnforcementPoint.";
    /// The caller may not have decisions explained.
    CALLER_MAY_NOT_EXPLAIN, PermissionDenied, "The enforcement point has no right to have decisions explained.", "Declare mayExplain for the EnforcementPoint, or ask as an operator (legate explain).";
    /// The caller may not search.
    CALLER_MAY_NOT_SEARCH, PermissionDenied, "The enforcement point has no right to ask which agents may do something, or what an agent may do.", "Declare maySearch for the EnforcementPoint, or ask as an operator (legate who-can, legate what-can).";
    /// No route.
    ROUTE_UNKNOWN, PermissionDenied, "Envoy asked about a request whose method and path are in no route of the configuration.", "Add a row to ext_authz.routes of policy-decision; what is in none is denied.";
    /// Nobody to decide about.
    SUBJECT_MISSING, Unauthenticated, "Envoy asked about a request that came without a bearer token and without a client certificate.", "Send the agent's access token (Authorization: Bearer), or have Envoy demand client certificates and pass them (include_peer_certificate).";
    /// It could be read in two ways.
    HTTP_REQUEST_INVALID, InvalidArgument, "A request that Envoy asked about has a path, a parameter, a header or a client certificate that cannot be believed or could be read in two ways, lacks what its route takes from it, or has in it what no resource's id may have.", "See the log of policy-decision for what is wrong with it; send headers and parameters once, and the path without dots, doubled or escaped slashes, and semicolons. An id is 512 bytes at most, without `*`, invisible characters, or white space at its ends.";
    /// There is more than can be listed.
    SEARCH_UNBOUNDED, FailedPrecondition, "What is searched is given by a pattern (apollo/*, invoice:*), and Legate keeps no list of resources or actions to say all that the pattern stands for.", "Ask about single resources and actions (AuthZEN evaluations), or take what is named one by one alone: page.properties.partial = true.";
    /// A policy forbids.
    FORBIDDEN_BY_POLICY, PermissionDenied, "A Cedar policy of the agent's namespace forbids it.", "See the policy in the reasons; a forbid wins over every permit.";
    /// No such round.
    REVIEW_UNKNOWN, NotFound, "There is no such round of a review that the caller may see.", "See which there are (legate review list).";
    /// The round is not over.
    REVIEW_NOT_CLOSED, FailedPrecondition, "The round is not CLOSED: what was decided in it is not in force, or is still being written.", "Wait until it is CLOSED (legate review list), or close it (legate review close).";
    /// The registry did not tell of the round.
    REVIEWS_UNAVAILABLE, Unavailable, "The registry did not tell of the round in time, or did not take what was found.", "Ask again in a moment; see that the registry works.";
    /// The agent is suspended.
    AGENT_SUSPENDED, PermissionDenied, "The agent is suspended.", "Resume it (legate agent resume) and let its runtime obtain new credentials.";
    /// The agent's class is suspended.
    CLASS_SUSPENDED, PermissionDenied, "The agent's class is suspended, and every agent of it with it.", "Resume it (legate class resume) and let the runtimes enrol again.";
    /// The agent's namespace is suspended.
    NAMESPACE_SUSPENDED, PermissionDenied, "The agent's namespace is suspended, and every agent in it with it.", "Resume it (legate namespace resume) and let the runtimes enrol again.";
    /// A stop order names the agent.
    AGENT_STOPPED, PermissionDenied, "A stop order that stands names the agent, or its class, a group that it is in, its owner, its namespace, or everybody.", "See which and why (legate stops); take it back (legate resume) and let the runtimes enrol again.";
    /// Whoever made the agent does not work.
    PARENT_STOPPED, PermissionDenied, "The agent was made by an agent that is not ACTIVE, or is further below one that is not.", "Resume the agent above it (legate agent get), or hand this one over (legate agent hand-over).";
    /// The agent is quarantined.
    AGENT_QUARANTINED, PermissionDenied, "The agent is quarantined.", "Release it from quarantine and resume it.";
    /// The agent's time is over.
    AGENT_EXPIRED, PermissionDenied, "The agent's expiry has passed.", "Give it a later expireTime and resume it.";
    /// The agent is retired.
    AGENT_RETIRED, PermissionDenied, "The agent is retired; that is final.", "Register a new agent.";
    /// The agent was never switched on.
    AGENT_NOT_ACTIVE, PermissionDenied, "The agent is not ACTIVE yet.", "Approve and activate it.";
    /// The token is of an earlier life.
    TOKEN_OUTLIVED, PermissionDenied, "The token was issued before the agent's last change of state, or before its cut-off or that of its class or namespace.", "Let the agent obtain a new token.";
    /// The certificate was revoked.
    CREDENTIAL_REVOKED, PermissionDenied, "The token was revoked, or the certificate that it is bound to, or the client secret or key by which it was obtained.", "Obtain another token; where the certificate or credential was revoked, enrol the runtime again or give it a new one.";
    /// A token before this one fell.
    PARENT_TOKEN_FALLEN, PermissionDenied, "A token that was exchanged for this one, or the certificate that it was bound to, was taken back, or its holder was stopped since.", "Begin the exchange anew with a token of the agent that delegates.";
    /// A grant is gone.
    GRANT_NOT_IN_FORCE, PermissionDenied, "A delegation grant by which the agent acts for another was taken back, or was never there.", "See the grants that are in force (legate grant list), and exchange a token by one of them.";
    /// An agent in the chain is stopped.
    DELEGATOR_STOPPED, PermissionDenied, "An agent for whom this one acts is not ACTIVE, or its class or namespace is suspended; what acts for it stops with it.", "See its state (legate agent get); resume it, then exchange anew.";
    /// The grant is for another time.
    GRANT_OUTSIDE_WINDOW, PermissionDenied, "A delegation grant of the chain does not hold at this time.", "See the grant in the message; have its delegator renew it.";
    /// The grant is for other audiences.
    GRANT_AUDIENCE, PermissionDenied, "A delegation grant of the chain is for other audiences than the enforcement point's.", "See the grant in the reasons; have its delegator add the audience.";
    /// The grant is for other things.
    GRANT_NOT_PERMITTED, PermissionDenied, "A delegation grant of the chain does not let this action be done to this resource.", "See the grant in the reasons; have its delegator add the permission.";
    /// The grants make no chain.
    CHAIN_INVALID, PermissionDenied, "No delegation grant, or no chain of them, leads from the subject to the agent.", "See who acts for whom (legate grant tree); name the right grant, or have one made.";
    /// The chain is too long.
    CHAIN_TOO_LONG, PermissionDenied, "More agents act one for another than a grant of the chain, or the namespace, allows.", "Act through fewer agents, or raise maxDepth of the grant and maxDelegationDepth of the namespace.";
    /// Somebody in the chain may not do it.
    DELEGATOR_NOT_PERMITTED, PermissionDenied, "Somebody for whom the agent acts may not do it himself, and nobody delegates what he has not.", "See whom in the reasons; bind a role to him (RoleBinding users for people), or ask for less.";
    /// No such agent.
    AGENT_UNKNOWN, PermissionDenied, "The caller's namespace has no agent of this id.", "Check the id (legate agent get); agents of other namespaces are not shown.";
    /// The token is no good.
    TOKEN_INVALID, PermissionDenied, "The token is malformed, of the wrong kind, or its signature does not hold.", "Let the agent obtain a token from credential-issuer and pass it unchanged.";
    /// The token's time is over.
    TOKEN_EXPIRED, PermissionDenied, "The token has expired or is not valid yet.", "Let the agent obtain a new token; check the clocks where that does not help.";
    /// The token is for somebody else.
    TOKEN_AUDIENCE, PermissionDenied, "The token's audience is none of the enforcement point's.", "Request the token for an audience that the EnforcementPoint declares.";
    /// The token is not bound to who showed it.
    TOKEN_BINDING, PermissionDenied, "The token is bound to another certificate or key than the presenter's, or to none where the agent's credential policy does not allow that.", "Pass SHA-256 of the certificate that the agent showed over mutual TLS as presenter_x5t_s256, or the thumbprint of the key of the DPoP proof that you verified as presenter_jkt.";
    /// The certificate is no good.
    CERTIFICATE_INVALID, PermissionDenied, "The certificate that the agent showed is not one that the workloads' CA gave to an agent, or its time is over or has not come.", "Let the agent show its X.509-SVID, and pass on what the handshake proved, leaf first.";
    /// The certificate is of before.
    CERTIFICATE_OUTLIVED, PermissionDenied, "The certificate was issued in an earlier life of the agent: before it was suspended, or its class, owner or namespace was cut off.", "Let the agent obtain a new certificate; connections that were made with the old one are of no use.";
    /// The token is narrowed.
    TOKEN_SCOPE, PermissionDenied, "The token is narrowed to other actions than the one asked about.", "Let the agent obtain a token whose scope has the action; one that asks for none has all that the agent may do there.";
    /// Nobody expects such a token.
    AUDIENCE_UNKNOWN, PermissionDenied, "The audience is that of no enforcement point in the agent's namespace.", "Declare the audience at an EnforcementPoint, or request the token for one that is declared.";
    /// Nothing grants.
    NOT_PERMITTED, PermissionDenied, "Neither the agent's class nor a role binding gives it this action on this resource.", "Bind a role that has the permission.";
    /// The binding is for other resources.
    BINDING_NARROWED, PermissionDenied, "A role binding gives the action, on other resources only.", "See the binding in the reasons and widen its resources, or bind the role anew.";
    /// The binding is for another time.
    BINDING_OUTSIDE_WINDOW, PermissionDenied, "A role binding gives it, outside its window of time.", "See the binding in the reasons; renew its window.";
    /// The ceiling cuts.
    ABOVE_CEILING, PermissionDenied, "It is granted, and above the ceiling of the agent's class.", "Raise the ceiling of the class, or leave the grant out.";
    /// The region is outside.
    BOUNDARY_REGION, PermissionDenied, "It is granted, and a boundary that applies to the agent is for resources of other regions.", "See the boundary in the reasons. State the resource's attribute `region`; where it is outside, use a resource of a region that the boundary lists.";
    /// The class of data is outside.
    BOUNDARY_DATA, PermissionDenied, "It is granted, and a boundary that applies to the agent is for other classes of data.", "See the boundary in the reasons. State the resource's attribute `data_classification`, a text or a list of texts, all of which the boundary has to list.";
    /// The purpose is outside.
    BOUNDARY_PURPOSE, PermissionDenied, "It is granted, and a boundary that applies to the agent is for other purposes.", "See the boundary in the reasons. State `purpose` in the question's context, one that the boundary lists.";
    /// A regime is outside.
    BOUNDARY_REGIME, PermissionDenied, "It is granted, and a boundary that applies to the agent is for resources under other regimes.", "See the boundary in the reasons. State the resource's attribute `regime`, a text or a list of texts of which there is one at least, all of which the boundary has to list.";
    /// The environment is outside.
    BOUNDARY_ENVIRONMENT, PermissionDenied, "It is granted, and a boundary that applies to the agent is for agents of other environments.", "See the boundary in the reasons; register the agent in an environment that the boundary lists.";
    /// The hour is outside.
    BOUNDARY_HOURS, PermissionDenied, "It is granted, and a boundary that applies to the agent is for other hours of the week, in UTC.", "See the boundary in the reasons; ask again within its hours.";
    /// A person has to approve it.
    APPROVAL_REQUIRED, PermissionDenied, "It is granted and permitted, and a policy of the agent's namespace holds it back until a person approves it.", "Let the agent ask for what the reasons say (ApprovalRequestService.RequestApproval, legate approval request, or CIBA; docs/approvals.md), and ask again once it is approved.";
    /// Nobody knows whether it was used.
    APPROVAL_UNCONFIRMED, Unavailable, "It rests on an approval that counts once, and the registry, which says to which decision it goes, did not answer within 500 ms or refused policy-decision.", "Ask again: if the approval was used up by this, the answer is APPROVAL_REQUIRED and the agent asks for another. If it stays, look at the connection from policy-decision to the registry.";
    /// No policy permits.
    NO_POLICY_PERMITS, PermissionDenied, "It is granted, and no Cedar policy of the agent's namespace permits it.", "Write a policy that permits it; without policies nothing is permitted.";
    /// The namespace declares otherwise what callers state.
    OUTSIDE_SCHEMA, PermissionDenied, "It is granted and permitted, and the action, the type of the resource, its attributes or the context are not what the policy_schema of the agent's namespace declares.", "State what is declared (legate policy schema NAMESPACE), or declare what is stated.";
    /// The view is too old.
    STALE, Unavailable, "The view of the registry is older than allowed.", "Try again; if it stays, look at the connection from policy-decision to the registry.";
    /// The revision has not come.
    REVISION_NOT_REACHED, Unavailable, "The wanted registry revision did not arrive within the deadline.", "Try again; check that the revision came from this registry.";
    /// A boundary is not there.
    BOUNDARY_UNKNOWN, FailedPrecondition, "The agent's class names a boundary that is not known, so what it would cut is not known either.", "Declare the boundary, or take its name from the class; where both are there, see the log of policy-decision.";
    /// A policy failed.
    POLICY_ERROR, FailedPrecondition, "A policy that could forbid failed, or a policy of the namespace cannot be compiled.", "See the policy in the reasons; state the attribute it needs, or guard it with `has`.";
    /// Policies are being compiled.
    POLICY_NOT_READY, Unavailable, "The newest policies of the namespace are still being compiled.", "Try again at once.";
    /// Somebody else previews.
    PREVIEW_BUSY, Unavailable, "Two previews of changes are being made, or one of the caller's own.", "Try again.";
    /// Somebody else asks.
    ASKING_BUSY, Unavailable, "Two explanations, searches or simulations are being made, or one of the caller's own.", "Try again.";
    /// The past is too large.
    PAST_TOO_LARGE, FailedPrecondition, "The agent's namespace had more objects then than an explanation of the past reads (20,000 beside agents).", "Ask about the present, or read the objects as they were (legate role get --as-of, and so on).";
    /// The past cannot be read.
    PAST_UNAVAILABLE, Unavailable, "The registry did not tell its past, or not in time.", "Try again with a later deadline; if it stays, look at the connection from policy-decision to the registry.";
    /// There is no such point in the past.
    REVISION_UNKNOWN, OutOfRange, "The registry has not come to this revision or time yet, or it lies before the first.", "Give a revision from 1 to the newest, or a time between the first write and now.";
    /// That part of the past is no longer kept.
    REVISION_COMPACTED, OutOfRange, "The revision or time lies further back than this registry keeps its history (retention.history_days).", "Ask as of the oldest revision that is named or later; what was written before is in the audit log (legate audit query).";
    /// What was decided cannot be read.
    RECORDS_UNAVAILABLE, Unavailable, "What was decided could not be read from audit-collector, or not in time.", "Try again; if it stays, look at the connection from policy-decision to audit-collector.";
    /// What was used cannot be read.
    USAGE_UNAVAILABLE, Unavailable, "What agents used could not be read from the registry, or not in time.", "Try again; if it stays, look at the connection from policy-decision to the registry.";
    /// Everything is unused.
    DRIFT_NOTHING_LEFT, FailedPrecondition, "Nothing that the agent was given was used, and what gives it gives it to others too; a ceiling without entries cuts nothing.", "Suspend or retire the agent (legate agent suspend), or take it out of what the message names.";
    /// It is too much for one ceiling.
    DRIFT_TOO_MUCH, FailedPrecondition, "What the agent would keep takes more entries than a ceiling may have (256), or it has more permissions than are looked at.", "Give it less by fewer, wider roles first; then ask again.";
    /// The key is not known.
    TOKEN_KEY_UNKNOWN, Unavailable, "The token names a key that is not known here.", "Try again with at_least_revision; if it stays, the token is not of this credential-issuer.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::answer::Why;

    #[test]
    fn every_denial_is_documented() {
        for why in Why::ALL {
            let mut known = REASONS.iter().chain(legate_outbox::REASONS);
            assert!(known.any(|r| r.name == why.word()), "{why:?}");
        }
    }
}
