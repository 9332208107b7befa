//! The chassis over real TLS: what a handler learns of its caller, and every bound.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
mod house;
mod visitors;
