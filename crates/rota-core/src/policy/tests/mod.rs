//! The loader and the linter together, on small kinds of our own.

mod accepting;
mod documented;
mod loading;
mod robust;
mod rules;
mod schema;
mod submitting;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::diagnostic::render_all;
use super::duration::DurationText;
use super::kinds::{Facts, KindContext, KindProblem, KindSpec, Kinds, Port};
use super::{Loaded, load_str};
use crate::rotation::Source;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct VaultSettings {
    /// The address of the server.
    address: Option<String>,
    /// The mount of the secrets engine.
    mount: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileSettings {
    /// The host that has the file.
    host: Option<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EcsSettings {
    cluster: String,
    service: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RereadSettings {
    /// Every instance has read anew by then.
    within: DurationText,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HttpSettings {
    /// What is asked.
    url: String,
    /// The status that is well.
    expect: Option<u16>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PostgresSettings {
    /// Where the administrator's credential is kept.
    admin: String,
    host: String,
    users: Vec<String>,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RingSettings {
    /// Old keys are kept.
    archive: Option<bool>,
    /// The job that re-encrypts.
    reencrypt: Option<String>,
}

fn identity(settings: &Value, keys: &[&str]) -> Option<String> {
    let part = |key: &&str| {
        settings.get(*key).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let parts: Vec<String> = keys.iter().filter_map(part).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

fn https_only(settings: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    let url = settings.get("url").and_then(Value::as_str).unwrap_or_default();
    if url.starts_with("https://") || url.starts_with("http://127.0.0.1") {
        return Vec::new();
    }
    vec![KindProblem::error("plain-http", "/url", "the address is not https", "write `https://`")]
}

fn role_instead(_: &Value, _: &KindContext<'_>) -> Vec<KindProblem> {
    vec![KindProblem::error("static-key", "", "a static key where a role would do", "use a role").hint()]
}

/// Small kinds with the names of the usual ones.
pub(super) fn kinds() -> Kinds {
    let specs = [
        KindSpec::new(Port::Store, "vault-kv2", "Vault, KV version 2")
            .inline::<VaultSettings>()
            .facts(|s| Facts { identity: identity(s, &["address", "mount"]), ..Facts::default() }),
        KindSpec::new(Port::Store, "env-file", "a file of KEY=value lines")
            .inline::<FileSettings>()
            .one_document()
            .facts(|_| Facts { host_local: true, ..Facts::default() }),
        KindSpec::new(Port::Rollout, "ecs", "an ECS service")
            .inline::<EcsSettings>()
            .facts(|_| Facts { pins_versions: true, ..Facts::default() }),
        KindSpec::new(Port::Rollout, "reread", "consumers that read anew by themselves")
            .inline::<RereadSettings>(),
        KindSpec::new(Port::Check, "http", "an HTTP request").inline::<HttpSettings>().lint(https_only),
        KindSpec::new(Port::Hook, "webhook", "a signed HTTP request").inline::<HttpSettings>(),
        KindSpec::new(Port::Rotator, "generated", "a value generated here"),
        KindSpec::new(Port::Rotator, "operator", "a value that a person supplies")
            .facts(|_| Facts { source: Source::Submitted, ..Facts::default() }),
        KindSpec::new(Port::Rotator, "iam", "an access key").lint(role_instead).facts(|_| Facts {
            source: Source::Created,
            disables: true,
            lifetime: Some(jiff::SignedDuration::from_hours(200 * 24)),
            ..Facts::default()
        }),
        KindSpec::new(Port::Rotator, "admin-password", "one password at a time")
            .facts(|_| Facts { overlaps: false, ..Facts::default() }),
        KindSpec::new(Port::Rotator, "postgres", "a database user")
            .table::<PostgresSettings>("postgres")
            .facts(|s| Facts {
                disables: true,
                targets: identity(s, &["host", "users"]).into_iter().collect(),
                ..Facts::default()
            }),
        KindSpec::new(Port::Rotator, "encryption-key", "a key that data is encrypted with")
            .inline::<RingSettings>()
            .facts(|s| Facts {
                keeps_data_readable: s.get("archive") == Some(&Value::Bool(true))
                    || s.get("reencrypt").is_some(),
                ..Facts::default()
            }),
    ];
    Kinds::new(specs).expect("the kinds stand beside each other")
}

/// A policy that nothing is wrong with, around which tests write theirs.
pub(super) const HEAD: &str = r#"version = 1
application = "acd"
environment = "production"

[defaults]
owner = "platform"

[owner.platform]
slack_mention = "S012AB3CD"

[store.vault]
kind = "vault-kv2"
mount = "secret"
path = "acd/{name}"

[consumer.backend]
rollout = { kind = "ecs", cluster = "prod", service = "backend" }
checks = [{ kind = "http", url = "https://api.example.com/health" }]

"#;

/// A secret that nothing is wrong with.
pub(super) const SESSION: &str = r#"[secret.SESSION_SECRET]
kind = "generated"
class = "signing"
format = "hex:64"
cadence = "90d"
token_ttl = "7d"
consumers = ["backend"]
publish = { list = "SESSION_SECRETS" }
"#;

pub(super) fn load(text: &str) -> Loaded {
    load_str(text, &kinds())
}

/// Everything that is said about a policy.
pub(super) fn said(text: &str) -> String {
    render_all(&load(text).diagnostics)
}
