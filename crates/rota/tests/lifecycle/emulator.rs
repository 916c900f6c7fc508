//! The AWS emulator behind an address of the test's own, which shows the test's time: a
//! destructive gate compares the store's `Date` with the database's clock.

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use rota_fakes::clock::FakeClock;
use rota_fakes::http::{Listen, Script, Serving};
use rota_fakes::moto;
use serde_json::Value;

const CONTENT_TYPE: &str = "application/x-amz-json-1.1";

/// The emulator finds service and region in it; it checks no signature.
const SCOPE: &str = "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101/us-east-1/secretsmanager/aws4_request, \
                     SignedHeaders=host, Signature=0";

/// Secrets Manager of the emulator that all tests share.
pub(crate) struct Emulator {
    serving: Serving,
    behind: Behind,
}

#[derive(Clone)]
struct Behind {
    client: reqwest::Client,
    url: &'static str,
}

impl Emulator {
    pub(crate) fn start(clock: FakeClock) -> Self {
        let behind = Behind { client: reqwest::Client::new(), url: moto::shared().unwrap() };
        let router = Router::new().fallback(forward).with_state(behind.clone());
        let listen = Listen { clock: clock.clone(), ..Listen::default() };
        let serving = Serving::start(router, Script::with_clock(clock), listen).unwrap();
        Self { serving, behind }
    }

    pub(crate) fn url(&self) -> String {
        self.serving.url()
    }

    /// The answer of one operation; `None` where there is no such secret or version.
    pub(crate) async fn call(&self, operation: &str, fields: Value) -> Option<Value> {
        let request = self.behind.client.post(self.behind.url).header("authorization", SCOPE);
        let request = request.header("content-type", CONTENT_TYPE);
        let request = request.header("x-amz-target", format!("secretsmanager.{operation}"));
        let answer = request.body(fields.to_string()).send().await.unwrap();
        let status = answer.status();
        let body: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
        let missing = body["__type"].as_str().is_some_and(|kind| kind.contains("ResourceNotFound"));
        assert!(status.is_success() || missing, "{operation}: {status}");
        status.is_success().then_some(body)
    }
}

async fn forward(State(behind): State<Behind>, headers: HeaderMap, body: Bytes) -> Response {
    let mut request = behind.client.post(behind.url).body(body);
    for name in ["authorization", "content-type", "x-amz-target", "x-amz-date"] {
        if let Some(value) = headers.get(name).and_then(|value| value.to_str().ok()) {
            request = request.header(name, value);
        }
    }
    let Ok(answer) = request.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let status = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    match answer.bytes().await {
        Ok(body) => (status, [("content-type", CONTENT_TYPE)], body).into_response(),
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
