//! Whether history is whole, and its export for a check without Rota.

use std::io;

use futures::TryStreamExt as _;
use rota_core::audit::{Anchor, Broken, Hash, Row, Sealed, Verified, Verifier};
use rota_core::fault::Fault;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::Reports;
use crate::error::{Doing as _, unreadable};

const DOING: &str = "checking history";

/// Why history was not found whole, or not exported.
#[derive(Debug, thiserror::Error)]
pub enum NotWhole {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error(transparent)]
    Broken(#[from] Broken),
    /// What is searched by differs from what was hashed.
    #[error("row {seq} of chain `{chain}` is filed under other words than its bytes say")]
    Filed { chain: String, seq: i64 },
    #[error("the export cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// What an export holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Exported {
    pub rows: u64,
    pub checkpoints: u64,
}

/// In the order that the check wants, with whether the search columns say the same.
const ROWS: &str = "\
    SELECT h.chain, h.seq, convert_from(h.canonical, 'UTF8') AS canonical, h.hash,
           h.rotation IS NOT DISTINCT FROM (convert_from(h.canonical, 'UTF8')::jsonb #>> '{entry,rotation}')::uuid
           AND h.appended_at = h.at AS filed
    FROM rota.history h ORDER BY h.chain, h.seq";

impl Reports {
    /// Checks every chain and every checkpoint, row by row, against what was kept outside.
    ///
    /// # Errors
    /// The first thing that does not hold, or a passing fault.
    pub async fn verify_history(&self, anchors: &[Anchor]) -> Result<Verified, NotWhole> {
        let mut tx = self.pool().begin().await.doing(DOING)?;
        without_time_limit(&mut tx).await?;
        let mut verifier = Verifier::new(&checkpoints(&mut tx).await?, anchors)?;
        let mut rows = sqlx::query(ROWS).fetch(&mut *tx);
        while let Some(found) = rows.try_next().await.doing(DOING)? {
            let row = row(&found)?;
            verifier.row(&row)?;
            if !found.try_get::<bool, _>("filed").doing(DOING)? {
                return Err(NotWhole::Filed { chain: row.chain, seq: row.seq });
            }
        }
        Ok(verifier.finish()?)
    }

    /// Hands every line of the export (docs/auditing.md) to `write`, without line ends.
    ///
    /// # Errors
    /// Those of `write`, or a passing fault.
    pub async fn export_history(
        &self,
        mut write: impl FnMut(&str) -> io::Result<()> + Send,
    ) -> Result<Exported, NotWhole> {
        let mut exported = Exported::default();
        let mut tx = self.pool().begin().await.doing(DOING)?;
        // Rows and checkpoints of one moment.
        let one_moment = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        sqlx::query(one_moment).execute(&mut *tx).await.doing(DOING)?;
        without_time_limit(&mut tx).await?;
        {
            let mut rows = sqlx::query(ROWS).fetch(&mut *tx);
            while let Some(found) = rows.try_next().await.doing(DOING)? {
                write(&row(&found)?.export_line())?;
                exported.rows += 1;
            }
        }
        for checkpoint in checkpoints(&mut tx).await? {
            write(&checkpoint.export_line())?;
            exported.checkpoints += 1;
        }
        Ok(exported)
    }
}

/// Reading a long history takes its time.
async fn without_time_limit(connection: &mut PgConnection) -> Result<(), Fault> {
    sqlx::query("SET LOCAL statement_timeout = 0").execute(connection).await.doing(DOING).map(|_| ())
}

async fn checkpoints(connection: &mut PgConnection) -> Result<Vec<Sealed>, Fault> {
    let sql = "SELECT number, convert_from(canonical, 'UTF8') AS canonical, hash FROM rota.checkpoints ORDER BY number";
    let rows = sqlx::query(sql).fetch_all(connection).await.doing(DOING)?;
    let sealed = |row: &PgRow| {
        Ok(Sealed {
            number: row.try_get("number").doing(DOING)?,
            canonical: row.try_get("canonical").doing(DOING)?,
            hash: hash(row)?,
        })
    };
    rows.iter().map(sealed).collect()
}

fn row(row: &PgRow) -> Result<Row, Fault> {
    Ok(Row {
        chain: row.try_get("chain").doing(DOING)?,
        seq: row.try_get("seq").doing(DOING)?,
        canonical: row.try_get("canonical").doing(DOING)?,
        hash: hash(row)?,
    })
}

fn hash(row: &PgRow) -> Result<Hash, Fault> {
    let bytes: Vec<u8> = row.try_get("hash").doing(DOING)?;
    Ok(Hash(bytes.try_into().map_err(|_| unreadable("a hash"))?))
}
