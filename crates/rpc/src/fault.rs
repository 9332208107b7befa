//! Why a call fails: three doors, and the one place that makes a `tonic::Status`.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// A stable word for why a caller is refused; each one stands in docs/errors.md.
#[derive(Debug, PartialEq, Eq)]
pub struct Reason {
    /// The word, `UPPER_SNAKE_CASE`. Never changes.
    pub name: &'static str,
    /// The gRPC code it comes with.
    pub code: Code,
    /// What it means, in a sentence.
    pub meaning: &'static str,
    /// What to do about it.
    pub cure: &'static str,
}

/// Why a call fails.
#[derive(Debug)]
pub enum Fault {
    /// The caller is refused, and can do something about it.
    Refused(Box<Refusal>),
    /// It cannot be done now; the same call may go through later.
    Unavailable(Box<Refusal>),
    /// Something of ours is broken; the caller learns only an incident id.
    Broken(Box<dyn Error + Send + Sync>),
}

/// A reason and what there is to say about this one case.
#[derive(Debug)]
pub struct Refusal {
    /// The stable reason.
    pub reason: &'static Reason,
    /// What and why, in this case.
    pub message: String,
    /// Fields of the request that are wrong: path and why.
    pub fields: Vec<(String, String)>,
    /// More, by key; never a secret.
    pub metadata: Vec<(String, String)>,
    /// When to try again.
    pub retry_after: Option<Duration>,
}

impl Fault {
    /// Refuses; `message` says what and why, the cure comes from the reason.
    #[must_use]
    pub fn refused(reason: &'static Reason, message: impl Into<String>) -> Self {
        Self::Refused(Box::new(Refusal {
            reason,
            message: message.into(),
            fields: Vec::new(),
            metadata: Vec::new(),
            retry_after: None,
        }))
    }

    /// Refuses one field of the request, and says why (`INVALID_ARGUMENT`).
    #[must_use]
    pub fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        let (field, why) = (field.into(), why.into());
        Self::refused(&crate::INVALID_ARGUMENT, format!("{field}: {why}")).field(field, why)
    }

    /// Cannot be done now; try again after `retry_after`.
    #[must_use]
    pub fn unavailable(reason: &'static Reason, message: impl Into<String>, retry_after: Duration) -> Self {
        Self::Unavailable(Box::new(Refusal {
            reason,
            message: message.into(),
            fields: Vec::new(),
            metadata: Vec::new(),
            retry_after: Some(retry_after),
        }))
    }

    /// Something of ours is broken.
    #[must_use]
    pub fn broken(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Broken(error.into())
    }

    /// Names a field of the request that is wrong (google.rpc.BadRequest).
    #[must_use]
    pub fn field(mut self, path: impl Into<String>, why: impl Into<String>) -> Self {
        if let Self::Refused(r) | Self::Unavailable(r) = &mut self {
            r.fields.push((path.into(), why.into()));
        }
        self
    }

    /// Tells more by key (google.rpc.ErrorInfo metadata); never a secret.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        if let Self::Refused(r) | Self::Unavailable(r) = &mut self {
            r.metadata.push((key.to_owned(), value.into()));
        }
        self
    }

    /// The stable word: `INTERNAL` for what is broken.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(r) | Self::Unavailable(r) => r.reason.name,
            Self::Broken(_) => crate::INTERNAL.name,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(r) | Self::Unavailable(r) => write!(f, "{}: {}", r.reason.name, r.message),
            Self::Broken(e) => write!(f, "{}: {e}", crate::INTERNAL.name),
        }
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Broken(e) => Some(e.as_ref()),
            _ => None,
        }
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(r) | Fault::Unavailable(r) => say(*r),
            Fault::Broken(error) => {
                let mut id = [0u8; 8];
                // Without randomness the incident is 0: still traced, only harder to find.
                let _zero = aws_lc_rs::rand::fill(&mut id);
                let incident = format!("{:016x}", u64::from_be_bytes(id));
                let chain = chain_of(error.as_ref());
                tracing::error!(incident, error = chain, "broken");
                say(Refusal {
                    reason: &crate::INTERNAL,
                    message: format!("something of ours is broken; incident {incident}"),
                    fields: Vec::new(),
                    metadata: vec![("incident".into(), incident)],
                    retry_after: None,
                })
            }
        }
    }
}

/// What another service refused with, said on by whoever stands before something of its own: the word, and a text of its own.
#[must_use]
pub fn passed_on(code: Code, reason: &str, message: &str, retry_after: Option<Duration>) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, "legate", HashMap::new());
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(code, message, details)
}

fn chain_of(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text += &format!(": {source}");
        next = source.source();
    }
    text
}

fn say(r: Refusal) -> Status {
    let mut metadata: HashMap<String, String> = r.metadata.into_iter().collect();
    metadata.insert("cure".into(), r.reason.cure.into());
    let mut details = ErrorDetails::with_error_info(r.reason.name, "legate", metadata);
    for (path, why) in r.fields {
        details.add_bad_request_violation(path, why);
    }
    if r.retry_after.is_some() {
        details.set_retry_info(r.retry_after);
    }
    Status::with_error_details(r.reason.code, r.message, details)
}
