//! The journal with an end to every wait: a connection that went silent must not
//! hold a process for ever.
//!
//! Past the limit the outcome is unknown, as of any call: nothing was recorded that
//! this process may build on, and the next claim reads what became of it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::{Either, select};
use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::{ConsumerId, SecretId};
use rota_core::policy::model::Policy;
use rota_core::rotation::RolloutEvidence;

use crate::failpoint::Records;
use crate::ports::{
    AcceptedPolicy, Claim, Clock, DueSecret, Journal, JournalError, NewRotation, Notice, Opened, OrderId,
    OutboxClaim, Past, PendingOrder, Record, RolloutClaim, RolloutRecord, Upcoming,
};

pub(crate) struct Bounded {
    journal: Arc<dyn Journal>,
    clock: Arc<dyn Clock>,
    limit: SignedDuration,
}

impl Bounded {
    pub(crate) fn new(journal: Arc<dyn Journal>, clock: Arc<dyn Clock>, limit: SignedDuration) -> Self {
        Self { journal, clock, limit }
    }

    async fn within<T, E: From<Fault>>(
        &self,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        match select(Box::pin(call), self.clock.sleep(self.limit)).await {
            Either::Left((result, _)) => result,
            Either::Right(((), _)) => {
                let message = format!("the state database gave no answer within {:#}", self.limit);
                Err(Fault::transient(message).into())
            }
        }
    }
}

#[async_trait]
impl Journal for Bounded {
    async fn now(&self) -> Result<Timestamp, Fault> {
        self.within(self.journal.now()).await
    }

    async fn accepted_policy(&self, known: Option<i64>) -> Result<Option<AcceptedPolicy>, Fault> {
        self.within(self.journal.accepted_policy(known)).await
    }

    async fn accept_policy(&self, policy: &Policy, digest: &str, by: &str) -> Result<AcceptedPolicy, Fault> {
        self.within(self.journal.accept_policy(policy, digest, by)).await
    }

    async fn due(&self, limit: u32) -> Result<(Timestamp, Vec<DueSecret>), Fault> {
        Records::about_to_call("due");
        self.within(self.journal.due(limit)).await
    }

    async fn open(&self, new: NewRotation) -> Result<Opened, Fault> {
        let records = Records::about_to_make(&new.history);
        let opened = self.within(self.journal.open(new)).await?;
        if opened == Opened::Yes {
            records.made();
        }
        Ok(opened)
    }

    async fn postpone(
        &self,
        due: &DueSecret,
        why: &str,
        retry_at: Timestamp,
        notices: Vec<Notice>,
    ) -> Result<(), Fault> {
        self.within(self.journal.postpone(due, why, retry_at, notices)).await
    }

    async fn refuse_order(&self, order: OrderId, why: &str) -> Result<(), Fault> {
        self.within(self.journal.refuse_order(order, why)).await
    }

    async fn stray_orders(&self) -> Result<Vec<PendingOrder>, Fault> {
        self.within(self.journal.stray_orders()).await
    }

    async fn claim(&self, holder: &str, lease: SignedDuration) -> Result<Option<Claim>, Fault> {
        Records::about_to_call("claim");
        self.within(self.journal.claim(holder, lease)).await
    }

    async fn renew(&self, claim: &Claim, lease: SignedDuration) -> Result<Timestamp, JournalError> {
        self.within(self.journal.renew(claim, lease)).await
    }

    async fn record(&self, claim: &Claim, record: Record) -> Result<Timestamp, JournalError> {
        let records = Records::about_to_make(&record.history);
        let now = self.within(self.journal.record(claim, record)).await?;
        records.made();
        Ok(now)
    }

    async fn release(&self, claim: &Claim, wake_at: Timestamp) -> Result<(), JournalError> {
        self.within(self.journal.release(claim, wake_at)).await
    }

    async fn rollouts(
        &self,
        consumers: &[ConsumerId],
        since: Timestamp,
    ) -> Result<BTreeMap<ConsumerId, RolloutEvidence>, Fault> {
        self.within(self.journal.rollouts(consumers, since)).await
    }

    async fn claim_rollout(
        &self,
        holder: &str,
        lease: SignedDuration,
    ) -> Result<Option<RolloutClaim>, Fault> {
        Records::about_to_call("claim_rollout");
        self.within(self.journal.claim_rollout(holder, lease)).await
    }

    async fn record_rollout(
        &self,
        claim: &RolloutClaim,
        record: RolloutRecord,
    ) -> Result<Timestamp, JournalError> {
        let records = Records::about_to_make(&record.history);
        let now = self.within(self.journal.record_rollout(claim, record)).await?;
        records.made();
        Ok(now)
    }

    async fn claim_notices(
        &self,
        channel: &str,
        limit: u32,
        lease: SignedDuration,
    ) -> Result<Option<OutboxClaim>, Fault> {
        Records::about_to_call("claim_notices");
        self.within(self.journal.claim_notices(channel, limit, lease)).await
    }

    async fn record_delivery(
        &self,
        claim: &OutboxClaim,
        outcome: Result<(), (Fault, Timestamp)>,
    ) -> Result<(), Fault> {
        self.within(self.journal.record_delivery(claim, outcome)).await
    }

    async fn upcoming(&self, horizon: SignedDuration) -> Result<(Timestamp, Vec<Upcoming>), Fault> {
        Records::about_to_call("upcoming");
        self.within(self.journal.upcoming(horizon)).await
    }

    async fn past(&self, secret: &SecretId) -> Result<Past, Fault> {
        self.within(self.journal.past(secret)).await
    }

    async fn distrust(&self, why: &str, notice: Notice) -> Result<(), Fault> {
        self.within(self.journal.distrust(why, notice)).await
    }

    async fn notify(&self, notices: Vec<Notice>) -> Result<(), Fault> {
        self.within(self.journal.notify(notices)).await
    }
}
