//! `reread`: consumers that fetch anew by themselves within a bound (Vault Agent,
//! an SDK's cache, a reload on a timer).
//!
//! Nothing is started. The rollout is finished when the bound has passed since the
//! publication could be seen everywhere, by the journal's clock. Nobody checks the
//! bound: one that is too short lets a rotation withdraw a value that is in use.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{Rollout, RolloutContext, RolloutStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::settled_at;
use crate::catalog::RolloutKind;
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "reread";

/// The kind as policies see it.
pub const KIND: RolloutKind = RolloutKind {
    spec: KindSpec::new(Port::Rollout, NAME, "consumers that read anew by themselves within a bound")
        .inline::<RereadSettings>()
        .lint(lint),
    build: |policy, _| Ok(Arc::new(RereadRollout::new(&policy.settings)?)),
};

/// `{ kind = "reread", within = "10m" }`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RereadSettings {
    /// The longest time that an instance goes on with what it read before.
    within: DurationText,
}

/// The rollout.
pub struct RereadRollout {
    within: SignedDuration,
}

impl RereadRollout {
    /// # Errors
    /// [`Fault::Invalid`] where `settings` do not fit.
    pub fn new(settings: &Value) -> Result<Self, Fault> {
        let settings: RereadSettings = settings::read(NAME, settings)?;
        Ok(Self { within: settings.within.0 })
    }
}

#[async_trait]
impl Rollout for RereadRollout {
    async fn begin(&self, _: &RolloutContext) -> Result<Value, Fault> {
        Ok(json!({}))
    }

    async fn observe(
        &self,
        _: &Value,
        _: &Value,
        context: &RolloutContext,
    ) -> Result<(RolloutStatus, Value), Fault> {
        let over = settled_at(context).saturating_add(self.within).unwrap_or(Timestamp::MAX);
        let status = if context.now >= over {
            RolloutStatus::Finished
        } else {
            RolloutStatus::UnderWay { detail: format!("every instance has read anew at {over}") }
        };
        Ok((status, json!({})))
    }
}

fn lint(settings: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = RereadSettings::deserialize(settings) else { return Vec::new() };
    let problem = settings.within.0.is_zero().then(|| {
        KindProblem::error(
            "within",
            "/within",
            "instances that read anew need some time for it",
            "write the longest time between two reads, such as `10m`",
        )
    });
    problem.into_iter().collect()
}
