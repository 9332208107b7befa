//! How long names are kept: by the class of an event, in whole weeks.

use legate_clock::Timestamp;

/// A week in microseconds.
pub(crate) const WEEK: i64 = 7 * 24 * 3_600 * 1_000_000;

/// The weeks since 1970.
pub(crate) fn week(at: Timestamp) -> u32 {
    u32::try_from(at.micros().div_euclid(WEEK)).unwrap_or(0)
}

/// For how long the names of some events are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Its name, such as that of the regime that asks for it; never changes, as keys are made for it.
    pub(crate) name: String,
    /// Events whose type is one of these, or begins with one and a dot.
    pub(crate) types: Vec<String>,
    pub(crate) days: u32,
}

/// The rules; the first that matches counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retention {
    pub(crate) rules: Vec<Rule>,
    /// For everything else; `None`: for ever.
    pub(crate) days: Option<u32>,
}

impl Retention {
    /// The class of an event: 0 for what no rule matches.
    pub(crate) fn class(&self, kind: &str) -> u32 {
        let matches =
            |of: &String| kind.strip_prefix(of.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let rule = self.rules.iter().find(|rule| rule.types.iter().any(matches));
        rule.map_or(0, |rule| number(&rule.name))
    }

    /// Whether what a key of this class and week seals has had its time, in the week `now`. A class of no rule any more is as
    /// what no rule matches.
    pub(crate) fn is_over(&self, class: u32, of: u32, now: u32) -> bool {
        let rule = self.rules.iter().find(|rule| number(&rule.name) == class);
        let Some(days) = rule.map(|rule| rule.days).or(self.days) else { return false };
        // The last moment of its week has to be so long ago at the first of this one.
        now > of.saturating_add(days.div_ceil(7))
    }
}

/// A rule's number, by its name alone (FNV-1a); never 0.
fn number(name: &str) -> u32 {
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn retention() -> Retention {
        let rule = |name: &str, types: &[&str], days| Rule {
            name: name.into(),
            types: types.iter().map(|t| (*t).to_owned()).collect(),
            days,
        };
        Retention {
            rules: vec![rule("hipaa", &["decision"], 2_190), rule("reads", &["log.queried"], 200)],
            days: Some(183),
        }
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        let of = retention();
        assert_eq!(of.class("decision.made"), of.class("decision"));
        assert_eq!(of.class("decisions.listed"), 0);
        assert_eq!(of.class("log.tailed"), 0);
        assert_ne!(of.class("log.queried"), of.class("decision.made"));
        assert!(of.is_over(0, 100, 128) && !of.is_over(of.class("decision.made"), 100, 128));
        assert!(of.is_over(77, 100, 128), "a class of a rule that is gone");
        assert!(!Retention::default().is_over(0, 0, u32::MAX));
    }

    proptest! {
        #[test]
        fn nothing_ends_before_its_days_nor_two_weeks_after_them(days in 183u32..4_000, at in 0i64..4_000_000_000) {
            let of = Retention { rules: Vec::new(), days: Some(days) };
            let then = Timestamp::from_secs(at);
            let day = |n: u32| then.plus(std::time::Duration::from_secs(u64::from(n) * 86_400));
            prop_assert!(!of.is_over(0, week(then), week(day(days))));
            prop_assert!(of.is_over(0, week(then), week(day(days + 14))));
        }
    }
}
