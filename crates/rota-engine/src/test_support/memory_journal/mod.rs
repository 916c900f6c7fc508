//! The journal in memory, with the promises of the real one: each call is one
//! transaction, records need the row's epoch, orders raise it.
//!
//! Deliberately absent: durability. What a database that fails over does to the
//! last commits is switched on with [`MemoryJournal::keep_last_commit`].

mod port;
mod tables;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::SecretId;
use rota_core::policy::model::Priority;

use super::wire::Wire;
use crate::guard::{Guard, Guards};
use crate::ports::{OrderId, OrderKind, PendingOrder};

pub use tables::{DeliveryRow, HistoryRow, OrderRow, OutboxRow, RolloutRow, RotationRow, SecretRow, Tables};

/// Clones are one journal.
#[derive(Clone)]
pub struct MemoryJournal {
    wire: Wire,
    state: Arc<Mutex<State>>,
}

struct State {
    tables: Tables,
    /// How far the journal's clock is from the true time.
    offset: SignedDuration,
    /// What a failover would bring back, where commits may be lost.
    before_last_commit: Option<Tables>,
    keeps_last_commit: bool,
}

impl MemoryJournal {
    #[must_use]
    pub fn new(wire: Wire) -> Self {
        Self::with_guards(wire, Guards::default())
    }

    /// A journal with planted bugs.
    #[must_use]
    pub fn with_guards(wire: Wire, guards: Guards) -> Self {
        let state = State {
            tables: Tables::new(guards),
            offset: SignedDuration::ZERO,
            before_last_commit: None,
            keeps_last_commit: false,
        };
        Self { wire, state: Arc::new(Mutex::new(state)) }
    }

    /// Reads the rows without a call of the port.
    pub fn look<T>(&self, reader: impl FnOnce(&Tables) -> T) -> T {
        reader(&self.state().tables)
    }

    /// The journal's clock, without a call of the port.
    #[must_use]
    pub fn clock_now(&self) -> Timestamp {
        let offset = self.state().offset;
        self.wire.clock().now().saturating_add(offset).unwrap_or(Timestamp::MAX)
    }

    /// Sets how far the journal's clock is from the true time.
    pub fn set_clock_offset(&self, offset: SignedDuration) {
        self.state().offset = offset;
    }

    /// From now on [`MemoryJournal::lose_last_commit`] works; costs a copy of everything a commit.
    pub fn keep_last_commit(&self) {
        self.state().keeps_last_commit = true;
    }

    /// A failover to a standby that had not received the last commit. False where
    /// there was none since the last failover.
    pub fn lose_last_commit(&self) -> bool {
        let mut state = self.state();
        let Some(mut before) = state.before_last_commit.take() else { return false };
        // A sequence is not transactional: its numbers do not come again.
        before.last_epoch = before.last_epoch.max(state.tables.last_epoch);
        state.tables = before;
        true
    }

    /// Everything as it is now.
    #[must_use]
    pub fn back_up(&self) -> Tables {
        self.state().tables.clone()
    }

    /// Puts a backup in place of everything, the sequence of epochs included.
    pub fn restore(&self, backup: Tables) {
        self.state().tables = backup;
    }

    /// What a person asks for. Raises the epoch of the rotation in flight, so that a
    /// holder records nothing any more, and wakes it.
    pub fn order(&self, secret: &SecretId, kind: OrderKind, by: &str, reason: &str) -> OrderId {
        let now = self.clock_now();
        let mut state = self.state();
        let tables = state.begin();
        let id = OrderId(tables.orders.last_key_value().map_or(1, |(id, _)| id.0 + 1));
        let order = PendingOrder {
            id,
            secret: secret.clone(),
            kind,
            by: by.to_owned(),
            reason: reason.to_owned(),
            at: now,
        };
        tables.orders.insert(id, OrderRow { order, answer: None, not_before: now });
        let raise = tables.guards.stand(Guard::OrdersRaiseTheEpoch);
        let epoch = tables.next_epoch();
        let row = tables.rotations.values_mut().find(|row| row.in_flight() && row.rotation.secret == *secret);
        if let Some(row) = row {
            row.wake_at = now;
            if raise {
                row.epoch = epoch;
                row.lease_until = None;
            }
        }
        id
    }

    /// Tells of a value that is in use: when it was promoted, where that is known, and
    /// when the next one is due.
    pub fn adopt(
        &self,
        secret: &SecretId,
        promoted: Option<Timestamp>,
        next_due: Option<Timestamp>,
        next_start: Option<Timestamp>,
    ) {
        let mut state = self.state();
        let row = state.begin().secret(secret);
        row.exists = true;
        row.last_promoted = promoted;
        row.next_due = next_due;
        row.next_start = next_start;
    }

    /// Nothing starts by itself any more for `secret`, until its next promotion.
    pub fn pause_schedule(&self, secret: &SecretId) {
        self.state().begin().secret(secret).next_start = None;
    }

    /// A person has reconciled what kept `secret` from rotating.
    pub fn unblock(&self, secret: &SecretId) {
        self.state().begin().secret(secret).blocked = None;
    }

    /// When something is to be done next, by this journal's clock: a rotation or a
    /// rollout wakes, a lease lapses, a secret is due, a notice is tried again.
    #[must_use]
    pub fn next_wake(&self) -> Option<Timestamp> {
        let state = self.state();
        let tables = &state.tables;
        let rotations = tables
            .rotations
            .values()
            .filter(|row| row.in_flight())
            .map(|row| row.lease_until.map_or(row.wake_at, |until| until.max(row.wake_at)));
        let rollouts = tables
            .rollouts
            .iter()
            .filter(|row| !row.has_ended())
            .filter_map(|row| row.wake_at.map(|at| row.lease_until.map_or(at, |until| until.max(at))));
        let due = tables
            .secrets
            .iter()
            .filter(|(id, row)| row.in_policy && row.blocked.is_none() && tables.in_flight(id).is_none())
            .filter_map(|(_, row)| row.next_start);
        let orders = tables.orders.values().filter(|row| row.answer.is_none()).map(|row| row.not_before);
        rotations.chain(rollouts).chain(due).chain(orders).min()
    }

    /// Every row as text, to look for what must not be there.
    #[must_use]
    pub fn dump(&self) -> String {
        let state = self.state();
        let tables = &state.tables;
        let orders: BTreeMap<_, _> = tables.orders.iter().collect();
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?}",
            tables.secrets,
            tables.rotations,
            orders,
            tables.rollouts,
            tables.publications,
            tables.observations,
            tables.history,
            tables.outbox
        )
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call of the port: a transaction that reads and maybe writes.
    async fn transaction<T, E>(
        &self,
        name: &'static str,
        detail: String,
        effect: impl FnOnce(&mut Tables, Timestamp) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send,
        E: From<Fault> + std::fmt::Display + Send,
    {
        let journal = self.clone();
        self.wire
            .call("journal", name, detail, move || {
                let now = journal.clock_now();
                effect(journal.state().begin(), now)
            })
            .await
    }
}

impl State {
    /// Every transaction begins here.
    fn begin(&mut self) -> &mut Tables {
        if self.keeps_last_commit {
            self.before_last_commit = Some(self.tables.clone());
        }
        &mut self.tables
    }
}

/// The priority that orders of due secrets go by.
fn priority_of(tables: &Tables, secret: &SecretId) -> Priority {
    tables.secrets.get(secret).map_or(Priority::Medium, |row| row.priority)
}
