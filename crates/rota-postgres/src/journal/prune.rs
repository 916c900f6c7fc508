//! What is over goes, some time later and a little at a time.
//!
//! The database's functions remove it and decide what may go, so that the daemon's role
//! needs no right to delete. History is never removed.

use jiff::SignedDuration;
use rota_core::fault::Fault;

use super::{PgJournal, micros};
use crate::error::Doing as _;

/// Rows of one transaction: it must not hold up the others.
const AT_ONCE: i32 = 500;

/// Transactions of one call, so that it ends. The next call goes on.
const TIMES: usize = 20;

/// How long what is over is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Notices that every channel has had. At least a day.
    pub notices: SignedDuration,
    /// Single readings of checks, after the end of their rotation. At least 90 days.
    pub observations: SignedDuration,
}

/// What one call removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    pub notices: u64,
    pub observations: u64,
}

impl PgJournal {
    /// Removes what is older than `retention` and over. Bounded: what is left goes with
    /// the next call. Safe to call from every replica.
    ///
    /// # Errors
    /// A passing fault; [`Fault::Invalid`] for a retention below the database's limit.
    pub async fn prune(&self, retention: &Retention) -> Result<Pruned, Fault> {
        let notices = self
            .prune_with("SELECT rota.prune_notices($1 * interval '1 microsecond', $2)", retention.notices);
        let notices = notices.await?;
        let sql = "SELECT rota.prune_observations($1 * interval '1 microsecond', $2)";
        let observations = self.prune_with(sql, retention.observations).await?;
        Ok(Pruned { notices, observations })
    }

    async fn prune_with(&self, sql: &'static str, keep: SignedDuration) -> Result<u64, Fault> {
        let mut all = 0;
        for _ in 0..TIMES {
            let query = sqlx::query_scalar(sql).bind(micros(keep)).bind(AT_ONCE);
            let pruned: i64 = query.fetch_one(self.pool()).await.doing("removing what is over")?;
            all += u64::try_from(pruned).unwrap_or(0);
            if pruned < i64::from(AT_ONCE) {
                break;
            }
        }
        Ok(all)
    }
}
