//! Ordinary HTTPS clients, which go by DNS name and know no SPIFFE.

use std::sync::Arc;

use legate_mtls::{Limits, Listener};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt;

use crate::house::{House, identity};

#[tokio::test]
async fn an_ordinary_client_connects_by_name_and_by_address() {
    let real_time = legate_clock::SystemClock::shared();
    let mut house = House::new();
    house.clock.jump_to(real_time.now());
    house.services = legate_mtls::pki::Ca::generate("services", house.now(), crate::house::HOUR).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let server = identity(&house.service("audit-collector"));
    let listener =
        Listener::bind_web(any, server, None, real_time, Limits { strangers: 0, ..Limits::default() }).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut incoming = listener.into_incoming();
    let mut roots = RootCertStore::empty();
    roots.add(legate_mtls::pki::certificates(house.services.cert_pem()).unwrap().remove(0)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    for (alpn, name) in [("http/1.1", "localhost"), ("h2", "127.0.0.1"), ("http/1.1", "127.0.0.1")] {
        config.alpn_protocols = vec![alpn.into()];
        let client = TlsConnector::from(Arc::new(config.clone()));
        let tcp = TcpStream::connect(addr).await.unwrap();
        let mut tls = client.connect(ServerName::try_from(name).unwrap(), tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(alpn.as_bytes()));
        let mut conn = incoming.next().await.unwrap().unwrap();
        assert!(conn.peer().principal.is_none());
        tls.write_all(b"?").await.unwrap();
        assert_eq!(conn.read(&mut [0]).await.unwrap(), 1);
    }
    let client = TlsConnector::from(Arc::new(config.clone()));
    let tcp = TcpStream::connect(addr).await.unwrap();
    client.connect(ServerName::try_from("example.com").unwrap(), tcp).await.unwrap_err();
}
