//! The journeys, a file each, and the desk at which they are made.

pub(crate) mod assertion;
pub(crate) mod authenticate;
pub(crate) mod backchannel;
pub(crate) mod create_client;
pub(crate) mod create_enrolment;
mod desk;
pub(crate) mod dpop;
pub(crate) mod enrol;
pub(crate) mod enrol_by_identity;
mod equip;
pub(crate) mod exchange;
pub(crate) mod find_leaked;
pub(crate) mod foreign;
pub(crate) mod forget;
pub(crate) mod health;
pub(crate) mod instances;
pub(crate) mod issue_token;
pub(crate) mod keyring;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod live;
pub(crate) mod login;
mod mandate;
pub(crate) mod personal_grant;
pub(crate) mod preview_revocation;
pub(crate) mod publish;
pub(crate) mod renew;
pub(crate) mod revoke;
pub(crate) mod revoke_instance;
pub(crate) mod revoke_token;
pub(crate) mod status_list;

pub(crate) use crate::convert::Call;
pub(crate) use desk::Desk;
