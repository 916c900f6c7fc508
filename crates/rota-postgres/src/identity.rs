//! Is this still the server, and still the whole past, that the incarnation began with?
//!
//! A restored backup and a failover that lost commits look like a healthy database.
//! They show in the system identifier, in the timeline, or in a mark that was kept
//! outside and is ahead of the journal. Then nothing is claimed until a person
//! has begun the next incarnation.

use rota_core::audit::{Anchor, Hash};
use rota_core::fault::Fault;
use rota_core::id::{Epoch, Incarnation};
use rota_engine::ports::Notice;
use sqlx::{PgConnection, PgPool, Row as _};

use crate::error::{Doing as _, unreadable};
use crate::journal::{PgJournal, outbox};

const DOING: &str = "comparing the state database with its past";

const SEALING: &str = "sealing history";

/// How far the journal had come at some moment: kept outside, in fences, stores and anchors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HighWater {
    pub incarnation: Incarnation,
    /// The last epoch taken.
    pub epoch: Epoch,
}

/// Refuses a server that is not the one that the incarnation began on.
pub(crate) async fn check_trusted(pool: &PgPool) -> Result<(), Fault> {
    let sql = "SELECT trusted, same_server, suspended_because FROM rota.current_incarnation";
    let row = sqlx::query(sql).fetch_one(pool).await.doing(DOING)?;
    if row.try_get("trusted").doing(DOING)? {
        return Ok(());
    }
    let same_server: bool = row.try_get("same_server").doing(DOING)?;
    let suspended: Option<String> = row.try_get("suspended_because").doing(DOING)?;
    let why = match suspended {
        Some(why) => why,
        None if !same_server => "its system identifier or timeline changed".to_owned(),
        None => "its identity is unknown".to_owned(),
    };
    Err(Fault::invalid(format!(
        "the state database is a restored backup or a failover that may have lost commits ({why}); \
         nothing is claimed until a person has compared it with the stores, run `rota recover`"
    )))
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

    /// How far the journal is now, to be kept outside.
    ///
    /// # Errors
    /// A passing fault.
    pub async fn high_water(&self) -> Result<HighWater, Fault> {
        let sql = "SELECT i.number, e.last_value FROM rota.current_incarnation i CROSS JOIN rota.epochs e";
        let (incarnation, epoch) = sqlx::query_as(sql).fetch_one(self.pool()).await.doing(DOING)?;
        Ok(HighWater { incarnation: Incarnation(incarnation), epoch: Epoch(epoch) })
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

    /// Compares with a mark from outside. Where the mark is ahead, commits were lost:
    /// every process stops claiming, for good.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where the mark is ahead.
    pub async fn compare_mark(&self, mark: HighWater) -> Result<(), Fault> {
        let here = self.high_water().await?;
        if mark <= here {
            return Ok(());
        }
        let why = format!(
            "a mark outside says incarnation {} epoch {}, the database says {} and {}",
            mark.incarnation.0, mark.epoch.0, here.incarnation.0, here.epoch.0
        );
        let sql = "UPDATE rota.incarnations SET suspended_because = coalesce(suspended_because, $2) WHERE number = $1";
        let query = sqlx::query(sql).bind(here.incarnation.0).bind(&why);
        query.execute(self.pool()).await.doing(DOING)?;
        check_trusted(self.pool()).await
    }
}
