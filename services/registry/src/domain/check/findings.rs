//! Problems as they are found, and the rules that several kinds share.

use std::collections::BTreeSet;
use std::time::Duration;

use legate_clock::Timestamp;
use legate_ids::Name;
use legate_rpc::Reason;

use crate::domain::principal;
use crate::domain::problem::Problem;
use crate::domain::text::{self, Lines, TEXT, quoted};

/// The most entries of most lists.
pub(super) const LIST: usize = 64;

/// What was found so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Problem>);

impl From<Findings> for Vec<Problem> {
    fn from(findings: Findings) -> Self {
        findings.0
    }
}

impl Findings {
    pub(super) fn add(&mut self, path: impl Into<String>, why: impl Into<String>) {
        self.0.push(Problem::invalid(path, why));
    }

    pub(super) fn add_for(&mut self, reason: &'static Reason, path: impl Into<String>, why: impl Into<String>) {
        self.0.push(Problem::of(reason, path, why));
    }

    /// A message that has to be there, and what is in it.
    pub(super) fn present<T>(&mut self, path: &str, message: Option<&T>, check: impl FnOnce(&T, &mut Self)) {
        match message {
            Some(message) => check(message, self),
            None => self.add(path, "is missing"),
        }
    }

    /// A text that may be empty.
    pub(super) fn text(&mut self, path: &str, value: &str, lines: Lines) {
        self.text_within(path, value, TEXT, lines);
    }

    /// A text of at most `longest` bytes that may be empty.
    pub(super) fn text_within(&mut self, path: &str, value: &str, longest: usize, lines: Lines) {
        if let Some(why) = text::fault_in(value, longest, lines) {
            self.add(path, why);
        }
    }

    /// A text that says something.
    pub(super) fn required(&mut self, path: &str, value: &str, lines: Lines) {
        if value.trim().is_empty() {
            self.add(path, "is missing");
        } else {
            self.text(path, value, lines);
        }
    }

    /// The name of another object.
    pub(super) fn name(&mut self, path: &str, value: &str) {
        if let Err(e) = Name::parse(value) {
            self.add(path, format!("{} is no name: {e}", quoted(value)));
        }
    }

    /// A user or group; empty is for the caller to judge.
    pub(super) fn principal(&mut self, path: &str, value: &str) {
        if let Some(why) = principal::fault_in(value) {
            self.add(path, format!("{} {why}", quoted(value)));
        }
    }

    /// Not more than `most` entries. Beyond that they are not looked at, so that a list of millions costs nothing.
    pub(super) fn at_most(&mut self, path: &str, length: usize, most: usize) -> bool {
        if length > most {
            self.add(path, format!("has {length} entries; give at most {most}"));
        }
        length <= most
    }

    /// Texts of which none is empty or given twice, and what else has to hold for each.
    pub(super) fn texts(
        &mut self,
        path: &str,
        values: &[String],
        most: usize,
        mut check: impl FnMut(&mut Self, &str, &str),
    ) {
        if !self.at_most(path, values.len(), most) {
            return;
        }
        let mut seen = BTreeSet::new();
        for (n, value) in values.iter().enumerate() {
            let path = format!("{path}[{n}]");
            if seen.insert(value) {
                check(self, &path, value);
            } else {
                self.add(path, format!("{} is given twice", quoted(value)));
            }
        }
    }

    /// An enum's number: known, and set where it has to be. `words` are the values, for people.
    pub(super) fn choice<E: TryFrom<i32>>(&mut self, path: &str, number: i32, is_required: bool, words: &str) {
        if number == 0 && is_required {
            self.add(path, format!("is missing; give {words}"));
        } else if E::try_from(number).is_err() {
            self.add(path, format!("{number} is not known; give {words}"));
        }
    }

    /// Numbers of an enum: each known, set and given once.
    pub(super) fn choices<E: TryFrom<i32>>(&mut self, path: &str, numbers: &[i32], words: &str) {
        if !self.at_most(path, numbers.len(), LIST) {
            return;
        }
        let mut seen = BTreeSet::new();
        for (n, number) in numbers.iter().enumerate() {
            let path = format!("{path}[{n}]");
            if seen.insert(number) {
                self.choice::<E>(&path, *number, true, words);
            } else {
                self.add(path, "is given twice");
            }
        }
    }

    /// A moment in the range of protobuf.
    pub(super) fn moment(&mut self, path: &str, value: Option<prost_types::Timestamp>) -> Option<Timestamp> {
        match Timestamp::try_from(value?) {
            Ok(moment) => Some(moment),
            Err(e) => {
                self.add(path, e.to_string());
                None
            }
        }
    }

    /// A window that is not empty.
    pub(super) fn window(
        &mut self,
        prefix: &str,
        not_before: Option<prost_types::Timestamp>,
        not_after: Option<prost_types::Timestamp>,
    ) {
        let from = self.moment(&format!("{prefix}not_before"), not_before);
        let to = self.moment(&format!("{prefix}not_after"), not_after);
        let micros = |at: Option<Timestamp>| at.map(Timestamp::micros);
        if let Err(e) = legate_authority::Window::new(micros(from), micros(to)) {
            self.add(format!("{prefix}not_after"), e.to_string());
        }
    }

    /// A length of time, absent or in the range; `words` are the range, for people.
    pub(super) fn span(
        &mut self,
        path: &str,
        value: Option<prost_types::Duration>,
        range: std::ops::RangeInclusive<Duration>,
        words: &str,
    ) {
        let Some(value) = value else {
            return;
        };
        // google.protobuf.Duration: the sign of both parts is the same, and nanos stay below a second.
        let is_well_formed = (0..1_000_000_000).contains(&value.nanos);
        let span = u64::try_from(value.seconds).ok().zip(u32::try_from(value.nanos).ok());
        match span.map(|(secs, nanos)| Duration::from_secs(secs).saturating_add(Duration::from_nanos(nanos.into()))) {
            Some(span) if is_well_formed && range.contains(&span) => {}
            _ => self.add(path, format!("is out of range; give {words}")),
        }
    }
}
