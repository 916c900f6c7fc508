//! `iam-last-used`: whether the newest active key of an IAM user is being used.
//!
//! After a promotion it shows that consumers use the new key. IAM tells a use late, so a
//! key that was not used yet is unknown, and unknown never passes.

use std::sync::Arc;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{KindContext, KindProblem, KindSpec, Port};
use rota_engine::ports::{Check, CheckContext, Reading, Verdict};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{reading, unknown, unread};
use crate::aws::AwsEnvironment;
use crate::catalog::CheckKind;
use crate::iam::Owner;
use crate::settings;

/// The name of the kind.
pub const NAME: &str = "iam-last-used";

/// The kind as policies see it.
pub const KIND: CheckKind = CheckKind {
    spec: KindSpec::new(Port::Check, NAME, "whether the newest key of an IAM user is being used")
        .inline::<IamLastUsedSettings>()
        .lint(lint),
    build: |policy, environment| {
        Ok(Arc::new(IamLastUsedCheck {
            settings: settings::read(NAME, &policy.settings)?,
            aws: environment.aws.clone(),
        }))
    },
};

/// `{ kind = "iam-last-used", user = "acd-s3", within = "6h" }`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IamLastUsedSettings {
    /// The user, without its path.
    user: String,
    /// A last use longer ago is unhealthy.
    within: DurationText,
    /// `us-east-1` without it; another one in China and GovCloud.
    region: Option<String>,
    /// A role to assume before IAM is asked.
    assume_role: Option<String>,
    /// What the role's trust policy asks for.
    external_id: Option<String>,
}

/// The check.
struct IamLastUsedCheck {
    settings: IamLastUsedSettings,
    aws: AwsEnvironment,
}

impl IamLastUsedCheck {
    async fn look(&self, context: &CheckContext) -> Result<Reading, Fault> {
        let keys = self.settings.owner().keys(&self.aws).await;
        let newest = keys.list().await?.into_iter().filter(|key| key.active).max_by_key(|key| key.created);
        let Some(newest) = newest else {
            return Ok(unknown(format!("IAM user `{}` has no active key", self.settings.user)));
        };
        let Some(last) = keys.last_used(&newest.id).await? else {
            return Ok(unknown(format!("IAM shows no use of the newest key {} yet", newest.id)));
        };
        let ago = context.now.duration_since(last);
        let detail = format!("the newest key {} was last used {} minutes ago", newest.id, ago.as_mins());
        let verdict = if ago > self.settings.within.0 { Verdict::Unhealthy } else { Verdict::Healthy };
        Ok(reading(verdict, Some(ago.as_secs_f64()), detail))
    }
}

#[async_trait]
impl Check for IamLastUsedCheck {
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault> {
        self.look(context).await.or_else(unread)
    }
}

impl IamLastUsedSettings {
    fn owner(&self) -> Owner<'_> {
        Owner {
            user: &self.user,
            region: self.region.as_deref(),
            assume_role: self.assume_role.as_deref(),
            external_id: self.external_id.as_deref(),
        }
    }
}

fn lint(settings: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    let Ok(settings) = IamLastUsedSettings::deserialize(settings) else { return Vec::new() };
    let mut problems = settings.owner().problems();
    if !settings.within.0.is_positive() {
        let help = "write how old the last use may be: `within = \"6h\"`";
        problems.push(KindProblem::error("within", "/within", "every use is longer ago than that", help));
    }
    problems
}
