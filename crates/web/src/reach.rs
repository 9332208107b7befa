//! Where services may call out to: public addresses, and private ones only where the configuration names their network.
//!
//! Whoever may declare a trusted issuer chooses an address that a service then calls. Without this guard he could have it
//! call what only this machine's network reaches (server-side request forgery).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

/// A network: an address and how many of its leading bits count, as in `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

/// A text is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a network is an address and a length without bits beyond it, as 10.0.0.0/8 or fd00::/8")]
pub struct BadNetwork;

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (address, bits) = text.split_once('/').ok_or(BadNetwork)?;
        let address: IpAddr = address.parse().map_err(|_| BadNetwork)?;
        let bits: u8 = bits.parse().map_err(|_| BadNetwork)?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let network = Self { address, bits };
        // An address beyond the length is mostly a slip: 10.1.2.3/8 is not what its writer thinks.
        if bits > longest || network.leading(address) != number(address) {
            return Err(BadNetwork);
        }
        Ok(network)
    }
}

impl TryFrom<String> for Network {
    type Error = BadNetwork;

    fn try_from(text: String) -> Result<Self, BadNetwork> {
        text.parse()
    }
}

impl Network {
    fn leading(self, address: IpAddr) -> u128 {
        let width: u32 = if address.is_ipv4() { 32 } else { 128 };
        let rest = width - u32::from(self.bits).min(width);
        number(address).checked_shr(rest).and_then(|leading| leading.checked_shl(rest)).unwrap_or(0)
    }

    /// Whether the address lies in it.
    #[must_use]
    pub fn holds(self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && self.leading(address) == number(self.address)
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// Whether the address may be called: it is public, or one of the networks holds it.
#[must_use]
pub fn allows(networks: &[Network], address: IpAddr) -> bool {
    // ::ffff:127.0.0.1 is 127.0.0.1.
    let address = address.to_canonical();
    let public = match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    };
    public || networks.iter().any(|network| network.holds(address))
}

/// IANA IPv4 Special-Purpose Address Registry: whatever is not globally reachable is left out.
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

/// Global unicast is 2000::/3; of it, whatever carries another address within (Teredo, 6to4) or is for documents is left out.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, ..] = address.segments();
    let global = a & 0xe000 == 0x2000;
    let special = (a == 0x2001 && (b < 0x0200 || b == 0x0db8)) || a == 0x2002 || (a == 0x3fff && b < 0x1000);
    global && !special
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_public_addresses_are_reached() {
        for public in
            ["1.1.1.1", "20.201.28.151", "192.0.1.1", "172.15.0.1", "172.32.0.1", "2606:4700::1111", "2a00::1"]
        {
            assert!(allows(&[], public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.9.9",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:a00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!allows(&[], private.parse().unwrap()), "{private}");
        }
        let networks: Vec<Network> =
            ["10.0.0.0/8", "127.0.0.1/32", "fd00::/8"].iter().map(|n| n.parse().unwrap()).collect();
        for (address, allowed) in [
            ("10.255.0.1", true),
            ("127.0.0.1", true),
            ("::ffff:127.0.0.1", true),
            ("fd00::1", true),
            ("127.0.0.2", false),
            ("11.0.0.1", true),
            ("192.168.0.1", false),
            ("fc00::1", false),
            ("::1", false),
        ] {
            assert_eq!(allows(&networks, address.parse().unwrap()), allowed, "{address}");
        }
    }

    #[test]
    fn a_network_is_written_out() {
        for good in ["0.0.0.0/0", "::/0", "10.0.0.0/8", "10.1.2.3/32", "fd00::/8", "::1/128"] {
            good.parse::<Network>().unwrap();
        }
        for bad in [
            "",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.1.0.0/8",
            "::/129",
            "fd00::1/8",
            "localhost/8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
        ] {
            bad.parse::<Network>().unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn a_network_holds_exactly_what_begins_as_it_does(address: u32, other: u32, bits in 0u8..=32) {
            let mask = if bits == 0 { 0 } else { u32::MAX << (32 - bits) };
            let network: Network = format!("{}/{bits}", Ipv4Addr::from_bits(address & mask)).parse().unwrap();
            prop_assert!(network.holds(Ipv4Addr::from_bits(address).into()));
            prop_assert_eq!(network.holds(Ipv4Addr::from_bits(other).into()), other & mask == address & mask);
            prop_assert!(!network.holds(Ipv6Addr::from_bits(u128::from(address)).into()) );
        }
    }
}
