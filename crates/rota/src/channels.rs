//! The channels that reach people and programs, from the configuration.
//!
//! Made anew for each delivery, so that a rotated webhook and a new owner are picked up
//! without a restart. Deliberately absent: the outbox; what is delivered and when is the
//! engine's.

use std::sync::Arc;

use async_trait::async_trait;
use rota_adapters::http::HttpClient;
use rota_adapters::notifiers::slack::{self, SlackNotifier};
use rota_adapters::notifiers::webhook::{self, WebhookNotifier};
use rota_core::fault::Fault;
use rota_core::policy::model::Policy;
use rota_engine::ports::{Notice, Notifier};

use crate::config::{Configuration, SecretKey};
use crate::exit::Failure;
use crate::machine;
use crate::wiring;

/// A kind of channel that is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Slack,
    Webhook,
}

impl Channel {
    /// Its name in the outbox.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Slack => slack::CHANNEL,
            Self::Webhook => webhook::CHANNEL,
        }
    }

    /// Those that the configuration has.
    pub(crate) fn configured(configuration: &Configuration) -> Vec<Self> {
        let slack = configuration.has(SecretKey::SlackWebhookUrl).then_some(Self::Slack);
        let webhook = configuration.settings.webhook.url.is_some().then_some(Self::Webhook);
        slack.into_iter().chain(webhook).collect()
    }
}

/// Makes notifiers of what is configured.
pub(crate) struct Channels {
    configuration: Arc<Configuration>,
    client: HttpClient,
}

impl Channels {
    /// # Errors
    /// Where the HTTP client's settings cannot be used.
    pub(crate) fn new(configuration: Arc<Configuration>) -> Result<Self, Failure> {
        let client = wiring::own_client(&configuration.settings)?;
        Ok(Self { configuration, client })
    }

    /// The channel as it is configured now, with the owners of `policy`.
    ///
    /// # Errors
    /// Where its secrets cannot be read or used.
    pub(crate) fn notifier(
        &self,
        channel: Channel,
        policy: Option<&Policy>,
    ) -> Result<Arc<dyn Notifier>, Failure> {
        let origin = policy.map_or_else(String::new, |policy| {
            format!("{} {}", policy.application, wiring::environment_word(policy.environment))
        });
        match channel {
            Channel::Slack => {
                let owners = Arc::new(policy.map(|policy| policy.owners.clone()).unwrap_or_default());
                let make = |name, key| -> Result<Option<SlackNotifier>, Failure> {
                    let Some(url) = self.configuration.secret(key)? else { return Ok(None) };
                    let notifier =
                        SlackNotifier::new(name, url, origin.clone(), owners.clone(), self.client.clone())?;
                    Ok(Some(notifier))
                };
                let first = make(slack::CHANNEL, SecretKey::SlackWebhookUrl)?
                    .ok_or_else(|| Failure::invalid("`slack.webhook_url` is not set"))?;
                let fallback = make(slack::FALLBACK_CHANNEL, SecretKey::SlackFallbackUrl)?;
                Ok(Arc::new(WithFallback { first, fallback }))
            }
            Channel::Webhook => {
                let url = self.configuration.settings.webhook.url.clone().unwrap_or_default();
                let key = self.configuration.required_secret(SecretKey::WebhookSecret)?;
                let client = self.client.clone();
                Ok(Arc::new(WebhookNotifier::new(url, key, origin, client, Arc::new(machine::timestamp))?))
            }
        }
    }
}

/// One channel with a second way for when the first is dead.
struct WithFallback {
    first: SlackNotifier,
    fallback: Option<SlackNotifier>,
}

#[async_trait]
impl Notifier for WithFallback {
    fn channel(&self) -> &str {
        self.first.channel()
    }

    async fn deliver(&self, notices: &[Notice]) -> Result<(), Fault> {
        let fault = match self.first.deliver(notices).await {
            Ok(()) => return Ok(()),
            Err(fault) => fault,
        };
        // Asked to slow down is not dead: the same message later, in the same place.
        match (&self.fallback, &fault) {
            (None, _) | (_, Fault::RateLimited { .. }) => Err(fault),
            (Some(fallback), _) => {
                tracing::warn!(%fault, "slack's first webhook failed; using the fallback");
                metrics::counter!("rota_slack_fallback_total").increment(1);
                fallback.deliver(notices).await
            }
        }
    }
}
