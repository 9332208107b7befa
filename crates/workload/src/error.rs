//! The words with which the node helper refuses a process.

legate_rpc::reasons! {
    /// The metadata is not there.
    WORKLOAD_HEADER_MISSING, InvalidArgument, "The call does not carry the metadata workload.spiffe.io: true, once and exactly so.", "Call through a library for the SPIFFE Workload API; every one sends it.";
    /// Nobody believes the node about such a process.
    WORKLOAD_NOT_ENTITLED, PermissionDenied, "No attestation policy that believes this node asks for what the process is, or its agent may obtain nothing now.", "Compare what the node attests (its log says it at the level debug) with the policy's selectors and nodes, and look at the agent's state.";
    /// The process ended.
    PROCESS_GONE, PermissionDenied, "The process that made the connection has ended, so nobody knows who uses it now.", "Connect from the process that needs the identity, and keep the connection to itself.";
    /// The process is another program now.
    PROCESS_CHANGED, PermissionDenied, "The process runs another program, or as another user, than when it made the connection.", "Connect anew.";
    /// The kernel does not say who it is.
    PROCESS_NOT_SEEN, PermissionDenied, "The node helper cannot see the process: it runs in a PID namespace that is not below the helper's, or the kernel is older than Linux 6.5.", "Run the helper in the PID namespace of the host.";
    /// Its program was not read in time.
    PROCESS_NOT_READ, Unavailable, "The node helper could not read in time what the process runs: its program is on a file system that does not answer, is large and read for the first time, or too much of the same user's is being read.", "Try again; keep programs of agents on file systems that answer, and let policies ask for UNIX_SHA256 only of programs that are not huge.";
    /// Nothing is known yet.
    WORKLOAD_NOT_READY, Unavailable, "The node helper has heard nothing from credential-issuer yet, or an SVID is still being obtained.", "Try again; see the helper's /readyz and log when it lasts.";
    /// Nothing was heard for too long.
    WORKLOAD_UNHEARD, Unavailable, "The agent's risk tier is HIGH or CRITICAL, and the node helper has not heard for longer than is allowed whether it still may anything.", "Bring credential-issuer back within reach of the node.";
    /// The node is not believed any more.
    NODE_REFUSED, PermissionDenied, "credential-issuer does not serve this node: it was taken back or revoked, or is no node.", "Look at the node (legate node get), and enrol it again.";
    /// The metadata is not there.
    BROKER_HEADER_MISSING, InvalidArgument, "The call does not carry the metadata broker.spiffe.io: true, once and exactly so.", "Call through a library for the SPIFFE Broker API.";
    /// Nobody lets it ask for others.
    BROKER_NOT_ALLOWED, PermissionDenied, "No attestation policy that believes this node names the caller as its broker (BROKER_AGENT), or the caller's instance was revoked or cut off.", "See the policies that name it (legate attestation list), and connect with the X.509-SVID that the caller has now.";
    /// Nobody knows which process is meant.
    WORKLOAD_REFERENCE_INVALID, InvalidArgument, "The request refers to no workload, or in a way that is not known here.", "Refer to a process by WorkloadPIDReference, or by legate.workload.v1.SandboxReference.";
    /// The process is not there.
    WORKLOAD_NOT_FOUND, NotFound, "There is no process of that number for the node helper.", "Give the number that the process has where the helper runs, and ask while it lives.";
    /// It has many tokens already.
    AUDIENCES_FULL, ResourceExhausted, "The process has JWT-SVIDs for 256 sets of audiences that are good for a while.", "Wait as long as RetryInfo says; ask for one token with the audiences that are used together (8 at most), in whatever order, and not for one that differs each time.";
    /// A JWT-SVID is not good.
    SVID_INVALID, InvalidArgument, "The JWT-SVID is not one of this trust domain that is good now for the audience.", "Let its sender obtain a new one for that audience.";
}
