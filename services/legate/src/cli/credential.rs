//! The verbs of credentials and tokens.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

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

/// Running copies of agents.
#[derive(Debug, Subcommand)]
pub(crate) enum InstanceVerb {
    /// Show one.
    Get {
        /// Its id, inst_...
        instance: String,
    },
    /// List instances, newest first.
    List(InstanceList),
    /// Take back everything that one copy of an agent holds; its other copies work on.
    Revoke {
        /// Its id, inst_...
        instance: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Why, in the words of RFC 5280.
        #[arg(long, value_enum, default_value = "unspecified")]
        cause: Cause,
    },
}

#[derive(Args, Debug)]
pub(crate) struct InstanceList {
    /// Only this agent's, NAMESPACE/NAME or agt_...
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// Only those of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Only those in these states; left out: in any.
    #[arg(long, value_enum, value_name = "STATE")]
    pub(crate) state: Vec<InstanceStanding>,
    #[command(flatten)]
    pub(crate) limit: Limit,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum InstanceStanding {
    Live,
    CutOff,
    Revoked,
    Ended,
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
    /// Exchange a token that was handed to an agent for one with which it acts for the holder. With -o name only the
    /// token is printed.
    Exchange {
        /// The acting agent's directory that credential enrol wrote.
        #[arg(long, value_name = "DIR")]
        identity: PathBuf,
        /// The token that was handed over, issued for the acting agent's SPIFFE ID; - reads it from standard input.
        #[arg(long, value_name = "TOKEN")]
        subject_token: String,
        /// Whom the new token is for: an audience of an enforcement point, or the SPIFFE ID of the next agent.
        #[arg(long, value_name = "URI")]
        audience: String,
        /// Narrow the token to these actions.
        #[arg(long, value_name = "ACTION")]
        scope: Vec<String>,
        /// How long it lives at most: 30s to 10m; left out: 5m.
        #[arg(long, value_name = "DURATION", value_parser = crate::manifest::duration)]
        ttl: Option<prost_types::Duration>,
        /// The delegation grant to act by, by name; left out: the first that fits.
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        grant: String,
    },
    /// Say whether a token works now, as its holder or as whoever it is for. Exit code 3: it does not.
    Introspect {
        /// The directory that credential enrol wrote, of the holder or of the enforcement point.
        #[arg(long, value_name = "DIR")]
        identity: PathBuf,
        /// The token; - reads it from standard input.
        #[arg(long, value_name = "TOKEN")]
        token: String,
    },
}
