//! What a policy says about a store in Vault.

use rota_core::policy::kinds::{Facts, KindContext, KindProblem};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::vault::is_path;

/// Where slots live.
const DEFAULT_SLOTS: &str = "rota-slots";

/// What a policy says about the store beside its `path`. The server and the login are
/// the daemon's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaultKv2Settings {
    /// Where the KV version 2 engine is mounted, such as `secret`.
    pub mount: String,
    /// The first part of the paths, in the same mount, where pending values wait;
    /// `rota-slots` without it. Nobody but the daemon should read below it.
    pub slots: Option<String>,
}

impl VaultKv2Settings {
    pub(super) fn mount(&self) -> &str {
        self.mount.trim_matches('/')
    }

    pub(super) fn slots(&self) -> &str {
        self.slots.as_deref().unwrap_or(DEFAULT_SLOTS).trim_matches('/')
    }
}

fn read(settings: &Value) -> Option<VaultKv2Settings> {
    serde_json::from_value(settings.clone()).ok()
}

pub(super) fn lint(settings: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    let Some(settings) = read(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    if !is_path(settings.mount()) {
        problems.push(KindProblem::error(
            "mount",
            "/mount",
            "this is not the path of a mount",
            "write `mount = \"secret\"`, as `vault secrets list` shows it",
        ));
    }
    if !is_path(settings.slots()) {
        problems.push(KindProblem::error(
            "slots",
            "/slots",
            "this is not a path",
            "write `slots = \"rota-slots\"`, or leave it out",
        ));
    }
    problems
}

pub(super) fn facts(settings: &Value) -> Facts {
    let identity = read(settings).map(|settings| format!("vault-kv2:{}", settings.mount()));
    Facts { identity, ..Facts::default() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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
        assert_eq!(found(json!({ "mount": "team/secret/", "slots": "pending/rota" })), Vec::<String>::new());
        for mount in ["", "a b", "a//b", "../sys"] {
            assert_eq!(found(json!({ "mount": mount })), ["/mount"], "{mount}");
        }
        assert_eq!(found(json!({ "mount": "secret", "slots": "" })), ["/slots"]);
    }

    #[test]
    fn a_mount_is_one_place_however_it_is_written() {
        assert_eq!(
            facts(&json!({ "mount": "secret/" })).identity,
            facts(&json!({ "mount": "secret" })).identity
        );
    }
}
