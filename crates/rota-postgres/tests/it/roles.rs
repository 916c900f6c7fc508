//! Who may do what.

use sqlx::PgConnection;

use crate::support::{database, superuser};

/// Every relation of the schema on which `role` has the privilege.
async fn relations(connection: &mut PgConnection, role: &str, privilege: &str) -> Vec<String> {
    let sql = "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = 'rota'::regnamespace \
            AND c.relkind IN ('r', 'v', 'm', 'p', 'f') \
            AND (has_table_privilege($1, c.oid, $2) OR ($2 IN ('SELECT', 'INSERT', 'UPDATE') \
                AND has_any_column_privilege($1, c.oid, $2))) \
        ORDER BY c.relname";
    sqlx::query_scalar(sql).bind(role).bind(privilege).fetch_all(connection).await.unwrap()
}

async fn functions(connection: &mut PgConnection, role: &str) -> Vec<String> {
    let sql = "SELECT p.proname::text FROM pg_proc p WHERE p.pronamespace = 'rota'::regnamespace \
            AND has_function_privilege($1, p.oid, 'EXECUTE') ORDER BY p.proname";
    sqlx::query_scalar(sql).bind(role).fetch_all(connection).await.unwrap()
}

const WRITES: [&str; 4] = ["INSERT", "UPDATE", "DELETE", "TRUNCATE"];

/// Every command looks first whether it fits the schema.
const VERSION: [&str; 2] = ["compatibility", "schema_migrations"];

#[tokio::test]
async fn the_daemon_reads_everything_and_writes_only_its_own() {
    let database = database().await;
    let mut connection = superuser(&database).await;
    let inserts = relations(&mut connection, "rota_daemon", "INSERT").await;
    assert_eq!(
        inserts,
        [
            "channels",
            "consumers",
            "deliveries",
            "exclusive_claims",
            "observations",
            "orphans",
            "outbox",
            "policies",
            "publications",
            "rollouts",
            "rotations",
            "secrets",
        ]
    );
    let updates = relations(&mut connection, "rota_daemon", "UPDATE").await;
    assert_eq!(
        updates,
        [
            "channels",
            "consumers",
            "deliveries",
            "incarnations",
            "orders",
            "policies",
            "publications",
            "rollouts",
            "rotations",
            "secrets",
        ]
    );
    assert_eq!(relations(&mut connection, "rota_daemon", "DELETE").await, ["exclusive_claims", "outbox"]);
    assert_eq!(relations(&mut connection, "rota_daemon", "TRUNCATE").await, [""; 0]);
    let called = functions(&mut connection, "rota_daemon").await;
    assert_eq!(
        called,
        ["append_history", "prune_notices", "prune_observations", "seal_history", "system_identity"]
    );
    let sql = "SELECT has_sequence_privilege('rota_daemon', 'rota.epochs', 'UPDATE')";
    let resets: bool = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    assert!(!resets, "the sequence of epochs is never set back");
}

#[tokio::test]
async fn an_operator_only_gives_orders_and_sees_the_schema_s_version() {
    let database = database().await;
    let mut connection = superuser(&database).await;
    assert_eq!(relations(&mut connection, "rota_operator", "SELECT").await, VERSION);
    for privilege in WRITES {
        assert_eq!(relations(&mut connection, "rota_operator", privilege).await, [""; 0], "{privilege}");
    }
    let called = functions(&mut connection, "rota_operator").await;
    assert!(called.len() >= 12 && called.iter().all(|name| name.starts_with("order_")), "{called:?}");
}

#[tokio::test]
async fn an_auditor_only_reads_views_and_the_schema_s_version() {
    let database = database().await;
    let mut connection = superuser(&database).await;
    for privilege in WRITES {
        assert_eq!(relations(&mut connection, "rota_auditor", privilege).await, [""; 0], "{privilege}");
    }
    assert_eq!(functions(&mut connection, "rota_auditor").await, [""; 0]);
    let mut read = relations(&mut connection, "rota_auditor", "SELECT").await;
    read.retain(|name| !VERSION.contains(&name.as_str()));
    let sql = "SELECT count(*) FROM pg_views WHERE schemaname = 'rota' AND viewname = ANY ($1)";
    let views: i64 = sqlx::query_scalar(sql).bind(&read).fetch_one(&mut connection).await.unwrap();
    assert_eq!(usize::try_from(views), Ok(read.len()));
    for view in ["history", "overdue", "rotation_summary", "secret_status"] {
        assert!(read.iter().any(|name| name == view), "{view}");
    }
}

#[tokio::test]
async fn nothing_is_left_to_everybody_and_definers_functions_have_a_fixed_search_path() {
    let database = database().await;
    let mut connection = superuser(&database).await;
    for privilege in ["SELECT"].into_iter().chain(WRITES) {
        assert_eq!(relations(&mut connection, "public", privilege).await, [""; 0], "{privilege}");
    }
    assert_eq!(functions(&mut connection, "public").await, [""; 0]);
    let sql = "SELECT has_schema_privilege('public', 'rota', 'USAGE')";
    let enters: bool = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
    assert!(!enters);
    let sql = "SELECT proname::text FROM pg_proc WHERE pronamespace = 'rota'::regnamespace \
        AND NOT coalesce(array_to_string(proconfig, ' ') LIKE 'search_path=pg_catalog%pg_temp', false)";
    let loose: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
    assert_eq!(loose, [""; 0]);
    let sql = "SELECT relname::text FROM pg_class c WHERE relnamespace = 'rota'::regnamespace \
        AND pg_get_userbyid(relowner) <> 'rota_owner'";
    let foreign: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
    assert_eq!(foreign, [""; 0], "everything belongs to rota_owner");
}
