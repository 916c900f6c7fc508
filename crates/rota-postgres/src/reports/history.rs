//! History in columns.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx as _;
use rota_core::fault::Fault;
use rota_core::id::{RotationId, SecretId};
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};
use uuid::Uuid;

use super::Reports;
use super::rows::always;
use crate::error::Doing as _;

/// Which lines of history; every field narrows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryFilter {
    pub secret: Option<SecretId>,
    pub rotation: Option<RotationId>,
    /// `step.done`, or a prefix with a full stop at its end: `order.`
    pub kind: Option<String>,
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// The newest that many; all without it.
    pub limit: Option<u32>,
}

/// One line of history.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HistoryLine {
    pub chain: String,
    pub seq: i64,
    pub at: Timestamp,
    pub kind: String,
    pub secret: Option<String>,
    pub rotation: Option<Uuid>,
    pub step: Option<String>,
    pub effect: Option<i64>,
    pub actor: Option<String>,
    /// Who was logged in at the database.
    pub db_user: String,
    pub detail: serde_json::Value,
}

impl FromRow<'_, PgRow> for HistoryLine {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let detail: Option<serde_json::Value> = row.try_get("detail")?;
        Ok(Self {
            chain: row.try_get("chain")?,
            seq: row.try_get("seq")?,
            at: always(row, "at")?,
            kind: row.try_get("kind")?,
            secret: row.try_get("secret")?,
            rotation: row.try_get("rotation")?,
            step: row.try_get("step")?,
            effect: row.try_get("effect")?,
            actor: row.try_get("actor")?,
            db_user: row.try_get("db_user")?,
            detail: detail.unwrap_or_default(),
        })
    }
}

/// By the columns that have an index; the newest of what fits, told oldest first. A secret
/// and a rotation have the lines of the rollouts that served them beside their own.
const HISTORY: &str = "\
    SELECT * FROM (
        SELECT h.chain, h.seq, h.at, h.kind, h.secret, h.rotation, h.step, h.effect, h.actor, h.db_user, h.detail
        FROM (
            SELECT * FROM rota.history own
            WHERE ($1::text IS NULL OR own.chain = 'secret:' || $1) AND ($2::uuid IS NULL OR own.rotation = $2)
            UNION ALL
            SELECT * FROM rota.history served
            WHERE ($1 IS NOT NULL OR $2 IS NOT NULL) AND served.chain = 'system'
              AND served.seq IN (
                  SELECT r.seq FROM rota.rollout_history r
                  WHERE r.served_rotation = ANY (ARRAY(
                      SELECT asked.rotation FROM rota.history asked
                      WHERE asked.kind = 'rollout.asked' AND ($1 IS NULL OR asked.chain = 'secret:' || $1)
                        AND ($2 IS NULL OR asked.rotation = $2))))) h
        WHERE ($3::text IS NULL OR h.kind = $3 OR (right($3, 1) = '.' AND starts_with(h.kind, $3)))
          AND ($4::timestamptz IS NULL OR h.appended_at >= $4)
          AND ($5::timestamptz IS NULL OR h.appended_at < $5)
        ORDER BY h.appended_at DESC, h.chain DESC, h.seq DESC
        LIMIT $6) newest
    ORDER BY at, chain, seq";

impl Reports {
    /// Lines of history, oldest first.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn history(&self, filter: &HistoryFilter) -> Result<Vec<HistoryLine>, Fault> {
        let query = sqlx::query_as(HISTORY)
            .bind(filter.secret.as_ref().map(SecretId::as_str))
            .bind(filter.rotation.map(|id| id.0))
            .bind(filter.kind.as_ref().map(|kind| kind.replace('\0', "\u{fffd}")))
            .bind(filter.since.map(|at| at.to_sqlx()))
            .bind(filter.until.map(|at| at.to_sqlx()))
            .bind(filter.limit.map(i64::from));
        query.fetch_all(self.pool()).await.doing("reading history")
    }
}
