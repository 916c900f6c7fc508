//! What a policy says about a store of env files.

use rota_core::policy::kinds::{Facts, KindContext, KindProblem};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::owner;

/// What a policy says about the store beside its `path`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EnvFileSettings {
    /// The machine that has the files, as `env_file.host` of its daemon's configuration names it.
    pub host: Option<String>,
    /// Who owns the file: `user:group`. Without it an existing file keeps its owner.
    pub owner: Option<String>,
    /// Who may read it, such as `0640`; never everybody. Without it an existing file
    /// keeps its mode and a new one gets `0600`.
    pub mode: Option<String>,
    /// How many sealed copies of replaced files are kept; 3 without it, 0 for none.
    #[schemars(range(max = 100))]
    pub backups: Option<u32>,
}

fn read(settings: &Value) -> Option<EnvFileSettings> {
    serde_json::from_value(settings.clone()).ok()
}

pub(super) fn lint(settings: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    let Some(EnvFileSettings { host, owner, mode, backups }) = read(settings) else { return Vec::new() };
    let mut problems = Vec::new();
    if host.as_deref().is_some_and(|host| host.trim().is_empty()) {
        problems.push(KindProblem::error(
            "host",
            "/host",
            "the host has no name",
            "write `env_file.host` of the daemon's configuration there, or leave the key out",
        ));
    }
    if owner.as_deref().is_some_and(|owner| owner::parse_owner(owner).is_none()) {
        problems.push(KindProblem::error(
            "owner",
            "/owner",
            "this is not a user and a group",
            "write `owner = \"acd:acd\"`, names or numbers",
        ));
    }
    if mode.as_deref().is_some_and(|mode| owner::parse_mode(mode).is_none()) {
        problems.push(KindProblem::error(
            "mode",
            "/mode",
            "this mode is none, or lets everybody read the values, or nobody",
            "write `mode = \"0600\"` or `mode = \"0640\"`",
        ));
    }
    if backups == Some(0) {
        problems.push(
            KindProblem::error(
                "backups",
                "/backups",
                "replaced files are not kept",
                "leave `backups` out to be able to restore one after a mistake by hand",
            )
            .hint(),
        );
    }
    problems
}

pub(super) fn facts(settings: &Value) -> Facts {
    let host = read(settings).and_then(|settings| settings.host);
    Facts {
        host_local: host.is_some(),
        identity: Some(format!("env-file:{}", host.unwrap_or_default())),
        ..Facts::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rota_core::policy::diagnostic::Level;
    use rota_core::policy::model::Environment;
    use serde_json::json;

    use super::*;

    fn found(settings: Value) -> Vec<(String, Level)> {
        let context =
            KindContext { environment: Environment::Production, stores: &BTreeMap::new(), secret: None };
        lint(&settings, &context).into_iter().map(|problem| (problem.pointer, problem.level)).collect()
    }

    #[test]
    fn each_setting_that_cannot_work_is_pointed_at() {
        let good = json!({ "host": "web-1", "owner": "acd:33", "mode": "0640", "backups": 3 });
        assert_eq!(found(good), []);
        assert_eq!(found(json!({ "host": " " })), [("/host".to_owned(), Level::Error)]);
        assert_eq!(found(json!({ "owner": "acd" })), [("/owner".to_owned(), Level::Error)]);
        assert_eq!(found(json!({ "mode": "0644" })), [("/mode".to_owned(), Level::Error)]);
        assert_eq!(found(json!({ "backups": 0 })), [("/backups".to_owned(), Level::Hint)]);
    }

    #[test]
    fn the_same_path_on_two_hosts_is_two_places() {
        let (one, other) = (facts(&json!({ "host": "web-1" })), facts(&json!({ "host": "web-2" })));
        assert!(one.host_local && one.identity != other.identity);
        assert!(!facts(&json!({})).host_local);
    }
}
