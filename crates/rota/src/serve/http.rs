//! Health, metrics and the read-only status page.
//!
//! Deliberately absent: every method but GET and HEAD, and so any way to change
//! something over HTTP; and logins. It binds to loopback unless told otherwise.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::board::Board;
use super::measure;
use crate::exit::{Exit, Failure};

/// One file; it fetches `/status.json` and nothing else.
const PAGE: &str = include_str!("page.html");

/// Prometheus's text format (exposition formats, version 0.0.4).
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page brings its own style and script and asks nobody else.
const HEADERS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

#[derive(Clone)]
pub(super) struct Shared {
    pub(super) board: Arc<Board>,
    pub(super) metrics: PrometheusHandle,
}

/// Every path that there is.
fn router(shared: Shared) -> Router {
    Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/status.json", get(status))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render_metrics))
        .layer(middleware::map_response(protect))
        .with_state(shared)
}

async fn protect(mut response: Response) -> Response {
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Takes the address; done before anything else, so that a second daemon says so at once.
///
/// # Errors
/// Where the address cannot be taken.
pub(super) async fn bind(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::new(Exit::Failure, format!("cannot listen on {address}: {error}"))
            .hint("is another rota running? set daemon.listen or --listen to a free address")
    })
}

/// Serves until `stop`.
pub(super) async fn serve(listener: TcpListener, shared: Shared, stop: CancellationToken) {
    let served = axum::serve(listener, router(shared)).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "the status page ended");
    }
}

async fn ready(State(shared): State<Shared>) -> Response {
    let health = shared.board.health();
    let code = if health.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(health)).into_response()
}

async fn render_metrics(State(shared): State<Shared>) -> Response {
    measure::process();
    metrics::gauge!("rota_ready").set(if shared.board.health().ready { 1.0 } else { 0.0 });
    ([(header::CONTENT_TYPE, METRICS_TYPE)], shared.metrics.render()).into_response()
}

async fn status(State(shared): State<Shared>) -> Response {
    let board = &shared.board;
    let document = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "health": board.health(),
        "status": board.status().as_deref(),
        "notices": board.notices(),
    });
    Json(document).into_response()
}
