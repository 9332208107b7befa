//! A process that is known by the hash of its program: read where a policy asks for it, and also where that policy comes later than the process.

use std::time::Duration;

use legate_wire::spiffe::X509svidRequest;
use sha2::{Digest as _, Sha256};

use super::scene::{self, Fleet, marked};
use crate::raised::Raised;

/// Longer than anybody needs to read a program of a few hundred megabytes.
const PATIENCE: Duration = Duration::from_secs(120);

fn by_hash(hash: &str) -> String {
    format!(
        r#"apiVersion: legate/v1
kind: AttestationPolicy
metadata: {{name: program, namespace: fleet}}
spec:
  agent: planner
  nodes: ["dev/machine"]
  selectors: [{{type: UNIX_SHA256, value: "{hash}"}}]
"#
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_an_agent_by_the_hash_of_its_program_as_soon_as_a_policy_asks_for_that() {
    let raised = Raised::with_node().await;
    let fleet = Fleet::declared(&raised, "LOW").await;
    let mut api = scene::api(&fleet.endpoint);
    let mut stream = api.fetch_x509svid(marked(X509svidRequest {})).await.unwrap().into_inner();
    let hints = |message: legate_wire::spiffe::X509svidResponse| -> Vec<String> {
        message.svids.into_iter().map(|svid| svid.hint).collect()
    };
    assert_eq!(hints(stream.message().await.unwrap().unwrap()), ["fleet/planner"]);
    // Another program's.
    scene::apply(&raised, &by_hash(&"0".repeat(64))).await.unwrap();
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let hash: String = Sha256::digest(&program).iter().map(|byte| format!("{byte:02x}")).collect();
    scene::apply(&raised, &by_hash(&hash)).await.unwrap();
    let told = tokio::time::timeout(PATIENCE, stream.message()).await.expect("it is not told").unwrap().unwrap();
    assert_eq!(hints(told), ["fleet/planner", "fleet/program"]);
    raised.suite.shutdown().await;
}
