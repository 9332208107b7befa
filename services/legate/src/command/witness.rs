//! `legate witness`: a witness of one's own, for logs of others.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use legate_boot::config::Telemetry;
use legate_boot::{init_telemetry, wait_for_signal};
use legate_clock::SystemClock;
use legate_merkle::VerifierKey;

use crate::cli::WitnessVerb;
use crate::error::{FILE_REFUSED, START_REFUSED, USAGE};
use crate::output::{Format, Out};
use crate::witness::{BadKey, Book, Door, Witness, make, open, serve};
use crate::{Exit, Failure};

/// Requests under way have so long to end.
const GRACE: std::time::Duration = std::time::Duration::from_secs(3);

pub(super) async fn run(format: Format, verb: WitnessVerb) -> Result<Exit, Failure> {
    match verb {
        WitnessVerb::Key { name, dir, key } => {
            let cosigner = make(&key_file(key, &dir), &dir, &name).map_err(refused)?;
            let mut out = Out::stdout(format);
            out.line(&cosigner.verifier().to_string())?;
            out.flush()?;
        }
        WitnessVerb::Serve { dir, key, logs, listen, cert, cert_key } => {
            let logs = known(&logs)?;
            let cosigner = open(&key_file(key, &dir), &dir).map_err(refused)?;
            let book = Book::open(&dir, cosigner.verifier()).map_err(|e| refused(e.into()))?;
            let witness = Witness::new(cosigner, logs, &book, SystemClock::shared()).map_err(|e| refused(e.into()))?;
            let log = crate::dev::log_level();
            let guard = init_telemetry(&Telemetry { log, ..Telemetry::default() }, "legate")?;
            let door = Door { listen, tls: cert.zip(cert_key) };
            let scheme = if door.tls.is_some() { "https" } else { "http" };
            let web = serve(Arc::new(witness), door).await?;
            let mut out = std::io::stdout().lock();
            // Whoever started us may have closed the pipe; the witness serves all the same.
            let _closed = writeln!(out, "ready {scheme}://{}", web.addr());
            let _closed = out.flush();
            drop(out);
            wait_for_signal().await.map_err(|e| Failure::local(&START_REFUSED, e.to_string()))?;
            web.shutdown(GRACE).await;
            drop(book);
            guard.flush().await;
        }
    }
    Ok(Exit::Done)
}

fn key_file(given: Option<PathBuf>, dir: &Path) -> PathBuf {
    given.unwrap_or_else(|| dir.join("witness.key"))
}

fn refused(e: BadKey) -> Failure {
    Failure::local(&FILE_REFUSED, e.to_string())
}

/// The logs of the command line, by their origins. Those of one origin are the keys of one log, in the order in which they follow.
fn known(logs: &[String]) -> Result<BTreeMap<String, Vec<VerifierKey>>, Failure> {
    let mut known: BTreeMap<String, Vec<VerifierKey>> = BTreeMap::new();
    for text in logs {
        let bad = |why: &dyn std::fmt::Display| Failure::local(&USAGE, format!("--log {text:?}: {why}"));
        // Behind the second plus is base64, in which there is no @.
        let key_at = text.match_indices('+').nth(1).map_or(0, |(at, _)| at);
        let (key, origin) = match text[key_at..].split_once('@') {
            Some((key, origin)) => (&text[..key_at + key.len()], Some(origin)),
            None => (text.as_str(), None),
        };
        let key = VerifierKey::parse(key).map_err(|e| bad(&e))?;
        let origin = origin.unwrap_or(key.name()).to_owned();
        if origin.is_empty() || origin.contains('\n') {
            return Err(bad(&"an origin is a line of text"));
        }
        let keys = known.entry(origin).or_default();
        if keys.contains(&key) {
            return Err(bad(&"this log has this key already"));
        }
        keys.push(key);
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_log_is_named_by_its_key_and_perhaps_an_origin() {
        let key = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
        let origins = |logs: &[String]| known(logs).map(|known| known.into_keys().collect::<Vec<_>>());
        assert_eq!(origins(&[key.into()]).unwrap(), ["example.com/foo"]);
        assert_eq!(origins(&[key.into(), format!("{key}@a log")]).unwrap(), ["a log", "example.com/foo"]);
        for bad in [vec![key.into(), key.into()], vec![format!("{key}@")], vec!["x".into()], vec!["@".into()]] {
            assert_eq!(origins(&bad).unwrap_err().reason, "USAGE", "{bad:?}");
        }
    }
}
