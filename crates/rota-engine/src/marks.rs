//! Is the journal the whole past?
//!
//! A restored backup and a failover that lost commits look like a healthy journal. What
//! earlier work left outside of it shows them: what the last write and the last effect
//! were ordered by, and slots of rotations that nobody remembers. Where something
//! outside is ahead, every process stops, and a person decides with `rota recover`.
//!
//! Epochs show a loss only until as many were given out again, so they are compared early:
//! at the start, and before the first effect of each claim. Slots do not age.
//!
//! Deliberately absent: deciding which of the two is right.

use std::ops::Bound;

use rota_core::fault::Fault;
use rota_core::id::SecretId;
use rota_core::policy::model::PolicyEntry;
use rota_core::rotation::{HoldReason, Nature, Step};

use crate::engine::Engine;
use crate::notice;
use crate::ports::{Fence, Past, Rotator, TargetContext, Trail, within};
use crate::session::{Halt, Session};

/// How a suspended journal is spoken of, whoever finds it.
#[must_use]
pub fn untrusted(why: &str) -> String {
    format!(
        "the state database is a restored backup or a failover that may have lost commits ({why}); \
         nothing is claimed until a person has compared it with the stores, run `rota recover`"
    )
}

impl Engine {
    /// Compares the journal with what stands in the primary store of the first secret
    /// after `after`, by name; returns its name, `None` after the last one. Stops every
    /// process where the store is ahead.
    ///
    /// # Errors
    /// A passing fault of the journal. A store that cannot be asked is left out.
    pub async fn compare_next(&self, after: Option<&SecretId>) -> Result<Option<SecretId>, Fault> {
        let Some(accepted) = self.refresh_policy().await? else { return Ok(None) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let Some(next) = accepted.policy.ids().find(|id| is_within(from, id)).cloned() else {
            return Ok(None);
        };
        let Some(entry) = accepted.policy.entry(&next) else { return Ok(Some(next)) };
        if let Err(fault) = self.lost_past(&entry).await {
            tracing::debug!(secret = %next, %fault, "the store was not compared with the journal");
        }
        Ok(Some(next))
    }

    /// Why the journal cannot be the whole past, as far as the secret's primary store
    /// tells. Where it cannot, every process stops claiming.
    pub(crate) async fn lost_past(&self, entry: &PolicyEntry) -> Result<Option<String>, Fault> {
        let secret = &entry.secret.id;
        let past = self.journal.past(secret).await?;
        if self.ahead_of(entry, &past).await?.is_none() {
            return Ok(None);
        }
        // What another process began meanwhile is in the journal by now.
        let past = self.journal.past(secret).await?;
        let Some(why) = self.ahead_of(entry, &past).await? else { return Ok(None) };
        self.distrust(&why, &past).await?;
        Ok(Some(why))
    }

    /// What stands in the store and cannot be, if the journal is whole.
    async fn ahead_of(&self, entry: &PolicyEntry, past: &Past) -> Result<Option<String>, Fault> {
        let Some(policy) = entry.secret.primary_store().and_then(|id| entry.stores.get(id)) else {
            return Ok(None);
        };
        let store = self.adapters.store(policy)?;
        let trail = Trail::of(entry, past.rotations.clone(), past.began_at)?;
        let limit = self.settings.call_limit;
        let asked = store.traces(&trail);
        let traces = within(self.clock.as_ref(), limit, "looking for traces of the past", asked).await?;
        let strange =
            |slot: String| format!("store `{}` keeps a slot of {slot}, which is not known", policy.id);
        let ahead = traces.fence.filter(|fence| is_ahead(*fence, past));
        Ok(ahead
            .map(|fence| ahead_by(&format!("store `{}`", policy.id), fence, past))
            .or_else(|| traces.strange.map(strange)))
    }

    async fn distrust(&self, why: &str, past: &Past) -> Result<(), Fault> {
        tracing::error!(why, "the state database has lost commits; nothing is claimed until `rota recover`");
        let now = self.journal.now().await?;
        self.journal.distrust(why, notice::past_is_lost(why, past.incarnation, now)).await
    }
}

fn is_within(from: Bound<&SecretId>, id: &SecretId) -> bool {
    match from {
        Bound::Unbounded => true,
        Bound::Excluded(after) | Bound::Included(after) => id > after,
    }
}

fn is_ahead(fence: Fence, past: &Past) -> bool {
    (fence.incarnation, fence.epoch) > (past.incarnation, past.epoch)
}

fn ahead_by(what: &str, fence: Fence, past: &Past) -> String {
    format!(
        "{what} was changed under incarnation {} epoch {}, the database says {} and {}",
        fence.incarnation.0, fence.epoch.0, past.incarnation.0, past.epoch.0
    )
}

impl Session<'_> {
    /// Compares once for each claim, before its first effect.
    ///
    /// # Errors
    /// [`HoldReason::Recovery`] where the store is ahead of the journal.
    pub(crate) async fn compare_marks(&mut self, step: Step) -> Result<(), Halt> {
        let changes = match step.nature() {
            Nature::Effect | Nature::Publication(_) => true,
            Nature::Rollout | Nature::Wait | Nature::Observation => false,
        };
        if self.compared || !changes {
            return Ok(());
        }
        let (engine, entry) = (self.engine, std::sync::Arc::clone(&self.claim.policy));
        let lost = self.call("comparing the journal with its past", engine.lost_past(&entry)).await?;
        self.compared = true;
        lost.map_or(Ok(()), |detail| Err(Halt::Held(HoldReason::Recovery { detail })))
    }

    /// The same for the target that an effect is about to change.
    pub(crate) async fn compare_fence(
        &mut self,
        rotator: &dyn Rotator,
        context: &TargetContext,
    ) -> Result<(), Halt> {
        if !rotator.traits().fenced {
            return Ok(());
        }
        let Some(fence) = self.call("reading the target's fence", rotator.last_fence(context)).await? else {
            return Ok(());
        };
        // Read after the fence: a claim that is newer than ours is no reason.
        let past = self.engine.journal.past(&self.rotation().secret).await?;
        if !is_ahead(fence, &past) {
            return Ok(());
        }
        let detail = ahead_by("the target", fence, &past);
        self.engine.distrust(&detail, &past).await?;
        Err(Halt::Held(HoldReason::Recovery { detail }))
    }
}

#[cfg(test)]
mod tests;
