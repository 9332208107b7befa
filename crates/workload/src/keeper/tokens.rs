//! JWT-SVIDs of one process: each is obtained once, and shown again until half of its life is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::issuer::{Issuer, NotIssued, Svid, Token};
use crate::knowledge::Entitlement;
use crate::moment::Moment;
use crate::shown::Shown;

/// No JWT-SVID lives longer, however far our clock is behind.
const LONGEST: Duration = Duration::from_secs(600);
/// When more are kept, those that have ended are forgotten, and then whichever nobody is just using.
const MOST: usize = 64;

/// Whose, and for whom.
type Of = (String, Vec<String>);

/// A token, and from when on it is replaced.
#[derive(Clone)]
struct Kept {
    token: Token,
    rotate_at: Moment,
    ends: Moment,
}

type Place = Arc<tokio::sync::Mutex<Option<Kept>>>;

/// The tokens.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<Of, Place>>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(hidden)")
    }
}

/// A token that is handed out.
pub(crate) struct Given {
    pub(crate) spiffe_id: String,
    pub(crate) svid: Zeroizing<String>,
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Given").field("spiffe_id", &self.spiffe_id).finish_non_exhaustive()
    }
}

impl Tokens {
    /// The token of an instance for audiences. Where credential-issuer cannot be reached, one that has not ended is shown all the same.
    pub(super) async fn get(
        &self,
        issuer: &Issuer,
        clock: &Arc<dyn Clock>,
        (svid, by): (&Svid, &Entitlement),
        shown: &Shown,
        audiences: &[String],
    ) -> Result<Given, NotIssued> {
        let now = || Moment::now(clock.as_ref());
        let place = self.place(now(), (svid.instance_id.clone(), audiences.to_vec()));
        // Those who come at once for one token share one request.
        let mut kept = place.lock().await;
        let show = |token: &Token| Given { spiffe_id: svid.spiffe_id.to_string(), svid: token.svid.clone() };
        if let Some(kept) = kept.as_ref().filter(|kept| !kept.rotate_at.is_over(now())) {
            return Ok(show(&kept.token));
        }
        match issuer.jwt(svid, by, shown, audiences).await {
            Ok(token) => {
                let (now, shown) = (now(), show(&token));
                let left = now.until(token.expires).min(LONGEST);
                *kept = Some(Kept { rotate_at: now.after(left / 2), ends: now.after(left), token });
                Ok(shown)
            }
            Err(why @ NotIssued::Unreached(_)) => {
                let left = kept.as_ref().filter(|kept| !kept.ends.is_over(now()));
                left.map(|kept| show(&kept.token)).ok_or(why)
            }
            Err(why) => {
                *kept = None;
                Err(why)
            }
        }
    }

    fn place(&self, now: Moment, of: Of) -> Place {
        let mut all = self.0.lock();
        if all.len() >= MOST && !all.contains_key(&of) {
            let is_used = |place: &Place| {
                place.try_lock().map_or(true, |kept| kept.as_ref().is_some_and(|k| !k.ends.is_over(now)))
            };
            all.retain(|_, place| is_used(place));
            while all.len() >= MOST {
                let Some(any) = all.keys().next().cloned() else { break };
                all.remove(&any);
            }
        }
        Arc::clone(all.entry(of).or_default())
    }
}
