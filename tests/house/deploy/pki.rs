//! The script that makes certificates makes such as our services accept, where openssl is there to run it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use legate_clock::{Clock, SystemClock};
use legate_ids::TrustDomain;
use legate_mtls::{Expect, Identity, Limits, Listener, Trust};
use tokio_stream::StreamExt as _;

use crate::blessed::root;

fn make(dir: &Path, words: &[&str]) -> bool {
    let script = root().join("deploy/pki/make.sh");
    let mut words = words.to_vec();
    let dir = dir.to_str().unwrap();
    words.insert(1, dir);
    words.insert(2, "example.org");
    let made = Command::new(script).args(&words).env_remove("LEGATE_DAYS").output().unwrap();
    let told = String::from_utf8_lossy(&made.stderr).into_owned();
    assert!(made.status.success() || words[0] == "ca", "{words:?}: {told}");
    made.status.success()
}

#[tokio::test]
async fn certificates_of_the_script_are_accepted() {
    if Command::new("openssl").arg("version").output().is_err() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(make(dir.path(), &["ca"]));
    assert!(!make(dir.path(), &["ca"]), "a CA was made over another");
    make(dir.path(), &["service", "registry"]);
    make(dir.path(), &["operator", "alice"]);
    // What wraps the keys at rest is made once, and is one.
    make(dir.path(), &["service", "credential-issuer"]);
    let kek = dir.path().join("credential-issuer/kek");
    let text = std::fs::read_to_string(&kek).unwrap();
    assert_eq!(legate_credential_issuer::Kek::open(&kek).unwrap().newest(), 1);
    make(dir.path(), &["service", "credential-issuer"]);
    assert_eq!(std::fs::read_to_string(&kek).unwrap(), text);
    make(dir.path(), &["service", "audit-collector"]);
    assert_eq!(legate_credential_issuer::Kek::open(&dir.path().join("audit-collector/kek")).unwrap().newest(), 1);

    let domain = TrustDomain::parse("example.org").unwrap();
    let file = |name: &str| dir.path().join(name);
    let trust = Trust::from_files(domain, &file("ca.pem"), None).unwrap();
    let registry = Identity::from_files(&file("registry/tls.pem"), &file("registry/tls.key")).unwrap();
    let alice = Identity::from_files(&file("operator-alice.pem"), &file("operator-alice.key")).unwrap();
    let clock: Arc<dyn Clock> = SystemClock::shared();
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(any, registry, trust.clone(), Arc::clone(&clock), Limits::default()).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut incoming = listener.into_incoming();
    let client = legate_mtls::connector(alice, trust, Expect::Service("registry"), clock).unwrap();
    let _open = client.connect(&address).await.unwrap();
    let peer = incoming.next().await.unwrap().unwrap().peer().clone();
    assert_eq!(peer.id_text(), "spiffe://example.org/legate/operator/alice");
}
