//! Rollouts belong to consumers: at most one asked for and one under way each.
//!
//! A request joins the one that waits, or makes a new generation. Joining raises the
//! waiting row's epoch, so that whoever claimed it before cannot begin without knowing
//! the new publication. Either limits what the earlier generations serve: they had
//! begun when the publication was recorded, whatever the clocks say.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::{ConsumerId, Epoch, SecretId};
use rota_core::policy::model::PolicyEntry;
use rota_core::rotation::{Publication, RolloutEvidence};
use rota_engine::ports::{
    Claim, HistoryEntry, JournalError, Record, RolloutClaim, RolloutRecord, RolloutState, TAKEN_OVER,
};
use sqlx::{PgConnection, Row as _};

use super::{
    ACTOR, PgJournal, append_history, from_json, micros, outbox, secret_id, sql_time, to_json, wake,
};
use crate::error::{Doing as _, unreadable};

/// Keeps what consumers read from now on.
pub(super) async fn publish(tx: &mut PgConnection, held: &Claim, record: &Record) -> Result<(), Fault> {
    let Some(publication) = &record.publication else { return Ok(()) };
    let consumers: Vec<&str> = held.policy.consumers.keys().map(|id| id.as_str()).collect();
    let sql = "INSERT INTO rota.publications (secret, rotation, publication, policy, consumers, published_at) \
        SELECT $1, $2, $3::jsonb, r.policy, $4, $5 FROM rota.rotations r WHERE r.id = $2 \
        ON CONFLICT (secret) DO UPDATE SET rotation = excluded.rotation, publication = excluded.publication, \
            policy = excluded.policy, consumers = excluded.consumers, published_at = excluded.published_at";
    let query = sqlx::query(sql)
        .bind(held.rotation.secret.as_str())
        .bind(held.rotation.id.0)
        .bind(to_json(publication)?)
        .bind(consumers)
        .bind(sql_time(publication.at));
    query.execute(tx).await.doing("recording a publication").map(|_| ())
}

/// Joins the requests that wait, makes new generations for the rest, and limits what
/// those that have begun serve.
const REQUEST: &str = "\
    WITH wanted AS (SELECT * FROM unnest($1::text[], $2::text[]) AS w (consumer, policy)),
    joined AS (
        UPDATE rota.rollouts o
        SET policy = w.policy::jsonb, requested_at = clock_timestamp(),
            published_at = greatest(o.published_at, coalesce($3, clock_timestamp())),
            wake_at = least(o.wake_at, clock_timestamp()),
            epoch = nextval('rota.epochs'), holder = NULL, lease_until = NULL
        FROM wanted w WHERE o.consumer = w.consumer AND o.state = 'requested'
        RETURNING o.consumer, o.generation),
    fresh AS (
        UPDATE rota.consumers c SET last_generation = c.last_generation + 1
        FROM wanted w WHERE c.id = w.consumer AND c.id NOT IN (SELECT consumer FROM joined)
        RETURNING c.id, c.last_generation, w.policy),
    limited AS (
        UPDATE rota.rollouts o
        SET serves_until = coalesce($3, clock_timestamp()) - interval '1 microsecond'
        FROM wanted w
        WHERE o.consumer = w.consumer AND o.state <> 'requested'
          AND (o.serves_until IS NULL OR o.serves_until >= coalesce($3, clock_timestamp()))),
    made AS (
        INSERT INTO rota.rollouts
            (consumer, generation, state, detail, policy, published_at, requested_at, wake_at, epoch)
        SELECT f.id, f.last_generation, 'requested', '{\"state\": \"requested\"}', f.policy::jsonb,
               coalesce($3, clock_timestamp()), clock_timestamp(), clock_timestamp(), nextval('rota.epochs')
        FROM fresh f
        RETURNING consumer, generation)
    SELECT consumer, generation FROM joined UNION ALL SELECT consumer, generation FROM made";

/// Asks for the rollouts of the record, for the rotation's last publication; returns the
/// line of history that says so.
pub(super) async fn request(tx: &mut PgConnection, record: &Record) -> Result<Option<HistoryEntry>, Fault> {
    const DOING: &str = "asking for rollouts";
    if record.rollouts.is_empty() {
        return Ok(None);
    }
    let wanted: BTreeMap<&str, String> = record
        .rollouts
        .iter()
        .map(|consumer| Ok((consumer.id.as_str(), to_json(consumer)?)))
        .collect::<Result<_, Fault>>()?;
    let ids: Vec<&str> = wanted.keys().copied().collect();
    let policies: Vec<&str> = wanted.values().map(String::as_str).collect();
    let sql = "INSERT INTO rota.consumers (id) SELECT id FROM unnest($1::text[]) id ORDER BY id ON CONFLICT DO NOTHING";
    sqlx::query(sql).bind(&ids).execute(&mut *tx).await.doing(DOING)?;
    let sql = "SELECT id FROM rota.consumers WHERE id = ANY ($1) ORDER BY id FOR UPDATE";
    sqlx::query(sql).bind(&ids).execute(&mut *tx).await.doing(DOING)?;
    if record.rotation.is_emergency() {
        take_over(&mut *tx, &ids).await?;
    }
    let published = record.publication.as_ref().or(record.rotation.facts.publication.as_ref());
    let query = sqlx::query_as(REQUEST)
        .bind(&ids)
        .bind(policies)
        .bind(published.map(|publication| sql_time(publication.at)));
    let asked: Vec<(String, i64)> = query.fetch_all(&mut *tx).await.doing(DOING)?;
    wake(tx, "rollout").await?;
    let generations = asked
        .into_iter()
        .map(|(consumer, generation)| {
            Ok((ConsumerId::new(&consumer).map_err(|_| unreadable("a consumer's name"))?, generation))
        })
        .collect::<Result<_, Fault>>()?;
    Ok(Some(HistoryEntry::rollouts_asked(&record.rotation, &generations, ACTOR)))
}

/// Ends what is under way: an emergency does not wait for it. Whoever holds it
/// records nothing any more.
async fn take_over(tx: &mut PgConnection, consumers: &[&str]) -> Result<(), Fault> {
    let taken_over = RolloutState::Failed { detail: TAKEN_OVER.to_owned() };
    let sql = "UPDATE rota.rollouts \
        SET state = 'failed', detail = $2::jsonb, ended_at = clock_timestamp(), wake_at = NULL, \
            epoch = nextval('rota.epochs'), holder = NULL, lease_until = NULL \
        WHERE consumer = ANY ($1) AND state IN ('starting', 'begun')";
    let query = sqlx::query(sql).bind(consumers).bind(to_json(&taken_over)?);
    query.execute(tx).await.doing("taking over rollouts").map(|_| ())
}

pub(super) async fn evidence(
    journal: &PgJournal,
    consumers: &[ConsumerId],
    since: Timestamp,
) -> Result<BTreeMap<ConsumerId, RolloutEvidence>, Fault> {
    const DOING: &str = "looking at rollouts";
    let ids: Vec<&str> = consumers.iter().map(ConsumerId::as_str).collect();
    // Newest first; a finished one stands before all.
    let sql = "SELECT DISTINCT ON (consumer) consumer, detail::text FROM rota.rollouts \
        WHERE consumer = ANY ($1) AND (requested_at >= $2 OR published_at >= $2) \
          AND (serves_until IS NULL OR serves_until >= $2) \
        ORDER BY consumer, state = 'finished' DESC, generation DESC";
    let rows: Vec<(String, String)> =
        sqlx::query_as(sql).bind(ids).bind(sql_time(since)).fetch_all(journal.pool()).await.doing(DOING)?;
    let mut found: BTreeMap<String, RolloutState> = BTreeMap::new();
    for (consumer, state) in rows {
        found.insert(consumer, from_json("a rollout", &state)?);
    }
    Ok(consumers.iter().map(|id| (id.clone(), as_evidence(found.get(id.as_str())))).collect())
}

fn as_evidence(state: Option<&RolloutState>) -> RolloutEvidence {
    match state {
        None => RolloutEvidence::NotRequested,
        Some(RolloutState::Requested) => RolloutEvidence::UnderWay { detail: "asked for".to_owned() },
        Some(RolloutState::Starting | RolloutState::Begun { .. }) => {
            RolloutEvidence::UnderWay { detail: "under way".to_owned() }
        }
        Some(RolloutState::Finished) => RolloutEvidence::Finished,
        Some(RolloutState::Failed { detail }) => RolloutEvidence::Failed { detail: detail.clone() },
    }
}

/// One that waits is left alone while another of its consumer is under way.
const CLAIM: &str = "\
    WITH awake AS MATERIALIZED (
        SELECT o.consumer, o.generation FROM rota.rollouts o
        WHERE o.ended_at IS NULL AND o.wake_at <= statement_timestamp()
          AND (o.lease_until IS NULL OR o.lease_until <= statement_timestamp())
          AND (o.state <> 'requested' OR NOT EXISTS (
              SELECT FROM rota.rollouts u WHERE u.consumer = o.consumer AND u.state IN ('starting', 'begun')))
          AND (SELECT trusted FROM rota.current_incarnation)
        ORDER BY o.wake_at
        LIMIT 1 FOR UPDATE OF o SKIP LOCKED),
    mine AS MATERIALIZED (SELECT *, nextval('rota.epochs') AS epoch, clock_timestamp() AS now FROM awake)
    UPDATE rota.rollouts o
    SET epoch = mine.epoch, holder = $1, lease_until = mine.now + $2 * interval '1 microsecond'
    FROM mine WHERE o.consumer = mine.consumer AND o.generation = mine.generation
    RETURNING o.consumer, o.generation, o.detail::text, o.policy::text, o.published_at, o.requested_at,
        o.begun_at, o.failures, o.epoch, mine.now";

pub(super) async fn claim(
    journal: &PgJournal,
    holder: &str,
    lease: SignedDuration,
) -> Result<Option<RolloutClaim>, Fault> {
    const DOING: &str = "claiming a rollout";
    let query = sqlx::query(CLAIM).bind(holder).bind(micros(lease));
    let Some(row) = query.fetch_optional(journal.pool()).await.doing(DOING)? else { return Ok(None) };
    let text = |name: &str| row.try_get::<String, _>(name).doing(DOING);
    let number = |name: &str| row.try_get::<i64, _>(name).doing(DOING);
    let time = |name: &str| Ok(row.try_get::<jiff_sqlx::Timestamp, _>(name).doing(DOING)?.to_jiff());
    let begun_at: Option<jiff_sqlx::Timestamp> = row.try_get("begun_at").doing(DOING)?;
    let failures: i32 = row.try_get("failures").doing(DOING)?;
    Ok(Some(RolloutClaim {
        consumer: from_json("a consumer", &text("policy")?)?,
        generation: number("generation")?,
        state: from_json("a rollout", &text("detail")?)?,
        published_at: time("published_at")?,
        requested_at: time("requested_at")?,
        begun_at: begun_at.map(|at| at.to_jiff()),
        failures: failures.try_into().map_err(|_| unreadable("a count of failures"))?,
        epoch: Epoch(number("epoch")?),
        now: time("now")?,
        // Read after the epoch was taken: what is published later raises it.
        publications: publications(journal, &text("consumer")?).await?,
    }))
}

/// The last publication of every secret that the consumer uses, by the rotation's copy
/// or by the current policy.
async fn publications(
    journal: &PgJournal,
    consumer: &str,
) -> Result<BTreeMap<SecretId, (PolicyEntry, Publication)>, Fault> {
    let sql = "SELECT p.secret, p.policy::text, p.publication::text FROM rota.publications p \
        WHERE p.consumers @> ARRAY [$1] \
        UNION ALL \
        SELECT p.secret, p.policy::text, p.publication::text FROM rota.publications p \
        WHERE p.secret = ANY (ARRAY(SELECT s.id FROM rota.secrets s WHERE s.consumers @> ARRAY [$1])) \
          AND NOT p.consumers @> ARRAY [$1]";
    let rows: Vec<(String, String, String)> =
        sqlx::query_as(sql).bind(consumer).fetch_all(journal.pool()).await.doing("reading publications")?;
    rows.into_iter()
        .map(|(secret, policy, publication)| {
            let policy = from_json("a publication's policy", &policy)?;
            Ok((secret_id(secret)?, (policy, from_json("a publication", &publication)?)))
        })
        .collect()
}

/// A start is followed by its call at once, so its lease stays; every other record
/// gives it back.
const RECORD: &str = "\
    UPDATE rota.rollouts
    SET state = $4, detail = $5::jsonb, failures = $6,
        begun_at = CASE WHEN $4 IN ('starting', 'begun') THEN coalesce(begun_at, clock_timestamp()) ELSE begun_at END,
        ended_at = CASE WHEN $4 IN ('finished', 'failed') THEN clock_timestamp() END,
        wake_at = CASE WHEN $4 NOT IN ('finished', 'failed') THEN coalesce($7, clock_timestamp()) END,
        holder = CASE WHEN $4 = 'starting' THEN holder END,
        lease_until = CASE WHEN $4 = 'starting' THEN lease_until END
    WHERE consumer = $1 AND generation = $2 AND epoch = $3 AND holder IS NOT NULL
    RETURNING clock_timestamp()";

pub(super) async fn record(
    journal: &PgJournal,
    held: &RolloutClaim,
    record: RolloutRecord,
) -> Result<Timestamp, JournalError> {
    const DOING: &str = "recording a rollout";
    let (name, ended) = match &record.state {
        RolloutState::Requested => ("requested", false),
        RolloutState::Starting => ("starting", false),
        RolloutState::Begun { .. } => ("begun", false),
        RolloutState::Finished => ("finished", true),
        RolloutState::Failed { .. } => ("failed", true),
    };
    let consumer = held.consumer.id.as_str();
    let mut tx = journal.pool().begin().await.doing(DOING)?;
    let query = sqlx::query_scalar(RECORD)
        .bind(consumer)
        .bind(held.generation)
        .bind(held.epoch.0)
        .bind(name)
        .bind(to_json(&record.state)?)
        .bind(i32::try_from(record.failures).unwrap_or(i32::MAX))
        .bind(record.wake_at.map(sql_time));
    let now: Option<jiff_sqlx::Timestamp> = query.fetch_optional(&mut *tx).await.doing(DOING)?;
    let Some(now) = now else {
        tx.rollback().await.doing(DOING)?;
        return Err(JournalError::Stale);
    };
    append_history(&mut tx, &record.history).await?;
    outbox::add(&mut tx, &record.notices).await?;
    tx.commit().await.doing(DOING)?;
    if ended && let Err(fault) = wake_waiting(journal, consumer).await {
        // They look again by themselves; only some seconds are lost.
        tracing::warn!(%fault, "rotations that wait for a rollout were not woken");
    }
    Ok(now.to_jiff())
}

/// Wakes every rotation that may wait for the consumer: those of the secrets whose
/// publication names it, and of those whose current policy does. A transaction of its own,
/// because rows of rotations are locked before those of rollouts. The secrets are looked
/// up first, so that each is one look into an index whatever the planner guesses of arrays.
async fn wake_waiting(journal: &PgJournal, consumer: &str) -> Result<(), Fault> {
    const DOING: &str = "waking rotations";
    let sql = "UPDATE rota.rotations r \
        SET wake_at = least(r.wake_at, clock_timestamp()), woken_at = clock_timestamp() \
        FROM (SELECT id FROM rota.rotations \
            WHERE ended_at IS NULL AND phase <> 'held' \
              AND secret = ANY (ARRAY( \
                SELECT p.secret FROM rota.publications p WHERE p.consumers @> ARRAY [$1] \
                UNION SELECT s.id FROM rota.secrets s WHERE s.consumers @> ARRAY [$1])) \
            ORDER BY id FOR UPDATE) waiting \
        WHERE r.id = waiting.id";
    let mut tx = journal.pool().begin().await.doing(DOING)?;
    sqlx::query(sql).bind(consumer).execute(&mut *tx).await.doing(DOING)?;
    wake(&mut tx, "rotation").await?;
    wake(&mut tx, "rollout").await?;
    tx.commit().await.doing(DOING)
}
