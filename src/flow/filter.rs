//! Which peers a probe reports: all, or only those inside or outside.

use std::net::IpAddr;

use crate::flow::key::HostFlow;

/// Which host flows are kept. Listeners always are: without them no direction
/// could be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Everything.
    All,
    /// Only flows whose peer has a public address.
    Public,
    /// Only flows whose peer has a private address.
    Private,
}

impl Filter {
    /// Whether `flow` is kept.
    pub fn keeps(self, flow: &HostFlow) -> bool {
        let Some(peer) = flow.key.peer else { return true };
        match self {
            Filter::All => true,
            Filter::Public => !is_private(peer),
            Filter::Private => is_private(peer),
        }
    }
}

/// Addresses that mean something inside one organisation only: RFC 1918,
/// RFC 4193 (unique local), RFC 6598 (carrier-grade NAT, which clouds use
/// inside), loopback and link-local.
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_is_what_the_rfcs_say() {
        for private in [
            "10.0.0.1",
            "172.31.9.9",
            "192.168.1.1",
            "127.0.0.1",
            "169.254.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "fd00::1",
            "::1",
            "fe80::1",
        ] {
            assert!(is_private(private.parse().expect("an address")), "{private}");
        }
        for public in
            ["8.8.8.8", "172.32.0.1", "100.63.0.1", "100.128.0.1", "2001:db8::1", "11.0.0.1"]
        {
            assert!(!is_private(public.parse().expect("an address")), "{public}");
        }
    }
}
