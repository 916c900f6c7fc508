//! Everything that one transaction records for a rotation: intents and outcomes alike.

use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::rotation::{Rotation, State};
use rota_engine::ports::{Claim, JournalError, Observation, Promotion, Record, Verdict};
use sqlx::PgConnection;

use super::{PgJournal, append_history, claim, due, outbox, rollout, sql_time, to_json, without_nul_text};
use crate::error::Doing as _;

const DOING: &str = "recording";

/// A rotation's state, in the columns that queries read.
pub(super) struct StateColumns {
    pub(super) rotation: String,
    pub(super) phase: &'static str,
    pub(super) step: Option<&'static str>,
    pub(super) urgent: bool,
    held_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    promoted_at: Option<Timestamp>,
}

impl StateColumns {
    pub(super) fn of(rotation: &Rotation) -> Result<Self, Fault> {
        let (held_at, ended_at) = match &rotation.state {
            State::Running { .. } => (None, None),
            State::Held { since, .. } => (Some(*since), None),
            State::Ended { at, .. } => (None, Some(*at)),
        };
        Ok(Self {
            rotation: to_json(rotation)?,
            phase: rotation.phase().as_str(),
            step: rotation.step().map(|step| step.as_str()),
            urgent: rotation.is_emergency(),
            held_at,
            ended_at,
            promoted_at: rotation.facts.promoted_at,
        })
    }
}

/// When a phase was entered first is kept; an end gives the lease back.
const STATE: &str = "\
    UPDATE rota.rotations
    SET rotation = $3::jsonb, phase = $4, step = $5, urgent = $6, held_at = $7, ended_at = $8,
        promoted_at = coalesce(promoted_at, $9), last_effect = $10,
        dual_run_at = CASE WHEN $4 = 'dual_run' THEN coalesce(dual_run_at, clock_timestamp()) ELSE dual_run_at END,
        monitor_at = CASE WHEN $4 = 'monitor' THEN coalesce(monitor_at, clock_timestamp()) ELSE monitor_at END,
        retire_at = CASE WHEN $4 = 'retire' THEN coalesce(retire_at, clock_timestamp()) ELSE retire_at END,
        rolling_back_at =
            CASE WHEN $4 = 'rolling_back' THEN coalesce(rolling_back_at, clock_timestamp()) ELSE rolling_back_at END,
        holder = CASE WHEN $8 IS NULL THEN holder END,
        lease_epoch = CASE WHEN $8 IS NULL THEN lease_epoch END,
        lease_from = CASE WHEN $8 IS NULL THEN lease_from END,
        lease_until = CASE WHEN $8 IS NULL THEN lease_until END
    WHERE id = $1 AND epoch = $2 AND lease_epoch = $2 AND ended_at IS NULL
    RETURNING clock_timestamp()";

pub(super) async fn record(
    journal: &PgJournal,
    held: &Claim,
    record: Record,
) -> Result<Timestamp, JournalError> {
    if record.rotation.id != held.rotation.id || record.rotation.secret != held.rotation.secret {
        return Err(Fault::invalid("a record belongs to the rotation that was claimed").into());
    }
    let mut tx = journal.pool().begin().await.doing(DOING)?;
    let Some(now) = record_state(&mut tx, held, &record).await? else {
        tx.rollback().await.doing(DOING)?;
        claim::give_up(journal, held).await?;
        return Err(JournalError::Stale);
    };
    record_secret(&mut tx, &record).await?;
    rollout::publish(&mut tx, held, &record).await?;
    let mut history = record.history.clone();
    history.extend(rollout::request(&mut tx, &record).await?);
    for (order, outcome) in &record.handled {
        due::handle_order(&mut tx, *order, outcome).await?;
    }
    record_observations(&mut tx, &record).await?;
    if record.rotation.phase().is_ended() {
        let query =
            sqlx::query("DELETE FROM rota.exclusive_claims WHERE rotation = $1").bind(held.rotation.id.0);
        query.execute(&mut *tx).await.doing(DOING)?;
    }
    append_history(&mut tx, &history).await?;
    outbox::add(&mut tx, &record.notices).await?;
    tx.commit().await.doing(DOING)?;
    Ok(now)
}

/// The journal's clock, or `None` where the row is no longer ours.
async fn record_state(
    tx: &mut PgConnection,
    held: &Claim,
    record: &Record,
) -> Result<Option<Timestamp>, Fault> {
    let columns = StateColumns::of(&record.rotation)?;
    let query = sqlx::query_scalar(STATE)
        .bind(held.rotation.id.0)
        .bind(held.epoch.0)
        .bind(columns.rotation)
        .bind(columns.phase)
        .bind(columns.step)
        .bind(columns.urgent)
        .bind(columns.held_at.map(sql_time))
        .bind(columns.ended_at.map(sql_time))
        .bind(columns.promoted_at.map(sql_time))
        .bind(record.last_effect.0);
    let now: Option<jiff_sqlx::Timestamp> = query.fetch_optional(tx).await.doing(DOING)?;
    Ok(now.map(|now| now.to_jiff()))
}

/// What the record says about the secret itself: promoted, blocked, moved, left alive.
async fn record_secret(tx: &mut PgConnection, record: &Record) -> Result<(), Fault> {
    let secret = record.rotation.secret.as_str();
    if let Some(what) = &record.orphan {
        let sql = "INSERT INTO rota.orphans (secret, rotation, what, found_at) \
            VALUES ($1, $2, $3, clock_timestamp()) ON CONFLICT DO NOTHING";
        let query = sqlx::query(sql).bind(secret).bind(record.rotation.id.0).bind(without_nul_text(what));
        query.execute(&mut *tx).await.doing(DOING)?;
    }
    if let Some(Promotion { at, served: _, next_due, next_start }) = &record.promotion {
        let sql = "UPDATE rota.secrets SET value_exists = true, last_promoted_at = $2, next_due_at = $3, \
                next_start_at = $4, postponed_until = NULL, postponed_why = NULL WHERE id = $1";
        let query = sqlx::query(sql)
            .bind(secret)
            .bind(sql_time(*at))
            .bind(next_due.map(sql_time))
            .bind(next_start.map(sql_time));
        query.execute(&mut *tx).await.doing(DOING)?;
    }
    if record.blocked.is_some() || record.next_start.is_some() {
        let sql = "UPDATE rota.secrets SET blocked_by = coalesce($2, blocked_by), \
                next_start_at = coalesce($3, next_start_at) WHERE id = $1";
        let query = sqlx::query(sql)
            .bind(secret)
            .bind(record.blocked.as_deref().map(without_nul_text))
            .bind(record.next_start.map(sql_time));
        query.execute(tx).await.doing(DOING)?;
    }
    Ok(())
}

async fn record_observations(tx: &mut PgConnection, record: &Record) -> Result<(), Fault> {
    if record.observations.is_empty() {
        return Ok(());
    }
    let column = |of: fn(&Observation) -> String| record.observations.iter().map(of).collect::<Vec<_>>();
    let consumers: Vec<Option<&str>> = record
        .observations
        .iter()
        .map(|observation| observation.consumer.as_ref().map(|id| id.as_str()))
        .collect();
    let values: Vec<Option<f64>> =
        record.observations.iter().map(|observation| observation.reading.value).collect();
    let sql = "INSERT INTO rota.observations (rotation, consumer, name, verdict, value, detail, at) \
        SELECT $1, o.*, clock_timestamp() FROM unnest($2::text[], $3::text[], $4::text[], $5::float8[], $6::text[]) o";
    let query = sqlx::query(sql)
        .bind(record.rotation.id.0)
        .bind(consumers)
        .bind(column(|observation| without_nul_text(&observation.check)))
        .bind(column(|observation| verdict(observation.reading.verdict).to_owned()))
        .bind(values)
        .bind(column(|observation| without_nul_text(&observation.reading.detail)));
    query.execute(tx).await.doing(DOING).map(|_| ())
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Healthy => "healthy",
        Verdict::Unhealthy => "unhealthy",
        Verdict::Unknown => "unknown",
    }
}
