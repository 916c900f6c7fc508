//! What adapters get from the daemon's own configuration: addresses of servers,
//! logins, limits. A policy file cannot set any of it, so whoever edits the policy
//! cannot send a login elsewhere.

use std::path::PathBuf;
use std::sync::Arc;

use rota_engine::ports::Clock;

use crate::aws::AwsEnvironment;
use crate::child::Runs;
use crate::credential::CredentialSource;
use crate::ecs::EcsClients;
use crate::http::{HttpClient, HttpOptions};
use crate::rotators::provider::Providers;
use crate::vault::VaultConnection;

/// Shared by all adapters of a process.
#[derive(Clone)]
pub struct AdapterEnvironment {
    /// What this machine is called in `host = "..."` of stores and rollouts that live on one.
    pub host: Option<String>,
    /// How HTTP clients behave; adapters with an authority of their own make a client from it.
    pub http: HttpOptions,
    /// The client for everybody else.
    pub client: HttpClient,
    pub clock: Arc<dyn Clock>,
    pub aws: AwsEnvironment,
    /// The Vault server and our login there, where one is configured.
    pub vault: Option<Arc<VaultConnection>>,
    /// The key that seals replaced env files, see [`crate::stores::env_file`].
    pub env_file_key: Option<PathBuf>,
    /// Reads the credentials that settings refer to (`store:path#field`).
    pub credentials: CredentialSource,
    /// The programs that run for longer than one call.
    pub runs: Runs,
    /// The clients of Amazon ECS that exist already.
    pub ecs: EcsClients,
    /// The providers whose keys can be rotated.
    pub providers: Providers,
}
