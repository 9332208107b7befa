//! The journeys: a question is answered or explained, a token's contents are agreed to, a change is previewed or tried, authority is
//! searched, what was decided is replayed.

mod asker;
mod asking;
mod authorize_issuance;
pub(crate) mod check_review;
pub(crate) mod drift;
mod evaluate;
mod evaluate_stream;
mod explain;
mod holder_can;
mod past;
mod preview;
pub(crate) mod record;
mod recorded;
mod replay;
pub(crate) mod roster;
mod search;
pub(crate) mod self_check;
mod shadow;
mod shadow_change;
mod simulate;
mod streams;
mod subject;
mod turns;
mod use_up;
mod what_can;
mod who_can;

pub(crate) use asker::Asker;
#[cfg(test)]
pub(crate) use asker::Kind;
pub(crate) use authorize_issuance::{Chain, Issuance, Leave, authorize_issuance, authorize_issuances};
pub(crate) use evaluate::{Desk, Spoken, evaluate};
pub(crate) use evaluate_stream::{Answers, evaluate_stream};
pub(crate) use explain::{Explain, Explained, explain};
pub(crate) use holder_can::{HolderCan, holder_can};
pub(crate) use preview::{Base, Preview, preview};
pub(crate) use replay::{Replay, replay};
pub(crate) use search::{Search, Sought, may_search, search};
pub(crate) use self_check::SelfCheck;
pub(crate) use shadow::{Shadow, shadow};
pub(crate) use shadow_change::{ShadowChange, Shadows, shadow_change};
pub(crate) use simulate::{Simulate, simulate};
pub(crate) use streams::Streams;
pub(crate) use subject::{Shown, Tokens};
pub(crate) use turns::Turns;
pub(crate) use what_can::{Can, WhatCan, what_can};
pub(crate) use who_can::{Found, Holder, WhoCan, who_can};

#[cfg(test)]
mod tests;
