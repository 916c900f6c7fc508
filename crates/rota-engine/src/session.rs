//! One claimed rotation: the only place from which it is recorded.

use std::future::Future;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::{ConsumerId, EffectNo, StoreId};
use rota_core::policy::model::{ConsumerPolicy, PolicyEntry, SecretPolicy, StorePolicy};
use rota_core::rotation::{
    Event, HoldReason, IllegalEvent, List, Outcome, Phase, Rotation, Source, State, Step, apply,
};

use crate::drive::start_after_rollback;
use crate::engine::{Engine, LEASE_MARGIN};
use crate::guard::Guard;
use crate::notice;
use crate::ports::{
    AcceptedPolicy, Claim, Fence, HistoryEntry, JournalError, Record, Rotator, SecretStore, within,
};

/// Why the work on a step stopped before its outcome.
pub(crate) enum Halt {
    /// The call failed; the fault says whether to try again.
    Fault(Fault),
    Held(HoldReason),
    /// Nothing failed; look again later.
    Waiting {
        after: SignedDuration,
        why: String,
    },
    /// The row is somebody else's, or the journal cannot be written: nothing may be recorded.
    Lost(JournalError),
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<JournalError> for Halt {
    fn from(error: JournalError) -> Self {
        Self::Lost(error)
    }
}

/// A store with what the policy says of it.
pub(crate) type PolicedStore = (StorePolicy, Arc<dyn SecretStore>);

pub(crate) struct Session<'e> {
    pub(crate) engine: &'e Engine,
    pub(crate) claim: Claim,
    pub(crate) policy_now: Option<Arc<AcceptedPolicy>>,
    /// The journal's clock, and this process's at the same moment.
    read_at: (Timestamp, SignedDuration),
    /// How long the journal took to tell it: so much later it may be by now.
    clock_lag: SignedDuration,
    /// When the lease ends, on this process's clock, measured from before the claim was sent.
    leased_until: SignedDuration,
    /// What stands outside was compared with the journal under this claim.
    pub(crate) compared: bool,
}

/// How much too early a recorded moment may be.
const MAX_CLOCK_LAG: SignedDuration = SignedDuration::from_secs(2);

/// How often a slow clock is read in a row.
const CLOCK_READINGS: u32 = 3;

impl<'e> Session<'e> {
    pub(crate) fn new(
        engine: &'e Engine,
        claim: Claim,
        claimed_at: SignedDuration,
        policy_now: Option<Arc<AcceptedPolicy>>,
    ) -> Self {
        let read_at = (claim.now, engine.clock.elapsed());
        let clock_lag = read_at.1.saturating_sub(claimed_at);
        let leased_until = claimed_at.saturating_add(engine.settings.lease);
        Self { engine, claim, policy_now, read_at, clock_lag, leased_until, compared: false }
    }

    pub(crate) fn rotation(&self) -> &Rotation {
        &self.claim.rotation
    }

    pub(crate) fn entry(&self) -> &PolicyEntry {
        &self.claim.policy
    }

    pub(crate) fn secret(&self) -> &SecretPolicy {
        &self.claim.policy.secret
    }

    /// The journal's clock, carried on by this process's.
    pub(crate) fn now(&self) -> Timestamp {
        let since = self.engine.clock.elapsed().saturating_sub(self.read_at.1);
        self.read_at.0.saturating_add(since).unwrap_or(Timestamp::MAX)
    }

    /// Every consumer that must follow: of the copy, and of the current policy (one
    /// added meanwhile must not be cut off).
    pub(crate) fn consumers(&self) -> Vec<ConsumerPolicy> {
        let mut consumers = self.entry().consumers.clone();
        if let Some(now) = &self.policy_now
            && let Some(entry) = now.policy.entry(&self.rotation().secret)
        {
            consumers.extend(entry.consumers);
        }
        if !self.engine.stands(Guard::EveryConsumerRollsOut) {
            return consumers.into_values().take(1).collect();
        }
        consumers.into_values().collect()
    }

    pub(crate) fn consumer_ids(&self) -> Vec<ConsumerId> {
        self.consumers().into_iter().map(|consumer| consumer.id).collect()
    }

    /// The stores that the secret is published to, the primary first.
    pub(crate) fn stores(&self) -> Result<Vec<PolicedStore>, Fault> {
        let all = self.engine.stands(Guard::MirrorsAreWritten);
        let stores = &self.secret().stores;
        stores.iter().take(if all { usize::MAX } else { 1 }).map(|id| self.store(id)).collect()
    }

    pub(crate) fn primary(&self) -> Result<PolicedStore, Fault> {
        let id = self
            .secret()
            .primary_store()
            .ok_or_else(|| Fault::invalid("the secret names no store; add one under `stores`"))?;
        self.store(id)
    }

    /// A store of the rotation's copy, else of the current policy.
    pub(crate) fn store(&self, id: &StoreId) -> Result<PolicedStore, Fault> {
        let policy = self
            .entry()
            .stores
            .get(id)
            .or_else(|| self.policy_now.as_ref().and_then(|now| now.policy.shared().stores.get(id)))
            .ok_or_else(|| Fault::invalid(format!("the policy has no store called `{id}`")))?;
        Ok((policy.clone(), self.engine.adapters.store(policy)?))
    }

    pub(crate) fn rotator(&self) -> Result<Arc<dyn Rotator>, Fault> {
        self.engine.adapters.rotator(self.secret())
    }

    /// Runs one call of a port within its limit and within the lease.
    pub(crate) async fn call<T: Send>(
        &mut self,
        what: &str,
        call: impl Future<Output = Result<T, Fault>> + Send,
    ) -> Result<T, Halt> {
        if !self.engine.stands(Guard::CallsAreLimited) {
            return Ok(call.await?);
        }
        self.cover(self.engine.settings.call_limit).await?;
        Ok(within(self.engine.clock.as_ref(), self.engine.settings.call_limit, what, call).await?)
    }

    /// Renews the lease where a call of `length` would not fit into what is left.
    async fn cover(&mut self, length: SignedDuration) -> Result<(), Halt> {
        let before = self.engine.clock.elapsed();
        if before.saturating_add(length).saturating_add(LEASE_MARGIN) < self.leased_until {
            return Ok(());
        }
        self.engine.journal.renew(&self.claim, self.engine.settings.lease).await?;
        self.leased_until = before.saturating_add(self.engine.settings.lease);
        Ok(())
    }

    /// Does nothing for a while and keeps the lease: for looks at a store that may lag.
    pub(crate) async fn rest(&mut self, pause: SignedDuration) -> Result<(), Halt> {
        self.cover(pause).await?;
        self.engine.clock.sleep(pause).await;
        Ok(())
    }

    /// Stops here until whatever was begun at `begun` has had its effect or never will.
    pub(crate) fn wait_for_late_effects(&self, begun: Timestamp, what: &str) -> Result<(), Halt> {
        if !self.engine.stands(Guard::LateEffectsAreWaitedOut) {
            return Ok(());
        }
        let end = begun.saturating_add(self.engine.settings.lands_within()).unwrap_or(Timestamp::MAX);
        let after = end.duration_since(self.now());
        if after.is_positive() { Err(Halt::Waiting { after, why: what.to_owned() }) } else { Ok(()) }
    }

    /// The number for the next effect; greater than all before.
    pub(crate) fn next_effect(&self) -> EffectNo {
        let step = i64::from(self.engine.stands(Guard::EffectNumbersGrow));
        EffectNo(self.claim.last_effect.0 + step)
    }

    /// Orders an effect whose intent is recorded.
    pub(crate) fn fence(&self, effect: EffectNo) -> Fence {
        Fence { incarnation: self.claim.incarnation, epoch: self.claim.epoch, effect }
    }

    /// Applies `event` and records it with what `extend` adds.
    pub(crate) async fn advance(
        &mut self,
        event: Event,
        detail: serde_json::Value,
        extend: impl FnOnce(&mut Record),
    ) -> Result<(), Halt> {
        self.ask_the_time().await?;
        let before = &self.claim.rotation;
        let step = before.step();
        let now = self.now();
        let after =
            apply(before.clone(), event.clone(), now).map_err(|illegal| illegal_event(step, &illegal))?;
        let mut record = Record::of(after, self.claim.last_effect);
        if let Event::Intended { intent } = &event {
            record.last_effect = intent.effect;
        }
        if let Some(kind) = history_kind(&event, before, &record.rotation) {
            record.history.push(HistoryEntry {
                kind: kind.to_owned(),
                secret: Some(before.secret.clone()),
                rotation: Some(before.id),
                step,
                effect: effect_of(&event, before),
                actor: actor_of(&event, &self.engine.settings.holder),
                detail: with_reason(detail, &event),
            });
        }
        record.notices = notice::of_transition(before, &record.rotation, &event, self.secret(), now);
        if record.rotation.phase() == Phase::Held && !self.engine.stands(Guard::HoldsAreTold) {
            record.notices.clear();
        }
        if matches!(event, Event::Intended { .. }) && !self.engine.stands(Guard::IntentsAreInHistory) {
            record.history.clear();
        }
        if let State::Ended { outcome, .. } = &record.rotation.state {
            match outcome {
                Outcome::RolledBack => {
                    record.next_start = Some(start_after_rollback(&record.rotation, now));
                    let shape = &record.rotation.shape;
                    let staged = record.rotation.facts.done.contains(&Step::Stage);
                    record.orphan = (shape.source == Source::Submitted && staged)
                        .then(|| left_at_the_provider(&record.rotation));
                }
                Outcome::Abandoned => record.blocked = Some(alive_after_abandon(&record.rotation)),
                Outcome::Completed | Outcome::Superseded => {}
            }
        }
        extend(&mut record);
        self.commit(record).await
    }

    /// Records without an event (rollouts asked for, orders answered).
    pub(crate) async fn commit(&mut self, record: Record) -> Result<(), Halt> {
        let rotation = record.rotation.clone();
        let last_effect = record.last_effect;
        let sent = self.engine.clock.elapsed();
        let now = self.engine.journal.record(&self.claim, record).await?;
        let (phase, step) = (rotation.phase(), rotation.step());
        if (phase, step) != (self.claim.rotation.phase(), self.claim.rotation.step()) {
            tracing::info!(
                secret = %rotation.secret,
                rotation = %rotation.id,
                phase = phase.as_str(),
                step = step.map(Step::as_str),
                "the rotation moved on"
            );
        }
        self.claim.rotation = rotation;
        self.claim.last_effect = last_effect;
        self.told_the_time(now, sent);
        Ok(())
    }

    fn told_the_time(&mut self, now: Timestamp, sent: SignedDuration) {
        self.read_at = (now, self.engine.clock.elapsed());
        self.clock_lag = self.read_at.1.saturating_sub(sent);
    }

    /// Reads the journal's clock again where its last answer was long on its way. Waits
    /// are counted from what is recorded, and a moment that is too early would end them
    /// too early.
    async fn ask_the_time(&mut self) -> Result<(), Halt> {
        for _ in 0..CLOCK_READINGS {
            if self.clock_lag <= MAX_CLOCK_LAG {
                return Ok(());
            }
            let sent = self.engine.clock.elapsed();
            let now = self.engine.journal.now().await?;
            self.told_the_time(now, sent);
        }
        Err(Fault::transient("the database answers too slowly to tell the time").into())
    }

    /// A line of history for this rotation.
    pub(crate) fn entry_of(&self, kind: &str, detail: serde_json::Value) -> HistoryEntry {
        HistoryEntry {
            kind: kind.to_owned(),
            secret: Some(self.rotation().secret.clone()),
            rotation: Some(self.rotation().id),
            step: self.rotation().step(),
            effect: self.rotation().open_intent().map(|intent| intent.effect),
            actor: self.engine.settings.holder.clone(),
            detail,
        }
    }
}

/// A key that a person made and that is not used after all, until it is revoked.
pub(crate) fn left_at_the_provider(rotation: &Rotation) -> String {
    format!(
        "the new key handed in for rotation {} is not used; revoke it at its provider, then run \
         `rota confirm {}`",
        rotation.id, rotation.secret
    )
}

/// What an abandoned rotation leaves behind, for the person who reconciles it.
fn alive_after_abandon(rotation: &Rotation) -> String {
    let facts = &rotation.facts;
    let published = match rotation.list() {
        List::Nothing => "nothing",
        List::Old => "the old value",
        List::OldNew => "the old value first and the new one second",
        List::NewOld => "the new value first and the old one second",
        List::New => "the new value",
    };
    let mut alive = vec![format!("published: {published}")];
    if rotation.open_intent().is_some() {
        alive.push("the outcome of the last step is unknown".to_owned());
    }
    for (what, identity, version) in
        [("old", &facts.old_identity, &facts.old), ("new", &facts.new_identity, &facts.new)]
    {
        if let Some(version) = version {
            let name = identity.as_ref().map_or(String::new(), |name| format!(" ({name})"));
            alive.push(format!("the {what} value{name} is kept in slot version {version}"));
        }
    }
    format!("rotation {} was abandoned; {}", rotation.id, alive.join("; "))
}

fn illegal_event(step: Option<Step>, illegal: &IllegalEvent) -> Halt {
    let step = step.map_or_else(|| "no step".to_owned(), |step| step.to_string());
    Halt::Fault(Fault::invalid(format!("{step} met an event that does not fit: {illegal}")))
}

fn effect_of(event: &Event, before: &Rotation) -> Option<EffectNo> {
    match event {
        Event::Intended { intent } => Some(intent.effect),
        _ => before.open_intent().map(|intent| intent.effect),
    }
}

fn actor_of(event: &Event, holder: &str) -> String {
    match event {
        Event::RolledBack { by, .. }
        | Event::Resumed { by, .. }
        | Event::Abandoned { by, .. }
        | Event::Hastened { by, .. }
        | Event::Held { reason: HoldReason::Asked { by, .. } } => by.clone(),
        _ => holder.to_owned(),
    }
}

/// Adds what the event itself says to the line of history.
fn with_reason(mut detail: serde_json::Value, event: &Event) -> serde_json::Value {
    let reason = match event {
        Event::RolledBack { reason, .. }
        | Event::Resumed { reason, .. }
        | Event::Abandoned { reason, .. }
        | Event::Hastened { reason, .. } => reason.clone(),
        Event::Held { reason } => reason.message(),
        Event::Failed { fault } => fault.to_string(),
        _ => return detail,
    };
    if detail.is_null() {
        detail = serde_json::json!({});
    }
    if let Some(object) = detail.as_object_mut() {
        object.insert("reason".to_owned(), reason.into());
    }
    detail
}

/// What history calls the event; `None` for what would only fill it (waits, retries
/// of one failure, single observations, which have a table of their own).
fn history_kind(event: &Event, before: &Rotation, after: &Rotation) -> Option<&'static str> {
    let already_failing = matches!(
        &before.state,
        State::Running { attempt, .. } if attempt.failures > 0
    );
    Some(match event {
        Event::Intended { .. } => "step.intended",
        Event::Done { .. } if after.step().is_none() => "rotation.ended",
        Event::Done { .. } => "step.done",
        Event::Failed { .. } if already_failing && after.phase() != Phase::Held => {
            return None;
        }
        Event::Failed { .. } => "step.failed",
        Event::Waited { .. } | Event::Observed { .. } => return None,
        Event::BaselineTaken { .. } => "baseline.taken",
        Event::EvidenceAged => "evidence.aged",
        Event::Held { .. } => "rotation.held",
        Event::RolledBack { .. } => "rotation.turned_back",
        Event::Resumed { .. } => "rotation.resumed",
        Event::Abandoned { .. } => "rotation.abandoned",
        Event::Hastened { .. } => "rotation.hastened",
        Event::Superseded => "rotation.superseded",
    })
}

impl Record {
    /// A record that changes nothing but the rotation.
    #[must_use]
    pub fn of(rotation: Rotation, last_effect: EffectNo) -> Self {
        Self {
            rotation,
            history: Vec::new(),
            notices: Vec::new(),
            observations: Vec::new(),
            rollouts: Vec::new(),
            publication: None,
            promotion: None,
            handled: Vec::new(),
            orphan: None,
            blocked: None,
            next_start: None,
            last_effect,
        }
    }
}
