//! The flags of lists as a filter, and a point in the past as people give it.

use std::time::Duration;

use legate_clock::{Clock, SystemClock, Timestamp};
use legate_filter::{Field, Node, Order, Term, Test};
use legate_wire::registry::{AgentState, AsOf, as_of::At};

use super::query::moment;
use crate::cli::{OfAgents, Search, When};
use crate::error::USAGE;
use crate::{Failure, manifest};

/// The point in the past that was given.
pub(super) fn as_of(when: &When) -> Result<Option<AsOf>, Failure> {
    let Some(text) = &when.as_of else { return Ok(None) };
    let at = match text.parse() {
        Ok(revision) => At::Revision(revision),
        Err(_) => At::Time(moment("--as-of", text, SystemClock::new().now())?.into()),
    };
    Ok(Some(AsOf { at: Some(at) }))
}

/// One filter out of the one that was written and of the flags. All of them have to hold; since OR binds more tightly than
/// AND, what was written needs no parentheses, and its bytes keep their places.
pub(super) fn filter(search: &Search, agents: &OfAgents) -> Result<String, Failure> {
    filter_at(search, agents, SystemClock::new().now())
}

fn filter_at(search: &Search, agents: &OfAgents, now: Timestamp) -> Result<String, Failure> {
    let mut parts: Vec<String> = search.filter.iter().cloned().collect();
    let is = |field: Field, text: &str| term(field, Test::Is(text.to_owned())).to_string();
    for label in &search.label {
        parts.push(match label.split_once('=') {
            Some((key, value)) => is(key_of(key)?, value),
            None => term(key_of(label)?, Test::Present).to_string(),
        });
    }
    parts.extend(agents.owner.as_ref().map(|owner| is(Field::Owners, owner)));
    parts.extend(agents.sponsor.as_ref().map(|sponsor| is(Field::Sponsors, sponsor)));
    parts.extend(agents.class.as_ref().map(|class| is(Field::AgentClass, class)));
    let active = || term(Field::State, Test::Word(Order::Equal, AgentState::Active as i32));
    let moment = |field, order, at: Timestamp| term(field, Test::Moment(order, at.micros()));
    if let Some(text) = &agents.dormant {
        let since = now.minus(span("--dormant", text)?);
        let never = Node::Not(Box::new(term(Field::LastUsedTime, Test::Present)));
        let never = Node::All(vec![never, moment(Field::CreateTime, Order::Less, since)]);
        let either = Node::Any(vec![moment(Field::LastUsedTime, Order::Less, since), never]);
        parts.push(Node::All(vec![active(), either]).to_string());
    }
    if let Some(text) = &agents.expiring {
        let until = now.plus(span("--expiring", text)?);
        parts.push(Node::All(vec![active(), moment(Field::ExpireTime, Order::Less, until)]).to_string());
    }
    if let Some(text) = &agents.due {
        let until = now.plus(span("--due", text)?);
        parts.push(moment(Field::LifecycleDueTime, Order::Less, until).to_string());
    }
    if agents.orphaned {
        parts.push(term(Field::OrphanedTime, Test::Present).to_string());
    }
    Ok(parts.join(" AND "))
}

fn term(field: Field, test: Test) -> Node {
    Node::Term(Term { field, test })
}

fn key_of(key: &str) -> Result<Field, Failure> {
    let is_good = |b: u8| b.is_ascii_alphanumeric() || b"._/-".contains(&b);
    if !(1..=63).contains(&key.len()) || !key.bytes().all(is_good) {
        return Err(Failure::local(&USAGE, format!("--label {key:?}: a key has 1 to 63 of A-Z a-z 0-9 . _ / -")));
    }
    Ok(Field::Label(key.to_owned()))
}

/// A duration such as 24h.
pub(super) fn span(flag: &str, text: &str) -> Result<Duration, Failure> {
    let seconds = manifest::duration(text).ok().and_then(|d| u64::try_from(d.seconds).ok());
    let wrong = || Failure::local(&USAGE, format!("{flag} {text:?} is no duration such as 24h or 90d"));
    seconds.map(Duration::from_secs).ok_or_else(wrong)
}

/// How many there are in all, where not all are shown.
pub(super) fn in_all(more: bool, total: u64, is_exact: bool) -> String {
    match (more, is_exact) {
        (false, _) => String::new(),
        (true, true) => format!(" ({total} in all)"),
        (true, false) => format!(" (at least {total} in all)"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use legate_filter::{Filter, Scope};

    fn told(search: Search, agents: OfAgents) -> String {
        let text = filter_at(&search, &agents, Timestamp::from_secs(1_800_000_000)).unwrap();
        assert!(text.is_empty() || Filter::parse(&text, Scope::Agents).is_ok(), "{text}");
        text
    }

    #[test]
    fn flags_are_a_filter() {
        let search = |filter: &str, label: &[&str]| Search {
            filter: (!filter.is_empty()).then(|| filter.to_owned()),
            label: label.iter().map(|l| (*l).to_owned()).collect(),
            ..Search::default()
        };
        assert_eq!(told(Search::default(), OfAgents::default()), "");
        assert_eq!(told(search("model = a OR model = b", &[]), OfAgents::default()), "model = a OR model = b");
        let agents = OfAgents { owner: Some("user:\"x*".into()), class: Some("clerk".into()), ..OfAgents::default() };
        assert_eq!(
            told(search("model = a OR model = b", &["team=pay", "new"]), agents),
            "model = a OR model = b AND labels.team = \"pay\" AND labels.new:* AND owners:\"user:\\\"x\\*\" AND \
             agent_class = \"clerk\""
        );
        let agents = OfAgents { dormant: Some("90d".into()), ..OfAgents::default() };
        let since = "\"2026-10-17T08:00:00Z\"";
        assert_eq!(
            told(search("", &[]), agents),
            format!("state = active AND last_used_time < {since} OR (NOT last_used_time:* AND create_time < {since})")
        );
        let agents = OfAgents { expiring: Some("7d".into()), ..OfAgents::default() };
        let due = OfAgents { due: Some("7d".into()), ..OfAgents::default() };
        assert_eq!(told(search("", &[]), due), "lifecycle_due_time < \"2027-01-22T08:00:00Z\"");
        let orphaned = OfAgents { orphaned: true, ..OfAgents::default() };
        assert_eq!(told(search("", &[]), orphaned), "orphaned_time:*");
        let expected = "state = active AND expire_time < \"2027-01-22T08:00:00Z\"";
        assert_eq!(told(search("", &[]), agents), expected);
        for bad in [
            filter(&search("", &["a b=c"]), &OfAgents::default()),
            filter(&Search::default(), &OfAgents { dormant: Some("long".into()), ..OfAgents::default() }),
        ] {
            assert_eq!(bad.unwrap_err().reason, "USAGE");
        }
    }

    #[test]
    fn the_past_is_given_in_three_ways() {
        let at = |text: &str| as_of(&When { as_of: Some(text.into()) });
        assert_eq!(at("42").unwrap().unwrap().at, Some(At::Revision(42)));
        let time = at("2026-11-24T08:00:00Z").unwrap().unwrap().at;
        assert!(matches!(time, Some(At::Time(t)) if t.seconds == 1_795_507_200), "{time:?}");
        assert!(matches!(at("7d").unwrap().unwrap().at, Some(At::Time(_))));
        assert_eq!(at("yesterday").unwrap_err().reason, "USAGE");
        assert_eq!(as_of(&When::default()).unwrap(), None);
    }
}
