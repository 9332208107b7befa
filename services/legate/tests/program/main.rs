//! The real program against a real `legate dev`, as a person uses it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod change;
mod dev;
mod dossier;
mod drift;
mod earlier;
mod evidence;
mod exits;
mod export;
mod governed;
mod house;
mod import;
mod lives;
mod mcp;
mod operators;
mod outputs;
mod person;
mod personal;
mod pipelines;
mod policies;
mod readme;
mod restart;
mod reviews;
mod rewrapped;
mod rotated;
mod schema;
mod sdk;
mod witness;
