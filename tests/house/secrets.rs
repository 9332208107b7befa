//! No secret is ever in a log line, an audit event, an error or a database (I7).

use std::path::{Path, PathBuf};

use legate_client::enrol;

use crate::asking::{Shown, ask, question};
use crate::processes::Processes;
use crate::raised::AUDIENCE;

/// Every file below a directory.
fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, into) } else { into.push(path) }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_nowhere_but_with_their_holders() {
    // Everything that our own code can say, and what the libraries say at `debug`.
    let mut suite = Processes::start("debug,legate=trace,legate_rpc=trace,legate_registry=trace,legate_credential_issuer=trace,legate_policy_decision=trace,legate_audit_collector=trace,legate_outbox=trace,legate_db=trace,legate_view=trace,legate_mtls=trace").await;
    let mut parties = suite.parties().await;
    let mut secrets = std::mem::take(&mut parties.secrets);
    let token = parties.runtime.token(AUDIENCE).await.unwrap().access_token;
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    secrets.extend([signature(&parties.shown.token), signature(&token)]);

    // Each is used, rightly and wrongly, so that every path that meets it has run.
    let mut errors = Vec::new();
    let spent = enrol(&suite.remote("credential-issuer"), &secrets[0]).await.unwrap_err();
    assert_eq!(spent.reason(), "ENROLMENT_TOKEN_SPENT");
    errors.push(spent.to_string());
    let mistyped = format!("{}x", secrets[0]);
    errors.push(enrol(&suite.remote("credential-issuer"), &mistyped).await.unwrap_err().to_string());
    ask(&parties.backend, question(&parties.shown, "invoice:read", "apollo/1")).await;
    for wrong in [format!("{token}x"), format!("x{token}"), token.replace('.', "")] {
        let shown = Shown { token: wrong, presenter: parties.shown.presenter };
        let answer = ask(&parties.backend, question(&shown, "invoice:read", "apollo/1")).await;
        errors.push(format!("{answer:?}"));
    }
    let other = Shown { token: token.clone(), presenter: [1; 32] };
    let known = ask(&parties.backend, question(&other, "invoice:read", "apollo/1")).await.decision_id;
    parties.runtime.renew().await.unwrap();
    suite.stop();

    for private in ["operator.key", "pki/services-ca.key", "credential-issuer/workloads-ca.key", "registry/tls.key"] {
        let pem = std::fs::read_to_string(suite.root().join(private)).unwrap();
        let lines = pem.lines().filter(|line| !line.starts_with("--"));
        secrets.push(lines.max_by_key(|line| line.len()).unwrap().to_owned());
    }
    let mut all = Vec::new();
    files(suite.root(), &mut all);
    for service in legate::dev::pki::SERVICES {
        all.push(suite.log_file(service));
    }
    let mut found = Vec::new();
    let mut is_looking = false;
    for path in all {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".key") || name == "enrolment.pepper" {
            continue;
        }
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        // What is no secret is found: so a secret would be.
        is_looking |= text.contains(&known);
        for (number, secret) in secrets.iter().enumerate() {
            if text.contains(secret.as_str()) {
                found.push(format!("secret {number} in {name}"));
            }
        }
    }
    for (number, secret) in secrets.iter().enumerate() {
        assert!(secret.len() >= 32, "secret {number} is no secret");
        assert!(!errors.iter().any(|error| error.contains(secret.as_str())), "secret {number} in an error");
    }
    assert!(is_looking, "the decision {known} was found nowhere, so the search is broken");
    assert!(found.is_empty(), "{found:?}");
}
