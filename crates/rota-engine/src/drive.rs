//! The loop: claim, decide, perform, record, until the rotation waits or ends.

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::RotationId;
use rota_core::rotation::{
    Decision, Done, Event, Evidence, Nature, Rotation, State, Step, WAITS_FOR_CLOCKS, decide,
};
use serde_json::json;

use crate::engine::Engine;
use crate::guard::Guard;
use crate::notice;
use crate::perform;
use crate::ports::JournalError;
use crate::session::{Halt, Session};

/// A rotation that only an order can move is looked at this often all the same, in
/// case a notification was missed.
const PARKED_FOR: SignedDuration = SignedDuration::from_hours(1);

/// After a rollback the schedule leaves a secret alone for this long.
const AFTER_ROLLBACK: SignedDuration = SignedDuration::from_hours(24);

/// One claim takes at most this many turns: a rotation that never waits is a bug,
/// and must not keep a process from everything else.
const MAX_TURNS: usize = 200;

impl Engine {
    /// Works on one rotation until it waits, ends or is lost. `None` where nothing is awake.
    ///
    /// # Errors
    /// A passing fault of the journal; the lease lapses and another claim goes on.
    pub async fn drive_one(&self) -> Result<Option<RotationId>, Fault> {
        let claimed_at = self.clock.elapsed();
        let Some(claim) = self.journal.claim(&self.settings.holder, self.settings.lease).await? else {
            return Ok(None);
        };
        let id = claim.rotation.id;
        let policy = self.policy().await?;
        let mut session = Session::new(self, claim, claimed_at, policy);
        match session.drive().await {
            Ok(()) | Err(JournalError::Stale) => Ok(Some(id)),
            Err(JournalError::Fault(fault)) => Err(fault),
        }
    }
}

/// What a turn of the loop leads to.
enum Turn {
    Again,
    SleepUntil(Timestamp),
}

impl Session<'_> {
    async fn drive(&mut self) -> Result<(), JournalError> {
        let mut wake_at = self.now();
        for _ in 0..MAX_TURNS {
            if self.engine.is_stopping() {
                break;
            }
            match self.turn().await? {
                Turn::Again => wake_at = self.now(),
                Turn::SleepUntil(until) => {
                    wake_at = until;
                    break;
                }
            }
        }
        self.engine.journal.release(&self.claim, wake_at).await
    }

    /// One decision and what follows from it; every way out is recorded.
    async fn turn(&mut self) -> Result<Turn, JournalError> {
        let halt = match self.decide_and_perform().await {
            Ok(turn) => return Ok(turn),
            Err(halt) => halt,
        };
        let event = match halt {
            Halt::Lost(error) => return Err(error),
            Halt::Fault(fault) => Event::Failed { fault },
            Halt::Held(reason) => Event::Held { reason },
            Halt::Waiting { after, why } => {
                Event::Waited { until: self.now().saturating_add(after).unwrap_or(Timestamp::MAX), why }
            }
        };
        match self.advance(event, json!(null), |_| ()).await {
            Ok(()) => Ok(Turn::Again),
            Err(Halt::Lost(error)) => Err(error),
            Err(Halt::Fault(fault)) => Err(JournalError::Fault(fault)),
            Err(Halt::Held(_) | Halt::Waiting { .. }) => Ok(Turn::Again),
        }
    }

    async fn decide_and_perform(&mut self) -> Result<Turn, Halt> {
        if self.apply_next_order().await? {
            return Ok(Turn::Again);
        }
        let evidence = self.evidence().await?;
        let decision = decide(self.rotation(), self.secret(), &evidence, self.now());
        match self.unguarded(decision) {
            Decision::Perform(step) => {
                self.compare_marks(step).await?;
                perform::step(self, step).await?;
            }
            Decision::Conclude(done) => self.advance(Event::Done { done }, json!(null), |_| ()).await?,
            Decision::GatherAgain => self.advance(Event::EvidenceAged, json!(null), |_| ()).await?,
            Decision::Hold(reason) => self.advance(Event::Held { reason }, json!(null), |_| ()).await?,
            Decision::TurnBack(reason) => {
                let by = "policy (on_failure = rollback)".to_owned();
                let event = Event::RolledBack { by, reason: reason.message() };
                self.advance(event, json!(null), |_| ()).await?;
            }
            Decision::WaitUntil { until, why } => return self.sleep(until, why, &evidence).await,
            Decision::Parked => return Ok(Turn::SleepUntil(self.later(PARKED_FOR))),
            Decision::Finished(_) => return Ok(Turn::SleepUntil(Timestamp::MAX)),
        }
        Ok(Turn::Again)
    }

    /// The decision, without the waits and proofs that a test took away.
    fn unguarded(&self, decision: Decision) -> Decision {
        let step = self.rotation().step();
        let falls = |guard| !self.engine.stands(guard);
        match (&decision, step) {
            (Decision::Perform(Step::Prove), _) if falls(Guard::ProofComesFirst) => {
                Decision::Conclude(Done::Plain)
            }
            (Decision::WaitUntil { .. }, Some(Step::Watch)) if falls(Guard::TheWatchIsWaitedFor) => {
                Decision::Conclude(Done::Plain)
            }
            (Decision::WaitUntil { .. }, Some(Step::Cooldown)) if falls(Guard::TheCooldownIsWaited) => {
                Decision::Conclude(Done::Plain)
            }
            (Decision::WaitUntil { .. }, Some(Step::Revoke)) if falls(Guard::RevokingWaits) => {
                Decision::Perform(Step::Revoke)
            }
            (Decision::WaitUntil { why, .. }, Some(step))
                if falls(Guard::TheWindowIsKept) && why.contains("window") =>
            {
                Decision::Perform(step)
            }
            (Decision::WaitUntil { .. }, Some(step))
                if falls(Guard::RolloutsAreWaitedFor) && step.nature() == Nature::Rollout =>
            {
                Decision::Conclude(Done::RolledOut)
            }
            _ => decision,
        }
    }

    /// Keeps what the rotation waits for where people can see it, once; a person whose
    /// value was not taken is told, and clocks that disagree are.
    async fn sleep(&mut self, until: Timestamp, why: String, evidence: &Evidence) -> Result<Turn, Halt> {
        let known = matches!(
            &self.rotation().state,
            State::Running { attempt, .. } if attempt.waiting.as_deref() == Some(&why)
        );
        if !known {
            let (rotation, secret, now) = (self.rotation(), self.secret(), self.now());
            let unfit = evidence.unfit.as_ref().map(|why| notice::not_taken(rotation, secret, why, now));
            let clocks = evidence.clock_problem.as_ref().filter(|_| why.starts_with(WAITS_FOR_CLOCKS));
            let clocks = clocks.map(|why| notice::clocks_disagree(rotation, secret, why, now));
            let event = Event::Waited { until: self.now(), why };
            self.advance(event, json!(null), |record| record.notices.extend(unfit.into_iter().chain(clocks)))
                .await?;
        }
        Ok(Turn::SleepUntil(until))
    }

    pub(crate) fn later(&self, duration: SignedDuration) -> Timestamp {
        self.now().saturating_add(duration).unwrap_or(Timestamp::MAX)
    }
}

/// When a rotation that ends rolled back at `now` may be followed by the next one.
pub(crate) fn start_after_rollback(rotation: &Rotation, now: Timestamp) -> Timestamp {
    let pause = if rotation.is_emergency() { SignedDuration::ZERO } else { AFTER_ROLLBACK };
    now.saturating_add(pause).unwrap_or(Timestamp::MAX)
}
