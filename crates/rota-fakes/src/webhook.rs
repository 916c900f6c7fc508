//! A sink for signed webhooks that verifies them the way a receiver is told to.
//!
//! The scheme: `Rota-Signature: v1=<hex>` is HMAC-SHA256 over
//! `v1:{timestamp}:{body}`, `Rota-Timestamp` is in Unix seconds and at most five
//! minutes off, `Rota-Delivery` names the delivery and repeats when it is
//! repeated.
//!
//! Deliberately absent: retries. Those are the sender's.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Result;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Sha256;

use crate::clock::FakeClock;
use crate::http::{Listen, Script, Serving};
use crate::wait;

/// How far a delivery's timestamp may be from our clock, in seconds.
const TOLERANCE_S: i64 = 300;

/// A delivery that was accepted.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Delivery {
    /// The sender's id of it.
    pub id: String,
    /// When it was signed, in Unix seconds.
    pub signed_at: i64,
    /// The body.
    pub body: Value,
}

/// A running sink.
#[derive(Debug)]
pub struct WebhookFake {
    inbox: Inbox,
    script: Script,
    serving: Serving,
}

#[derive(Clone, Debug)]
struct Inbox {
    inner: Arc<Mutex<Inner>>,
    clock: FakeClock,
}

#[derive(Debug)]
struct Inner {
    keys: Vec<Vec<u8>>,
    accepted: BTreeMap<String, Bytes>,
    deliveries: Vec<Delivery>,
    repeats: Vec<String>,
    refused: Vec<&'static str>,
}

impl WebhookFake {
    /// Starts a sink that accepts what is signed with any of `keys`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(keys: &[&[u8]], listen: Listen) -> Result<Self> {
        let script = Script::with_clock(listen.clock.clone());
        let inner = Inner {
            keys: keys.iter().map(|key| key.to_vec()).collect(),
            accepted: BTreeMap::new(),
            deliveries: Vec::new(),
            repeats: Vec::new(),
            refused: Vec::new(),
        };
        let inbox = Inbox { inner: Arc::new(Mutex::new(inner)), clock: script.clock().clone() };
        let router = Router::new()
            .route("/hook", post(receive))
            .route("/_fake/received", get(received))
            .with_state(inbox.clone());
        Ok(Self { inbox, serving: Serving::start(router, script.clone(), listen)?, script })
    }

    /// The URL to deliver to.
    pub fn url(&self) -> String {
        format!("{}/hook", self.serving.url())
    }

    /// Replaces the accepted keys, as a receiver does when it rotates its own.
    pub fn set_keys(&self, keys: &[&[u8]]) {
        self.inbox.lock().keys = keys.iter().map(|key| key.to_vec()).collect();
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// The faults and the clock.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// What was accepted, oldest first, each delivery once.
    pub fn received(&self) -> Vec<Delivery> {
        self.inbox.lock().deliveries.clone()
    }

    /// Ids of deliveries that came again with the same body.
    pub fn repeats(&self) -> Vec<String> {
        self.inbox.lock().repeats.clone()
    }

    /// Why deliveries were refused, oldest first.
    pub fn refused(&self) -> Vec<&'static str> {
        self.inbox.lock().refused.clone()
    }

    /// Waits for an accepted delivery.
    ///
    /// # Errors
    /// When none comes within `deadline`.
    pub async fn wait_for(&self, wanted: impl Fn(&Delivery) -> bool, deadline: Duration) -> Result<Delivery> {
        let look = async || Ok(self.received().into_iter().find(|delivery| wanted(delivery)));
        wait::until(deadline, "the wanted delivery", look).await
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the inbox panics")
    }
}

async fn received(State(inbox): State<Inbox>) -> Json<Vec<Delivery>> {
    Json(inbox.lock().deliveries.clone())
}

async fn receive(State(inbox): State<Inbox>, headers: HeaderMap, body: Bytes) -> (StatusCode, &'static str) {
    let now = inbox.clock.now().as_second();
    let mut inner = inbox.lock();
    match inner.take(&headers, body, now) {
        Ok(answer) => (StatusCode::OK, answer),
        Err((status, reason)) => {
            inner.refused.push(reason);
            (status, reason)
        }
    }
}

impl Inner {
    fn take(
        &mut self,
        headers: &HeaderMap,
        body: Bytes,
        now: i64,
    ) -> Result<&'static str, (StatusCode, &'static str)> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let timestamp = header("rota-timestamp").ok_or((StatusCode::BAD_REQUEST, "no timestamp"))?;
        let signature = header("rota-signature").ok_or((StatusCode::BAD_REQUEST, "no signature"))?;
        let id = header("rota-delivery").filter(|id| !id.is_empty());
        let id = id.ok_or((StatusCode::BAD_REQUEST, "no delivery id"))?;
        let signature = signature.strip_prefix("v1=").and_then(|hex| hex::decode(hex).ok());
        let signature = signature.ok_or((StatusCode::BAD_REQUEST, "signature is not v1=hex"))?;
        let is_ours = |key: &Vec<u8>| verifies(key, timestamp, &body, &signature);
        if !self.keys.iter().any(is_ours) {
            return Err((StatusCode::UNAUTHORIZED, "wrong signature"));
        }
        let signed_at: i64 = timestamp.parse().map_err(|_| (StatusCode::BAD_REQUEST, "no timestamp"))?;
        if (now - signed_at).abs() > TOLERANCE_S {
            return Err((StatusCode::UNAUTHORIZED, "stale timestamp"));
        }
        match self.accepted.get(id) {
            Some(before) if *before == body => {
                self.repeats.push(id.to_owned());
                return Ok("repeated");
            }
            Some(_) => return Err((StatusCode::CONFLICT, "delivery id with another body")),
            None => {}
        }
        let value = serde_json::from_slice(&body).map_err(|_| (StatusCode::BAD_REQUEST, "not JSON"))?;
        self.accepted.insert(id.to_owned(), body);
        self.deliveries.push(Delivery { id: id.to_owned(), signed_at, body: value });
        Ok("accepted")
    }
}

fn verifies(key: &[u8], timestamp: &str, body: &[u8], signature: &[u8]) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    mac.update(format!("v1:{timestamp}:").as_bytes());
    mac.update(body);
    mac.verify_slice(signature).is_ok()
}
