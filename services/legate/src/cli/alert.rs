//! The verbs of alerts, and of the report of completeness.

use clap::{Args, Subcommand, ValueEnum};
use legate_wire::audit::{AlertSeverity, AlertStatus, AlertType};

#[derive(Debug, Subcommand)]
pub(crate) enum AlertVerb {
    /// Show alerts, the newest first.
    List {
        /// About agents of this namespace.
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        /// About this agent, NAMESPACE/NAME or agt_...
        #[arg(long, value_name = "AGENT")]
        agent: Option<String>,
        /// Of this type, such as ACTION_WITHOUT_DECISION.
        #[arg(long = "type", value_name = "TYPE", value_parser = alert_type)]
        kind: Option<AlertType>,
        /// Of this status.
        #[arg(long, value_enum)]
        status: Option<Status>,
        /// Of this severity or a higher one.
        #[arg(long, value_enum)]
        severity: Option<Severity>,
        /// So many at most; 0: all of them.
        #[arg(long, default_value_t = 100, value_name = "NUMBER")]
        limit: usize,
    },
    /// Show one alert, and the events that it rests on.
    Show {
        /// The alert, `alert_...`.
        id: String,
    },
    /// Say that you look into an alert.
    Ack(Said),
    /// Say that an alert is dealt with.
    Resolve(Said),
    /// Show alerts as they are raised, acknowledged and resolved, until interrupted.
    Tail {
        /// About agents of this namespace.
        #[arg(long, value_name = "NAMESPACE")]
        namespace: Option<String>,
        /// About this agent, NAMESPACE/NAME or agt_...
        #[arg(long, value_name = "AGENT")]
        agent: Option<String>,
        /// Go on after what was shown before: the token that an ended tail told.
        #[arg(long, value_name = "TOKEN")]
        resume: Option<String>,
    },
}

/// What is said of an alert.
#[derive(Args, Debug)]
pub(crate) struct Said {
    /// The alert, `alert_...`.
    pub(crate) id: String,
    /// Why, for the record.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// Which executed actions are held against what they need.
#[derive(Args, Debug)]
pub(crate) struct Report {
    /// By agents of this namespace.
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// By this agent, NAMESPACE/NAME or agt_...
    #[arg(long, value_name = "AGENT")]
    pub(crate) agent: Option<String>,
    /// At or after this moment: 2026-11-24T08:00:00Z, or so long ago: 15m, 24h, 7d.
    #[arg(long, value_name = "MOMENT")]
    pub(crate) since: Option<String>,
    /// Before this moment, as for --since.
    #[arg(long, value_name = "MOMENT")]
    pub(crate) until: Option<String>,
    /// So many incomplete actions at most: 1 to 1,000.
    #[arg(long, default_value_t = 100, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) limit: u32,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Status {
    Open,
    Acknowledged,
    Resolved,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

impl From<Status> for AlertStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Open => Self::Open,
            Status::Acknowledged => Self::Acknowledged,
            Status::Resolved => Self::Resolved,
        }
    }
}

impl From<Severity> for AlertSeverity {
    fn from(severity: Severity) -> Self {
        match severity {
            Severity::Low => Self::Low,
            Severity::Medium => Self::Medium,
            Severity::High => Self::High,
            Severity::Critical => Self::Critical,
        }
    }
}

/// A type, by its word.
fn alert_type(text: &str) -> Result<AlertType, String> {
    let word = text.to_ascii_uppercase().replace('-', "_");
    let found = AlertType::from_str_name(&format!("ALERT_TYPE_{word}")).filter(|kind| *kind != AlertType::Unspecified);
    found.ok_or_else(|| {
        let all = (1..).map_while(|number| AlertType::try_from(number).ok());
        let all: Vec<&str> = all.map(|kind| kind.as_str_name().trim_start_matches("ALERT_TYPE_")).collect();
        format!("is none of {}", all.join(", "))
    })
}
