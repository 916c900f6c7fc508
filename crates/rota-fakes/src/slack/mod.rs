//! A sink for Slack incoming webhooks, as strict as Slack and stricter: a
//! payload that Slack would cut or render wrongly is refused here.
//!
//! Answers as documented on "Sending messages using incoming webhooks": plain
//! `ok`, or a plain error word with 400, 403, 404 or 410.
//!
//! Deliberately absent: threads and timestamps. A webhook gives none.

mod blocks;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Result;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::http::{Effect, Fault, Listen, Script, Serving};
use crate::wait;

/// The first webhook's path; Slack's own look like this.
const FIRST_PATH: &str = "/services/T00000000/B00000000/xxxxxxxxxxxxxxxxxxxxxxxx";

/// Slack truncates `text` beyond this many characters.
const TEXT_LIMIT: usize = 40_000;

/// A message that was accepted.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Message {
    /// The webhook's name: `first`, or what [`SlackFake::add_webhook`] was told.
    pub webhook: String,
    /// The notification text, still escaped.
    pub text: String,
    /// The whole payload.
    pub payload: Value,
}

impl Message {
    /// The payload as one line of JSON, for a search of everything in it.
    pub fn whole(&self) -> String {
        self.payload.to_string()
    }
}

/// The state of a webhook on Slack's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It accepts messages.
    Active,
    /// Removed or revoked: 403 `invalid_token`.
    InvalidToken,
    /// Disabled or unknown: 404 `no_service`.
    NoService,
    /// The channel was archived: 410 `channel_is_archived`.
    ChannelIsArchived,
}

/// A running sink.
#[derive(Debug)]
pub struct SlackFake {
    channel: Channel,
    script: Script,
    serving: Serving,
}

#[derive(Clone, Debug, Default)]
struct Channel {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    webhooks: BTreeMap<String, (String, Standing)>,
    messages: Vec<Message>,
    refused: Vec<String>,
}

impl SlackFake {
    /// Starts a sink with one webhook, named `first`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn start(listen: Listen) -> Result<Self> {
        let channel = Channel::default();
        let script = Script::with_clock(listen.clock.clone());
        let router = Router::new()
            .route("/services/{team}/{service}/{token}", post(receive))
            .route("/_fake/received", get(received))
            .with_state(channel.clone());
        let serving = Serving::start(router, script.clone(), listen)?;
        channel.lock().webhooks.insert(FIRST_PATH.to_owned(), ("first".to_owned(), Standing::Active));
        Ok(Self { channel, script, serving })
    }

    /// The first webhook's URL.
    pub fn url(&self) -> String {
        format!("{}{FIRST_PATH}", self.serving.url())
    }

    /// Adds a webhook, such as a fallback, and gives its URL.
    pub fn add_webhook(&self, name: &str) -> String {
        let mut inner = self.channel.lock();
        let path = format!("/services/T00000000/B{:08}/xxxxxxxxxxxxxxxxxxxxxxxx", inner.webhooks.len());
        inner.webhooks.insert(path.clone(), (name.to_owned(), Standing::Active));
        format!("{}{path}", self.serving.url())
    }

    /// Changes what Slack thinks of a webhook.
    pub fn set_standing(&self, name: &str, standing: Standing) {
        let mut inner = self.channel.lock();
        for webhook in inner.webhooks.values_mut().filter(|webhook| webhook.0 == name) {
            webhook.1 = standing;
        }
    }

    /// Answers the next `times` messages with 429 and this many seconds to wait.
    pub fn rate_limit(&self, times: u32, retry_after_s: u32) {
        let headers = vec![("retry-after".to_owned(), retry_after_s.to_string())];
        let answer = Effect::Answer { status: 429, headers, body: "rate_limited".to_owned() };
        self.script.add(Fault::next("POST /services/", answer).times(times));
    }

    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.serving.address()
    }

    /// The faults and the clock.
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// What was accepted, oldest first.
    pub fn received(&self) -> Vec<Message> {
        self.channel.lock().messages.clone()
    }

    /// Why payloads were refused, oldest first; empty in a healthy test.
    pub fn refused(&self) -> Vec<String> {
        self.channel.lock().refused.clone()
    }

    /// Waits for an accepted message.
    ///
    /// # Errors
    /// When none comes within `deadline`; the message tells how many came.
    pub async fn wait_for(&self, wanted: impl Fn(&Message) -> bool, deadline: Duration) -> Result<Message> {
        let look = async || Ok(self.received().into_iter().find(|message| wanted(message)));
        wait::until(deadline, "the wanted Slack message", look).await.map_err(|error| {
            let inner = self.channel.lock();
            error.context(format!("{} came, {} were refused", inner.messages.len(), inner.refused.len()))
        })
    }
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the channel panics")
    }
}

async fn received(State(channel): State<Channel>) -> Json<Vec<Message>> {
    Json(channel.lock().messages.clone())
}

async fn receive(
    State(channel): State<Channel>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    let mut inner = channel.lock();
    let Some((name, standing)) = inner.webhooks.get(uri.path()).cloned() else {
        return (StatusCode::NOT_FOUND, "no_service");
    };
    match standing {
        Standing::Active => {}
        Standing::InvalidToken => return (StatusCode::FORBIDDEN, "invalid_token"),
        Standing::NoService => return (StatusCode::NOT_FOUND, "no_service"),
        Standing::ChannelIsArchived => return (StatusCode::GONE, "channel_is_archived"),
    }
    match check(&headers, &body) {
        Ok((text, payload)) => {
            inner.messages.push(Message { webhook: name, text, payload });
            (StatusCode::OK, "ok")
        }
        Err(refusal) => {
            inner.refused.push(format!("{}: {}", refusal.word, refusal.reason));
            (StatusCode::BAD_REQUEST, refusal.word)
        }
    }
}

/// Why a payload is not accepted: Slack's word, and ours for the test.
#[derive(Debug)]
struct Refusal {
    word: &'static str,
    reason: String,
}

fn refuse<T>(word: &'static str, reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { word, reason: reason.into() })
}

fn check(headers: &HeaderMap, body: &[u8]) -> Result<(String, Value), Refusal> {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(|kind| kind.starts_with("application/json")) {
        return refuse("invalid_payload", "the content type is not application/json");
    }
    let Ok(payload) = serde_json::from_slice::<Value>(body) else {
        return refuse("invalid_payload", "not JSON");
    };
    let Some(object) = payload.as_object() else {
        return refuse("invalid_payload", "not a JSON object");
    };
    for key in object.keys() {
        // Webhooks ignore channel, username and icons; sending them is a mistake.
        if !["text", "blocks", "unfurl_links", "unfurl_media"].contains(&key.as_str()) {
            return refuse("invalid_payload", format!("`{key}` has no meaning for a webhook"));
        }
    }
    // Slack accepts blocks alone, but then notifications and screen readers have nothing to show.
    let Some(text) = object.get("text").and_then(Value::as_str).filter(|text| !text.trim().is_empty()) else {
        return refuse("no_text", "`text` is missing or empty");
    };
    if text.chars().count() > TEXT_LIMIT {
        return refuse("invalid_payload", "`text` would be truncated");
    }
    blocks::check_markup(text)?;
    if let Some(list) = object.get("blocks") {
        blocks::check(list)?;
    }
    Ok((text.to_owned(), payload))
}
