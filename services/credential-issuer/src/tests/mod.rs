//! The journeys on every database, with the registry and policy-decision played by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod approvals;
mod asked;
mod attested;
mod cas;
mod clients;
mod crashes;
mod cut_off;
mod ended;
mod enrolment;
mod exchange;
mod faults;
mod federated;
mod federation;
mod health;
mod identity;
mod instances;
mod keys;
mod leaked;
mod login;
mod operators;
mod outside;
mod people;
#[cfg(feature = "pkcs11")]
mod pkcs11;
mod policies;
mod raised;
mod registry;
mod renewal;
mod replicas;
mod requests;
mod rests;
mod revocation;
mod scene;
mod standing;
mod status_list;
mod storage;
mod together;
mod tokens;
mod watching;
mod workload;
