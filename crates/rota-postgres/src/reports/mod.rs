//! What people read: status, history, summaries, backlogs.
//!
//! Reads nothing but views, so that the rights of `rota_auditor` are enough.
//! Deliberately absent: any write, and words for the terminal.

mod audit;
mod history;
mod rows;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::{RotationId, SecretId, StoreId, VersionRef};
use rota_engine::ports::AcceptedPolicy;
use sqlx::PgPool;
use uuid::Uuid;

pub use audit::{Exported, NotWhole};
pub use history::{HistoryFilter, HistoryLine};
pub use rows::{
    ChannelStatus, Counts, InFlight, ObservationLine, OrderLine, Orphan, OverdueSecret, RolloutLine,
    RotationSummary, SecretStatus, ServedRollout,
};

use crate::connect::JournalPool;
use crate::error::{Doing as _, unreadable};
use crate::journal::PgJournal;

/// Reads the views of one database.
#[derive(Clone)]
pub struct Reports {
    pool: JournalPool,
}

impl PgJournal {
    /// The reports of this journal's database.
    #[must_use]
    pub fn reports(&self) -> Reports {
        Reports { pool: self.connections().clone() }
    }
}

impl Reports {
    #[must_use]
    pub fn new(pool: JournalPool) -> Self {
        Self { pool }
    }

    fn pool(&self) -> &PgPool {
        &self.pool.pool
    }

    /// The database's clock.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn now(&self) -> Result<Timestamp, Fault> {
        let query = sqlx::query_scalar("SELECT clock_timestamp()");
        let now: jiff_sqlx::Timestamp = query.fetch_one(self.pool()).await.doing("reading the clock")?;
        Ok(now.to_jiff())
    }

    /// Which of the group roles this login may act as.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn rights(&self) -> Result<BTreeMap<String, bool>, Fault> {
        let sql = "SELECT rolname::text, pg_has_role(session_user, oid, 'USAGE') FROM pg_roles \
            WHERE rolname IN ('rota_owner', 'rota_daemon', 'rota_operator', 'rota_auditor')";
        let rows: Vec<(String, bool)> =
            sqlx::query_as(sql).fetch_all(self.pool()).await.doing("reading this login's roles")?;
        Ok(rows.into_iter().collect())
    }

    /// The name that this connection logged in with.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn login(&self) -> Result<String, Fault> {
        let query = sqlx::query_scalar("SELECT session_user::text");
        query.fetch_one(self.pool()).await.doing("reading this login's name")
    }

    /// How many sessions of that name there are at this database, whoever's they are.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn sessions(&self, application_name: &str) -> Result<i64, Fault> {
        let sql = "SELECT count(*) FROM pg_stat_activity \
            WHERE datname = current_database() AND application_name = $1";
        let query = sqlx::query_scalar(sql).bind(application_name);
        query.fetch_one(self.pool()).await.doing("looking for sessions")
    }

    /// The policy that all daemons act on; `None` before the first one.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn accepted_policy(&self) -> Result<Option<AcceptedPolicy>, Fault> {
        crate::journal::policy::seen(self.pool()).await
    }

    /// What each place shows by the last recorded publication of any secret in it, by
    /// store and path.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn published_versions(&self) -> Result<BTreeMap<(StoreId, String), VersionRef>, Fault> {
        const DOING: &str = "reading publications";
        let sql = "SELECT versions::text FROM rota.published_versions ORDER BY published_at";
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(self.pool()).await.doing(DOING)?;
        let mut last = BTreeMap::new();
        for row in rows {
            let stores: BTreeMap<StoreId, BTreeMap<String, VersionRef>> =
                serde_json::from_str(&row).map_err(|_| unreadable("a publication"))?;
            for (store, paths) in stores {
                last.extend(paths.into_iter().map(|(path, version)| ((store.clone(), path), version)));
            }
        }
        Ok(last)
    }

    /// How every secret is, by name; or one.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn status(&self, secret: Option<&SecretId>) -> Result<Vec<SecretStatus>, Fault> {
        let sql = "SELECT * FROM rota.secret_status WHERE $1::text IS NULL OR secret = $1 ORDER BY secret";
        let query = sqlx::query_as(sql).bind(secret.map(SecretId::as_str));
        query.fetch_all(self.pool()).await.doing("reading the status")
    }

    /// The secrets that people look at first, at most `limit`: in flight, then by due
    /// date. Those that left the policy only while something is in flight.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn foremost(&self, limit: u32) -> Result<Vec<SecretStatus>, Fault> {
        // Two reads of an index each: of a hundred thousand secrets at rest only the first.
        let sql = "SELECT * FROM ( \
                (SELECT * FROM rota.secret_status WHERE rotation IS NOT NULL \
                 ORDER BY next_due_at NULLS LAST, secret LIMIT $1) \
                UNION ALL \
                (SELECT * FROM rota.secret_status WHERE rotation IS NULL AND removed_at IS NULL \
                 ORDER BY next_due_at NULLS LAST, secret LIMIT $1)) s \
            ORDER BY rotation IS NULL, next_due_at NULLS LAST, secret LIMIT $1";
        let query = sqlx::query_as(sql).bind(i64::from(limit));
        query.fetch_all(self.pool()).await.doing("reading the status")
    }

    /// Numbers about everything.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn counts(&self) -> Result<Counts, Fault> {
        rows::counts(self.pool()).await
    }

    /// What should have been promoted by now, the longest overdue first.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn overdue(&self) -> Result<Vec<OverdueSecret>, Fault> {
        let sql = "SELECT * FROM rota.overdue ORDER BY next_due_at, secret";
        sqlx::query_as(sql).fetch_all(self.pool()).await.doing("reading what is overdue")
    }

    /// One line per rotation, the newest first.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn rotations(
        &self,
        secret: Option<&SecretId>,
        limit: u32,
    ) -> Result<Vec<RotationSummary>, Fault> {
        let sql = "SELECT * FROM rota.rotation_summary WHERE $1::text IS NULL OR secret = $1 \
            ORDER BY opened_at DESC, rotation LIMIT $2";
        let query = sqlx::query_as(sql).bind(secret.map(SecretId::as_str)).bind(i64::from(limit));
        query.fetch_all(self.pool()).await.doing("reading rotations")
    }

    /// What earlier rotations left alive and nobody has resolved.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn orphans(&self, secret: Option<&SecretId>) -> Result<Vec<Orphan>, Fault> {
        let sql = "SELECT * FROM rota.open_orphans WHERE $1::text IS NULL OR secret = $1 ORDER BY orphan";
        let query = sqlx::query_as(sql).bind(secret.map(SecretId::as_str));
        query.fetch_all(self.pool()).await.doing("reading orphans")
    }

    /// Rollouts that are not over, and those that were requested within `back`, the
    /// newest first.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn rollouts(&self, back: SignedDuration) -> Result<Vec<RolloutLine>, Fault> {
        let sql = "SELECT * FROM rota.rollout_status WHERE ended_at IS NULL \
            UNION ALL \
            SELECT * FROM rota.rollout_status WHERE ended_at IS NOT NULL \
                AND requested_at > statement_timestamp() - $1 * interval '1 microsecond' \
            ORDER BY requested_at DESC, consumer";
        let micros = i64::try_from(back.as_micros()).unwrap_or(i64::MAX / 4);
        sqlx::query_as(sql).bind(micros).fetch_all(self.pool()).await.doing("reading rollouts")
    }

    /// The rollouts that served those rotations, as they were asked for.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn rollouts_of(&self, rotations: &[RotationId]) -> Result<Vec<ServedRollout>, Fault> {
        let sql = "SELECT * FROM rota.rotation_rollouts WHERE rotation = ANY ($1) \
            ORDER BY asked_at, consumer, generation";
        let ids: Vec<Uuid> = rotations.iter().map(|id| id.0).collect();
        sqlx::query_as(sql).bind(ids).fetch_all(self.pool()).await.doing("reading rollouts")
    }

    /// The observations of one rotation, the newest first.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn observations(
        &self,
        rotation: RotationId,
        limit: u32,
    ) -> Result<Vec<ObservationLine>, Fault> {
        let sql = "SELECT * FROM rota.observation_log WHERE rotation = $1 ORDER BY id DESC LIMIT $2";
        let query = sqlx::query_as(sql).bind(rotation.0).bind(i64::from(limit));
        query.fetch_all(self.pool()).await.doing("reading observations")
    }

    /// Orders with what became of them, the newest first.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn orders(&self, secret: Option<&SecretId>, limit: u32) -> Result<Vec<OrderLine>, Fault> {
        let sql = "SELECT * FROM rota.order_log WHERE $1::text IS NULL OR secret = $1 \
            ORDER BY order_id DESC LIMIT $2";
        let query = sqlx::query_as(sql).bind(secret.map(SecretId::as_str)).bind(i64::from(limit));
        query.fetch_all(self.pool()).await.doing("reading orders")
    }

    /// How far each channel of notices is.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn channels(&self) -> Result<Vec<ChannelStatus>, Fault> {
        let sql = "SELECT * FROM rota.channel_status ORDER BY channel";
        sqlx::query_as(sql).fetch_all(self.pool()).await.doing("reading channels")
    }
}
