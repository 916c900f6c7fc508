//! A proxy in front of a server that keeps what goes through it, both ways.
//!
//! Whoever has to know every value that was ever written to a store, or that it ever gave
//! out, reads it here: nothing reaches a server that is spoken to only by way of its
//! recorder without being kept.
//!
//! Deliberately absent: TLS, and any change of what goes through. Signed requests stay
//! valid, since the name of the host that was signed is handed on.

use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use axum::response::IntoResponse as _;

use crate::http::{Listen, Script, Serving};

/// One call that went through.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// `METHOD /path?query`.
    pub call: String,
    /// What was sent.
    pub request: String,
    /// What was answered.
    pub answer: String,
}

/// A running proxy.
#[derive(Debug)]
pub struct Recorder {
    behind: Behind,
    serving: Serving,
}

#[derive(Clone, Debug)]
struct Behind {
    client: reqwest::Client,
    url: String,
    calls: Arc<Mutex<Vec<Recorded>>>,
}

impl Recorder {
    /// Starts a proxy for the server at `url`, which has no slash at its end.
    ///
    /// # Errors
    /// When no port can be bound.
    pub fn start(url: &str) -> Result<Self> {
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        let behind = Behind { client, url: url.to_owned(), calls: Arc::default() };
        let router = Router::new().fallback(forward).with_state(behind.clone());
        let serving = Serving::start(router, Script::new(), Listen::default())?;
        Ok(Self { behind, serving })
    }

    /// The URL to talk to in place of the server's.
    pub fn url(&self) -> String {
        self.serving.url()
    }

    /// Everything that went through so far, oldest first.
    pub fn calls(&self) -> Vec<Recorded> {
        self.behind.lock().clone()
    }
}

impl Behind {
    fn lock(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.calls.lock().expect("no holder of the record panics")
    }

    /// The answer with its body read.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<(StatusCode, HeaderMap, Bytes)> {
        let url = format!("{}{path}", self.url);
        let answer = self.client.request(method, url).headers(headers).body(body).send().await?;
        Ok((answer.status(), answer.headers().clone(), answer.bytes().await?))
    }
}

async fn forward(
    State(behind): State<Behind>,
    method: Method,
    uri: Uri,
    mut headers: HeaderMap,
    body: Bytes,
) -> Response<Body> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
    let (call, request) = (format!("{method} {path}"), String::from_utf8_lossy(&body).into_owned());
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONNECTION);
    let answer = behind.ask(method, &path, headers, body).await;
    let Ok((status, mut headers, body)) = answer else {
        behind.lock().push(Recorded { call, request, answer: String::new() });
        return StatusCode::BAD_GATEWAY.into_response();
    };
    behind.lock().push(Recorded { call, request, answer: String::from_utf8_lossy(&body).into_owned() });
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
        headers.remove(name);
    }
    (status, headers, body).into_response()
}
