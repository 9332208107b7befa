//! The flags of the node helper.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// What a flag says goes before what the file says. On SIGHUP every SVID that somebody listens to is replaced.
#[derive(Args, Debug)]
pub(crate) struct Workload {
    /// A configuration file in TOML (deploy/config/workload.toml); everything in it can be a flag instead, but for its bounds.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The unix socket that processes ask on.
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// The directory for the node's own key and certificate, and nothing else.
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// credential-issuer, https://HOST:PORT.
    #[arg(long, env = "LEGATE_ISSUER", hide_env_values = true, value_name = "URL")]
    pub(crate) issuer: Option<String>,
    /// CA certificates that verify the services, in PEM.
    #[arg(long, env = "LEGATE_CA", hide_env_values = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// The SPIFFE trust domain.
    #[arg(long, env = "LEGATE_TRUST_DOMAIN", hide_env_values = true, value_name = "DOMAIN")]
    pub(crate) trust_domain: Option<String>,
    /// A file with a one-time token of legate credential create --node; - is standard input. Read where there is no certificate yet.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["token_env", "identity_token_file"])]
    pub(crate) token_file: Option<PathBuf>,
    /// The environment variable that holds the token instead.
    #[arg(long, value_name = "NAME", conflicts_with = "identity_token_file")]
    pub(crate) token_env: Option<String>,
    /// A file with a token of an issuer that the node's namespace trusts, which whoever makes it keeps fresh.
    #[arg(long, value_name = "FILE", requires = "namespace")]
    pub(crate) identity_token_file: Option<PathBuf>,
    /// The node's namespace, for an identity token.
    #[arg(long, value_name = "NAMESPACE", requires = "identity_token_file")]
    pub(crate) namespace: Option<String>,
    /// Where it serves /livez, /readyz and /metrics in plaintext: a loopback address only. Left out: nowhere.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) probes: Option<SocketAddr>,
}
