//! Which addresses may be reached.
//!
//! A policy file names addresses (health checks, webhooks), and whoever edits it
//! must not be able to make the daemon fetch its own cloud credentials or talk to
//! machines that nobody opened for it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// The private networks that may be reached. Public addresses and loopback always
/// may; addresses of metadata services, multicast and reserved ones never.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    private: Private,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Private {
    Listed(Vec<IpNet>),
    All,
}

impl Default for Private {
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// Why an address is not reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("{0} serves the machine's own credentials or is reserved, it is never called")]
    Never(IpAddr),
    #[error(
        "{0} is a private address, allow its network under `http.private_networks` in the daemon's configuration"
    )]
    Private(IpAddr),
    #[error("`{0}` resolves to no address")]
    NoAddress(String),
    #[error("`{0}` does not resolve to this machine")]
    NotLoopback(String),
}

impl Reach {
    /// Private addresses only within `networks`.
    #[must_use]
    pub fn private_within(networks: Vec<IpNet>) -> Self {
        Self { private: Private::Listed(networks) }
    }

    /// Any private address: for servers that the daemon's own configuration names.
    #[must_use]
    pub fn private_too() -> Self {
        Self { private: Private::All }
    }

    /// # Errors
    /// Why `address` may not be reached.
    pub fn judge(&self, address: IpAddr) -> Result<(), Refusal> {
        let inner = embedded(address);
        match class(inner) {
            Class::Public | Class::Loopback => Ok(()),
            Class::Never => Err(Refusal::Never(address)),
            Class::Private => match &self.private {
                Private::All => Ok(()),
                Private::Listed(networks) if networks.iter().any(|network| network.contains(&inner)) => {
                    Ok(())
                }
                Private::Listed(_) => Err(Refusal::Private(address)),
            },
        }
    }

    /// Those of a name's addresses that may be reached; of this machine's own name
    /// only loopback, since plain http to it is allowed.
    ///
    /// # Errors
    /// Where none is left, why the first was refused.
    pub(super) fn allowed(
        &self,
        name: &str,
        is_localhost: bool,
        found: &[IpAddr],
    ) -> Result<Vec<IpAddr>, Refusal> {
        let mut refusal = None;
        let mut allowed = Vec::with_capacity(found.len());
        for &address in found {
            if is_localhost && !is_loopback(address) {
                refusal.get_or_insert(Refusal::NotLoopback(name.to_owned()));
                continue;
            }
            match self.judge(address) {
                Ok(()) => allowed.push(address),
                Err(why) => {
                    refusal.get_or_insert(why);
                }
            }
        }
        if allowed.is_empty() {
            return Err(refusal.unwrap_or_else(|| Refusal::NoAddress(name.to_owned())));
        }
        Ok(allowed)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Public,
    Loopback,
    Private,
    Never,
}

pub(super) fn is_loopback(address: IpAddr) -> bool {
    class(embedded(address)) == Class::Loopback
}

/// The IPv4 address that an IPv6 one stands for: mapped (RFC 4291), NAT64
/// (RFC 6052) or 6to4 (RFC 3056); else the address itself.
fn embedded(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

/// Metadata services outside the link-local ranges: Alibaba, Azure's host, Oracle.
const NEVER_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];

/// The prefixes of metadata services inside unique local addresses: AWS
/// (`fd00:ec2::/32`: instance, container credentials) and Google (`fd20:ce::/32`).
const NEVER_V6: [[u16; 2]; 2] = [[0xfd00, 0x0ec2], [0xfd20, 0x00ce]];

/// By the IANA special-purpose address registries (RFC 6890). Link-local counts as
/// never: the metadata services of AWS, ECS, Google and Azure live there.
fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => class_v4(v4),
        IpAddr::V6(v6) => class_v6(v6),
    }
}

fn class_v4(address: Ipv4Addr) -> Class {
    if NEVER_V4.contains(&address) {
        return Class::Never;
    }
    match address.octets() {
        [127, ..] => Class::Loopback,
        [0 | 224..=255, ..] | [169, 254, ..] => Class::Never,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Class::Private,
        [192, 0, 0 | 2, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] => Class::Private,
        _ => Class::Public,
    }
}

fn class_v6(address: Ipv6Addr) -> Class {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        [0, ..] | [0xff00..=0xffff, ..] | [0xfe80..=0xfebf, ..] => Class::Never,
        [a, b, ..] if NEVER_V6.contains(&[a, b]) => Class::Never,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Class::Private,
        [0x2001, 0x0db8, ..] | [0x64, 0xff9b, 1, ..] => Class::Private,
        _ => Class::Public,
    }
}
