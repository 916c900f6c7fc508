//! `webhook`: a receiver of the user's that restarts or reloads the consumer.
//!
//! It is told once what to do (`rollout.begin`, repeated only after an unknown
//! outcome) and, unless it answers `{"state": "finished"}` at once, asked how far it
//! is (`rollout.status`) until it says `finished` or `failed`. It must say `finished`
//! only when no instance is left that was created before `read_after`. Signed as
//! docs/webhooks.md says. No message holds a value.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{Pin, Rollout, RolloutContext, RolloutStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::settled_at;
use crate::catalog::RolloutKind;
use crate::checks::{address_problem, reference_problem};
use crate::credential::{Credentials, Reference};
use crate::http::HttpClient;
use crate::settings;
use crate::signature;
use crate::webhook::{Answer, Progress, SigningKey, Webhook};

/// The name of the kind.
pub const NAME: &str = "webhook";

/// The kind as policies see it.
pub const KIND: RolloutKind = RolloutKind {
    spec: KindSpec::new(Port::Rollout, NAME, "a signed webhook to a receiver that restarts the consumer")
        .inline::<WebhookSettings>()
        .lint(lint),
    build: |policy, environment| {
        Ok(Arc::new(WebhookRollout::new(
            &policy.settings,
            environment.client.clone(),
            Arc::new(environment.credentials.clone()),
        )?))
    },
};

/// How long a receiver may take to answer where the policy does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// `{ kind = "webhook", url = "https://...", key = "aws:prod/acd/rota-webhook" }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Who is told to begin; https, or http to this machine.
    url: String,
    /// Who is asked how far it is; the same where nothing is said.
    status_url: Option<String>,
    /// Where the key that signs is kept; 32 bytes or more.
    key: Reference,
    /// How long an answer may take; 10s where nothing is said, 25s at most.
    timeout: Option<DurationText>,
}

/// What a receiver is sent.
#[derive(Serialize)]
struct Message<'a> {
    version: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    consumer: &'a str,
    generation: i64,
    published_at: Timestamp,
    /// Instances created before this may have read the old value.
    read_after: Timestamp,
    pins: &'a [Pin],
}

impl<'a> Message<'a> {
    fn new(kind: &'static str, context: &'a RolloutContext) -> Self {
        Self {
            version: 1,
            kind,
            consumer: context.consumer.as_str(),
            generation: context.generation,
            published_at: context.published_at,
            read_after: settled_at(context),
            pins: &context.pins,
        }
    }
}

/// The rollout.
pub struct WebhookRollout {
    url: String,
    status_url: String,
    webhook: Webhook,
}

/// What [`WebhookRollout::begin`] leaves.
#[derive(Serialize, Deserialize)]
struct Handle {
    finished: bool,
}

impl WebhookRollout {
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value, http: HttpClient, credentials: Arc<dyn Credentials>) -> Result<Self, Fault> {
        let settings: WebhookSettings = settings::read(NAME, settings)?;
        Ok(Self {
            status_url: settings.status_url.unwrap_or_else(|| settings.url.clone()),
            url: settings.url,
            webhook: Webhook {
                key: SigningKey::Kept(settings.key, credentials),
                http,
                timeout: settings::timeout(settings.timeout, DEFAULT_TIMEOUT),
            },
        })
    }

    async fn send(
        &self,
        url: &str,
        delivery: &str,
        message: Message<'_>,
        now: Timestamp,
    ) -> Result<Answer, Fault> {
        self.webhook.send(url, delivery, now, &message).await
    }
}

#[async_trait]
impl Rollout for WebhookRollout {
    async fn begin(&self, context: &RolloutContext) -> Result<Value, Fault> {
        let message = Message::new("rollout.begin", context);
        // Names the order: the same for a repeat, another where it serves a later publication.
        let serves = signature::name_of(format!("{} {:?}", context.published_at, context.pins).as_bytes());
        let delivery = format!("rollout/{}/{}/begin/{serves}", context.consumer, context.generation);
        let answer = self.send(&self.url, &delivery, message, context.now).await?;
        if answer.progress == Some(Progress::Failed) {
            return Err(Fault::invalid(
                "the webhook's receiver says that it cannot roll out, look at its log",
            ));
        }
        Ok(json!(Handle { finished: answer.progress == Some(Progress::Finished) }))
    }

    async fn observe(
        &self,
        handle: &Value,
        _: &Value,
        context: &RolloutContext,
    ) -> Result<(RolloutStatus, Value), Fault> {
        if Handle::deserialize(handle).is_ok_and(|handle| handle.finished) {
            return Ok((RolloutStatus::Finished, json!({})));
        }
        let message = Message::new("rollout.status", context);
        let now = context.now.as_millisecond();
        let delivery = format!("rollout/{}/{}/status/{now}", context.consumer, context.generation);
        let answer = self.send(&self.status_url, &delivery, message, context.now).await?;
        let status = match answer.progress {
            Some(Progress::Finished) => RolloutStatus::Finished,
            Some(Progress::UnderWay) => RolloutStatus::UnderWay {
                detail: "the webhook's receiver says that it is under way".to_owned(),
            },
            Some(Progress::Failed) => RolloutStatus::Failed {
                detail: "the webhook's receiver says that it failed, look at its log".to_owned(),
            },
            None => {
                return Err(Fault::invalid(
                    "the webhook's receiver does not say how far it is, let it answer {\"state\": \"finished\"}, \
                     \"under_way\" or \"failed\"",
                ));
            }
        };
        Ok((status, json!({})))
    }
}

fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = WebhookSettings::deserialize(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> =
        settings::timeout_problem("/timeout", settings.timeout).into_iter().collect();
    problems.extend(address_problem("/url", &settings.url));
    problems.extend(settings.status_url.as_deref().and_then(|url| address_problem("/status_url", url)));
    problems.extend(reference_problem("/key", &settings.key.to_string(), context));
    problems
}
