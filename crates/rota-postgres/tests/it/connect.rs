//! Connections: TLS with a private authority, passwords that change, forced settings.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::value::SecretValue;
use rota_engine::ports::Journal as _;
use rota_fakes::postgres::{PostgresOptions, PostgresServer, shared};
use rota_postgres::{ConnectSettings, PasswordSource, PgJournal, migrate};

use crate::support::{database, superuser};

#[tokio::test]
async fn a_server_is_verified_with_the_private_authority() {
    let options = PostgresOptions::new().tls().superuser_password("correct horse");
    let server = PostgresServer::start(options).unwrap();
    let database = server.endpoint().unwrap().fresh_database().await.unwrap();
    let url = database.url().replace("sslmode=require", "sslmode=verify-full");
    let settings = ConnectSettings::from_url(&url).unwrap();
    let refused = migrate(&settings).await.unwrap_err();
    assert!(matches!(&refused, Fault::Invalid { message } if message.contains("certificate")), "{refused}");

    let stranger = rota_fakes::tls::TestCa::new().unwrap();
    let refused = migrate(&settings.clone().trust_authority(stranger.pem())).await.unwrap_err();
    assert!(matches!(&refused, Fault::Invalid { message } if message.contains("certificate")), "{refused}");
    let trusted = settings.trust_authority(server.ca().unwrap().pem());
    migrate(&trusted).await.unwrap();
    let journal = PgJournal::new(trusted.connect().await.unwrap());
    journal.now().await.unwrap();

    let wrong = trusted.password(&SecretValue::new("wrong horse".to_owned()).unwrap());
    let refused = wrong.connect().await.map(|_| ()).unwrap_err();
    assert!(matches!(&refused, Fault::Denied { message } if !message.contains("horse")), "{refused}");
}

struct Counting {
    asked: AtomicUsize,
    password: &'static str,
}

#[async_trait]
impl PasswordSource for Counting {
    async fn password(&self) -> Result<SecretValue, Fault> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Ok(SecretValue::new(self.password.to_owned()).unwrap())
    }
}

#[tokio::test]
async fn a_password_that_expires_is_asked_for_at_each_connect() {
    let database = database().await;
    let role = format!("r_{}", database.name());
    database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'token'")).await.unwrap();
    let url = database.url_as(&role, "outdated").unwrap();
    let source = Arc::new(Counting { asked: AtomicUsize::new(0), password: "token" });
    let settings = ConnectSettings::from_url(&url).unwrap().fresh_passwords(Arc::clone(&source) as _);
    settings.connect().await.unwrap().close().await;
    settings.connect().await.unwrap().close().await;
    assert_eq!(source.asked.load(Ordering::Relaxed), 2);
    database.execute(&format!("DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn sessions_commit_synchronously_whatever_the_login_says() {
    let database = database().await;
    let role = format!("r_{}", database.name());
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'x' IN ROLE rota_daemon; \
             ALTER ROLE {role} SET synchronous_commit = off; \
             ALTER ROLE {role} SET statement_timeout = 1; ALTER ROLE {role} SET TimeZone = 'Asia/Tokyo'"
        ))
        .await
        .unwrap();
    let settings = ConnectSettings::from_url(&database.url_as(&role, "x").unwrap()).unwrap();
    let pool = settings.application_name("rota test").connect().await.unwrap();
    PgJournal::new(pool.clone()).now().await.unwrap();
    let mut connection = superuser(&database).await;
    let name: String = sqlx::query_scalar("SELECT application_name FROM pg_stat_activity WHERE usename = $1")
        .bind(&role)
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(name, "rota test");
    for (setting, wanted) in [
        ("synchronous_commit", "on"),
        ("statement_timeout", "30s"),
        ("TimeZone", "UTC"),
        ("search_path", "pg_catalog"),
    ] {
        assert_eq!(pool.show(setting).await.unwrap(), wanted, "{setting}");
    }
    pool.close().await;
    database.execute(&format!("DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn a_server_that_is_gone_is_a_passing_fault_and_a_missing_database_is_not() {
    let mut server = PostgresServer::start(PostgresOptions::new()).unwrap();
    let url = server.endpoint().unwrap().url().to_owned();
    server.stop_fast().unwrap();
    let refused = ConnectSettings::from_url(&url).unwrap().connect().await.map(|_| ()).unwrap_err();
    assert!(refused.passes_by_itself(), "{refused}");
    let missing = shared().unwrap().url_of("no_such_database");
    let refused = ConnectSettings::from_url(&missing).unwrap().connect().await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, Fault::Invalid { .. }), "{refused}");
}
