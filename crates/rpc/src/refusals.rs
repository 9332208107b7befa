//! Callers who were turned away at the door, counted until the service records them: a flood becomes a few lines.

use std::collections::HashMap;
use std::net::IpAddr;

use legate_mtls::Peer;
use parking_lot::Mutex;

use crate::Fault;

/// Different refusals that are kept apart between two readings; more are counted together.
const APART: usize = 256;

/// One caller who was turned away from one method for one reason, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The SPIFFE ID of the caller; empty for one without a certificate, or for several callers counted together.
    pub caller: String,
    /// The serial number of its certificate, in hexadecimal as the issuer's events have it; empty without one.
    pub serial: String,
    /// From where it connected; `None` for several callers counted together.
    pub from: Option<IpAddr>,
    /// The method that was called; empty for several.
    pub method: &'static str,
    /// The stable reason.
    pub reason: &'static str,
    /// How often since the last reading.
    pub count: u64,
}

type Key = (String, String, Option<IpAddr>, &'static str, &'static str);

/// The refusals of one service since they were last read.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<Key, u64>>);

impl Refusals {
    /// Counts one, where it says that the caller is not who it has to be, or may not.
    pub fn note(&self, peer: &Peer, method: &'static str, fault: &Fault) {
        let Fault::Refused(refusal) = fault else { return };
        if !matches!(refusal.reason.code, tonic::Code::PermissionDenied | tonic::Code::Unauthenticated) {
            return;
        }
        let reason = refusal.reason.name;
        let mut all = self.0.lock();
        let serial: String = peer.serial.iter().map(|byte| format!("{byte:02x}")).collect();
        let key = (peer.id_text().to_owned(), serial, Some(peer.addr.ip()), method, reason);
        if all.len() < APART || all.contains_key(&key) {
            *all.entry(key).or_default() += 1;
        } else {
            *all.entry((String::new(), String::new(), None, "", reason)).or_default() += 1;
        }
    }

    /// What came since the last reading, most frequent first.
    #[must_use]
    pub fn take(&self) -> Vec<Refused> {
        let all = std::mem::take(&mut *self.0.lock());
        let read =
            |((caller, serial, from, method, reason), count)| Refused { caller, serial, from, method, reason, count };
        let mut all: Vec<Refused> = all.into_iter().map(read).collect();
        all.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.caller.cmp(&b.caller)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ACCESS_DENIED, DEADLINE_TOO_SHORT, UNAUTHENTICATED};

    #[test]
    fn a_flood_is_a_bounded_number_of_lines() {
        let refusals = Refusals::default();
        let denied = Fault::refused(&ACCESS_DENIED, "no");
        for n in 0..2_000u32 {
            let peer = Peer::anonymous((IpAddr::from(n.to_be_bytes()), 1).into());
            refusals.note(&peer, "/a/B", &denied);
        }
        let peer = Peer::anonymous(([127, 0, 0, 1], 1).into());
        refusals.note(&peer, "/a/B", &Fault::refused(&UNAUTHENTICATED, "who"));
        refusals.note(&peer, "/a/B", &Fault::refused(&DEADLINE_TOO_SHORT, "late"));
        let told = refusals.take();
        assert_eq!(told.len(), APART + 2);
        assert_eq!(told.iter().map(|one| one.count).sum::<u64>(), 2_001, "the deadline is nobody's offence");
        assert!(refusals.take().is_empty());
    }
}
