//! `webhook`: a receiver of the user's that does the work.
//!
//! It is sent the same signed message until it has answered: 200 or 204 (or
//! `{"state": "finished"}`) when the work is done, 202 or `{"state": "under_way"}`
//! while it goes on, `{"state": "failed"}` when it cannot be done. Repeats carry the
//! same `Rota-Delivery`. Signed as docs/webhooks.md says.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_core::policy::model::HookPoint;
use rota_engine::ports::{HookContext, HookRunner, HookStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::HookKind;
use crate::checks::{address_problem, reference_problem};
use crate::credential::{Credentials, Reference};
use crate::http::HttpClient;
use crate::settings;
use crate::webhook::{Answer, Progress, SigningKey, Webhook};

/// The name of the kind.
pub const NAME: &str = "webhook";

/// The kind as policies see it.
pub const KIND: HookKind = HookKind {
    spec: KindSpec::new(Port::Hook, NAME, "a signed webhook to a receiver that does the work")
        .inline::<WebhookSettings>()
        .lint(lint),
    build: |policy, environment| {
        Ok(Arc::new(WebhookHook::new(
            &policy.settings,
            environment.client.clone(),
            Arc::new(environment.credentials.clone()),
        )?))
    },
};

/// How long a receiver may take to answer where the policy does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);

/// `{ kind = "webhook", url = "https://...", key = "aws:prod/acd/rota-webhook" }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// Who does the work; https, or http to this machine.
    url: String,
    /// Where the key that signs is kept; 32 bytes or more.
    key: Reference,
    /// How long an answer may take; 20s where nothing is said, 25s at most.
    timeout: Option<DurationText>,
}

/// What the receiver is sent; the same for every repeat.
#[derive(Serialize)]
struct Message<'a> {
    version: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    rotation: String,
    secret: &'a str,
    point: HookPoint,
    index: usize,
}

/// The hook.
pub struct WebhookHook {
    url: String,
    webhook: Webhook,
}

impl WebhookHook {
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value, http: HttpClient, credentials: Arc<dyn Credentials>) -> Result<Self, Fault> {
        let settings: WebhookSettings = settings::read(NAME, settings)?;
        let webhook = Webhook {
            key: SigningKey::Kept(settings.key, credentials),
            http,
            timeout: settings::timeout(settings.timeout, DEFAULT_TIMEOUT),
        };
        Ok(Self { url: settings.url, webhook })
    }
}

#[async_trait]
impl HookRunner for WebhookHook {
    async fn run(&self, context: &HookContext) -> Result<HookStatus, Fault> {
        let message = Message {
            version: 1,
            kind: "hook",
            rotation: context.rotation.to_string(),
            secret: context.secret.as_str(),
            point: context.point,
            index: context.index,
        };
        let delivery = format!("hook/{}", context.idempotency_key());
        Ok(status_of(self.webhook.send(&self.url, &delivery, context.now, &message).await?))
    }
}

fn status_of(answer: Answer) -> HookStatus {
    match (answer.progress, answer.status) {
        (Some(Progress::Finished), _) | (None, 200 | 204) => HookStatus::Succeeded,
        (Some(Progress::Failed), _) => HookStatus::Failed {
            detail: "the webhook's receiver says that it failed, look at its log".to_owned(),
        },
        (Some(Progress::UnderWay), _) | (None, _) => {
            HookStatus::UnderWay { detail: "the webhook's receiver is at work".to_owned() }
        }
    }
}

fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = WebhookSettings::deserialize(settings) else { return Vec::new() };
    let mut problems: Vec<KindProblem> =
        settings::timeout_problem("/timeout", settings.timeout).into_iter().collect();
    problems.extend(address_problem("/url", &settings.url));
    problems.extend(reference_problem("/key", &settings.key.to_string(), context));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn success_is_said_by_200_or_in_words_and_never_by_silence() {
        let status = |status: u16, progress| status_of(Answer { status, progress });
        assert_eq!(status(200, None), HookStatus::Succeeded);
        assert_eq!(status(204, None), HookStatus::Succeeded);
        assert_eq!(status(202, Some(Progress::Finished)), HookStatus::Succeeded);
        assert!(matches!(status(202, None), HookStatus::UnderWay { .. }));
        assert!(matches!(status(200, Some(Progress::UnderWay)), HookStatus::UnderWay { .. }));
        assert!(matches!(status(200, Some(Progress::Failed)), HookStatus::Failed { .. }));
    }
}
