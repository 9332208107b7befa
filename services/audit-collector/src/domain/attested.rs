//! How far an event's origin is proved, and which leaves a signature is of: those behind the leaf that holds it.

use legate_batch::{Attested, KIND};
use legate_wire::audit::{AuditEvent, Emitter, TrustClass};

use super::otlp::EPOCH;

/// The most leaves that one signature is of.
pub(crate) const LONGEST: u64 = 1_024;

/// How far an event's origin is proved. Its emitter sent it over mutual TLS, and may have signed it; what an enforcement point passes on by
/// OTLP is of the agent that it names.
pub(crate) fn trust_of(event: &AuditEvent, is_signed: bool) -> TrustClass {
    let is_passed_on = event.emitter.as_ref().is_some_and(|emitter| {
        emitter.epoch == EPOCH && emitter.spiffe_id.contains("/ns/") && emitter.spiffe_id.contains("/enforcer/")
    });
    match (is_passed_on, is_signed) {
        (true, _) => TrustClass::Observed,
        (false, true) => TrustClass::Attested,
        (false, false) => TrustClass::Authenticated,
    }
}

/// The leaves that a signature is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The leaf that holds it.
    pub(crate) leaf: u64,
    emitter: String,
    epoch: String,
    first_seq: u64,
    count: u64,
}

impl Span {
    /// The leaves of the signature that an event of the collector's own tells of.
    pub(crate) fn of(leaf: u64, event: &AuditEvent) -> Option<Self> {
        let statement = Attested::try_from(event).ok()?.statement;
        Some(Self {
            leaf,
            emitter: statement.emitter,
            epoch: statement.epoch,
            first_seq: statement.first_seq,
            count: statement.count.into(),
        })
    }

    /// Whether this is the event that the signature has at that place.
    fn has(&self, leaf: u64, emitter: &Emitter) -> bool {
        let position = leaf.checked_sub(self.leaf + 1).filter(|position| *position < self.count);
        let seq = position.and_then(|position| self.first_seq.checked_add(position));
        (emitter.spiffe_id.as_str(), emitter.epoch.as_str(), Some(emitter.seq))
            == (self.emitter.as_str(), self.epoch.as_str(), seq)
    }

    fn ends_with(&self, leaf: u64) -> bool {
        self.leaf + self.count == leaf
    }
}

/// What one leaf is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// It holds a signature.
    Signature,
    /// The signature in this leaf is of it.
    Signed(u64),
    /// None is.
    Unsigned,
}

/// Where a signature is of leaves to come.
pub(crate) type Open = Option<Span>;

/// What the next leaf is, by what is open before it; and the leaf of a signature whose batch breaks off here, since the process ended while
/// it was written: nothing of it can be held against that signature any more.
pub(crate) fn next(open: &mut Open, leaf: u64, event: &AuditEvent, me: &str) -> (Place, Option<u64>) {
    let emitter = event.emitter.clone().unwrap_or_default();
    let mut cut = None;
    if let Some(span) = open.take() {
        if span.has(leaf, &emitter) {
            let signed = Place::Signed(span.leaf);
            *open = (!span.ends_with(leaf)).then_some(span);
            return (signed, None);
        }
        cut = Some(span.leaf);
    }
    if event.r#type == KIND && emitter.spiffe_id == me {
        *open = Span::of(leaf, event);
        return (Place::Signature, cut);
    }
    (Place::Unsigned, cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "spiffe://example.org/legate/audit-collector";
    const REGISTRY: &str = "spiffe://example.org/legate/registry";

    fn event(who: &str, epoch: &str, seq: u64) -> AuditEvent {
        let emitter = Some(Emitter { spiffe_id: who.into(), epoch: epoch.into(), seq });
        AuditEvent { emitter, ..AuditEvent::default() }
    }

    fn span(leaf: u64, first_seq: u64, count: u64) -> Span {
        Span { leaf, emitter: REGISTRY.into(), epoch: "e1".into(), first_seq, count }
    }

    #[test]
    fn a_signature_is_of_the_leaves_behind_it_and_no_others() {
        let mut open = Some(span(10, 5, 2));
        assert_eq!(next(&mut open, 11, &event(REGISTRY, "e1", 5), ME), (Place::Signed(10), None));
        assert_eq!(next(&mut open, 12, &event(REGISTRY, "e1", 6), ME), (Place::Signed(10), None));
        assert_eq!(open, None);
        assert_eq!(next(&mut open, 13, &event(REGISTRY, "e1", 7), ME), (Place::Unsigned, None));
        for other in [event(REGISTRY, "e2", 5), event(REGISTRY, "e1", 6), event(ME, "log", 5), AuditEvent::default()] {
            let mut open = Some(span(10, 5, 2));
            assert_eq!(next(&mut open, 11, &other, ME), (Place::Unsigned, Some(10)));
            assert_eq!(open, None);
        }
    }

    #[test]
    fn a_signature_is_the_collectors_to_tell() {
        let told = |who: &str| AuditEvent { r#type: KIND.into(), ..event(who, "log", 1) };
        assert_eq!(next(&mut None, 1, &told(ME), ME), (Place::Signature, None));
        assert_eq!(next(&mut None, 1, &told(REGISTRY), ME), (Place::Unsigned, None));
        assert_eq!(next(&mut Some(span(0, 1, 9)), 1, &told(ME), ME), (Place::Signature, Some(0)));
    }

    #[test]
    fn what_is_passed_on_is_observed_and_nothing_else() {
        let enforcer = event("spiffe://example.org/ns/a/enforcer/b", EPOCH, 1);
        assert_eq!(trust_of(&enforcer, false), TrustClass::Observed);
        assert_eq!(trust_of(&event(REGISTRY, "e1", 1), true), TrustClass::Attested);
        assert_eq!(trust_of(&event(REGISTRY, "e1", 1), false), TrustClass::Authenticated);
    }
}
