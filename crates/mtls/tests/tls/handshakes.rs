//! Clients that connect and do not get on with it.

use std::time::{Duration, Instant};

use legate_mtls::{Identity, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::house::{HOUR, House, LONG, identity, meet};

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn five_hundred_silent_connections_are_ended_and_keep_nobody_out() {
    let house = House::new();
    // Fewer turns than silent connections, so that the good client has to wait for them to be ended.
    let limits = Limits { handshakes: 100, handshake_deadline: SHORT, ..Limits::default() };
    let listener = house.listen(limits).await;
    let addr = listener.local_addr().unwrap();
    let mut incoming = listener.into_incoming();
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(TcpStream::connect(addr).await.unwrap());
    }
    let client = house.client(identity(&house.service("policy-decision")));
    let both = meet(&client, addr, &mut incoming).await.expect("the good client gets in");
    for mut tcp in silent {
        let end = tokio::time::timeout(LONG, tcp.read(&mut [0])).await.expect("a silent connection is ended");
        assert!(matches!(end, Ok(0) | Err(_)));
    }
    drop(both);
}

#[tokio::test]
async fn a_byte_now_and_then_does_not_move_the_deadline() {
    let house = House::new();
    let limits = Limits { handshake_deadline: SHORT, ..Limits::default() };
    let listener = house.listen(limits).await;
    let mut tcp = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let _incoming = listener.into_incoming();
    let start = Instant::now();
    // The head of a TLS record of 16 KiB that never becomes whole.
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    let mut bytes = [22, 3, 1, 0x40, 0].into_iter().chain(std::iter::repeat(0));
    let ended = async {
        let mut byte = [0u8];
        loop {
            tokio::select! {
                _ = tcp.read(&mut byte) => return,
                _ = pace.tick() => if tcp.write_all(&[bytes.next().unwrap()]).await.is_err() { return },
            }
        }
    };
    tokio::time::timeout(LONG, ended).await.unwrap();
    assert!(start.elapsed() >= SHORT, "ended before its time");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[tokio::test]
async fn connections_are_bounded_and_a_place_is_given_back() {
    let house = House::new();
    let listener = house.listen(Limits { connections: 2, ..Limits::default() }).await;
    let addr = listener.local_addr().unwrap();
    let book = listener.connections();
    let mut incoming = listener.into_incoming();
    let client = house.client(identity(&house.service("policy-decision")));
    let one = meet(&client, addr, &mut incoming).await.unwrap();
    let _two = meet(&client, addr, &mut incoming).await.unwrap();
    assert_eq!(book.len(), 2);
    let mut third = Box::pin(meet(&client, addr, &mut incoming));
    assert!(tokio::time::timeout(SHORT, &mut third).await.is_err(), "a third got in");
    drop(one);
    let _third = third.await.unwrap();
    assert_eq!(book.len(), 2);
}

#[tokio::test]
async fn strangers_cannot_take_every_place() {
    let house = House::new();
    let listener = house.listen(Limits { strangers: 1, ..Limits::default() }).await;
    let addr = listener.local_addr().unwrap();
    let mut incoming = listener.into_incoming();
    let nobody = house.client(Identity::anonymous());
    let first = meet(&nobody, addr, &mut incoming).await.unwrap();
    assert!(meet(&nobody, addr, &mut incoming).await.is_none());
    let known = house.client(identity(&house.service("policy-decision")));
    assert!(meet(&known, addr, &mut incoming).await.is_some());
    drop(first);
    assert!(meet(&nobody, addr, &mut incoming).await.is_some());
}

#[tokio::test]
async fn one_peer_cannot_take_every_place() {
    let house = House::new();
    let listener = house.listen(Limits { one_peer: 2, ..Limits::default() }).await;
    let addr = listener.local_addr().unwrap();
    let mut incoming = listener.into_incoming();
    let first = meet(&house.client(identity(&house.agent(HOUR))), addr, &mut incoming).await.unwrap();
    let _second = meet(&house.client(identity(&house.agent(HOUR))), addr, &mut incoming).await.unwrap();
    // Another certificate of the same peer is not another peer.
    let again = house.client(identity(&house.agent(HOUR)));
    assert!(meet(&again, addr, &mut incoming).await.is_none());
    let other = house.client(identity(&house.service("policy-decision")));
    assert!(meet(&other, addr, &mut incoming).await.is_some());
    let nobody = house.client(Identity::anonymous());
    for _ in 0..3 {
        assert!(meet(&nobody, addr, &mut incoming).await.is_some());
    }
    drop(first);
    assert!(meet(&again, addr, &mut incoming).await.is_some());
}

#[tokio::test]
async fn what_is_not_tls_1_3_is_refused() {
    let house = House::new();
    let listener = house.listen(Limits::default()).await;
    let addr = listener.local_addr().unwrap();
    let _incoming = listener.into_incoming();
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    tcp.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _reset = tokio::time::timeout(LONG, tcp.read_to_end(&mut answer)).await.unwrap();
    assert!(!answer.starts_with(b"HTTP"));
    // A ClientHello of TLS 1.2 (RFC 5246 section 7.4.1.2): one suite, no extensions, so no supported_versions.
    let mut hello = vec![22, 3, 1, 0, 47, 1, 0, 0, 43, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2b, 1, 0, 0, 0]);
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    tcp.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    let _reset = tokio::time::timeout(LONG, tcp.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer.first(), Some(&21), "an alert and nothing else: {answer:?}");
}
