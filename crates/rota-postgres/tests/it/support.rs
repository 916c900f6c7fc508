//! A migrated database for each test.

use rota_core::policy::model::Priority;
use rota_engine::ports::Journal as _;
use rota_engine::test_support::journal_suite::parts::{policy, secret_policy};
use rota_fakes::postgres::{TestDatabase, shared};
use rota_postgres::{Asked, ConnectSettings, JournalPool, Orders, PgJournal, Reports, migrate};
use sqlx::{Connection as _, PgConnection};
use tokio::sync::OnceCell;

/// Every test's database is a copy of this one.
static MIGRATED: OnceCell<TestDatabase> = OnceCell::const_new();

/// A database with all migrations applied.
pub(crate) async fn database() -> TestDatabase {
    let template = MIGRATED
        .get_or_init(|| async {
            let database = shared().unwrap().fresh_database().await.unwrap();
            migrate(&settings(&database)).await.unwrap();
            database
        })
        .await;
    shared().unwrap().fresh_copy_of(template).await.unwrap()
}

/// The superuser's settings.
pub(crate) fn settings(database: &TestDatabase) -> ConnectSettings {
    ConnectSettings::from_url(database.url()).unwrap().max_connections(4)
}

/// Connections with the rights of the daemon.
pub(crate) async fn daemon(database: &TestDatabase) -> JournalPool {
    acting_as(database, "rota_daemon").await
}

/// The journal as the daemon has it.
pub(crate) async fn journal(database: &TestDatabase) -> PgJournal {
    PgJournal::new(daemon(database).await)
}

/// One connection as the superuser.
pub(crate) async fn superuser(database: &TestDatabase) -> PgConnection {
    PgConnection::connect(database.url()).await.unwrap()
}

/// Connections with the rights of `role`.
pub(crate) async fn acting_as(database: &TestDatabase, role: &str) -> JournalPool {
    settings(database).act_as(role).connect().await.unwrap()
}

/// A person's orders on a database.
pub(crate) async fn orders(database: &TestDatabase) -> Orders {
    Orders::new(acting_as(database, "rota_operator").await)
}

/// What an auditor reads.
pub(crate) async fn reports(database: &TestDatabase) -> Reports {
    Reports::new(acting_as(database, "rota_auditor").await)
}

/// Who asks, in tests.
pub(crate) fn ann(reason: &str) -> Asked {
    Asked { given_name: "ann".to_owned(), reason: reason.to_owned() }
}

/// A journal whose accepted policy has these secrets.
pub(crate) async fn with_secrets(database: &TestDatabase, names: &[&str]) -> PgJournal {
    let journal = journal(database).await;
    let secrets: Vec<_> = names.iter().map(|name| secret_policy(name, Priority::Medium)).collect();
    journal.accept_policy(&policy(&secrets), "first", "suite").await.unwrap();
    journal
}

/// The SQLSTATE of a refused statement.
pub(crate) fn sqlstate(refused: sqlx::Error) -> String {
    refused.as_database_error().unwrap().code().unwrap().into_owned()
}
