//! Slack, by incoming webhook.
//!
//! Facts from docs.slack.dev: "Sending messages using incoming webhooks",
//! "Formatting message text", "Block Kit reference", "Rate limits". Deliberately
//! absent: threads and edits, since a webhook does not say what it posted.

mod message;
mod text;

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::header::HeaderMap;
use reqwest::{Method, StatusCode};
use rota_core::fault::Fault;
use rota_core::value::SecretValue;
use rota_engine::ports::{Notice, Notifier};
use serde_json::Value;

use message::Origin;
pub use message::Owners;

use crate::http::{self, HttpClient};

/// The name of the first channel in the outbox.
pub const CHANNEL: &str = "slack";

/// The name of the channel that is used where the first is dead.
pub const FALLBACK_CHANNEL: &str = "slack-fallback";

/// Slack's answers to a webhook are one word.
const MAX_ANSWER_BYTES: usize = 1_024;

/// Posts to one incoming webhook.
pub struct SlackNotifier {
    channel: &'static str,
    url: SecretValue,
    origin: Origin,
    owners: Arc<dyn Owners>,
    http: HttpClient,
}

impl SlackNotifier {
    /// A channel of that name in the outbox. `url` is the webhook's, a secret;
    /// `origin` is shown with every message (`acd production`).
    ///
    /// # Errors
    /// [`Fault::Invalid`] where `url` may not be called; it is not repeated.
    pub fn new(
        channel: &'static str,
        url: SecretValue,
        origin: String,
        owners: Arc<dyn Owners>,
        http: HttpClient,
    ) -> Result<Self, Fault> {
        http::check_url(url.expose(), http.reach())?;
        let origin = Origin { name: origin, status_url: None };
        Ok(Self { channel, url, origin, owners, http })
    }

    /// With a link to the status page in every message; one that no browser should open
    /// is left out.
    #[must_use]
    pub fn with_status_page(mut self, url: Option<String>) -> Self {
        self.origin.status_url = url;
        self
    }

    /// The JSON that [`Notifier::deliver`] posts.
    #[must_use]
    pub fn payload(&self, notices: &[Notice]) -> Value {
        message::render(notices, &self.origin, &*self.owners)
    }
}

#[async_trait]
impl Notifier for SlackNotifier {
    fn channel(&self) -> &str {
        self.channel
    }

    async fn deliver(&self, notices: &[Notice]) -> Result<(), Fault> {
        if notices.is_empty() {
            return Ok(());
        }
        let request = self.http.request(Method::POST, self.url.expose())?.json(&self.payload(notices));
        let answer = self.http.send("Slack", request).await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        if status.is_success() {
            return Ok(());
        }
        // The word only chooses between our own sentences.
        let word = http::read_body("Slack", answer, MAX_ANSWER_BYTES).await.unwrap_or_default();
        Err(refusal(status, &headers, &String::from_utf8_lossy(&word)))
    }
}

/// What a status and the word with it say about the channel (docs.slack.dev,
/// "Sending messages using incoming webhooks", "Handling errors").
fn refusal(status: StatusCode, headers: &HeaderMap, word: &str) -> Fault {
    let why = match word.trim() {
        "invalid_token" | "no_service" | "no_service_id" | "no_active_hooks" => {
            "the webhook was removed or disabled, make a new one and configure its URL"
        }
        "channel_is_archived" | "channel_not_found" => {
            "its channel is archived or gone, choose another and configure the new webhook's URL"
        }
        "action_prohibited" | "posting_to_general_channel_denied" => {
            "the workspace does not let this webhook post there, ask its administrators"
        }
        "team_disabled" | "no_team" => "the workspace is gone or disabled, configure another webhook's URL",
        _ => match status.as_u16() {
            401 | 403 | 404 | 410 => "the webhook does not take messages any more, configure a new one's URL",
            _ => return http::status_fault("Slack", status, headers),
        },
    };
    Fault::denied(format!("Slack answered {}: {why}", status.as_u16()))
}
