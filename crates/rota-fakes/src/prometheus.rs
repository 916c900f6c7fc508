//! A private Prometheus for tests, and a page of metrics for it to scrape.
//!
//! Deliberately absent: alert delivery.

use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::http::{Listen, Script, Serving};
use crate::process::{ServerFolder, Supervised, in_path, on_some_port};
use crate::wait;

/// Often enough that a test sees a sample within a second.
const SCRAPE_INTERVAL: &str = "200ms";

/// A server of its own, which ends with its owner.
#[derive(Debug)]
pub struct PrometheusServer {
    _server: Supervised,
    _folder: ServerFolder,
    port: u16,
}

impl PrometheusServer {
    /// Starts a server that scrapes `/metrics` of these addresses (`host:port`)
    /// as job `test`.
    ///
    /// # Errors
    /// When Prometheus is not installed or does not start.
    pub fn start(targets: &[String]) -> Result<Self> {
        let folder = ServerFolder::unprivileged("rota-prometheus-")?;
        let targets = serde_json::to_string(targets)?;
        let config = format!(
            "global: {{ scrape_interval: {SCRAPE_INTERVAL}, scrape_timeout: {SCRAPE_INTERVAL} }}\n\
             scrape_configs: [{{ job_name: test, static_configs: [{{ targets: {targets} }}] }}]\n"
        );
        folder.write("prometheus.yml", &config, 0o600)?;
        let (server, port) = on_some_port(|port| start_on(&folder, port))?;
        Ok(Self { _server: server, _folder: folder, port })
    }

    /// The base URL, without a slash at its end.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

fn start_on(folder: &ServerFolder, port: u16) -> Result<Supervised> {
    let program = in_path("prometheus").context("no prometheus, install the package `prometheus`")?;
    let listen = format!("--web.listen-address=127.0.0.1:{port}");
    let arguments = ["--config.file=prometheus.yml", "--storage.tsdb.path=data", &listen];
    let mut server = Supervised::start(folder, &program, &arguments, &[], "KILL")?;
    server.wait_ready(|| Ok(wait::answers_ok(port, "/-/ready").then_some(())))?;
    Ok(server)
}

/// A page of metrics whose text a test sets.
#[derive(Debug)]
pub struct MetricsPage {
    text: Arc<Mutex<String>>,
    serving: Serving,
}

impl MetricsPage {
    /// Starts an empty page.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start() -> Result<Self> {
        let text = Arc::new(Mutex::new(String::new()));
        let router = Router::new().route("/metrics", get(page)).with_state(Arc::clone(&text));
        Ok(Self { text, serving: Serving::start(router, Script::new(), Listen::default())? })
    }

    /// `host:port`, as a scrape target is written.
    pub fn target(&self) -> String {
        self.serving.address().to_string()
    }

    /// Sets what the next scrape sees, in the text exposition format.
    pub fn set(&self, text: &str) {
        *self.text.lock().expect("no holder of the page panics") = text.to_owned();
    }
}

async fn page(State(text): State<Arc<Mutex<String>>>) -> impl IntoResponse {
    let text = text.lock().expect("no holder of the page panics").clone();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
