//! The row in the target that orders effects: a late one finds a greater fence there
//! and changes nothing.
//!
//! Every change of the target is one transaction that begins here. A retry of the very
//! effect that was the last one passes; its statements can be repeated.

use rota_core::fault::Fault;
use rota_core::id::{EffectNo, Epoch, Incarnation, RotationId};
use rota_engine::ports::Fence;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Postgres, Row as _, Transaction};

use super::fault::Doing as _;
use super::server::{ident, literal};

/// Made where it is missing. Roles are written as they are named; nothing here is secret.
const TABLE: &str = "CREATE SCHEMA IF NOT EXISTS rota_fence; \
    CREATE TABLE IF NOT EXISTS rota_fence.effects ( \
        target text PRIMARY KEY, secret text NOT NULL, rotation uuid NOT NULL, \
        incarnation bigint NOT NULL, epoch bigint NOT NULL, effect bigint NOT NULL, \
        what text NOT NULL, role text NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp())";

const PASS: &str = "INSERT INTO rota_fence.effects AS last \
        (target, secret, rotation, incarnation, epoch, effect, what, role) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
    ON CONFLICT (target) DO UPDATE SET (secret, rotation, incarnation, epoch, effect, what, role, at) = \
        (excluded.secret, excluded.rotation, excluded.incarnation, excluded.epoch, excluded.effect, \
         excluded.what, excluded.role, \
         CASE WHEN last.effect = excluded.effect AND last.epoch = excluded.epoch THEN last.at ELSE excluded.at END) \
    WHERE (last.incarnation, last.epoch, last.effect) < (excluded.incarnation, excluded.epoch, excluded.effect) \
       OR (last.incarnation, last.epoch, last.effect, last.rotation, last.what, last.role) = \
          (excluded.incarnation, excluded.epoch, excluded.effect, excluded.rotation, excluded.what, excluded.role)";

/// One effect, as the row tells it.
pub(super) struct Mark<'a> {
    /// What the fence stands around.
    pub(super) target: &'a str,
    pub(super) secret: &'a str,
    pub(super) rotation: RotationId,
    pub(super) what: &'static str,
    pub(super) role: &'a str,
    pub(super) fence: Fence,
}

/// A transaction that the fence let pass.
pub(super) struct Change<'c> {
    transaction: Transaction<'c, Postgres>,
    doing: String,
}

impl<'c> Change<'c> {
    /// Begins a change where nothing greater was there before.
    ///
    /// # Errors
    /// [`Fault::Conflict`] where a greater fence was, [`Fault::Transient`] where the
    /// server takes no writes now.
    pub(super) async fn begin(connection: &'c mut PgConnection, mark: &Mark<'_>) -> Result<Self, Fault> {
        let doing = format!("changing role `{}`", mark.role);
        must_take_writes(connection).await?;
        let mut transaction = connection.begin().await.doing(&doing)?;
        if !is_there(&mut transaction).await? {
            sqlx::raw_sql(TABLE)
                .execute(&mut *transaction)
                .await
                .doing("making the table `rota_fence.effects`")?;
        }
        let passed = sqlx::query(PASS)
            .bind(mark.target)
            .bind(mark.secret)
            .bind(mark.rotation.0)
            .bind(mark.fence.incarnation.0)
            .bind(mark.fence.epoch.0)
            .bind(mark.fence.effect.0)
            .bind(mark.what)
            .bind(mark.role)
            .execute(&mut *transaction)
            .await
            .doing("writing the fence `rota_fence.effects`")?;
        if passed.rows_affected() == 0 {
            return Err(Fault::conflict(format!(
                "a later effect was at role `{}` first, this one is not applied any more",
                mark.role
            )));
        }
        Ok(Self { transaction, doing })
    }

    /// Runs one statement. It may hold names and verifiers, never a password.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn run(&mut self, statement: String) -> Result<(), Fault> {
        let doing = self.doing.clone();
        self.run_for(&doing, statement).await
    }

    /// As [`Change::run`], with what the statement is for.
    ///
    /// # Errors
    /// As the server says.
    pub(super) async fn run_for(&mut self, doing: &str, statement: String) -> Result<(), Fault> {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *self.transaction).await.doing(doing).map(|_| ())
    }

    /// Lets a role log in with a verifier of ours.
    pub(super) async fn let_in(&mut self, role: &str, verifier: &str) -> Result<(), Fault> {
        let (role, verifier) = (ident(role), literal(verifier));
        self.run(format!("ALTER ROLE {role} LOGIN PASSWORD{verifier} VALID UNTIL 'infinity'")).await
    }

    /// Forgets a role's password for good.
    pub(super) async fn shut_out(&mut self, role: &str) -> Result<(), Fault> {
        self.run(format!("ALTER ROLE {} NOLOGIN PASSWORD NULL", ident(role))).await
    }

    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// # Errors
    /// A passing fault where it is not known whether the commit was made.
    pub(super) async fn commit(self) -> Result<(), Fault> {
        self.transaction.commit().await.doing(&self.doing)
    }
}

/// A server in recovery or read-only is asked again later: a failover ends by itself.
///
/// # Errors
/// [`Fault::Transient`] with which of the two it is.
pub(super) async fn must_take_writes(connection: &mut PgConnection) -> Result<(), Fault> {
    let sql = "SELECT pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool";
    let row = sqlx::query(sql).fetch_one(connection).await.doing("asking whether the server takes writes")?;
    let (recovering, read_only) = (row.get::<bool, _>(0), row.get::<bool, _>(1));
    if recovering {
        return Err(Fault::transient(
            "the server is in recovery (a standby); name the primary as `host`, or wait for the failover to end",
        ));
    }
    if read_only {
        return Err(Fault::transient(
            "the database is read-only (default_transaction_read_only); nothing is changed until it takes writes",
        ));
    }
    Ok(())
}

async fn is_there(connection: &mut PgConnection) -> Result<bool, Fault> {
    let sql = "SELECT to_regclass('rota_fence.effects') IS NOT NULL";
    sqlx::query_scalar(sql).fetch_one(connection).await.doing("looking for the fence")
}

/// Seconds since the epoch at which `rotation` did `what` as the last effect on
/// `target`; `None` where that was not the last one.
///
/// # Errors
/// As the server says.
pub(super) async fn done_at(
    connection: &mut PgConnection,
    target: &str,
    rotation: RotationId,
    what: &str,
) -> Result<Option<f64>, Fault> {
    if !is_there(connection).await? {
        return Ok(None);
    }
    let sql = "SELECT extract(epoch FROM at)::float8 FROM rota_fence.effects \
        WHERE target = $1 AND rotation = $2 AND what = $3";
    let query = sqlx::query_scalar(sql).bind(target).bind(rotation.0).bind(what);
    query.fetch_optional(connection).await.doing("reading the fence `rota_fence.effects`")
}

/// What the last effect on `target` was ordered by; `None` where there was none.
///
/// # Errors
/// As the server says.
pub(super) async fn last(connection: &mut PgConnection, target: &str) -> Result<Option<Fence>, Fault> {
    if !is_there(connection).await? {
        return Ok(None);
    }
    let sql = "SELECT incarnation, epoch, effect FROM rota_fence.effects WHERE target = $1";
    let query = sqlx::query_as(sql).bind(target);
    let row: Option<(i64, i64, i64)> =
        query.fetch_optional(connection).await.doing("reading the fence `rota_fence.effects`")?;
    Ok(row.map(|(incarnation, epoch, effect)| Fence {
        incarnation: Incarnation(incarnation),
        epoch: Epoch(epoch),
        effect: EffectNo(effect),
    }))
}

/// Whether the administrator can write the fence, or make it.
///
/// # Errors
/// [`Fault::Denied`] with what to grant.
pub(super) async fn must_be_writable(connection: &mut PgConnection) -> Result<(), Fault> {
    let sql = "SELECT CASE WHEN to_regclass('rota_fence.effects') IS NULL \
        THEN has_database_privilege(current_database(), 'CREATE') \
        ELSE coalesce(has_schema_privilege('rota_fence', 'USAGE') \
            AND has_table_privilege(to_regclass('rota_fence.effects'), 'SELECT, INSERT, UPDATE'), false) END";
    let can: bool = sqlx::query_scalar(sql).fetch_one(connection).await.doing("looking for the fence")?;
    if can {
        return Ok(());
    }
    Err(Fault::denied(
        "the administrator cannot make or write the table `rota_fence.effects`; grant it CREATE on the database",
    ))
}
