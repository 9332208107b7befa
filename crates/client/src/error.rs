//! Why a client cannot do what was asked.

use legate_rpc::{Fault, Told};
use tonic::Status;

/// Why a client cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A key could not be made, read or used.
    #[error("the key cannot be used: {0}")]
    Key(String),
    /// Certificates or addresses are wrong.
    #[error(transparent)]
    Tls(#[from] legate_mtls::TlsError),
    /// What was given as an SVID is none.
    #[error("that is no SVID: {0}")]
    Svid(String),
    /// A setting is out of its range.
    #[error("{0}")]
    Setting(&'static str),
    /// The spool of a reporter cannot be used.
    #[error("the spool cannot be used: {0}")]
    Spool(String),
    /// A service could not be dialled.
    #[error(transparent)]
    Dial(#[from] Fault),
    /// A service refused.
    #[error("{}: {}", .0.reason, .0.message)]
    Refused(Box<Told>),
}

impl ClientError {
    pub(crate) fn key(error: impl std::fmt::Display) -> Self {
        Self::Key(error.to_string())
    }

    /// Whether a service refused, and would again; otherwise it was not reached, or had no time.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        use legate_rpc::Code;
        let Self::Refused(told) = self else {
            return false;
        };
        !matches!(told.code, Code::Unavailable | Code::DeadlineExceeded | Code::ResourceExhausted)
    }

    /// The stable reason of a refusal; empty otherwise.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused(told) => &told.reason,
            _ => "",
        }
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(Told::from_status(&status)))
    }
}
