use std::sync::Arc;

use rota_core::fault::Fault;
use rota_core::policy::model::{CheckPolicy, Hook, Policy, RolloutPolicy, SecretPolicy, StorePolicy};

use super::{Check, HookRunner, Rollout, Rotator, SecretStore};

/// Finds the implementation of what the policy names. Clients are kept between calls
/// by the implementation, not by the engine.
pub trait Adapters: Send + Sync {
    /// Tells which policy is accepted now: what settings refer to in its stores is
    /// found there. Its secrets are left out.
    fn accept(&self, policy: &Policy);

    /// # Errors
    /// [`Fault::Invalid`] where the kind is unknown or its settings cannot be used.
    fn store(&self, policy: &StorePolicy) -> Result<Arc<dyn SecretStore>, Fault>;

    /// What tells that two stores of a policy are one and the same place; `None` where
    /// their names do.
    fn store_identity(&self, policy: &StorePolicy) -> Option<String>;

    /// # Errors
    /// As [`Adapters::store`].
    fn rotator(&self, policy: &SecretPolicy) -> Result<Arc<dyn Rotator>, Fault>;

    /// # Errors
    /// As [`Adapters::store`].
    fn rollout(&self, policy: &RolloutPolicy) -> Result<Arc<dyn Rollout>, Fault>;

    /// # Errors
    /// As [`Adapters::store`].
    fn check(&self, policy: &CheckPolicy) -> Result<Arc<dyn Check>, Fault>;

    /// # Errors
    /// As [`Adapters::store`].
    fn hook(&self, hook: &Hook) -> Result<Arc<dyn HookRunner>, Fault>;
}
