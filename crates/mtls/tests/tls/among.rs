//! Workloads among one another: by the bundle of their trust domain and by a list, as client and as server, through rotations.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use legate_ids::{Name, SpiffeId};
use legate_mtls::pki::{self, Ca, Issued, Leaf};
use legate_mtls::{Allow, Connector, Identity, Limits, Listener, TlsError, Trust, client_config, server_config};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::house::{HOUR, House, LONG, identity, meet};

fn der(ca: &Ca) -> Vec<u8> {
    pki::certificates(ca.cert_pem()).unwrap()[0].to_vec()
}

fn among(house: &House, ca: &Ca) -> Trust {
    let trust = Trust::among_workloads(house.domain.clone());
    trust.replace_workloads(&der(ca)).unwrap();
    trust
}

fn tools_id(house: &House) -> SpiffeId {
    let name = |text: &str| Name::parse(text).unwrap();
    SpiffeId::enforcer(&house.domain, &name("payments"), &name("tools"))
}

fn of(house: &House, ca: &Ca, id: &SpiffeId) -> Issued {
    ca.issue(&Leaf { spiffe_id: id, dns: &[], ips: &[], ttl: HOUR }, house.now()).unwrap()
}

fn tools(house: &House) -> Identity {
    identity(&of(house, &house.workloads, &tools_id(house)))
}

async fn listen(house: &House, identity: Identity, trust: Trust, allow: Allow) -> Listener {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    Listener::bind_among(any, identity, trust, allow, house.time(), Limits::default()).await.unwrap()
}

fn dial(house: &House, identity: Identity, trust: Trust, allow: Allow) -> Connector {
    let mut config = client_config(identity, trust, allow, house.time()).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.into()
}

/// Whether an agent with `identity` and a server meet, of which each has a list of the other.
async fn meets(house: &House, client: (Identity, Trust, Allow), server: (Identity, Trust, Allow)) -> bool {
    let listener = listen(house, server.0, server.1, server.2).await;
    let addr = listener.local_addr().unwrap();
    let mut incoming = listener.into_incoming();
    meet(&dial(house, client.0, client.1, client.2), addr, &mut incoming).await.is_some()
}

#[tokio::test]
async fn each_side_is_who_the_other_expects_or_there_is_no_connection() {
    let house = House::new();
    let agent = || identity(&house.agent(HOUR));
    let stranger = Ca::generate("strangers", house.now(), HOUR * 24).unwrap();
    let trust = || among(&house, &house.workloads);
    let (agents, point) = (Allow::nobody().id(house.agent_id()), Allow::nobody().id(tools_id(&house)));
    let others = Allow::nobody().agents_of(Name::parse("ledgers").unwrap());
    let good = (agent(), trust(), point.clone());
    let server = (tools(&house), trust(), agents.clone());
    assert!(meets(&house, good.clone(), server.clone()).await);
    assert!(meets(&house, (agent(), trust(), Allow::anyone()), (tools(&house), trust(), Allow::anyone())).await);
    // An agent may be the server just as well.
    assert!(meets(&house, (tools(&house), trust(), agents.clone()), (agent(), trust(), point.clone())).await);

    let service = || identity(&house.service("registry"));
    let foreign = || identity(&of(&house, &stranger, &house.agent_id()));
    let rows = [
        ("a client that is not on the list", good.clone(), (tools(&house), trust(), others.clone())),
        ("a list with nobody on it", good.clone(), (tools(&house), trust(), Allow::nobody())),
        ("a server that is not on the list", (agent(), trust(), others), server.clone()),
        ("a client without a certificate", (Identity::anonymous(), trust(), point.clone()), server.clone()),
        ("a client of another CA", (foreign(), trust(), point.clone()), server.clone()),
        ("a server of another CA", (agent(), among(&house, &stranger), point.clone()), server.clone()),
        ("a client that is a service", (service(), trust(), point.clone()), (tools(&house), trust(), Allow::anyone())),
        ("a server that is a service", (agent(), trust(), Allow::anyone()), (service(), trust(), agents.clone())),
        ("no bundle yet", (agent(), Trust::among_workloads(house.domain.clone()), point.clone()), server.clone()),
        ("a server without a certificate", good.clone(), (Identity::anonymous(), trust(), agents.clone())),
    ];
    for (what, client, server) in rows {
        assert!(!meets(&house, client, server).await, "{what}");
    }
    // Under a trust of services no workload is a server.
    assert!(!meets(&house, (agent(), house.trust(), Allow::anyone()), server).await);
    // Whose time is over is nobody.
    house.clock.advance(HOUR * 2);
    assert!(!meets(&house, good, (tools(&house), trust(), agents)).await);
}

#[tokio::test]
async fn a_rotation_reaches_the_next_handshake_and_leaves_open_connections_alone() {
    let house = House::new();
    let (client, server) = (identity(&house.agent(HOUR)), tools(&house));
    let (theirs, ours) = (among(&house, &house.workloads), among(&house, &house.workloads));
    let listener = listen(&house, server.clone(), ours.clone(), Allow::anyone()).await;
    let addr = listener.local_addr().unwrap();
    let open = listener.connections();
    let mut incoming = listener.into_incoming();
    let dialler = dial(&house, client.clone(), theirs.clone(), Allow::anyone());
    let mut before = meet(&dialler, addr, &mut incoming).await.unwrap();

    // Both rotate; the certificates of the second handshake are the new ones, the first connection goes on.
    let renewed = house.agent(HOUR);
    client.replace_pem(&renewed.cert_pem, &renewed.key_pem).unwrap();
    let renewed = of(&house, &house.workloads, &tools_id(&house));
    server.replace_pem(&renewed.cert_pem, &renewed.key_pem).unwrap();
    let after = meet(&dialler, addr, &mut incoming).await.unwrap();
    assert_eq!(after.server.peer().x5t_s256, client.x5t_s256().unwrap());
    assert_ne!(after.server.peer().x5t_s256, before.server.peer().x5t_s256);
    assert_eq!(after.server.peer().chain.len(), 1, "what was shown goes with the peer");
    before.client.write_all(b"still here").await.unwrap();
    let mut read = [0; 10];
    before.server.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still here");

    // The CA is replaced: first both are believed, then the new one alone, and what the old one signed is cut.
    let next = Ca::generate("workloads, next", house.now(), HOUR * 24).unwrap();
    let both = [der(&house.workloads), der(&next)].concat();
    for trust in [&theirs, &ours] {
        assert!(trust.replace_workloads(&both).unwrap());
        assert!(!trust.replace_workloads(&both).unwrap(), "the same again is no change");
    }
    let renewed = of(&house, &next, &tools_id(&house));
    server.replace_pem(&renewed.cert_pem, &renewed.key_pem).unwrap();
    let third = meet(&dialler, addr, &mut incoming).await.unwrap();
    assert_eq!(open.len(), 3);
    assert!(ours.replace_workloads(&der(&next)).unwrap());
    let cut = async {
        for mut conn in [before.server, after.server, third.server] {
            conn.read_exact(&mut [0]).await.unwrap_err();
        }
    };
    tokio::time::timeout(LONG, cut).await.unwrap();
    assert!(meet(&dialler, addr, &mut incoming).await.is_none());
}

#[tokio::test]
async fn a_bundle_that_is_none_changes_nothing() {
    let house = House::new();
    let trust = among(&house, &house.workloads);
    let leaf = pki::certificates(&house.agent(HOUR).cert_pem).unwrap()[0].to_vec();
    let mut cut = der(&house.workloads);
    cut.pop();
    for (what, bad) in [("nothing", vec![]), ("a leaf", leaf), ("cut short", cut), ("text", b"-----BEGIN".to_vec())] {
        trust.replace_workloads(&bad).expect_err(what);
    }
    let (agent, point) = (identity(&house.agent(HOUR)), Allow::nobody().id(tools_id(&house)));
    assert!(meets(&house, (agent, trust.clone(), point), (tools(&house), trust, Allow::anyone())).await);
    assert!(matches!(house.trust().replace_workloads(&der(&house.workloads)), Err(TlsError::Pem(_))));
}

/// A server and a client that other libraries make of the configurations: every handshake is a whole one.
#[tokio::test]
async fn a_library_on_rustls_resumes_nothing() {
    let house = House::new();
    let trust = among(&house, &house.workloads);
    let agents = Allow::nobody().id(house.agent_id());
    let server = server_config(tools(&house), trust.clone(), agents, house.time()).unwrap();
    assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let agent = identity(&house.agent(HOUR));
    let client = client_config(agent.clone(), trust, Allow::anyone(), house.time()).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    for round in 0..3 {
        let accept = async {
            let (tcp, _) = listener.accept().await.unwrap();
            acceptor.accept(tcp).await
        };
        let connect = async {
            let name = "anything.invalid".try_into().unwrap();
            connector.connect(name, TcpStream::connect(addr).await.unwrap()).await
        };
        let both = tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(accept, connect) }).await;
        let (server, client) = both.unwrap();
        if round == 2 {
            assert!(client.is_err(), "nobody is spoken to without a certificate");
            continue;
        }
        let (server, client) = (server.unwrap(), client.unwrap());
        assert_eq!(server.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        drop((server, client));
        if round == 1 {
            agent.forget();
        }
    }
}
