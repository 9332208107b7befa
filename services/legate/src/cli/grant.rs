//! The verbs of delegation grants.

use std::path::PathBuf;

use clap::Subcommand;
use legate_wire::registry::Permission;

use super::registry::DeclaredVerb;

#[derive(Debug, Subcommand)]
pub(crate) enum GrantVerb {
    #[command(flatten)]
    Declared(DeclaredVerb),
    /// Let an agent act for somebody. A grant of that name that is in force is written anew, by an operator only.
    #[command(group = clap::ArgGroup::new("giver").required(true))]
    Create {
        /// NAMESPACE/NAME of the grant.
        name: String,
        /// As the operator: who lets it, user:NAME, or agent:NAME of the namespace.
        #[arg(long, group = "giver", value_name = "WHO")]
        from: Option<String>,
        /// As an agent, for itself: the directory that credential enrol wrote.
        #[arg(long, group = "giver", value_name = "DIR")]
        identity: Option<PathBuf>,
        /// The agent that acts, by name.
        #[arg(long, value_name = "AGENT")]
        to: String,
        /// What it may do, such as 'invoice:read on Invoice:apollo/*'; may be repeated.
        #[arg(long, required = true, value_name = "PERMISSION", value_parser = crate::manifest::permission)]
        allow: Vec<Permission>,
        /// Only towards this audience; may be repeated; left out: any.
        #[arg(long = "audience", value_name = "URI")]
        audiences: Vec<String>,
        /// What for, in a sentence.
        #[arg(long, value_name = "TEXT")]
        purpose: String,
        /// From now on for so long, such as 30d.
        #[arg(long = "for", value_name = "DURATION", value_parser = crate::manifest::duration)]
        span: prost_types::Duration,
        /// How many agents may follow, one acting for the other; left out: none.
        #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
        max_depth: u32,
        /// The grant that this one passes on a part of, by name.
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        parent: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// As an agent: list the grants that it made, and those by which it acts.
    Own {
        /// The agent's directory that credential enrol wrote.
        #[arg(long, value_name = "DIR")]
        identity: PathBuf,
    },
    /// As an agent: take back a grant that it made, and everything that was passed on of it.
    End {
        /// The agent's directory that credential enrol wrote.
        #[arg(long, value_name = "DIR")]
        identity: PathBuf,
        /// The grant's name.
        name: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Draw who acts for whom.
    Tree {
        /// The namespace.
        #[arg(long, value_name = "NAMESPACE")]
        namespace: String,
        /// Only what comes from this one: user:NAME or agent:NAME.
        #[arg(long, value_name = "WHO")]
        from: Option<String>,
    },
}
