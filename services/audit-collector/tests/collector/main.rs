//! The service as it is started, over real mutual TLS, and everybody who calls it or should not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod abuse;
mod alert_feed;
mod alerts;
mod asking;
mod copies;
mod erasing;
mod evidence;
mod house;
mod otlp;
mod pace;
mod quotas;
mod reading;
mod receipts;
mod roles;
mod rotating;
mod serve;
mod signed;
mod takeover;
mod webhook;
