//! What a running copy of a service is called, so that one of several is told from the others.

use std::net::SocketAddr;

/// Where Linux says what the machine is called.
const HOST_NAME: &str = "/proc/sys/kernel/hostname";

/// `HOST:PORT`: the machine, or the container, and the port of the copy that listens at `addr`. It stays the same when the copy is started again.
#[must_use]
pub fn replica(addr: SocketAddr) -> String {
    let host = std::fs::read_to_string(HOST_NAME).unwrap_or_default();
    // Names of hosts are of 253 characters at most (RFC 1123 section 2.1).
    let host: String = host.trim().chars().take(253).collect();
    match host.as_str() {
        "" => format!("localhost:{}", addr.port()),
        host => format!("{host}:{}", addr.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_on_one_machine_are_told_apart_and_each_keeps_its_name() {
        let named = |port| replica(SocketAddr::from(([127, 0, 0, 1], port)));
        assert_ne!(named(7103), named(7104));
        assert_eq!(named(7103), named(7103));
        assert!(named(7103).ends_with(":7103") && named(7103).len() > ":7103".len());
    }
}
