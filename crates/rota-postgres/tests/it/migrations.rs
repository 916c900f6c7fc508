//! Migrations: twice, at once, refused.

use rota_core::fault::Fault;
use rota_fakes::postgres::shared;
use rota_postgres::{ConnectSettings, check_schema, migrate};

use crate::support::{daemon, database, settings};

#[tokio::test]
async fn migrating_twice_changes_nothing_the_second_time() {
    let database = shared().unwrap().fresh_database().await.unwrap();
    let settings = settings(&database);
    let first = migrate(&settings).await.unwrap();
    assert!(!first.applied.is_empty());
    let second = migrate(&settings).await.unwrap();
    assert_eq!((second.applied, second.version), (Vec::new(), first.version));
    check_schema(&settings.connect().await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn processes_that_migrate_at_the_same_time_apply_each_migration_once() {
    let database = shared().unwrap().fresh_database().await.unwrap();
    let settings = settings(&database);
    let (a, b, c) = tokio::join!(migrate(&settings), migrate(&settings), migrate(&settings));
    let applied: Vec<i64> = [a, b, c].into_iter().flat_map(|done| done.unwrap().applied).collect();
    let mut once = applied.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(applied.len(), once.len());
    assert!(!once.is_empty());
}

#[tokio::test]
async fn a_schema_that_needs_a_newer_binary_is_refused() {
    let database = database().await;
    database.execute("UPDATE rota.compatibility SET minimum_binary = '999.1.0'").await.unwrap();
    for refused in [
        check_schema(&daemon(&database).await).await.unwrap_err(),
        migrate(&settings(&database)).await.unwrap_err(),
    ] {
        assert!(
            matches!(&refused, Fault::Invalid { message } if message.contains("needs rota 999.1.0 or newer")),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_newer_schema_that_allows_this_binary_is_accepted() {
    let database = database().await;
    database
        .execute(
            "INSERT INTO rota.schema_migrations (version, description, checksum) VALUES (999, 'later', '')",
        )
        .await
        .unwrap();
    check_schema(&daemon(&database).await).await.unwrap();
    assert_eq!(migrate(&settings(&database)).await.unwrap().version, 999);
}

#[tokio::test]
async fn a_schema_without_a_migration_asks_for_rota_migrate() {
    let empty = shared().unwrap().fresh_database().await.unwrap();
    let refused = check_schema(&settings(&empty).connect().await.unwrap()).await.unwrap_err();
    assert!(refused.to_string().contains("run `rota migrate`"), "{refused}");
    let behind = database().await;
    behind.execute("DELETE FROM rota.schema_migrations WHERE version = 6").await.unwrap();
    let refused = check_schema(&daemon(&behind).await).await.unwrap_err();
    assert!(refused.to_string().contains("lacks migration 6"), "{refused}");
}

#[tokio::test]
async fn a_migration_that_was_applied_from_another_text_is_refused() {
    let database = database().await;
    database.execute("UPDATE rota.schema_migrations SET checksum = 'x' WHERE version = 2").await.unwrap();
    let refused = migrate(&settings(&database)).await.unwrap_err();
    assert!(refused.to_string().contains("migration 2 was applied from another text"), "{refused}");
}

#[tokio::test]
async fn a_login_without_rights_is_told_what_an_administrator_has_to_create() {
    // A server of its own: on the shared one other tests have made the roles.
    let server =
        rota_fakes::postgres::PostgresServer::start(rota_fakes::postgres::PostgresOptions::new()).unwrap();
    let database = server.endpoint().unwrap().fresh_database().await.unwrap();
    database.execute("CREATE ROLE plain LOGIN PASSWORD 'plain'").await.unwrap();
    let settings = ConnectSettings::from_url(&database.url_as("plain", "plain").unwrap()).unwrap();
    let told = async || migrate(&settings).await.unwrap_err().to_string();

    let first = told().await;
    assert!(
        first.contains("CREATE ROLE rota_owner NOLOGIN;")
            && first.contains("CREATE ROLE rota_auditor NOLOGIN;")
    );
    for role in ["rota_owner", "rota_daemon", "rota_operator", "rota_auditor"] {
        database.execute(&format!("CREATE ROLE {role} NOLOGIN")).await.unwrap();
    }
    assert!(told().await.contains("GRANT rota_owner TO plain"));
    database.execute("GRANT rota_owner TO plain").await.unwrap();
    assert!(told().await.contains("CREATE SCHEMA rota AUTHORIZATION rota_owner"));
    database.execute("CREATE SCHEMA rota AUTHORIZATION rota_owner").await.unwrap();
    migrate(&settings).await.unwrap();
    check_schema(&settings.connect().await.unwrap()).await.unwrap();
}
