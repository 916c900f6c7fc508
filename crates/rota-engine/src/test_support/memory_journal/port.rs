//! The port, each method one transaction on the tables.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::{ConsumerId, Epoch, RotationId, SecretId};
use rota_core::policy::CompactPolicy;
use rota_core::policy::model::{Policy, PolicyEntry};
use rota_core::rotation::{Event, RolloutEvidence, Rotation, Source, State, apply};
use serde_json::json;

use super::tables::{RolloutRow, RotationRow, Tables, starts_a_rotation};
use super::{MemoryJournal, priority_of};
use crate::guard::Guard;
use crate::ports::{
    AcceptedPolicy, Claim, DueSecret, HistoryEntry, Journal, JournalError, NewRotation, Notice, Opened,
    OrderId, OutboxClaim, Past, PendingOrder, Record, RolloutClaim, RolloutRecord, RolloutState, Upcoming,
};

#[async_trait]
impl Journal for MemoryJournal {
    async fn now(&self) -> Result<Timestamp, Fault> {
        self.transaction("now", String::new(), |_, now| Ok(now)).await
    }

    async fn accepted_policy(&self, known: Option<i64>) -> Result<Option<AcceptedPolicy>, Fault> {
        self.transaction("accepted_policy", String::new(), move |tables, _| {
            Ok(tables.policy.clone().filter(|policy| Some(policy.version) != known))
        })
        .await
    }

    async fn upcoming(&self, horizon: SignedDuration) -> Result<(Timestamp, Vec<Upcoming>), Fault> {
        self.transaction("upcoming", String::new(), move |tables, now| {
            Ok((now, tables.upcoming(now.saturating_add(horizon).unwrap_or(Timestamp::MAX))))
        })
        .await
    }

    async fn accept_policy(&self, policy: &Policy, digest: &str, by: &str) -> Result<AcceptedPolicy, Fault> {
        let compact = CompactPolicy::of(policy).map_err(|error| Fault::invalid(error.to_string()))?;
        let (policy, digest, by) = (Arc::new(compact), digest.to_owned(), by.to_owned());
        self.transaction("accept_policy", digest.clone(), move |tables, now| {
            Ok(tables.accept_policy(policy, digest, by, now))
        })
        .await
    }

    async fn due(&self, limit: u32) -> Result<(Timestamp, Vec<DueSecret>), Fault> {
        self.transaction("due", String::new(), move |tables, now| {
            tables.must_be_trusted()?;
            Ok((now, tables.due(limit, now)))
        })
        .await
    }

    async fn open(&self, new: NewRotation) -> Result<Opened, Fault> {
        let detail = format!("{} {}", new.rotation.secret, new.rotation.id);
        self.transaction("open", detail, move |tables, now| tables.open(new, now)).await
    }

    async fn postpone(
        &self,
        due: &DueSecret,
        why: &str,
        retry_at: Timestamp,
        notices: Vec<Notice>,
    ) -> Result<(), Fault> {
        let (due, why) = (due.clone(), why.to_owned());
        self.transaction("postpone", due.secret.to_string(), move |tables, now| {
            match due.order.as_ref().and_then(|order| tables.orders.get_mut(&order.id)) {
                Some(row) => row.not_before = retry_at,
                None => tables.secret(&due.secret).next_start = Some(retry_at),
            }
            let entry = system_entry("rotation.postponed", &due, &why);
            tables.append(now, vec![entry]);
            tables.publish_notices(notices);
            Ok(())
        })
        .await
    }

    async fn refuse_order(&self, order: OrderId, why: &str) -> Result<(), Fault> {
        let why = why.to_owned();
        self.transaction("refuse_order", order.0.to_string(), move |tables, _| {
            tables.answer(order, &why);
            Ok(())
        })
        .await
    }

    async fn stray_orders(&self) -> Result<Vec<PendingOrder>, Fault> {
        self.transaction("stray_orders", String::new(), |tables, _| {
            Ok(tables
                .orders
                .values()
                .filter(|row| row.answer.is_none() && !starts_a_rotation(&row.order.kind))
                .filter(|row| tables.in_flight(&row.order.secret).is_none())
                .map(|row| row.order.clone())
                .collect())
        })
        .await
    }

    async fn claim(&self, holder: &str, lease: SignedDuration) -> Result<Option<Claim>, Fault> {
        let holder = holder.to_owned();
        self.transaction("claim", String::new(), move |tables, now| {
            tables.must_be_trusted()?;
            Ok(tables.claim(holder, lease, now))
        })
        .await
    }

    async fn renew(&self, claim: &Claim, lease: SignedDuration) -> Result<Timestamp, JournalError> {
        let (id, epoch) = (claim.rotation.id, claim.epoch);
        self.transaction("renew", id.to_string(), move |tables, now| {
            let row = tables.held(id, epoch)?;
            let until = Tables::lease_end(now, lease);
            row.lease_until = Some(until);
            Ok(until)
        })
        .await
    }

    async fn record(&self, claim: &Claim, record: Record) -> Result<Timestamp, JournalError> {
        let (id, epoch) = (claim.rotation.id, claim.epoch);
        let detail = format!("{} {:?}", claim.rotation.secret, record.rotation.state);
        self.transaction("record", detail, move |tables, now| tables.record(id, epoch, record, now)).await
    }

    async fn release(&self, claim: &Claim, wake_at: Timestamp) -> Result<(), JournalError> {
        let (id, epoch) = (claim.rotation.id, claim.epoch);
        self.transaction("release", format!("until {wake_at}"), move |tables, _| {
            let row = tables.held(id, epoch)?;
            row.lease_until = None;
            row.wake_at = wake_at;
            Ok(())
        })
        .await
    }

    async fn rollouts(
        &self,
        consumers: &[ConsumerId],
        since: Timestamp,
    ) -> Result<BTreeMap<ConsumerId, RolloutEvidence>, Fault> {
        let consumers = consumers.to_vec();
        self.transaction("rollouts", format!("since {since}"), move |tables, _| {
            Ok(consumers
                .into_iter()
                .map(|consumer| {
                    let evidence = tables.rollout_evidence(&consumer, since);
                    (consumer, evidence)
                })
                .collect())
        })
        .await
    }

    async fn claim_rollout(
        &self,
        _holder: &str,
        lease: SignedDuration,
    ) -> Result<Option<RolloutClaim>, Fault> {
        self.transaction("claim_rollout", String::new(), move |tables, now| {
            if tables.distrusted.is_some() {
                return Ok(None);
            }
            Ok(tables.claim_rollout(lease, now))
        })
        .await
    }

    async fn record_rollout(
        &self,
        claim: &RolloutClaim,
        record: RolloutRecord,
    ) -> Result<Timestamp, JournalError> {
        let (consumer, generation, epoch) = (claim.consumer.id.clone(), claim.generation, claim.epoch);
        let detail = format!("{consumer} {generation} {:?}", record.state);
        self.transaction("record_rollout", detail, move |tables, now| {
            tables.record_rollout(&consumer, generation, epoch, record, now)
        })
        .await
    }

    async fn claim_notices(
        &self,
        channel: &str,
        limit: u32,
        lease: SignedDuration,
    ) -> Result<Option<OutboxClaim>, Fault> {
        let channel = channel.to_owned();
        self.transaction("claim_notices", channel.clone(), move |tables, now| {
            Ok(tables.claim_notices(channel, limit, lease, now))
        })
        .await
    }

    async fn record_delivery(
        &self,
        claim: &OutboxClaim,
        outcome: Result<(), (Fault, Timestamp)>,
    ) -> Result<(), Fault> {
        let channel = claim.channel.clone();
        let numbers: Vec<i64> = claim.notices.iter().map(|(number, _)| *number).collect();
        self.transaction("record_delivery", channel.clone(), move |tables, now| {
            tables.record_delivery(&channel, &numbers, outcome, now);
            Ok(())
        })
        .await
    }

    async fn past(&self, secret: &SecretId) -> Result<Past, Fault> {
        let secret = secret.clone();
        self.transaction("past", secret.to_string(), move |tables, _| {
            let rotations = tables.rotations.values().filter(|row| row.rotation.secret == secret);
            Ok(Past {
                incarnation: tables.incarnation,
                began_at: tables.began_at,
                epoch: Epoch(tables.last_epoch),
                latest: tables.history.last().map(|row| row.at),
                rotations: rotations.map(|row| row.rotation.id).collect(),
            })
        })
        .await
    }

    async fn distrust(&self, why: &str, notice: Notice) -> Result<(), Fault> {
        let why = why.to_owned();
        self.transaction("distrust", why.clone(), move |tables, _| {
            if tables.distrusted.is_none() {
                tables.distrusted = Some(why);
                tables.publish_notices(vec![notice]);
            }
            Ok(())
        })
        .await
    }

    async fn notify(&self, notices: Vec<Notice>) -> Result<(), Fault> {
        self.transaction("notify", String::new(), move |tables, _| {
            tables.publish_notices(notices);
            Ok(())
        })
        .await
    }
}

fn system_entry(kind: &str, due: &DueSecret, why: &str) -> HistoryEntry {
    HistoryEntry {
        kind: kind.to_owned(),
        secret: Some(due.secret.clone()),
        rotation: None,
        step: None,
        effect: None,
        actor: "journal".to_owned(),
        detail: json!({ "reason": why }),
    }
}

impl Tables {
    fn accept_policy(
        &mut self,
        policy: Arc<CompactPolicy>,
        digest: String,
        by: String,
        at: Timestamp,
    ) -> AcceptedPolicy {
        if let Some(current) = self.policy.as_ref().filter(|current| current.digest == digest) {
            return current.clone();
        }
        for row in self.secrets.values_mut() {
            row.in_policy = false;
        }
        for (id, secret) in &policy.unpack().secrets {
            let row = self.secret(id);
            row.in_policy = true;
            row.priority = secret.priority;
        }
        let version = self.policy.as_ref().map_or(1, |current| current.version + 1);
        let accepted = AcceptedPolicy { version, digest, policy, by, at };
        self.policy = Some(accepted.clone());
        accepted
    }

    fn due(&self, limit: u32, now: Timestamp) -> Vec<DueSecret> {
        let ordered = self
            .orders
            .values()
            .filter(|row| row.answer.is_none() && row.not_before <= now)
            .filter(|row| starts_a_rotation(&row.order.kind))
            .map(|row| (row.order.secret.clone(), Some(row.order.clone())));
        let scheduled = self
            .secrets
            .iter()
            .filter(|(_, row)| row.in_policy && row.blocked.is_none())
            .filter(|(_, row)| row.next_start.is_some_and(|start| start <= now))
            .map(|(id, _)| (id.clone(), None));
        let mut due: Vec<DueSecret> = Vec::new();
        for (secret, order) in ordered.chain(scheduled) {
            if self.in_flight(&secret).is_some() || due.iter().any(|known| known.secret == secret) {
                continue;
            }
            let row = self.secrets.get(&secret);
            due.push(DueSecret {
                due: row.and_then(|row| row.next_due),
                priority: priority_of(self, &secret),
                exists: row.is_some_and(|row| row.exists),
                secret,
                order,
            });
        }
        due.sort_by_key(|due| (due.priority, due.due.unwrap_or(Timestamp::MAX)));
        due.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        due
    }

    /// Secrets in the policy that are due before `until`, in flight or not.
    fn upcoming(&self, until: Timestamp) -> Vec<Upcoming> {
        self.secrets
            .iter()
            .filter(|(_, row)| row.in_policy)
            .filter_map(|(id, row)| Some((id, row.next_due.filter(|due| *due <= until)?)))
            .map(|(id, due)| {
                let rotation = self.in_flight(id).map(|row| &row.rotation);
                Upcoming {
                    secret: id.clone(),
                    due,
                    waits_for_person: rotation
                        .is_some_and(|rotation| rotation.shape.source == Source::Submitted),
                    step: rotation.and_then(Rotation::step),
                    waiting: rotation.and_then(|rotation| match &rotation.state {
                        State::Running { attempt, .. } => attempt.waiting.clone(),
                        State::Held { reason, .. } => Some(reason.message()),
                        State::Ended { .. } => None,
                    }),
                }
            })
            .collect()
    }

    fn open(&mut self, new: NewRotation, now: Timestamp) -> Result<Opened, Fault> {
        let NewRotation { rotation, policy, exclusive, order, supersedes, history, notices } = new;
        if self.rotations.contains_key(&rotation.id) {
            return Ok(Opened::Yes);
        }
        if let Some(why) = self.secrets.get(&rotation.secret).and_then(|row| row.blocked.clone()) {
            return Ok(Opened::Blocked { why });
        }
        let clashes = self.rotations.values().any(|row| {
            row.in_flight()
                && Some(row.rotation.id) != supersedes
                && (row.rotation.secret == rotation.secret
                    || row.exclusive.iter().any(|key| exclusive.contains(key)))
        });
        if clashes && self.guards.stand(Guard::OneRotationInFlight) {
            return Ok(Opened::InFlight);
        }
        let epoch = self.next_epoch();
        if let Some(row) = supersedes.and_then(|id| self.rotations.get_mut(&id)) {
            row.rotation = apply(row.rotation.clone(), Event::Superseded, now)
                .map_err(|illegal| Fault::conflict(illegal.to_string()))?;
            row.epoch = epoch;
            row.lease_until = None;
        }
        let epoch = self.next_epoch();
        self.secret(&rotation.secret);
        if let Some(order) = order {
            self.answer(order, &format!("started rotation {}", rotation.id));
        }
        let row = RotationRow {
            policy: Arc::new(policy),
            exclusive,
            epoch,
            holder: String::new(),
            lease_until: None,
            wake_at: now,
            opened_at: now,
            number: self.rotations.len(),
            rotation,
        };
        self.rotations.insert(row.rotation.id, row);
        self.append(now, history);
        self.publish_notices(notices);
        Ok(Opened::Yes)
    }

    fn claim(&mut self, holder: String, lease: SignedDuration, now: Timestamp) -> Option<Claim> {
        let id = self
            .rotations
            .values()
            .filter(|row| row.in_flight() && row.wake_at <= now && Self::is_free(row.lease_until, now))
            .min_by_key(|row| (row.wake_at, row.rotation.id))?
            .rotation
            .id;
        let epoch = self.next_epoch();
        let until = Self::lease_end(now, lease);
        let keeps_overlap = self.guards.stand(Guard::TheOverlapIsKept);
        let row = self.rotations.get_mut(&id)?;
        row.epoch = epoch;
        row.holder = holder;
        row.lease_until = Some(until);
        let rotation = row.rotation.clone();
        let policy = if keeps_overlap { Arc::clone(&row.policy) } else { without_overlap(&row.policy) };
        let orders = self.pending(&rotation.secret);
        let last_effect = self.secret(&rotation.secret).last_effect;
        Some(Claim {
            rotation,
            policy,
            incarnation: self.incarnation,
            epoch,
            last_effect,
            lease_until: until,
            now,
            orders,
        })
    }

    /// The row, where the caller may still record.
    fn held(&mut self, id: RotationId, epoch: Epoch) -> Result<&mut RotationRow, JournalError> {
        let checks = self.guards.stand(Guard::RecordsCheckTheEpoch);
        let row = self.rotations.get_mut(&id).ok_or(JournalError::Stale)?;
        if checks && row.epoch != epoch { Err(JournalError::Stale) } else { Ok(row) }
    }

    fn record(
        &mut self,
        id: RotationId,
        epoch: Epoch,
        record: Record,
        now: Timestamp,
    ) -> Result<Timestamp, JournalError> {
        let Record {
            rotation,
            history,
            notices,
            observations,
            rollouts,
            publication,
            promotion,
            handled,
            orphan,
            blocked,
            next_start,
            last_effect,
        } = record;
        let hurries = rotation.is_emergency();
        let loses_intents = !self.guards.stand(Guard::IntentsAreKept);
        let row = self.held(id, epoch)?;
        let secret = rotation.secret.clone();
        if loses_intents && rotation.open_intent().is_some() && row.rotation.open_intent().is_none() {
            return Ok(now);
        }
        row.rotation = rotation.clone();
        if !row.in_flight() {
            row.lease_until = None;
        }
        let policy = PolicyEntry::clone(&row.policy);
        let secret_row = self.secret(&secret);
        secret_row.last_effect = secret_row.last_effect.max(last_effect);
        secret_row.orphans.extend(orphan);
        if blocked.is_some() {
            secret_row.blocked = blocked;
        }
        if let Some(promotion) = promotion {
            secret_row.exists = true;
            secret_row.last_promoted = Some(promotion.at);
            secret_row.next_due = promotion.next_due;
            secret_row.next_start = promotion.next_start;
        }
        if next_start.is_some() {
            secret_row.next_start = next_start;
        }
        if let Some(publication) = publication {
            self.publications.insert(secret, (policy, publication));
        }
        let mut asked = BTreeMap::new();
        for consumer in rollouts {
            if hurries {
                self.take_over_rollout(&consumer.id, now);
            }
            asked.insert(consumer.id.clone(), self.request_rollout(consumer, now));
        }
        for (order, answer) in handled {
            self.answer(order, &answer);
        }
        self.observations.extend(observations.into_iter().map(|observation| (now, id, observation)));
        self.append(now, history);
        if !asked.is_empty() {
            self.append(now, vec![HistoryEntry::rollouts_asked(&rotation, &asked, "journal")]);
        }
        self.publish_notices(notices);
        Ok(now)
    }

    fn rollout_evidence(&self, consumer: &ConsumerId, since: Timestamp) -> RolloutEvidence {
        let any = !self.guards.stand(Guard::RolloutsBeginAfterThePublication);
        let serving: Vec<&RolloutRow> = self
            .rollouts
            .iter()
            .filter(|row| row.consumer.id == *consumer && (any || row.requested_at >= since))
            .collect();
        if serving.iter().any(|row| row.state == RolloutState::Finished) {
            return RolloutEvidence::Finished;
        }
        match serving.last().map(|row| &row.state) {
            None => RolloutEvidence::NotRequested,
            Some(RolloutState::Failed { detail }) => RolloutEvidence::Failed { detail: detail.clone() },
            Some(RolloutState::Finished) => RolloutEvidence::Finished,
            Some(RolloutState::Requested) => RolloutEvidence::UnderWay { detail: "asked for".to_owned() },
            Some(RolloutState::Starting | RolloutState::Begun { .. }) => {
                RolloutEvidence::UnderWay { detail: "under way".to_owned() }
            }
        }
    }

    fn claim_rollout(&mut self, lease: SignedDuration, now: Timestamp) -> Option<RolloutClaim> {
        let index = self.rollouts.iter().position(|row| {
            let alone = row.is_under_way()
                || !self
                    .rollouts
                    .iter()
                    .any(|other| other.consumer.id == row.consumer.id && other.is_under_way());
            !row.has_ended()
                && alone
                && row.wake_at.is_some_and(|at| at <= now)
                && Self::is_free(row.lease_until, now)
        })?;
        let epoch = self.next_epoch();
        let id = self.rollouts.get(index)?.consumer.id.clone();
        let publications = self
            .publications
            .iter()
            .filter(|(_, (entry, _))| entry.consumers.contains_key(&id))
            .map(|(secret, publication)| (secret.clone(), publication.clone()))
            .collect();
        let row = self.rollouts.get_mut(index)?;
        row.epoch = epoch;
        row.lease_until = Some(Self::lease_end(now, lease));
        Some(RolloutClaim {
            consumer: row.consumer.clone(),
            generation: row.generation,
            state: row.state.clone(),
            published_at: row.published_at,
            requested_at: row.requested_at,
            begun_at: row.begun_at,
            failures: row.failures,
            epoch,
            now,
            publications,
        })
    }

    fn record_rollout(
        &mut self,
        consumer: &ConsumerId,
        generation: i64,
        epoch: Epoch,
        record: RolloutRecord,
        now: Timestamp,
    ) -> Result<Timestamp, JournalError> {
        let RolloutRecord { state, failures, wake_at, history, notices } = record;
        let checks = self.guards.stand(Guard::RecordsCheckTheEpoch);
        let row = self
            .rollouts
            .iter_mut()
            .find(|row| row.consumer.id == *consumer && row.generation == generation)
            .filter(|row| !checks || row.epoch == epoch)
            .ok_or(JournalError::Stale)?;
        // The intent is followed by the start at once: the lease stays.
        if state == RolloutState::Starting {
            row.begun_at.get_or_insert(now);
        } else {
            row.lease_until = None;
        }
        row.state = state;
        row.failures = failures;
        row.wake_at = wake_at;
        if row.has_ended() {
            self.wake_users_of(consumer, now);
            for row in self.rollouts.iter_mut().filter(|row| row.consumer.id == *consumer) {
                row.wake_at = row.wake_at.map(|_| now);
            }
        }
        self.append(now, history);
        self.publish_notices(notices);
        Ok(now)
    }

    fn claim_notices(
        &mut self,
        channel: String,
        limit: u32,
        lease: SignedDuration,
        now: Timestamp,
    ) -> Option<OutboxClaim> {
        if !Self::is_free(self.channel_leases.get(&channel).copied(), now) {
            return None;
        }
        let waiting: Vec<_> = self
            .outbox
            .iter()
            .filter(|row| row.deliveries.get(&channel).is_none_or(|delivery| delivery.delivered_at.is_none()))
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .collect();
        let first = waiting.first()?.deliveries.get(&channel).cloned().unwrap_or_default();
        if first.not_before.is_some_and(|at| at > now) {
            return None;
        }
        let notices = waiting.iter().map(|row| (row.number, row.notice.clone())).collect();
        self.channel_leases.insert(channel.clone(), Self::lease_end(now, lease));
        Some(OutboxClaim { notices, channel, failures: first.failures })
    }

    fn record_delivery(
        &mut self,
        channel: &str,
        numbers: &[i64],
        outcome: Result<(), (Fault, Timestamp)>,
        now: Timestamp,
    ) {
        self.channel_leases.remove(channel);
        for row in self.outbox.iter_mut().filter(|row| numbers.contains(&row.number)) {
            let delivery = row.deliveries.entry(channel.to_owned()).or_default();
            match &outcome {
                Ok(()) => delivery.delivered_at = Some(now),
                Err((fault, retry_at)) => {
                    delivery.failures += 1;
                    delivery.not_before = Some(*retry_at);
                    delivery.last_fault = Some(fault.to_string());
                }
            }
        }
    }
}

/// The planted bug behind `the_overlap_is_kept`.
fn without_overlap(policy: &Arc<PolicyEntry>) -> Arc<PolicyEntry> {
    let mut policy = PolicyEntry::clone(policy);
    policy.secret.overlap = SignedDuration::ZERO;
    policy.secret.token_ttl = SignedDuration::ZERO;
    Arc::new(policy)
}
