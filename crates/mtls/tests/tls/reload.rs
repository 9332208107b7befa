//! Certificates and CAs change on disk while calls go on.

use std::path::{Path, PathBuf};
use std::time::Duration;

use legate_mtls::pki::{Ca, Issued, write_private, write_public};
use legate_mtls::{Identity, Limits, Listener, TlsError, Trust};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::house::{HOUR, House, LONG, identity, meet};

fn put(dir: &Path, issued: &Issued) -> (PathBuf, PathBuf) {
    let (cert, key) = (dir.join("tls.pem"), dir.join("tls.key"));
    write_private(&key, &issued.key_pem).unwrap();
    write_public(&cert, &issued.cert_pem).unwrap();
    (cert, key)
}

#[tokio::test]
async fn a_new_certificate_is_shown_and_open_connections_stay() {
    let house = House::new();
    let dir = tempfile::tempdir().unwrap();
    let old = house.service("registry");
    let (cert, key) = put(dir.path(), &old);
    let server = Identity::from_files(&cert, &key).unwrap();
    let watching = server.watch(Duration::from_millis(20));
    let any = "127.0.0.1:0".parse().unwrap();
    let listener = Listener::bind(any, server.clone(), house.trust(), house.time(), Limits::default()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut incoming = listener.into_incoming();
    let client = house.client(identity(&house.agent(HOUR)));
    let mut before = meet(&client, addr, &mut incoming).await.unwrap();

    let new = house.service("registry");
    put(dir.path(), &new);
    let wanted = identity(&new).x5t_s256();
    let swapped = async {
        while server.x5t_s256() != wanted {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, swapped).await.expect("the watcher reloads");
    let after = meet(&client, addr, &mut incoming).await.unwrap();
    let shown = |both: &crate::house::Both| both.client.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    assert_ne!(shown(&before), shown(&after));
    assert_eq!(shown(&after), legate_mtls::pki::certificates(&new.cert_pem).unwrap()[0].to_vec());
    before.client.write_all(b"?").await.unwrap();
    assert_eq!(before.server.read(&mut [0]).await.unwrap(), 1, "the old connection goes on");
    watching.abort();
}

#[test]
fn a_broken_certificate_changes_nothing_and_is_tried_again() {
    let house = House::new();
    let dir = tempfile::tempdir().unwrap();
    let first = house.service("registry");
    let (cert, key) = put(dir.path(), &first);
    let identity = Identity::from_files(&cert, &key).unwrap();
    let before = identity.x5t_s256();
    assert!(!identity.reload().unwrap());

    // The certificate of one pair with the key of another, as between two writes of a renewal.
    let second = house.service("registry");
    write_public(&cert, &second.cert_pem).unwrap();
    identity.reload().unwrap_err();
    assert_eq!(identity.x5t_s256(), before);
    write_private(&key, &second.key_pem).unwrap();
    assert!(identity.reload().unwrap());
    assert_ne!(identity.x5t_s256(), before);

    std::fs::write(&cert, "not a certificate").unwrap();
    identity.reload().unwrap_err();
    std::fs::remove_file(&cert).unwrap();
    identity.reload().unwrap_err();
    assert_ne!(identity.x5t_s256(), None);
}

#[test]
fn a_key_that_others_can_read_is_refused_also_on_reload() {
    use std::os::unix::fs::PermissionsExt;
    let house = House::new();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = put(dir.path(), &house.service("registry"));
    let open = |mode| std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
    for mode in [0o644, 0o640, 0o604, 0o660, 0o620] {
        open(mode);
        let error = Identity::from_files(&cert, &key).unwrap_err();
        assert!(matches!(error, TlsError::OpenKey { .. }) && error.to_string().contains("chmod 600"), "{error}");
    }
    open(0o600);
    let identity = Identity::from_files(&cert, &key).unwrap();
    open(0o644);
    assert!(matches!(identity.reload(), Err(TlsError::OpenKey { .. })));
}

#[tokio::test]
async fn a_ca_is_rotated_and_the_workloads_ca_may_come_later() {
    let house = House::new();
    let dir = tempfile::tempdir().unwrap();
    let (services, workloads) = (dir.path().join("ca.pem"), dir.path().join("workloads-ca.pem"));
    write_public(&services, house.services.cert_pem()).unwrap();
    let trust = Trust::from_files(house.domain.clone(), &services, Some(&workloads)).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let server = identity(&house.service("registry"));
    let listener = Listener::bind(any, server, trust.clone(), house.time(), Limits::default()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut incoming = listener.into_incoming();
    let agent = house.client(identity(&house.agent(HOUR)));
    assert!(meet(&agent, addr, &mut incoming).await.is_none(), "no workload is known yet");
    write_public(&workloads, house.workloads.cert_pem()).unwrap();
    assert!(trust.reload().unwrap());
    assert!(meet(&agent, addr, &mut incoming).await.is_some());

    // Rotation: both CAs for a while, then the new one alone.
    let next = Ca::generate("workloads", house.now(), HOUR).unwrap();
    write_public(&workloads, &format!("{}{}", house.workloads.cert_pem(), next.cert_pem())).unwrap();
    trust.reload().unwrap();
    let id = house.agent_id();
    let leaf = legate_mtls::pki::Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: HOUR };
    let newer = house.client(identity(&next.issue(&leaf, house.now()).unwrap()));
    let mut of_new = meet(&newer, addr, &mut incoming).await.unwrap();
    let mut of_old = meet(&agent, addr, &mut incoming).await.unwrap();
    write_public(&workloads, next.cert_pem()).unwrap();
    trust.reload().unwrap();
    // What is open under the CA that is gone ends, and nothing else does.
    let ended = tokio::time::timeout(LONG, of_old.server.read(&mut [0])).await.expect("it is cut");
    assert_eq!(ended.unwrap_err().kind(), std::io::ErrorKind::ConnectionAborted);
    of_new.client.write_all(b"?").await.unwrap();
    assert_eq!(of_new.server.read(&mut [0]).await.unwrap(), 1);
    assert!(meet(&newer, addr, &mut incoming).await.is_some());
    assert!(meet(&agent, addr, &mut incoming).await.is_none());

    std::fs::write(&workloads, "").unwrap();
    trust.reload().unwrap_err();
    assert!(meet(&newer, addr, &mut incoming).await.is_some(), "a broken file changes nothing");
}

#[test]
fn a_leaf_is_not_trusted_as_a_ca() {
    let house = House::new();
    let leaf = house.service("registry").cert_pem;
    let error = Trust::from_pem(house.domain.clone(), &leaf, None).unwrap_err();
    assert!(error.to_string().contains("CA:TRUE"), "{error}");
    let one = house.services.cert_pem();
    let error = Trust::from_pem(house.domain.clone(), one, Some(one)).unwrap_err();
    assert!(error.to_string().contains("the same CA"), "{error}");
    Trust::from_pem(house.domain.clone(), "", None).unwrap_err();
    let mixed = format!("{}{leaf}", house.services.cert_pem());
    Trust::from_pem(house.domain.clone(), &mixed, None).unwrap_err();
}
