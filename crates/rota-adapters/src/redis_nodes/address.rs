//! Where the nodes are, as a policy says it.

use rota_core::policy::kinds::KindProblem;

use super::Node;
use crate::address::{authorities, authorities_problem, host_and_port, is_here, is_no_host};
use crate::http::Trust;

/// Where a node listens that says nothing else.
const DEFAULT_PORT: u16 = 6379;

/// Whether a connection is encrypted, and with whose certificates it is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TlsUse {
    /// Only to this machine.
    None,
    /// Verified in full; `None` trusts the system's authorities.
    Verified(Option<Vec<u8>>),
}

/// What `url` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) tls: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) database: String,
}

/// `rediss://host:port/database`, port and database may be missing; `None` for anything
/// else, and where a login stands in it.
pub(crate) fn endpoint(url: &str) -> Option<Endpoint> {
    let (scheme, rest) = url.split_once("://")?;
    let tls = match scheme {
        "rediss" => true,
        "redis" => false,
        _ => return None,
    };
    let (authority, database) = rest.split_once('/').unwrap_or((rest, "0"));
    let database = if database.is_empty() { "0" } else { database };
    let (host, port) = host_and_port(authority, DEFAULT_PORT);
    let bad = is_no_host(&host)
        || rest.contains(['@', '?', '#'])
        || (host.contains(':') && !host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_ipv6()))
        || database.parse::<u16>().is_err();
    (!bad).then(|| Endpoint { tls, host, port, database: database.to_owned() })
}

/// The servers of some settings.
pub(crate) struct Servers<'a> {
    pub(crate) url: &'a str,
    /// Every node, where the URL's host is not the only one.
    pub(crate) nodes: &'a [String],
    pub(crate) ca: Option<&'a String>,
}

impl Servers<'_> {
    /// Host and port of each node.
    pub(crate) fn addresses(&self) -> Vec<(String, u16)> {
        if self.nodes.is_empty() {
            return endpoint(self.url).map(|at| (at.host, at.port)).into_iter().collect();
        }
        self.nodes.iter().map(|address| host_and_port(address, DEFAULT_PORT)).collect()
    }

    /// Every node.
    pub(crate) fn nodes(&self, trust: &Trust) -> Vec<Node> {
        let encrypted = endpoint(self.url).is_none_or(|endpoint| endpoint.tls);
        let tls = || {
            if encrypted { TlsUse::Verified(authorities(self.ca, trust)) } else { TlsUse::None }
        };
        self.addresses().into_iter().map(|(host, port)| Node { host, port, tls: tls() }).collect()
    }
}

/// What is wrong with the addresses of some settings.
pub(crate) fn servers_problems(servers: &Servers<'_>) -> Vec<KindProblem> {
    let mut problems: Vec<KindProblem> = authorities_problem(servers.ca, "").into_iter().collect();
    let Some(endpoint) = endpoint(servers.url) else {
        let help = "write `rediss://cache.internal:6379/0`; logins are kept in stores";
        let message = "this is not the address of a Redis server, or it holds a login";
        problems.push(KindProblem::error("url", "/url", message, help));
        return problems;
    };
    let addresses = servers.addresses();
    if addresses.iter().any(|(host, _)| is_no_host(host)) {
        let help = "write `cache-1.internal` or `cache-1.internal:6379`";
        problems.push(KindProblem::error("host", "/nodes", "this is not a server's name", help));
    }
    let elsewhere = addresses.iter().any(|(host, _)| !is_here(host)) || !is_here(&endpoint.host);
    if !endpoint.tls && elsewhere {
        let help = "write `rediss://`, and turn TLS on in the server (`tls-port`)";
        let message = "without TLS anybody on the way reads the password of each login";
        problems.push(KindProblem::error("tls", "/url", message, help));
    }
    let mut seen = std::collections::BTreeSet::new();
    if let Some((host, port)) = addresses.iter().find(|address| !seen.insert(*address)) {
        let message = format!("{host}:{port} is named twice");
        problems.push(KindProblem::error("host", "/nodes", message, "name each node once"));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_a_login_in_it_refused() {
        let read = |url| endpoint(url).map(|at| (at.tls, at.host, at.port, at.database));
        let is =
            |tls, host: &str, port, database: &str| Some((tls, host.to_owned(), port, database.to_owned()));
        assert_eq!(read("rediss://cache.internal"), is(true, "cache.internal", 6379, "0"));
        assert_eq!(read("rediss://cache.internal:6380/3"), is(true, "cache.internal", 6380, "3"));
        assert_eq!(read("redis://[::1]:6380/"), is(false, "::1", 6380, "0"));
        for bad in [
            "cache.internal",
            "http://cache.internal",
            "rediss://",
            "rediss://user:password@cache.internal",
            "rediss://cache.internal/x",
            "rediss://cache.internal?x=1",
            "rediss://cache.internal:port",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
