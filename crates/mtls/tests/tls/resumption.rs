//! No session is resumed, since the verifier is not asked on resumption.

use std::sync::Arc;
use std::time::Duration;

use legate_clock::{Clock, TestClock};
use legate_mtls::pki::certificates;
use legate_mtls::{Limits, Trust};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::StreamExt;

use crate::house::{HOUR, House};

#[derive(Debug)]
struct Turned(Arc<TestClock>);

impl rustls::time_provider::TimeProvider for Turned {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.now().secs().unsigned_abs())))
    }
}

fn roots(pem: &str) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificates(pem).unwrap().remove(0)).unwrap();
    roots
}

/// An ordinary client of the library, with its memory of sessions.
fn eager_client(house: &House) -> TlsConnector {
    let issued = house.agent(HOUR / 2);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_details(provider, Arc::new(Turned(house.clock.clone())))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots(house.services.cert_pem()))
        .with_client_auth_cert(
            certificates(&issued.cert_pem).unwrap(),
            PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    TlsConnector::from(Arc::new(config))
}

/// Connects and reads one byte, by which time tickets have come as well.
async fn visit(client: &TlsConnector, addr: std::net::SocketAddr) -> std::io::Result<HandshakeKind> {
    let tcp = TcpStream::connect(addr).await?;
    let mut tls = client.connect(ServerName::try_from("localhost").unwrap(), tcp).await?;
    let mut byte = [0u8];
    tls.read_exact(&mut byte).await?;
    Ok(tls.get_ref().1.handshake_kind().unwrap())
}

#[tokio::test]
async fn the_librarys_server_lets_an_expired_client_resume() {
    let house = House::new();
    let served = house.service("registry");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots(house.workloads.cert_pem()).into(), provider.clone());
    let config = ServerConfig::builder_with_details(provider, Arc::new(Turned(house.clock.clone())))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            certificates(&served.cert_pem).unwrap(),
            PrivateKeyDer::from_pem_slice(served.key_pem.as_bytes()).unwrap(),
        )
        .unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = tcp.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        loop {
            let (stream, _) = tcp.accept().await.unwrap();
            if let Ok(mut tls) = acceptor.accept(stream).await {
                tls.write_all(b"!").await.unwrap();
                let _gone = tls.read(&mut [0]).await;
            }
        }
    });
    let client = eager_client(&house);
    assert_eq!(visit(&client, addr).await.unwrap(), HandshakeKind::Full);
    // The client's certificate holds for half an hour, the server's for an hour.
    house.clock.advance(HOUR / 2 + Duration::from_secs(60));
    assert_eq!(visit(&client, addr).await.unwrap(), HandshakeKind::Resumed, "the trap this file is about is gone");
    server.abort();
}

#[tokio::test]
async fn our_server_asks_the_verifier_every_time() {
    let house = House::new();
    let listener = house.listen(Limits::default()).await;
    let addr = listener.local_addr().unwrap();
    let mut incoming = listener.into_incoming();
    let server = tokio::spawn(async move {
        while let Some(Ok(mut conn)) = incoming.next().await {
            conn.write_all(b"!").await.unwrap();
            let _gone = conn.read(&mut [0]).await;
        }
    });
    let client = eager_client(&house);
    for _ in 0..3 {
        assert_eq!(visit(&client, addr).await.unwrap(), HandshakeKind::Full);
    }
    house.clock.advance(HOUR / 2 + Duration::from_secs(60));
    visit(&client, addr).await.unwrap_err();
    server.abort();
}

#[tokio::test]
async fn a_ca_that_is_no_longer_trusted_lets_nobody_in_again() {
    let house = House::new();
    let dir = tempfile::tempdir().unwrap();
    let (services, workloads) = (dir.path().join("ca.pem"), dir.path().join("workloads-ca.pem"));
    std::fs::write(&services, house.services.cert_pem()).unwrap();
    std::fs::write(&workloads, house.workloads.cert_pem()).unwrap();
    let trust = Trust::from_files(house.domain.clone(), &services, Some(&workloads)).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let identity = crate::house::identity(&house.service("registry"));
    let listener =
        legate_mtls::Listener::bind(any, identity, trust.clone(), house.time(), Limits::default()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut incoming = listener.into_incoming();
    let server = tokio::spawn(async move {
        while let Some(Ok(mut conn)) = incoming.next().await {
            conn.write_all(b"!").await.unwrap();
            let _gone = conn.read(&mut [0]).await;
        }
    });
    let client = eager_client(&house);
    visit(&client, addr).await.unwrap();
    std::fs::remove_file(&workloads).unwrap();
    assert!(trust.reload().unwrap());
    visit(&client, addr).await.unwrap_err();
    server.abort();
}
