//! What should start, what starts, and orders that wait for it.

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::RotationId;
use rota_core::rotation::{Cause, Event, Rotation, State, apply};
use rota_engine::ports::{
    DueSecret, HistoryEntry, NewRotation, Notice, Opened, OrderId, OrderKind, PendingOrder, Upcoming,
};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::record::StateColumns;
use super::{
    PgJournal, append_history, from_json, micros, outbox, priority, secret_id, sql_time, to_json, wake,
    without_nul_text,
};
use crate::error::{Doing as _, unreadable};

/// Reads the few rows of `secrets_due` that start by now and the open orders, never
/// all secrets.
const DUE: &str = "\
    WITH ordered AS MATERIALIZED (
        SELECT DISTINCT ON (o.secret) o.* FROM rota.orders o
        WHERE o.handled_at IS NULL AND o.name IN ('rotate', 'emergency')
          AND (o.not_before IS NULL OR o.not_before <= statement_timestamp())
        ORDER BY o.secret, o.name = 'emergency' DESC, o.id),
    candidate AS (
        SELECT s.id FROM rota.secrets s
        WHERE s.removed_at IS NULL AND s.blocked_by IS NULL AND s.starts_at IS NOT NULL
          AND s.starts_at <= statement_timestamp()
        UNION SELECT o.secret FROM ordered o)
    SELECT s.id AS due_secret, s.priority, s.value_exists,
           CASE WHEN s.next_start_at <= statement_timestamp() THEN s.next_due_at END AS due,
           clock_timestamp() AS now,
           o.id, o.secret, o.kind::text, o.db_user, o.given_name, o.reason, o.at
    FROM candidate c
    JOIN rota.secrets s ON s.id = c.id
    LEFT JOIN ordered o ON o.secret = s.id
    WHERE NOT EXISTS (SELECT FROM rota.rotations r WHERE r.secret = s.id AND r.ended_at IS NULL)
    ORDER BY o.name IS NOT DISTINCT FROM 'emergency' DESC, s.priority, coalesce(s.next_due_at, o.at), s.id
    LIMIT $1";

pub(super) async fn due(journal: &PgJournal, limit: u32) -> Result<(Timestamp, Vec<DueSecret>), Fault> {
    let doing = "looking for what is due";
    let rows = sqlx::query(DUE).bind(i64::from(limit)).fetch_all(journal.pool()).await.doing(doing)?;
    let Some(first) = rows.first() else {
        return Ok((rota_engine::ports::Journal::now(journal).await?, Vec::new()));
    };
    crate::identity::check_trusted(journal.pool()).await?;
    let now = first.try_get::<jiff_sqlx::Timestamp, _>("now").doing(doing)?.to_jiff();
    let due = rows.iter().map(due_secret).collect::<Result<_, _>>()?;
    Ok((now, due))
}

fn due_secret(row: &PgRow) -> Result<DueSecret, Fault> {
    let doing = "reading what is due";
    let order: Option<i64> = row.try_get("id").doing(doing)?;
    let due: Option<jiff_sqlx::Timestamp> = row.try_get("due").doing(doing)?;
    Ok(DueSecret {
        secret: secret_id(row.try_get("due_secret").doing(doing)?)?,
        due: due.map(|due| due.to_jiff()),
        priority: priority(row.try_get("priority").doing(doing)?)?,
        order: order.map(|_| pending_order(row)).transpose()?,
        exists: row.try_get("value_exists").doing(doing)?,
    })
}

/// By the date index. A rotation that is in flight says what it waits for; without one,
/// the last one says whether a person handed the value in.
const UPCOMING: &str = "\
    SELECT s.id, s.next_due_at, r.rotation IS NOT NULL AND r.ended_at IS NULL AS in_flight,
           r.rotation #>> '{shape,source}' = 'submitted' AS by_person, r.rotation::text
    FROM rota.secrets s
    LEFT JOIN LATERAL (
        SELECT r.rotation, r.ended_at FROM rota.rotations r WHERE r.secret = s.id
        ORDER BY r.opened_at DESC LIMIT 1) r ON true
    WHERE s.removed_at IS NULL AND s.next_due_at <= statement_timestamp() + $1 * interval '1 microsecond'
    ORDER BY s.next_due_at, s.id";

pub(super) async fn upcoming(
    journal: &PgJournal,
    horizon: SignedDuration,
) -> Result<(Timestamp, Vec<Upcoming>), Fault> {
    const DOING: &str = "looking for what is due soon";
    let rows = sqlx::query(UPCOMING).bind(micros(horizon)).fetch_all(journal.pool()).await.doing(DOING)?;
    let now = rota_engine::ports::Journal::now(journal).await?;
    let upcoming = rows
        .iter()
        .map(|row| {
            let in_flight: Option<bool> = row.try_get("in_flight").doing(DOING)?;
            let text: Option<String> = row.try_get("rotation").doing(DOING)?;
            let text = text.filter(|_| in_flight == Some(true));
            let rotation: Option<Rotation> = text.map(|text| from_json("a rotation", &text)).transpose()?;
            Ok(Upcoming {
                secret: secret_id(row.try_get("id").doing(DOING)?)?,
                due: row.try_get::<jiff_sqlx::Timestamp, _>("next_due_at").doing(DOING)?.to_jiff(),
                waits_for_person: row.try_get::<Option<bool>, _>("by_person").doing(DOING)?.unwrap_or(false),
                step: rotation.as_ref().and_then(Rotation::step),
                waiting: rotation.as_ref().and_then(waits_for),
            })
        })
        .collect::<Result<_, Fault>>()?;
    Ok((now, upcoming))
}

fn waits_for(rotation: &Rotation) -> Option<String> {
    match &rotation.state {
        State::Running { attempt, .. } => attempt.waiting.clone(),
        State::Held { reason, .. } => Some(reason.message()),
        State::Ended { .. } => None,
    }
}

/// Reads an order from columns of that name.
pub(super) fn pending_order(row: &PgRow) -> Result<PendingOrder, Fault> {
    let doing = "reading an order";
    let text = |name: &str| row.try_get::<String, _>(name).doing(doing);
    let kind: OrderKind = from_json("an order", &text("kind")?)?;
    Ok(PendingOrder {
        id: OrderId(row.try_get("id").doing(doing)?),
        secret: secret_id(text("secret")?)?,
        kind,
        by: format!("{} ({})", text("given_name")?, text("db_user")?),
        reason: text("reason")?,
        at: row.try_get::<jiff_sqlx::Timestamp, _>("at").doing(doing)?.to_jiff(),
    })
}

pub(super) async fn stray_orders(journal: &PgJournal) -> Result<Vec<PendingOrder>, Fault> {
    let sql = "SELECT o.id, o.secret, o.kind::text, o.db_user, o.given_name, o.reason, o.at FROM rota.orders o \
        WHERE o.handled_at IS NULL AND o.name NOT IN ('rotate', 'emergency') \
          AND NOT EXISTS (SELECT FROM rota.rotations r WHERE r.secret = o.secret AND r.ended_at IS NULL) \
        ORDER BY o.id";
    let rows = sqlx::query(sql).fetch_all(journal.pool()).await.doing("looking for stray orders")?;
    rows.iter().map(pending_order).collect()
}

const OPENING: &str = "opening a rotation";

pub(super) async fn open(journal: &PgJournal, new: NewRotation) -> Result<Opened, Fault> {
    let mut tx = journal.pool().begin().await.doing(OPENING)?;
    let opened = open_in(&mut tx, &new).await?;
    if opened == Opened::Yes {
        tx.commit().await.doing(OPENING)?;
    } else {
        tx.rollback().await.doing(OPENING)?;
    }
    Ok(opened)
}

/// Opens, or says why not; then the transaction must not be committed.
async fn open_in(tx: &mut PgConnection, new: &NewRotation) -> Result<Opened, Fault> {
    if let Some(superseded) = new.supersedes {
        supersede(tx, superseded).await?;
    }
    if !insert(tx, new).await? {
        return if is_known(tx, new.rotation.id).await? { Ok(Opened::Yes) } else { Ok(Opened::InFlight) };
    }
    if !take_exclusive(tx, new).await? {
        return Ok(Opened::InFlight);
    }
    if let Some(refused) = check_secret(tx, new).await? {
        return Ok(refused);
    }
    if let Some(order) = new.order {
        let outcome = format!("rotation {} opened", new.rotation.id);
        if !handle_order(tx, order, &outcome).await? {
            return Ok(Opened::InFlight);
        }
    }
    append_history(tx, &new.history).await?;
    outbox::add(tx, &new.notices).await?;
    wake(tx, "rotation").await?;
    Ok(Opened::Yes)
}

/// Ends a rotation that a new one takes over from; one that has ended meanwhile stays as it is.
async fn supersede(tx: &mut PgConnection, id: RotationId) -> Result<(), Fault> {
    let sql = "SELECT rotation::text, clock_timestamp() FROM rota.rotations \
        WHERE id = $1 AND ended_at IS NULL FOR UPDATE";
    let found: Option<(String, jiff_sqlx::Timestamp)> =
        sqlx::query_as(sql).bind(id.0).fetch_optional(&mut *tx).await.doing(OPENING)?;
    let Some((text, now)) = found else { return Ok(()) };
    let rotation: Rotation = from_json("a rotation", &text)?;
    let ended = apply(rotation, Event::Superseded, now.to_jiff())
        .map_err(|illegal| Fault::conflict(illegal.to_string()))?;
    let columns = StateColumns::of(&ended)?;
    let sql = "UPDATE rota.rotations SET epoch = nextval('rota.epochs'), rotation = $2::jsonb, phase = $3, \
            step = NULL, held_at = NULL, ended_at = $4, \
            holder = NULL, lease_epoch = NULL, lease_from = NULL, lease_until = NULL \
        WHERE id = $1";
    let query = sqlx::query(sql).bind(id.0).bind(columns.rotation).bind(columns.phase).bind(now);
    query.execute(&mut *tx).await.doing(OPENING)?;
    let query = sqlx::query("DELETE FROM rota.exclusive_claims WHERE rotation = $1").bind(id.0);
    query.execute(tx).await.doing(OPENING).map(|_| ())
}

async fn insert(tx: &mut PgConnection, new: &NewRotation) -> Result<bool, Fault> {
    let columns = StateColumns::of(&new.rotation)?;
    let sql = "INSERT INTO rota.rotations (id, secret, phase, step, urgent, rotation, policy, incarnation, \
            epoch, last_effect, wake_at, opened_at) \
        SELECT $1, $2, $3, $4, $5, $6::jsonb, $7::jsonb, i.number, nextval('rota.epochs'), \
            (SELECT coalesce(max(r.last_effect), 0) FROM rota.rotations r WHERE r.secret = $2), now.at, now.at \
        FROM rota.current_incarnation i CROSS JOIN (SELECT clock_timestamp() AS at) now \
        ON CONFLICT DO NOTHING";
    let query = sqlx::query(sql)
        .bind(new.rotation.id.0)
        .bind(new.rotation.secret.as_str())
        .bind(columns.phase)
        .bind(columns.step)
        .bind(columns.urgent)
        .bind(columns.rotation)
        .bind(to_json(&new.policy)?);
    let done = query.execute(tx).await.doing(OPENING)?;
    Ok(done.rows_affected() == 1)
}

/// The same opening came before, and its answer was lost.
async fn is_known(tx: &mut PgConnection, id: RotationId) -> Result<bool, Fault> {
    let query = sqlx::query_scalar("SELECT EXISTS (SELECT FROM rota.rotations WHERE id = $1)").bind(id.0);
    query.fetch_one(tx).await.doing(OPENING)
}

async fn take_exclusive(tx: &mut PgConnection, new: &NewRotation) -> Result<bool, Fault> {
    let mut keys: Vec<String> = new.exclusive.iter().map(|key| without_nul_text(key)).collect();
    // Two openers that want the same keys meet at the first one.
    keys.sort_unstable();
    keys.dedup();
    let sql = "INSERT INTO rota.exclusive_claims (key, rotation) SELECT key, $2 FROM unnest($1::text[]) key \
        ON CONFLICT DO NOTHING";
    let query = sqlx::query(sql).bind(&keys).bind(new.rotation.id.0);
    let done = query.execute(tx).await.doing(OPENING)?;
    Ok(usize::try_from(done.rows_affected()) == Ok(keys.len()))
}

/// Why the secret must not rotate now, read under its lock: it is blocked, or what
/// the caller saw in [`due`] has been served meanwhile.
async fn check_secret(tx: &mut PgConnection, new: &NewRotation) -> Result<Option<Opened>, Fault> {
    let sql = "UPDATE rota.secrets SET postponed_until = NULL, postponed_why = NULL WHERE id = $1 \
        RETURNING blocked_by, next_due_at IS NOT DISTINCT FROM $2 AND removed_at IS NULL \
            AND next_start_at <= clock_timestamp() AS still_due";
    let row = sqlx::query(sql)
        .bind(new.rotation.secret.as_str())
        .bind(new.rotation.order.serves.map(sql_time))
        .fetch_optional(tx)
        .await
        .doing(OPENING)?
        .ok_or_else(|| unreadable("no secret of that name"))?;
    if let Some(why) = row.try_get::<Option<String>, _>("blocked_by").doing(OPENING)? {
        return Ok(Some(Opened::Blocked { why }));
    }
    let scheduled =
        new.rotation.order.cause == Cause::Scheduled && new.order.is_none() && new.supersedes.is_none();
    let still_due = row.try_get::<Option<bool>, _>("still_due").doing(OPENING)?.unwrap_or(false);
    Ok((scheduled && !still_due).then_some(Opened::InFlight))
}

/// Answers an order; false where it was answered already.
pub(super) async fn handle_order(
    tx: &mut PgConnection,
    order: OrderId,
    outcome: &str,
) -> Result<bool, Fault> {
    let sql = "UPDATE rota.orders SET handled_at = clock_timestamp(), outcome = $2, not_before = NULL, waiting = NULL \
        WHERE id = $1 AND handled_at IS NULL";
    let query = sqlx::query(sql).bind(order.0).bind(without_nul_text(outcome));
    let done = query.execute(tx).await.doing("answering an order")?;
    Ok(done.rows_affected() == 1)
}

pub(super) async fn postpone(
    journal: &PgJournal,
    due: &DueSecret,
    why: &str,
    retry_at: Timestamp,
    notices: &[Notice],
) -> Result<(), Fault> {
    const DOING: &str = "postponing a rotation";
    let why = without_nul_text(why);
    let mut tx = journal.pool().begin().await.doing(DOING)?;
    let before: Option<Option<String>> = match &due.order {
        Some(order) => {
            let sql = "UPDATE rota.orders o SET not_before = $2, waiting = $3 \
                FROM (SELECT id, waiting FROM rota.orders WHERE id = $1 AND handled_at IS NULL FOR UPDATE) old \
                WHERE o.id = old.id RETURNING old.waiting";
            let query = sqlx::query_scalar(sql).bind(order.id.0).bind(sql_time(retry_at)).bind(&why);
            query.fetch_optional(&mut *tx).await.doing(DOING)?
        }
        None => {
            let sql = "UPDATE rota.secrets s SET postponed_until = $2, postponed_why = $3 \
                FROM (SELECT id, postponed_why FROM rota.secrets \
                    WHERE id = $1 AND starts_at <= clock_timestamp() FOR NO KEY UPDATE) old \
                WHERE s.id = old.id \
                  AND NOT EXISTS (SELECT FROM rota.rotations r WHERE r.secret = $1 AND r.ended_at IS NULL) \
                RETURNING old.postponed_why";
            let query = sqlx::query_scalar(sql).bind(due.secret.as_str()).bind(sql_time(retry_at)).bind(&why);
            query.fetch_optional(&mut *tx).await.doing(DOING)?
        }
    };
    // Another process opened it or answered the order meanwhile: there is nothing to say.
    let Some(before) = before else { return tx.rollback().await.doing(DOING) };
    // The same reason again is not news for history; notices have keys of their own.
    if before.as_ref() != Some(&why) {
        let detail = serde_json::json!({
            "why": why, "retry_at": retry_at, "order": due.order.as_ref().map(|order| order.id),
        });
        append_history(&mut tx, &[entry("rotation.postponed", due, detail)]).await?;
    }
    outbox::add(&mut tx, notices).await?;
    tx.commit().await.doing(DOING)
}

fn entry(kind: &str, due: &DueSecret, detail: serde_json::Value) -> HistoryEntry {
    HistoryEntry {
        kind: kind.to_owned(),
        secret: Some(due.secret.clone()),
        rotation: None,
        step: None,
        effect: None,
        actor: super::ACTOR.to_owned(),
        detail,
    }
}

pub(super) async fn refuse_order(journal: &PgJournal, order: OrderId, why: &str) -> Result<(), Fault> {
    const DOING: &str = "refusing an order";
    let mut tx = journal.pool().begin().await.doing(DOING)?;
    let why = without_nul_text(why);
    let sql = "UPDATE rota.orders SET handled_at = clock_timestamp(), outcome = 'refused: ' || $2, \
            not_before = NULL, waiting = NULL \
        WHERE id = $1 AND handled_at IS NULL RETURNING secret";
    let query = sqlx::query_scalar(sql).bind(order.0).bind(&why);
    let secret: Option<String> = query.fetch_optional(&mut *tx).await.doing(DOING)?;
    if let Some(secret) = secret {
        let entry = HistoryEntry {
            kind: "order.refused".to_owned(),
            secret: Some(secret_id(secret)?),
            rotation: None,
            step: None,
            effect: None,
            actor: super::ACTOR.to_owned(),
            detail: serde_json::json!({ "order": order, "why": why }),
        };
        append_history(&mut tx, &[entry]).await?;
    }
    tx.commit().await.doing(DOING)
}
