//! Why a text is no filter: where, what was expected there, and what to do.

use alloc::string::String;
use core::fmt;

/// Why a text is no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadFilter {
    /// Where, in bytes from the beginning.
    pub at: usize,
    /// What is wrong there, and what to write instead.
    pub why: String,
}

impl BadFilter {
    pub(crate) fn new(at: usize, why: impl Into<String>) -> Self {
        Self { at, why: why.into() }
    }
}

impl fmt::Display for BadFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.why)
    }
}

impl core::error::Error for BadFilter {}
