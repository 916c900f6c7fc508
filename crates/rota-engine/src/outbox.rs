//! Delivers notices; a dead channel never holds up a rotation.

use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::rotation::backoff;

use crate::engine::Engine;
use crate::ports::{Notice, NoticeKind, Notifier, OutboxClaim, within};

/// How many notices one message may collapse.
const BATCH: u32 = 20;

/// How many of the claimed notices make the next message. A digest stands alone: it
/// is the anchor of history, and a message about many would not show it whole.
fn together(claim: &OutboxClaim) -> usize {
    let digest = claim.notices.iter().position(|(_, notice)| notice.kind == NoticeKind::Digest);
    digest.map_or(claim.notices.len(), |before| before.max(1))
}

impl Engine {
    /// Delivers the next notices of one channel; returns how many. `None` where the
    /// outbox has nothing for it now.
    ///
    /// # Errors
    /// A passing fault of the journal. A failed delivery is recorded, not returned.
    pub async fn deliver(&self, notifier: &dyn Notifier) -> Result<Option<usize>, Fault> {
        let lease = self.settings.call_limit * 2;
        let claimed = self.journal.claim_notices(notifier.channel(), BATCH, lease).await?;
        let Some(mut claim) = claimed else { return Ok(None) };
        claim.notices.truncate(together(&claim));
        let notices: Vec<Notice> = claim.notices.iter().map(|(_, notice)| notice.clone()).collect();
        let call = notifier.deliver(&notices);
        let result = within(self.clock.as_ref(), self.settings.call_limit, "delivering notices", call).await;
        let outcome = match result {
            Ok(()) => Ok(()),
            Err(fault) => {
                let failures = claim.failures.saturating_add(1);
                let seed = claim.notices.first().map_or(0, |(id, _)| id.unsigned_abs());
                let seed = rota_core::id::RotationId(uuid::Uuid::from_u128(u128::from(seed)));
                let wait = fault.asks_to_wait().max(backoff::delay(seed, failures));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::journal_suite::parts;

    fn claim(kinds: &[NoticeKind]) -> OutboxClaim {
        let notice = |kind| Notice { kind, ..parts::notice("key", Timestamp::UNIX_EPOCH) };
        OutboxClaim {
            notices: kinds.iter().map(|kind| (0, notice(*kind))).collect(),
            channel: "slack".to_owned(),
            failures: 0,
        }
    }

    #[test]
    fn a_digest_is_a_message_of_its_own_wherever_it_stands() {
        use NoticeKind::{Digest, Held};
        assert_eq!(together(&claim(&[Held, Held, Digest, Held])), 2);
        assert_eq!(together(&claim(&[Digest, Held])), 1);
        assert_eq!(together(&claim(&[Digest, Digest])), 1);
        assert_eq!(together(&claim(&[Held; 20])), 20);
    }
}
