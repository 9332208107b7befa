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
    },
    /// Show what happens, as it happens, until interrupted.
    Tail {
        #[command(flatten)]
        filter: Filter,
    },
    /// Write events as JSON, one a line, newest first.
    Export {
        #[command(flatten)]
        filter: Filter,
        /// The file to write; left out: standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print the newest signed checkpoint. Keep it: a log that is cut or rewritten later does not match it.
    Checkpoint {
        #[command(flatten)]
        key: LogKey,
    },
    /// Obtain the proof that an event is in the log, and verify it here.
    Prove {
        /// The leaf's index, as audit query shows it.
        leaf: u64,
        #[command(flatten)]
        key: LogKey,
    },
}

/// The log's public key.
#[derive(Args, Debug)]
pub(crate) struct LogKey {
    /// The file with the log's verifier key; left out: log.pub in LEGATE_DIR.
    #[arg(long = "log-key", value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
}

/// Which events.
#[derive(Args, Clone, Debug)]
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
    /// With this credential.
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
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum EndedSo {
    Success,
    Denied,
    Failure,
}

#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The log: a directory, or an https:// address that serves its tiles.
    #[arg(value_name = "DIR|URL")]
    pub(crate) log: String,
    /// The file with the log's verifier key.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    /// A checkpoint that you kept from before: the log has to continue it.
    #[arg(long, value_name = "FILE")]
    pub(crate) checkpoint: Option<PathBuf>,
    /// For an address: CA certificates that verify the server, in PEM.
    #[arg(long, env = "LEGATE_CA", hide_env_values = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// For an address: the SPIFFE trust domain; left out: that in the log's name.
    #[arg(long, env = "LEGATE_TRUST_DOMAIN", hide_env_values = true, value_name = "DOMAIN")]
    pub(crate) trust_domain: Option<String>,
}
