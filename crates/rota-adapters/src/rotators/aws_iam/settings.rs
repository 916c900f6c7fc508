//! What a policy says about the keys of an IAM user.

use jiff::SignedDuration;
use rota_core::policy::duration::DurationText;
use rota_core::policy::kinds::{Facts, KindContext, KindProblem};
use rota_core::rotation::Source;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::parts::{self, PARTS};
use crate::aws::is_region;
use crate::iam::Owner;
use crate::login::{holes_of, unknown_hole};

/// How far the old key's last use is behind where the policy does not say.
const DEFAULT_QUIET: SignedDuration = SignedDuration::from_hours(24);

/// `iam = { user = "acd-s3", exclusive = true }`
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IamKeySettings {
    /// The user whose key it is, without its path.
    pub user: String,
    /// Nobody but Rota makes keys for this user. Only then a key whose answer was lost is
    /// taken for ours.
    #[serde(default)]
    pub exclusive: bool,
    /// How much longer ago than the new key's the old key's last use must be, before it is
    /// disabled; 24h without it.
    pub quiet: Option<DurationText>,
    /// The region of the SES endpoint whose SMTP password `{smtp_password}` is.
    pub smtp_region: Option<String>,
    /// `us-east-1` without it; another one in China and GovCloud.
    pub region: Option<String>,
    /// A role to assume before IAM is asked.
    pub assume_role: Option<String>,
    /// What the role's trust policy asks for.
    pub external_id: Option<String>,
}

impl IamKeySettings {
    pub(super) fn owner(&self) -> Owner<'_> {
        Owner {
            user: &self.user,
            region: self.region.as_deref(),
            assume_role: self.assume_role.as_deref(),
            external_id: self.external_id.as_deref(),
        }
    }

    pub(super) fn quiet(&self) -> SignedDuration {
        self.quiet.map_or(DEFAULT_QUIET, |quiet| quiet.0)
    }

    /// The user, wherever it is named: names are unique in an account.
    pub(super) fn target(&self) -> String {
        let account = self.assume_role.as_deref().and_then(|arn| arn.split(':').nth(4));
        format!("keys of IAM user {} in {}", self.user, account.unwrap_or("the daemon's account"))
    }
}

fn read(settings: &Value) -> Option<IamKeySettings> {
    IamKeySettings::deserialize(settings).ok()
}

pub(super) fn facts(settings: &Value) -> Facts {
    let Some(settings) = read(settings) else { return Facts::default() };
    Facts {
        overlaps: true,
        disables: true,
        source: Source::Created,
        targets: vec![settings.target()],
        ..Facts::default()
    }
}

pub(super) fn lint(settings: &Value, context: &KindContext<'_>) -> Vec<KindProblem> {
    let Some(settings) = read(settings) else { return Vec::new() };
    let mut problems = settings.owner().problems();
    if settings.smtp_region.as_deref().is_some_and(|region| !is_region(region)) {
        let help = "write the region of the endpoint: `smtp_region = \"eu-west-1\"`";
        problems.push(KindProblem::error("region", "/smtp_region", "this is not a region", help));
    }
    let holes = context.secret.as_ref().map(holes_of);
    let Some(holes) = holes else { return problems };
    if let Some(unknown) = unknown_hole(&holes, &PARTS) {
        problems.push(unknown);
        return problems;
    }
    let says = |part: &str| holes.contains(part);
    if !says(parts::ID) || !(says(parts::SECRET) || says(parts::SMTP)) {
        let message = "consumers would not read a whole key, whose id changes with each rotation";
        let help = "add `fields = { AWS_ACCESS_KEY_ID = \"{access_key_id}\", AWS_SECRET_ACCESS_KEY = \
                    \"{secret_access_key}\" }`";
        problems.push(KindProblem::error("fields", "", message, help));
    }
    if says(parts::SMTP) && settings.smtp_region.is_none() {
        let message = "an SMTP password holds for one region, and none is named";
        let help = "add the region of the endpoint: `smtp_region = \"eu-west-1\"`";
        problems.push(KindProblem::error("smtp-region", "", message, help));
    }
    problems
}
