//! The verbs of the audit log, and the flags that say which events.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditVerb {
    /// Show what happened, newest first.
    Query {
        #[command(flatten)]
        filter: Filter,
        /// So many at most; 0: all of them.
        #[arg(long, default_value_t = 100, value_name = "NUMBER")]
        limit: usize,
        /// The oldest first.
        #[arg(long)]
        oldest_first: bool,
        /// Obtain the proof that each event is in the log, and verify it here.
        #[arg(long)]
        prove: bool,
        #[command(flatten)]
        key: LogKey,
    },
    /// Show what happens, as it happens, until interrupted.
    Tail {
        #[command(flatten)]
        filter: Filter,
        /// Go on after what was shown before: the token that an ended tail told.
        #[arg(long, value_name = "TOKEN")]
        resume: Option<String>,
    },
    /// Count what was decided: by agent, action, type of resource, outcome and subject.
    Usage(Usage),
    /// Make recorded decisions once more, each by the registry's history as of its own revision and moment, and show those that
    /// are not what is recorded. Ends with 6 where there is one.
    Replay {
        /// About agents of this namespace; left out: that of --agent NAMESPACE/NAME.
        #[arg(long, value_name = "NAMESPACE", required_unless_present = "agent")]
        namespace: Option<String>,
        /// About this agent, NAMESPACE/NAME or agt_...
        #[arg(long, value_name = "AGENT")]
        agent: Option<String>,
        /// From this moment on: 2026-11-24T08:00:00Z, or so long ago: 24h, 7d.
        #[arg(long, default_value = "24h", value_name = "MOMENT")]
        since: String,
        /// Before this moment, as for --since; left out: now.
        #[arg(long, value_name = "MOMENT")]
        until: Option<String>,
    },
    /// Hold every executed action against the agent, the credential and the decision that it needs.
    Report(super::Report),
    /// Write events for other systems, one a line, newest first; or as files in Parquet.
    Export(EventExport),
    /// Write events and their proofs into one file, which anybody verifies offline who has the log's public key (legate verify).
    Evidence(Box<Evidence>),
    /// Print the newest signed checkpoint. Keep it: a log that is cut or rewritten later does not match it.
    Checkpoint {
        /// The newest that the witnesses' quorum cosigned, with their signatures; it is older than the newest of all.
        #[arg(long)]
        cosigned: bool,
        #[command(flatten)]
        key: LogKey,
    },
    /// Obtain the proof that an event is in the log, and verify it here.
    Prove {
        /// The leaf's index, as audit query shows it.
        leaf: u64,
        /// Prove it in a tree that the witnesses' quorum cosigned, and wait for one.
        #[arg(long)]
        cosigned: bool,
        /// Write the proof into this file, in the form of C2SP tlog-proof.
        #[arg(long, value_name = "FILE")]
        tlog_proof: Option<PathBuf>,
        /// Write the proof into this file, as a COSE receipt (RFC 9942).
        #[arg(long, value_name = "FILE")]
        cose_receipt: Option<PathBuf>,
        /// Write the entry itself into this file, byte for byte, which the proof is about.
        #[arg(long, value_name = "FILE")]
        entry: Option<PathBuf>,
        #[command(flatten)]
        key: LogKey,
    },
    /// Obtain receipts of events by the certificate that told them: that they are in the log, verified here, in files that legate verify takes.
    Receipts(Receipts),
}

/// Of which events receipts are asked for, and by whom.
#[derive(Args, Debug)]
pub(crate) struct Receipts {
    /// The epoch that they were told in.
    pub(crate) epoch: String,
    /// The number of the first.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) first: u64,
    /// So many of them.
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub(crate) count: u32,
    /// The directory with the certificate and key of who told them, as legate credential enrol --out wrote it.
    #[arg(long, value_name = "DIR")]
    pub(crate) identity: PathBuf,
    /// Write each into this directory: NUMBER.leaf, the event byte for byte, and NUMBER.tlog-proof.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) key: LogKey,
}

/// What is written, and in which form.
#[derive(Args, Debug)]
pub(crate) struct EventExport {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// The form of a line: our own JSON, OCSF 1.8.0, CloudEvents 1.0, or OpenTelemetry's logs (OTLP JSON). Or parquet: a directory of files
    /// in Apache Parquet, by day and namespace, oldest first.
    #[arg(long = "format", value_enum, default_value = "jsonl")]
    pub(crate) form: ExportAs,
    /// The oldest first.
    #[arg(long)]
    pub(crate) oldest_first: bool,
    /// The file to write, for parquet the directory; left out: standard output.
    #[arg(long, value_name = "FILE|DIR", group = "destination")]
    pub(crate) out: Option<PathBuf>,
    /// With --format otlp: send them to a receiver over HTTP, https://HOST:4318, or http:// on this machine.
    #[arg(long, value_name = "URL", group = "destination", requires = "mark")]
    pub(crate) to: Option<String>,
    /// With --to: the file that says how far the receiver is.
    #[arg(long, value_name = "FILE", requires = "to")]
    pub(crate) mark: Option<PathBuf>,
    /// With --to: CA certificates in PEM under which the receiver is believed, beside the public ones.
    #[arg(long, value_name = "FILE", requires = "to")]
    pub(crate) to_ca: Option<PathBuf>,
    /// Go on with an export that was cut short, to this file or receiver, with what was asked then.
    #[arg(long, requires = "destination", conflicts_with_all = ["Filter", "form", "oldest_first"])]
    pub(crate) resume: bool,
}

/// The form of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExportAs {
    Jsonl,
    Ocsf,
    Cloudevents,
    Otlp,
    Parquet,
}

/// What goes into a pack.
#[derive(Args, Debug)]
pub(crate) struct Evidence {
    #[command(flatten)]
    pub(crate) filter: Filter,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// So many events at most; the pack says when there are more.
    #[arg(long, default_value_t = 100_000, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) limit: u64,
    /// A checkpoint that was kept from before: the pack proves that the log continues it. More than one can be given.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Vec<PathBuf>,
    /// Of a tree that the witnesses' quorum cosigned; the record of the pack too. It holds what a policy of witnesses asks for
    /// (legate verify --witness-policy).
    #[arg(long)]
    pub(crate) cosigned: bool,
    #[command(flatten)]
    pub(crate) key: LogKey,
}

/// What is counted, and how it is added up.
#[derive(Args, Debug)]
pub(crate) struct Usage {
    /// By this agent, NAMESPACE/NAME or agt_...
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// With --agent: also by the agents that it made, and those that they made.
    #[arg(long, requires = "agent")]
    pub(crate) with_descendants: bool,
    /// In this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// On this one's behalf, such as user:ada@example.com
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) on_behalf_of: Option<String>,
    /// Of this action.
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Option<String>,
    /// On a resource of this type.
    #[arg(long, value_name = "TYPE")]
    pub(crate) resource_type: Option<String>,
    /// That ended so.
    #[arg(long, value_enum)]
    pub(crate) outcome: Option<EndedSo>,
    /// From the hour of this moment on: 2026-11-24T08:00:00Z, or so long ago: 24h, 7d.
    #[arg(long, value_name = "MOMENT")]
    pub(crate) since: Option<String>,
    /// In the hours before this moment, as for --since.
    #[arg(long, value_name = "MOMENT")]
    pub(crate) until: Option<String>,
    /// The length of time of one row.
    #[arg(long, value_enum, default_value = "total")]
    pub(crate) per: Per,
    /// What rows differ in; left out: agent, action, resource type, outcome and subject.
    #[arg(long, value_enum, value_delimiter = ',')]
    pub(crate) by: Vec<UsedBy>,
    /// So many rows at most, the largest counts first: 1 to 10,000.
    #[arg(long, default_value_t = 100, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) limit: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Per {
    Total,
    Day,
    Hour,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum UsedBy {
    Agent,
    Action,
    ResourceType,
    Outcome,
    Subject,
    Namespace,
}

/// The log's public key.
#[derive(Args, Debug)]
pub(crate) struct LogKey {
    /// The file with the log's verifier key; left out: log.pub in LEGATE_DIR.
    #[arg(long = "log-key", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Which events.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Filter {
    /// About this agent, NAMESPACE/NAME or agt_...
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Caused by this SPIFFE ID.
    #[arg(long, value_name = "SPIFFE_ID")]
    pub(crate) actor: Option<String>,
    /// Of this type, such as agent.suspended or agent.*
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) kind: Option<String>,
    /// In this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Of this action.
    #[arg(long, value_name = "ACTION")]
    pub(crate) action: Option<String>,
    /// On this resource, TYPE or TYPE:ID.
    #[arg(long, value_name = "TYPE[:ID]")]
    pub(crate) resource: Option<String>,
    /// That ended so.
    #[arg(long, value_enum)]
    pub(crate) outcome: Option<EndedSo>,
    /// In this trace.
    #[arg(long, value_name = "TRACE_ID")]
    pub(crate) trace: Option<String>,
    /// With this credential: its id or serial number, or a token's id.
    #[arg(long, value_name = "CREDENTIAL_ID")]
    pub(crate) credential: Option<String>,
    /// The decision of this id.
    #[arg(long, value_name = "DECISION_ID")]
    pub(crate) decision: Option<String>,
    /// At or after this moment: 2026-11-24T08:00:00Z, or so long ago: 15m, 24h, 7d.
    #[arg(long, value_name = "MOMENT")]
    pub(crate) since: Option<String>,
    /// Before this moment, as for --since.
    #[arg(long, value_name = "MOMENT")]
    pub(crate) until: Option<String>,
    /// Told by this SPIFFE ID.
    #[arg(long, value_name = "SPIFFE_ID")]
    pub(crate) emitter: Option<String>,
    /// By this agent, or with it in the delegation chain.
    #[arg(long, value_name = "AGENT")]
    pub(crate) via: Option<String>,
    /// With --agent or --via: also the agents that it made, and those that they made.
    #[arg(long)]
    pub(crate) with_descendants: bool,
    /// On this one's behalf, such as user:ada@example.com
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) on_behalf_of: Option<String>,
    /// With this link in the delegation chain.
    #[arg(long, value_name = "PRINCIPAL")]
    pub(crate) chain: Option<String>,
    /// Of this running copy.
    #[arg(long, value_name = "INSTANCE_ID")]
    pub(crate) instance: Option<String>,
    /// Resting on this delegation grant.
    #[arg(long, value_name = "GRANT_ID")]
    pub(crate) grant: Option<String>,
    /// A filter over the fields of events, such as 'outcome = denied AND NOT type = "decision.*"' (docs/filters.md).
    #[arg(long, value_name = "FILTER")]
    pub(crate) filter: Option<String>,
    /// Whose action, reason or resource holds this text.
    #[arg(long, value_name = "TEXT")]
    pub(crate) text: Option<String>,
    /// Whose origin is proved so far: signed by who told it, sent by it, or passed on by another.
    #[arg(long, value_enum)]
    pub(crate) trust: Option<ProvedSoFar>,
}

/// How far the origin of an event is proved.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProvedSoFar {
    Attested,
    Authenticated,
    Observed,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum EndedSo {
    Success,
    Denied,
    Failure,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The log, a directory or an https:// address that serves its tiles; or a file: a pack of legate audit evidence, a
    /// C2SP .tlog-proof, a COSE receipt.
    #[arg(value_name = "DIR|URL|FILE")]
    pub(crate) log: String,
    /// The file with the log's verifier key. For a pack, left out: the pack's own, which says nothing of whose log it is.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// A checkpoint that you kept from before: the log has to continue it.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// The policy of witnesses (C2SP tlog-policy): its quorum has to have cosigned what is verified. Where it names one log, --key
    /// can be left out.
    #[arg(long, value_name = "FILE")]
    pub(crate) witness_policy: Option<PathBuf>,
    /// For a .tlog-proof or a receipt: the file with the entry that it is about, byte for byte.
    #[arg(long, value_name = "FILE")]
    pub(crate) entry: Option<PathBuf>,
    /// For a log or a pack: CA certificates in PEM that have to vouch for the services that signed events; left out: what their certificates say is
    /// taken as it is.
    #[arg(long, value_name = "FILE")]
    pub(crate) services_ca: Option<PathBuf>,
    /// The same for agents and enforcement points.
    #[arg(long, value_name = "FILE", requires = "services_ca")]
    pub(crate) workloads_ca: Option<PathBuf>,
    /// For an address: CA certificates that verify the server, in PEM.
    #[arg(long, env = "LEGATE_CA", hide_env_values = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// For an address: the SPIFFE trust domain; left out: that in the log's name.
    #[arg(long, env = "LEGATE_TRUST_DOMAIN", hide_env_values = true, value_name = "DOMAIN")]
    pub(crate) trust_domain: Option<String>,
}
