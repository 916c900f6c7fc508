//! Strict fakes of providers whose API keys are made, listed and ended by calls.
//!
//! Written from the providers' public references; statuses and error texts are theirs,
//! because clients tell situations apart by them. Some of their errors repeat the key that
//! was shown, as the real ones do.
//!
//! Deliberately absent: everything else that the providers do, but one call that an
//! application makes with its key.

pub mod openai;
mod resend;
pub mod sentry;
pub mod twilio;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::Result;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Shared;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use crate::http::{Effect, Fault, Listen, Script, Serving};

/// Whose API a fake speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Product {
    /// API keys of a Resend team.
    Resend,
    /// Standard API keys of a Twilio account.
    Twilio,
    /// Client keys of a Sentry project.
    Sentry,
    /// Service accounts of an OpenAI project.
    OpenAi,
}

/// A key that the provider knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The provider's own name of it.
    pub id: String,
    /// What its maker called it.
    pub name: String,
    /// What an application shows.
    pub secret: String,
    /// What it may do, in the provider's words.
    pub scope: String,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it is accepted.
    pub active: bool,
}

/// A running fake.
#[derive(Debug)]
pub struct ProviderFake {
    server: Server,
    script: Script,
    serving: Serving,
    /// What an application calls with.
    application: reqwest::Client,
}

#[derive(Clone, Debug)]
struct Server {
    state: Arc<Mutex<State>>,
    script: Script,
}

/// What a provider keeps of one account.
#[derive(Debug)]
struct State {
    product: Product,
    /// Newest last.
    keys: Vec<Key>,
    /// How many keys fit.
    most: usize,
    /// Pages hold no more keys than this, whatever is asked for.
    longest_page: usize,
    admin: String,
}

/// One call.
struct Call<'c> {
    method: &'c Method,
    path: Vec<&'c str>,
    query: BTreeMap<String, String>,
    headers: &'c HeaderMap,
    body: &'c [u8],
    now: Timestamp,
}

/// One answer.
struct Reply {
    status: StatusCode,
    headers: Vec<(&'static str, String)>,
    body: Option<Value>,
}

impl ProviderFake {
    /// Starts an account with no key but the administrator's.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(product: Product, listen: Listen) -> Result<Self> {
        let script = Script::with_clock(listen.clock.clone());
        let admin = match product {
            Product::Resend => resend::token(),
            Product::Twilio => twilio::admin(),
            Product::Sentry => sentry::admin(),
            Product::OpenAi => openai::admin(),
        };
        let state = State { product, keys: Vec::new(), most: 1000, longest_page: usize::MAX, admin };
        let server = Server { state: Arc::new(Mutex::new(state)), script: script.clone() };
        let router = Router::new().fallback(handle).with_state(server.clone());
        let serving = Serving::start(router, script.clone(), listen)?;
        let application = reqwest::Client::builder().user_agent("application").build()?;
        Ok(Self { server, script, serving, application })
    }

    /// The base URL of every call.
    pub fn url(&self) -> String {
        self.serving.url()
    }

    /// The faults and the clock.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// The administrator's login, as Rota's store keeps it.
    pub fn admin(&self) -> String {
        self.server.lock().admin.clone()
    }

    /// Every key, oldest first.
    pub fn keys(&self) -> Vec<Key> {
        self.server.lock().keys.clone()
    }

    /// A key that somebody makes by hand.
    pub fn make(&self, name: &str) -> Key {
        let now = self.script.clock().now();
        let mut state = self.server.lock();
        let key = state.new_key(name, "", now);
        state.keys.push(key.clone());
        key
    }

    /// What templates of a policy may be filled with, by name, as the provider showed it once.
    pub fn parts(&self, key: &Key) -> BTreeMap<&'static str, String> {
        let product = self.server.lock().product;
        let mut parts = BTreeMap::from([("id", key.id.clone())]);
        match product {
            Product::Resend | Product::Twilio | Product::OpenAi => parts.insert("secret", key.secret.clone()),
            Product::Sentry => parts.insert("dsn", sentry::dsn(key)),
        };
        parts
    }

    /// Uses a key (its parts) as an application does: one call over the network.
    pub async fn is_accepted(&self, parts: &BTreeMap<String, String>) -> bool {
        let part = |name: &str| parts.get(name).cloned().unwrap_or_default();
        let post = |path: &str| self.application.post(format!("{}{path}", self.url()));
        let product = self.server.lock().product;
        let request = match product {
            Product::Resend => post("/emails").bearer_auth(part("secret")),
            Product::Twilio => post(&format!("/2010-04-01/Accounts/{}/Messages.json", twilio::ACCOUNT))
                .basic_auth(part("id"), Some(part("secret"))),
            // The key of a DSN stands before its `@`.
            Product::Sentry => {
                let dsn = part("dsn");
                let key =
                    dsn.strip_prefix("https://").and_then(|rest| rest.split('@').next()).unwrap_or_default();
                let shown = format!("Sentry sentry_version=7, sentry_key={key}");
                post("/api/4505281256090153/envelope/").header("x-sentry-auth", shown)
            }
            Product::OpenAi => post("/v1/responses").bearer_auth(part("secret")),
        };
        request.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// Somebody ends a key by hand.
    pub fn remove(&self, id: &str) {
        self.server.lock().keys.retain(|key| key.id != id);
    }

    /// From now on so many keys fit.
    pub fn set_most(&self, most: usize) {
        self.server.lock().most = most;
    }

    /// From now on pages of lists hold so many keys at most.
    pub fn set_longest_page(&self, keys: usize) {
        self.server.lock().longest_page = keys;
    }

    /// Answers the next matching calls as a rate limit does.
    pub fn rate_limit(&self, on: &str, times: u32, retry_after_s: u32) {
        let headers = vec![("retry-after".to_owned(), retry_after_s.to_string())];
        let body = r#"{"message":"Too many requests"}"#.to_owned();
        self.script.add(Fault::next(on, Effect::Answer { status: 429, headers, body }).times(times));
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the state panics")
    }
}

impl State {
    fn new_key(&self, name: &str, scope: &str, now: Timestamp) -> Key {
        let (id, secret) = match self.product {
            Product::Resend => (Uuid::new_v4().to_string(), resend::token()),
            Product::Twilio => (twilio::id(), twilio::secret()),
            Product::Sentry => (sentry::id(), sentry::id()),
            Product::OpenAi => (openai::id(), openai::secret()),
        };
        Key { id, name: name.to_owned(), secret, scope: scope.to_owned(), created: now, active: true }
    }

    /// A page of keys, newest first, after the one with this id; and whether more follow.
    fn page(&self, after: Option<&str>, limit: usize) -> Option<(Vec<&Key>, bool)> {
        let newest_first: Vec<&Key> = self.keys.iter().rev().collect();
        let start = match after {
            None => 0,
            Some(id) => newest_first.iter().position(|key| key.id == id)? + 1,
        };
        let rest = &newest_first[start..];
        Some((rest.iter().take(limit).copied().collect(), rest.len() > limit))
    }

    /// Ends exactly this key; false where there is none.
    fn end(&mut self, id: &str) -> bool {
        let before = self.keys.len();
        self.keys.retain(|key| key.id != id);
        self.keys.len() < before
    }
}

impl Call<'_> {
    fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    fn bearer(&self) -> Option<&str> {
        self.header(header::AUTHORIZATION)?.strip_prefix("Bearer ")
    }

    /// The body, where it is JSON and says so.
    fn json(&self) -> Option<Value> {
        let kind = self.header(header::CONTENT_TYPE)?;
        kind.starts_with("application/json").then(|| serde_json::from_slice(self.body).ok()).flatten()
    }
}

impl Reply {
    fn json(status: u16, body: Value) -> Self {
        Self::with(status, Some(body))
    }

    fn with(status: u16, body: Option<Value>) -> Self {
        let status = StatusCode::from_u16(status).expect("a status of this crate");
        Self { status, headers: Vec::new(), body }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            Some(mut body) => {
                add_what_comes_tomorrow(&mut body);
                (self.status, axum::Json(body)).into_response()
            }
            None => self.status.into_response(),
        };
        for (name, value) in self.headers {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}

/// Every object has a field that no reference knows yet.
fn add_what_comes_tomorrow(body: &mut Value) {
    match body {
        Value::Array(items) => items.iter_mut().for_each(add_what_comes_tomorrow),
        Value::Object(table) => {
            table.values_mut().for_each(add_what_comes_tomorrow);
            table
                .insert("added_tomorrow".to_owned(), serde_json::json!({ "id": "another", "items": [null] }));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Pairs as forms write them (WHATWG URL, section 5).
fn pairs(text: &str) -> BTreeMap<String, String> {
    let url = reqwest::Url::parse(&format!("http://form/?{text}"));
    url.map(|url| url.query_pairs().into_owned().collect()).unwrap_or_default()
}

async fn handle(
    Shared(server): Shared<Server>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Reply {
    let call = Call {
        method: &method,
        path: uri.path().trim_start_matches('/').split('/').collect(),
        query: pairs(uri.query().unwrap_or_default()),
        headers: &headers,
        body: &body,
        now: server.script.clock().now(),
    };
    let mut state = server.lock();
    match state.product {
        Product::Resend => resend::answer(&call, &mut state),
        Product::Twilio => twilio::answer(&call, &mut state),
        Product::Sentry => sentry::answer(&call, &mut state),
        Product::OpenAi => openai::answer(&call, &mut state),
    }
}
