//! The chassis on a real socket, over mutual TLS: who gets in, for how long, with what, and how it ends.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod callers;
mod ending;
mod house;
mod limits;
