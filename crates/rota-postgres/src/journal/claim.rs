//! Leases on rotations.
//!
//! A claim takes the next epoch. An order by a person raises the epoch and leaves the
//! lease, because the holder may be in the middle of a call; the holder's next record
//! finds that it is stale, records nothing and gives the lease back.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::{EffectNo, Epoch, Incarnation};
use rota_engine::ports::{Claim, JournalError, PendingOrder};
use sqlx::Row as _;

use super::{PgJournal, due, from_json, micros, sql_time};
use crate::error::Doing as _;
use crate::identity::HighWater;

const DOING: &str = "claiming a rotation";

/// Nothing is claimed on a server that is not the one that this incarnation began on.
/// The epoch is drawn after the row is locked, so that it is greater than every one
/// that the row has had. Emergencies and the others are looked for one after the other,
/// because each is then the first row of one range of the index, however many are awake.
const CLAIM: &str = "\
    WITH trusted AS MATERIALIZED (SELECT FROM rota.current_incarnation WHERE trusted),
    emergency AS MATERIALIZED (
        SELECT id FROM rota.rotations
        WHERE ended_at IS NULL AND urgent AND wake_at <= statement_timestamp()
          AND (lease_until IS NULL OR lease_until <= statement_timestamp())
          AND EXISTS (SELECT FROM trusted)
        ORDER BY wake_at
        LIMIT 1 FOR UPDATE SKIP LOCKED),
    calm AS MATERIALIZED (
        SELECT id FROM rota.rotations
        WHERE ended_at IS NULL AND NOT urgent AND wake_at <= statement_timestamp()
          AND (lease_until IS NULL OR lease_until <= statement_timestamp())
          AND EXISTS (SELECT FROM trusted) AND NOT EXISTS (SELECT FROM emergency)
        ORDER BY wake_at
        LIMIT 1 FOR UPDATE SKIP LOCKED),
    awake AS (SELECT id FROM emergency UNION ALL SELECT id FROM calm),
    mine AS MATERIALIZED (SELECT id, nextval('rota.epochs') AS epoch, clock_timestamp() AS now FROM awake)
    UPDATE rota.rotations r
    SET epoch = mine.epoch, lease_epoch = mine.epoch, holder = $1, lease_from = mine.now,
        lease_until = mine.now + $2 * interval '1 microsecond'
    FROM mine WHERE r.id = mine.id
    RETURNING r.rotation::text, r.policy::text, r.secret, r.incarnation, r.epoch, r.last_effect, r.lease_until, mine.now";

pub(super) async fn claim(
    journal: &PgJournal,
    holder: &str,
    lease: SignedDuration,
) -> Result<Option<Claim>, Fault> {
    let seen = journal.seen();
    let query = sqlx::query(CLAIM).bind(holder).bind(micros(lease));
    let Some(row) = query.fetch_optional(journal.pool()).await.doing(DOING)? else {
        crate::identity::check_trusted(journal.pool()).await?;
        return Ok(None);
    };
    let text = |name: &str| row.try_get::<String, _>(name).doing(DOING);
    let number = |name: &str| row.try_get::<i64, _>(name).doing(DOING);
    let time = |name: &str| row.try_get::<jiff_sqlx::Timestamp, _>(name).doing(DOING);
    let secret = text("secret")?;
    let (incarnation, epoch) = (Incarnation(number("incarnation")?), Epoch(number("epoch")?));
    journal.keep_mark(seen, HighWater { incarnation, epoch }).await?;
    // Read after the epoch was taken: an order that comes later makes this claim stale.
    let orders = open_orders(journal, &secret).await?;
    Ok(Some(Claim {
        rotation: from_json("a rotation", &text("rotation")?)?,
        policy: Arc::new(from_json("a rotation's policy", &text("policy")?)?),
        incarnation,
        epoch,
        last_effect: EffectNo(number("last_effect")?),
        lease_until: time("lease_until")?.to_jiff(),
        now: time("now")?.to_jiff(),
        orders,
    }))
}

async fn open_orders(journal: &PgJournal, secret: &str) -> Result<Vec<PendingOrder>, Fault> {
    let sql = "SELECT id, secret, kind::text, db_user, given_name, reason, at FROM rota.orders \
        WHERE secret = $1 AND handled_at IS NULL ORDER BY id";
    let rows = sqlx::query(sql).bind(secret).fetch_all(journal.pool()).await.doing(DOING)?;
    rows.iter().map(due::pending_order).collect()
}

pub(super) async fn renew(
    journal: &PgJournal,
    claim: &Claim,
    lease: SignedDuration,
) -> Result<Timestamp, JournalError> {
    let sql = "UPDATE rota.rotations SET lease_until = clock_timestamp() + $3 * interval '1 microsecond' \
        WHERE id = $1 AND epoch = $2 AND lease_epoch = $2 AND ended_at IS NULL RETURNING lease_until";
    let query = sqlx::query_scalar(sql).bind(claim.rotation.id.0).bind(claim.epoch.0).bind(micros(lease));
    let until: Option<jiff_sqlx::Timestamp> =
        query.fetch_optional(journal.pool()).await.doing("renewing a lease")?;
    match until {
        Some(until) => Ok(until.to_jiff()),
        None => {
            give_up(journal, claim).await?;
            Err(JournalError::Stale)
        }
    }
}

pub(super) async fn release(
    journal: &PgJournal,
    claim: &Claim,
    wake_at: Timestamp,
) -> Result<(), JournalError> {
    // What woke the rotation while it was held is not slept over.
    let sql = "UPDATE rota.rotations SET holder = NULL, lease_epoch = NULL, lease_from = NULL, lease_until = NULL, \
            wake_at = CASE WHEN woken_at >= lease_from THEN least($3, clock_timestamp()) ELSE $3 END \
        WHERE id = $1 AND epoch = $2 AND lease_epoch = $2 AND ended_at IS NULL";
    let query = sqlx::query(sql).bind(claim.rotation.id.0).bind(claim.epoch.0).bind(sql_time(wake_at));
    let done = query.execute(journal.pool()).await.doing("releasing a rotation")?;
    if done.rows_affected() == 1 || ended_by(journal, claim).await? {
        return Ok(());
    }
    give_up(journal, claim).await?;
    Err(JournalError::Stale)
}

/// The record that ended the rotation gave the lease back.
async fn ended_by(journal: &PgJournal, claim: &Claim) -> Result<bool, Fault> {
    let sql =
        "SELECT EXISTS (SELECT FROM rota.rotations WHERE id = $1 AND epoch = $2 AND ended_at IS NOT NULL)";
    let query = sqlx::query_scalar(sql).bind(claim.rotation.id.0).bind(claim.epoch.0);
    query.fetch_one(journal.pool()).await.doing("releasing a rotation")
}

/// A holder that comes to the journal has no call under way: where an order made it stale,
/// its lease ends now and not when it would lapse.
pub(super) async fn give_up(journal: &PgJournal, claim: &Claim) -> Result<(), Fault> {
    let sql = "UPDATE rota.rotations SET holder = NULL, lease_epoch = NULL, lease_from = NULL, lease_until = NULL \
        WHERE id = $1 AND lease_epoch = $2 AND epoch > $2";
    let query = sqlx::query(sql).bind(claim.rotation.id.0).bind(claim.epoch.0);
    query.execute(journal.pool()).await.doing("giving up a stale lease").map(|_| ())
}
