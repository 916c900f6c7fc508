//! The machine: one rotation of one secret.
//!
//! [`decide`] says what happens next, [`apply`] is the only way in which a rotation
//! changes, [`plan`] is the order of the steps. Deliberately absent: clocks, IO and
//! any knowledge of stores, targets and consumers.

pub mod backoff;
pub mod deadline;
mod decide;
mod hold;
pub mod plan;
mod state;
mod step;
mod transition;

pub use decide::{Decision, Evidence, RolloutEvidence, WAITS_FOR_CLOCKS, decide, overlap};
pub use hold::HoldReason;
pub use state::{
    Attempt, Cause, Facts, Haste, Intent, Order, Outcome, Publication, Rotation, Shape, Source, State,
    Suspect, Verdict, Watch,
};
pub use step::{List, Nature, Phase, Step};
pub use transition::{
    Done, Event, IllegalEvent, apply, can_roll_back, emergency_is_within_reach, old_may_be_in_use,
};
