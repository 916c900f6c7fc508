//! Against the strict fake, and against a real server where `VAULT_ADDR` and `VAULT_TOKEN`
//! name one (its `secret/` must be a KV version 2 that the token may change).

mod errors;
mod login;
mod strict;

use std::sync::Arc;

use rota_adapters::aws::AwsEnvironment;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::http::HttpOptions;
use rota_adapters::stores::vault_kv2::VaultKv2Store;
use rota_adapters::vault::{ReadSecret, VaultConnection, VaultLogin, VaultServer};
use rota_core::fault::Fault;
use rota_core::id::{RotationId, SecretId, StoreId};
use rota_core::policy::model::StorePolicy;
use rota_engine::ports::{Slot, SlotRole};
use rota_engine::test_support::SimClock;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{environment, value};

/// A secret that stays as it is.
fn constant(text: &str) -> ReadSecret {
    let text = text.to_owned();
    Arc::new(move || Ok(value(&text)))
}

pub(crate) fn token_login(token: &str) -> VaultLogin {
    VaultLogin::Token { token: constant(token) }
}

pub(crate) fn server(address: &str, login: VaultLogin) -> VaultServer {
    VaultServer { address: address.to_owned(), namespace: None, authority: None, login }
}

/// An environment with this server and a clock that the test moves.
pub(crate) fn environment_with(
    server: VaultServer,
    http: &HttpOptions,
    aws: AwsEnvironment,
    clock: &SimClock,
) -> Result<AdapterEnvironment, Fault> {
    let connection = VaultConnection::new(server, http, aws.clone(), Arc::new(clock.clone()))?;
    Ok(AdapterEnvironment { aws, vault: Some(Arc::new(connection)), ..environment() })
}

fn store_with(environment: &AdapterEnvironment, settings: Value) -> Result<VaultKv2Store, Fault> {
    let policy = StorePolicy {
        id: StoreId::new("vault").unwrap(),
        kind: "vault-kv2".to_owned(),
        settings,
        path: "acd/{name}".parse().unwrap(),
    };
    VaultKv2Store::new(&policy, environment)
}

/// A store of the mount `secret` that logs in like this.
fn store(address: &str, login: VaultLogin, clock: &SimClock) -> VaultKv2Store {
    let aws = AwsEnvironment::new(None).unwrap();
    let environment = environment_with(server(address, login), &HttpOptions::default(), aws, clock).unwrap();
    store_with(&environment, json!({ "mount": "secret" })).unwrap()
}

/// A path that no other test has.
fn fresh_path() -> String {
    format!("rota-test/{}", Uuid::new_v4())
}

fn slot(beside: &str) -> Slot {
    Slot {
        rotation: RotationId(Uuid::new_v4()),
        secret: SecretId::new("JWT_SECRET").unwrap(),
        role: SlotRole::Candidate,
        beside: beside.to_owned(),
        shared: false,
    }
}

/// The body that a person's write of `content` has: fields, or one value.
fn body(content: &str) -> Value {
    match serde_json::from_str::<Value>(content) {
        Ok(fields @ Value::Object(_)) => json!({ "data": fields }),
        Ok(_) | Err(_) => json!({ "data": { "value": content } }),
    }
}
