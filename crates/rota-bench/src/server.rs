//! The Postgres of the benchmark: durable, its own, and databases with the schema.

use anyhow::Result;
use rota_fakes::postgres::{PostgresEndpoint, PostgresOptions, PostgresServer, TestDatabase};
use rota_postgres::{ConnectSettings, JournalPool, migrate};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::trace::LOG_LINE_PREFIX;

/// The rights of the daemon.
const ROLE: &str = "rota_daemon";

/// A server with fsync on, and a migrated database to copy.
pub(crate) struct Server {
    pub(crate) postgres: PostgresServer,
    endpoint: PostgresEndpoint,
    template: TestDatabase,
}

impl Server {
    /// # Errors
    /// Where Postgres is not installed or does not start.
    pub(crate) async fn start() -> Result<Self> {
        let options = PostgresOptions::new().durable().setting("log_line_prefix", LOG_LINE_PREFIX);
        let postgres = PostgresServer::start(options)?;
        let endpoint = postgres.endpoint()?;
        let template = endpoint.fresh_database().await?;
        migrate(&ConnectSettings::from_url(template.url())?).await?;
        Ok(Self { postgres, endpoint, template })
    }

    /// The superuser's URL of the maintenance database.
    pub(crate) fn url(&self) -> &str {
        self.endpoint.url()
    }

    /// A database with all migrations applied.
    ///
    /// # Errors
    /// Where the server refuses.
    pub(crate) async fn migrated(&self) -> Result<TestDatabase> {
        self.endpoint.fresh_copy_of(&self.template).await
    }

    /// A database without anything.
    ///
    /// # Errors
    /// Where the server refuses.
    pub(crate) async fn empty(&self) -> Result<TestDatabase> {
        self.endpoint.fresh_database().await
    }
}

/// Connections with the rights of the daemon.
///
/// # Errors
/// Where the server refuses.
pub(crate) async fn daemon(database: &TestDatabase, connections: u32) -> Result<JournalPool> {
    let settings = ConnectSettings::from_url(database.url())?.max_connections(connections).act_as(ROLE);
    Ok(settings.connect().await?)
}

/// A login with the rights of the daemon, for the real one.
///
/// # Errors
/// Where the server refuses.
pub(crate) async fn daemon_url(database: &TestDatabase) -> Result<String> {
    const LOGIN: &str = "rota_bench";
    let sql = format!(
        "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{LOGIN}') THEN \
            CREATE ROLE {LOGIN} LOGIN PASSWORD '{LOGIN}' IN ROLE {ROLE}; END IF; END $$"
    );
    database.execute(&sql).await?;
    database.url_as(LOGIN, LOGIN)
}

/// One number that the superuser reads.
///
/// # Errors
/// Where the server refuses.
pub(crate) async fn number(database: &TestDatabase, sql: &str) -> Result<i64> {
    let mut connection = PgConnection::connect(database.url()).await?;
    let number = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&mut connection).await?;
    connection.close().await?;
    Ok(number)
}
