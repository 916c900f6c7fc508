//! A strict fake of Grafana's users: basic login with its protection against guessing, the
//! user's own password, and what a server administrator may do to others ("User HTTP API",
//! "Admin HTTP API", "Configure basic authentication" of Grafana's documentation).
//!
//! Texts and statuses are those of Grafana 10 and later, among them that a user who is
//! blocked is answered like one with a wrong password.
//!
//! Deliberately absent: sessions, organisations, service accounts, LDAP and OAuth.

mod reply;
mod users;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::routing::{get, post, put};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::clock::FakeClock;
use crate::http::{Listen, Script, Serving};
use reply::Reply;
use users::{User, Users};

/// A running fake.
#[derive(Debug)]
pub struct GrafanaFake {
    server: Server,
    script: Script,
    serving: Serving,
}

#[derive(Clone, Debug)]
struct Server {
    users: Arc<Mutex<Users>>,
    clock: FakeClock,
}

impl GrafanaFake {
    /// Starts a server as it is after its first start: one user, the server administrator
    /// `admin` with the password `admin`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(listen: Listen) -> Result<Self> {
        let script = Script::with_clock(listen.clock.clone());
        let server = Server { users: Arc::default(), clock: script.clock().clone() };
        server.lock().add("admin", "admin@localhost", "admin", true);
        let router = Router::new()
            .route("/api/health", get(health))
            .route("/api/user", get(own))
            .route("/api/user/password", put(change_own))
            .route("/api/users", get(all))
            .route("/api/users/lookup", get(look_up))
            .route("/api/users/{id}", get(by_id))
            .route("/api/admin/users", post(create))
            .route("/api/admin/users/{id}/password", put(change))
            .route("/api/admin/users/{id}/permissions", put(permit))
            .route("/api/admin/users/{id}/disable", post(disable))
            .route("/api/admin/users/{id}/enable", post(enable))
            .fallback(async || Reply::not_found("Not found"))
            .with_state(server.clone());
        let serving = Serving::start(router, script.clone(), listen)?;
        Ok(Self { server, script, serving })
    }

    /// The base URL, without a slash at its end.
    pub fn url(&self) -> String {
        self.serving.url()
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// The faults, and the clock by which blocked users are let in again.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// Adds a user and gives its id.
    pub fn add_user(&self, login: &str, password: &str, server_admin: bool) -> i64 {
        self.server.lock().add(login, &format!("{login}@localhost"), password, server_admin)
    }

    /// Gives a user another password, as a person does in the browser.
    ///
    /// # Errors
    /// When there is no such user.
    pub fn set_password(&self, login: &str, password: &str) -> Result<()> {
        let mut users = self.server.lock();
        let user = users.find_mut(login).context("no such user")?;
        user.password = password.to_owned();
        Ok(())
    }

    /// True where this is the user's password; counts as no login.
    pub fn is_password(&self, login: &str, password: &str) -> bool {
        self.server.lock().find(login).is_some_and(|user| user.password == password)
    }

    /// How many logins of a user were refused for their password so far.
    pub fn wrong_logins(&self, login: &str) -> usize {
        self.server.lock().wrong_logins(login)
    }

    /// `disable_brute_force_login_protection` of the configuration.
    pub fn disable_brute_force_login_protection(&self) {
        self.server.lock().protection = false;
    }

    /// `password_policy` of the configuration.
    pub fn require_password_policy(&self) {
        self.server.lock().password_policy = true;
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, Users> {
        self.users.lock().expect("no holder of the users panics")
    }

    /// Who makes a call.
    fn caller(&self, headers: &HeaderMap) -> Result<User, Reply> {
        let said = headers.get(header::AUTHORIZATION).and_then(|text| text.to_str().ok());
        let Some(said) = said else { return Err(Reply::unauthorized("Unauthorized", "auth.unauthorized")) };
        if said.starts_with("Bearer ") {
            return Err(Reply::unauthorized("Invalid API key", "api-key.invalid"));
        }
        let (name, password) =
            basic(said).ok_or_else(|| Reply::unauthorized("Unauthorized", "auth.unauthorized"))?;
        self.lock().log_in(&name, &password, self.clock.now())
    }

    fn administrator(&self, headers: &HeaderMap, right: &str) -> Result<User, Reply> {
        let caller = self.caller(headers)?;
        if caller.server_admin { Ok(caller) } else { Err(Reply::lacks(right)) }
    }
}

/// RFC 7617: the password begins after the first colon.
fn basic(said: &str) -> Option<(String, String)> {
    let coded = said.strip_prefix("Basic ")?;
    let text = String::from_utf8(STANDARD.decode(coded).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// The body as JSON; a media type that says otherwise is refused.
fn json_of<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, Reply> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|text| text.to_str().ok());
    let is_json = kind.is_none_or(|kind| kind.split(';').next().map(str::trim) == Some("application/json"));
    let read = serde_json::from_slice(body).ok().filter(|_| is_json);
    read.ok_or_else(|| Reply::bad_request("bad request data"))
}

fn id_of(text: &str) -> Result<i64, Reply> {
    text.parse().map_err(|_| Reply::bad_request("id is invalid"))
}

async fn health() -> Reply {
    Reply::json(json!({ "database": "ok", "version": "12.2.0", "commit": "fake" }))
}

async fn own(State(server): State<Server>, headers: HeaderMap) -> Result<Reply, Reply> {
    Ok(Reply::json(server.caller(&headers)?.profile()))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChangeOwn {
    #[serde(default)]
    old_password: String,
    #[serde(default)]
    new_password: String,
}

async fn change_own(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Result<Reply, Reply> {
    let caller = server.caller(&headers)?;
    let form: ChangeOwn = json_of(&headers, &body)?;
    let mut users = server.lock();
    if caller.password != form.old_password {
        return Err(Reply::unauthorized("Invalid old password", ""));
    }
    users.check(&form.new_password)?;
    users.set_password(caller.id, form.new_password)?;
    Ok(Reply::message("User password changed"))
}

#[derive(Deserialize)]
struct ByName {
    #[serde(rename = "loginOrEmail", default)]
    name: String,
}

async fn look_up(
    State(server): State<Server>,
    headers: HeaderMap,
    Query(asked): Query<ByName>,
) -> Result<Reply, Reply> {
    server.administrator(&headers, "users:read")?;
    let users = server.lock();
    let user = users.find(&asked.name).ok_or_else(|| Reply::not_found("user not found"))?;
    Ok(Reply::json(user.profile()))
}

async fn all(State(server): State<Server>, headers: HeaderMap) -> Result<Reply, Reply> {
    server.administrator(&headers, "users:read")?;
    Ok(Reply::json(server.lock().list()))
}

async fn by_id(
    State(server): State<Server>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Reply, Reply> {
    server.administrator(&headers, "users:read")?;
    let id = id_of(&id)?;
    let users = server.lock();
    let user = users.by_id(id).ok_or_else(|| Reply::not_found("user not found"))?;
    Ok(Reply::json(user.profile()))
}

#[derive(Deserialize)]
struct Create {
    #[serde(default)]
    login: String,
    #[serde(default)]
    email: String,
    #[serde(default)]
    password: String,
}

async fn create(State(server): State<Server>, headers: HeaderMap, body: Bytes) -> Result<Reply, Reply> {
    server.administrator(&headers, "users:create")?;
    let form: Create = json_of(&headers, &body)?;
    let login = if form.login.trim().is_empty() { form.email.trim() } else { form.login.trim() };
    if login.is_empty() {
        return Err(Reply::bad_request("Validation error, need specify either username or email"));
    }
    let mut users = server.lock();
    users.check(&form.password)?;
    if users.find(login).is_some() {
        let text = format!(
            "User with email '{}' or username '{}' already exists",
            form.email.trim(),
            form.login.trim()
        );
        return Err(Reply::error(412, &text));
    }
    let id = users.add(login, form.email.trim(), &form.password, false);
    Ok(Reply::json(json!({ "id": id, "message": "User created" })))
}

#[derive(Deserialize)]
struct Change {
    #[serde(default)]
    password: String,
}

async fn change(
    State(server): State<Server>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Reply, Reply> {
    server.administrator(&headers, "users.password:write")?;
    let form: Change = json_of(&headers, &body)?;
    let id = id_of(&id)?;
    let mut users = server.lock();
    users.check(&form.password)?;
    users.set_password(id, form.password)?;
    Ok(Reply::message("User password updated"))
}

#[derive(Deserialize)]
struct Permit {
    #[serde(rename = "isGrafanaAdmin", default)]
    server_admin: bool,
}

async fn permit(
    State(server): State<Server>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Reply, Reply> {
    server.administrator(&headers, "users.permissions:write")?;
    let form: Permit = json_of(&headers, &body)?;
    server.lock().permit(id_of(&id)?, form.server_admin)?;
    Ok(Reply::message("User permissions updated"))
}

async fn disable(
    State(server): State<Server>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Reply, Reply> {
    server.administrator(&headers, "users:disable")?;
    server.lock().set_disabled(id_of(&id)?, true)?;
    Ok(Reply::message("User disabled"))
}

async fn enable(
    State(server): State<Server>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Reply, Reply> {
    server.administrator(&headers, "users:enable")?;
    server.lock().set_disabled(id_of(&id)?, false)?;
    Ok(Reply::message("User enabled"))
}
