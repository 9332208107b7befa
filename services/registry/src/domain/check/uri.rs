//! Absolute `http` and `https` URIs: audiences of tokens, and where documents are.

use std::net::Ipv6Addr;

use crate::domain::text::quoted;

/// The longest URI, in bytes: what the `aud` of a token may have.
const LONGEST: usize = 512;

/// What is wrong with a text that has to be an absolute URI with scheme `https` or `http` (RFC 3986).
///
/// Scheme and host are in lower case, since audiences are compared letter for letter and two spellings of one would be
/// two. No user information: it is a place for secrets and for hosts that only look right.
pub(super) fn fault_in(uri: &str) -> Option<String> {
    let wrong = |why: &str| Some(format!("{} {why}", quoted(uri)));
    if uri.len() > LONGEST {
        return Some(format!("is {} bytes long; give at most {LONGEST}", uri.len()));
    }
    let Some(rest) = uri.strip_prefix("https://").or_else(|| uri.strip_prefix("http://")) else {
        return wrong("is no absolute URI that starts with https:// or http://");
    };
    // RFC 8707 section 2: the URI must not include a fragment component.
    if rest.contains('#') {
        return wrong("has a fragment; leave '#' and what follows away");
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, more) = rest.split_at(end);
    if authority.contains('@') {
        return wrong("holds user information; leave what stands before '@' away");
    }
    if !is_authority(authority) {
        return wrong("has no good host: lower-case letters, digits, '.' and '-', then perhaps ':' and a port");
    }
    if !is_path_and_query(more) {
        return wrong("holds a character that a URI cannot hold; write it as %XX");
    }
    None
}

/// The same of one that has to be `https`.
pub(super) fn https_fault_in(uri: &str) -> Option<String> {
    fault_in(uri).or_else(|| {
        let is_https = uri.starts_with("https://");
        (!is_https).then(|| format!("{} does not start with https://", quoted(uri)))
    })
}

fn is_authority(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        // RFC 3986 section 3.2.2: an IPv6 address stands in brackets.
        Some(rest) => match rest.split_once(']') {
            Some((address, "")) => (address.parse::<Ipv6Addr>().is_ok(), None),
            Some((address, port)) => (address.parse::<Ipv6Addr>().is_ok(), Some(port.strip_prefix(':').unwrap_or(""))),
            None => (false, None),
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (is_host(host), Some(port)),
            None => (is_host(authority), None),
        },
    };
    let is_port = |port: &str| {
        !port.starts_with('0') && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|p| p > 0)
    };
    host && port.is_none_or(is_port)
}

fn is_host(host: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_".contains(&b))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(label)
}

/// RFC 3986 sections 3.3 and 3.4: pchar, '/' and '?'.
fn is_path_and_query(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let is_good = match b {
            b'%' => {
                let mut hex = || bytes.next().is_some_and(|b| b.is_ascii_hexdigit());
                hex() && hex()
            }
            _ => b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?".contains(&b),
        };
        if !is_good {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_absolute_uris() {
        for good in [
            "https://ledger.example.com",
            "https://ledger.example.com/",
            "http://localhost:8443/api/v1?x=1&y=%2F",
            "https://[2001:db8::1]:8443/a",
            "https://[::1]",
            "https://10.0.0.1",
            "https://a_b.svc/x@y",
        ] {
            assert_eq!(fault_in(good), None, "{good}");
        }
        for bad in [
            "",
            "ledger",
            "ledger.example.com",
            "//ledger.example.com",
            "/api",
            "HTTPS://ledger.example.com",
            "https:ledger.example.com",
            "https://",
            "https:///x",
            "https://Ledger.example.com",
            "https://ledger.example.com#a",
            "https://ledger.example.com/#",
            "https://user@ledger.example.com",
            "https://user:secret@ledger.example.com/",
            "https://ledger.example.com:",
            "https://ledger.example.com:0",
            "https://ledger.example.com:+1",
            "https://ledger.example.com:65536",
            "https://ledger..example.com",
            "https://-a.example.com",
            "https://[::1",
            "https://[::1]8443",
            "https://[x]",
            "https://ledger.example.com/a b",
            "https://ledger.example.com/é",
            "https://ledger.example.com/%2",
            "https://ledger.example.com/%zz",
            "https://ledger.example.com/\u{202e}",
            "https://ledger.example.com\\@x",
            "javascript:alert(1)",
            "file:///etc/passwd",
            "urn:x",
            &format!("https://a/{}", "x".repeat(512)),
        ] {
            assert!(fault_in(bad).is_some(), "{bad:?}");
        }
    }
}
