//! What a rotation is at one moment: the form that the journal keeps.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::hold::HoldReason;
use super::plan;
use super::step::{List, Phase, Step};
use crate::id::{EffectNo, RotationId, SecretId, StoreId, VersionRef};
use crate::policy::model::HookPoint;

/// One run of the machine for one secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rotation {
    pub id: RotationId,
    pub secret: SecretId,
    pub order: Order,
    pub shape: Shape,
    pub state: State,
    pub facts: Facts,
}

/// Why the rotation runs, and with it how fast.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub cause: Cause,
    pub haste: Haste,
    /// The due date that this rotation serves; `None` where it serves none.
    pub serves: Option<Timestamp>,
    /// Rotations that this one took over; their slots are purged with its own.
    #[serde(default)]
    pub supersedes: Vec<RotationId>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "snake_case")]
pub enum Cause {
    Scheduled,
    Requested { by: String, reason: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "haste", rename_all = "snake_case")]
pub enum Haste {
    None,
    /// Something leaked: waits and windows are skipped, proofs never.
    Emergency {
        suspect: Suspect,
    },
}

/// What leaked, as seen by this rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suspect {
    /// The value that was in use when the rotation began.
    Older,
    /// The candidate.
    Newer,
}

/// The facts of policy and rotator that decide which steps there are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    pub source: Source,
    /// There was no old value: `[] -> [new]`.
    pub creation: bool,
    /// A system accepts or refuses the credential.
    pub target: bool,
    /// The target can be told to refuse the old value in a way that can be taken back.
    pub reversible: bool,
    /// Everybody must accept the new value before anybody uses it.
    pub introduces: bool,
    /// Consumers see more than the first of the list.
    pub shows_a_second: bool,
    /// Revoking is done by a person at the provider.
    pub confirmed_by_person: bool,
    pub hooks: BTreeSet<HookPoint>,
}

/// Where the candidate comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Generated here, before anything else happens.
    Generated,
    /// A person hands it in.
    Submitted,
    /// The target makes it and shows it once.
    Created,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    Running {
        step: Step,
        attempt: Attempt,
    },
    /// A person decides: resume, roll back, abandon.
    Held {
        step: Step,
        intent: Option<Intent>,
        reason: HoldReason,
        since: Timestamp,
    },
    Ended {
        outcome: Outcome,
        at: Timestamp,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Completed,
    RolledBack,
    Abandoned,
    Superseded,
}

/// How far the current step is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// When the step was entered; its deadline counts from here.
    pub since: Timestamp,
    /// Failures in a row.
    pub failures: u32,
    /// Nothing is tried before.
    pub not_before: Timestamp,
    /// An effect that was begun and whose outcome is not recorded: unknown, never failed.
    pub intent: Option<Intent>,
    /// What the step is waiting for, in words.
    pub waiting: Option<String>,
}

impl Attempt {
    #[must_use]
    pub fn fresh(now: Timestamp) -> Self {
        Self { since: now, failures: 0, not_before: now, intent: None, waiting: None }
    }
}

/// An effect that may have happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    pub effect: EffectNo,
    pub at: Timestamp,
    /// Counts the distinct contents that this step tried to write; part of the write token.
    pub attempt: u32,
    /// What stood at each place right before, for compare-and-set.
    pub bases: BTreeMap<String, Option<VersionRef>>,
}

/// What is known to have happened. Never a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Facts {
    /// Steps whose success is recorded.
    pub done: BTreeSet<Step>,
    /// Steps whose intent is recorded: a rollback assumes that they happened.
    pub attempted: BTreeSet<Step>,
    pub old: Option<VersionRef>,
    pub new: Option<VersionRef>,
    /// The target's own name of the credential (a role, a key id), where it has one.
    pub old_identity: Option<String>,
    pub new_identity: Option<String>,
    /// The last publication whose outcome is recorded.
    pub publication: Option<Publication>,
    pub promoted_at: Option<Timestamp>,
    pub disabled_at: Option<Timestamp>,
    /// When a person confirmed the provider's revoke.
    pub confirmed_at: Option<Timestamp>,
    pub watch: Watch,
    pub idle_at: Option<Timestamp>,
    /// Since when what needs that evidence fails, however often it was gathered again meanwhile.
    #[serde(default)]
    pub failing_since: Option<Timestamp>,
    /// When the way back last changed what signs; `Cooldown` counts from the end of that rollout.
    pub demoted_at: Option<Timestamp>,
    /// Evidence from before this moment passes no gate.
    pub evidence_after: Option<Timestamp>,
    /// Check readings from before the promotion, by consumer and check.
    pub baseline: BTreeMap<String, f64>,
    /// Whether refusal of the old value was proven, in words for history.
    pub refusal: Option<String>,
}

/// One recorded publication.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publication {
    pub list: List,
    /// When its outcome was recorded: the last mirror's.
    pub at: Timestamp,
    /// Which version each place shows.
    pub refs: BTreeMap<StoreId, BTreeMap<String, VersionRef>>,
}

/// What a look at a consumer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Healthy,
    Unhealthy,
    /// Could not be read, or there is no data. Never passes a gate.
    Unknown,
}

/// The observations since promotion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct Watch {
    pub healthy: u32,
    /// Unhealthy rounds since the last healthy one; one that could not be read is passed over.
    pub failures_in_row: u32,
    /// Rounds in a row that could not be read.
    #[serde(default)]
    pub unread_in_row: u32,
    /// Time that was observed and found healthy: it ended in a healthy round.
    pub observed: SignedDuration,
    pub last_at: Option<Timestamp>,
}

impl Rotation {
    /// A rotation at its first step.
    #[must_use]
    pub fn open(id: RotationId, secret: SecretId, order: Order, shape: Shape, now: Timestamp) -> Self {
        let facts = Facts::default();
        let first = plan::next(&order, &shape, &facts, false);
        Self {
            id,
            secret,
            order,
            shape,
            facts,
            state: match first {
                Some(step) => State::Running { step, attempt: Attempt::fresh(now) },
                None => State::Ended { outcome: Outcome::Completed, at: now },
            },
        }
    }

    /// The phase that people see.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Running { step, .. } => step.phase(),
            State::Held { .. } => Phase::Held,
            State::Ended { outcome, .. } => match outcome {
                Outcome::Completed => Phase::Completed,
                Outcome::RolledBack => Phase::RolledBack,
                Outcome::Abandoned => Phase::Abandoned,
                Outcome::Superseded => Phase::Superseded,
            },
        }
    }

    /// The step that is running or held.
    #[must_use]
    pub fn step(&self) -> Option<Step> {
        match &self.state {
            State::Running { step, .. } | State::Held { step, .. } => Some(*step),
            State::Ended { .. } => None,
        }
    }

    /// The effect whose outcome is not known yet.
    #[must_use]
    pub fn open_intent(&self) -> Option<&Intent> {
        match &self.state {
            State::Running { attempt, .. } => attempt.intent.as_ref(),
            State::Held { intent, .. } => intent.as_ref(),
            State::Ended { .. } => None,
        }
    }

    /// What consumers read by the last recorded publication.
    #[must_use]
    pub fn list(&self) -> List {
        self.facts
            .publication
            .as_ref()
            .map_or(if self.shape.creation { List::Nothing } else { List::Old }, |publication| {
                publication.list
            })
    }

    /// The rollout of the last publication, where it is finished.
    #[must_use]
    pub fn finished_rollout(&self) -> Option<Step> {
        let latest_first =
            [Step::Reject, Step::Demote, Step::Reaccept, Step::Withdraw, Step::Promote, Step::Introduce];
        let last = latest_first.into_iter().find(|step| self.facts.done.contains(step))?;
        last.followed_by().filter(|rollout| self.facts.done.contains(rollout))
    }

    /// The latest moment that is recorded: no clock that goes right is before it.
    #[must_use]
    pub fn clock_mark(&self) -> Option<Timestamp> {
        let facts = &self.facts;
        let began = match &self.state {
            State::Running { attempt, .. } => Some(attempt.since),
            State::Held { since, .. } => Some(*since),
            State::Ended { at, .. } => Some(*at),
        };
        let intended = self.open_intent().map(|intent| intent.at);
        let published = facts.publication.as_ref().map(|publication| publication.at);
        let waited_for = [facts.promoted_at, facts.disabled_at, facts.demoted_at, facts.idle_at];
        let watched = [facts.watch.last_at, facts.confirmed_at, facts.evidence_after];
        [began, intended, published].into_iter().chain(waited_for).chain(watched).flatten().max()
    }

    /// True once the intent to revoke stands: nothing can bring the old value back.
    #[must_use]
    pub fn is_past_undo(&self) -> bool {
        self.facts.attempted.contains(&Step::Revoke)
            || self.facts.confirmed_at.is_some()
            || self.facts.attempted.contains(&Step::Purge)
    }

    #[must_use]
    pub fn is_emergency(&self) -> bool {
        matches!(self.order.haste, Haste::Emergency { .. })
    }
}
