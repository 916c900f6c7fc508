//! A strict fake of HashiCorp Vault's HTTP API: the versioned key-value
//! engine, tokens, AppRole, Kubernetes and AWS login, policies that really
//! deny, namespaces, a seal, and expiry on a clock that the test moves.
//!
//! Written from the documented API; status codes and error texts are the
//! documented ones, because clients tell situations apart by them.
//!
//! Deliberately absent: leases of other engines, response wrapping, identity,
//! KV version 1, patch.

mod approle;
mod aws;
mod fields;
mod kubernetes;
mod kv;
mod policy;
mod reply;
mod state;
mod sys;
mod token;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context as _, Result, ensure};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State as Shared;
use axum::http::{HeaderMap, Method, Request, Uri};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::clock::FakeClock;
use crate::http::{Effect, Fault, Listen, Script, Serving};

pub use kubernetes::ServiceAccount;

use aws::Principal;
use reply::Reply;
use state::{Call, Moment, Namespace, State};

/// What a call does; create and update are told apart by what exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Read,
    Write,
    List,
    Delete,
}

/// A running fake.
#[derive(Debug)]
pub struct VaultFake {
    server: Server,
    root: String,
    script: Script,
    serving: Serving,
}

#[derive(Clone, Debug)]
struct Server {
    state: Arc<Mutex<State>>,
    clock: FakeClock,
    sts_clock: FakeClock,
}

/// Credentials of an AppRole.
#[derive(Clone, Debug)]
pub struct AppRoleLogin {
    /// The role's id.
    pub role_id: String,
    /// A secret id of the role.
    pub secret_id: String,
}

impl VaultFake {
    /// Starts an unsealed server with KV version 2 at `secret/` and the auth
    /// methods `approle`, `kubernetes` and `aws` at their usual paths.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(listen: Listen) -> Result<Self> {
        let script = Script::with_clock(listen.clock.clone());
        let clock = script.clock().clone();
        let (namespace, root) = Namespace::new(clock.now());
        let state = State {
            namespaces: [(String::new(), namespace)].into(),
            principals: BTreeMap::new(),
            sealed: false,
            standby: false,
        };
        let server = Server { state: Arc::new(Mutex::new(state)), clock, sts_clock: FakeClock::following() };
        let router = Router::new().fallback(handle).with_state(server.clone());
        let serving = Serving::start(router, script.clone(), listen)?;
        Ok(Self { server, root, script, serving })
    }

    /// The base URL, as `VAULT_ADDR` wants it.
    pub fn url(&self) -> String {
        self.serving.url()
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// A token that may do everything and never ends.
    pub fn root_token(&self) -> &str {
        &self.root
    }

    /// The faults and the clock that tokens and versions expire by.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// The clock of the pretended STS, by which signed logins age.
    pub fn sts_clock(&self) -> &FakeClock {
        &self.server.sts_clock
    }

    /// Carries out a call as root without the network: `PUT`, `sys/policies/acl/app`, a body.
    ///
    /// # Errors
    /// When the answer is not a success; the message holds it.
    pub async fn admin(&self, method: &str, path: &str, body: Value) -> Result<Value> {
        self.admin_in("", method, path, body).await
    }

    /// The same in a namespace.
    ///
    /// # Errors
    /// When the answer is not a success; the message holds it.
    pub async fn admin_in(&self, namespace: &str, method: &str, path: &str, body: Value) -> Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(format!("/v1/{path}"))
            .header("x-vault-token", &self.root)
            .header("x-vault-namespace", namespace)
            .body(())?;
        let (head, ()) = request.into_parts();
        let body = Bytes::from(body.to_string());
        let reply = self.server.answer(&head.method, &head.uri, &head.headers, &body);
        let response: Response<Body> = reply.into_response();
        let status = response.status();
        let bytes = response.into_body().collect().await?.to_bytes();
        ensure!(status.is_success(), "{method} {path}: {status} {}", String::from_utf8_lossy(&bytes));
        if bytes.is_empty() { Ok(Value::Null) } else { Ok(serde_json::from_slice(&bytes)?) }
    }

    /// Writes a policy (HCL or JSON).
    ///
    /// # Errors
    /// When it is not understood.
    pub async fn policy(&self, name: &str, text: &str) -> Result<()> {
        self.admin("PUT", &format!("sys/policies/acl/{name}"), json!({"policy": text})).await.map(drop)
    }

    /// An orphan token; `settings` are the fields of `auth/token/create`, such
    /// as `{"policies": ["app"], "ttl": "1h"}`.
    ///
    /// # Errors
    /// When the settings are refused.
    pub async fn token(&self, settings: Value) -> Result<String> {
        let answer = self.admin("POST", "auth/token/create-orphan", settings).await?;
        text(&answer["auth"]["client_token"])
    }

    /// An AppRole with one secret id; `settings` are the fields of the role.
    ///
    /// # Errors
    /// When the settings are refused.
    pub async fn approle(&self, name: &str, settings: Value) -> Result<AppRoleLogin> {
        let role = format!("auth/approle/role/{name}");
        self.admin("POST", &role, settings).await?;
        let role_id = self.admin("GET", &format!("{role}/role-id"), json!({})).await?;
        let secret_id = self.admin("POST", &format!("{role}/secret-id"), json!({})).await?;
        Ok(AppRoleLogin {
            role_id: text(&role_id["data"]["role_id"])?,
            secret_id: text(&secret_id["data"]["secret_id"])?,
        })
    }

    /// A service account's token of the pretended cluster.
    pub fn kubernetes_jwt(&self, account: &ServiceAccount<'_>, ttl: SignedDuration) -> String {
        kubernetes::sign(account, ttl, self.server.clock.now())
    }

    /// Makes an AWS access key known to the pretended STS.
    pub fn add_aws_key(&self, key_id: &str, secret: &str, arn: &str) {
        let principal = Principal { secret: secret.to_owned(), arn: arn.to_owned() };
        self.server.lock().principals.insert(key_id.to_owned(), principal);
    }

    /// Adds a namespace and gives its root token.
    pub fn add_namespace(&self, name: &str) -> String {
        let (namespace, root) = Namespace::new(self.server.clock.now());
        self.server.lock().namespaces.insert(name.trim_matches('/').to_owned(), namespace);
        root
    }

    /// Seals the server: all but health and seal status is 503.
    pub fn seal(&self) {
        self.server.lock().sealed = true;
    }

    /// Unseals it again.
    pub fn unseal(&self) {
        self.server.lock().sealed = false;
    }

    /// Makes the server a standby, or active again; only health shows it,
    /// because a standby forwards calls.
    pub fn set_standby(&self, standby: bool) {
        self.server.lock().standby = standby;
    }

    /// How many live tokens were made with this one, in the root namespace.
    pub fn children_of(&self, token: &str) -> usize {
        let now = self.server.clock.now();
        self.server.lock().namespaces.get("").map_or(0, |namespace| namespace.tokens.children(token, now))
    }

    /// Answers the next matching calls as a rate limit quota does.
    pub fn rate_limit(&self, on: &str, times: u32, retry_after_s: u32) {
        let headers = vec![("retry-after".to_owned(), retry_after_s.to_string())];
        let body = json!({"errors": ["request path: rate limit quota exceeded"]}).to_string();
        self.script.add(Fault::next(on, Effect::Answer { status: 429, headers, body }).times(times));
    }

    /// Answers the next matching calls as a standby does that has not caught up.
    pub fn behind(&self, on: &str, times: u32) {
        let body = json!({"errors": ["required index state not present"]}).to_string();
        self.script
            .add(Fault::next(on, Effect::Answer { status: 412, headers: Vec::new(), body }).times(times));
    }
}

fn text(value: &Value) -> Result<String> {
    Ok(value.as_str().context("the answer lacks a string that it should have")?.to_owned())
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of the state panics")
    }

    fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Reply {
        let moment = Moment { now: self.clock.now(), sts: self.sts_clock.now() };
        match parse(method, uri, headers, body) {
            Ok(call) => self.lock().answer(&call, moment),
            Err(error) => error,
        }
    }
}

async fn handle(
    Shared(server): Shared<Server>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Reply {
    server.answer(&method, &uri, &headers, &body)
}

fn parse(method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Result<Call, Reply> {
    let query = |name: &str| {
        let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned()).next()
    };
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let path = uri.path().strip_prefix("/v1/").ok_or_else(Reply::not_found)?;
    let operation = match method.as_str() {
        "GET" if query("list").as_deref() == Some("true") => Operation::List,
        "GET" => Operation::Read,
        "LIST" => Operation::List,
        "POST" | "PUT" => Operation::Write,
        "DELETE" => Operation::Delete,
        _ => return Err(Reply::unsupported()),
    };
    let body = match (operation, body.is_empty()) {
        (Operation::Write, false) => serde_json::from_slice(body)
            .map_err(|_| Reply::bad_request("failed to parse JSON input: not an object"))?,
        _ => serde_json::Map::new(),
    };
    let bearer = header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    Ok(Call {
        operation,
        path: decode(path)?,
        namespace: header("x-vault-namespace").unwrap_or_default().to_owned(),
        token: header("x-vault-token").or(bearer).map(ToOwned::to_owned),
        body,
        version: query("version"),
    })
}

/// Percent-decoding of a path.
fn decode(path: &str) -> Result<String, Reply> {
    let wrong = || Reply::bad_request("invalid URL escape");
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let digits = after.get(..2).ok_or_else(wrong)?;
            bytes.extend(hex::decode(digits).map_err(|_| wrong())?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}
