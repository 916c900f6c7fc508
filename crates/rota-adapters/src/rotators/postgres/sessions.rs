//! The sessions of a role, on the server and its standbys.

use rota_core::fault::Fault;
use sqlx::PgConnection;

use super::fault::Doing as _;

/// Sessions of a role; with a time (seconds since the epoch) only those opened before it.
/// Every login may see who else is logged in, whatever its rights.
const OF_ROLE: &str = "FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid \
    WHERE r.rolname = $1 AND a.pid <> pg_backend_pid() \
      AND ($2::float8 IS NULL OR extract(epoch FROM a.backend_start) < $2)";

/// # Errors
/// As the server says.
pub(super) async fn count(
    connection: &mut PgConnection,
    role: &str,
    opened_before: Option<f64>,
) -> Result<i64, Fault> {
    let sql = format!("SELECT count(*) {OF_ROLE}");
    let query = sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).bind(role).bind(opened_before);
    query.fetch_one(connection).await.doing(&format!("counting the sessions of `{role}`"))
}

/// Ends the sessions; they are gone a moment later.
///
/// # Errors
/// [`Fault::Denied`] where the administrator may not.
pub(super) async fn end(
    connection: &mut PgConnection,
    role: &str,
    opened_before: Option<f64>,
) -> Result<(), Fault> {
    let sql = format!("SELECT pg_terminate_backend(a.pid) {OF_ROLE}");
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(role).bind(opened_before);
    query.execute(connection).await.doing(&format!("ending the sessions of `{role}`")).map(|_| ())
}
