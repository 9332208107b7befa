//! What a filter is asked of.

use crate::{Field, Micros};

/// An agent, or another object, as a filter sees it. What it does not have, it does not answer for.
pub trait Subject {
    /// Whether `test` holds for the text of the field, or for one text of its list. Of a label that is not there no text is
    /// shown; an empty text of any other field counts as not set.
    fn any_text(&self, field: &Field, test: &mut dyn FnMut(&str) -> bool) -> bool;

    /// The number of the field's word, as in the protobufs; `None` or 0 where none was chosen.
    fn word(&self, field: &Field) -> Option<i32>;

    /// The field's moment.
    fn moment(&self, field: &Field) -> Option<Micros>;
}
