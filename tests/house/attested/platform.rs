//! Tokens that a platform gives processes, as attestation: read where the process has them, and judged by credential-issuer.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::Path;

use legate_clock::SystemClock;
use legate_rpc::Code;
use legate_wire::audit::QueryEventsRequest;
use legate_wire::audit::query_service_client::QueryServiceClient;
use legate_workload::{TokenPlace, TokenSource};
use serde_json::json;

use super::scene::{self, Fleet};
use crate::outside::Outside;
use crate::raised::Raised;

/// Pods of the service account `pay/planner`, run by this user, are the planner.
fn declared(outside: &Outside) -> String {
    let uid = std::fs::metadata("/proc/self").unwrap().uid();
    format!(
        r#"apiVersion: legate/v1
kind: TrustedIssuer
metadata: {{name: cluster, namespace: fleet}}
spec:
  issuer: {issuer}
  audiences: [legate]
  jwksUri: {keys}
---
apiVersion: legate/v1
kind: AttestationPolicy
metadata: {{name: planner, namespace: fleet}}
spec:
  agent: planner
  selectors:
    - {{type: UNIX_UID, value: "{uid}"}}
    - {{type: OIDC_ISSUER, value: {issuer}}}
    - {{type: KUBERNETES_SERVICE_ACCOUNT, value: pay/planner}}
"#,
        issuer = outside.issuer(),
        keys = outside.jwks_uri(),
    )
}

fn projected(outside: &Outside, name: &str, id: &str) -> String {
    let claims = json!({
        "sub": format!("system:serviceaccount:pay:{name}"),
        "jti": id,
        "kubernetes.io": {"namespace": "pay", "serviceaccount": {"name": name, "uid": "6f1"}, "pod": {"name": "p", "uid": "5f1"}},
    });
    outside.token("legate", &claims)
}

/// As the kubelet writes it: another directory, and a link to it that is replaced at once.
fn rotate(volume: &Path, n: u32, token: &str) {
    let made = format!("..{n}");
    std::fs::create_dir(volume.join(&made)).unwrap();
    std::fs::write(volume.join(&made).join("token"), token).unwrap();
    symlink(&made, volume.join("..new")).unwrap();
    std::fs::rename(volume.join("..new"), volume.join("..data")).unwrap();
    if n == 1 {
        symlink("..data/token", volume.join("token")).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_is_an_agent_by_the_token_that_its_platform_gave_it() {
    let outside = Outside::new().await;
    let config = format!("[federation]\nallow_private = [\"127.0.0.0/8\", \"::1/128\"]\nca = {:?}\n", outside.ca());
    let raised = Raised::with_federation(&config).await;
    let fleet = Fleet::declared_with_nodes(&raised, "LOW").await;
    scene::apply(&raised, &declared(&outside)).await.unwrap();
    let volume = fleet.dir.path().canonicalize().unwrap().join("volume");
    std::fs::create_dir(&volume).unwrap();
    let place = TokenPlace::InProcess { directory: volume.clone(), file: "token".into() };
    let source = TokenSource { place, of: Vec::new() };
    let helper = fleet.helper_with(&raised, SystemClock::shared(), |wanted| wanted.tokens = vec![source]).await;
    let fleet = Fleet { endpoint: helper.endpoint(), ..fleet };

    // Without a token, and with another's, it is nobody.
    scene::until(async || fleet.watched().await.ends().await == refused("WORKLOAD_NOT_ENTITLED")).await;
    rotate(&volume, 1, &projected(&outside, "other", "1"));
    assert_eq!(fleet.watched().await.ends().await, refused("WORKLOAD_NOT_ENTITLED"));
    let mine = projected(&outside, "planner", "2");
    rotate(&volume, 2, &mine);
    let mut watched = fleet.watched().await;
    let first = watched.holds().await;
    assert!(watched.spiffe_id.starts_with(&fleet.spiffe_id));
    // The next is another, and everything is replaced by it.
    rotate(&volume, 3, &projected(&outside, "planner", "3"));
    helper.serving().rotate();
    assert_ne!(watched.holds().await, first);

    // The record says by whose token, and has none of it.
    let (_, instance) = watched.spiffe_id.rsplit_once('/').unwrap();
    let mut audit = QueryServiceClient::new(raised.operator("audit-collector"));
    let mut found = Vec::new();
    while found.len() < 2 {
        let ask = QueryEventsRequest { r#type: "credential.issued".into(), ..QueryEventsRequest::default() };
        let events = audit.query_events(ask).await.unwrap().into_inner().events;
        found = events.into_iter().filter_map(|e| e.event).filter(|e| e.instance_id == instance).collect();
        tokio::task::yield_now().await;
    }
    let mut ids: Vec<&str> = found.iter().map(|event| event.details["token_id"].as_str()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["2", "3"]);
    for event in &found {
        assert!(event.details["rests_on"].contains("KUBERNETES_SERVICE_ACCOUNT:pay/planner"), "{event:?}");
        assert!(!format!("{event:?}").contains(mine.rsplit('.').next().unwrap()), "a token is on record");
    }
    helper.shutdown().await;
    raised.suite.shutdown().await;
}

fn refused(reason: &str) -> (Code, String) {
    (Code::PermissionDenied, reason.to_owned())
}
