//! Where a server of a rotator listens and which certificates it may show.

use std::net::IpAddr;

use rota_core::policy::kinds::KindProblem;

use crate::http::Trust;

/// `host:port`, `host`, `[v6]:port` or an address of either family.
pub(crate) fn host_and_port(address: &str, default: u16) -> (String, u16) {
    if address.parse::<IpAddr>().is_ok() {
        return (address.to_owned(), default);
    }
    let split = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = split.unwrap_or((address, default));
    (host.trim_matches(['[', ']']).to_owned(), port)
}

/// True for this machine, the only one that is reached without verified TLS.
pub(crate) fn is_here(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// True for what can be no host.
pub(crate) fn is_no_host(host: &str) -> bool {
    host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/')
}

/// The authorities that a server's certificate is checked with; the daemon's own stand in
/// for `ca`, and `None` is the system's.
pub(crate) fn authorities(ca: Option<&String>, trust: &Trust) -> Option<Vec<u8>> {
    let own = ca.map(|pem| pem.clone().into_bytes());
    own.or_else(|| match trust {
        Trust::System => None,
        Trust::SystemAnd(pem) | Trust::Only(pem) => Some(pem.clone()),
    })
}

/// What is wrong with `ca`; `such_as` names a bundle that would fit.
pub(crate) fn authorities_problem(ca: Option<&String>, such_as: &str) -> Option<KindProblem> {
    (!ca?.contains("-----BEGIN CERTIFICATE-----")).then(|| {
        let help = format!("paste the bundle{such_as} between `'''` and `'''`");
        KindProblem::error("ca", "/ca", "this is not a certificate in PEM", help)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_usual_port_or_its_own() {
        let parse = |address| host_and_port(address, 5432);
        assert_eq!(parse("ro.internal"), ("ro.internal".to_owned(), 5432));
        assert_eq!(parse("ro.internal:5433"), ("ro.internal".to_owned(), 5433));
        assert_eq!(parse("fd00::7"), ("fd00::7".to_owned(), 5432));
        assert_eq!(parse("[fd00::7]:5433"), ("fd00::7".to_owned(), 5433));
    }

    #[test]
    fn only_loopback_is_this_machine() {
        for host in ["localhost", "127.0.0.1", "::1", "[::1]"] {
            assert!(is_here(host), "{host}");
        }
        for host in ["db.internal", "10.0.0.7", "localhost.evil.example", "fd00::7"] {
            assert!(!is_here(host), "{host}");
        }
    }
}
