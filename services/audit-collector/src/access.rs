//! Who may call what.

use legate_rpc::{Caller, Rule};

const EMITTERS: &[Caller] =
    &[Caller::Service("registry"), Caller::Service("credential-issuer"), Caller::Service("policy-decision")];

const AUDITORS: &[Caller] = &[Caller::Operator];
/// policy-decision tries a change on what was decided, and compares what was granted with what was used.
const READERS: &[Caller] = &[Caller::Operator, Caller::Service("policy-decision")];

/// Method to callers; everything else is denied. Whoever reads cannot write, and the reverse.
pub const ACCESS: &[Rule] = &[
    Rule { method: "/legate.audit.v1.IngestService/AppendEvents", callers: EMITTERS },
    Rule { method: "/legate.audit.v1.QueryService/QueryEvents", callers: READERS },
    Rule { method: "/legate.audit.v1.QueryService/TailEvents", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.QueryService/ListUsage", callers: READERS },
    Rule { method: "/legate.audit.v1.ProofService/GetCheckpoint", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.ProofService/ProveInclusion", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.ProofService/ProveConsistency", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.ProofService/RecordEvidence", callers: AUDITORS },
];
