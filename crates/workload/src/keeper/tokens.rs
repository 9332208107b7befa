//! JWT-SVIDs of one process: each is obtained once, and shown again until half of its life is over.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use legate_clock::Clock;
use legate_rpc::Fault;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::state::Without;
use crate::error::AUDIENCES_FULL;
use crate::issuer::{Holder, Issuer, NotIssued, Token};
use crate::moment::Moment;

/// No JWT-SVID lives longer, however far our clock is behind.
const LONGEST: Duration = Duration::from_secs(600);
/// So many are kept, each for other audiences. A process that asks for more waits until one of them is to be replaced: every token is a request
/// to credential-issuer, and an event on record.
const MOST: usize = 256;
/// Of one process, so many are asked for at once.
const AT_ONCE: usize = 2;
/// When to ask again where so many are kept.
const AGAIN: Duration = Duration::from_secs(30);

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
pub(super) struct Tokens {
    kept: Mutex<HashMap<Of, Place>>,
    turns: Semaphore,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { kept: Mutex::default(), turns: Semaphore::new(AT_ONCE) }
    }
}

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
        holder: Holder<'_>,
        audiences: &[String],
    ) -> Result<Given, Fault> {
        let svid = holder.svid;
        let now = || Moment::now(clock.as_ref());
        let place = self.place(now(), (svid.instance_id.clone(), audiences.to_vec()))?;
        // Those who come at once for one token share one request.
        let mut kept = place.lock().await;
        let show = |token: &Token| Given { spiffe_id: svid.spiffe_id.to_string(), svid: token.svid.clone() };
        if let Some(kept) = kept.as_ref().filter(|kept| !kept.rotate_at.is_over(now())) {
            return Ok(show(&kept.token));
        }
        // Nobody closes them.
        let _turn = self.turns.acquire().await;
        match issuer.jwt(holder, audiences).await {
            Ok(token) => {
                let (now, shown) = (now(), show(&token));
                let left = now.until(token.expires).min(LONGEST);
                *kept = Some(Kept { rotate_at: now.after(left / 2), ends: now.after(left), token });
                Ok(shown)
            }
            Err(why @ NotIssued::Unreached(_)) => {
                let left = kept.as_ref().filter(|kept| !kept.ends.is_over(now()));
                left.map(|kept| show(&kept.token)).ok_or_else(|| Without::of(why).into())
            }
            Err(why) => {
                *kept = None;
                Err(Without::of(why).into())
            }
        }
    }

    /// Where a token is kept, or will be.
    fn place(&self, now: Moment, of: Of) -> Result<Place, Fault> {
        let mut all = self.kept.lock();
        if all.len() >= MOST && !all.contains_key(&of) {
            // Whichever somebody is just asking for stays, and what is good for a while.
            all.retain(|_, place| {
                place.try_lock().map_or(true, |kept| kept.as_ref().is_some_and(|kept| !kept.rotate_at.is_over(now)))
            });
            if all.len() >= MOST {
                let what = format!("the process has JWT-SVIDs for {MOST} sets of audiences already");
                return Err(Fault::unavailable(&AUDIENCES_FULL, what, AGAIN));
            }
        }
        Ok(Arc::clone(all.entry(of).or_default()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use legate_clock::{TestClock, Timestamp};

    use super::*;

    #[tokio::test]
    async fn a_process_has_tokens_for_so_many_audiences_at_a_time() {
        let clock = TestClock::at(Timestamp::from_secs(1_800_000_000));
        let now = || Moment::now(clock.as_ref());
        let tokens = Tokens::default();
        let of = |n: usize| ("inst_1".to_owned(), vec![format!("https://{n}.example")]);
        let life = Duration::from_secs(300);
        let fill = async |place: Place| {
            let token = Token { svid: Zeroizing::new("x".into()), expires: clock.now().plus(life) };
            let (rotate_at, ends) = (now().after(life / 2), now().after(life));
            *place.lock().await = Some(Kept { token, rotate_at, ends });
        };
        for n in 0..MOST {
            fill(tokens.place(now(), of(n)).unwrap()).await;
        }
        assert_eq!(tokens.place(now(), of(MOST)).err().unwrap().reason(), "AUDIENCES_FULL");
        // What it has it goes on having, and is not pushed out by what it may not have.
        for n in 0..MOST {
            assert!(tokens.place(now(), of(n)).unwrap().lock().await.is_some());
        }
        // Nor is one that is being asked for.
        clock.advance(life / 2);
        let asked = tokens.place(now(), of(7)).unwrap();
        let held = asked.lock().await;
        fill(tokens.place(now(), of(MOST)).unwrap()).await;
        assert_eq!(tokens.kept.lock().len(), 2);
        drop(held);
        // What came to nothing takes no room.
        for n in 0..10 * MOST {
            drop(tokens.place(now(), of(MOST + n)).unwrap());
        }
    }
}
