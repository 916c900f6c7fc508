//! A service of other calls than Grafana's: a login by a form, and passwords that are set as
//! plain text with an administrator's token.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::{post, put};
use serde_json::json;

use super::subject::{Account, FIRST, Service, USER};

const TOKEN: &str = "admin-word-for-machines";

type Passwords = Arc<Mutex<BTreeMap<String, String>>>;

pub(super) struct Registry {
    passwords: Passwords,
    address: SocketAddr,
    client: reqwest::Client,
}

/// 302 to the pages of whoever is let in, 422 otherwise.
async fn log_in(State(passwords): State<Passwords>, body: String) -> (StatusCode, HeaderMap) {
    let form: Query<BTreeMap<String, String>> =
        Query::try_from_uri(&format!("/?{body}").parse().unwrap()).unwrap();
    let said = |name: &str| form.get(name).cloned().unwrap_or_default();
    let known = passwords.lock().unwrap().get(&said("name")).cloned();
    if known.is_none_or(|known| known != said("secret")) {
        return (StatusCode::UNPROCESSABLE_ENTITY, HeaderMap::new());
    }
    let headers = HeaderMap::from_iter([(header::LOCATION, "/home".parse().unwrap())]);
    (StatusCode::FOUND, headers)
}

async fn set(
    State(passwords): State<Passwords>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let said = |name| headers.get(name).and_then(|text| text.to_str().ok()).unwrap_or_default();
    let password = String::from_utf8(body.to_vec()).unwrap();
    if said(header::AUTHORIZATION) != format!("Bearer {TOKEN}") {
        return (StatusCode::FORBIDDEN, format!("not with {password}"));
    }
    if !said(header::CONTENT_TYPE).starts_with("text/plain")
        || said(header::HeaderName::from_static("x-tenant")) != "acd"
    {
        return (StatusCode::BAD_REQUEST, format!("what is {password}"));
    }
    match passwords.lock().unwrap().get_mut(&name) {
        Some(known) => *known = password,
        None => return (StatusCode::NOT_FOUND, String::new()),
    }
    (StatusCode::NO_CONTENT, String::new())
}

#[async_trait]
impl Service for Registry {
    async fn lets_in(&self, user: &str, password: &str) -> bool {
        let request = self.client.post(format!("{}/session", self.url()));
        let answer = request.body(format!("name={user}&secret={password}")).send().await.unwrap();
        answer.status() == StatusCode::FOUND
    }

    fn set_by_hand(&self, user: &str, password: &str) {
        self.passwords.lock().unwrap().insert(user.to_owned(), password.to_owned());
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

pub(super) async fn account() -> Account<Registry> {
    let passwords = Passwords::default();
    passwords.lock().unwrap().insert(USER.to_owned(), FIRST.to_owned());
    let router = Router::new()
        .route("/session", post(log_in))
        .route("/users/{name}/password", put(set))
        .with_state(Arc::clone(&passwords));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let service = Registry { passwords, address: listener.local_addr().unwrap(), client };
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let url = service.url();
    let settings = json!({
        "user": USER,
        "admin": "main:admin",
        "set": {
            "method": "PUT", "url": format!("{url}/users/{{username:url}}/password"), "auth": "bearer",
            "header": { "x-tenant": "acd" }, "body": "{password}", "expect": 204,
        },
        "login": {
            "url": format!("{url}/session"), "header": { "content-type": "application/x-www-form-urlencoded" },
            "body": "name={username:url}&secret={password:url}", "expect": 302,
        },
        "refused": 422,
    });
    Account {
        service,
        kind: "http-password",
        table: "http",
        settings,
        admin: Some(TOKEN.to_owned()),
        published: FIRST.to_owned(),
    }
}
