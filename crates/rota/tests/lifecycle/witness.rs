//! The journal with a witness of every record: one that looks at the world after each,
//! or one that ends the process there.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::{ConsumerId, SecretId};
use rota_core::policy::model::Policy;
use rota_core::rotation::{RolloutEvidence, Rotation};
use rota_engine::ports::{
    AcceptedPolicy, Claim, DueSecret, Journal, JournalError, NewRotation, Notice, Opened, OrderId,
    OutboxClaim, Past, PendingOrder, Record, RolloutClaim, RolloutRecord, Upcoming,
};

/// Sees every record of a rotation, right before it is written and right after.
#[async_trait]
pub(crate) trait Witness: Send + Sync {
    async fn before(&self, _was: &Rotation, _record: &Record) {}

    /// `now` is the state that was just recorded.
    async fn after(&self, _was: &Rotation, _now: &Rotation) {}
}

/// `journal` as `witness` sees it.
pub(crate) struct Witnessed {
    journal: Arc<dyn Journal>,
    witness: Arc<dyn Witness>,
}

impl Witnessed {
    pub(crate) fn over(journal: Arc<dyn Journal>, witness: Arc<dyn Witness>) -> Arc<dyn Journal> {
        Arc::new(Self { journal, witness })
    }
}

#[async_trait]
impl Journal for Witnessed {
    async fn record(&self, claim: &Claim, record: Record) -> Result<Timestamp, JournalError> {
        self.witness.before(&claim.rotation, &record).await;
        let recorded = record.rotation.clone();
        let now = self.journal.record(claim, record).await?;
        self.witness.after(&claim.rotation, &recorded).await;
        Ok(now)
    }

    async fn now(&self) -> Result<Timestamp, Fault> {
        self.journal.now().await
    }

    async fn accepted_policy(&self, known: Option<i64>) -> Result<Option<AcceptedPolicy>, Fault> {
        self.journal.accepted_policy(known).await
    }

    async fn accept_policy(&self, policy: &Policy, digest: &str, by: &str) -> Result<AcceptedPolicy, Fault> {
        self.journal.accept_policy(policy, digest, by).await
    }

    async fn due(&self, limit: u32) -> Result<(Timestamp, Vec<DueSecret>), Fault> {
        self.journal.due(limit).await
    }

    async fn open(&self, new: NewRotation) -> Result<Opened, Fault> {
        self.journal.open(new).await
    }

    async fn postpone(
        &self,
        due: &DueSecret,
        why: &str,
        retry_at: Timestamp,
        notices: Vec<Notice>,
    ) -> Result<(), Fault> {
        self.journal.postpone(due, why, retry_at, notices).await
    }

    async fn refuse_order(&self, order: OrderId, why: &str) -> Result<(), Fault> {
        self.journal.refuse_order(order, why).await
    }

    async fn stray_orders(&self) -> Result<Vec<PendingOrder>, Fault> {
        self.journal.stray_orders().await
    }

    async fn claim(&self, holder: &str, lease: SignedDuration) -> Result<Option<Claim>, Fault> {
        self.journal.claim(holder, lease).await
    }

    async fn renew(&self, claim: &Claim, lease: SignedDuration) -> Result<Timestamp, JournalError> {
        self.journal.renew(claim, lease).await
    }

    async fn release(&self, claim: &Claim, wake_at: Timestamp) -> Result<(), JournalError> {
        self.journal.release(claim, wake_at).await
    }

    async fn rollouts(
        &self,
        consumers: &[ConsumerId],
        since: Timestamp,
    ) -> Result<BTreeMap<ConsumerId, RolloutEvidence>, Fault> {
        self.journal.rollouts(consumers, since).await
    }

    async fn claim_rollout(
        &self,
        holder: &str,
        lease: SignedDuration,
    ) -> Result<Option<RolloutClaim>, Fault> {
        self.journal.claim_rollout(holder, lease).await
    }

    async fn record_rollout(
        &self,
        claim: &RolloutClaim,
        record: RolloutRecord,
    ) -> Result<Timestamp, JournalError> {
        self.journal.record_rollout(claim, record).await
    }

    async fn claim_notices(
        &self,
        channel: &str,
        limit: u32,
        lease: SignedDuration,
    ) -> Result<Option<OutboxClaim>, Fault> {
        self.journal.claim_notices(channel, limit, lease).await
    }

    async fn record_delivery(
        &self,
        claim: &OutboxClaim,
        outcome: Result<(), (Fault, Timestamp)>,
    ) -> Result<(), Fault> {
        self.journal.record_delivery(claim, outcome).await
    }

    async fn upcoming(&self, horizon: SignedDuration) -> Result<(Timestamp, Vec<Upcoming>), Fault> {
        self.journal.upcoming(horizon).await
    }

    async fn past(&self, secret: &SecretId) -> Result<Past, Fault> {
        self.journal.past(secret).await
    }

    async fn distrust(&self, why: &str, notice: Notice) -> Result<(), Fault> {
        self.journal.distrust(why, notice).await
    }

    async fn notify(&self, notices: Vec<Notice>) -> Result<(), Fault> {
        self.journal.notify(notices).await
    }
}
