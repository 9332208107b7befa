//! Access tokens for a runtime that needs one often: each is obtained once and used while it is fresh.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::{ClientError, Runtime};

/// A token is replaced when so much of its life is left: a fifth.
const FRESH_UNTIL: u32 = 5;
/// When more audiences are in use, those whose tokens have ended are forgotten.
const MOST_AUDIENCES: usize = 64;

/// Keeps a token for each audience.
///
/// What it gives may have been killed since: a suspension or a cut-off kills every token at once, and only a check by
/// policy-decision says so. Whoever is told `TOKEN_OUTLIVED` calls [`TokenSource::forget`] and asks again.
pub struct TokenSource {
    runtime: Runtime,
    clock: Arc<dyn Clock>,
    held: Mutex<HashMap<String, Arc<Mutex<Option<Held>>>>>,
}

/// A token, and until when it is used.
struct Held {
    token: Zeroizing<String>,
    /// A token that is bound to another certificate than ours is of no use.
    certificate: Option<[u8; 32]>,
    fresh_until: Duration,
    ends: Duration,
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSource").field("runtime", &self.runtime).finish_non_exhaustive()
    }
}

impl TokenSource {
    /// Tokens of this runtime, by this clock.
    #[must_use]
    pub fn new(runtime: Runtime, clock: Arc<dyn Clock>) -> Self {
        Self { runtime, clock, held: Mutex::default() }
    }

    /// A token for an audience: the one that is held while it is fresh, else a new one. Callers who come at the same
    /// moment share one request. When the issuer cannot be reached, a token that has not ended is given all the same.
    ///
    /// # Errors
    /// When the issuer refuses, or cannot be reached and no token is left.
    pub async fn token(&self, audience: &str) -> Result<Zeroizing<String>, ClientError> {
        let place = self.place(audience).await;
        let mut held = place.lock().await;
        let certificate = self.runtime.identity().x5t_s256();
        let now = self.clock.monotonic();
        let usable = |h: &&Held, until: Duration| h.certificate == certificate && now < until;
        if let Some(fresh) = held.as_ref().filter(|h| usable(h, h.fresh_until)) {
            return Ok(fresh.token.clone());
        }
        match self.runtime.token(audience).await {
            Ok(answer) => {
                let ends = answer.expire_time.and_then(|t| legate_clock::Timestamp::try_from(t).ok());
                let life = ends.map_or(Duration::ZERO, |end| end.since(self.clock.now()));
                let token = Zeroizing::new(answer.access_token);
                *held = Some(Held {
                    token: token.clone(),
                    certificate,
                    fresh_until: now + life - life / FRESH_UNTIL,
                    ends: now + life,
                });
                Ok(token)
            }
            Err(error) if !error.is_refusal() => {
                let left = held.as_ref().filter(|h| usable(h, h.ends));
                left.map(|h| h.token.clone()).ok_or(error)
            }
            Err(error) => {
                *held = None;
                Err(error)
            }
        }
    }

    /// Lets go of the token for an audience, such as one that a backend has refused.
    pub async fn forget(&self, audience: &str) {
        self.held.lock().await.remove(audience);
    }

    async fn place(&self, audience: &str) -> Arc<Mutex<Option<Held>>> {
        let mut held = self.held.lock().await;
        if held.len() >= MOST_AUDIENCES && !held.contains_key(audience) {
            let now = self.clock.monotonic();
            // Those that somebody is just using stay.
            held.retain(|_, place| place.try_lock().map_or(true, |h| h.as_ref().is_some_and(|h| now < h.ends)));
        }
        Arc::clone(held.entry(audience.to_owned()).or_default())
    }
}
