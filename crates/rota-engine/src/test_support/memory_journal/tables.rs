//! The rows of the journal in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::{ConsumerId, EffectNo, Epoch, Incarnation, RotationId, SecretId};
use rota_core::policy::model::{ConsumerPolicy, PolicyEntry, Priority};
use rota_core::rotation::{Publication, Rotation};

use crate::guard::Guards;
use crate::ports::{
    AcceptedPolicy, HistoryEntry, Notice, Observation, OrderId, OrderKind, PendingOrder, RolloutState,
    TAKEN_OVER,
};

/// Everything that a commit keeps.
#[derive(Clone)]
pub struct Tables {
    /// Read by the simulator too; never changed after the start.
    pub guards: Guards,
    pub incarnation: Incarnation,
    pub began_at: Timestamp,
    /// Why nothing is claimed.
    pub distrusted: Option<String>,
    /// The one sequence of epochs.
    pub last_epoch: i64,
    pub policy: Option<AcceptedPolicy>,
    pub secrets: BTreeMap<SecretId, SecretRow>,
    pub rotations: BTreeMap<RotationId, RotationRow>,
    pub orders: BTreeMap<OrderId, OrderRow>,
    pub rollouts: Vec<RolloutRow>,
    pub publications: BTreeMap<SecretId, (PolicyEntry, Publication)>,
    pub observations: Vec<(Timestamp, RotationId, Observation)>,
    pub history: Vec<HistoryRow>,
    pub outbox: Vec<OutboxRow>,
    pub channel_leases: BTreeMap<String, Timestamp>,
}

#[derive(Debug, Clone)]
pub struct SecretRow {
    pub priority: Priority,
    /// False once the policy names it no longer.
    pub in_policy: bool,
    /// A value of this secret was promoted or adopted.
    pub exists: bool,
    pub last_promoted: Option<Timestamp>,
    pub next_due: Option<Timestamp>,
    pub next_start: Option<Timestamp>,
    pub last_effect: EffectNo,
    /// Why no rotation may start.
    pub blocked: Option<String>,
    /// What stays alive and was shown to people.
    pub orphans: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct RotationRow {
    pub rotation: Rotation,
    pub policy: Arc<PolicyEntry>,
    pub exclusive: Vec<String>,
    pub epoch: Epoch,
    pub holder: String,
    pub lease_until: Option<Timestamp>,
    pub wake_at: Timestamp,
    pub opened_at: Timestamp,
    /// Counts the rotations as they were opened.
    pub number: usize,
}

impl RotationRow {
    #[must_use]
    pub fn in_flight(&self) -> bool {
        self.rotation.step().is_some()
    }
}

#[derive(Debug, Clone)]
pub struct OrderRow {
    pub order: PendingOrder,
    /// What became of it.
    pub answer: Option<String>,
    pub not_before: Timestamp,
}

#[derive(Debug, Clone)]
pub struct RolloutRow {
    pub consumer: ConsumerPolicy,
    pub generation: i64,
    pub state: RolloutState,
    pub published_at: Timestamp,
    pub requested_at: Timestamp,
    pub begun_at: Option<Timestamp>,
    pub failures: u32,
    pub epoch: Epoch,
    pub lease_until: Option<Timestamp>,
    pub wake_at: Option<Timestamp>,
}

impl RolloutRow {
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.state, RolloutState::Finished | RolloutState::Failed { .. })
    }

    pub(super) fn is_under_way(&self) -> bool {
        matches!(self.state, RolloutState::Starting | RolloutState::Begun { .. })
    }
}

#[derive(Debug, Clone)]
pub struct OutboxRow {
    pub number: i64,
    pub notice: Notice,
    pub deliveries: BTreeMap<String, DeliveryRow>,
}

#[derive(Debug, Clone, Default)]
pub struct DeliveryRow {
    pub delivered_at: Option<Timestamp>,
    pub failures: u32,
    pub not_before: Option<Timestamp>,
    pub last_fault: Option<String>,
}

/// One line of one chain.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryRow {
    /// The secret's name, or empty for the system's own.
    pub chain: String,
    pub seq: i64,
    pub at: Timestamp,
    pub entry: HistoryEntry,
}

impl Tables {
    pub(super) fn new(guards: Guards) -> Self {
        Self {
            guards,
            incarnation: Incarnation(1),
            began_at: Timestamp::MIN,
            distrusted: None,
            last_epoch: 0,
            policy: None,
            secrets: BTreeMap::new(),
            rotations: BTreeMap::new(),
            orders: BTreeMap::new(),
            rollouts: Vec::new(),
            publications: BTreeMap::new(),
            observations: Vec::new(),
            history: Vec::new(),
            outbox: Vec::new(),
            channel_leases: BTreeMap::new(),
        }
    }

    pub(super) fn must_be_trusted(&self) -> Result<(), Fault> {
        self.distrusted.as_ref().map_or(Ok(()), |why| Err(Fault::invalid(why.clone())))
    }

    pub(super) fn next_epoch(&mut self) -> Epoch {
        self.last_epoch += 1;
        Epoch(self.last_epoch)
    }

    /// The rotation of `secret` that has not ended.
    #[must_use]
    pub fn in_flight(&self, secret: &SecretId) -> Option<&RotationRow> {
        self.rotations.values().find(|row| row.in_flight() && row.rotation.secret == *secret)
    }

    /// The newest rotation of `secret`, ended or not.
    #[must_use]
    pub fn latest(&self, secret: &SecretId) -> Option<&RotationRow> {
        self.rotations.values().filter(|row| row.rotation.secret == *secret).max_by_key(|row| row.number)
    }

    pub(super) fn secret(&mut self, id: &SecretId) -> &mut SecretRow {
        self.secrets.entry(id.clone()).or_insert_with(|| SecretRow {
            priority: Priority::Medium,
            in_policy: false,
            exists: false,
            last_promoted: None,
            next_due: None,
            next_start: None,
            last_effect: EffectNo(0),
            blocked: None,
            orphans: Vec::new(),
        })
    }

    pub(super) fn append(&mut self, at: Timestamp, entries: Vec<HistoryEntry>) {
        for entry in entries {
            let chain = entry.secret.as_ref().map(ToString::to_string).unwrap_or_default();
            let before = self.history.iter().rev().find(|row| row.chain == chain);
            let seq = before.map_or(1, |row| row.seq + 1);
            self.history.push(HistoryRow { chain, seq, at, entry });
        }
    }

    pub(super) fn publish_notices(&mut self, notices: Vec<Notice>) {
        for notice in notices {
            if self.outbox.iter().any(|row| row.notice.key == notice.key) {
                continue;
            }
            let number = self.outbox.last().map_or(1, |row| row.number + 1);
            self.outbox.push(OutboxRow { number, notice, deliveries: BTreeMap::new() });
        }
    }

    pub(super) fn answer(&mut self, order: OrderId, answer: &str) {
        if let Some(row) = self.orders.get_mut(&order) {
            row.answer.get_or_insert_with(|| answer.to_owned());
        }
    }

    /// Asks for a rollout of `consumer`: one that waits takes it along, else a new
    /// generation is made. Returns the generation.
    pub(super) fn request_rollout(&mut self, consumer: ConsumerPolicy, now: Timestamp) -> i64 {
        let epoch = self.next_epoch();
        let waiting =
            |row: &&mut RolloutRow| row.consumer.id == consumer.id && row.state == RolloutState::Requested;
        if let Some(row) = self.rollouts.iter_mut().find(waiting) {
            row.requested_at = now;
            row.published_at = now;
            row.consumer = consumer;
            row.wake_at = Some(now);
            // Whoever claimed it must not start it without knowing this publication.
            row.epoch = epoch;
            row.lease_until = None;
            return row.generation;
        }
        let generation = self
            .rollouts
            .iter()
            .filter(|row| row.consumer.id == consumer.id)
            .map(|row| row.generation)
            .max()
            .map_or(1, |last| last + 1);
        self.rollouts.push(RolloutRow {
            consumer,
            generation,
            state: RolloutState::Requested,
            published_at: now,
            requested_at: now,
            begun_at: None,
            failures: 0,
            epoch,
            lease_until: None,
            wake_at: Some(now),
        });
        generation
    }

    /// Ends the rollout of `consumer` that is under way: an emergency does not wait for it.
    pub(super) fn take_over_rollout(&mut self, consumer: &ConsumerId, now: Timestamp) {
        let epoch = self.next_epoch();
        for row in self.rollouts.iter_mut().filter(|row| row.consumer.id == *consumer) {
            if row.is_under_way() {
                row.state = RolloutState::Failed { detail: TAKEN_OVER.to_owned() };
                row.epoch = epoch;
                row.lease_until = None;
                row.wake_at = None;
            }
        }
        for row in self.rollouts.iter_mut().filter(|row| row.consumer.id == *consumer) {
            row.wake_at = row.wake_at.map(|_| now);
        }
    }

    /// Wakes every rotation that may wait for `consumer`.
    pub(super) fn wake_users_of(&mut self, consumer: &ConsumerId, now: Timestamp) {
        for row in self.rotations.values_mut().filter(|row| row.in_flight()) {
            let now_named = |policy: &AcceptedPolicy| {
                policy.policy.entry(&row.rotation.secret).is_some_and(|e| e.consumers.contains_key(consumer))
            };
            if row.policy.consumers.contains_key(consumer) || self.policy.as_ref().is_some_and(now_named) {
                row.wake_at = now;
            }
        }
    }

    pub(super) fn is_free(lease_until: Option<Timestamp>, now: Timestamp) -> bool {
        lease_until.is_none_or(|until| until <= now)
    }

    pub(super) fn lease_end(now: Timestamp, lease: SignedDuration) -> Timestamp {
        now.saturating_add(lease).unwrap_or(Timestamp::MAX)
    }

    pub(super) fn pending(&self, secret: &SecretId) -> Vec<PendingOrder> {
        self.orders
            .values()
            .filter(|row| row.answer.is_none() && row.order.secret == *secret)
            .map(|row| row.order.clone())
            .collect()
    }
}

/// True for orders that start a rotation where none is in flight.
pub(super) fn starts_a_rotation(kind: &OrderKind) -> bool {
    match kind {
        OrderKind::Rotate | OrderKind::Emergency { .. } => true,
        OrderKind::Hold
        | OrderKind::Resume
        | OrderKind::Rollback
        | OrderKind::Abandon
        | OrderKind::Submitted
        | OrderKind::Confirm => false,
    }
}
