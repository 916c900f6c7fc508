//! The sessions of a role, on the server and its standbys.

use rota_core::fault::Fault;
use sqlx::PgConnection;

use super::fault::Doing as _;
use super::server::ident;

/// Sessions of a role; with a time (seconds since the epoch) only those opened before it.
/// Every login may see who else is logged in, and only some since when: where it is not
/// shown, a session may be an old one, and is ended by nobody.
const OF_ROLE: &str = "FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid \
    WHERE r.rolname = $1 AND a.pid <> pg_backend_pid() AND ($2::float8 IS NULL OR ";
const OLD: &str = "extract(epoch FROM a.backend_start) < $2)";
const MAYBE_OLD: &str = "a.backend_start IS NULL OR extract(epoch FROM a.backend_start) < $2)";

/// # Errors
/// As the server says.
pub(super) async fn count(
    connection: &mut PgConnection,
    role: &str,
    opened_before: Option<f64>,
) -> Result<i64, Fault> {
    let sql = format!("SELECT count(*) {OF_ROLE}{MAYBE_OLD}");
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
    let sql = format!("SELECT pg_terminate_backend(a.pid) {OF_ROLE}{OLD}");
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(role).bind(opened_before);
    query.execute(connection).await.doing(&format!("ending the sessions of `{role}`")).map(|_| ())
}

/// Whether the administrator is shown since when the sessions of a role are open.
///
/// # Errors
/// [`Fault::Denied`] with what to grant.
pub(super) async fn must_show_since_when(connection: &mut PgConnection, role: &str) -> Result<(), Fault> {
    let sql =
        "SELECT pg_has_role('pg_read_all_stats', 'USAGE') OR pg_has_role($1, 'USAGE'), current_user::text";
    let (shown, admin): (bool, String) = sqlx::query_as(sql)
        .bind(role)
        .fetch_one(connection)
        .await
        .doing("looking at the administrator's rights")?;
    if shown {
        return Ok(());
    }
    Err(Fault::denied(format!(
        "the administrator cannot see which sessions of `{role}` are older than its new password; \
         run `GRANT pg_read_all_stats TO {}` as a superuser",
        ident(&admin)
    )))
}

/// `1 session`, `2 sessions`.
pub(super) fn told(sessions: i64) -> String {
    format!("{sessions} session{}", if sessions == 1 { "" } else { "s" })
}
