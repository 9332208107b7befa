//! The verbs of agents as code: plan, apply and export.

use std::path::PathBuf;

use clap::Args;

use crate::place::Place;

/// What is wanted.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Manifests in YAML or JSON, or directories with *.yaml, *.yml and *.json in them; - is standard input.
    #[arg(short, long = "file", num_args = 1.., value_name = "FILE|DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Remove what carries the labels of --selector and is in no manifest, in every namespace that you may see, also where no
    /// manifest speaks of it any more. Namespaces stay. The labels have to be these manifests' own: agents that go are retired.
    #[arg(long, requires = "selector", requires = "files")]
    pub(crate) prune: bool,
    /// The labels of what belongs to these manifests, such as team=payments,stage=prod; all of them have to be there.
    #[arg(long, value_name = "KEY=VALUE,...", requires = "prune")]
    pub(crate) selector: Option<String>,
    /// Let --prune look in these namespaces only.
    #[arg(long, value_name = "NAMESPACE", requires = "prune")]
    pub(crate) within: Vec<String>,
    /// Let --prune remove operator bindings as well.
    #[arg(long, requires = "prune")]
    pub(crate) prune_operators: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// Exit with 2 when there is something to change.
    #[arg(long)]
    pub(crate) detailed_exitcode: bool,
    /// Write Markdown, for a comment on a pull request.
    #[arg(long)]
    pub(crate) markdown: bool,
    /// Keep the plan in this new file, for legate apply --plan.
    #[arg(long, value_name = "FILE", requires = "files")]
    pub(crate) out: Option<PathBuf>,
    /// Leave out what agents gain and lose, and the policy tests; policy-decision is not asked.
    #[arg(long)]
    pub(crate) objects_only: bool,
    /// Say as well which recorded decisions of so long, such as 24h, would flip.
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["objects_only", "markdown"])]
    pub(crate) simulate: Option<String>,
    /// Try it for so long, such as 10m and 1h at most, on every decision as it is made, and tell which would have been others. Nothing is decided by it.
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["objects_only", "markdown"])]
    pub(crate) shadow: Option<String>,
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["files", "plan"]))]
pub(crate) struct Apply {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) wanted: Wanted,
    /// Apply exactly what this plan holds, if nothing that it changes, removes or names was written since it was made.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prune", "base_revision"])]
    pub(crate) plan: Option<PathBuf>,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Write only if nothing that is changed, removed or named was written after this revision, at which the plan was made.
    #[arg(long, value_name = "REVISION")]
    pub(crate) base_revision: Option<u64>,
    /// Do not run the policy tests first; the record says so, and policy-decision is not asked.
    #[arg(long)]
    pub(crate) skip_tests: bool,
    /// Wait until policy-decision decides by what was written.
    #[arg(long)]
    pub(crate) wait: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Only what is in this namespace, and the namespace itself.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Only these kinds, such as Agent or RoleBinding; left out: all that manifests have.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Vec<String>,
    /// Only what carries all these labels.
    #[arg(long, value_name = "KEY=VALUE,...")]
    pub(crate) selector: Option<String>,
    /// Write one file for each object here: an empty directory, or none yet.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
}
