//! The process has no file left: the accept loop waits without burning the processor, and goes on when there is one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Seek};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use legate_clock::SystemClock;
use legate_ids::{Name, SpiffeId, TrustDomain};
use legate_mtls::pki::{Ca, Leaf};
use legate_mtls::{Expect, Identity, Limits, Listener, Trust, connector};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio_stream::StreamExt;

/// The processor time that this process has used, in clock ticks of 10 ms.
fn ticks(stat: &mut std::fs::File) -> u64 {
    let mut text = String::new();
    stat.rewind().unwrap();
    stat.read_to_string(&mut text).unwrap();
    // proc(5): after the name in parentheses, utime and stime are the 12th and 13th field.
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[tokio::test]
async fn running_out_of_files_is_survived() {
    let clock = SystemClock::shared();
    let domain = TrustDomain::parse("example.org").unwrap();
    let hour = Duration::from_secs(3_600);
    let ca = Ca::generate("services", clock.now(), hour).unwrap();
    let id = SpiffeId::service(&domain, &Name::parse("registry").unwrap());
    let issued = ca.issue(&Leaf { spiffe_id: &id, dns: &[], ips: &[], ttl: hour }, clock.now()).unwrap();
    let identity = Identity::from_pem(&issued.cert_pem, &issued.key_pem).unwrap();
    let trust = Trust::from_pem(domain, ca.cert_pem(), None).unwrap();
    let any = "127.0.0.1:0".parse().unwrap();
    let listener =
        Listener::bind(any, identity.clone(), trust.clone(), clock.clone(), Limits::default()).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut incoming = listener.into_incoming();
    let client = connector(identity, trust, Expect::AnyService, clock).unwrap();

    let mut stat = std::fs::File::open("/proc/self/stat").unwrap();
    let before = getrlimit(Resource::Nofile);
    // The kernel gives out the lowest free number: after this file, the client's socket takes the last one.
    let probe = std::fs::File::open("/dev/null").unwrap();
    let next = u64::try_from(probe.as_raw_fd()).unwrap();
    drop(probe);
    setrlimit(Resource::Nofile, Rlimit { current: Some(next + 1), maximum: before.maximum }).unwrap();
    let address = addr.to_string();
    let mut dialling = Box::pin(client.connect(&address));
    let (start, used) = (Instant::now(), ticks(&mut stat));
    assert!(tokio::time::timeout(Duration::from_secs(1), &mut dialling).await.is_err(), "there was a file left");
    let used = ticks(&mut stat) - used;
    assert!(used < 30, "{used} ticks of 10 ms in {:?}", start.elapsed());

    setrlimit(Resource::Nofile, before).unwrap();
    let _tls = dialling.await.unwrap();
    assert!(incoming.next().await.unwrap().is_ok());
}
