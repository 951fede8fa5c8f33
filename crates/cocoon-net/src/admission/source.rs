//! Whom a stream is counted for.

use std::net::IpAddr;

/// Everyone who is treated as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Source {
    /// This host.
    Loopback,
    /// An IPv4 address.
    V4(u32),
    /// An IPv6 /64: the smallest network that is handed out, so one machine may have every address in it.
    V6(u64),
}

impl Source {
    /// The source of an address. An IPv4 address in an IPv6 socket is the same source as in an IPv4 one.
    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            ip if ip.is_loopback() => Self::Loopback,
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::V6(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
        }
    }

    /// The source of an address that is to have a share of something: none for this host and for links in memory.
    pub(crate) fn far(ip: IpAddr) -> Option<Self> {
        Some(Self::of(ip)).filter(|source| *source != Self::Loopback && !ip.is_unspecified())
    }

    /// As bytes for a hash; different sources have different ones.
    pub(crate) fn to_bytes(self) -> [u8; 9] {
        let (kind, bits) = match self {
            Self::Loopback => (0, 0),
            Self::V4(bits) => (4, u64::from(bits)),
            Self::V6(bits) => (6, bits),
        };
        let [a, b, c, d, e, f, g, h] = bits.to_be_bytes();
        [kind, a, b, c, d, e, f, g, h]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn same(left: &str, right: &str) -> bool {
        let [left, right] = [left, right].map(|ip| Source::of(ip.parse().unwrap()));
        assert_eq!(left == right, left.to_bytes() == right.to_bytes());
        left == right
    }

    #[test]
    fn one_network_is_one_source() {
        assert!(same("2001:db8::1", "2001:db8::ffff:1:2:3"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
        assert!(same("127.0.0.1", "::1") && same("127.0.0.1", "127.3.2.1") && same("::ffff:127.0.0.1", "::1"));
        assert!(!same("127.0.0.1", "0.0.0.0") && !same("::", "::1"));
    }
}
