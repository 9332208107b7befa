//! How accepted connections end.

use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use legate_ids::Principal;
use legate_mtls::{Identity, Limits};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::house::{HOUR, House, LONG, identity, meet};

#[tokio::test]
async fn a_connection_ends_with_its_peers_certificate() {
    let house = House::new();
    let listener = house.listen(Limits::default()).await;
    let (addr, book) = (listener.local_addr().unwrap(), listener.connections());
    let mut incoming = listener.into_incoming();
    let client = house.client(identity(&house.agent(Duration::from_secs(1))));
    let start = Instant::now();
    let mut both = meet(&client, addr, &mut incoming).await.unwrap();
    let ended = tokio::time::timeout(LONG, both.server.read(&mut [0])).await.unwrap();
    assert!(ended.unwrap_err().to_string().contains("expired"));
    assert!(start.elapsed() > Duration::from_millis(900), "{:?}", start.elapsed());
    both.server.write_all(b"!").await.unwrap_err();
    drop(both.server);
    assert!(book.is_empty());
    let gone = tokio::time::timeout(LONG, both.client.read(&mut [0])).await.unwrap();
    assert!(matches!(gone, Ok(0) | Err(_)));
}

/// HTTP/2 does not read while it cannot write, so a peer that reads nothing must not outlive its certificate by that.
#[tokio::test]
async fn a_peer_that_does_not_read_ends_with_its_certificate_as_well() {
    let house = House::new();
    let listener = house.listen(Limits::default()).await;
    let addr = listener.local_addr().unwrap();
    let mut incoming = listener.into_incoming();
    let client = house.client(identity(&house.agent(Duration::from_secs(2))));
    let mut both = meet(&client, addr, &mut incoming).await.unwrap();
    let (mut has_read, block) = (false, vec![0u8; 1 << 20]);
    let ended = std::future::poll_fn(|cx| {
        if !has_read {
            let mut byte = [0];
            assert!(Pin::new(&mut both.server).poll_read(cx, &mut ReadBuf::new(&mut byte)).is_pending());
            has_read = true;
        }
        loop {
            match std::task::ready!(Pin::new(&mut both.server).poll_write(cx, &block)) {
                Ok(_) => {}
                Err(error) => return Poll::Ready(error),
            }
        }
    });
    tokio::time::timeout(LONG, ended).await.expect("the connection ends");
    tokio::time::timeout(LONG, both.server.shutdown()).await.unwrap().unwrap();
    drop(both.client);
}

#[tokio::test]
async fn connections_are_cut_by_what_their_peer_is() {
    let house = House::new();
    let listener = house.listen(Limits::default()).await;
    let (addr, book) = (listener.local_addr().unwrap(), listener.connections());
    let mut incoming = listener.into_incoming();
    let mut agent = meet(&house.client(identity(&house.agent(HOUR))), addr, &mut incoming).await.unwrap();
    let mut nobody = meet(&house.client(Identity::anonymous()), addr, &mut incoming).await.unwrap();
    let reading = tokio::spawn(async move { agent.server.read(&mut [0]).await });
    let cut = book.cut(|peer| matches!(peer.principal, Some(Principal::Agent { .. })));
    assert_eq!(cut, 1);
    let ended = tokio::time::timeout(LONG, reading).await.unwrap().unwrap();
    assert!(ended.unwrap_err().to_string().contains("cut"));
    nobody.client.write_all(b"?").await.unwrap();
    assert_eq!(nobody.server.read(&mut [0]).await.unwrap(), 1, "the other connection goes on");
    assert_eq!(book.len(), 1);
    assert_eq!(book.cut(|peer| peer.principal.is_some()), 0);
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_cut_as_well() {
    let house = House::new();
    let listener = house.listen(Limits::default()).await;
    let (addr, book) = (listener.local_addr().unwrap(), listener.connections());
    let mut incoming = listener.into_incoming();
    let both = meet(&house.client(identity(&house.agent(HOUR))), addr, &mut incoming).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(both.server);
    // hyper polls both halves in one task; here the halves are two, and the writer is stuck in the full socket.
    let ended = tokio::spawn(async move { reader.read(&mut [0]).await });
    let block = vec![0u8; 1 << 20];
    let stuck = async {
        loop {
            if tokio::time::timeout(Duration::from_millis(200), writer.write_all(&block)).await.is_err() {
                return;
            }
        }
    };
    tokio::time::timeout(LONG, stuck).await.expect("the socket fills");
    book.cut(|_| true);
    tokio::time::timeout(LONG, ended).await.unwrap().unwrap().unwrap_err();
    tokio::time::timeout(LONG, writer.write_all(&block)).await.unwrap().unwrap_err();
    tokio::time::timeout(LONG, writer.flush()).await.unwrap().unwrap_err();
    tokio::time::timeout(LONG, writer.shutdown()).await.unwrap().unwrap();
    drop(both.client);
}
