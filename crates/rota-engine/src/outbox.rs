//! Delivers notices; a dead channel never holds up a rotation.

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::rotation::backoff;

use crate::engine::Engine;
use crate::ports::{Notice, Notifier, within};

/// How many notices one message may collapse.
const BATCH: u32 = 20;

impl Engine {
    /// Delivers the next notices of one channel; returns how many. `None` where the
    /// outbox has nothing for it now.
    ///
    /// # Errors
    /// A passing fault of the journal. A failed delivery is recorded, not returned.
    pub async fn deliver(&self, notifier: &dyn Notifier) -> Result<Option<usize>, Fault> {
        let lease = self.settings.call_limit * 2;
        let claimed = self.journal.claim_notices(notifier.channel(), BATCH, lease).await?;
        let Some(claim) = claimed else { return Ok(None) };
        let notices: Vec<Notice> = claim.notices.iter().map(|(_, notice)| notice.clone()).collect();
        let call = notifier.deliver(&notices);
        let result = within(self.clock.as_ref(), self.settings.call_limit, "delivering notices", call).await;
        let outcome = match result {
            Ok(()) => Ok(()),
            Err(fault) => {
                let failures = claim.failures.saturating_add(1);
                let seed = claim.notices.first().map_or(0, |(id, _)| id.unsigned_abs());
                let seed = rota_core::id::RotationId(uuid::Uuid::from_u128(u128::from(seed)));
                let wait = match &fault {
                    Fault::RateLimited { retry_after, .. } => *retry_after,
                    _ => SignedDuration::ZERO,
                };
                let wait = wait.max(backoff::delay(seed, failures));
                let again = self.journal.now().await?.saturating_add(wait).unwrap_or(Timestamp::MAX);
                tracing::warn!(channel = notifier.channel(), %fault, "a notice was not delivered");
                Err((fault, again))
            }
        };
        let delivered = if outcome.is_ok() { notices.len() } else { 0 };
        self.journal.record_delivery(&claim, outcome).await?;
        Ok(Some(delivered))
    }
}
