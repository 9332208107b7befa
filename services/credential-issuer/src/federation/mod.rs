//! The keys of issuers outside: given, read from a file, or fetched; kept while they are fresh, and a day longer when nothing newer comes.

mod bundle;
mod bundles;
mod fetch;
mod places;
mod verifier;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use legate_clock::Clock;
use legate_token::{ForeignError, ForeignKeys, ForeignSigned, ForeignToken};
use legate_view::IssuerKeys;
use serde::Deserialize;
use tokio::sync::Semaphore;

pub(crate) use bundle::ForeignBundle;
pub(crate) use bundles::{Bundles, Kept, Standing};
use fetch::{By, Fetcher, Unreached};
pub use legate_web::reach::{BadNetwork, Network};
use places::Places;
use verifier::AwsLc;

/// Fetched keys are used for so long without a look for newer ones.
const FRESH: Duration = Duration::from_secs(600);
/// And for so long when a look fails.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// One address is asked no more often than this, whatever the tokens say that strangers send.
const PAUSE: Duration = Duration::from_secs(30);
/// The same while there are no keys at all.
const SHORT_PAUSE: Duration = Duration::from_secs(5);
/// So many are asked at one time.
const MOST_FETCHES: usize = 16;
/// Whoever waits longer for a turn goes without.
const TURN: Duration = Duration::from_secs(10);

/// Whose tokens are believed how.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FederationConfig {
    /// Networks that are private and from which keys may be fetched all the same, as `10.0.0.0/8`.
    pub allow_private: Vec<Network>,
    /// CA certificates in PEM under which issuers outside are believed, beside the public ones.
    pub ca: Option<PathBuf>,
    /// Where nothing can be fetched: for a `jwks_uri`, or the URL of a federated trust domain's bundle, the file that holds what is there.
    pub jwks_files: BTreeMap<String, PathBuf>,
}

/// Why a token's signature cannot be judged, or is not good.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NotSigned {
    #[error(transparent)]
    Token(#[from] ForeignError),
    #[error("the issuer's keys cannot be had: {0}")]
    Keys(#[from] Unreached),
}

/// Keeps the keys of each address; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Federation(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fetcher: Fetcher,
    files: BTreeMap<String, PathBuf>,
    clock: Arc<dyn Clock>,
    places: Mutex<Places>,
    fetches: Semaphore,
}

/// What is known of one address. Locked while it is asked, so that it is asked by one at a time.
type Place = Arc<tokio::sync::Mutex<State>>;

/// Times are monotonic.
#[derive(Debug, Default)]
struct State {
    held: Option<Held>,
    tried: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Held {
    keys: Arc<ForeignKeys>,
    since: Duration,
}

impl Federation {
    pub(crate) fn new(config: &FederationConfig, clock: Arc<dyn Clock>) -> Result<Self, legate_mtls::TlsError> {
        Ok(Self(Arc::new(Inner {
            fetcher: Fetcher::new(config.ca.as_deref(), &config.allow_private, Arc::clone(&clock))?,
            files: config.jwks_files.clone(),
            clock,
            places: Mutex::default(),
            fetches: Semaphore::new(MOST_FETCHES),
        })))
    }

    /// Checks a token's signature by the issuer's keys. A key that is not known is looked for once more among newer ones.
    /// `namespace` is the one that trusts the issuer; none for those of the configuration.
    pub(crate) async fn check(
        &self,
        namespace: &str,
        token: &ForeignToken<'_>,
        keys: &IssuerKeys,
    ) -> Result<ForeignSigned, NotSigned> {
        let at = match keys {
            IssuerKeys::Inline(set) => return Ok(token.check_signature(&ForeignKeys::parse(set.as_bytes())?, &AwsLc)?),
            IssuerKeys::At(at) => at,
        };
        let held = self.keys(namespace, at, None).await?;
        match token.check_signature(&held.keys, &AwsLc) {
            Err(ForeignError::UnknownKey) => {
                let newer = self.keys(namespace, at, Some(held.since)).await?;
                Ok(token.check_signature(&newer.keys, &AwsLc)?)
            }
            judged => Ok(judged?),
        }
    }

    /// The keys at an address; newer ones than those of `than`, where there may be some. A caller who goes away does not end
    /// the fetch: else strangers could keep the keys from ever coming.
    async fn keys(&self, namespace: &str, at: &Arc<str>, than: Option<Duration>) -> Result<Held, Unreached> {
        let (inner, at) = (Arc::clone(&self.0), Arc::clone(at));
        let place = inner.places.lock().unwrap_or_else(PoisonError::into_inner).get(namespace, &at);
        let looking = tokio::spawn(async move { inner.look(&place, &at, than).await });
        looking.await.unwrap_or_else(|e| Err(Unreached(e.to_string())))
    }
}

impl Federation {
    /// What is at an address.
    async fn text(&self, at: &str, by: &By) -> Result<Bytes, Unreached> {
        self.0.text_at(at, by, true).await
    }
}

impl Inner {
    async fn look(&self, place: &Place, at: &Arc<str>, than: Option<Duration>) -> Result<Held, Unreached> {
        let mut state = place.lock().await;
        let now = self.clock.monotonic();
        let is_good = |held: &Held| match than {
            Some(than) => held.since > than,
            None => now.saturating_sub(held.since) < FRESH,
        };
        if let Some(held) = state.held.as_ref().filter(|held| is_good(held)) {
            return Ok(held.clone());
        }
        let usable = state.held.clone().filter(|held| now.saturating_sub(held.since) < STALE);
        let pause = if usable.is_some() { PAUSE } else { SHORT_PAUSE };
        if state.tried.is_some_and(|tried| now.saturating_sub(tried) < pause) {
            return usable.ok_or_else(|| Unreached("the last try failed just now".into()));
        }
        state.tried = Some(now);
        match self.fetch(at, usable.is_none()).await {
            Ok(keys) => {
                let held = Held { keys: Arc::new(keys), since: now };
                state.held = Some(held.clone());
                Ok(held)
            }
            Err(why) => {
                tracing::warn!(%at, %why, "the keys of an issuer outside did not come");
                usable.ok_or(why)
            }
        }
    }

    /// What is at an address, by whatever proof of who serves it.
    async fn text_at(&self, at: &str, by: &By, waits: bool) -> Result<Bytes, Unreached> {
        match self.files.get(at) {
            Some(path) => {
                let read = tokio::fs::read(path).await;
                Ok(Bytes::from(read.map_err(|e| Unreached(format!("{}: {e}", path.display())))?))
            }
            None => {
                let turn = if waits {
                    tokio::time::timeout(TURN, self.fetches.acquire()).await.ok().and_then(Result::ok)
                } else {
                    self.fetches.try_acquire().ok()
                };
                let _turn = turn.ok_or_else(|| Unreached("too many others are asked at this moment".into()))?;
                self.fetcher.get(at, by).await
            }
        }
    }

    /// Waits for its turn only where there are no keys to go on with: servers that hang must not hold up the others.
    async fn fetch(&self, at: &str, waits: bool) -> Result<ForeignKeys, Unreached> {
        let text = self.text_at(at, &By::Web, waits).await?;
        ForeignKeys::parse(&text).map_err(|e| Unreached(e.to_string()))
    }
}
