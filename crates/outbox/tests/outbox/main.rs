//! The outbox on real databases, and the shipper against a collector that is played well and badly.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod interleavings;
mod played;
mod record;
mod restored;
mod scene;
mod ship;
