//! The verbs of credentials and tokens.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::registry::Limit;

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
        /// Ask as an agent, for one that it made (--agent agt_...): the directory that enrol wrote. Left out: as the operator.
        #[arg(long, value_name = "DIR", conflicts_with = "enforcement_point")]
        identity: Option<PathBuf>,
    },
    /// Make a key here and trade the token for its certificate. Needs no certificate of its own.
    Enrol {
        /// The one-time token; - reads it from standard input, so that it stands in no process list.
        #[arg(
            long,
            env = "LEGATE_ENROLMENT_TOKEN",
            hide_env_values = true,
            value_name = "TOKEN",
            required_unless_present = "identity_token_file"
        )]
        token: Option<String>,
        /// Instead: a file with a token of an issuer that the namespace trusts, such as a pod's projected service account token;
        /// - reads it from standard input.
        #[arg(long, value_name = "FILE", requires = "namespace")]
        identity_token_file: Option<PathBuf>,
        /// The namespace that trusts the issuer, and in which the agent is.
        #[arg(long, value_name = "NAMESPACE", requires = "identity_token_file")]
        namespace: Option<String>,
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
