//! What a decision is: no clock, no network, no disk.

pub(crate) mod action_groups;
pub(crate) mod answer;
pub(crate) mod approval;
pub(crate) mod authority;
pub(crate) mod behalf;
pub(crate) mod boundary;
pub(crate) mod conform;
pub(crate) mod derivation;
pub(crate) mod drift;
pub(crate) mod entities;
pub(crate) mod entitled;
pub(crate) mod issuable;
pub(crate) mod literals;
pub(crate) mod memory;
pub(crate) mod near;
pub(crate) mod policies;
pub(crate) mod preview;
pub(crate) mod question;
pub(crate) mod replayed;
pub(crate) mod reviewed;
pub(crate) mod route;
pub(crate) mod scope;
pub(crate) mod shadow;
pub(crate) mod standing;
pub(crate) mod sweeping;
