//! The fake world: stores, targets, fleets of consumers, checks and hooks, with one
//! clock and one log of what really happened.

mod check;
mod event;
mod fleet;
mod hook;
mod notifier;
mod rollout;
mod rotator;
mod store;
mod target;
mod use_of_secrets;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::id::{ConsumerId, SecretId, StoreId};
use rota_core::policy::model::{
    CheckPolicy, Hook, Policy, PolicyEntry, PublishForm, RolloutPolicy, SecretPolicy, StorePolicy,
};

use super::clock::SimClock;
use super::random::SeededRandom;
use super::wire::Wire;
use crate::guard::Guards;
use crate::ports::{Adapters, Check, HookRunner, Rollout, Rotator, SecretStore};

pub use check::{FakeCheck, Health};
pub use event::{WorldEvent, WorldEventKind};
pub use fleet::{Definition, Deployment, DeploymentState, FleetSpec, FleetState, Instance, Style};
pub use hook::FakeHook;
pub use notifier::FakeNotifier;
pub use rollout::FakeRollout;
pub use rotator::{FakeKind, FakeRotator, SPOILED};
pub use store::{FakeStore, SlotVersion, StoreState, Version};
pub use target::{Credential, TargetState};
pub use use_of_secrets::{Complaint, Purpose};

/// Everything outside of Rota. Clones are one world.
#[derive(Clone)]
pub struct FakeWorld {
    wire: Wire,
    state: Arc<Mutex<WorldState>>,
}

/// What is where. Holds values in the clear, and so has no `Debug`.
pub struct WorldState {
    pub guards: Guards,
    pub random: SeededRandom,
    pub stores: BTreeMap<StoreId, StoreState>,
    pub targets: BTreeMap<String, TargetState>,
    pub fleets: BTreeMap<ConsumerId, FleetState>,
    pub subjects: BTreeMap<SecretId, Subject>,
    pub events: Vec<WorldEvent>,
    /// Hooks by idempotency key: when each run will have succeeded.
    pub hook_runs: BTreeMap<String, Timestamp>,
    /// When each value of a signing secret last signed something.
    pub signed: BTreeMap<SecretId, BTreeMap<String, Timestamp>>,
}

/// A secret as the fake consumers know it.
#[derive(Clone)]
pub struct Subject {
    pub entry: PolicyEntry,
    pub kind: FakeKind,
    pub purpose: Purpose,
}

impl FakeWorld {
    #[must_use]
    pub fn new(wire: Wire, seed: u64) -> Self {
        Self::with_guards(wire, seed, Guards::default())
    }

    /// A world with planted bugs.
    #[must_use]
    pub fn with_guards(wire: Wire, seed: u64, guards: Guards) -> Self {
        let state = WorldState {
            guards,
            random: SeededRandom::new(seed),
            stores: BTreeMap::new(),
            targets: BTreeMap::new(),
            fleets: BTreeMap::new(),
            subjects: BTreeMap::new(),
            events: Vec::new(),
            hook_runs: BTreeMap::new(),
            signed: BTreeMap::new(),
        };
        Self { wire, state: Arc::new(Mutex::new(state)) }
    }

    #[must_use]
    pub fn clock(&self) -> &SimClock {
        self.wire.clock()
    }

    #[must_use]
    pub fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Looks at everything, or changes it behind everybody's back. Not to be called
    /// from within itself.
    pub fn with<T>(&self, use_it: impl FnOnce(&mut WorldState) -> T) -> T {
        use_it(&mut self.state())
    }

    /// The true time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wire.clock().now()
    }

    /// What happened since the last take.
    #[must_use]
    pub fn take_events(&self) -> Vec<WorldEvent> {
        std::mem::take(&mut self.state().events)
    }

    /// What is wrong with the use of secrets at this moment.
    #[must_use]
    pub fn complaints(&self) -> Vec<Complaint> {
        let now = self.now();
        self.state().complaints(now)
    }

    fn note(&self, state: &mut WorldState, kind: WorldEventKind) {
        state.events.push(WorldEvent { at: self.now(), actor: self.wire.actor(), kind });
    }

    fn state(&self) -> MutexGuard<'_, WorldState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_pinned(entry: &PolicyEntry) -> bool {
    fn pinned(form: &PublishForm) -> bool {
        match form {
            PublishForm::Pair { pinned, .. } => *pinned,
            PublishForm::Single | PublishForm::List { .. } => false,
            PublishForm::Document { inner, .. } => pinned(inner),
        }
    }
    pinned(&entry.secret.publish)
}

/// The text under `key` of a kind's settings.
fn setting<'a>(settings: &'a serde_json::Value, key: &str) -> Result<&'a str, Fault> {
    settings
        .get(key)
        .and_then(serde_json::Value::as_str)
        .ok_or_else(|| Fault::invalid(format!("the fake needs `{key}` in its settings")))
}

impl Adapters for FakeWorld {
    /// Nothing in this world is referred to by name.
    fn accept(&self, _: &Policy) {}

    fn store(&self, policy: &StorePolicy) -> Result<Arc<dyn SecretStore>, Fault> {
        self.fake_store(&policy.id).map(|store| Arc::new(store) as Arc<dyn SecretStore>)
    }

    fn store_identity(&self, _: &StorePolicy) -> Option<String> {
        None
    }

    fn rotator(&self, policy: &SecretPolicy) -> Result<Arc<dyn Rotator>, Fault> {
        let kind = FakeKind::parse(&policy.kind)
            .ok_or_else(|| Fault::invalid(format!("no fake rotator is called `{}`", policy.kind)))?;
        let target = kind.has_target().then(|| setting(&policy.settings, "target")).transpose()?;
        Ok(Arc::new(FakeRotator::new(self.clone(), kind, target.unwrap_or_default().to_owned())))
    }

    fn rollout(&self, policy: &RolloutPolicy) -> Result<Arc<dyn Rollout>, Fault> {
        let fleet = ConsumerId::new(setting(&policy.settings, "fleet")?)
            .map_err(|error| Fault::invalid(error.to_string()))?;
        Ok(Arc::new(FakeRollout::new(self.clone(), fleet)))
    }

    fn check(&self, policy: &CheckPolicy) -> Result<Arc<dyn Check>, Fault> {
        FakeCheck::new(self.clone(), &policy.settings).map(|check| Arc::new(check) as Arc<dyn Check>)
    }

    fn hook(&self, hook: &Hook) -> Result<Arc<dyn HookRunner>, Fault> {
        Ok(Arc::new(FakeHook::new(self.clone(), hook.kind.clone())))
    }
}
