//! The verbs of lifecycle policies: what is declared, and what it would do.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::registry::{DeclaredVerb, Limit};

#[derive(Debug, Subcommand)]
pub(crate) enum LifecycleVerb {
    #[command(flatten)]
    Declared(DeclaredVerb),
    /// Say which agents something would become of, by which rule and when, if nobody does anything; change nothing.
    Preview(LifecyclePreview),
}

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whose").required(true).args(["name", "files", "namespace"]))]
#[command(group = clap::ArgGroup::new("until").args(["as_of", "within"]))]
pub(crate) struct LifecyclePreview {
    /// NAMESPACE/NAME of a policy that is declared.
    pub(crate) name: Option<String>,
    /// Manifests with one lifecycle policy in them, as if it were declared now.
    #[arg(short, long = "file", num_args = 1.., value_name = "FILE|DIR")]
    pub(crate) files: Vec<PathBuf>,
    /// Every policy of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// What will have been done at this moment, such as 2027-01-31T00:00:00Z; left out: at the end of the policy's grace from now.
    #[arg(long, value_name = "TIME")]
    pub(crate) as_of: Option<String>,
    /// What will have been done after so long, such as 30d.
    #[arg(long, value_name = "DURATION")]
    pub(crate) within: Option<String>,
    #[command(flatten)]
    pub(crate) limit: Limit,
}
