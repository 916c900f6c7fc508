//! Every kind that a policy may name: one line each. And [`Catalog`], which finds the
//! implementation of what the policy names.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, RwLock};

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::id::StoreId;
use rota_core::policy::kinds::{KindClash, KindSpec, Kinds};
use rota_core::policy::model::{CheckPolicy, Hook, Policy, RolloutPolicy, SecretPolicy, StorePolicy};
use rota_core::value::SecretValue;
use rota_engine::ports::{Adapters, Check, HookRunner, Rollout, Rotator, SecretStore};

use crate::credential::{CredentialSource, Credentials, Reference};
use crate::environment::AdapterEnvironment;
use crate::rotators::{
    aws_iam, command, generated, grafana_admin, http_password, operator, postgres, provider, redis_acl,
    vault_token,
};
use crate::stores::{aws_secrets_manager, env_file, vault_kv2};
use crate::{checks, hooks, rollouts};

/// Makes a store from its table in the policy.
pub type BuildStore = fn(&StorePolicy, &AdapterEnvironment) -> Result<Arc<dyn SecretStore>, Fault>;
/// Makes a rotator from the secret that it rotates.
pub type BuildRotator = fn(&SecretPolicy, &AdapterEnvironment) -> Result<Arc<dyn Rotator>, Fault>;
/// Makes a rollout from a consumer's table.
pub type BuildRollout = fn(&RolloutPolicy, &AdapterEnvironment) -> Result<Arc<dyn Rollout>, Fault>;
/// Makes a check from a consumer's table or a secret's `prove`.
pub type BuildCheck = fn(&CheckPolicy, &AdapterEnvironment) -> Result<Arc<dyn Check>, Fault>;
/// Makes a hook from a secret's table.
pub type BuildHook = fn(&Hook, &AdapterEnvironment) -> Result<Arc<dyn HookRunner>, Fault>;

/// A kind with what the policy says of it and how it is made.
#[derive(Clone, Copy)]
pub struct Entry<Build> {
    pub spec: KindSpec,
    pub build: Build,
}

pub type StoreKind = Entry<BuildStore>;
pub type RotatorKind = Entry<BuildRotator>;
pub type RolloutKind = Entry<BuildRollout>;
pub type CheckKind = Entry<BuildCheck>;
pub type HookKind = Entry<BuildHook>;

pub const STORES: &[StoreKind] = &[env_file::KIND, aws_secrets_manager::KIND, vault_kv2::KIND];
pub const ROTATORS: &[RotatorKind] = &[
    aws_iam::KIND,
    command::KIND,
    generated::KIND,
    grafana_admin::KIND,
    http_password::KIND,
    operator::KIND,
    postgres::KIND,
    provider::KIND,
    redis_acl::KIND,
    vault_token::KIND,
];
pub const ROLLOUTS: &[RolloutKind] = &[
    rollouts::command::KIND,
    rollouts::ecs::KIND,
    rollouts::github_dispatch::KIND,
    rollouts::reread::KIND,
    rollouts::webhook::KIND,
];
pub const CHECKS: &[CheckKind] = &[
    checks::auth_failures::KIND,
    checks::cloudwatch::KIND,
    checks::command::KIND,
    checks::http::KIND,
    checks::iam_last_used::KIND,
    checks::json_metric::KIND,
    checks::log_file::KIND,
    checks::postgres_sessions::KIND,
    checks::prometheus::KIND,
    checks::redis_clients::KIND,
];
pub const HOOKS: &[HookKind] = &[hooks::command::KIND, hooks::ecs_task::KIND, hooks::webhook::KIND];

/// What the policy loader needs to know of every kind.
///
/// # Errors
/// Where two kinds of one port have one name: a mistake in this file.
pub fn kinds() -> Result<Kinds, KindClash> {
    let specs = STORES
        .iter()
        .map(|kind| kind.spec)
        .chain(ROTATORS.iter().map(|kind| kind.spec))
        .chain(ROLLOUTS.iter().map(|kind| kind.spec))
        .chain(CHECKS.iter().map(|kind| kind.spec))
        .chain(HOOKS.iter().map(|kind| kind.spec));
    Kinds::new(specs)
}

/// Finds the implementation of what the policy names. Stores keep connections and
/// logins, so each is made once for each distinct table; the others are made anew.
pub struct Catalog {
    environment: AdapterEnvironment,
    shelf: Arc<Shelf>,
}

/// The stores that exist already, and those of the accepted policy by name.
struct Shelf {
    environment: AdapterEnvironment,
    made: Mutex<HashMap<String, Arc<dyn SecretStore>>>,
    accepted: RwLock<BTreeMap<StoreId, StorePolicy>>,
}

impl Catalog {
    /// From then on, credentials that settings refer to are read from the stores of
    /// the policy that [`Adapters::accept`] told last.
    #[must_use]
    pub fn new(environment: AdapterEnvironment) -> Self {
        // Stores refer to no credentials in other stores, so nothing turns in a circle.
        let own = AdapterEnvironment { credentials: CredentialSource::default(), ..environment.clone() };
        let shelf = Arc::new(Shelf { environment: own, made: Mutex::default(), accepted: RwLock::default() });
        environment.credentials.connect(Arc::clone(&shelf) as Arc<dyn Credentials>);
        Self { environment, shelf }
    }
}

impl Shelf {
    fn store(&self, policy: &StorePolicy) -> Result<Arc<dyn SecretStore>, Fault> {
        // The table as text tells two stores apart, edits of one store included.
        let table = serde_json::to_string(policy)
            .map_err(|_| Fault::invalid(format!("store `{}` cannot be written down", policy.id)))?;
        let mut made = self.made.lock().map_err(|_| poisoned())?;
        if let Some(store) = made.get(&table) {
            return Ok(Arc::clone(store));
        }
        let store = (find(STORES, "store", &policy.kind)?.build)(policy, &self.environment)?;
        made.insert(table, Arc::clone(&store));
        Ok(store)
    }

    fn accepted(&self, id: &StoreId) -> Result<StorePolicy, Fault> {
        let accepted = self.accepted.read().map_err(|_| poisoned())?;
        if accepted.is_empty() {
            return Err(Fault::transient("the policy's stores are not known yet"));
        }
        let policy = accepted.get(id).cloned();
        policy.ok_or_else(|| Fault::invalid(format!("the accepted policy has no store `{id}`")))
    }
}

fn poisoned() -> Fault {
    Fault::transient("the stores were poisoned by a panic; restart the process")
}

#[async_trait]
impl Credentials for Shelf {
    async fn read(&self, reference: &Reference) -> Result<SecretValue, Fault> {
        let store = self.store(&self.accepted(&reference.store)?)?;
        store.read_other(&reference.place).await?.ok_or_else(|| {
            Fault::invalid(format!("nothing is stored at `{reference}`, put the credential there"))
        })
    }
}

fn find<'k, Build>(kinds: &'k [Entry<Build>], what: &str, name: &str) -> Result<&'k Entry<Build>, Fault> {
    kinds
        .iter()
        .find(|kind| kind.spec.name == name)
        .ok_or_else(|| Fault::invalid(format!("this version of rota has no {what} of kind `{name}`")))
}

impl Adapters for Catalog {
    fn accept(&self, policy: &Policy) {
        // A poisoned lock is told by the first credential that is asked for.
        if let Ok(mut accepted) = self.shelf.accepted.write() {
            accepted.clone_from(&policy.stores);
        }
    }

    fn store(&self, policy: &StorePolicy) -> Result<Arc<dyn SecretStore>, Fault> {
        self.shelf.store(policy)
    }

    fn store_identity(&self, policy: &StorePolicy) -> Option<String> {
        let kind = STORES.iter().find(|kind| kind.spec.name == policy.kind)?;
        kind.spec.facts_of(&policy.settings).identity
    }

    fn rotator(&self, policy: &SecretPolicy) -> Result<Arc<dyn Rotator>, Fault> {
        (find(ROTATORS, "rotator", &policy.kind)?.build)(policy, &self.environment)
    }

    fn rollout(&self, policy: &RolloutPolicy) -> Result<Arc<dyn Rollout>, Fault> {
        (find(ROLLOUTS, "rollout", &policy.kind)?.build)(policy, &self.environment)
    }

    fn check(&self, policy: &CheckPolicy) -> Result<Arc<dyn Check>, Fault> {
        (find(CHECKS, "check", &policy.kind)?.build)(policy, &self.environment)
    }

    fn hook(&self, hook: &Hook) -> Result<Arc<dyn HookRunner>, Fault> {
        (find(HOOKS, "hook", &hook.kind)?.build)(hook, &self.environment)
    }
}
