//! What is cut out comes back, nothing of a name stays, and no other part passes for one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use legate_wire::audit::{EventDecision, EventResource};
use proptest::prelude::*;

use super::*;

fn salts() -> impl FnMut() -> [u8; 32] {
    let mut next = 0;
    move || {
        next += 1;
        [next; 32]
    }
}

fn event() -> AuditEvent {
    AuditEvent {
        subject: "user:ada@example.com".into(),
        chain: vec!["agt_1".into(), "user:ada@example.com".into()],
        approver: "user:grace,hopper".into(),
        reason: "as user:grace,hopper and user:ada@example.com. say; superuser:x; user: nobody".into(),
        decision: Some(EventDecision {
            determining: vec!["grant:a/user:ada@example.com@3".into()],
            ..Default::default()
        }),
        details: [("users".to_owned(), "[] -> [\"user:bob\", \"user:#1\"]".to_owned())].into(),
        ..AuditEvent::default()
    }
}

#[test]
fn names_are_cut_out_and_come_back() {
    let Split { event: leaf, parts } = split(event(), salts());
    let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names, ["user:ada@example.com", "user:grace,hopper", "user:bob", "user:#1"]);
    assert_eq!((leaf.subject.as_str(), leaf.approver.as_str()), ("user:#1", "user:#2"));
    assert_eq!(leaf.chain, ["agt_1", "user:#1"]);
    assert_eq!(leaf.reason, "as user:#2 and user:#1. say; superuser:x; user: nobody");
    assert_eq!(leaf.details["users"], "[] -> [\"user:#3\", \"user:#4\"]");
    let bytes = String::from_utf8_lossy(&leaf.encode_to_vec()).into_owned();
    for name in ["ada", "grace", "bob"] {
        assert!(!bytes.contains(name), "{name}");
    }
    assert!(is_in_the_clear(&event()) && !is_in_the_clear(&leaf));
    check(&leaf, &parts, false).unwrap();
    let back = shown(leaf.clone(), &parts);
    assert_eq!(AuditEvent { personal: Vec::new(), ..back }, event());

    let mut some = parts.clone();
    some[0] = PersonalPart::default();
    check(&leaf, &some, true).unwrap();
    assert_eq!(check(&leaf, &some, false), Err(BadPart::Form(0)));
    let left = shown(leaf, &some);
    assert_eq!((left.subject.as_str(), left.approver.as_str()), (ERASED, "user:grace,hopper"));
    assert_eq!(left.reason, "as user:grace,hopper and erased. say; superuser:x; user: nobody");
}

#[test]
fn an_event_without_persons_stays_as_it_is() {
    let plain = AuditEvent {
        actor: "spiffe://example.org/legate/operator/ada".into(),
        subject: "group:pay".into(),
        resource: Some(EventResource { id: "a".into(), ..Default::default() }),
        ..AuditEvent::default()
    };
    let Split { event, parts } = split(plain.clone(), salts());
    assert_eq!((event, parts), (plain, Vec::new()));
}

#[test]
fn no_other_part_passes() {
    let Split { event: leaf, parts } = split(event(), salts());
    assert!(matches!(check(&leaf, &parts[1..], false), Err(BadPart::Count { commitments: 4, parts: 3 })));
    for (change, wanted) in [
        ((|part: &mut PersonalPart| part.name = "user:eve".into()) as fn(&mut PersonalPart), BadPart::Other(0)),
        (|part| part.salt[0] ^= 1, BadPart::Other(0)),
        (|part| part.salt.truncate(31), BadPart::Form(0)),
        (|part| part.name = "group:pay".into(), BadPart::Form(0)),
        (|part| part.name = format!("user:{}", "x".repeat(LONGEST)), BadPart::Form(0)),
        // The border between salt and name may not move.
        (
            |part| {
                let byte = part.salt.pop().unwrap();
                part.name.insert(0, char::from(byte));
            },
            BadPart::Form(0),
        ),
    ] {
        let mut parts = parts.clone();
        change(&mut parts[0]);
        assert_eq!(check(&leaf, &parts, false), Err(wanted));
    }
}

#[test]
fn many_and_long_names_keep_within_the_bounds() {
    let users: Vec<String> = (0..7_000).map(|n| format!("user:{n}")).collect();
    let crowd = AuditEvent { details: [("users".to_owned(), users.join(" "))].into(), ..AuditEvent::default() };
    assert!(crowd.encoded_len() > 58_000);
    let Split { event, parts } = split(crowd, salts_of_many());
    assert_eq!(parts.len(), MOST);
    assert!(event.encoded_len() <= LARGEST && !is_in_the_clear(&event));
    check(&event, &parts, false).unwrap();
    let long = AuditEvent { reason: format!("user:{}", "1".repeat(9_000)), ..AuditEvent::default() };
    let Split { event, parts } = split(long, salts());
    assert_eq!((event.reason.as_str(), parts[0].name.len()), ("user:#1", LONGEST));
    check(&event, &parts, false).unwrap();
}

fn salts_of_many() -> impl FnMut() -> [u8; 32] {
    || [7; 32]
}

fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "user:[a-c#0-9@,.]{0,6}",
        "[ a-c:,.\"#0-9]{0,5}",
        Just("user:#1".to_owned()),
        Just("xuser:#1".to_owned()),
        Just("user:".to_owned()),
    ];
    prop::collection::vec(part, 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    /// Whatever texts an event has: split and shown again it is the same, and as a leaf it names nobody.
    #[test]
    fn every_event_comes_back(subject in text(), link in text(), reason in text(), detail in text(), id in text()) {
        let event = AuditEvent {
            subject,
            chain: vec![link],
            reason,
            resource: Some(EventResource { id, ..Default::default() }),
            details: [("x".to_owned(), detail)].into(),
            ..AuditEvent::default()
        };
        let Split { event: leaf, parts } = split(event.clone(), salts());
        prop_assert!(!is_in_the_clear(&leaf), "{leaf:?}");
        prop_assert_eq!(check(&leaf, &parts, false), Ok(()));
        prop_assert_eq!(AuditEvent { personal: Vec::new(), ..shown(leaf, &parts) }, event);
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>(), marked in "(user:#?[\\PC]{0,3}){0,4}") {
        let event = AuditEvent { reason: text, subject: marked, ..AuditEvent::default() };
        let Split { event: leaf, parts } = split(event, salts());
        let _any = shown(leaf, &parts);
    }
}
