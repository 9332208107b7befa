//! The command line: nouns, verbs and flags. Its texts are the help, the man pages and the completions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::output::Format;
use crate::place::Place;

/// Identity, authority and record for AI agents.
///
/// Which agents exist? Who owns them? What can they do? Why? What have they done? How do I stop them?
///
/// Exit codes: 0 done or allowed, 1 usage or local error, 2 plan has changes (with --detailed-exitcode), 3 denied,
/// 4 conflict, 5 unavailable, 6 verification failed.
#[derive(Debug, Parser)]
#[command(name = "legate", version, propagate_version = true, arg_required_else_help = true, max_term_width = 110)]
pub(crate) struct Cli {
    /// How the answer is written; left out: table on a terminal, json elsewhere.
    #[arg(short, long, global = true, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
    /// Print each gRPC call and its request on standard error; secrets are hidden.
    #[arg(long, global = true)]
    pub(crate) show_request: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Raise the suite, walk the main journey on real mutual TLS and tell what it sees.
    Demo(Demo),
    /// Raise all four services in one process for development: loopback only, throw-away CAs, still mutual TLS.
    Dev(Dev),
    /// Run one service from its configuration file.
    Serve(Serve),
    /// Say what an apply would change, and change nothing.
    Plan(Plan),
    /// Write everything that manifests declare at one revision, or nothing.
    Apply(Apply),
    /// Agents and their life.
    Agent(Noun<AgentVerb>),
    /// Agent classes: templates with permissions and a ceiling.
    Class(Noun<DeclaredVerb>),
    /// Roles: sets of permissions.
    Role(Noun<DeclaredVerb>),
    /// Role bindings: which agents have a role, on what, and when.
    Binding(Noun<DeclaredVerb>),
    /// Cedar policies.
    Policy(Noun<DeclaredVerb>),
    /// Namespaces.
    Namespace(Noun<DeclaredVerb>),
    /// Enforcement points: backends, gateways and tool servers that ask.
    EnforcementPoint(Noun<DeclaredVerb>),
    /// What agents and enforcement points hold.
    Credential(Noun<CredentialVerb>),
    /// Access tokens.
    Token(Noun<TokenVerb>),
    /// Ask whether an agent may do something, and why. Exit code 0: allow, 3: deny.
    Check(Check),
    /// The audit log.
    Audit(Noun<AuditVerb>),
    /// Verify a whole log offline: needs only its public key. Exit code 6 when something is wrong.
    Verify(Verify),
    /// Look at files, certificates, services and the log, and say what is not as it should be.
    Doctor(Doctor),
    /// Print the JSON Schema of manifests, for editors.
    Schema,
    /// Print shell completions.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the man page, or write those of all commands into a directory.
    Man {
        /// Write one page for each command here.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// A noun, its verb, and where to ask.
#[derive(Args, Debug)]
pub(crate) struct Noun<V: Subcommand> {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(subcommand)]
    pub(crate) verb: V,
}

#[derive(Args, Debug)]
pub(crate) struct Demo {
    /// Leave the suite up at the end, to try things by hand.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Where to keep everything: an empty directory, or none yet; left out: a temporary one, removed at the end.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct Dev {
    /// Where everything is kept; an empty directory, or one that legate dev made. Data survives a restart.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// The first of the ports; 0: free ones, to be read from DIR/env.
    #[arg(long, default_value_t = 7_100, value_parser = clap::value_parser!(u16).range(0..=65_435))]
    pub(crate) port_base: u16,
    /// The operator's name in DIR/operator.pem.
    #[arg(long, default_value = "dev", value_name = "NAME")]
    pub(crate) operator: String,
}

#[derive(Args, Debug)]
pub(crate) struct Serve {
    /// Which service.
    #[arg(value_parser = ["registry", "credential-issuer", "policy-decision", "audit-collector"])]
    pub(crate) service: String,
    /// Its configuration file, in TOML.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Manifests, in YAML or JSON; - is standard input.
    #[arg(short, long = "file", required = true, num_args = 1.., value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Exit with 2 when there is something to change.
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Manifests, in YAML or JSON; - is standard input.
    #[arg(short, long = "file", required = true, num_args = 1.., value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Write only if the registry is still at the revision that the plan was made at.
    #[arg(long, value_name = "REVISION")]
    pub(crate) base_revision: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AgentVerb {
    /// Show one agent: who answers for it, where it stands.
    Get {
        /// NAMESPACE/NAME, or the id agt_...
        agent: String,
    },
    /// List agents.
    List {
        /// Only those of this namespace.
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        /// Only those in these states; left out: all but retired ones.
        #[arg(long, value_enum, value_name = "STATE")]
        state: Vec<State>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Approve an agent that waits for approval.
    Approve(Step),
    /// Switch an approved agent on.
    Activate(Step),
    /// Stop an agent at once; nothing that it holds ever works again.
    Suspend(Step),
    /// Let a suspended or expired agent work again; it needs new credentials.
    Resume(Step),
    /// Stop an agent and keep it for forensics.
    Quarantine(Step),
    /// End a quarantine; the agent is then suspended.
    Release(Step),
    /// End an agent for ever; its record stays.
    Retire(Step),
    /// Kill everything that was issued to an agent and leave it active; its runtime has to enrol again.
    RevokeCredentials(Step),
}

/// A step in an agent's life.
#[derive(Args, Debug)]
pub(crate) struct Step {
    /// NAMESPACE/NAME, or the id agt_...
    pub(crate) agent: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Only if the agent has not been written since this etag was read.
    #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
    pub(crate) etag: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum State {
    PendingApproval,
    Staged,
    Active,
    Suspended,
    Quarantined,
    Expired,
    Retired,
}

/// How much of a list.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Limit {
    /// So many at most; 0: all of them.
    #[arg(long, default_value_t = 1_000, value_name = "NUMBER")]
    pub(crate) limit: usize,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeclaredVerb {
    /// Show one.
    Get {
        /// NAMESPACE/NAME; of a namespace only its name.
        name: String,
    },
    /// List them.
    List {
        /// Only those of this namespace.
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Take one back.
    Revoke {
        /// NAMESPACE/NAME; of a namespace only its name.
        name: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Only if it has not been written since this etag was read.
        #[arg(long, value_name = "ETAG", default_value = "", hide_default_value = true)]
        etag: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum CredentialVerb {
    /// Make a token with which one runtime can enrol once. With -o name only the token is printed.
    #[command(group = clap::ArgGroup::new("holder").required(true))]
    Create {
        /// Whose runtime may enrol: an agent, NAMESPACE/NAME or agt_...
        #[arg(long, group = "holder", value_name = "AGENT")]
        agent: Option<String>,
        /// The same for an enforcement point, NAMESPACE/NAME.
        #[arg(long, group = "holder", value_name = "POINT")]
        enforcement_point: Option<String>,
        /// How long the token can be used: 1m to 24h; left out: 1h.
        #[arg(long, value_name = "DURATION", value_parser = crate::manifest::duration)]
        ttl: Option<prost_types::Duration>,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Make a key here and trade the token for its certificate. Needs no certificate of its own.
    Enrol {
        /// The one-time token; - reads it from standard input, so that it stands in no process list.
        #[arg(long, env = "LEGATE_ENROLMENT_TOKEN", hide_env_values = true, value_name = "TOKEN")]
        token: String,
        /// A new directory for the identity.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// Renew an identity's certificate, with a new key.
    Renew {
        /// The directory that enrol wrote.
        #[arg(long, value_name = "DIR")]
        identity: PathBuf,
    },
    /// List credentials, newest first.
    List {
        /// Only this agent's, NAMESPACE/NAME or agt_...
        #[arg(long, value_name = "AGENT")]
        agent: Option<String>,
        /// Only those of this namespace.
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Take one credential back.
    Revoke {
        /// Its id, cred_...
        credential: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Why, in the words of RFC 5280.
        #[arg(long, value_enum, default_value = "unspecified")]
        cause: Cause,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Cause {
    Unspecified,
    KeyCompromise,
    AffiliationChanged,
    Superseded,
    CessationOfOperation,
    PrivilegeWithdrawn,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenVerb {
    /// Obtain an access token as an agent. With -o name only the token is printed.
    Issue {
        /// The directory that credential enrol wrote.
        #[arg(long, value_name = "DIR")]
        identity: PathBuf,
        /// Whom the token is for: an audience of an enforcement point.
        #[arg(long, value_name = "URI")]
        audience: String,
        /// Narrow the token to these actions.
        #[arg(long, value_name = "ACTION")]
        scope: Vec<String>,
        /// How long it lives: 30s to 10m; left out: 5m.
        #[arg(long, value_name = "DURATION", value_parser = crate::manifest::duration)]
        ttl: Option<prost_types::Duration>,
    },
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("subject").required(true))]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Who wants to act: an agent, NAMESPACE/NAME or agt_...
    #[arg(long, group = "subject", value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// The same by its access token, as a backend sees it (with --identity); - reads it from standard input.
    #[arg(long, group = "subject", value_name = "TOKEN", requires = "identity")]
    pub(crate) token: Option<String>,
    /// The certificate over which the token was shown, in PEM: the holder's identity.pem.
    #[arg(long, value_name = "FILE", requires = "token")]
    pub(crate) presenter: Option<PathBuf>,
    /// What it wants to do, such as invoice:read.
    #[arg(long)]
    pub(crate) action: String,
    /// What it wants to do it to, TYPE:ID.
    #[arg(long, value_name = "TYPE:ID")]
    pub(crate) resource: String,
    /// Attributes of the resource, as a JSON object.
    #[arg(long, value_name = "JSON")]
    pub(crate) attributes: Option<String>,
    /// More about the request, as a JSON object: context in Cedar.
    #[arg(long, value_name = "JSON")]
    pub(crate) context: Option<String>,
    /// Decide at this revision of the registry or a later one.
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    pub(crate) at_least_revision: u64,
    /// Ask as an enforcement point: the directory that credential enrol wrote. Left out: as the operator.
    #[arg(long, value_name = "DIR")]
    pub(crate) identity: Option<PathBuf>,
}

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

#[derive(Args, Debug)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) place: Place,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_of_the_place_stand_before_and_behind_the_verb() {
        for line in [
            "legate agent --registry https://a:1 get n/a",
            "legate agent get n/a --registry https://a:1 -o json --show-request",
            "legate -o name credential create --agent n/a --reason x",
            "legate plan -f a.yaml b.yaml",
            "legate verify DIR --key log.pub",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "legate agent suspend n/a",
            "legate check --action a --resource T:1",
            "legate credential create --reason x",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
