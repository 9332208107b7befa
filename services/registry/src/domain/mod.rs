//! What the registry knows without clock, network or disk: what a declaration is, and how an agent lives.

pub(crate) mod approval;
pub(crate) mod attestation;
pub(crate) mod check;
pub(crate) mod containment;
pub(crate) mod cut_off;
pub(crate) mod delegation;
pub(crate) mod diff;
pub(crate) mod history;
pub(crate) mod kind;
pub(crate) mod leave;
pub(crate) mod lifecycle;
pub(crate) mod lifecycle_policy;
pub(crate) mod lineage;
pub(crate) mod mask;
pub(crate) mod operators;
pub(crate) mod overdue;
pub(crate) mod personal;
mod principal;
pub(crate) mod problem;
mod reflect;
pub(crate) mod review;
pub(crate) mod standing;
pub(crate) mod stop;
pub(crate) mod subject;
pub(crate) mod succession;
pub(crate) mod terms;
mod text;
pub(crate) mod usage;

#[cfg(test)]
mod samples;
