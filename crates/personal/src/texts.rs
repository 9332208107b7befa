//! The texts of an event in which persons are named.

use legate_wire::audit::AuditEvent;

use crate::mark::is_person;

/// Each text, and whether a person's name is all of it where it begins as one.
pub(crate) fn each(event: &mut AuditEvent, mut take: impl FnMut(&mut String, bool)) {
    for text in [&mut event.actor, &mut event.subject, &mut event.approver].into_iter().chain(&mut event.chain) {
        take(text, true);
    }
    if let Some(resource) = &mut event.resource {
        take(&mut resource.id, true);
    }
    for text in [&mut event.action, &mut event.reason, &mut event.correlation_id] {
        take(text, false);
    }
    if let Some(decision) = &mut event.decision {
        for text in decision.determining.iter_mut().chain(&mut decision.log_only) {
            take(text, false);
        }
    }
    for text in event.details.values_mut() {
        take(text, false);
    }
}

/// The persons that a field of their own names, the longest first: a name may hold what ends one in a sentence.
pub(crate) fn wholes(event: &AuditEvent) -> Vec<String> {
    let fields = [&event.actor, &event.subject, &event.approver].into_iter().chain(&event.chain);
    let fields = fields.chain(event.resource.as_ref().map(|resource| &resource.id));
    let mut all: Vec<String> = fields.filter(|text| is_person(text)).cloned().collect();
    all.sort_by_key(|name| std::cmp::Reverse(name.len()));
    all
}
