//! The ports behind a gate: every call that leaves the process waits for its turn.

// A method that falls back to the port's default would go around the adapter's own.
#![warn(clippy::missing_trait_methods)]

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rota_core::document::DocumentFormat;
use rota_core::fault::Fault;
use rota_core::format::RandomSource;
use rota_core::id::{StoreId, VersionRef};
use rota_core::policy::model::SecretPolicy;
use rota_core::value::{Bundle, SecretValue};
use rota_engine::ports::{
    Check, CheckContext, Clock, Created, Fence, HookContext, HookRunner, HookStatus, Idleness, Observed,
    Place, Proof, Reading, Rollout, RolloutContext, RolloutStatus, Rotator, RotatorTraits, SecretStore, Slot,
    SlotState, Stored, TargetContext, TargetEffect, Traces, Trail, Which, WriteToken,
};

use super::gate::Gate;

/// An adapter and the gate that its calls pass.
pub(super) struct Limited<T: ?Sized> {
    pub(super) inner: Arc<T>,
    pub(super) gate: Arc<Gate>,
    pub(super) clock: Arc<dyn Clock>,
}

/// Waits for a turn, calls, and learns from the answer.
macro_rules! in_turn {
    ($self:ident, $call:expr) => {{
        let permit = $self.gate.pass(&*$self.clock).await?;
        let answer = $call.await;
        drop(permit);
        $self.gate.learn(&*$self.clock, &answer);
        answer
    }};
}

#[async_trait]
impl SecretStore for Limited<dyn SecretStore> {
    fn id(&self) -> &StoreId {
        self.inner.id()
    }

    fn document_format(&self) -> DocumentFormat {
        self.inner.document_format()
    }

    async fn preflight(&self, path: &str) -> Result<(), Fault> {
        in_turn!(self, self.inner.preflight(path))
    }

    async fn read(&self, path: &str) -> Result<Option<Stored>, Fault> {
        in_turn!(self, self.inner.read(path))
    }

    async fn write(
        &self,
        path: &str,
        content: &SecretValue,
        base: Option<&VersionRef>,
        token: &WriteToken,
    ) -> Result<VersionRef, Fault> {
        in_turn!(self, self.inner.write(path, content, base, token))
    }

    async fn stage(&self, slot: &Slot, value: &SecretValue) -> Result<VersionRef, Fault> {
        in_turn!(self, self.inner.stage(slot, value))
    }

    async fn read_slot(&self, slot: &Slot) -> Result<SlotState, Fault> {
        in_turn!(self, self.inner.read_slot(slot))
    }

    async fn purge(&self, slot: &Slot) -> Result<(), Fault> {
        in_turn!(self, self.inner.purge(slot))
    }

    async fn read_other(&self, place: &Place) -> Result<Option<SecretValue>, Fault> {
        in_turn!(self, self.inner.read_other(place))
    }

    async fn empty_inbox(&self, path: &str) -> Result<(), Fault> {
        in_turn!(self, self.inner.empty_inbox(path))
    }

    async fn clock(&self) -> Result<Option<Timestamp>, Fault> {
        in_turn!(self, self.inner.clock())
    }

    async fn traces(&self, trail: &Trail) -> Result<Traces, Fault> {
        in_turn!(self, self.inner.traces(trail))
    }

    async fn pinned_reference(&self, path: &str, version: &VersionRef) -> Result<Option<String>, Fault> {
        in_turn!(self, self.inner.pinned_reference(path, version))
    }
}

#[async_trait]
impl Rotator for Limited<dyn Rotator> {
    fn traits(&self) -> RotatorTraits {
        self.inner.traits()
    }

    fn admin_reference(&self) -> Option<&str> {
        self.inner.admin_reference()
    }

    fn target_identities(&self, policy: &SecretPolicy) -> Vec<String> {
        self.inner.target_identities(policy)
    }

    fn parts_of(&self, fields: &Bundle, policy: &SecretPolicy) -> Result<Bundle, Fault> {
        self.inner.parts_of(fields, policy)
    }

    fn generate(&self, target: &TargetContext, random: &mut dyn RandomSource) -> Result<Bundle, Fault> {
        self.inner.generate(target, random)
    }

    fn identity_of(&self, parts: &Bundle) -> Option<String> {
        self.inner.identity_of(parts)
    }

    async fn preflight(&self, target: &TargetContext) -> Result<(), Fault> {
        in_turn!(self, self.inner.preflight(target))
    }

    async fn create(&self, target: &TargetContext, fence: Fence) -> Result<Created, Fault> {
        in_turn!(self, self.inner.create(target, fence))
    }

    async fn find_created(&self, target: &TargetContext) -> Result<Option<String>, Fault> {
        in_turn!(self, self.inner.find_created(target))
    }

    async fn observe(&self, effect: TargetEffect, target: &TargetContext) -> Result<Observed, Fault> {
        in_turn!(self, self.inner.observe(effect, target))
    }

    async fn apply(&self, effect: TargetEffect, target: &TargetContext, fence: Fence) -> Result<(), Fault> {
        in_turn!(self, self.inner.apply(effect, target, fence))
    }

    async fn last_fence(&self, target: &TargetContext) -> Result<Option<Fence>, Fault> {
        in_turn!(self, self.inner.last_fence(target))
    }

    async fn prove(&self, which: Which, target: &TargetContext) -> Result<Proof, Fault> {
        in_turn!(self, self.inner.prove(which, target))
    }

    async fn idleness(&self, target: &TargetContext) -> Result<Idleness, Fault> {
        in_turn!(self, self.inner.idleness(target))
    }
}

#[async_trait]
impl Rollout for Limited<dyn Rollout> {
    fn must_be_here(&self) -> Result<(), Fault> {
        self.inner.must_be_here()
    }

    async fn recheck(&self, context: &RolloutContext) -> Result<Option<String>, Fault> {
        in_turn!(self, self.inner.recheck(context))
    }

    async fn begin(&self, context: &RolloutContext) -> Result<serde_json::Value, Fault> {
        in_turn!(self, self.inner.begin(context))
    }

    async fn observe(
        &self,
        handle: &serde_json::Value,
        memory: &serde_json::Value,
        context: &RolloutContext,
    ) -> Result<(RolloutStatus, serde_json::Value), Fault> {
        in_turn!(self, self.inner.observe(handle, memory, context))
    }
}

#[async_trait]
impl Check for Limited<dyn Check> {
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault> {
        in_turn!(self, self.inner.observe(context))
    }
}

#[async_trait]
impl HookRunner for Limited<dyn HookRunner> {
    async fn run(&self, context: &HookContext) -> Result<HookStatus, Fault> {
        in_turn!(self, self.inner.run(context))
    }
}
