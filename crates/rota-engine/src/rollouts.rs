//! Rollouts belong to consumers: one in flight each, serving every publication
//! recorded before it began.

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::{ConsumerId, EffectNo};
use rota_core::policy::model::{PolicyEntry, PublishForm};
use rota_core::publication::paths;
use rota_core::rotation::{Publication, backoff};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::guard::Guard;
use crate::ports::{
    HistoryEntry, JournalError, Pin, RolloutClaim, RolloutContext, RolloutRecord, RolloutState,
    RolloutStatus, within,
};

/// How often a rollout under way is looked at.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// A rollout that is another host's is left to it for so long.
const LOOK_ELSEWHERE: SignedDuration = SignedDuration::from_secs(10);

/// A start that fails this often in a row fails the rollout.
const MAX_START_FAILURES: u32 = 8;

impl Engine {
    /// Starts or looks at one consumer's rollout. `None` where none is awake.
    ///
    /// # Errors
    /// A passing fault of the journal; the lease lapses and another claim goes on.
    pub async fn drive_rollout(&self) -> Result<Option<ConsumerId>, Fault> {
        let claimed = self.journal.claim_rollout(&self.settings.holder, self.settings.lease).await?;
        let Some(claim) = claimed else { return Ok(None) };
        let consumer = claim.consumer.id.clone();
        match self.work_on_rollout(claim).await {
            Ok(()) | Err(JournalError::Stale) => Ok(Some(consumer)),
            Err(JournalError::Fault(fault)) => Err(fault),
        }
    }

    async fn work_on_rollout(&self, mut claim: RolloutClaim) -> Result<(), JournalError> {
        if let Err(elsewhere) = self.can_be_done_here(&claim) {
            return self.give_back(&claim, &elsewhere).await;
        }
        if claim.state == RolloutState::Requested {
            // An instance that starts before the publication can be seen everywhere may
            // read the old value, and would then never count as new.
            let settled = later(claim.published_at, claim.consumer.settle);
            if claim.now < settled && self.stands(Guard::SettleIsWaitedFor) {
                let record = RolloutRecord {
                    state: RolloutState::Requested,
                    failures: 0,
                    wake_at: Some(settled),
                    history: Vec::new(),
                    notices: Vec::new(),
                };
                return self.journal.record_rollout(&claim, record).await.map(|_| ());
            }
            let line = self.rollout_line(&claim, "rollout.intended", json!(null));
            let record = RolloutRecord {
                state: RolloutState::Starting,
                failures: 0,
                wake_at: Some(claim.now),
                history: vec![line],
                notices: Vec::new(),
            };
            claim.now = self.journal.record_rollout(&claim, record).await?;
            claim.state = RolloutState::Starting;
            claim.begun_at = Some(claim.now);
        }
        let next = match self.advance_rollout(&claim).await {
            Ok(state) => state,
            Err(fault) => return self.rollout_failed_call(&claim, fault).await,
        };
        let ended = matches!(next, RolloutState::Finished | RolloutState::Failed { .. });
        let history = match &next {
            RolloutState::Finished => vec![self.rollout_line(&claim, "rollout.finished", json!(null))],
            RolloutState::Failed { detail } => {
                vec![self.rollout_line(&claim, "rollout.failed", json!({ "reason": detail }))]
            }
            RolloutState::Begun { .. } if claim.state == RolloutState::Starting => {
                vec![self.rollout_line(&claim, "rollout.begun", json!(null))]
            }
            RolloutState::Begun { .. } | RolloutState::Requested | RolloutState::Starting => Vec::new(),
        };
        let record = RolloutRecord {
            state: next,
            failures: 0,
            wake_at: (!ended).then(|| later(claim.now, LOOK_AGAIN)),
            history,
            notices: Vec::new(),
        };
        self.journal.record_rollout(&claim, record).await.map(|_| ())
    }

    /// A kind that the policy cannot build fails where the start is tried and recorded.
    fn can_be_done_here(&self, claim: &RolloutClaim) -> Result<(), Fault> {
        self.adapters.rollout(&claim.consumer.rollout).map_or(Ok(()), |rollout| rollout.must_be_here())
    }

    /// Leaves the rollout as it is to the process that can do it; nothing failed.
    async fn give_back(&self, claim: &RolloutClaim, elsewhere: &Fault) -> Result<(), JournalError> {
        tracing::debug!(consumer = %claim.consumer.id, %elsewhere, "the rollout is another process's");
        let record = RolloutRecord {
            state: claim.state.clone(),
            failures: claim.failures,
            wake_at: Some(later(claim.now, LOOK_ELSEWHERE)),
            history: Vec::new(),
            notices: Vec::new(),
        };
        self.journal.record_rollout(claim, record).await.map(|_| ())
    }

    /// One call: the start, or a look.
    async fn advance_rollout(&self, claim: &RolloutClaim) -> Result<RolloutState, Fault> {
        let rollout = self.adapters.rollout(&claim.consumer.rollout)?;
        let context = self.rollout_context(claim).await?;
        let limit = self.settings.call_limit;
        let clock = self.clock.as_ref();
        let (handle, memory) = match &claim.state {
            RolloutState::Requested | RolloutState::Starting => {
                let handle = within(clock, limit, "starting the rollout", rollout.begin(&context)).await?;
                return Ok(RolloutState::Begun { handle, memory: Value::Null });
            }
            RolloutState::Begun { handle, memory } => (handle, memory),
            RolloutState::Finished | RolloutState::Failed { .. } => return Ok(claim.state.clone()),
        };
        let looking = rollout.observe(handle, memory, &context);
        let (status, memory) = within(clock, limit, "looking at the rollout", looking).await?;
        Ok(match status {
            RolloutStatus::Finished => RolloutState::Finished,
            RolloutStatus::Failed { detail } => RolloutState::Failed { detail },
            RolloutStatus::UnderWay { detail } => {
                let begun = claim.begun_at.unwrap_or(claim.requested_at);
                let deadline = claim.consumer.rollout.deadline;
                if claim.now.duration_since(begun) > deadline {
                    let detail = format!("not finished within {deadline:#}: {detail}");
                    RolloutState::Failed { detail }
                } else {
                    RolloutState::Begun { handle: handle.clone(), memory }
                }
            }
        })
    }

    async fn rollout_failed_call(&self, claim: &RolloutClaim, fault: Fault) -> Result<(), JournalError> {
        let failures = claim.failures.saturating_add(1);
        let begun = claim.begun_at.unwrap_or(claim.requested_at);
        let late = claim.now.duration_since(begun) > claim.consumer.rollout.deadline;
        let starting = !matches!(claim.state, RolloutState::Begun { .. });
        let give_up = !fault.passes_by_itself() || late || (starting && failures >= MAX_START_FAILURES);
        let seed =
            rota_core::id::RotationId(uuid::Uuid::from_u128(u128::from(claim.generation.unsigned_abs())));
        let record = if give_up {
            let detail = fault.to_string();
            let line = self.rollout_line(claim, "rollout.failed", json!({ "reason": detail }));
            RolloutRecord {
                state: RolloutState::Failed { detail },
                failures,
                wake_at: None,
                history: vec![line],
                notices: Vec::new(),
            }
        } else {
            RolloutRecord {
                state: claim.state.clone(),
                failures,
                wake_at: Some(later(claim.now, backoff::delay(seed, failures).max(fault.asks_to_wait()))),
                history: Vec::new(),
                notices: Vec::new(),
            }
        };
        self.journal.record_rollout(claim, record).await.map(|_| ())
    }

    async fn rollout_context(&self, claim: &RolloutClaim) -> Result<RolloutContext, Fault> {
        Ok(RolloutContext {
            consumer: claim.consumer.id.clone(),
            generation: claim.generation,
            published_at: claim.published_at,
            settle: if self.stands(Guard::SettleIsWaitedFor) {
                claim.consumer.settle
            } else {
                SignedDuration::ZERO
            },
            pins: self.pins(claim).await?,
            now: claim.now,
        })
    }

    /// The exact version of every name that the consumer reads by a pinned reference.
    async fn pins(&self, claim: &RolloutClaim) -> Result<Vec<Pin>, Fault> {
        let mut pins = Vec::new();
        for (entry, publication) in claim.publications.values() {
            pins.extend(self.pins_of(entry, publication).await?);
        }
        Ok(pins)
    }

    /// The exact version of every name that one secret publishes for pinned references;
    /// empty where its consumers read names as they stand.
    pub(crate) async fn pins_of(
        &self,
        entry: &PolicyEntry,
        publication: &Publication,
    ) -> Result<Vec<Pin>, Fault> {
        let mut pins = Vec::new();
        if !is_pinned(&entry.secret.publish) {
            return Ok(pins);
        }
        let Some(policy) = entry.secret.primary_store().and_then(|id| entry.stores.get(id)) else {
            return Ok(pins);
        };
        let store = self.adapters.store(policy)?;
        for (path, names) in paths(&entry.secret, policy) {
            let version = publication.refs.get(&policy.id).and_then(|refs| refs.get(&path));
            let Some(version) = version else { continue };
            let reference = store.pinned_reference(&path, version).await?.ok_or_else(|| {
                Fault::invalid(format!("store `{}` has no exact references; remove `pinned`", policy.id))
            })?;
            let names = names.into_iter();
            pins.extend(names.map(|(name, _)| Pin { name: name.to_string(), reference: reference.clone() }));
        }
        Ok(pins)
    }

    fn rollout_line(&self, claim: &RolloutClaim, kind: &str, detail: Value) -> HistoryEntry {
        HistoryEntry {
            kind: kind.to_owned(),
            secret: None,
            rotation: None,
            step: None,
            // The consumer is the target, and its generations grow.
            effect: Some(EffectNo(claim.generation)),
            actor: self.settings.holder.clone(),
            detail: json!({
                "consumer": claim.consumer.id,
                "generation": claim.generation,
                "serves_publications_until": claim.published_at,
                "detail": detail,
            }),
        }
    }
}

fn is_pinned(form: &PublishForm) -> bool {
    match form {
        PublishForm::Pair { pinned, .. } => *pinned,
        PublishForm::Single | PublishForm::List { .. } => false,
        PublishForm::Document { inner, .. } => is_pinned(inner),
    }
}

fn later(now: Timestamp, duration: SignedDuration) -> Timestamp {
    now.saturating_add(duration).unwrap_or(Timestamp::MAX)
}
