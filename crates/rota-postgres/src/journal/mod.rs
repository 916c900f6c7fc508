//! [`PgJournal`]: the port, and what its parts share.

mod claim;
mod due;
pub(crate) mod outbox;
pub(crate) mod policy;
mod prune;
mod record;
mod rollout;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use jiff_sqlx::ToSqlx as _;
use rota_core::fault::Fault;
use rota_core::id::{ConsumerId, SecretId};
use rota_core::policy::model::{Policy, Priority};
use rota_core::rotation::RolloutEvidence;
use rota_engine::ports::{
    AcceptedPolicy, Claim, DueSecret, HistoryEntry, Journal, JournalError, NewRotation, Notice, Opened,
    OrderId, OutboxClaim, Past, PendingOrder, Record, RolloutClaim, RolloutRecord, Upcoming,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{PgConnection, PgPool};

use crate::connect::JournalPool;
use crate::error::{Doing as _, unreadable};
use crate::identity::{self, HighWater};
pub use policy::PolicyConsent;
pub use prune::{Pruned, Retention};

/// Who history names where the journal itself writes a line.
pub(crate) const ACTOR: &str = "journal";

/// The notification channel that wakes the daemon's loops.
pub(crate) const WAKE: &str = "rota_wake";

/// The journal of one database. Cloning shares it.
#[derive(Clone)]
pub struct PgJournal {
    pool: JournalPool,
    /// The greatest epoch that this process was given.
    pub(crate) high_water: Arc<Mutex<HighWater>>,
}

impl PgJournal {
    /// A journal over a migrated database; see [`crate::check_schema`].
    #[must_use]
    pub fn new(pool: JournalPool) -> Self {
        Self { pool, high_water: Arc::new(Mutex::new(HighWater::NONE)) }
    }

    /// Closes every connection, and waits for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// As [`Journal::accept_policy`], with the notice that `tell` makes of it, both or
    /// neither. Accepting the current digest again tells nothing.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn accept_and_tell(
        &self,
        policy: &Policy,
        digest: &str,
        by: &str,
        tell: impl FnOnce(&AcceptedPolicy) -> Notice + Send,
    ) -> Result<AcceptedPolicy, Fault> {
        policy::accept(self, policy, digest, by, |accepted| vec![tell(accepted)]).await
    }

    /// True where the policy of that digest is or was an accepted one.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn policy_was_accepted(&self, digest: &str) -> Result<bool, Fault> {
        policy::was_accepted(self, digest).await
    }

    /// A person's consent to replacing the accepted version `replaces` by the policy of
    /// that digest.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn policy_consent(&self, digest: &str, replaces: i64) -> Result<Option<PolicyConsent>, Fault> {
        policy::consent(self, digest, replaces).await
    }

    /// The mark of the texts that the accepted policy of `version` was read from, where
    /// [`PgJournal::keep_policy_source`] kept one.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn policy_source(&self, version: i64) -> Result<Option<String>, Fault> {
        policy::source(self, version).await
    }

    /// Keeps a mark of texts that are the accepted policy of `version`, so that nobody
    /// has to read the same texts to know. Idempotent.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn keep_policy_source(&self, version: i64, mark: &str) -> Result<(), Fault> {
        policy::keep_source(self, version, mark).await
    }

    pub(crate) fn connections(&self) -> &JournalPool {
        &self.pool
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool.pool
    }
}

#[async_trait]
impl Journal for PgJournal {
    async fn now(&self) -> Result<Timestamp, Fault> {
        let query = sqlx::query_scalar("SELECT clock_timestamp()");
        let now: jiff_sqlx::Timestamp = query.fetch_one(self.pool()).await.doing("reading the clock")?;
        Ok(now.to_jiff())
    }

    async fn accepted_policy(&self, known: Option<i64>) -> Result<Option<AcceptedPolicy>, Fault> {
        policy::accepted(self, known).await
    }

    async fn accept_policy(&self, policy: &Policy, digest: &str, by: &str) -> Result<AcceptedPolicy, Fault> {
        policy::accept(self, policy, digest, by, |_| Vec::new()).await
    }

    async fn due(&self, limit: u32) -> Result<(Timestamp, Vec<DueSecret>), Fault> {
        due::due(self, limit).await
    }

    async fn open(&self, new: NewRotation) -> Result<Opened, Fault> {
        due::open(self, new).await
    }

    async fn postpone(
        &self,
        due: &DueSecret,
        why: &str,
        retry_at: Timestamp,
        notices: Vec<Notice>,
    ) -> Result<(), Fault> {
        due::postpone(self, due, why, retry_at, &notices).await
    }

    async fn refuse_order(&self, order: OrderId, why: &str) -> Result<(), Fault> {
        due::refuse_order(self, order, why).await
    }

    async fn stray_orders(&self) -> Result<Vec<PendingOrder>, Fault> {
        due::stray_orders(self).await
    }

    async fn claim(&self, holder: &str, lease: SignedDuration) -> Result<Option<Claim>, Fault> {
        claim::claim(self, holder, lease).await
    }

    async fn renew(&self, claim: &Claim, lease: SignedDuration) -> Result<Timestamp, JournalError> {
        claim::renew(self, claim, lease).await
    }

    async fn record(&self, claim: &Claim, record: Record) -> Result<Timestamp, JournalError> {
        record::record(self, claim, record).await
    }

    async fn release(&self, claim: &Claim, wake_at: Timestamp) -> Result<(), JournalError> {
        claim::release(self, claim, wake_at).await
    }

    async fn rollouts(
        &self,
        consumers: &[ConsumerId],
        since: Timestamp,
    ) -> Result<BTreeMap<ConsumerId, RolloutEvidence>, Fault> {
        rollout::evidence(self, consumers, since).await
    }

    async fn claim_rollout(
        &self,
        holder: &str,
        lease: SignedDuration,
    ) -> Result<Option<RolloutClaim>, Fault> {
        rollout::claim(self, holder, lease).await
    }

    async fn record_rollout(
        &self,
        claim: &RolloutClaim,
        record: RolloutRecord,
    ) -> Result<Timestamp, JournalError> {
        rollout::record(self, claim, record).await
    }

    async fn claim_notices(
        &self,
        channel: &str,
        limit: u32,
        lease: SignedDuration,
    ) -> Result<Option<OutboxClaim>, Fault> {
        outbox::claim(self, channel, limit, lease).await
    }

    async fn record_delivery(
        &self,
        claim: &OutboxClaim,
        outcome: Result<(), (Fault, Timestamp)>,
    ) -> Result<(), Fault> {
        outbox::record_delivery(self, claim, outcome).await
    }

    async fn upcoming(&self, horizon: SignedDuration) -> Result<(Timestamp, Vec<Upcoming>), Fault> {
        due::upcoming(self, horizon).await
    }

    async fn past(&self, secret: &SecretId) -> Result<Past, Fault> {
        identity::past(self.pool(), secret).await
    }

    async fn distrust(&self, why: &str, notice: Notice) -> Result<(), Fault> {
        identity::distrust(self.pool(), why, &notice).await
    }

    async fn notify(&self, notices: Vec<Notice>) -> Result<(), Fault> {
        let doing = "adding notices";
        let mut tx = self.pool().begin().await.doing(doing)?;
        outbox::add(&mut tx, &notices).await?;
        tx.commit().await.doing(doing)
    }
}

/// Appends to history; the last thing but notices that a transaction does.
pub(crate) async fn append_history(
    connection: &mut PgConnection,
    entries: &[HistoryEntry],
) -> Result<(), Fault> {
    if entries.is_empty() {
        return Ok(());
    }
    let entries = entries.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
    let query = sqlx::query("SELECT rota.append_history($1::text[]::jsonb[])").bind(entries);
    query.execute(connection).await.doing("appending to history").map(|_| ())
}

/// Wakes the loops of every process when the transaction commits.
async fn wake(connection: &mut PgConnection, what: &str) -> Result<(), Fault> {
    let query = sqlx::query("SELECT pg_notify($1, $2)").bind(WAKE).bind(what);
    query.execute(connection).await.doing("waking the daemon").map(|_| ())
}

/// The JSON text of what is stored, keys sorted. Postgres cannot keep the character
/// NUL, which text from outside may hold; it becomes U+FFFD.
fn to_json<T: Serialize>(stored: &T) -> Result<String, Fault> {
    let mut value = serde_json::to_value(stored)
        .map_err(|_| Fault::invalid("a part of the record cannot be written as JSON"))?;
    without_nul(&mut value);
    Ok(value.to_string())
}

fn without_nul(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => {
            if text.contains('\0') {
                *text = text.replace('\0', "\u{fffd}");
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(without_nul),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(without_nul),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

fn from_json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, Fault> {
    serde_json::from_str(text).map_err(|_| unreadable(what))
}

pub(crate) fn without_nul_text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

fn secret_id(text: String) -> Result<rota_core::id::SecretId, Fault> {
    text.try_into().map_err(|_| unreadable("a secret's name"))
}

/// The order of catch-up, as stored.
fn rank(priority: Priority) -> i16 {
    match priority {
        Priority::Critical => 0,
        Priority::High => 1,
        Priority::Medium => 2,
        Priority::Low => 3,
    }
}

fn priority(rank: i16) -> Result<Priority, Fault> {
    match rank {
        0 => Ok(Priority::Critical),
        1 => Ok(Priority::High),
        2 => Ok(Priority::Medium),
        3 => Ok(Priority::Low),
        _ => Err(unreadable("a priority")),
    }
}

/// Microseconds, as Postgres counts; saturates far beyond any lease.
pub(crate) fn micros(duration: SignedDuration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

/// A time as Postgres keeps it.
fn sql_time(at: Timestamp) -> jiff_sqlx::Timestamp {
    at.to_sqlx()
}
