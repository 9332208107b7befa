//! Who may call what.

use legate_rpc::{Caller, Rule};

/// Agents and enforcement points tell what was done, in their own name and namespace, within a quota.
const EMITTERS: &[Caller] = &[
    Caller::Service("registry"),
    Caller::Service("credential-issuer"),
    Caller::Service("policy-decision"),
    Caller::Agent,
    Caller::Enforcer,
];

/// Who tells by OTLP, which services do not.
const TELLERS: &[Caller] = &[Caller::Agent, Caller::Enforcer];

const AUDITORS: &[Caller] = &[Caller::Operator];
/// policy-decision tries a change on what was decided, and compares what was granted with what was used.
const READERS: &[Caller] = &[Caller::Operator, Caller::Service("policy-decision")];

/// Lifecycle policies act on alerts.
const REGISTRY: &[Caller] = &[Caller::Service("registry")];

const TRACES: Rule = Rule { method: "/opentelemetry.proto.collector.trace.v1.TraceService/Export", callers: TELLERS };
const LOGS: Rule = Rule { method: "/opentelemetry.proto.collector.logs.v1.LogsService/Export", callers: TELLERS };

/// What is served on the ports for OpenTelemetry's clients: rows of the table below, and no others.
pub(crate) const INTAKE: &[Rule] = &[TRACES, LOGS];

/// Method to callers; everything else is denied. Whoever reads cannot write, and the reverse; erasing and holding ask for ADMINISTER
/// everywhere.
pub const ACCESS: &[Rule] = &[
    Rule { method: "/legate.audit.v1.IngestService/AppendEvents", callers: EMITTERS },
    // Of what each told itself.
    Rule { method: "/legate.audit.v1.IngestService/GetReceipts", callers: EMITTERS },
    TRACES,
    LOGS,
    Rule { method: "/legate.audit.v1.QueryService/QueryEvents", callers: READERS },
    Rule { method: "/legate.audit.v1.QueryService/TailEvents", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.QueryService/ListUsage", callers: READERS },
    // What agents used, for whoever keeps what they were given.
    Rule { method: "/legate.audit.v1.UsageFeedService/ReadUsage", callers: &[Caller::Service("registry")] },
    Rule { method: "/legate.audit.v1.CustodyService/EraseSubject", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.CustodyService/CreateHold", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.CustodyService/ListHolds", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.CustodyService/ReleaseHold", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.AlertService/ListAlerts", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.AlertService/AcknowledgeAlert", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.AlertService/ResolveAlert", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.AlertService/ReportCompleteness", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.AlertFeedService/WatchRaisedAlerts", callers: REGISTRY },
    Rule { method: "/legate.audit.v1.ProofService/GetCheckpoint", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.ProofService/ProveInclusion", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.ProofService/ProveConsistency", callers: AUDITORS },
    Rule { method: "/legate.audit.v1.ProofService/RecordEvidence", callers: AUDITORS },
];
