//! What is under deploy/ fits the programs that it deploys.

mod configs;
mod metrics;
mod pki;
mod units;

/// The services, by name.
const SERVICES: [&str; 4] = ["registry", "credential-issuer", "policy-decision", "audit-collector"];
