//! From when until when a grant holds.

/// Unix time in microseconds.
pub type Micros = i64;

/// The half-open span `not_before <= now < not_after`; a side left open has no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Window {
    not_before: Option<Micros>,
    not_after: Option<Micros>,
}

/// A window that could never hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not_after must be later than not_before")]
pub struct BadWindow;

impl Window {
    /// A window that always holds.
    pub const ALWAYS: Self = Self { not_before: None, not_after: None };

    /// A window from `not_before` (inclusive) to `not_after` (exclusive).
    ///
    /// # Errors
    /// [`BadWindow`] when both are given and the window is empty.
    pub fn new(not_before: Option<Micros>, not_after: Option<Micros>) -> Result<Self, BadWindow> {
        match (not_before, not_after) {
            (Some(from), Some(to)) if from >= to => Err(BadWindow),
            _ => Ok(Self { not_before, not_after }),
        }
    }

    /// Whether it holds at `now`.
    #[must_use]
    pub fn holds_at(&self, now: Micros) -> bool {
        self.not_before.is_none_or(|from| from <= now) && self.not_after.is_none_or(|to| now < to)
    }

    /// Whether it holds at every moment at which `other` does.
    #[must_use]
    pub fn includes(&self, other: &Self) -> bool {
        let starts = self.not_before.is_none_or(|from| other.not_before.is_some_and(|other| from <= other));
        let ends = self.not_after.is_none_or(|to| other.not_after.is_some_and(|other| other <= to));
        starts && ends
    }

    /// When it ends, where it does.
    #[must_use]
    pub fn not_after(&self) -> Option<Micros> {
        self.not_after
    }

    /// When it starts, where it does.
    #[must_use]
    pub fn not_before(&self) -> Option<Micros> {
        self.not_before
    }

    /// The first moment after `now` at which the answer of [`Window::holds_at`] changes.
    #[must_use]
    pub fn next_change(&self, now: Micros) -> Option<Micros> {
        let later = |at: Option<Micros>| at.filter(|at| *at > now);
        later(self.not_before).or_else(|| later(self.not_after))
    }
}
