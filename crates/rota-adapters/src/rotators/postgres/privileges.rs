//! What one role can do that another cannot, by the server's catalogues.
//!
//! Two questions. [`lacking`]: what the live user can do, by whatever way (its own
//! grants, its groups, ownership), that the idle one cannot. [`missing`]: what was given
//! to the old user itself and not yet to the new one, with the statement that gives it.

use rota_core::fault::Fault;
use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::fault::Doing as _;

const OBJECTS: &str = include_str!("objects.sql");
const LACKING: &str = include_str!("lacking.sql");
const MISSING: &str = include_str!("missing.sql");

/// Rights on settings have a catalogue since version 15.
const PARAMETERS: &str =
    "UNION ALL SELECT 'pg_parameter_acl'::regclass, oid, 0, 'PARAMETER', NULL, paracl FROM pg_parameter_acl";
const PARAMETERS_SINCE: i32 = 150_000;

/// Of a long list people read the beginning.
const SHOWN: usize = 20;

/// Something that the new role does not have yet.
pub(super) struct Missing {
    pub(super) what: String,
    /// What gives it; `None` where only a person can.
    pub(super) statement: Option<String>,
}

async fn query(connection: &mut PgConnection, rest: &str) -> Result<String, Fault> {
    let sql = "SELECT current_setting('server_version_num')::int";
    let version: i32 =
        sqlx::query_scalar(sql).fetch_one(connection).await.doing("asking the server's version")?;
    let parameters = if version >= PARAMETERS_SINCE { PARAMETERS } else { "" };
    Ok(format!("WITH {}{rest}", OBJECTS.replace("/*parameters*/", parameters)))
}

/// What `live` can do in this database, and `idle` cannot.
///
/// # Errors
/// As the server says.
pub(super) async fn lacking(
    connection: &mut PgConnection,
    live: &str,
    idle: &str,
) -> Result<Vec<String>, Fault> {
    let sql = query(connection, LACKING).await?;
    let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(live).bind(idle);
    query.fetch_all(connection).await.doing(&format!("comparing the rights of `{live}` and `{idle}`"))
}

/// What `old` itself was given in this database, and `new` was not.
///
/// # Errors
/// As the server says.
pub(super) async fn missing(
    connection: &mut PgConnection,
    old: &str,
    new: &str,
) -> Result<Vec<Missing>, Fault> {
    let sql = query(connection, MISSING).await?;
    let query = sqlx::query(AssertSqlSafe(sql)).bind(old).bind(new);
    let rows =
        query.fetch_all(connection).await.doing(&format!("comparing the rights of `{old}` and `{new}`"))?;
    Ok(rows.iter().map(|row| Missing { what: row.get(0), statement: row.get(1) }).collect())
}

/// The databases in which a role owns something, or was given something, that take
/// connections; without `main`.
///
/// # Errors
/// As the server says.
pub(super) async fn other_databases(
    connection: &mut PgConnection,
    role: &str,
    main: &str,
) -> Result<Vec<String>, Fault> {
    let sql = "SELECT datname::text FROM pg_database WHERE datallowconn AND datname <> $2 AND oid IN ( \
        SELECT dbid FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass \
            AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = $1)) ORDER BY 1";
    let query = sqlx::query_scalar(sql).bind(role).bind(main);
    query.fetch_all(connection).await.doing(&format!("looking for the databases of `{role}`"))
}

/// A list for a message: `SELECT on table public.orders, USAGE on ...`.
pub(super) fn listed(database: &str, lacks: &[String]) -> String {
    let mut text = format!("in database `{database}`: {}", lacks[..lacks.len().min(SHOWN)].join(", "));
    if lacks.len() > SHOWN {
        text.push_str(&format!(" and {} more", lacks.len() - SHOWN));
    }
    text
}
