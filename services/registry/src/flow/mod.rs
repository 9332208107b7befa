//! The journeys, a file each, and the desk at which they are made.

pub(crate) mod administrators;
pub(crate) mod adopt;
pub(crate) mod apply;
pub(crate) mod bulk;
pub(crate) mod create_agent;
mod desk;
pub(crate) mod hand_over;
pub(crate) mod history;
mod leave;
mod lineage;
pub(crate) mod list;
pub(crate) mod mandate;
pub(crate) mod own_roles;
mod past;
pub(crate) mod plan;
pub(crate) mod publish;
pub(crate) mod read;
mod removal;
pub(crate) mod revoke;
pub(crate) mod spawn;
pub(crate) mod spawned;
mod stage;
mod stage_attestation;
mod stage_grant;
pub(crate) mod standing;
pub(crate) mod sweep;
mod tail;
pub(crate) mod transition;
pub(crate) mod update;
pub(crate) mod watch;
mod write;

pub(crate) use desk::Desk;
pub(crate) use lineage::Calling;
pub(crate) use stage::refusal;
pub(crate) use tail::{Tail, follow_forever};
pub(crate) use write::{By, Call};
