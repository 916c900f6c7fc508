//! A world to test in: the journal in memory, fake stores, targets and consumers, a
//! clock that only moves when told to, and faults at every call.
//!
//! Every call of a fake port crosses a [`Wire`]: it yields once before and once
//! after its effect, so that an executor can interleave replicas there, and a
//! [`Disturber`] can lose its answer, delay it, or end the calling process.
//! Deliberately absent: assertions. What must hold is asserted by who uses it.

pub mod check_suite;
mod clock;
pub mod hook_suite;
pub mod journal_suite;
mod memory_journal;
pub mod notifier_suite;
mod people;
mod random;
pub mod rollout_suite;
pub mod rotator_suite;
mod run;
mod scenario;
pub mod store_suite;
#[cfg(test)]
mod tests;
mod wire;
mod world;

pub use crate::guard::{Guard, Guards};
pub use clock::SimClock;
pub use memory_journal::{
    DeliveryRow, HistoryRow, MemoryJournal, OrderRow, OutboxRow, RolloutRow, RotationRow, SecretRow, Tables,
};
pub use random::SeededRandom;
pub use run::{Ready, run};
pub use scenario::{Form, Scenario, SecretPlan, work};
pub use wire::{Call, Disturbance, Disturber, Ending, Wire, turn};
pub use world::{
    Complaint, Credential, Definition, Deployment, DeploymentState, FakeCheck, FakeHook, FakeKind,
    FakeNotifier, FakeRollout, FakeRotator, FakeStore, FakeWorld, FleetSpec, FleetState, Health, Instance,
    Purpose, SPOILED, SlotVersion, StoreState, Style, Subject, TargetState, Version, WorldEvent,
    WorldEventKind, WorldState,
};
