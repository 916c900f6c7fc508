//! The outbox: each notice once per channel, in order, at least once.
//!
//! A notice is given to every channel that is registered when it is added; a channel
//! registers with its first claim and then also gets what was added lately.

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_engine::ports::{Notice, OutboxClaim};
use sqlx::PgConnection;

use super::{PgJournal, from_json, micros, sql_time, to_json, wake, without_nul_text};
use crate::error::{Doing as _, unreadable};

/// How old a notice may be that a new channel still gets: a channel that is configured
/// after a year must not repeat that year.
const NEW_CHANNEL_LOOKS_BACK: SignedDuration = SignedDuration::from_hours(1);

/// Adds notices in the caller's transaction; returns how many. One with a known key is left out.
pub(crate) async fn add(tx: &mut PgConnection, notices: &[Notice]) -> Result<usize, Fault> {
    const DOING: &str = "adding notices";
    if notices.is_empty() {
        return Ok(0);
    }
    let keys: Vec<String> = notices.iter().map(|notice| without_nul_text(&notice.key)).collect();
    let texts = notices.iter().map(to_json).collect::<Result<Vec<_>, _>>()?;
    let sql = "INSERT INTO rota.outbox (key, notice, at) \
        SELECT n.key, n.notice::jsonb, clock_timestamp() \
        FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS n (key, notice, nth) ORDER BY n.nth \
        ON CONFLICT (key) DO NOTHING RETURNING id";
    let added: Vec<i64> =
        sqlx::query_scalar(sql).bind(keys).bind(texts).fetch_all(&mut *tx).await.doing(DOING)?;
    let count = added.len();
    if count == 0 {
        return Ok(0);
    }
    // A statement of its own: it sees channels whose registration waited for the one above.
    let sql = "INSERT INTO rota.deliveries (channel, notice) \
        SELECT c.name, n FROM rota.channels c CROSS JOIN unnest($1::bigint[]) n";
    sqlx::query(sql).bind(added).execute(&mut *tx).await.doing(DOING)?;
    wake(tx, "outbox").await?;
    Ok(count)
}

const CLAIM: &str = "\
    UPDATE rota.channels SET lease_until = clock_timestamp() + $2 * interval '1 microsecond'
    WHERE name = $1
      AND (lease_until IS NULL OR lease_until <= clock_timestamp())
      AND (not_before IS NULL OR not_before <= clock_timestamp())
      AND EXISTS (SELECT FROM rota.deliveries d WHERE d.channel = $1 AND d.delivered_at IS NULL)
    RETURNING failures";

pub(super) async fn claim(
    journal: &PgJournal,
    channel: &str,
    limit: u32,
    lease: SignedDuration,
) -> Result<Option<OutboxClaim>, Fault> {
    const DOING: &str = "claiming notices";
    let claim = || sqlx::query_scalar(CLAIM).bind(channel).bind(micros(lease)).fetch_optional(journal.pool());
    let mut failures: Option<i32> = claim().await.doing(DOING)?;
    if failures.is_none() && register(journal, channel).await? {
        failures = claim().await.doing(DOING)?;
    }
    let Some(failures) = failures else { return Ok(None) };
    let sql = "SELECT o.id, o.notice::text FROM rota.deliveries d JOIN rota.outbox o ON o.id = d.notice \
        WHERE d.channel = $1 AND d.delivered_at IS NULL ORDER BY d.notice LIMIT $2";
    let rows: Vec<(i64, String)> = sqlx::query_as(sql)
        .bind(channel)
        .bind(i64::from(limit))
        .fetch_all(journal.pool())
        .await
        .doing(DOING)?;
    let notices = rows
        .into_iter()
        .map(|(id, text)| Ok((id, from_json("a notice", &text)?)))
        .collect::<Result<_, Fault>>()?;
    let failures = failures.try_into().map_err(|_| unreadable("a count of failures"))?;
    Ok(Some(OutboxClaim { notices, channel: channel.to_owned(), failures }))
}

/// Makes the channel known; false where it was.
async fn register(journal: &PgJournal, channel: &str) -> Result<bool, Fault> {
    const DOING: &str = "registering a channel";
    let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM rota.channels WHERE name = $1)")
        .bind(channel)
        .fetch_one(journal.pool())
        .await
        .doing(DOING)?;
    if known {
        return Ok(false);
    }
    let mut tx = journal.pool().begin().await.doing(DOING)?;
    // Waits for the notices that are being added and holds up the next ones, so that
    // each is seen either here or by its own transaction.
    sqlx::query("LOCK TABLE rota.outbox IN SHARE ROW EXCLUSIVE MODE").execute(&mut *tx).await.doing(DOING)?;
    let sql = "INSERT INTO rota.channels (name, registered_at) VALUES ($1, clock_timestamp()) ON CONFLICT DO NOTHING";
    sqlx::query(sql).bind(channel).execute(&mut *tx).await.doing(DOING)?;
    let sql = "INSERT INTO rota.deliveries (channel, notice) SELECT $1, o.id FROM rota.outbox o \
        WHERE o.at > clock_timestamp() - $2 * interval '1 microsecond' ON CONFLICT DO NOTHING";
    let query = sqlx::query(sql).bind(channel).bind(micros(NEW_CHANNEL_LOOKS_BACK));
    query.execute(&mut *tx).await.doing(DOING)?;
    tx.commit().await.doing(DOING)?;
    Ok(true)
}

pub(super) async fn record_delivery(
    journal: &PgJournal,
    claim: &OutboxClaim,
    outcome: Result<(), (Fault, Timestamp)>,
) -> Result<(), Fault> {
    const DOING: &str = "recording a delivery";
    let mut tx = journal.pool().begin().await.doing(DOING)?;
    match outcome {
        Ok(()) => {
            let ids: Vec<i64> = claim.notices.iter().map(|(id, _)| *id).collect();
            let sql = "UPDATE rota.deliveries SET delivered_at = clock_timestamp() \
                WHERE channel = $1 AND notice = ANY ($2) AND delivered_at IS NULL";
            sqlx::query(sql).bind(&claim.channel).bind(ids).execute(&mut *tx).await.doing(DOING)?;
            let sql = "UPDATE rota.channels SET lease_until = NULL, not_before = NULL, failures = 0, \
                last_fault = NULL, delivered_at = clock_timestamp() WHERE name = $1";
            sqlx::query(sql).bind(&claim.channel).execute(&mut *tx).await.doing(DOING)?;
        }
        Err((fault, retry_at)) => {
            let sql = "UPDATE rota.channels SET lease_until = NULL, not_before = $2, failures = failures + 1, \
                last_fault = $3 WHERE name = $1";
            let query = sqlx::query(sql)
                .bind(&claim.channel)
                .bind(sql_time(retry_at))
                .bind(without_nul_text(&fault.to_string()));
            query.execute(&mut *tx).await.doing(DOING)?;
        }
    }
    tx.commit().await.doing(DOING)
}
