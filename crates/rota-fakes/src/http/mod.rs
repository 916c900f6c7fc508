//! How every fake is served: on a thread and a runtime of its own, so that a
//! test may block, pause its time or end without disturbing it.
//!
//! The accept loop is ours because some faults cannot be said in HTTP: a
//! connection that is cut after the call took effect, and a call that takes
//! effect long after its client has given up.
//!
//! Deliberately absent: HTTP/2 and everything that a fake itself decides.

mod control;
mod script;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tower::ServiceExt as _;

use crate::clock::FakeClock;

pub use script::{Effect, Fault, Script, Seen};

/// Where a fake listens, how, and which clock it goes by.
#[derive(Clone)]
pub struct Listen {
    /// Port 0 takes a free one.
    pub address: SocketAddr,
    /// Served with TLS when present.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Shared by fakes that stand for one world; it follows real time unless moved.
    pub clock: FakeClock,
}

impl Default for Listen {
    fn default() -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), tls: None, clock: FakeClock::following() }
    }
}

/// A running fake. Dropping it closes its port and cuts its connections.
#[derive(Debug)]
pub struct Serving {
    address: SocketAddr,
    scheme: &'static str,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Binds and serves `router` under `script`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(router: Router, script: Script, listen: Listen) -> Result<Self> {
        let listener = std::net::TcpListener::bind(listen.address)
            .with_context(|| format!("listen on {}", listen.address))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let scheme = if listen.tls.is_some() { "https" } else { "http" };
        let router = router.merge(control::router(script.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("fake".to_owned()).spawn(move || {
            runtime.block_on(async {
                let Ok(listener) = TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = accept(listener, router, script, listen.tls) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        })?;
        Ok(Self { address, scheme, stop: Some(stop), thread: Some(thread) })
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL, without a slash at its end. With TLS it names `localhost`.
    pub fn url(&self) -> String {
        match self.scheme {
            "https" => format!("https://localhost:{}", self.address.port()),
            scheme => format!("{scheme}://{}", self.address),
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A fake that panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

async fn accept(
    listener: TcpListener,
    router: Router,
    script: Script,
    tls: Option<Arc<rustls::ServerConfig>>,
) {
    let tls = tls.map(tokio_rustls::TlsAcceptor::from);
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let (router, script, tls) = (router.clone(), script.clone(), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, router, script).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, router, script).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router, script: Script) {
    let service = service_fn(move |request| answer(request, router.clone(), script.clone()));
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error is a client that went away, or a cut that a test asked for.
    let _ = connection.await;
}

/// A connection closed without an answer.
#[derive(Debug)]
struct Cut;

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("cut by the script")
    }
}

impl std::error::Error for Cut {}

async fn answer(request: Request<Incoming>, router: Router, script: Script) -> Result<Response<Body>, Cut> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let request = Request::from_parts(head, body);
    if request.uri().path().starts_with(control::PREFIX) {
        return Ok(handle(router, request).await);
    }
    let label = label(&request);
    let mut response = match script.take(&label) {
        None => handle(router, request).await,
        Some(Effect::Answer { status, headers, body }) => scripted(status, &headers, body),
        Some(Effect::CutBefore) => {
            script.saw(label, None);
            return Err(Cut);
        }
        Some(Effect::CutAfter) => {
            let response = handle(router, request).await;
            script.saw(label, Some(response.status().as_u16()));
            return Err(Cut);
        }
        Some(Effect::Hang) => {
            script.saw(label, None);
            return std::future::pending().await;
        }
        Some(Effect::Late) => {
            script.saw(label, None);
            hold(request, router, &script);
            return std::future::pending().await;
        }
    };
    script.saw(label, Some(response.status().as_u16()));
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&script.clock().now());
    if let Some(date) = date.ok().and_then(|date| HeaderValue::try_from(date).ok()) {
        response.headers_mut().insert(header::DATE, date);
    }
    Ok(response)
}

/// Keeps a call whose client will give up, to be carried out when the test says.
fn hold(request: Request<Bytes>, router: Router, script: &Script) {
    let (go, gone) = oneshot::channel::<()>();
    let (finished, done) = std::sync::mpsc::channel();
    // A task of its own: the connection's future is dropped when its client leaves.
    tokio::spawn(async move {
        if gone.await.is_ok() {
            handle(router, request).await;
        }
        let _ = finished.send(());
    });
    script.hold(go, done);
}

async fn handle(router: Router, request: Request<Bytes>) -> Response<Body> {
    let answered: Result<_, Infallible> = router.oneshot(request.map(Body::from)).await;
    match answered {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn scripted(status: u16, headers: &[(String, String)], body: String) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    response.body(Body::from(body)).unwrap_or_else(|_| {
        let mut wrong = Response::new(Body::from("the script's status or header is not valid"));
        *wrong.status_mut() = axum::http::StatusCode::NOT_IMPLEMENTED;
        wrong
    })
}

/// `METHOD /path?query`, and the operation where the protocol puts it in a header.
fn label(request: &Request<Bytes>) -> String {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let target = request.headers().get("x-amz-target").and_then(|value| value.to_str().ok());
    match target {
        Some(target) => format!("{} {path} {target}", request.method()),
        None => format!("{} {path}", request.method()),
    }
}
