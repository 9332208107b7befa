//! The reading side of a refusal: what a client is told.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// What a service said when it refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The gRPC code.
    pub code: Code,
    /// The stable reason; empty when the answer did not come from Legate.
    pub reason: String,
    /// What and why.
    pub message: String,
    /// What to do about it; empty when not said.
    pub cure: String,
    /// Fields of the request that are wrong: path and why.
    pub violations: Vec<(String, String)>,
    /// When to try again.
    pub retry_after: Option<Duration>,
    /// More, by key.
    pub metadata: HashMap<String, String>,
}

impl Told {
    /// Reads a `google.rpc.Status` that came inside a message: its code and text, and the bytes of the whole of it.
    #[must_use]
    pub fn from_item(code: i32, message: &str, encoded: Vec<u8>) -> Self {
        Self::from_status(&Status::with_details(Code::from_i32(code), message, encoded.into()))
    }

    /// Reads a status; never fails: what is missing is empty.
    #[must_use]
    pub fn from_status(status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|i| i.domain == "legate");
        let mut metadata = info.map(|i| i.metadata.clone()).unwrap_or_default();
        let violations = details.bad_request().map(|b| b.field_violations.as_slice()).unwrap_or_default();
        Self {
            code: status.code(),
            reason: info.map(|i| i.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            cure: metadata.remove("cure").unwrap_or_default(),
            violations: violations.iter().map(|v| (v.field.clone(), v.description.clone())).collect(),
            retry_after: details.retry_info().and_then(|r| r.retry_delay),
            metadata,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fault, INVALID_ARGUMENT, OVERLOADED};

    #[test]
    fn what_is_said_is_told() {
        let fault = Fault::refused(&INVALID_ARGUMENT, "two things").field("agent.sponsors", "none").with("limit", "1");
        let told = Told::from_status(&Status::from(fault));
        assert_eq!(told.reason, "INVALID_ARGUMENT");
        assert_eq!(told.message, "two things");
        assert_eq!(told.cure, INVALID_ARGUMENT.cure);
        assert_eq!(told.violations, [("agent.sponsors".to_owned(), "none".to_owned())]);
        assert_eq!(told.metadata.get("limit").map(String::as_str), Some("1"));
        let busy = Fault::unavailable(&OVERLOADED, "busy", Duration::from_secs(2));
        assert_eq!(Told::from_status(&Status::from(busy)).retry_after, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_broken_is_not_told() {
        let told = Told::from_status(&Status::from(Fault::broken("password=canary")));
        assert_eq!((told.code, told.reason.as_str()), (Code::Internal, "INTERNAL"));
        assert!(!told.message.contains("canary") && told.metadata.contains_key("incident"));
    }
}
