use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::{ConsumerId, EffectNo, Epoch, Incarnation, RotationId, SecretId};
use rota_core::policy::CompactPolicy;
use rota_core::policy::model::{ConsumerPolicy, Policy, PolicyEntry, Priority};
use rota_core::rotation::{Publication, RolloutEvidence, Rotation, Step, Suspect};
use serde::{Deserialize, Serialize};

use super::check::Reading;
use super::notifier::{Notice, OutboxClaim};

/// Why a record was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Somebody else holds the row now, or an order came between. Stop and claim anew.
    #[error("the lease on this row was taken over")]
    Stale,
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A secret that is due soon or past due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upcoming {
    pub secret: SecretId,
    pub due: Timestamp,
    /// A person hands in the value of the rotation in flight, or of the next one.
    pub waits_for_person: bool,
    /// The step that the rotation in flight is in, or held in; `None` without one.
    pub step: Option<Step>,
    /// What the rotation in flight waits for.
    pub waiting: Option<String>,
}

/// The policy that all replicas act on.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptedPolicy {
    pub version: i64,
    pub digest: String,
    pub policy: Arc<CompactPolicy>,
    pub by: String,
    pub at: Timestamp,
}

/// A secret whose rotation should start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueSecret {
    pub secret: SecretId,
    /// The due date that a rotation now would serve.
    pub due: Option<Timestamp>,
    pub priority: Priority,
    /// The order that asked for it, where it is not the schedule.
    pub order: Option<PendingOrder>,
    /// The store has a value that this journal promoted or adopted.
    pub exists: bool,
}

/// A rotation to be opened.
#[derive(Debug, Clone, PartialEq)]
pub struct NewRotation {
    pub rotation: Rotation,
    pub policy: PolicyEntry,
    /// What must have no other rotation in flight beside the secret itself: target
    /// identities and (store, path, field).
    pub exclusive: Vec<String>,
    pub order: Option<OrderId>,
    /// Ends this one as superseded in the same transaction.
    pub supersedes: Option<RotationId>,
    pub history: Vec<HistoryEntry>,
    pub notices: Vec<Notice>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    Yes,
    /// Another rotation is in flight for the secret, its target or its place, or was
    /// since [`Journal::due`] said that this one should start.
    InFlight,
    /// Something left alive by an earlier rotation has to be reconciled first.
    Blocked {
        why: String,
    },
}

/// A rotation that this process may work on until `lease_until`.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    pub rotation: Rotation,
    /// The copy that the rotation took when it started.
    pub policy: Arc<PolicyEntry>,
    pub incarnation: Incarnation,
    pub epoch: Epoch,
    /// The last effect number of the secret; the next one is greater.
    pub last_effect: EffectNo,
    pub lease_until: Timestamp,
    /// The journal's clock.
    pub now: Timestamp,
    /// Orders that nobody handled yet, oldest first.
    pub orders: Vec<PendingOrder>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OrderId(pub i64);

/// What a person asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingOrder {
    pub id: OrderId,
    pub secret: SecretId,
    pub kind: OrderKind,
    /// The database identity and the given name.
    pub by: String,
    pub reason: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum OrderKind {
    Rotate,
    /// `None`: both leaked.
    Emergency {
        suspect: Option<Suspect>,
    },
    Hold,
    Resume,
    Rollback,
    Abandon,
    /// A person put the candidate into the slot.
    Submitted,
    /// A person revoked the old key at the provider.
    Confirm,
}

/// One line of `rotation_history`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// `rotation.opened`, `step.intended`, `step.done`, `step.failed`, `order.applied`, ...
    pub kind: String,
    pub secret: Option<SecretId>,
    pub rotation: Option<RotationId>,
    pub step: Option<Step>,
    pub effect: Option<EffectNo>,
    pub actor: String,
    pub detail: serde_json::Value,
}

impl HistoryEntry {
    /// That a rotation asked for rollouts: by consumer the generation that serves it. The
    /// rollout's own lines name both.
    #[must_use]
    pub fn rollouts_asked(rotation: &Rotation, generations: &BTreeMap<ConsumerId, i64>, actor: &str) -> Self {
        Self {
            kind: "rollout.asked".to_owned(),
            secret: Some(rotation.secret.clone()),
            rotation: Some(rotation.id),
            step: rotation.step(),
            effect: None,
            actor: actor.to_owned(),
            detail: serde_json::json!({ "rollouts": generations }),
        }
    }
}

/// One look at one check of one consumer.
#[derive(Debug, Clone, PartialEq)]
pub struct Observation {
    pub consumer: Option<ConsumerId>,
    pub check: String,
    pub reading: Reading,
}

/// The new value is what consumers use from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promotion {
    pub at: Timestamp,
    /// The due date that this rotation served, for calendars.
    pub served: Option<Timestamp>,
    pub next_due: Option<Timestamp>,
    /// When the next rotation starts: `next_due` less the lead.
    pub next_start: Option<Timestamp>,
}

/// Everything that one transaction records for a rotation.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub rotation: Rotation,
    pub history: Vec<HistoryEntry>,
    pub notices: Vec<Notice>,
    pub observations: Vec<Observation>,
    /// Consumers that must roll out from now on. An emergency's end what is under way of
    /// them as failed with [`TAKEN_OVER`], and begin at once.
    pub rollouts: Vec<ConsumerPolicy>,
    pub publication: Option<Publication>,
    pub promotion: Option<Promotion>,
    /// Orders that this record answers, with what became of each.
    pub handled: Vec<(OrderId, String)>,
    /// Something left alive that people must see: what it is.
    pub orphan: Option<String>,
    /// Keeps the secret from rotating until a person reconciles it: why.
    pub blocked: Option<String>,
    /// When the schedule may try again, where that is not the next due date
    /// (after a rollback; at once after a leaked candidate was undone).
    pub next_start: Option<Timestamp>,
    /// The last effect number used.
    pub last_effect: EffectNo,
}

/// Why a rollout ended for which an emergency did not wait.
pub const TAKEN_OVER: &str = "an emergency's rollout took over";

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RolloutState {
    Requested,
    /// The intent is recorded; whether the start happened is unknown.
    Starting,
    Begun {
        handle: serde_json::Value,
        memory: serde_json::Value,
    },
    Finished,
    Failed {
        detail: String,
    },
}

/// A rollout that this process may work on.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutClaim {
    pub consumer: ConsumerPolicy,
    pub generation: i64,
    pub state: RolloutState,
    /// The latest publication that it serves.
    pub published_at: Timestamp,
    pub requested_at: Timestamp,
    /// When the intent to start was recorded.
    pub begun_at: Option<Timestamp>,
    pub failures: u32,
    pub epoch: Epoch,
    pub now: Timestamp,
    /// The last publication of each secret that the consumer uses, with its policy copy.
    pub publications: BTreeMap<SecretId, (PolicyEntry, Publication)>,
}

/// Everything that one transaction records for a rollout.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutRecord {
    pub state: RolloutState,
    pub failures: u32,
    /// When to look again; `None` once it has ended.
    pub wake_at: Option<Timestamp>,
    pub history: Vec<HistoryEntry>,
    pub notices: Vec<Notice>,
}

/// What the journal says about its own past, to be compared with what stands outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Past {
    pub incarnation: Incarnation,
    /// When the incarnation began: what is older outside belongs to an earlier life.
    pub began_at: Timestamp,
    /// The last epoch that anybody took.
    pub epoch: Epoch,
    /// The latest moment that anything was recorded at. No clock that goes right is
    /// before it.
    pub latest: Option<Timestamp>,
    /// Every rotation of the secret.
    pub rotations: BTreeSet<RotationId>,
}

/// The durable memory: what is due, what is in flight, what happened.
///
/// Every time that it returns is its own clock's. A record is made only where the
/// epoch is still the caller's; an order by a person raises the epoch.
#[async_trait]
pub trait Journal: Send + Sync {
    /// The journal's clock.
    ///
    /// # Errors
    /// A passing fault.
    async fn now(&self) -> Result<Timestamp, Fault>;

    /// The accepted policy; `None` where there is none or its version is `known`.
    ///
    /// # Errors
    /// A passing fault.
    async fn accepted_policy(&self, known: Option<i64>) -> Result<Option<AcceptedPolicy>, Fault>;

    /// Makes `policy` the one that all replicas act on, and creates or updates the
    /// rows of its secrets. Accepting the current digest again changes nothing.
    ///
    /// # Errors
    /// A passing fault.
    async fn accept_policy(&self, policy: &Policy, digest: &str, by: &str) -> Result<AcceptedPolicy, Fault>;

    /// Secrets whose rotation should start by `now`, by priority and then by due
    /// date: scheduled ones without a rotation in flight, and orders to rotate.
    ///
    /// # Errors
    /// A passing fault.
    async fn due(&self, limit: u32) -> Result<(Timestamp, Vec<DueSecret>), Fault>;

    /// Opens a rotation. Answers an order in the same transaction.
    ///
    /// # Errors
    /// A passing fault.
    async fn open(&self, new: NewRotation) -> Result<Opened, Fault>;

    /// Says why an order or a due date led to no rotation; tries again after `retry_at`.
    /// Says nothing where another process opened one or answered the order meanwhile.
    ///
    /// # Errors
    /// A passing fault.
    async fn postpone(
        &self,
        due: &DueSecret,
        why: &str,
        retry_at: Timestamp,
        notices: Vec<Notice>,
    ) -> Result<(), Fault>;

    /// Answers an order that leads to nothing.
    ///
    /// # Errors
    /// A passing fault.
    async fn refuse_order(&self, order: OrderId, why: &str) -> Result<(), Fault>;

    /// Orders of secrets that have no rotation in flight, other than to rotate.
    ///
    /// # Errors
    /// A passing fault.
    async fn stray_orders(&self) -> Result<Vec<PendingOrder>, Fault>;

    /// Takes one rotation that is awake and whose lease is free or lapsed, with a new epoch.
    ///
    /// # Errors
    /// A passing fault.
    async fn claim(&self, holder: &str, lease: SignedDuration) -> Result<Option<Claim>, Fault>;

    /// Prolongs the lease; returns its new end.
    ///
    /// # Errors
    /// [`JournalError::Stale`] where the row is no longer ours.
    async fn renew(&self, claim: &Claim, lease: SignedDuration) -> Result<Timestamp, JournalError>;

    /// Records state, history, notices and the rest in one transaction; returns the
    /// journal's clock. Used for intents and outcomes alike.
    ///
    /// # Errors
    /// [`JournalError::Stale`] where the row is no longer ours; nothing was recorded.
    async fn record(&self, claim: &Claim, record: Record) -> Result<Timestamp, JournalError>;

    /// Gives the lease back; the rotation sleeps until `wake_at` or the next order.
    ///
    /// # Errors
    /// [`JournalError::Stale`] where the row is no longer ours.
    async fn release(&self, claim: &Claim, wake_at: Timestamp) -> Result<(), JournalError>;

    /// How far the consumers' rollouts are for a publication at `since`.
    ///
    /// # Errors
    /// A passing fault.
    async fn rollouts(
        &self,
        consumers: &[ConsumerId],
        since: Timestamp,
    ) -> Result<BTreeMap<ConsumerId, RolloutEvidence>, Fault>;

    /// Takes one rollout that is awake; at most one of a consumer is under way. A
    /// publication that asks for a rollout while it is claimed and has not begun makes
    /// the claim stale, so that none begins without knowing what it serves.
    ///
    /// # Errors
    /// A passing fault.
    async fn claim_rollout(&self, holder: &str, lease: SignedDuration)
    -> Result<Option<RolloutClaim>, Fault>;

    /// Records a rollout's new state and gives its lease back, except for
    /// [`RolloutState::Starting`], which sets `begun_at` and keeps it; finished and
    /// failed ones wake the rotations that wait for them.
    ///
    /// # Errors
    /// [`JournalError::Stale`] where the row is no longer ours.
    async fn record_rollout(
        &self,
        claim: &RolloutClaim,
        record: RolloutRecord,
    ) -> Result<Timestamp, JournalError>;

    /// Takes undelivered notices of a channel, in order.
    ///
    /// # Errors
    /// A passing fault.
    async fn claim_notices(
        &self,
        channel: &str,
        limit: u32,
        lease: SignedDuration,
    ) -> Result<Option<OutboxClaim>, Fault>;

    /// Records a delivery, or when to try again and why.
    ///
    /// # Errors
    /// A passing fault.
    async fn record_delivery(
        &self,
        claim: &OutboxClaim,
        outcome: Result<(), (Fault, Timestamp)>,
    ) -> Result<(), Fault>;

    /// Secrets whose due date has passed or lies within `horizon`, in use and not removed.
    ///
    /// # Errors
    /// A passing fault.
    async fn upcoming(&self, horizon: SignedDuration) -> Result<(Timestamp, Vec<Upcoming>), Fault>;

    /// The journal's own past, as far as one secret is concerned.
    ///
    /// # Errors
    /// A passing fault.
    async fn past(&self, secret: &SecretId) -> Result<Past, Fault>;

    /// Stops every process from claiming and opening, until a person has begun the next
    /// incarnation: something outside is ahead of the journal. The first reason stays;
    /// `notice` is added with it.
    ///
    /// # Errors
    /// A passing fault.
    async fn distrust(&self, why: &str, notice: Notice) -> Result<(), Fault>;

    /// Adds notices that belong to no rotation (reminders, overdue alerts, the digest).
    ///
    /// # Errors
    /// A passing fault.
    async fn notify(&self, notices: Vec<Notice>) -> Result<(), Fault>;
}
