//! One POST of an alert: signed, bounded in size and time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use legate_clock::{Clock, Timestamp};
use legate_mtls::TlsError;

use super::Target;
use crate::outward::Outward;

/// The whole of it: to resolve, to connect, to send, to hear the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// So much of an answer is read, and not looked at.
const LARGEST_ANSWER: usize = 64 << 10;

/// Why it was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotTaken {
    /// It may be taken later.
    #[error("{0}")]
    Away(String),
    /// The receiver says that it will not.
    #[error("the receiver answered with {0}")]
    Refused(http::StatusCode),
}

/// Posts.
#[derive(Debug)]
pub(super) struct Poster {
    target: Target,
    outward: Outward,
}

impl Poster {
    pub(super) fn new(target: Target, clock: Arc<dyn Clock>) -> Result<Self, TlsError> {
        Ok(Self { outward: Outward::new(target.ca.as_deref(), &target.allowed, clock)?, target })
    }

    /// Sends a message once.
    pub(super) async fn post(&self, id: &str, body: Bytes, now: Timestamp) -> Result<(), NotTaken> {
        let posting = tokio::time::timeout(PATIENCE, self.send(id, body, now));
        posting.await.unwrap_or_else(|_| Err(NotTaken::Away(format!("no answer within {} s", PATIENCE.as_secs()))))
    }

    async fn send(&self, id: &str, body: Bytes, now: Timestamp) -> Result<(), NotTaken> {
        let to = &self.target.address;
        let at = now.secs().to_string();
        let signature = self.target.sign(id, &at, &body);
        let headers = [
            ("content-type", "application/json"),
            ("webhook-id", id),
            ("webhook-timestamp", &at),
            ("webhook-signature", &signature),
        ];
        let path = to.url.path_and_query().map_or("/", |path| path.as_str());
        let answer = self.outward.post(to, path, &headers, body, LARGEST_ANSWER).await.map_err(NotTaken::Away)?;
        match answer.status {
            status if status.is_success() => Ok(()),
            http::StatusCode::REQUEST_TIMEOUT | http::StatusCode::TOO_MANY_REQUESTS => {
                Err(NotTaken::Away(format!("the receiver says: {}", answer.status)))
            }
            status if status.is_client_error() => Err(NotTaken::Refused(status)),
            // A redirect too: it would lead around the guard.
            status => Err(NotTaken::Away(format!("the receiver answered with: {status}"))),
        }
    }
}
