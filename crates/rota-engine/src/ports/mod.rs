//! What the engine needs from the world. One trait a port; the contract of each
//! stands on it, and `test_support` has the suite that every implementation passes.
//! Deliberately absent: SQL, HTTP and any product's name.

mod adapters;
mod check;
mod clock;
mod hook;
mod journal;
mod notifier;
mod rollout;
mod rotator;
mod store;

pub use adapters::Adapters;
pub use check::{Check, CheckContext, Reading, Verdict};
pub use clock::{Clock, within};
pub use hook::{HookContext, HookRunner, HookStatus};
pub use journal::{
    AcceptedPolicy, Claim, DueSecret, HistoryEntry, Journal, JournalError, NewRotation, Observation, Opened,
    OrderId, OrderKind, Past, PendingOrder, Promotion, Record, RolloutClaim, RolloutRecord, RolloutState,
    TAKEN_OVER, Upcoming,
};
pub use notifier::{Notice, NoticeKind, Notifier, OutboxClaim};
pub use rollout::{Pin, Rollout, RolloutContext, RolloutStatus};
pub use rota_core::publication::Place;
pub use rotator::{
    Created, Fence, Idleness, Observed, Proof, Rotator, RotatorTraits, TargetContext, TargetEffect, Which,
};
pub(crate) use store::opened_at;
pub use store::{SecretStore, Slot, SlotRole, SlotState, Stored, Traces, Trail, WriteToken};
