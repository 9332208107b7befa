//! The verbs of policies: their tests, two of them compared, and the way back to an earlier version.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::registry::DeclaredVerb;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    #[command(flatten)]
    Declared(DeclaredVerb),
    /// Run the policy tests on what is in force, or on what it would be with manifests. Exit code 1 when one fails.
    Test(PolicyTests),
    /// Compare two texts of a policy: line by line, and by which permissions agents would gain and lose.
    Diff(PolicyDiff),
    /// Write an earlier version of a policy as a new one, once it was said what that changes and the policy tests pass.
    Rollback(Rollback),
    /// Say which decisions policies in LOG_ONLY would have turned round, as one policy-decision counted them since it started.
    Shadow {
        /// NAMESPACE/NAME of one policy, or the name of a namespace for all of its policies.
        name: String,
    },
    /// Print what policies can speak of, as a Cedar schema: what Legate gives, and what a namespace declares of what callers state.
    Schema(PolicySchema),
    /// Say which policies do not fit what there is. Exit code 1 when one does not.
    Validate(PolicyValidate),
    /// Prove, over every request that could be made, what one set of policies permits and another does not; asks the solver cvc5.
    Analyze(PolicyAnalyze),
    /// Let a policy in LOG_ONLY decide (ENFORCE), once it was said what that changes and the policy tests pass.
    Promote(Promote),
}

#[derive(Args, Debug)]
pub(crate) struct PolicyTests {
    /// Only these policy tests, NAMESPACE/NAME; left out: all of the namespaces that are spoken of.
    #[arg(value_name = "TEST")]
    pub(crate) names: Vec<String>,
    /// Manifests in YAML or JSON, or directories of them: tests, or anything else that would be declared.
    #[arg(short, long = "file", num_args = 1.., value_name = "FILE|DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Only the tests of this namespace; left out: of those that the manifests speak of, or of all.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct PolicyDiff {
    /// NAMESPACE/NAME as it is in force, NAMESPACE/NAME@VERSION as it was, or a file with one policy in it (./FILE where it has no ending).
    pub(crate) old: String,
    /// What it is compared with, in the same three ways.
    pub(crate) new: String,
    /// Exit with 2 when they differ.
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
    /// Compare the texts alone; policy-decision is not asked.
    #[arg(long)]
    pub(crate) text_only: bool,
}

#[derive(Args, Debug)]
pub(crate) struct PolicySchema {
    /// The namespace; left out: what Legate gives alone, or that of the manifests.
    pub(crate) namespace: Option<String>,
    /// Manifests with the namespace and its policies, in place of those in force.
    #[arg(short, long = "file", num_args = 1.., value_name = "FILE|DIR")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct PolicyValidate {
    /// The namespaces whose policies in force are looked at; left out: all, or those of the manifests.
    #[arg(value_name = "NAMESPACE", conflicts_with = "files")]
    pub(crate) namespaces: Vec<String>,
    /// Manifests, in place of what is in force; no service is asked.
    #[arg(short, long = "file", num_args = 1.., value_name = "FILE|DIR")]
    pub(crate) files: Vec<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct PolicyAnalyze {
    /// The policies as they were: a directory or file of manifests, or active for those in force.
    #[arg(long, value_name = "DIR|active")]
    pub(crate) from: PathBuf,
    /// The policies as they would be, in the same ways.
    #[arg(long, value_name = "DIR|active")]
    pub(crate) to: PathBuf,
    /// Take the policies of --to beside those of --from, in place of those of the same names; left out: they are all that there would be.
    #[arg(long)]
    pub(crate) merge: bool,
    /// Only this namespace; left out: every one that either side has policies of.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// The solver, cvc5.
    #[arg(long, value_name = "PROGRAM", env = "LEGATE_CVC5", default_value = "cvc5")]
    pub(crate) solver: PathBuf,
    /// The longest that the solver may take for one question, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub(crate) each: u64,
    /// The longest that it may take for all, in seconds; what is not found out by then is told as unknown.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) timeout: u64,
    /// Exit with 2 when something is permitted on one side alone.
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("where").required(true).args(["to", "to_revision"]))]
pub(crate) struct Rollback {
    /// NAMESPACE/NAME of a policy that is in force.
    pub(crate) name: String,
    /// The version to go back to, as legate policy history tells it.
    #[arg(long, value_name = "VERSION", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) to: Option<u32>,
    /// Go back to what was in force under this name at a revision of the registry.
    #[arg(long, value_name = "REVISION")]
    pub(crate) to_revision: Option<u64>,
    #[command(flatten)]
    pub(crate) how: Rewrite,
}

#[derive(Args, Debug)]
pub(crate) struct Promote {
    /// NAMESPACE/NAME of a policy that is in LOG_ONLY.
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) how: Rewrite,
}

/// How a policy is written again.
#[derive(Args, Debug)]
pub(crate) struct Rewrite {
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Say what it would do, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not let a policy test that fails stop it; the record says so.
    #[arg(long)]
    pub(crate) skip_tests: bool,
    /// Wait until policy-decision decides by what was written.
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) wait: bool,
}
