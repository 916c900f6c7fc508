//! Brings the schema up to this binary, and refuses one that is too new or too old.
//!
//! Migrations are the numbered files of the top-level folder `migrations/`, forward
//! only, each in one transaction with its own bookkeeping. Deliberately absent: a way
//! back. An older binary works on a newer schema until the schema says otherwise.

use rota_core::fault::Fault;
use sqlx::migrate::Migration;
use sqlx::{Connection as _, PgConnection};

use crate::connect::{ConnectSettings, JournalPool};
use crate::error::{Doing as _, fault};

static EMBEDDED: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// The session lock that keeps two migrating processes apart: "rota" in ASCII.
const LOCK: i64 = 0x726f_7461;

/// What `migrate` did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Versions applied now; empty where the schema was up to date.
    pub applied: Vec<i64>,
    /// The version that the schema has.
    pub version: i64,
}

/// A binary's version, as far as compatibility is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BinaryVersion(pub u64, pub u64, pub u64);

impl BinaryVersion {
    /// The version of this build.
    ///
    /// # Errors
    /// Never for a version that Cargo accepted.
    pub fn current() -> Result<Self, Fault> {
        Self::parse(env!("CARGO_PKG_VERSION")).ok_or_else(|| Fault::invalid("this build has no version"))
    }

    /// Reads `1.2.3`; a suffix after `-` or `+` is left out.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(['-', '+']).next()?.split('.').map(str::parse);
        let version = Self(parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
        parts.next().is_none().then_some(version)
    }
}

impl std::fmt::Display for BinaryVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Applies every migration that is missing. Idempotent; processes that migrate at the
/// same time wait for each other.
///
/// # Errors
/// [`Fault::Invalid`] where a role or the schema has to be made by an administrator
/// (the message says which), where an applied migration differs from this binary's,
/// or where the schema wants a newer binary.
pub async fn migrate(settings: &ConnectSettings) -> Result<Migrated, Fault> {
    let mut connection = settings.unlimited_connection().await?;
    let lock = sqlx::query("SELECT pg_advisory_lock($1)").bind(LOCK);
    lock.execute(&mut connection).await.doing("waiting for another migration")?;
    let migrated = apply_missing(&mut connection).await;
    // The lock goes with the session.
    let closed = connection.close().await.doing("closing the connection");
    let migrated = migrated?;
    closed?;
    Ok(migrated)
}

async fn apply_missing(connection: &mut PgConnection) -> Result<Migrated, Fault> {
    let applied = applied(connection).await?;
    if !applied.is_empty() {
        check_minimum(connection, BinaryVersion::current()?).await?;
    }
    let mut migrated = Migrated { applied: Vec::new(), version: applied.last().map_or(0, |row| row.0) };
    for migration in EMBEDDED.iter() {
        match applied.iter().find(|(version, _)| *version == migration.version) {
            Some((_, checksum)) if checksum[..] == migration.checksum[..] => {}
            Some((version, _)) => {
                return Err(Fault::invalid(format!(
                    "migration {version} was applied from another text than this binary has; \
                     use the release that the schema was made with"
                )));
            }
            None => {
                apply(connection, migration).await?;
                migrated.applied.push(migration.version);
                migrated.version = migrated.version.max(migration.version);
            }
        }
    }
    Ok(migrated)
}

async fn applied(connection: &mut PgConnection) -> Result<Vec<(i64, Vec<u8>)>, Fault> {
    let doing = "reading the schema's version";
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('rota.schema_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .doing(doing)?;
    if !exists {
        return Ok(Vec::new());
    }
    let query = sqlx::query_as("SELECT version, checksum FROM rota.schema_migrations ORDER BY version");
    query.fetch_all(connection).await.doing(doing)
}

async fn apply(connection: &mut PgConnection, migration: &Migration) -> Result<(), Fault> {
    let doing = format!("applying migration {} ({})", migration.version, migration.description);
    let failed = |error: sqlx::Error| fault(&doing, &error);
    let mut transaction = connection.begin().await.map_err(failed)?;
    sqlx::raw_sql(migration.sql.clone()).execute(&mut *transaction).await.map_err(failed)?;
    sqlx::query("INSERT INTO rota.schema_migrations (version, description, checksum) VALUES ($1, $2, $3)")
        .bind(migration.version)
        .bind(migration.description.as_ref())
        .bind(migration.checksum.as_ref())
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    transaction.commit().await.map_err(failed)
}

/// Refuses a schema that this binary must not work on.
///
/// # Errors
/// [`Fault::Invalid`] that says whether to migrate or to upgrade.
pub async fn check_schema(pool: &JournalPool) -> Result<(), Fault> {
    let mut connection = pool.pool.acquire().await.doing("reading the schema's version")?;
    check(&mut connection, BinaryVersion::current()?).await
}

async fn check(connection: &mut PgConnection, binary: BinaryVersion) -> Result<(), Fault> {
    let applied = applied(connection).await?;
    if !applied.is_empty() {
        check_minimum(connection, binary).await?;
    }
    let missing = EMBEDDED.iter().find(|migration| !applied.iter().any(|(v, _)| *v == migration.version));
    match missing {
        Some(migration) => Err(Fault::invalid(format!(
            "the schema lacks migration {} ({}); run `rota migrate`",
            migration.version, migration.description
        ))),
        None => Ok(()),
    }
}

async fn check_minimum(connection: &mut PgConnection, binary: BinaryVersion) -> Result<(), Fault> {
    let minimum: String = sqlx::query_scalar("SELECT minimum_binary FROM rota.compatibility")
        .fetch_one(connection)
        .await
        .doing("reading the schema's version")?;
    match BinaryVersion::parse(&minimum) {
        Some(minimum) if minimum <= binary => Ok(()),
        _ => Err(Fault::invalid(format!(
            "the schema needs rota {minimum} or newer and this is {binary}; install the newer release"
        ))),
    }
}
