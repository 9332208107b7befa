//! The verbs of delegation grants.

use std::path::PathBuf;

use clap::{Args, Subcommand};
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
    /// As a person, by a token of an issuer that the namespace trusts: make, see and take back what agents may do for you.
    AsPerson {
        #[command(subcommand)]
        verb: PersonalVerb,
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

#[derive(Debug, Subcommand)]
pub(crate) enum PersonalVerb {
    /// Print what a grant says in words, and the nonce that binds a token to it; nothing is sent.
    Consent {
        /// NAMESPACE/NAME of the grant.
        name: String,
        /// Who you are, user:NAME, as your issuer names you.
        #[arg(long, value_name = "PERSON")]
        person: String,
        #[command(flatten)]
        wish: PersonalWish,
    },
    /// Let an agent act for you.
    Create {
        /// NAMESPACE/NAME of the grant.
        name: String,
        #[command(flatten)]
        wish: PersonalWish,
        #[command(flatten)]
        token: PersonalToken,
    },
    /// List the grants by which agents may act for you.
    List {
        /// The namespace.
        #[arg(long, value_name = "NAMESPACE")]
        namespace: String,
        #[command(flatten)]
        token: PersonalToken,
    },
    /// Show one of them, who acts behind it, and which events of the audit log tell what was done by it.
    Show {
        /// NAMESPACE/NAME of the grant.
        name: String,
        #[command(flatten)]
        token: PersonalToken,
    },
    /// Take one of them back at once, whoever made it, and everything that was passed on of it.
    Revoke {
        /// NAMESPACE/NAME of the grant.
        name: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        token: PersonalToken,
    },
}

/// What an agent may do for a person.
#[derive(Args, Clone, Debug)]
pub(crate) struct PersonalWish {
    /// The agent that acts, by name.
    #[arg(long, value_name = "AGENT")]
    pub(crate) to: String,
    /// What it may do, such as 'invoice:read on Invoice:apollo/*'; may be repeated.
    #[arg(long, required = true, value_name = "PERMISSION", value_parser = crate::manifest::permission)]
    pub(crate) allow: Vec<Permission>,
    /// Only towards this audience; may be repeated; left out: any.
    #[arg(long = "audience", value_name = "URI")]
    pub(crate) audiences: Vec<String>,
    /// What for, in a sentence.
    #[arg(long, value_name = "TEXT")]
    pub(crate) purpose: String,
    /// From now on for so long, such as 30d.
    #[arg(long = "for", value_name = "DURATION", value_parser = crate::manifest::duration)]
    pub(crate) span: prost_types::Duration,
    /// How many agents may follow, one acting for the other; left out: none.
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    pub(crate) max_depth: u32,
}

/// The token of a person.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct PersonalToken {
    /// The file that holds your token; -: standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The environment variable that holds it.
    #[arg(long, value_name = "NAME")]
    pub(crate) token_env: Option<String>,
}
