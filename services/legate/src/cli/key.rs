//! The verbs of signing keys, and of what wraps them at rest.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::registry::Limit;

#[derive(Debug, Subcommand)]
pub(crate) enum KeyVerb {
    /// List keys, newest first.
    List {
        /// Only those of this purpose.
        #[arg(long, value_enum, value_name = "PURPOSE")]
        purpose: Option<Purpose>,
        /// Also those that are retired or revoked.
        #[arg(long)]
        with_ended: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Make a CA's successor: published, and not used yet. Keys of tokens have one always.
    Prepare {
        /// Of which purpose.
        #[arg(value_enum)]
        purpose: Purpose,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let the prepared key sign. The one before verifies until what it signed has ended.
    Rotate {
        /// Of which purpose.
        #[arg(value_enum)]
        purpose: Purpose,
        /// Do not wait until the prepared key was published long enough; verifiers that kept the key set refuse what it signs
        /// until they look again.
        #[arg(long, conflicts_with = "compromised")]
        now: bool,
        /// Emergency: every key of the purpose is compromised. All are revoked, what they signed is worth nothing, and a new one
        /// signs at once.
        #[arg(long)]
        compromised: bool,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Mark a CA that signs no longer: whoever holds a certificate of it is told to renew now.
    Taint {
        /// The key's id.
        kid: String,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// End a key before its time: nothing that it signed is believed any more.
    Retire {
        /// The key's id.
        kid: String,
        /// Emergency: it is compromised. Also the key that signs is ended then; the prepared one takes over at once.
        #[arg(long)]
        compromised: bool,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Make the key-encryption key of a credential-issuer: a new file, mode 0600. Asks no service.
    MakeKek {
        /// The file: keys.kek of its configuration.
        #[arg(long, value_name = "FILE")]
        kek: PathBuf,
    },
    /// Make the key that is to follow on that of the audit log: a file log.key.next in its directory, mode 0600. The collector's next start lets
    /// it sign, tells that in the log with the signatures of both, and destroys the one before. Prints the verifier key. Asks no service.
    RotateLog {
        /// The directory: dir of audit-collector's configuration.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// Why, for the record.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Wrap the keys of a credential-issuer under a new version of its key-encryption key, beside which the old one stays. Asks no
    /// service.
    Rewrap(Rewrap),
}

#[derive(Args, Debug)]
pub(crate) struct Rewrap {
    /// The file: keys.kek of its configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) kek: PathBuf,
    /// The directory: keys.dir of its configuration.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: PathBuf,
    /// Instead: make no new version, and drop the old ones. Refused while a credential-issuer runs that knows only old ones.
    #[arg(long)]
    pub(crate) drop_old: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Purpose {
    /// Keys of access tokens.
    AccessToken,
    /// Keys of JWT-SVIDs.
    JwtSvid,
    /// The CA of agents and enforcement points.
    WorkloadsCa,
    /// The CA of operators who log in.
    OperatorsCa,
}
