//! What an emitter sends: events as they are logged, and the names of persons beside them.

use bytes::Bytes;
use legate_wire::audit::{AppendEventsRequest, AuditEvent, EventPersonal};
use prost::Message as _;

use crate::{Split, may_name, split};

/// Events and names in one request, in bytes; the collector takes 4 MiB of each.
const MOST_BYTES: usize = 3 << 20;

/// The request for a batch of events that wait. An event that was refused or whose answer was lost is cut anew with other salts:
/// the collector keeps what it took first. Of a batch that has grown too large the beginning goes.
#[must_use]
pub fn request(
    epoch: &str,
    first_seq: u64,
    events: &[Bytes],
    mut salt: impl FnMut() -> [u8; 32],
) -> AppendEventsRequest {
    let mut request = AppendEventsRequest { epoch: epoch.to_owned(), first_seq, ..Default::default() };
    let mut size = 0;
    for (at, event) in (0..).zip(events) {
        // Of one that cannot be decoded the collector says what is wrong with it.
        let whole = may_name(event).then(|| AuditEvent::decode(event.clone()).ok()).flatten();
        let (event, parts) = match whole.map(|whole| split(whole, &mut salt)) {
            Some(Split { event, parts }) if !parts.is_empty() => (Bytes::from(event.encode_to_vec()), parts),
            _ => (event.clone(), Vec::new()),
        };
        size += event.len() + parts.iter().map(|part| part.encoded_len() + 8).sum::<usize>();
        if at > 0 && size > MOST_BYTES {
            break;
        }
        request.events.push(event);
        if !parts.is_empty() {
            request.personal.push(EventPersonal { event: at, parts });
        }
    }
    request
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Salts that differ.
    fn apart(events: &[Bytes]) -> AppendEventsRequest {
        static NEXT: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);
        request("e1", 7, events, || [NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed); 32])
    }

    #[test]
    fn names_travel_beside_events_that_do_not_hold_them() {
        let of = |subject: &str| AuditEvent { subject: subject.into(), ..AuditEvent::default() };
        let events = [of("user:ada"), of(""), of("user:grace")].map(|e| Bytes::from(e.encode_to_vec()));
        let mut all = events.to_vec();
        all.push(Bytes::from_static(b"\xff\xff"));
        let request = apart(&all);
        assert_eq!((request.first_seq, request.events.len()), (7, 4));
        assert_eq!(request.events[1], events[1], "an event that names nobody goes as it is");
        let places: Vec<u32> = request.personal.iter().map(|one| one.event).collect();
        assert_eq!(places, [0, 2]);
        for one in &request.personal {
            let leaf = AuditEvent::decode(request.events[one.event as usize].clone()).unwrap();
            assert_eq!(leaf.subject, "user:#1");
            crate::check(&leaf, &one.parts, false).unwrap();
        }
        let again = apart(&events);
        assert_ne!(again.personal[0].parts[0].salt, request.personal[0].parts[0].salt);
    }

    #[test]
    fn a_batch_that_grows_too_large_goes_in_part() {
        let users: Vec<String> = (0..7_000).map(|n| format!("user:{n:05}")).collect();
        let crowd =
            AuditEvent { details: [("users".to_owned(), users[..5_000].join(" "))].into(), ..AuditEvent::default() };
        let request = apart(&vec![Bytes::from(crowd.encode_to_vec()); 512]);
        assert!((1..512).contains(&request.events.len()));
        assert!(request.encoded_len() < 4 << 20);
    }
}
