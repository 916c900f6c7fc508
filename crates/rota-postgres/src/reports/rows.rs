//! The rows of the views, as values.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::rotation::HoldReason;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, PgPool, Row as _};
use uuid::Uuid;

use crate::error::Doing as _;

type SqlResult<T> = Result<T, sqlx::Error>;

/// A time of the row; `None` for NULL.
fn time(row: &PgRow, column: &str) -> SqlResult<Option<Timestamp>> {
    let at: Option<jiff_sqlx::Timestamp> = row.try_get(column)?;
    Ok(at.map(|at| at.to_jiff()))
}

/// A time that every row has.
pub(super) fn always(row: &PgRow, column: &str) -> SqlResult<Timestamp> {
    Ok(row.try_get::<jiff_sqlx::Timestamp, _>(column)?.to_jiff())
}

/// Why the rotation is held; `None` where it is not.
fn hold(row: &PgRow) -> SqlResult<Option<HoldReason>> {
    let reason: Option<serde_json::Value> = row.try_get("hold_reason")?;
    reason
        .map(|reason| serde_json::from_value(reason).map_err(|error| sqlx::Error::Decode(Box::new(error))))
        .transpose()
}

/// How one secret is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SecretStatus {
    pub secret: String,
    pub priority: String,
    pub kind: String,
    pub owner: Option<String>,
    /// `None`: the age is unknown.
    pub last_promoted_at: Option<Timestamp>,
    pub next_due_at: Option<Timestamp>,
    pub next_start_at: Option<Timestamp>,
    pub overdue: bool,
    pub postponed_until: Option<Timestamp>,
    pub postponed_why: Option<String>,
    pub blocked_by: Option<String>,
    pub orphans: i64,
    /// What consumers read by the last recorded publication (`old`, `new_old`, ...).
    pub published: Option<String>,
    pub removed_at: Option<Timestamp>,
    pub in_flight: Option<InFlight>,
}

/// The rotation of a secret that has not ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InFlight {
    pub rotation: Uuid,
    pub phase: String,
    pub step: String,
    pub emergency: bool,
    pub opened_at: Timestamp,
    pub wake_at: Timestamp,
    pub waiting_for: Option<String>,
    /// A person hands the value in or confirms something, and has not yet.
    pub waits_for_person: bool,
    pub held: Option<HoldReason>,
    pub held_at: Option<Timestamp>,
    /// What consumers read can hold two values at once.
    pub shows_a_second: bool,
    /// The old value can still be brought back.
    pub can_undo: bool,
    pub old_version: Option<String>,
    pub new_version: Option<String>,
}

impl FromRow<'_, PgRow> for SecretStatus {
    fn from_row(row: &PgRow) -> SqlResult<Self> {
        let rotation: Option<Uuid> = row.try_get("rotation")?;
        Ok(Self {
            secret: row.try_get("secret")?,
            priority: row.try_get("priority")?,
            kind: row.try_get("kind")?,
            owner: row.try_get("owner")?,
            last_promoted_at: time(row, "last_promoted_at")?,
            next_due_at: time(row, "next_due_at")?,
            next_start_at: time(row, "next_start_at")?,
            overdue: row.try_get("overdue")?,
            postponed_until: time(row, "postponed_until")?,
            postponed_why: row.try_get("postponed_why")?,
            blocked_by: row.try_get("blocked_by")?,
            orphans: row.try_get("orphans")?,
            published: row.try_get("published")?,
            removed_at: time(row, "removed_at")?,
            in_flight: rotation.map(|rotation| InFlight::from_row(row, rotation)).transpose()?,
        })
    }
}

impl InFlight {
    fn from_row(row: &PgRow, rotation: Uuid) -> SqlResult<Self> {
        let state: serde_json::Value = row.try_get("rotation_state")?;
        let state: rota_core::rotation::Rotation =
            serde_json::from_value(state).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        Ok(Self {
            rotation,
            phase: row.try_get("phase")?,
            step: row.try_get("step")?,
            emergency: row.try_get("emergency")?,
            opened_at: always(row, "opened_at")?,
            wake_at: always(row, "wake_at")?,
            waiting_for: row.try_get("waiting_for")?,
            waits_for_person: row.try_get("waits_for_person")?,
            held: hold(row)?,
            held_at: time(row, "held_at")?,
            shows_a_second: state.shape.shows_a_second,
            can_undo: rota_core::rotation::can_roll_back(&state).is_ok(),
            old_version: row.try_get("old_version")?,
            new_version: row.try_get("new_version")?,
        })
    }
}

/// A secret whose due date has passed without promotion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OverdueSecret {
    pub secret: String,
    pub priority: String,
    pub owner: Option<String>,
    pub next_due_at: Timestamp,
    pub rotation: Option<Uuid>,
    pub phase: Option<String>,
    pub step: Option<String>,
    pub waiting_for: Option<String>,
    pub held: Option<HoldReason>,
    pub postponed_why: Option<String>,
    pub blocked_by: Option<String>,
}

impl FromRow<'_, PgRow> for OverdueSecret {
    fn from_row(row: &PgRow) -> SqlResult<Self> {
        Ok(Self {
            secret: row.try_get("secret")?,
            priority: row.try_get("priority")?,
            owner: row.try_get("owner")?,
            next_due_at: always(row, "next_due_at")?,
            rotation: row.try_get("rotation")?,
            phase: row.try_get("phase")?,
            step: row.try_get("step")?,
            waiting_for: row.try_get("waiting_for")?,
            held: hold(row)?,
            postponed_why: row.try_get("postponed_why")?,
            blocked_by: row.try_get("blocked_by")?,
        })
    }
}

/// One rotation from its start to its end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RotationSummary {
    pub rotation: Uuid,
    pub secret: String,
    /// `scheduled` or `requested`.
    pub cause: String,
    pub requested_by: Option<String>,
    pub reason: Option<String>,
    pub emergency: bool,
    pub phase: String,
    pub step: Option<String>,
    /// The due date that it serves.
    pub due_at: Option<Timestamp>,
    pub opened_at: Timestamp,
    pub dual_run_at: Option<Timestamp>,
    pub promoted_at: Option<Timestamp>,
    pub monitor_at: Option<Timestamp>,
    pub retire_at: Option<Timestamp>,
    pub rolling_back_at: Option<Timestamp>,
    pub held_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub outcome: Option<String>,
    /// How it was proven that the old value is refused, or why it could not be.
    pub refusal_evidence: Option<String>,
    pub revoke_confirmed_at: Option<Timestamp>,
    pub old_version: Option<String>,
    pub new_version: Option<String>,
}

impl FromRow<'_, PgRow> for RotationSummary {
    fn from_row(row: &PgRow) -> SqlResult<Self> {
        Ok(Self {
            rotation: row.try_get("rotation")?,
            secret: row.try_get("secret")?,
            cause: row.try_get("cause")?,
            requested_by: row.try_get("requested_by")?,
            reason: row.try_get("reason")?,
            emergency: row.try_get("emergency")?,
            phase: row.try_get("phase")?,
            step: row.try_get("step")?,
            due_at: time(row, "due_at")?,
            opened_at: always(row, "opened_at")?,
            dual_run_at: time(row, "dual_run_at")?,
            promoted_at: time(row, "promoted_at")?,
            monitor_at: time(row, "monitor_at")?,
            retire_at: time(row, "retire_at")?,
            rolling_back_at: time(row, "rolling_back_at")?,
            held_at: time(row, "held_at")?,
            ended_at: time(row, "ended_at")?,
            outcome: row.try_get("outcome")?,
            refusal_evidence: row.try_get("refusal_evidence")?,
            revoke_confirmed_at: time(row, "revoke_confirmed_at")?,
            old_version: row.try_get("old_version")?,
            new_version: row.try_get("new_version")?,
        })
    }
}

/// Something that an earlier rotation left alive.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Orphan {
    pub orphan: i64,
    pub secret: String,
    pub rotation: Uuid,
    pub what: String,
    pub found_at: Timestamp,
}

impl FromRow<'_, PgRow> for Orphan {
    fn from_row(row: &PgRow) -> SqlResult<Self> {
        Ok(Self {
            orphan: row.try_get("orphan")?,
            secret: row.try_get("secret")?,
            rotation: row.try_get("rotation")?,
            what: row.try_get("what")?,
            found_at: always(row, "found_at")?,
        })
    }
}

/// One rollout of one consumer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RolloutLine {
    pub consumer: String,
    pub generation: i64,
    /// `requested`, `starting`, `begun`, `finished`, `failed`.
    pub state: String,
    pub published_at: Timestamp,
    pub requested_at: Timestamp,
    pub begun_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub failures: i32,
    /// Why it failed.
    pub detail: Option<String>,
}

impl FromRow<'_, PgRow> for RolloutLine {
    fn from_row(row: &PgRow) -> SqlResult<Self> {
        Ok(Self {
            consumer: row.try_get("consumer")?,
            generation: row.try_get("generation")?,
            state: row.try_get("state")?,
            published_at: always(row, "published_at")?,
            requested_at: always(row, "requested_at")?,
            begun_at: time(row, "begun_at")?,
            ended_at: time(row, "ended_at")?,
            failures: row.try_get("failures")?,
            detail: row.try_get("detail")?,
        })
    }
}

/// A rollout, as one of the rotations that it served sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ServedRollout {
    pub secret: String,
    pub rotation: Uuid,
    /// The step that asked for it.
    pub step: Option<String>,
    pub asked_at: Timestamp,
    pub consumer: String,
    pub generation: i64,
    /// `requested`, `starting`, `begun`, `finished`, `failed`.
    pub state: String,
    pub begun_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
    pub failures: i32,
    /// Why it failed.
    pub detail: Option<String>,
}

impl FromRow<'_, PgRow> for ServedRollout {
    fn from_row(row: &PgRow) -> SqlResult<Self> {
        Ok(Self {
            secret: row.try_get("secret")?,
            rotation: row.try_get("rotation")?,
            step: row.try_get("step")?,
            asked_at: always(row, "asked_at")?,
            consumer: row.try_get("consumer")?,
            generation: row.try_get("generation")?,
            state: row.try_get("state")?,
            begun_at: time(row, "begun_at")?,
            ended_at: time(row, "ended_at")?,
            failures: row.try_get("failures")?,
            detail: row.try_get("detail")?,
        })
    }
}

/// One look at one check.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ObservationLine {
    pub secret: String,
    pub rotation: Uuid,
    pub consumer: Option<String>,
    pub name: String,
    /// `healthy`, `unhealthy`, `unknown`.
    pub verdict: String,
    pub value: Option<f64>,
    pub detail: String,
    pub at: Timestamp,
}

impl FromRow<'_, PgRow> for ObservationLine {
    fn from_row(row: &PgRow) -> SqlResult<Self> {
        Ok(Self {
            secret: row.try_get("secret")?,
            rotation: row.try_get("rotation")?,
            consumer: row.try_get("consumer")?,
            name: row.try_get("name")?,
            verdict: row.try_get("verdict")?,
            value: row.try_get("value")?,
            detail: row.try_get("detail")?,
            at: always(row, "at")?,
        })
    }
}

/// What somebody asked for, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OrderLine {
    pub order: i64,
    pub secret: String,
    pub name: String,
    pub rotation: Option<Uuid>,
    pub db_user: String,
    pub given_name: String,
    pub reason: String,
    pub at: Timestamp,
    /// Why it has to wait.
    pub waiting: Option<String>,
    pub handled_at: Option<Timestamp>,
    pub outcome: Option<String>,
}

impl FromRow<'_, PgRow> for OrderLine {
    fn from_row(row: &PgRow) -> SqlResult<Self> {
        Ok(Self {
            order: row.try_get("order_id")?,
            secret: row.try_get("secret")?,
            name: row.try_get("name")?,
            rotation: row.try_get("rotation")?,
            db_user: row.try_get("db_user")?,
            given_name: row.try_get("given_name")?,
            reason: row.try_get("reason")?,
            at: always(row, "at")?,
            waiting: row.try_get("waiting")?,
            handled_at: time(row, "handled_at")?,
            outcome: row.try_get("outcome")?,
        })
    }
}

/// How far one channel is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChannelStatus {
    pub channel: String,
    pub pending: i64,
    /// Failed deliveries in a row; 0 where the last one went through.
    pub failures: i32,
    pub last_fault: Option<String>,
    pub delivered_at: Option<Timestamp>,
    /// No delivery is tried before.
    pub not_before: Option<Timestamp>,
}

impl FromRow<'_, PgRow> for ChannelStatus {
    fn from_row(row: &PgRow) -> SqlResult<Self> {
        Ok(Self {
            channel: row.try_get("channel")?,
            pending: row.try_get("pending")?,
            failures: row.try_get("failures")?,
            last_fault: row.try_get("last_fault")?,
            delivered_at: time(row, "delivered_at")?,
            not_before: time(row, "not_before")?,
        })
    }
}

/// Numbers about everything, for metrics and the digest.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Counts {
    pub secrets: i64,
    pub blocked: i64,
    pub orphans: i64,
    pub waiting_for_person: i64,
    /// By priority; priorities without one are left out.
    pub overdue: BTreeMap<String, i64>,
    pub oldest_overdue_at: Option<Timestamp>,
    /// Rotations in flight by phase; phases without one are left out.
    pub rotations: BTreeMap<String, i64>,
}

pub(super) async fn counts(pool: &PgPool) -> Result<Counts, Fault> {
    const DOING: &str = "counting";
    let row = sqlx::query("SELECT * FROM rota.counts").fetch_one(pool).await.doing(DOING)?;
    let map = |column: &str| -> Result<BTreeMap<String, i64>, Fault> {
        let counted: serde_json::Value = row.try_get(column).doing(DOING)?;
        serde_json::from_value(counted).map_err(|_| crate::error::unreadable("counts"))
    };
    Ok(Counts {
        secrets: row.try_get("secrets").doing(DOING)?,
        blocked: row.try_get("blocked").doing(DOING)?,
        orphans: row.try_get("orphans").doing(DOING)?,
        waiting_for_person: row.try_get("waiting_for_person").doing(DOING)?,
        overdue: map("overdue")?,
        oldest_overdue_at: time(&row, "oldest_overdue_at").doing(DOING)?,
        rotations: map("rotations")?,
    })
}
