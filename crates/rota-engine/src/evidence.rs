//! Reads what only the outside can tell, right before deciding.

use rota_core::id::ConsumerId;
use rota_core::rotation::{Evidence, Nature, RolloutEvidence, Source, State, Step};
use rota_core::submission;

use crate::ports::{RolloutContext, SlotRole, SlotState};
use crate::session::{Halt, Session};

impl Session<'_> {
    pub(crate) async fn evidence(&mut self) -> Result<Evidence, Halt> {
        let mut evidence = Evidence::default();
        let State::Running { step, attempt } = &self.rotation().state else { return Ok(evidence) };
        let (step, undecided) = (*step, attempt.intent.is_none());
        if attempt.not_before > self.now() {
            return Ok(evidence);
        }
        match step.nature() {
            Nature::Rollout => evidence.rollouts = self.rollout_evidence().await?,
            Nature::Effect if step == Step::Stage && undecided => {
                (evidence.submitted, evidence.unfit) = self.is_submitted().await?;
            }
            Nature::Effect | Nature::Publication(_) | Nature::Observation | Nature::Wait => {}
        }
        if undecided {
            evidence.undone_rollout = self.undone_rollout(step).await?;
        }
        evidence.clock_problem = match step {
            Step::ConfirmIdle | Step::RecheckIdle | Step::Withdraw | Step::Revoke if undecided => {
                self.clock_problem().await?
            }
            // Nothing waits for it here, but no deadline ends by a clock that leapt.
            _ => self.engine.leap(self.now()),
        };
        Ok(evidence)
    }

    /// How far every consumer is with the last publication. A rollout from before a
    /// resume passes no gate.
    async fn rollout_evidence(
        &self,
    ) -> Result<std::collections::BTreeMap<ConsumerId, RolloutEvidence>, Halt> {
        let facts = &self.rotation().facts;
        let Some(publication) = &facts.publication else { return Ok(Default::default()) };
        let since = facts.evidence_after.map_or(publication.at, |after| after.max(publication.at));
        Ok(self.engine.journal.rollouts(&self.consumer_ids(), since).await?)
    }

    /// Looks again at the consumers with pinned references, before what they must all
    /// have left behind is taken away: a late deployment may have put it back.
    async fn undone_rollout(&mut self, step: Step) -> Result<Option<(ConsumerId, String)>, Halt> {
        let takes_away = match step.nature() {
            // An emergency does not wait for rollouts; only its slots do.
            Nature::Publication(_) => !self.rotation().is_emergency(),
            Nature::Effect => matches!(step, Step::Purge | Step::Discard),
            Nature::Rollout | Nature::Observation | Nature::Wait => false,
        };
        let Some(publication) = self.rotation().facts.publication.clone() else { return Ok(None) };
        if !takes_away || self.rotation().finished_rollout().is_none() {
            return Ok(None);
        }
        let policy = std::sync::Arc::clone(&self.claim.policy);
        let engine = self.engine;
        let pins = self.call("naming exact versions", engine.pins_of(&policy, &publication)).await?;
        if pins.is_empty() {
            return Ok(None);
        }
        for consumer in self.consumers() {
            let rollout = self.engine.adapters.rollout(&consumer.rollout)?;
            let context = RolloutContext {
                consumer: consumer.id.clone(),
                // No generation of its own: nothing is begun.
                generation: 0,
                published_at: publication.at,
                settle: consumer.settle,
                pins: pins.clone(),
                now: self.now(),
            };
            let undone = self.call("looking at a finished rollout again", rollout.recheck(&context)).await?;
            if let Some(detail) = undone {
                return Ok(Some((consumer.id, detail)));
            }
        }
        Ok(None)
    }

    /// A person's value is in the slot, or in the inbox that the daemon empties; and why
    /// what is in the inbox cannot be taken.
    async fn is_submitted(&mut self) -> Result<(bool, Option<String>), Halt> {
        if self.rotation().shape.source != Source::Submitted {
            return Ok((false, None));
        }
        let (_, store) = self.primary()?;
        let slot = self.slot(SlotRole::Candidate)?;
        if !matches!(self.call("reading the slot", store.read_slot(&slot)).await?, SlotState::Empty) {
            return Ok((true, None));
        }
        let Some(inbox) = self.inbox() else { return Ok((false, None)) };
        let Some(value) = self.call("reading the inbox", store.read_other(&inbox)).await? else {
            return Ok((false, None));
        };
        let unfit = submission::read(self.secret(), &value).err().map(|unfit| unfit.to_string());
        Ok((unfit.is_none(), unfit))
    }
}
