//! What a policy says about a store in Secrets Manager.

use std::collections::BTreeMap;

use rota_core::policy::kinds::{Facts, KindContext, KindProblem};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::aws::{AwsAccount, AwsRole, is_region, is_role};

/// Where slots live that cannot be versions of the secret itself.
const DEFAULT_SLOTS: &str = "rota-slots";

/// What a policy says about the store beside its `path`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwsSecretsManagerSettings {
    /// The region, such as `us-east-1`.
    pub region: String,
    /// The ARN of a role to assume, for another account or for fewer rights.
    pub assume_role: Option<String>,
    /// What that role's trust policy asks for, where it belongs to somebody else.
    pub external_id: Option<String>,
    /// The KMS key for secrets that are created: an id, ARN or alias. Without it the
    /// account's `aws/secretsmanager`.
    pub kms_key: Option<String>,
    /// Tags for secrets that are created.
    pub tags: Option<BTreeMap<String, String>>,
    /// The first part of the names under which pending values of shared documents
    /// wait; `rota-slots` without it.
    pub slots: Option<String>,
}

impl AwsSecretsManagerSettings {
    pub(super) fn account(&self) -> AwsAccount {
        let role = self.assume_role.clone().map(|arn| AwsRole { arn, external_id: self.external_id.clone() });
        AwsAccount { region: self.region.clone(), role }
    }

    pub(super) fn slots(&self) -> &str {
        self.slots.as_deref().unwrap_or(DEFAULT_SLOTS).trim_end_matches('/')
    }
}

fn read(settings: &Value) -> Option<AwsSecretsManagerSettings> {
    serde_json::from_value(settings.clone()).ok()
}

pub(super) fn lint(settings: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    let Some(settings) = read(settings) else { return Vec::new() };
    let AwsSecretsManagerSettings { region, assume_role, external_id, kms_key: _, tags, slots } = &settings;
    let mut problems = Vec::new();
    if !is_region(region) {
        problems.push(KindProblem::error(
            "region",
            "/region",
            format!("`{region}` is not a region"),
            "write `region = \"us-east-1\"`",
        ));
    }
    if assume_role.as_deref().is_some_and(|arn| !is_role(arn)) {
        problems.push(KindProblem::error(
            "assume-role",
            "/assume_role",
            "this is not the ARN of a role",
            "write `assume_role = \"arn:aws:iam::123456789012:role/rota\"`",
        ));
    }
    if external_id.is_some() && assume_role.is_none() {
        problems.push(KindProblem::error(
            "external-id",
            "/external_id",
            "an external id without a role to assume does nothing",
            "add `assume_role`, or leave `external_id` out",
        ));
    }
    for key in tags.iter().flatten().map(|(key, _)| key).filter(|key| key.starts_with("aws:")) {
        problems.push(KindProblem::error(
            "tags",
            "/tags",
            format!("AWS keeps tags such as `{key}` for itself"),
            "choose a key that does not begin with `aws:`",
        ));
    }
    if slots.is_some() && !is_name(settings.slots()) {
        problems.push(KindProblem::error(
            "slots",
            "/slots",
            "names of secrets cannot begin with this",
            "write letters, digits and `/_+=.@-`",
        ));
    }
    problems
}

pub(super) fn facts(settings: &Value) -> Facts {
    let identity = read(settings).map(|settings| {
        format!("aws-secrets-manager:{}:{}", settings.region, settings.assume_role.unwrap_or_default())
    });
    Facts { identity, ..Facts::default() }
}

/// Two letters, words and a number: `us-gov-west-1`.
/// The characters of a secret's name, by CreateSecret in the API reference.
pub(super) fn is_name(text: &str) -> bool {
    /// By the same page.
    const LONGEST: usize = 512;
    let legal = |b: u8| b.is_ascii_alphanumeric() || b"/_+=.@-".contains(&b);
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use rota_core::policy::model::Environment;
    use serde_json::json;

    use super::*;

    fn found(settings: Value) -> Vec<String> {
        let context =
            KindContext { environment: Environment::Production, stores: &BTreeMap::new(), secret: None };
        lint(&settings, &context).into_iter().map(|problem| problem.pointer).collect()
    }

    #[test]
    fn each_setting_that_cannot_work_is_pointed_at() {
        let role = "arn:aws:iam::123456789012:role/team/rota";
        let good = json!({
            "region": "us-gov-west-1", "assume_role": role, "external_id": "x", "kms_key": "alias/rota",
            "tags": { "team": "platform" }, "slots": "pending/",
        });
        assert_eq!(found(good), Vec::<String>::new());
        for region in ["us-east", "US-EAST-1", "useast1", "", "us-east-1a"] {
            assert_eq!(found(json!({ "region": region })), ["/region"], "{region}");
        }
        for arn in ["rota", "arn:aws:iam::1234:role/rota", "arn:aws:iam::123456789012:user/rota"] {
            assert_eq!(
                found(json!({ "region": "us-east-1", "assume_role": arn })),
                ["/assume_role"],
                "{arn}"
            );
        }
        assert_eq!(found(json!({ "region": "us-east-1", "external_id": "x" })), ["/external_id"]);
        assert_eq!(found(json!({ "region": "us-east-1", "tags": { "aws:x": "y" } })), ["/tags"]);
        assert_eq!(found(json!({ "region": "us-east-1", "slots": "a b" })), ["/slots"]);
    }

    #[test]
    fn another_region_or_account_is_another_place() {
        let identity = |region: &str, role: &str| {
            facts(&json!({ "region": region, "assume_role": role })).identity.unwrap()
        };
        assert_ne!(identity("us-east-1", "a"), identity("us-west-2", "a"));
        assert_ne!(identity("us-east-1", "a"), identity("us-east-1", "b"));
    }
}
