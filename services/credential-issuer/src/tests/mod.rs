//! The journeys on every database, with the registry and policy-decision played by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cas;
mod clients;
mod enrolment;
mod faults;
mod federation;
mod identity;
mod instances;
mod keys;
mod login;
mod operators;
mod outside;
mod policies;
mod raised;
mod registry;
mod renewal;
mod requests;
mod rests;
mod revocation;
mod scene;
mod standing;
mod tokens;
