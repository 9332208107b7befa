//! The words with which a guard refuses what policy-decision was not asked about.

legate_rpc::reasons! {
    /// No token came.
    TOKEN_MISSING, Unauthenticated, "The request has no access token.", "Send the agent's access token as Authorization: Bearer TOKEN.";
    /// Neither token nor certificate came.
    CERTIFICATE_MISSING, Unauthenticated, "The request has no access token, and its connection has no client certificate, which would do here.", "Connect with the agent's X.509-SVID, or send its access token as Authorization: Bearer TOKEN.";
    /// What came is no token.
    TOKEN_MALFORMED, Unauthenticated, "The authorization of the request came several times, or is not one bearer token of 8 KiB at most.", "Send the agent's access token as Authorization: Bearer TOKEN, once.";
    /// The DPoP proof is no good.
    DPOP_PROOF_INVALID, Unauthenticated, "The request has a token that is bound to a key (Authorization: DPoP TOKEN), and not one DPoP proof of that key for its method, its URL and this token, a minute old at most.", "Make a proof for each request (RFC 9449 section 4.2), with ath, and send it once as the header DPoP; htu is the URL as the server's configuration has its origin.";
    /// The DPoP proof was used.
    DPOP_PROOF_REPLAYED, Unauthenticated, "Somebody was let through by this DPoP proof before.", "Make a new proof, with a jti of its own, for each request.";
    /// The memory of proofs is full.
    DPOP_MEMORY_FULL, Unavailable, "The guard remembers as many DPoP proofs as it may, or an eighth of them of this key alone, so that it could not tell the next one from one that was used.", "Try again within two minutes; operators: let the guard remember more (Dpop::remembering), or see which key sends so many.";
    /// No mapping knows the request.
    REQUEST_NOT_MAPPED, PermissionDenied, "The guard's mapping does not say what the request asks for, so nobody may make it.", "Add the method and the path to the guard's routes.";
    /// No mapping knows the tool.
    TOOL_NOT_MAPPED, PermissionDenied, "The mapping of the MCP server does not name the tool, so nobody may call it.", "Look at the tool, and add it to the mapping (legate mcp schema).";
    /// The tool is another than the one that was looked at.
    TOOL_CHANGED, FailedPrecondition, "The tool's definition is another than the one whose hash is in the mapping, or the server lists the name twice; it is hidden and may not be called.", "See what changed in the tool's texts and arguments; if that is wanted, make the mapping anew (legate mcp schema).";
    /// The tool was not seen.
    TOOL_NOT_SEEN, FailedPrecondition, "The guard has not seen the tool's definition yet, so it cannot tell whether it is the one that was mapped.", "Ask for tools/list first; a server hands its own list to its guard when it starts.";
    /// An argument is not what it may be.
    TOOL_ARGUMENTS_INVALID, InvalidArgument, "An argument of the tool is missing, is not in the mapping, or is not of the kind, form or size that the mapping gives.", "Call with the arguments that the mapping names, each as it says.";
    /// The message is none.
    TOOL_MESSAGE_INVALID, InvalidArgument, "The message is not one request of JSON-RPC 2.0 of 1 MiB at most, has a name twice, or a call of a tool has no id or no name.", "Send one JSON-RPC 2.0 request; batches are not taken.";
    /// The list of tools is none.
    TOOL_LIST_INVALID, FailedPrecondition, "The server's list of tools cannot be read, so none of it is shown.", "Mend the MCP server's answer to tools/list.";
}
