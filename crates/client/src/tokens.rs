//! Tokens for a runtime that needs one often: each is obtained once and used while it is fresh.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use legate_clock::{Clock, Timestamp};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use crate::{ClientError, IdentitySource, Runtime};

/// When more audiences are in use, those whose tokens have ended are forgotten.
const MOST_AUDIENCES: usize = 64;

/// Keeps a token for each audience: access tokens of credential-issuer ([`TokenSource::new`],
/// [`IdentitySource::access_tokens`]), or JWT-SVIDs ([`IdentitySource::jwt_svids`]).
///
/// A token is used until half of its life is over. What it gives may have been killed since: a suspension or a cut-off kills every token at once, and only a check by
/// policy-decision says so. Whoever is told `TOKEN_OUTLIVED` calls [`TokenSource::forget`] and asks again.
pub struct TokenSource {
    kind: Kind,
    clock: Arc<dyn Clock>,
    held: Mutex<HashMap<String, Arc<Mutex<Option<Held>>>>>,
    /// Kept alive for as long as its identity is used.
    _identity: Option<IdentitySource>,
}

enum Kind {
    Access(Runtime),
    Jwt(IdentitySource),
}

/// A token, and until when it is used.
struct Held {
    token: Zeroizing<String>,
    /// A token of somebody else than we are now is of no use.
    whose: Option<Whose>,
    fresh_until: Duration,
    ends: Duration,
}

/// Whose a token is.
#[derive(PartialEq, Eq)]
enum Whose {
    /// Of the holder of a certificate, by SHA-256 of it: a token that is bound to another than ours is of no use.
    Certificate([u8; 32]),
    /// Of whoever has the SPIFFE ID.
    Id(String),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Access(_) => "access tokens",
            Kind::Jwt(_) => "JWT-SVIDs",
        };
        f.debug_struct("TokenSource").field("kind", &kind).finish_non_exhaustive()
    }
}

impl TokenSource {
    /// Access tokens of this runtime, by this clock.
    #[must_use]
    pub fn new(runtime: Runtime, clock: Arc<dyn Clock>) -> Self {
        Self { kind: Kind::Access(runtime), clock, held: Mutex::default(), _identity: None }
    }

    pub(crate) fn of_jwt_svids(source: IdentitySource, clock: Arc<dyn Clock>) -> Self {
        Self { kind: Kind::Jwt(source), clock, held: Mutex::default(), _identity: None }
    }

    /// Keeps the source of the runtime's identity alive as well.
    pub(crate) fn keeping(mut self, source: IdentitySource) -> Self {
        self._identity = Some(source);
        self
    }

    /// A token for an audience: the one that is held while it is fresh, else a new one. Callers who come at the same
    /// moment share one request. When nobody can be reached, a token that has not ended is given all the same.
    ///
    /// # Errors
    /// When it is refused, when nobody can be reached and no token is left, and when the process is nobody any more.
    pub async fn token(&self, audience: &str) -> Result<Zeroizing<String>, ClientError> {
        let place = self.place(audience).await;
        let mut held = place.lock().await;
        let whose = self.whose();
        let now = self.clock.monotonic();
        let usable = |h: &&Held, until: Duration| whose.is_some() && h.whose == whose && now < until;
        if let Some(fresh) = held.as_ref().filter(|h| usable(h, h.fresh_until)) {
            return Ok(fresh.token.clone());
        }
        match self.obtain(audience).await {
            Ok((token, ends)) => {
                let life = ends.map_or(Duration::ZERO, |end| end.since(self.clock.now()));
                let (fresh_until, ends) = (now + life / 2, now + life);
                // What changed hands while it was asked for is asked for again the next time.
                *held = Some(Held { token: token.clone(), whose, fresh_until, ends });
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

    fn whose(&self) -> Option<Whose> {
        match &self.kind {
            Kind::Access(runtime) => runtime.identity().x5t_s256().map(Whose::Certificate),
            Kind::Jwt(source) => source.spiffe_id().map(|id| Whose::Id(id.to_string())),
        }
    }

    async fn obtain(&self, audience: &str) -> Result<(Zeroizing<String>, Option<Timestamp>), ClientError> {
        match &self.kind {
            Kind::Access(runtime) => {
                let answer = runtime.token(audience).await?;
                let ends = answer.expire_time.and_then(|at| Timestamp::try_from(at).ok());
                Ok((Zeroizing::new(answer.access_token), ends))
            }
            Kind::Jwt(source) => {
                let token = source.jwt(audience).await?;
                let ends = ends(&token);
                Ok((token, ends))
            }
        }
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

/// When a token of our own ends, by its own word: it is the node's, and is only kept until then.
fn ends(token: &str) -> Option<Timestamp> {
    let claims = Base64UrlUnpadded::decode_vec(token.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    claims.get("exp")?.as_i64().map(Timestamp::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_token_is_read_where_it_says_one() {
        let token = |claims: &str| format!("e30.{}.c2ln", Base64UrlUnpadded::encode_string(claims.as_bytes()));
        assert_eq!(ends(&token(r#"{"exp": 1800000300}"#)), Some(Timestamp::from_secs(1_800_000_300)));
        for none in [token("{}"), token(r#"{"exp": "soon"}"#), token("?"), "a.b".into(), String::new()] {
            assert_eq!(ends(&none), None, "{none}");
        }
    }
}
