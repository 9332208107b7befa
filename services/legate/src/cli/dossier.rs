//! Flags of the dossier of an agent and of the report on a namespace.

use std::path::PathBuf;

use clap::Args;

use super::audit::LogKey;
use super::search::When;
use crate::place::Place;

#[derive(Args, Debug)]
pub(crate) struct Dossier {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The agent, NAMESPACE/NAME or agt_...; by name whoever held it then.
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: String,
    #[command(flatten)]
    pub(crate) made: Made,
}

#[derive(Args, Debug)]
pub(crate) struct NamespaceReport {
    #[command(flatten)]
    pub(crate) place: Place,
    /// The namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: String,
    #[command(flatten)]
    pub(crate) made: Made,
}

/// As of when, and where to.
#[derive(Args, Debug)]
pub(crate) struct Made {
    #[command(flatten)]
    pub(crate) when: When,
    /// The new file to write: a pack of evidence, which legate verify takes.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Of a tree that the witnesses' quorum cosigned; the record of the pack too (legate verify --witness-policy).
    #[arg(long)]
    pub(crate) cosigned: bool,
    #[command(flatten)]
    pub(crate) key: LogKey,
}
