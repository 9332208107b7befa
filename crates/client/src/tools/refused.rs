//! Why a tool is not called, or nothing is shown, and how an MCP client is told so.

use http::StatusCode;
use legate_mcp::{Refusal as OfTheMapping, Why};
use legate_rpc::{Code, Reason};
use serde_json::{Value, json};

use crate::guard::{Refusal, is_of_the_token};
use crate::{NotAllowed, Undecided, reasons};

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It is not to be understood.
    Message,
    /// The tool or its arguments are not those that there are.
    Call,
    /// Show a token, or another one.
    Unauthenticated,
    /// It may not.
    Denied,
    /// It is not known.
    Unavailable,
}

/// Why a tool is not called, or nothing is shown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {text}")]
pub struct ToolRefused {
    kind: Kind,
    reason: String,
    text: String,
    decision_id: String,
}

impl ToolRefused {
    pub(super) fn new(reason: &'static Reason, text: impl Into<String>) -> Self {
        let kind = match reason.code {
            Code::Unauthenticated => Kind::Unauthenticated,
            _ if reason == &reasons::TOOL_MESSAGE_INVALID => Kind::Message,
            _ if reason == &reasons::TOOL_LIST_INVALID => Kind::Unavailable,
            _ => Kind::Call,
        };
        Self { kind, reason: reason.name.into(), text: text.into(), decision_id: String::new() }
    }

    pub(super) fn of_the_request(refusal: &Refusal) -> Self {
        let (reason, text) = (refusal.reason().to_owned(), refusal.text().to_owned());
        Self { kind: Kind::Unauthenticated, reason, text, decision_id: String::new() }
    }

    pub(super) fn of_the_mapping(refusal: OfTheMapping) -> Self {
        let reason = match refusal.why {
            Why::NotMapped => &reasons::TOOL_NOT_MAPPED,
            Why::Changed => &reasons::TOOL_CHANGED,
            Why::NotSeen => &reasons::TOOL_NOT_SEEN,
            Why::Arguments => &reasons::TOOL_ARGUMENTS_INVALID,
        };
        Self::new(reason, refusal.text)
    }

    /// policy-decision denies; what it says of its grounds is for the operators, by the decision's id.
    pub(super) fn denied(reason: &str, decision_id: &str) -> Self {
        let kind = if is_of_the_token(reason) { Kind::Unauthenticated } else { Kind::Denied };
        let text = "policy-decision denies it".to_owned();
        Self { kind, reason: reason.into(), text, decision_id: decision_id.into() }
    }

    pub(super) fn undecided(why: Undecided) -> Self {
        let text = "it could not be decided, so it is refused".to_owned();
        Self { kind: Kind::Unavailable, reason: why.reason, text, decision_id: String::new() }
    }

    pub(super) fn not_allowed(why: NotAllowed) -> Self {
        match why {
            NotAllowed::Denied(denied) => Self::denied(&denied.reason, &denied.decision_id),
            NotAllowed::Undecided(undecided) => Self::undecided(undecided),
        }
    }

    /// The stable word, as in docs/errors.md.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The decision in the audit log, `dec_...`; empty: nothing was decided.
    #[must_use]
    pub fn decision_id(&self) -> &str {
        &self.decision_id
    }

    /// With which status an MCP server over HTTP answers: 401 where another token is wanted, 400 for what is no message; the rest are
    /// answers of JSON-RPC.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self.kind {
            Kind::Unauthenticated => StatusCode::UNAUTHORIZED,
            Kind::Message => StatusCode::BAD_REQUEST,
            Kind::Call | Kind::Denied | Kind::Unavailable => StatusCode::OK,
        }
    }

    /// The value of `WWW-Authenticate` (RFC 6750 section 3), with 401.
    #[must_use]
    pub fn challenge(&self) -> Option<&'static str> {
        match (self.kind, self.reason.as_str()) {
            (Kind::Unauthenticated, "TOKEN_MISSING") => Some("Bearer"),
            (Kind::Unauthenticated, "TOKEN_MALFORMED") => Some("Bearer error=\"invalid_request\""),
            (Kind::Unauthenticated, _) => Some("Bearer error=\"invalid_token\""),
            _ => None,
        }
    }

    /// The answer of JSON-RPC to the request of this id.
    #[must_use]
    pub fn answer(&self, id: Option<&Value>) -> Value {
        let code = match self.kind {
            Kind::Message => -32_600,
            Kind::Call => -32_602,
            Kind::Denied => -32_010,
            Kind::Unavailable => -32_011,
            Kind::Unauthenticated => -32_012,
        };
        let mut data = json!({"reason": self.reason});
        if !self.decision_id.is_empty() {
            data["decisionId"] = self.decision_id.as_str().into();
        }
        json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": self.text, "data": data}})
    }
}
