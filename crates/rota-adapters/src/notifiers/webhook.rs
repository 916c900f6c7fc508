//! A signed webhook for programs: the same notices as JSON, so that an application
//! can keep an audit table of its own.
//!
//! The body is [`Message`]; its JSON Schema is docs/notices.schema.json. New fields
//! may come; a receiver ignores what it does not know. Deliberately absent: values,
//! which no notice holds.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::policy::model::Priority;
use rota_core::value::SecretValue;
use rota_engine::ports::{Notice, Notifier};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::http::{self, HttpClient};
use crate::signature;
use crate::webhook::{SigningKey, Webhook};

/// The name of the channel in the outbox.
pub const CHANNEL: &str = "webhook";

/// A receiver writes a row or two.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Reads the wall clock: a receiver refuses a signature that is not fresh.
pub type WallClock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What one delivery says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Message {
    /// 1.
    pub version: u32,
    /// `notices`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Which installation speaks (`acd production`).
    pub origin: String,
    /// What happened, oldest first; at least one.
    pub notices: Vec<Event>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// The same for a repeat, and for nothing else: the key of an audit table.
    pub key: String,
    /// `due_soon`, `overdue`, `waiting_for_person`, `started`, `check_failed`,
    /// `rolled_back`, `held`, `completed`, `emergency`, `abandoned`,
    /// `policy_accepted`, `policy_rejected`, `digest` or `test`.
    pub kind: String,
    /// When, in UTC (RFC 3339).
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// The secret's name in the policy.
    pub secret: Option<String>,
    /// The rotation's UUID.
    pub rotation: Option<String>,
    /// The owner's name in the policy.
    pub owner: Option<String>,
    /// `critical`, `high`, `medium` or `low`.
    pub priority: String,
    /// What happened.
    pub what: String,
    /// What it means now.
    pub impact: String,
    /// What happens next, and when.
    pub next: String,
    /// What to run.
    pub command: Option<String>,
    /// A page to open.
    pub link: Option<String>,
}

impl From<&Notice> for Event {
    fn from(notice: &Notice) -> Self {
        let priority = match notice.priority {
            Priority::Critical => "critical",
            Priority::High => "high",
            Priority::Medium => "medium",
            Priority::Low => "low",
        };
        Self {
            key: notice.key.clone(),
            kind: notice.kind.as_str().to_owned(),
            at: notice.at,
            secret: notice.secret.as_ref().map(ToString::to_string),
            rotation: notice.rotation.as_ref().map(ToString::to_string),
            owner: notice.owner.as_ref().map(ToString::to_string),
            priority: priority.to_owned(),
            what: notice.what.clone(),
            impact: notice.impact.clone(),
            next: notice.next.clone(),
            command: notice.command.clone(),
            link: notice.link.clone(),
        }
    }
}

/// Posts to one receiver.
pub struct WebhookNotifier {
    url: String,
    origin: String,
    webhook: Webhook,
    clock: WallClock,
}

impl WebhookNotifier {
    /// `key` signs, see docs/webhooks.md; `origin` says which installation speaks.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where `url` may not be called.
    pub fn new(
        url: String,
        key: SecretValue,
        origin: String,
        http: HttpClient,
        clock: WallClock,
    ) -> Result<Self, Fault> {
        http::check_url(&url, http.reach())?;
        let webhook = Webhook { key: SigningKey::Known(key), http, timeout: TIMEOUT };
        Ok(Self { url, origin, webhook, clock })
    }
}

#[async_trait]
impl Notifier for WebhookNotifier {
    fn channel(&self) -> &str {
        CHANNEL
    }

    async fn deliver(&self, notices: &[Notice]) -> Result<(), Fault> {
        if notices.is_empty() {
            return Ok(());
        }
        let message = Message {
            version: 1,
            kind: "notices".to_owned(),
            origin: self.origin.clone(),
            notices: notices.iter().map(Event::from).collect(),
        };
        let keys: Vec<&str> = notices.iter().map(|notice| notice.key.as_str()).collect();
        let delivery = format!("notices/{}", signature::name_of(keys.join("\n").as_bytes()));
        self.webhook.send(&self.url, &delivery, (self.clock)(), &message).await.map(|_| ())
    }
}
