//! Is this still the server, and still the whole past, that the incarnation began with?
//!
//! A restored backup and a failover that lost commits look like a healthy database.
//! They show in the system identifier, in the timeline, or in a mark that was kept
//! outside and is ahead of the journal: in the stores and targets (the engine compares
//! those), and in the memory of each process. Then nothing is claimed until a person has
//! begun the next incarnation.

use std::sync::PoisonError;

use rota_core::audit::{Anchor, Hash};
use rota_core::fault::Fault;
use rota_core::id::{Epoch, Incarnation, RotationId, SecretId};
use rota_engine::ports::{HistoryEntry, Journal, Notice, Past};
use rota_engine::{past_is_lost, untrusted};
use serde_json::json;
use sqlx::{PgConnection, PgPool, Row as _};
use uuid::Uuid;

use crate::error::{Doing as _, unreadable};
use crate::journal::{ACTOR, PgJournal, append_history, outbox, without_nul_text};

const DOING: &str = "comparing the state database with its past";

const SEALING: &str = "sealing history";

/// How far the journal had come at some moment, as a process remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HighWater {
    pub(crate) incarnation: Incarnation,
    /// The epoch of a claim.
    pub(crate) epoch: Epoch,
}

impl HighWater {
    /// Behind everything.
    pub(crate) const NONE: Self = Self { incarnation: Incarnation(0), epoch: Epoch(0) };
}

/// Refuses a server that is not the one that the incarnation began on; people are told
/// once.
pub(crate) async fn check_trusted(pool: &PgPool) -> Result<(), Fault> {
    let Some((incarnation, why)) = distrusted(pool).await? else { return Ok(()) };
    let mut tx = pool.begin().await.doing(DOING)?;
    let now: jiff_sqlx::Timestamp =
        sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *tx).await.doing(DOING)?;
    outbox::add(&mut tx, &[past_is_lost(&why, incarnation, now.to_jiff())]).await?;
    tx.commit().await.doing(DOING)?;
    Err(Fault::invalid(untrusted(&why)))
}

/// The running incarnation and why it cannot go on; `None` where it can.
async fn distrusted(pool: &PgPool) -> Result<Option<(Incarnation, String)>, Fault> {
    let sql = "SELECT number, trusted, same_server, suspended_because FROM rota.current_incarnation";
    let row = sqlx::query(sql).fetch_one(pool).await.doing(DOING)?;
    if row.try_get("trusted").doing(DOING)? {
        return Ok(None);
    }
    let same_server: bool = row.try_get("same_server").doing(DOING)?;
    let suspended: Option<String> = row.try_get("suspended_because").doing(DOING)?;
    let why = match suspended {
        Some(why) => why,
        None if !same_server => "its system identifier or timeline changed".to_owned(),
        None => "its identity is unknown".to_owned(),
    };
    Ok(Some((Incarnation(row.try_get("number").doing(DOING)?), why)))
}

/// The journal's own past, as far as one secret is concerned. An epoch that was read
/// here may belong to a transaction that is still under way: it is only compared with,
/// never kept.
pub(crate) async fn past(pool: &PgPool, secret: &SecretId) -> Result<Past, Fault> {
    let sql = "SELECT i.number, i.begun_at, e.last_value, \
            (SELECT max(h.at) FROM rota.rotation_history h) AS latest, \
            ARRAY (SELECT r.id FROM rota.rotations r WHERE r.secret = $1) AS rotations \
        FROM (SELECT * FROM rota.incarnations ORDER BY number DESC LIMIT 1) i CROSS JOIN rota.epochs e";
    let row = sqlx::query(sql).bind(secret.as_str()).fetch_one(pool).await.doing(DOING)?;
    let rotations: Vec<Uuid> = row.try_get("rotations").doing(DOING)?;
    let began_at: jiff_sqlx::Timestamp = row.try_get("begun_at").doing(DOING)?;
    let latest: Option<jiff_sqlx::Timestamp> = row.try_get("latest").doing(DOING)?;
    Ok(Past {
        incarnation: Incarnation(row.try_get("number").doing(DOING)?),
        began_at: began_at.to_jiff(),
        epoch: Epoch(row.try_get("last_value").doing(DOING)?),
        latest: latest.map(|at| at.to_jiff()),
        rotations: rotations.into_iter().map(RotationId).collect(),
    })
}

/// Stops every process from claiming, for good; says so in history and to people.
pub(crate) async fn distrust(pool: &PgPool, why: &str, notice: &Notice) -> Result<(), Fault> {
    let mut tx = pool.begin().await.doing(DOING)?;
    let sql = "UPDATE rota.incarnations SET suspended_because = $1 \
        WHERE number = (SELECT max(i.number) FROM rota.incarnations i) AND suspended_because IS NULL \
        RETURNING number";
    let query = sqlx::query_scalar(sql).bind(without_nul_text(why));
    let stopped: Option<i64> = query.fetch_optional(&mut *tx).await.doing(DOING)?;
    if let Some(number) = stopped {
        let line = HistoryEntry {
            kind: "incarnation.distrusted".to_owned(),
            secret: None,
            rotation: None,
            step: None,
            effect: None,
            actor: ACTOR.to_owned(),
            detail: json!({ "number": number, "reason": why }),
        };
        append_history(&mut tx, &[line]).await?;
        outbox::add(&mut tx, std::slice::from_ref(notice)).await?;
    }
    tx.commit().await.doing(DOING)
}

async fn seal(connection: &mut PgConnection) -> Result<Anchor, Fault> {
    let query = sqlx::query_as("SELECT number, hash FROM rota.seal_history()");
    let (number, hash): (i64, Vec<u8>) = query.fetch_one(connection).await.doing(SEALING)?;
    Ok(Anchor { number, hash: Hash(hash.try_into().map_err(|_| unreadable("a hash"))?) })
}

impl PgJournal {
    /// Refuses a database that does not go on where the incarnation left it. For the
    /// start; every claim checks again.
    ///
    /// # Errors
    /// [`Fault::Invalid`] that names the difference.
    pub async fn check_identity(&self) -> Result<(), Fault> {
        check_trusted(self.pool()).await
    }

    /// Seals the heads of all chains of history; returns the anchor to keep outside.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn seal_history(&self) -> Result<Anchor, Fault> {
        let mut connection = self.pool().acquire().await.doing(SEALING)?;
        seal(&mut connection).await
    }

    /// Seals history and adds the notice that `notice` makes of the anchor, both or neither.
    /// False where a notice with that key was added before: then nothing was sealed, so that
    /// every seal is shown, however many replicas there are.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn seal_and_tell(&self, notice: impl FnOnce(Anchor) -> Notice) -> Result<bool, Fault> {
        let mut tx = self.pool().begin().await.doing(SEALING)?;
        let anchor = seal(&mut tx).await?;
        let told = outbox::add(&mut tx, &[notice(anchor)]).await? > 0;
        if told {
            tx.commit().await.doing(SEALING)?;
        } else {
            tx.rollback().await.doing(SEALING)?;
        }
        Ok(told)
    }

    /// What this process has seen of the journal so far: no claim can be behind it.
    pub(crate) fn seen(&self) -> HighWater {
        *self.high_water.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the epoch of a claim; refuses it where `seen`, from before the claim was
    /// sent, is not behind it. Then the claim was made by a journal that has lost what
    /// this process saw committed.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the journal went back.
    pub(crate) async fn keep_mark(&self, seen: HighWater, taken: HighWater) -> Result<(), Fault> {
        if taken <= seen {
            let why = format!(
                "this process has seen incarnation {} epoch {}, and now it gave out {} and {}",
                seen.incarnation.0, seen.epoch.0, taken.incarnation.0, taken.epoch.0
            );
            let now = Journal::now(self).await?;
            distrust(self.pool(), &why, &past_is_lost(&why, taken.incarnation, now)).await?;
            return check_trusted(self.pool()).await;
        }
        let mut mark = self.high_water.lock().unwrap_or_else(PoisonError::into_inner);
        *mark = taken.max(*mark);
        Ok(())
    }
}
