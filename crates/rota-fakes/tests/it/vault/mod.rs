//! The Vault fake against Vault's documented API.

mod auth;
mod hvac;
mod kv;

use reqwest::{Client, Method};
use rota_fakes::vault::VaultFake;
use serde_json::Value;

/// A client that sends what a test says and gives status and body.
struct Caller {
    client: Client,
    url: String,
    token: String,
    namespace: Option<String>,
}

impl Caller {
    fn new(vault: &VaultFake, token: &str) -> Self {
        Self { client: Client::new(), url: vault.url(), token: token.to_owned(), namespace: None }
    }

    fn root(vault: &VaultFake) -> Self {
        Self::new(vault, vault.root_token())
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self.client.request(method, format!("{}/v1/{path}", self.url));
        if !self.token.is_empty() {
            request = request.header("x-vault-token", &self.token);
        }
        if let Some(namespace) = &self.namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.unwrap();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        (status, body)
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, Value::Null).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call("POST", path, body).await
    }

    async fn status(&self, method: &str, path: &str, body: Value) -> u16 {
        self.call(method, path, body).await.0
    }
}

/// The only error text of an answer.
fn error(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["errors"][0].as_str().unwrap_or_default())
}
