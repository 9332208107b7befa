//! The journeys: a question is answered, a token's contents are agreed to, a change is previewed.

mod asker;
mod authorize_issuance;
mod evaluate;
mod preview;
pub(crate) mod record;
mod subject;

pub(crate) use asker::Asker;
#[cfg(test)]
pub(crate) use asker::Kind;
pub(crate) use authorize_issuance::{Chain, Issuance, Leave, authorize_issuance};
pub(crate) use evaluate::{Desk, Spoken, evaluate};
pub(crate) use preview::{Preview, preview};
pub(crate) use subject::Tokens;

#[cfg(test)]
mod tests;
