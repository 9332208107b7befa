//! Each trap of the TLS libraries, tried on a real socket.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod among;
mod certificates;
mod connections;
mod handshakes;
mod house;
mod reload;
mod resumption;
mod servers;
mod web;
