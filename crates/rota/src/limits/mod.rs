//! Keeps calls to each backend within its limits, whoever makes them.
//!
//! Wraps every port, so that no loop of the engine has to think of it. A backend is a
//! kind as the policy writes it; kinds of one name (the `command` of checks, hooks and
//! rollouts) share a gate. Deliberately absent: retries. A call that finds no turn in
//! time comes back as [`Fault::RateLimited`] with nothing done.

mod gate;
mod wrapped;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use rota_core::fault::Fault;
use rota_core::policy::model::{CheckPolicy, Hook, Policy, RolloutPolicy, SecretPolicy, StorePolicy};
use rota_engine::ports::{Adapters, Check, Clock, HookRunner, Rollout, Rotator, SecretStore};

use crate::config::{BackendLimit, Limits};
use gate::Gate;
use wrapped::Limited;

/// The adapters of `inner`, each behind its backend's gate.
pub(crate) struct LimitedAdapters {
    inner: Arc<dyn Adapters>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    gates: Mutex<HashMap<String, Arc<Gate>>>,
}

impl LimitedAdapters {
    pub(crate) fn new(inner: Arc<dyn Adapters>, clock: Arc<dyn Clock>, limits: Limits) -> Self {
        Self { inner, clock, limits, gates: Mutex::new(HashMap::new()) }
    }

    fn behind_gate<T: ?Sized>(&self, kind: &str, inner: Arc<T>) -> Arc<Limited<T>> {
        let mut gates = self.gates.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let gate = match gates.get(kind) {
            Some(gate) => Arc::clone(gate),
            None => {
                let general =
                    BackendLimit { concurrency: self.limits.concurrency, per_minute: self.limits.per_minute };
                let limit = self.limits.backend.get(kind).copied().unwrap_or(general);
                let gate = Arc::new(Gate::new(kind, limit));
                gates.insert(kind.to_owned(), Arc::clone(&gate));
                gate
            }
        };
        Arc::new(Limited { inner, gate, clock: Arc::clone(&self.clock) })
    }
}

impl Adapters for LimitedAdapters {
    fn accept(&self, policy: &Policy) {
        self.inner.accept(policy);
    }

    fn store(&self, policy: &StorePolicy) -> Result<Arc<dyn SecretStore>, Fault> {
        Ok(self.behind_gate(&policy.kind, self.inner.store(policy)?))
    }

    fn store_identity(&self, policy: &StorePolicy) -> Option<String> {
        self.inner.store_identity(policy)
    }

    fn rotator(&self, policy: &SecretPolicy) -> Result<Arc<dyn Rotator>, Fault> {
        Ok(self.behind_gate(&policy.kind, self.inner.rotator(policy)?))
    }

    fn rollout(&self, policy: &RolloutPolicy) -> Result<Arc<dyn Rollout>, Fault> {
        Ok(self.behind_gate(&policy.kind, self.inner.rollout(policy)?))
    }

    fn check(&self, policy: &CheckPolicy) -> Result<Arc<dyn Check>, Fault> {
        Ok(self.behind_gate(&policy.kind, self.inner.check(policy)?))
    }

    fn hook(&self, hook: &Hook) -> Result<Arc<dyn HookRunner>, Fault> {
        Ok(self.behind_gate(&hook.kind, self.inner.hook(hook)?))
    }
}
