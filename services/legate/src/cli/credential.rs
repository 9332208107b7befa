//! The verbs of credentials and tokens.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::registry::Limit;

#[derive(Debug, Subcommand)]
pub(crate) enum CredentialVerb {
    /// Make what a runtime proves itself with: a token to enrol with once, a client secret, or a registered client key. With
    /// -o name only the token or secret is printed.
    #[command(group = clap::ArgGroup::new("holder").required(true))]
    Create {
        /// Whose runtime may enrol: an agent, NAMESPACE/NAME or agt_...
        #[arg(long, group = "holder", value_name = "AGENT")]
        agent: Option<String>,
        /// The same for an enforcement point, NAMESPACE/NAME.
        #[arg(long, group = "holder", value_name = "POINT")]
        enforcement_point: Option<String>,
        /// The same for a node, NAMESPACE/NAME.
        #[arg(long, group = "holder", value_name = "NODE")]
        node: Option<String>,
        /// What to make. Secrets and keys are for OAuth clients, and for agents only.
        #[arg(long = "type", value_enum, default_value = "enrolment", value_name = "TYPE")]
        kind: CredentialKind,
        #[command(flatten)]
        key: ClientKey,
        /// How long it can be used. A token: 1m to 24h; left out: 1h. A secret or key: 1h to what the credential policy
        /// allows; left out: that.
        #[arg(long, value_name = "DURATION", value_parser = crate::manifest::duration)]
        ttl: Option<prost_types::Duration>,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Ask as an agent, for one that it made (--agent agt_...): the directory that enrol wrote. Left out: as the operator.
        #[arg(long, value_name = "DIR", conflicts_with_all = ["enforcement_point", "node"])]
        identity: Option<PathBuf>,
    },
    /// Replace an agent's client secret, or client key. The old one ends after the overlap of the credential policy, or at
    /// once where it has none.
    Rotate {
        /// The agent, NAMESPACE/NAME or agt_...
        #[arg(long, value_name = "AGENT")]
        agent: String,
        /// What to replace.
        #[arg(long = "type", value_enum, value_name = "TYPE")]
        kind: ClientKind,
        #[command(flatten)]
        key: ClientKey,
        /// How long the new one works: 1h to what the credential policy allows; left out: that.
        #[arg(long, value_name = "DURATION", value_parser = crate::manifest::duration)]
        ttl: Option<prost_types::Duration>,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
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
    /// List how credentials are rotated, those first that end first, and count them.
    Health(CredentialHealth),
    /// Say whose it is what was found in a repository, a log or a message: client secrets, enrolment tokens, access tokens,
    /// certificates and private keys; and whether it works. Exit code 6: something does. A private key does not leave this
    /// process, only its public half.
    Find {
        /// The file in which it was found, 4 MiB at most; - reads standard input. Never give a secret on a command line.
        #[arg(long, value_name = "FILE")]
        leaked: PathBuf,
        /// Revoke what is found.
        #[arg(long, requires = "reason")]
        revoke: bool,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT", requires = "revoke")]
        reason: Option<String>,
    },
    /// Take one credential back, or everything that was issued so far to a class, a namespace or an owner's agents, or on
    /// behalf of a person (of one agent: agent revoke-credentials). Nobody is stopped: whoever is touched enrols again.
    #[command(group = clap::ArgGroup::new("whose").required(true).multiple(true))]
    Revoke {
        /// Its id, cred_...
        #[arg(group = "whose", conflicts_with_all = ["class", "namespace", "owner", "subject", "dry_run"])]
        credential: Option<String>,
        #[command(flatten)]
        issued: Issued,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Why, in the words of RFC 5280.
        #[arg(long, value_enum, default_value = "unspecified")]
        cause: Cause,
    },
}

/// Whose credentials, and how they are.
#[derive(Args, Clone, Debug)]
pub(crate) struct CredentialHealth {
    /// Only of this namespace.
    #[arg(long, value_name = "NAMESPACE", default_value = "", hide_default_value = true)]
    pub(crate) namespace: String,
    /// Only of agents of this class, NAMESPACE/NAME.
    #[arg(long, value_name = "CLASS", conflicts_with_all = ["namespace", "owner"])]
    pub(crate) class: Option<String>,
    /// Only of agents of this owner, user:NAME or group:NAME.
    #[arg(long, value_name = "OWNER", default_value = "", hide_default_value = true)]
    pub(crate) owner: String,
    /// List only those in these states; left out: all that are not OK. All are counted.
    #[arg(long, value_enum, value_name = "STATE")]
    pub(crate) state: Vec<Rotation>,
    #[command(flatten)]
    pub(crate) limit: Limit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rotation {
    Ok,
    Due,
    Overdue,
    Expiring,
    ExpiredInUse,
    RetiredInUse,
}

/// Whose everything is taken back.
#[derive(Args, Clone, Debug)]
pub(crate) struct Issued {
    /// Everything that was issued to the agents of this class, NAMESPACE/NAME.
    #[arg(long, group = "whose", value_name = "CLASS", conflicts_with_all = ["namespace", "owner", "subject"])]
    pub(crate) class: Option<String>,
    /// Everything that was issued to the agents of this namespace; with --owner or --subject, theirs in this namespace only.
    #[arg(long, group = "whose", value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Everything that was issued to the agents of this owner, user:NAME or group:NAME; without --namespace in all of them.
    #[arg(long, group = "whose", value_name = "OWNER", conflicts_with = "subject")]
    pub(crate) owner: Option<String>,
    /// Every token by which an agent acts for this person, user:NAME; without --namespace in all of them.
    #[arg(long, group = "whose", value_name = "PERSON")]
    pub(crate) subject: Option<String>,
    /// Only say what it would touch.
    #[arg(long)]
    pub(crate) dry_run: bool,
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
    /// Take back everything that one copy of an agent holds, or all copies that a node attested; other copies work on.
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Revoke {
        /// Its id, inst_...
        #[arg(group = "which")]
        instance: Option<String>,
        /// Every copy that this node attested and that holds something, NAMESPACE/NAME.
        #[arg(long, group = "which", value_name = "NODE")]
        node: Option<String>,
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
    /// Only those that this node attested, NAMESPACE/NAME.
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CredentialKind {
    /// A one-time token to enrol with.
    Enrolment,
    /// A client secret.
    Secret,
    /// A client key.
    Key,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientKind {
    /// A client secret.
    Secret,
    /// A client key.
    Key,
}

/// Which key is registered.
#[derive(Clone, Debug, Args)]
pub(crate) struct ClientKey {
    /// For a key: the public key, a JWK on P-256 without private members.
    #[arg(long, value_name = "FILE", conflicts_with = "new_key")]
    pub(crate) jwk: Option<PathBuf>,
    /// For a key: make it here, and write its private JWK to this new file, mode 0600.
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key: Option<PathBuf>,
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
        /// Narrow the token further: authorization details (RFC 9396), a JSON array; docs/oauth.md says which.
        #[arg(long, value_name = "JSON", default_value = "", hide_default_value = true)]
        authorization_details: String,
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
        /// It is a person's token of a trusted issuer.
        #[arg(long)]
        identity_token: bool,
        /// Whom the new token is for: an audience of an enforcement point, or the SPIFFE ID of the next agent.
        #[arg(long, value_name = "URI")]
        audience: String,
        /// Narrow the token to these actions.
        #[arg(long, value_name = "ACTION")]
        scope: Vec<String>,
        /// Narrow the token further: authorization details (RFC 9396), a JSON array; docs/oauth.md says which.
        #[arg(long, value_name = "JSON", default_value = "", hide_default_value = true)]
        authorization_details: String,
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
