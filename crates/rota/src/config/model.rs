//! The daemon's own settings, typed. `config/default.toml` is their documentation:
//! a test demands that it names every key below.
//!
//! Deliberately absent: anything secret. Those keys are taken out before this form
//! is read (see [`super::secrets`]), so that no error about a setting can show one. Vault's
//! are carried along as readers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;

use jiff::SignedDuration;
use rota_adapters::vault::ReadSecret;
use rota_core::policy::duration::DurationText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::exit::Failure;
use crate::telemetry::Format;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) database: Database,
    pub(crate) policy: PolicySource,
    pub(crate) daemon: Daemon,
    pub(crate) retention: Retention,
    pub(crate) limits: Limits,
    pub(crate) http: Http,
    pub(crate) env_file: EnvFile,
    pub(crate) providers: ProviderFiles,
    pub(crate) slack: Slack,
    pub(crate) webhook: Webhook,
    pub(crate) vault: Vault,
    pub(crate) aws: Aws,
    pub(crate) telemetry: Telemetry,
}

/// The state database. `url_file` and `password_file` are secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Database {
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) rds_iam: bool,
    pub(crate) max_connections: NonZeroU32,
}

/// Where the policy is read from, and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PolicySource {
    /// A file, a folder or `s3://bucket/key`.
    pub(crate) source: Option<String>,
    pub(crate) reload: DurationText,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Daemon {
    pub(crate) listen: SocketAddr,
    pub(crate) replica: Option<String>,
    pub(crate) workers: NonZeroU32,
    pub(crate) wake: DurationText,
    pub(crate) lease: DurationText,
    pub(crate) stop_timeout: DurationText,
    pub(crate) digest: String,
}

/// How long what is over is kept. History is kept for ever.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retention {
    pub(crate) notices: DurationText,
    pub(crate) observations: DurationText,
}

/// How hard one backend is used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) concurrency: NonZeroU32,
    pub(crate) per_minute: NonZeroU32,
    /// By kind (`aws-secrets-manager`, `vault-kv2`, `ecs`, ...).
    pub(crate) backend: BTreeMap<String, BackendLimit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BackendLimit {
    pub(crate) concurrency: NonZeroU32,
    pub(crate) per_minute: NonZeroU32,
}

/// What clients of other systems may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Http {
    #[serde(default)]
    pub(crate) private_networks: Words,
    pub(crate) ca_file: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvFile {
    pub(crate) host: Option<String>,
    pub(crate) key_file: Option<PathBuf>,
}

/// Where providers are described that this version does not have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProviderFiles {
    pub(crate) folder: Option<PathBuf>,
}

/// A list, which an environment variable gives as words with commas between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "OneOrMany")]
pub(crate) struct Words(pub(crate) Vec<String>);

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl From<OneOrMany> for Words {
    fn from(words: OneOrMany) -> Self {
        match words {
            OneOrMany::Many(words) => Self(words),
            OneOrMany::One(text) => {
                let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                Self(words.map(str::to_owned).collect())
            }
        }
    }
}

/// `webhook_url_file` and `fallback_url_file` are secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Slack {
    pub(crate) status_url: Option<String>,
}

/// `secret_file` is a secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Webhook {
    pub(crate) url: Option<String>,
}

/// `token_file` and `secret_id_file` are secrets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vault {
    pub(crate) address: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) auth: VaultAuth,
    pub(crate) mount: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) role_id: Option<String>,
    pub(crate) jwt_file: Option<PathBuf>,
    pub(crate) sts_region: Option<String>,
    pub(crate) server_id: Option<String>,
    /// Filled in by the loader: the settings of this table that are secret.
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) secrets: VaultSecrets,
}

/// Reads the secret settings of `[vault]`, anew at each login.
#[derive(Clone, Default)]
pub(crate) struct VaultSecrets {
    pub(crate) token: Option<ReadSecret>,
    pub(crate) secret_id: Option<ReadSecret>,
}

impl fmt::Debug for VaultSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VaultSecrets(..)")
    }
}

impl PartialEq for VaultSecrets {
    /// Settings are compared by what was written, and this was not.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum VaultAuth {
    Token,
    Approle,
    Kubernetes,
    AwsIam,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Aws {
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Telemetry {
    pub(crate) format: Format,
    pub(crate) filter: String,
}

/// The lease must leave room for the engine's own margin and one slow call.
const SHORTEST_LEASE: SignedDuration = SignedDuration::from_secs(30);

/// The database's functions refuse less (migrations/0009_scale.sql).
const SHORTEST_RETENTION: [(&str, SignedDuration); 2] = [
    ("retention.notices", SignedDuration::from_hours(24)),
    ("retention.observations", SignedDuration::from_hours(90 * 24)),
];

/// The longest stop timeout that ECS grants (`stopTimeout`).
const LONGEST_STOP: SignedDuration = SignedDuration::from_secs(120);

impl Settings {
    /// What types cannot say.
    ///
    /// # Errors
    /// The first rule that is broken, with what to write instead.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let Daemon { wake, lease, stop_timeout, .. } = &self.daemon;
        let positive = [
            ("daemon.wake", wake),
            ("daemon.stop_timeout", stop_timeout),
            ("policy.reload", &self.policy.reload),
        ];
        for (key, duration) in positive {
            if duration.0.is_zero() {
                return Err(Failure::invalid(format!("`{key}` is zero")).hint("write at least `1s`"));
            }
        }
        if lease.0 < SHORTEST_LEASE {
            let message = format!("`daemon.lease` is {lease}, too short for one slow call");
            return Err(Failure::invalid(message).hint("write at least `30s`; `60s` is usual"));
        }
        if stop_timeout.0 > LONGEST_STOP {
            let message = format!("`daemon.stop_timeout` is {stop_timeout}; ECS kills a task after 120s");
            return Err(Failure::invalid(message).hint("write at most `2m`"));
        }
        let Retention { notices, observations } = &self.retention;
        for ((key, shortest), kept) in SHORTEST_RETENTION.into_iter().zip([notices, observations]) {
            if kept.0 < shortest {
                let message = format!("`{key}` is {kept}, too short to look anything up");
                return Err(
                    Failure::invalid(message).hint(format!("write at least `{}`", DurationText(shortest)))
                );
            }
        }
        if self.webhook.url.as_deref().is_some_and(|url| !is_https_or_loopback(url)) {
            return Err(Failure::invalid("`webhook.url` is neither https nor on this machine")
                .hint("events are sent over TLS only; write an https address"));
        }
        Ok(())
    }
}

fn is_https_or_loopback(url: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(url) else { return false };
    let local = match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|ip| ip.is_loopback()),
        None => false,
    };
    url.scheme() == "https" || (url.scheme() == "http" && local)
}
