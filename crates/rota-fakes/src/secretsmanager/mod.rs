//! A strict fake of AWS Secrets Manager, for what the emulator gets wrong:
//! request tokens that are really idempotent, labels that move as documented,
//! quotas, deprecated versions that are pruned, reads that lag behind writes.
//!
//! Written from the API reference and the quotas page.
//!
//! Deliberately absent: replication, resource policies, KMS, and native
//! rotation itself (it can be seen to be switched on).

mod model;
mod operations;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::{Context as _, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::aws_json::{self, Gate};
use crate::clock::FakeClock;
use crate::http::{Listen, Script, Serving};

use operations::Secrets;

/// A running fake: one account in one region.
#[derive(Debug)]
pub struct SecretsManagerFake {
    server: Server,
    script: Script,
    serving: Serving,
}

#[derive(Clone, Debug)]
struct Server {
    secrets: Arc<Mutex<Secrets>>,
    gate: Gate,
    clock: FakeClock,
}

/// A version, as the fake holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldVersion {
    /// Its id: the request token that made it.
    pub id: String,
    /// Its labels; none means deprecated.
    pub labels: Vec<String>,
}

impl SecretsManagerFake {
    /// Starts an empty one in a region such as `us-east-1`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(region: &str, listen: Listen) -> Result<Self> {
        let script = Script::with_clock(listen.clock.clone());
        let server = Server {
            secrets: Arc::new(Mutex::new(Secrets::new(region))),
            gate: Gate::new("secretsmanager", region),
            clock: script.clock().clone(),
        };
        let router = Router::new().fallback(handle).with_state(server.clone());
        let serving = Serving::start(router, script.clone(), listen)?;
        Ok(Self { server, script, serving })
    }

    /// The endpoint URL.
    pub fn url(&self) -> String {
        self.serving.url()
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// The faults and the clock; the `Date` header shows the clock, so moving
    /// it is a skew that clients can see.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// Makes a key known. From the first one on, signatures are computed anew
    /// and a wrong or stale one is refused.
    pub fn add_key(&self, id: &str, secret: &str) {
        self.server.gate.add_key(id, secret);
    }

    /// Lets this many reads after each write still see what was there before it.
    pub fn lag(&self, reads: u32) {
        self.server.lock().lag = reads;
    }

    /// Answers the next calls of an operation with a throttling error.
    pub fn throttle(&self, operation: &str, times: u32) {
        self.script.add(aws_json::fault(operation, times, 400, "ThrottlingException", "Rate exceeded"));
    }

    /// Answers the next calls of an operation as missing permissions do.
    pub fn deny(&self, operation: &str, times: u32) {
        let text = "User is not authorized to perform this action";
        self.script.add(aws_json::fault(operation, times, 400, "AccessDeniedException", text));
    }

    /// Creates a secret with a current value, without the network.
    ///
    /// # Errors
    /// When the name is taken or not allowed.
    pub fn create(&self, name: &str, value: &str) -> Result<()> {
        let token = Uuid::new_v4().to_string();
        self.call("CreateSecret", json!({"Name": name, "SecretString": value, "ClientRequestToken": token}))
            .map(drop)
    }

    /// Carries out an operation without the network and without a signature.
    ///
    /// # Errors
    /// When it is refused; the message holds the code.
    pub fn call(&self, operation: &str, fields: Value) -> Result<Value> {
        let fields: Map<String, Value> = serde_json::from_value(fields)?;
        let now = self.server.clock.now();
        let answer = self.server.lock().call(operation, &fields, now);
        answer.map_err(|error| anyhow::anyhow!("{error:?}"))
    }

    /// The value under a label.
    pub fn value(&self, name: &str, label: &str) -> Option<String> {
        let secrets = self.server.lock();
        let secret = secrets.by_name.get(name)?;
        match &secret.versions.get(secret.holder(label)?)?.content {
            model::Content::Text(text) | model::Content::Binary(text) => Some(text.clone()),
        }
    }

    /// What an ECS task definition's `valueFrom` gives at this moment:
    /// `ARN[:json-key[:version-stage[:version-id]]]`.
    pub fn resolve(&self, value_from: &str) -> Option<String> {
        let parts: Vec<&str> = value_from.split(':').collect();
        let part = |index: usize| parts.get(index).copied().filter(|part| !part.is_empty());
        let mut fields = json!({"SecretId": parts.get(..7)?.join(":")});
        if let Some(stage) = part(8) {
            fields["VersionStage"] = stage.into();
        }
        if let Some(id) = part(9) {
            fields["VersionId"] = id.into();
        }
        let answer = self.call("GetSecretValue", fields).ok()?;
        let text = answer["SecretString"].as_str()?;
        let Some(key) = part(7) else { return Some(text.to_owned()) };
        let document: Value = serde_json::from_str(text).ok()?;
        document[key].as_str().map(ToOwned::to_owned)
    }

    /// All versions, deprecated ones too.
    pub fn versions(&self, name: &str) -> Vec<HeldVersion> {
        let secrets = self.server.lock();
        let versions = secrets.by_name.get(name).map(|secret| &secret.versions);
        let held = versions.into_iter().flatten().map(|(id, version)| HeldVersion {
            id: id.clone(),
            labels: version.labels.iter().cloned().collect(),
        });
        held.collect()
    }

    /// Removes all versions without labels, as the service may at any time, and
    /// says how many they were. Their tokens are free again.
    pub fn prune(&self, name: &str) -> usize {
        self.server.lock().by_name.get_mut(name).map_or(0, model::Secret::prune)
    }

    /// Switches native rotation on, as somebody else may.
    ///
    /// # Errors
    /// When there is no such secret.
    pub fn switch_rotation_on(&self, name: &str) -> Result<()> {
        let mut secrets = self.server.lock();
        let region = secrets.region.clone();
        let secret = secrets.by_name.get_mut(name).context("no such secret")?;
        secret.rotation = Some(format!("arn:aws:lambda:{region}:{}:function:rotate", aws_json::ACCOUNT));
        Ok(())
    }
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().expect("no holder of the secrets panics")
    }
}

async fn handle(
    State(server): State<Server>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let now = server.clock.now();
    let opened = server.gate.open(&method, &uri, &headers, &body, now);
    let answer = opened.and_then(|(operation, fields)| server.lock().call(&operation, &fields, now));
    aws_json::respond(answer)
}
