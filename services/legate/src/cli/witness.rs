//! The verbs of a witness of one's own.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum WitnessVerb {
    /// Make the key of a new witness, and the directory in which it keeps what it cosigned; print its verifier key.
    Key {
        /// Its name, for ever: an address that is yours, without https://, such as witness.example.org/w1
        #[arg(long, value_name = "NAME")]
        name: String,
        /// The directory: empty, or none yet.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The file for the private key; left out: witness.key in the directory.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Cosign checkpoints of logs as long as these only grow (C2SP tlog-witness), until SIGTERM or SIGINT.
    Serve {
        /// The directory that witness key made.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
        /// The file with the private key; left out: witness.key in the directory.
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// A log: its verifier key, and the origin of its checkpoints where that is not the key's name. More than one can be given;
        /// those of one origin are keys of one log, which follow one another in this order: once one signs, none before it does.
        #[arg(long = "log", value_name = "VKEY[@ORIGIN]", required = true)]
        logs: Vec<String>,
        /// Where it serves: ADDRESS:PORT; a loopback address, unless --cert is given.
        #[arg(long, value_name = "ADDRESS")]
        listen: SocketAddr,
        /// Its certificate chain in PEM, to serve HTTPS. Files are read again when they change.
        #[arg(long, value_name = "FILE", requires = "cert_key")]
        cert: Option<PathBuf>,
        /// The certificate's private key in PEM, mode 0600.
        #[arg(long, value_name = "FILE", requires = "cert")]
        cert_key: Option<PathBuf>,
    },
}
