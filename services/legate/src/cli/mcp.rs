//! The verbs of tools of MCP servers: a mapping made, a call tried, and what an agent sees.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum McpVerb {
    /// Make a mapping of the tools that a server lists, in YAML: each with an action of its own, and with the hash of its definition.
    Schema(McpSchema),
    /// Print what calls of the tools of a mapping state, as a Cedar schema: for policySchema of the namespace.
    PolicySchema {
        /// The mapping.
        #[arg(short, long = "file", value_name = "FILE")]
        file: PathBuf,
    },
    /// Say what a call of a tool would ask for, and ask it. Exit code 0: allow, 3: deny.
    Check(McpCheck),
    /// Say which tools an agent sees, and whether it may call them whatever the arguments are.
    List(McpList),
}

#[derive(Args, Debug)]
pub(crate) struct McpSchema {
    /// What the server answers to tools/list, as JSON; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
    /// What the server is called; left out: as in --keep.
    #[arg(long, value_name = "NAME", required_unless_present = "keep")]
    pub(crate) server: Option<String>,
    /// The namespace of the enforcement point that the server is; left out: as in --keep.
    #[arg(long, value_name = "NAMESPACE", required_unless_present = "keep")]
    pub(crate) namespace: Option<String>,
    /// What the mapping is called; left out: as in --keep, or as the server.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// The mapping before: what it says of a tool stands, and what is new, changed or gone is told.
    #[arg(long, value_name = "FILE")]
    pub(crate) keep: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct McpCheck {
    /// The mapping.
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// The tool.
    #[arg(long, value_name = "TOOL")]
    pub(crate) tool: String,
    /// The arguments of the call, as a JSON object.
    #[arg(long, value_name = "JSON", default_value = "{}")]
    pub(crate) args: String,
    /// Who calls: an agent, NAME in the mapping's namespace, NAMESPACE/NAME or agt_...
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: String,
    /// For whom it acts, user:NAME or agent:NAME.
    #[arg(long, value_name = "WHO")]
    pub(crate) on_behalf_of: Option<String>,
    /// What the server answers to tools/list now, as JSON: a tool whose definition changed is denied. Left out: that is not looked at.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct McpList {
    /// The mapping.
    #[arg(short, long = "file", value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Who would see them: an agent, NAME in the mapping's namespace, NAMESPACE/NAME or agt_...
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: String,
    /// What the server answers to tools/list now, as JSON: what is not in it, or changed, is not shown. Left out: that is not looked at.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: Option<PathBuf>,
}
