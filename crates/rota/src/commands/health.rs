//! `rota health`: asks a running daemon. For container health checks, which have no
//! shell and no curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::{Method, StatusCode};
use rota_adapters::http::read_body;
use serde_json::{Value, json};

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
    let said: Value = serde_json::from_slice(&body).unwrap_or_else(|_| json!({ "live": well }));
    if context.output.json {
        context.output.document(&said)?;
    } else {
        lines(&said, well).into_iter().try_for_each(|line| context.output.line(line))?;
    }
    Ok(if well { Exit::Success } else { Exit::Unhealthy })
}

/// One word, and a line for everything that is not well.
fn lines(said: &Value, well: bool) -> Vec<String> {
    let word = match (said.get("live"), said["stopping"].as_bool(), well) {
        (Some(_), _, true) => "live",
        (_, Some(true), _) => "not ready: stopping",
        (_, _, true) => "ready",
        (_, _, false) => "not ready",
    };
    let troubles = said["troubles"].as_object().into_iter().flatten();
    let text = |trouble: &Value| trouble["message"].as_str().unwrap_or_default().to_owned();
    let troubles = troubles.map(|(part, trouble)| format!("{part}: {}", text(trouble)));
    std::iter::once(word.to_owned()).chain(troubles).collect()
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
