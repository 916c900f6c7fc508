//! Stores, targets, rollouts and checks that live in this process and answer at once.
//!
//! They do their work (values are really kept, compared and returned) and take no
//! time, so that what is measured is the engine and its journal. Deliberately absent:
//! faults, lag, and a clock of their own; `rota_engine::test_support` has those.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use rand::TryRng as _;
use rand::rngs::SysRng;
use rota_core::document::DocumentFormat;
use rota_core::fault::Fault;
use rota_core::format::{RandomFailed, RandomSource};
use rota_core::id::{StoreId, VersionRef};
use rota_core::policy::model::{CheckPolicy, Hook, Policy, RolloutPolicy, SecretPolicy, StorePolicy};
use rota_core::rotation::Source;
use rota_core::value::{Bundle, SecretValue};
use rota_engine::ports::{
    Adapters, Check, CheckContext, Fence, HookContext, HookRunner, HookStatus, Idleness, Notice, Notifier,
    Observed, Place, Proof, Reading, Rollout, RolloutContext, RolloutStatus, Rotator, RotatorTraits,
    SecretStore, Slot, SlotState, Stored, TargetContext, TargetEffect, Verdict, Which, WriteToken,
};
use serde_json::{Value, json};

/// The kind of secrets that a target accepts or refuses; every other kind has none.
pub(crate) const WITH_TARGET: &str = "target";

/// Everything outside of Rota. Clones are one world.
#[derive(Clone)]
pub(crate) struct World {
    store: Arc<MemoryStore>,
}

impl World {
    pub(crate) fn new(store: StoreId) -> Self {
        Self { store: Arc::new(MemoryStore { id: store, state: Mutex::default() }) }
    }

    /// Puts a first value at `path`, as somebody did before Rota came.
    pub(crate) fn put(&self, path: String, value: SecretValue) {
        self.store.state().publish(path, value);
    }
}

impl Adapters for World {
    fn accept(&self, _: &Policy) {}

    fn store(&self, _: &StorePolicy) -> Result<Arc<dyn SecretStore>, Fault> {
        Ok(Arc::clone(&self.store) as Arc<dyn SecretStore>)
    }

    fn store_identity(&self, _: &StorePolicy) -> Option<String> {
        None
    }

    fn rotator(&self, policy: &SecretPolicy) -> Result<Arc<dyn Rotator>, Fault> {
        Ok(Arc::new(Instant { target: policy.kind == WITH_TARGET }))
    }

    fn rollout(&self, _: &RolloutPolicy) -> Result<Arc<dyn Rollout>, Fault> {
        Ok(Arc::new(Done))
    }

    fn check(&self, _: &CheckPolicy) -> Result<Arc<dyn Check>, Fault> {
        Ok(Arc::new(Done))
    }

    fn hook(&self, _: &Hook) -> Result<Arc<dyn HookRunner>, Fault> {
        Ok(Arc::new(Done))
    }
}

/// One store with write-once slots and publications that compare.
struct MemoryStore {
    id: StoreId,
    state: Mutex<Contents>,
}

#[derive(Default)]
struct Contents {
    published: HashMap<String, (VersionRef, SecretValue)>,
    /// `None`: a tombstone.
    slots: BTreeMap<Slot, Option<(VersionRef, SecretValue)>>,
    versions: u64,
}

impl Contents {
    fn version(&mut self) -> VersionRef {
        self.versions += 1;
        VersionRef(format!("v{}", self.versions))
    }

    fn publish(&mut self, path: String, value: SecretValue) -> VersionRef {
        let version = self.version();
        self.published.insert(path, (version.clone(), value));
        version
    }
}

impl MemoryStore {
    fn state(&self) -> MutexGuard<'_, Contents> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SecretStore for MemoryStore {
    fn id(&self) -> &StoreId {
        &self.id
    }

    fn document_format(&self) -> DocumentFormat {
        DocumentFormat::Json
    }

    async fn preflight(&self, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    async fn read(&self, path: &str) -> Result<Option<Stored>, Fault> {
        let state = self.state();
        let found = state.published.get(path);
        Ok(found.map(|(version, value)| Stored { version: version.clone(), value: value.duplicate() }))
    }

    async fn write(
        &self,
        path: &str,
        content: &SecretValue,
        base: Option<&VersionRef>,
        _: &WriteToken,
    ) -> Result<VersionRef, Fault> {
        let mut state = self.state();
        if state.published.get(path).map(|(version, _)| version) != base {
            return Err(Fault::conflict("another version stands there"));
        }
        Ok(state.publish(path.to_owned(), content.duplicate()))
    }

    async fn stage(&self, slot: &Slot, value: &SecretValue) -> Result<VersionRef, Fault> {
        let mut state = self.state();
        match state.slots.get(slot) {
            Some(Some((version, kept))) if kept.same_as(value) => return Ok(version.clone()),
            Some(_) => return Err(Fault::conflict("the slot is taken")),
            None => {}
        }
        let version = state.version();
        state.slots.insert(slot.clone(), Some((version.clone(), value.duplicate())));
        Ok(version)
    }

    async fn read_slot(&self, slot: &Slot) -> Result<SlotState, Fault> {
        Ok(match self.state().slots.get(slot) {
            None => SlotState::Empty,
            Some(None) => SlotState::Tombstone,
            Some(Some((version, value))) => {
                SlotState::Filled { version: version.clone(), value: value.duplicate() }
            }
        })
    }

    async fn purge(&self, slot: &Slot) -> Result<(), Fault> {
        self.state().slots.insert(slot.clone(), None);
        Ok(())
    }

    async fn read_other(&self, _: &Place) -> Result<Option<SecretValue>, Fault> {
        Ok(None)
    }

    async fn empty_inbox(&self, _: &str) -> Result<(), Fault> {
        Ok(())
    }

    async fn clock(&self) -> Result<Option<Timestamp>, Fault> {
        Ok(None)
    }

    async fn pinned_reference(&self, _: &str, _: &VersionRef) -> Result<Option<String>, Fault> {
        Ok(None)
    }
}

/// Generates values, and has a target that does at once what it is told.
struct Instant {
    target: bool,
}

#[async_trait]
impl Rotator for Instant {
    fn traits(&self) -> RotatorTraits {
        RotatorTraits {
            source: Source::Generated,
            target: self.target,
            reversible: self.target,
            overlaps: true,
            confirmed_by_person: false,
            fenced: self.target,
        }
    }

    fn target_identities(&self, policy: &SecretPolicy) -> Vec<String> {
        self.target.then(|| format!("target-of-{}", policy.id)).into_iter().collect()
    }

    fn parts_of(&self, fields: &Bundle, _: &SecretPolicy) -> Result<Bundle, Fault> {
        Ok(fields.duplicate())
    }

    fn generate(&self, target: &TargetContext, random: &mut dyn RandomSource) -> Result<Bundle, Fault> {
        let secret = &target.policy.secret;
        let format = secret.format.as_ref().ok_or_else(|| Fault::invalid("the secret has no format"))?;
        let mut parts = Bundle::new(BTreeMap::new());
        for name in secret.fields.keys() {
            let value = format.generate(random).map_err(|error| Fault::transient(error.to_string()))?;
            parts.insert(name.clone(), value);
        }
        Ok(parts)
    }

    fn identity_of(&self, _: &Bundle) -> Option<String> {
        None
    }

    async fn preflight(&self, _: &TargetContext) -> Result<(), Fault> {
        Ok(())
    }

    async fn observe(&self, _: TargetEffect, _: &TargetContext) -> Result<Observed, Fault> {
        Ok(Observed::Absent)
    }

    async fn apply(&self, _: TargetEffect, _: &TargetContext, _: Fence) -> Result<(), Fault> {
        Ok(())
    }

    async fn prove(&self, which: Which, _: &TargetContext) -> Result<Proof, Fault> {
        Ok(match which {
            _ if !self.target => Proof::NotProvable,
            Which::New => Proof::Accepted,
            Which::Old => Proof::Refused { detail: "the target refuses it".to_owned() },
        })
    }

    async fn idleness(&self, _: &TargetContext) -> Result<Idleness, Fault> {
        Ok(Idleness::Idle)
    }
}

/// Rollouts, checks, hooks and channels that are done as soon as they are asked.
pub(crate) struct Done;

#[async_trait]
impl Rollout for Done {
    async fn begin(&self, _: &RolloutContext) -> Result<Value, Fault> {
        Ok(json!({ "deployment": 1 }))
    }

    async fn observe(
        &self,
        _: &Value,
        _: &Value,
        _: &RolloutContext,
    ) -> Result<(RolloutStatus, Value), Fault> {
        Ok((RolloutStatus::Finished, Value::Null))
    }
}

#[async_trait]
impl Check for Done {
    async fn observe(&self, _: &CheckContext) -> Result<Reading, Fault> {
        Ok(Reading { verdict: Verdict::Healthy, value: Some(0.999), detail: "200 OK".to_owned() })
    }
}

#[async_trait]
impl HookRunner for Done {
    async fn run(&self, _: &HookContext) -> Result<HookStatus, Fault> {
        Ok(HookStatus::Succeeded)
    }
}

#[async_trait]
impl Notifier for Done {
    fn channel(&self) -> &str {
        "bench"
    }

    async fn deliver(&self, _: &[Notice]) -> Result<(), Fault> {
        Ok(())
    }
}

/// The operating system's generator.
pub(crate) struct SystemRandom;

impl RandomSource for SystemRandom {
    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), RandomFailed> {
        SysRng.try_fill_bytes(buffer).map_err(|_| RandomFailed)
    }
}
