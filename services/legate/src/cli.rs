//! The command line: nouns, verbs and flags, whose texts are the help, the man pages and the completions.

mod alert;
mod approval;
mod asking;
mod audit;
mod change;
mod checking;
mod credential;
mod custody;
mod dossier;
mod drift;
mod grant;
mod key;
mod lifecycle;
mod mcp;
mod person;
mod policy;
mod registry;
mod review;
mod search;
mod stop;
mod witness;
mod workload;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::output::Format;
use crate::place::Place;

pub(crate) use alert::{AlertVerb, Report};
pub(crate) use approval::{ApprovalVerb, Ask as AskApproval, Word as ApprovalWord};
pub(crate) use asking::{Explain, WhatCan, WhoCan};
pub(crate) use audit::{
    AuditVerb, EndedSo, EventExport, Evidence, ExportAs, Filter, LogKey, Per, ProvedSoFar, Receipts, Usage, UsedBy,
    Verify,
};
pub(crate) use change::{Apply, Export, Plan, Wanted};
pub(crate) use checking::Checking;
pub(crate) use credential::{
    Cause, ClientKey, ClientKind, CredentialHealth, CredentialKind, CredentialVerb, InstanceList, InstanceStanding,
    InstanceVerb, Issued, Rotation, TokenVerb,
};
pub(crate) use custody::{HoldSet, HoldVerb, SubjectVerb};
pub(crate) use dossier::{Dossier, Made as MadeSo, NamespaceReport};
pub(crate) use drift::{Drift, Finding as DriftKind};
pub(crate) use grant::{GrantVerb, PersonalToken, PersonalVerb, PersonalWish};
pub(crate) use key::{KeyVerb, Purpose, Rewrap};
pub(crate) use lifecycle::{LifecyclePreview, LifecycleVerb};
pub(crate) use mcp::{McpCheck, McpList, McpSchema, McpVerb};
pub(crate) use person::{Offboard, Owner, PersonVerb};
pub(crate) use policy::{
    PolicyAnalyze, PolicyDiff, PolicySchema, PolicyTests, PolicyValidate, PolicyVerb, Promote, Rewrite, Rollback,
};
#[cfg(test)]
pub(crate) use registry::Limit;
pub(crate) use registry::{AgentVerb, DeclaredVerb, StandingVerb, State, Turn};
pub(crate) use review::{
    Decide as ReviewDecide, Evidence as ReviewEvidence, ReviewVerb, Shape as ReviewShape, Which as ReviewWhich,
};
pub(crate) use search::{History, OfAgents, Search, When};
pub(crate) use stop::{Containment, Resume, Stop, Stops, Whom};
pub(crate) use witness::WitnessVerb;
pub(crate) use workload::Workload;

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
    /// Say what an apply would change, what agents would gain and lose, and how the policy tests end; change nothing.
    Plan(Plan),
    /// Write everything that manifests declare at one revision, or nothing.
    Apply(Apply),
    /// Write very many objects, one a line of a file, over one stream. Exit code 0: all of them, 1: some were refused.
    Import(Import),
    /// Print what is in force as the manifests that would declare it again.
    Export(Export),
    /// Agents and their life.
    Agent(Noun<AgentVerb>),
    /// Agent classes: templates with permissions and a ceiling.
    Class(Noun<StandingVerb>),
    /// Roles: sets of permissions.
    Role(Noun<DeclaredVerb>),
    /// Role bindings: which agents have a role, on what, and when.
    Binding(Noun<DeclaredVerb>),
    /// Cedar policies, their tests, and the way back to an earlier version.
    Policy(Noun<PolicyVerb>),
    /// Namespaces.
    Namespace(Noun<StandingVerb>),
    /// Enforcement points: backends, gateways and tool servers that ask.
    EnforcementPoint(Noun<DeclaredVerb>),
    /// Nodes: machines that vouch for the processes that run on them.
    Node(Noun<DeclaredVerb>),
    /// Groups: agents by list, or by what they are.
    Group(Noun<DeclaredVerb>),
    /// Boundaries: compliance limits that cut what agents may do, whatever they were granted.
    Boundary(Noun<DeclaredVerb>),
    /// Credential policies: how the agents of a class may obtain credentials.
    CredentialPolicy(Noun<DeclaredVerb>),
    /// Trusted issuers: clusters, CI systems and directories whose tokens are believed.
    Issuer(Noun<DeclaredVerb>),
    /// Attestation policies: what has to be attested of an agent's process.
    Attestation(Noun<DeclaredVerb>),
    /// Federated trust domains: others whose SVIDs agents can verify.
    Federation(Noun<DeclaredVerb>),
    /// Delegation grants: who lets which agent act for it.
    Grant(Noun<GrantVerb>),
    /// Policy tests: questions with the answers that they must have.
    PolicyTest(Noun<DeclaredVerb>),
    /// Lifecycle policies: when agents have to be confirmed, when they are stopped and retired, and what alerts do.
    LifecyclePolicy(Noun<LifecycleVerb>),
    /// Tools of MCP servers: mapped to actions, tried, and shown as an agent sees them.
    Mcp(Noun<McpVerb>),
    /// Operator bindings: which operators may do what, and where.
    Operator(Noun<DeclaredVerb>),
    /// What agents ask a person to approve, and what became of it.
    Approval(Noun<ApprovalVerb>),
    /// Access reviews: whether agents should keep what they have, decided by people, written and verified.
    Review(Box<Noun<ReviewVerb>>),
    /// Persons who leave, and what becomes of the agents that they answer for.
    Person(Noun<PersonVerb>),
    /// What agents, enforcement points and nodes hold.
    Credential(Noun<CredentialVerb>),
    /// Running copies of agents: who enrolled, and an end to one of them.
    Instance(Noun<InstanceVerb>),
    /// Stop agents, one of them or all: says whom it touches, stops them by one write, and waits until every service has heard of it.
    /// Exit code 0: nobody acts by what came before, 3: somebody still can.
    Stop(Stop),
    /// Take a stop back. Each agent is as it was before; runtimes enrol again.
    Resume(Resume),
    /// List the stops that stand.
    Stops(Stops),
    /// Say which services answer by a revision of the registry, and until when the others can act by what they hold. Exit code 0:
    /// nobody acts by what came before, 3: somebody still can.
    Containment(Containment),
    /// Access tokens.
    Token(Noun<TokenVerb>),
    /// The keys and CAs that credential-issuer signs with.
    Key(Noun<KeyVerb>),
    /// Ask whether an agent may do something, and why. Exit code 0: allow, 3: deny.
    Check(Checking),
    /// Say why it is decided so, now or as of the past: every step, who wrote what it rests on, and what single thing is missing.
    /// Exit code 0: allow, 3: deny.
    Explain(Explain),
    /// Say which agents may do something, and what that depends on.
    WhoCan(WhoCan),
    /// Say what an agent may do by itself, and what that depends on.
    WhatCan(WhatCan),
    /// Say what agents were given and do not need, by what they used; and write a manifest that gives less.
    Drift(Drift),
    /// Write what there is to say about an agent as of a moment, with the events that made it so, into one file: HTML for people, JSON
    /// for machines, proofs; anybody verifies it offline who has the log's public key (legate verify).
    Dossier(Box<Dossier>),
    /// Write what there is to show of a namespace as of a moment, held against what laws and standards ask for, into one such file.
    Report(Box<NamespaceReport>),
    /// Persons whose names are erased from the audit log.
    Subject(Noun<SubjectVerb>),
    /// Legal holds: what of the audit log may not be erased.
    Hold(Box<Noun<HoldVerb>>),
    /// The audit log.
    Audit(Box<Noun<AuditVerb>>),
    /// What in the audit log does not fit together: actions without a decision, revoked credentials, gaps, and more.
    Alert(Noun<AlertVerb>),
    /// Verify a whole log offline: needs only its public key. Exit code 6 when something is wrong.
    Verify(Verify),
    /// A node helper: processes of this machine obtain their identities on a unix socket (SPIFFE Workload API, Envoy SDS), by being what
    /// they are; docs/workload-api.md.
    Workload(Box<Workload>),
    /// A witness of one's own: it cosigns checkpoints of logs, so that these cannot show two histories.
    Witness {
        #[command(subcommand)]
        verb: WitnessVerb,
    },
    /// Log in as an operator with a token of an identity provider that credential-issuer knows: a pipeline's, or your own.
    Login(Login),
    /// Say who your certificate says you are, and which roles you have.
    Whoami(Whoami),
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
    /// Serve agents by SCIM too (draft-wzdk-scim-agent-resource-00), on the first port + 11; docs/scim.md.
    #[arg(long)]
    pub(crate) scim: bool,
    /// Have checkpoints of the log cosigned by the witnesses of this policy (C2SP tlog-policy); docs/witnesses.md.
    #[arg(long, value_name = "FILE")]
    pub(crate) witness_policy: Option<PathBuf>,
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
pub(crate) struct Import {
    #[command(flatten)]
    pub(crate) place: Place,
    /// One object a line, as a manifest's document in JSON; - is standard input.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Write all of them at one revision, or nothing: 25,000 and 16 MiB at most. Left out: each for itself.
    #[arg(long)]
    pub(crate) all_or_nothing: bool,
    /// Say line by line what would be new, what is known, what differs and what would be refused, and write nothing.
    #[arg(long, conflicts_with_all = ["all_or_nothing", "request_id"])]
    pub(crate) dry_run: bool,
    /// Exit with 2 when there is something to write.
    #[arg(long, requires = "dry_run")]
    pub(crate) detailed_exitcode: bool,
    /// A line holds an agent's metadata and spec alone.
    #[arg(long)]
    pub(crate) agents: bool,
    /// The lines are agents that were found elsewhere (as --agents): each waits until somebody answers for it (legate agent
    /// adopt), whatever its class says.
    #[arg(long)]
    pub(crate) discovered: bool,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub(crate) reason: String,
    /// Makes a repetition of the same file harmless for 24 h: 1 to 48 of A-Z a-z 0-9 - _ . :
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub(crate) request_id: String,
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
    /// For whom it acts, user:NAME or agent:NAME, by the delegation grants that are in force.
    #[arg(long, value_name = "WHO")]
    pub(crate) on_behalf_of: Option<String>,
    /// The delegation grant by which it acts, by name; left out: any.
    #[arg(long, value_name = "NAME", requires = "on_behalf_of", default_value = "", hide_default_value = true)]
    pub(crate) grant: String,
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

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("source").required(true))]
pub(crate) struct Login {
    #[command(flatten)]
    pub(crate) place: Place,
    /// A file with the provider's token; - reads it from standard input.
    #[arg(long, group = "source", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The environment variable that holds it.
    #[arg(long, group = "source", value_name = "NAME")]
    pub(crate) token_env: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Whoami {
    #[command(flatten)]
    pub(crate) place: Place,
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
            "legate plan -f dir --prune --selector team=pay",
            "legate apply --plan plan.json --reason x",
            "legate policy test -f a.yaml",
            "legate policy test n/t n/u -f a.yaml",
            "legate policy get n/a",
            "legate policy diff n/a@3 new.yaml --detailed-exitcode",
            "legate policy rollback n/a --to 3 --reason x --dry-run",
            "legate policy shadow n",
            "legate policy promote n/a --reason x --wait",
            "legate policy rollback n/a --to-revision 12 --reason x --wait",
            "legate subject erase user:a",
            "legate subject erase user:a --yes --reason x",
            "legate hold set --namespace n --since 7d --reason x",
            "legate hold list",
            "legate hold release hold_1 --reason x",
            "legate mcp schema --from - --server s --namespace n",
            "legate mcp schema --from l.json --keep m.yaml",
            "legate mcp check -f m.yaml --tool t --args {} --agent n/a",
            "legate mcp list -f m.yaml --agent a --from l.json",
            "legate verify DIR --key log.pub",
            "legate verify DIR --witness-policy policy",
            "legate witness key --name w.example/1 --dir d",
            "legate witness serve --dir d --log a+b+c@o --log d --listen 127.0.0.1:0",
            "legate audit evidence --out p --cosigned",
            "legate login --token-file -",
            "legate login --token-env ID_TOKEN --issuer https://a:1",
            "legate credential enrol --identity-token-file f --namespace n --out d",
            "legate class suspend n/c --reason x",
            "legate namespace resume n --reason x --etag e",
            "legate class list --namespace n",
            "legate agent spawned --identity d",
            "legate agent instances n/a --state live --state cut-off",
            "legate instance list --namespace n --limit 3",
            "legate instance revoke inst_1 --reason x --cause key-compromise",
            "legate agent end-spawned agt_1 --identity d --reason x",
            "legate agent hand-over n/a --owner user:a --sponsor user:b --reason x",
            "legate agent owner n/a",
            "legate agent owner n/a --add user:a --remove-sponsor user:b --manager= --reason x",
            "legate person offboard user:a --everywhere --dry-run",
            "legate person offboard user:a --namespace n --successor user:b --grace 0s --operator a --reason x",
            "legate person list --with-withdrawn",
            "legate person withdraw user:a --everywhere --reason x",
            "legate key list --purpose workloads-ca --with-ended --limit 3",
            "legate key rotate access-token --now --reason x",
            "legate key rotate access-token --compromised --reason x",
            "legate key retire kid --compromised --reason x",
            "legate key rewrap --kek f --dir d --drop-old",
            "legate check --agent n/a --action x --resource T:1 --on-behalf-of user:ada --grant g",
            "legate check --stream",
            "legate check --stream --identity d --policy https://h:1",
            "legate explain --agent n/a --action x --resource T:1 --as-of 12",
            "legate explain --agent n/a --action x --resource T:1 --as-of 7d --at-time 8d -o wide",
            "legate who-can --action x --resource T:1 --on-behalf-of user:ada --namespace n",
            "legate what-can --agent n/a --if-active --with-never --as-of 12",
            "legate dossier --agent n/a -f out.tar",
            "legate dossier --agent agt_1 --as-of 12 -f out.tar --cosigned --log-key log.pub",
            "legate report --namespace n --as-of 2026-11-24T08:00:00Z -f out.tar",
            "legate plan -f a.yaml --simulate 24h",
            "legate grant get n/g",
            "legate grant tree --namespace n",
            "legate stop --agent n/a --reason x",
            "legate stop --class n/c --dry-run",
            "legate stop --group n/g --reason x --yes --wait 2s",
            "legate stop --owner user:a --reason x",
            "legate stop --owner user:a --namespace n --reason x",
            "legate stop --namespace n --reason x",
            "legate stop --all --reason x --break-glass INC-1",
            "legate resume --all --reason x",
            "legate stops --namespace n --with-resumed",
            "legate containment --revision 12 --wait 1s",
            "legate review campaign get n/c",
            "legate review start n/c --reason x",
            "legate review list --open --namespace n",
            "legate review list --unverified",
            "legate review show rvw_1 --pending --own --unused --since 30d --limit 3",
            "legate review decide rvw_1 rvi_1 rvi_2 --decision certify --reason x",
            "legate review decide rvw_1 rvi_1 --decision reduce --keep a:b#on#T:* --reason x --etag 1",
            "legate review decide rvw_1 --all-unused --decision revoke --dry-run",
            "legate review decide rvw_1 --agent n/a --thing class --decision reassign --to user:a --yes --reason x",
            "legate review close rvw_1 --dry-run",
            "legate review close rvw_1 --reason x --wait 5s",
            "legate review verify rvw_1",
            "legate review export rvw_1 --as csv --out f",
        ] {
            // A permission holds spaces.
            let words: Vec<String> = line.split(' ').map(|word| word.replace('#', " ")).collect();
            assert!(Cli::try_parse_from(words).is_ok(), "{line}");
        }
        for line in [
            "legate dossier --agent n/a",
            "legate dossier --namespace n -f out.tar",
            "legate report -f out.tar",
            "legate agent suspend n/a",
            "legate stop --reason x",
            "legate stop --all",
            "legate stop --all --namespace n --reason x",
            "legate stop --agent n/a --class n/c --reason x",
            "legate stop --class n/c --namespace n --reason x",
            "legate stop --all --reason x --dry-run --yes",
            "legate resume --reason x",
            "legate resume --class n/c",
            "legate class suspend n/c",
            "legate agent hand-over n/a --owner user:a --reason x",
            "legate agent spawn b --identity d --purpose x --ttl 10m --allow invoice:read",
            "legate role suspend n/r --reason x",
            "legate role rollback n/r --to 1 --reason x",
            "legate policy diff n/a",
            "legate policy rollback n/a --reason x",
            "legate policy promote n/a",
            "legate policy shadow",
            "legate policy rollback n/a --to 0 --reason x",
            "legate policy rollback n/a --to 3",
            "legate policy rollback n/a --to 3 --to-revision 12 --reason x",
            "legate person offboard user:a --reason x",
            "legate person offboard user:a --everywhere",
            "legate person offboard user:a --everywhere --namespace n --reason x",
            "legate person withdraw user:a --reason x",
            "legate check --agent n/a --action x --resource T:1 --grant g",
            "legate grant create n/g --from user:a --to b --purpose x --for 30d --reason x",
            "legate key rotate access-token",
            "legate key rotate access-token --now --compromised --reason x",
            "legate key prepare nothing --reason x",
            "legate instance revoke inst_1",
            "legate check --action a --resource T:1",
            "legate check --stream --agent n/a",
            "legate check --stream --token t --identity d",
            "legate check --agent n/a --resource T:1",
            "legate credential create --reason x",
            "legate login",
            "legate login --token-file f --token-env E",
            "legate credential enrol --out d",
            "legate credential enrol --identity-token-file f --out d",
            "legate credential enrol --token t --namespace n --out d",
            "legate plan -f dir --prune",
            "legate plan -f dir --selector team=pay",
            "legate apply --reason x",
            "legate apply --plan plan.json -f dir --reason x",
            "legate apply --plan plan.json --prune --selector a=b --reason x",
            "legate review start n/c",
            "legate review decide rvw_1 rvi_1 --reason x",
            "legate review decide rvw_1 rvi_1 --decision certify",
            "legate review decide rvw_1 rvi_1 --all-unused --decision revoke --reason x",
            "legate review decide rvw_1 --own --decision revoke --reason x --dry-run --yes",
            "legate review close rvw_1",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
