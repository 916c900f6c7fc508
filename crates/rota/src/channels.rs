//! The channels that reach people and programs, from the configuration.
//!
//! Made anew for each delivery, so that a rotated webhook and a new owner are picked up
//! without a restart. Deliberately absent: the outbox; what is delivered and when is the
//! engine's.

use std::sync::{Arc, Mutex, PoisonError};

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
    detour: Arc<Detour>,
}

/// Why Slack's messages go to the fallback; empty while the first webhook works.
#[derive(Debug, Default)]
struct Detour(Mutex<Option<String>>);

impl Detour {
    fn set(&self, why: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }

    fn why(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A way to reach people that can be tried by itself.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) notifier: Result<Arc<dyn Notifier>, Failure>,
}

impl Channels {
    /// # Errors
    /// Where the HTTP client's settings cannot be used.
    pub(crate) fn new(configuration: Arc<Configuration>) -> Result<Self, Failure> {
        let client = wiring::own_client(&configuration.settings)?;
        Ok(Self { configuration, client, detour: Arc::default() })
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
        match channel {
            Channel::Slack => {
                let first = self.slack(SecretKey::SlackWebhookUrl, policy)?;
                let first = first.ok_or_else(|| Failure::invalid("`slack.webhook_url` is not set"))?;
                let fallback = self.slack(SecretKey::SlackFallbackUrl, policy)?;
                Ok(Arc::new(WithFallback { first, fallback, detour: Arc::clone(&self.detour) }))
            }
            Channel::Webhook => self.webhook(policy),
        }
    }

    /// Each way that the channel has, the fallback by itself.
    pub(crate) fn ways(&self, channel: Channel, policy: Option<&Policy>) -> Vec<Way> {
        let slack = |name, key| {
            let notifier =
                self.slack(key, policy).transpose()?.map(|made| Arc::new(made) as Arc<dyn Notifier>);
            Some(Way { name, notifier })
        };
        match channel {
            Channel::Slack => [
                slack(slack::CHANNEL, SecretKey::SlackWebhookUrl),
                slack(slack::FALLBACK_CHANNEL, SecretKey::SlackFallbackUrl),
            ]
            .into_iter()
            .flatten()
            .collect(),
            Channel::Webhook => vec![Way { name: channel.name(), notifier: self.webhook(policy) }],
        }
    }

    /// Why the channel's last message did not go the first way; `None` while that works.
    pub(crate) fn detour(&self, channel: Channel) -> Option<String> {
        match channel {
            Channel::Slack => self.detour.why(),
            Channel::Webhook => None,
        }
    }

    fn slack(&self, key: SecretKey, policy: Option<&Policy>) -> Result<Option<SlackNotifier>, Failure> {
        let Some(url) = self.configuration.secret(key)? else { return Ok(None) };
        let name = if key == SecretKey::SlackWebhookUrl { slack::CHANNEL } else { slack::FALLBACK_CHANNEL };
        let owners = Arc::new(policy.map(|policy| policy.owners.clone()).unwrap_or_default());
        let slack = SlackNotifier::new(name, url, origin(policy), owners, self.client.clone())?;
        Ok(Some(slack.with_status_page(self.configuration.settings.slack.status_url.clone())))
    }

    fn webhook(&self, policy: Option<&Policy>) -> Result<Arc<dyn Notifier>, Failure> {
        let url = self.configuration.settings.webhook.url.clone().unwrap_or_default();
        let key = self.configuration.required_secret(SecretKey::WebhookSecret)?;
        let client = self.client.clone();
        Ok(Arc::new(WebhookNotifier::new(url, key, origin(policy), client, Arc::new(machine::timestamp))?))
    }
}

/// Whose messages they are: `acd prod`.
fn origin(policy: Option<&Policy>) -> String {
    policy.map_or_else(String::new, |policy| {
        format!("{} {}", policy.application, wiring::environment_word(policy.environment))
    })
}

/// One channel with a second way for when the first is dead.
struct WithFallback {
    first: SlackNotifier,
    fallback: Option<SlackNotifier>,
    detour: Arc<Detour>,
}

#[async_trait]
impl Notifier for WithFallback {
    fn channel(&self) -> &str {
        self.first.channel()
    }

    async fn deliver(&self, notices: &[Notice]) -> Result<(), Fault> {
        let fault = match self.first.deliver(notices).await {
            Ok(()) => {
                self.detour.set(None);
                return Ok(());
            }
            Err(fault) => fault,
        };
        // Asked to slow down is not dead: the same message later, in the same place.
        match (&self.fallback, &fault) {
            (None, _) | (_, Fault::RateLimited { .. }) => Err(fault),
            (Some(fallback), _) => {
                tracing::warn!(%fault, "slack's first webhook failed; using the fallback");
                metrics::counter!("rota_slack_fallback_total").increment(1);
                self.detour.set(Some(fault.to_string()));
                fallback.deliver(notices).await
            }
        }
    }
}
