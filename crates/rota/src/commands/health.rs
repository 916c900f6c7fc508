//! `rota health`: asks a running daemon. For container health checks, which have no
//! shell and no curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{Method, StatusCode};
use rota_adapters::http::read_body;

use super::Context;
use crate::cli::Health;
use crate::exit::{Exit, Failure, Outcome};
use crate::wiring;

/// More than any answer of ours.
const ANSWER_LIMIT: usize = 64 * 1024;

pub(super) async fn run(context: &Context, health: &Health) -> Outcome {
    let configuration = context.configuration(&[("daemon.listen", health.address.as_ref())])?;
    let address = reachable(configuration.settings.daemon.listen);
    let path = if health.live { "livez" } else { "readyz" };
    let client = wiring::client(&configuration.settings)?;
    let request = client.request(Method::GET, &format!("http://{address}/{path}"))?;
    let response = client.send("the daemon", request).await.map_err(|fault| {
        Failure::new(Exit::Unhealthy, format!("no daemon answers on {address}: {fault}"))
            .hint("is `rota serve` running there? --address names another")
    })?;
    let well = response.status() == StatusCode::OK;
    let body = read_body("the daemon", response, ANSWER_LIMIT).await.unwrap_or_default();
    context.output.line(String::from_utf8_lossy(&body).trim_end())?;
    Ok(if well { Exit::Success } else { Exit::Unhealthy })
}

/// A daemon that listens everywhere is asked on loopback.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
