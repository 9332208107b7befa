//! Who follows the registry, told to operators who wait until everybody has heard of what they did.

use std::sync::Arc;

use legate_authority::Right;
use legate_clock::Clock;
use legate_ids::Principal;
use legate_mtls::Peer;
use legate_rpc::Fault;
use legate_wire::registry::{Follower, FollowerState, GetContainmentResponse};

use super::{By, Desk};
use crate::domain::containment::{Moment, Roll, State, Told, Who};
use crate::error::REVISION_UNKNOWN;
use crate::store::refuse;

/// The roll of those who follow this registry, as long as the process lives.
#[derive(Debug)]
pub(crate) struct Followers(parking_lot::Mutex<Roll>);

fn now(clock: &dyn Clock) -> Moment {
    Moment { mono: clock.monotonic(), wall: clock.now() }
}

impl Followers {
    /// A roll that begins now.
    pub(crate) fn new(clock: &dyn Clock) -> Self {
        Self(parking_lot::Mutex::new(Roll::new(now(clock))))
    }

    /// A follower spoke; where it says so, and is to be believed, that it answers by a revision.
    pub(super) fn heard(&self, who: &Caller, revision: Option<u64>, clock: &dyn Clock) {
        let now = now(clock);
        let mut roll = self.0.lock();
        roll.heard(&who.who, &who.address, now);
        if let Some(revision) = revision {
            roll.said(&who.who, revision, now);
        }
    }
}

/// A follower, as its certificate names it and as it calls itself.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    who: Who,
    address: String,
}

impl Caller {
    /// Who is at the other end of a stream.
    ///
    /// # Errors
    /// When what it calls itself breaks the grammar.
    pub(super) fn of(peer: &Peer, replica: &str) -> Result<Self, Fault> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
        if replica.len() > 64 || !replica.bytes().all(good) {
            return Err(Fault::invalid("start.replica", "64 at most of A-Z a-z 0-9 . _ -"));
        }
        let service = match &peer.principal {
            Some(Principal::Service(name)) => name.to_string(),
            _ => peer.id_text().to_owned(),
        };
        let address = peer.addr.to_string();
        let replica = if replica.is_empty() { address.clone() } else { replica.to_owned() };
        Ok(Self { who: Who { service, replica }, address })
    }
}

/// How far a revision has come; 0: the newest.
#[tracing::instrument(skip_all)]
pub(crate) async fn containment(desk: &Arc<Desk>, by: &By, revision: u64) -> Result<GetContainmentResponse, Fault> {
    let newest = desk.look("containment", by, |look| {
        Box::pin(async move {
            look.mandate.demand_somewhere(Right::Stop).map_err(refuse)?;
            Ok(look.revision)
        })
    });
    let newest = newest.await?;
    let revision = if revision == 0 { newest } else { revision };
    if revision > newest {
        let text = format!("the registry is at revision {newest}, and has not come to {revision} yet");
        return Err(Fault::refused(&REVISION_UNKNOWN, text));
    }
    let now = now(&*desk.clock);
    let roll = desk.followers.0.lock();
    Ok(GetContainmentResponse {
        revision,
        time: Some(now.wall.into()),
        followers: roll.look(revision, now).into_iter().map(told).collect(),
        others_until: Some(roll.others_until(now).into()),
        contained: roll.is_contained(revision, now),
    })
}

fn told(one: Told) -> Follower {
    let (state, confirmed) = match one.state {
        State::Confirmed(at) => (FollowerState::Confirmed, Some(at)),
        State::Pending => (FollowerState::Pending, None),
        State::Stale => (FollowerState::Stale, None),
    };
    Follower {
        service: one.who.service,
        replica: one.who.replica,
        address: one.address,
        state: state.into(),
        confirmed_revision: one.newest,
        confirm_time: confirmed.map(Into::into),
        heard_time: Some(one.heard.into()),
        until: Some(one.until.into()),
    }
}
