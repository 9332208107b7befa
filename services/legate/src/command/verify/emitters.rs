//! Who signed the events that `legate verify` looks at, and the CAs that have to vouch for them.

use std::collections::BTreeMap;

use legate_ids::TrustDomain;
use legate_mtls::{CaFiles, Trust};

use crate::Failure;
use crate::cli::Verify;
use crate::error::CONTEXT_MISSING;

/// The CAs of the command line; `None`: none are given. The trust domain is that of the log's name, unless it is given.
pub(super) fn trust(args: &Verify, log: Option<&str>) -> Result<Option<Trust>, Failure> {
    let Some(services) = args.services_ca.clone() else { return Ok(None) };
    let of_log = log.map(|log| log.split('/').next().unwrap_or_default().to_owned());
    let missing = || {
        let what = "nobody said whose certificates are to be believed: give --key or --trust-domain with --services-ca";
        Failure::local(&CONTEXT_MISSING, what)
    };
    let domain = args.trust_domain.clone().or(of_log).ok_or_else(missing)?;
    let domain = TrustDomain::parse(&domain).map_err(|e| Failure::file(&services, e))?;
    let files = CaFiles { services: services.clone(), workloads: args.workloads_ca.clone(), operators: None };
    Trust::open(domain, files).map(Some).map_err(|e| Failure::file(&services, e))
}

/// For people: whose keys signed how many events.
pub(super) fn lines(signed_by: &BTreeMap<String, u64>, all: u64) -> String {
    let signed: u64 = signed_by.values().sum();
    let line = |(who, count): (&String, &u64)| format!("{count} events by the key of {who}");
    let rest = match all.saturating_sub(signed) {
        0 => None,
        rest => Some(format!("{rest} by nobody's: who told them is the log's word")),
    };
    signed_by.iter().map(line).chain(rest).collect::<Vec<_>>().join("\n")
}
