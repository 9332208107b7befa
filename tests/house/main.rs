//! The rules of the house, and the house as a whole, as tests in one binary.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod abuse;
mod access;
mod asking;
mod blessed;
mod bulk;
mod delegation;
mod deploy;
mod faults;
mod federation;
mod governed;
mod governing;
mod instances;
mod invariants;
mod journeys;
mod keys;
mod log;
mod oauth;
mod operators;
mod outside;
mod postgres;
mod processes;
mod raised;
mod reasons;
mod scim;
mod search;
mod secrets;
mod shutdown;
mod spawning;
mod standing;
mod succession;
mod tidy;
