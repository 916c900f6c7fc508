//! Databases of a server: one per test, dropped after it.

use std::sync::{OnceLock, mpsc};

use anyhow::{Context as _, Result, ensure};
use reqwest::Url;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

/// Where a server is reached as its superuser.
#[derive(Clone, Debug)]
pub struct PostgresEndpoint {
    url: Url,
}

impl PostgresEndpoint {
    /// Reads a URL such as `postgres://postgres@127.0.0.1:5432/postgres`.
    ///
    /// # Errors
    /// When it is no URL with a database name.
    pub fn parse(url: &str) -> Result<Self> {
        let url = Url::parse(url).context("a Postgres address must be a URL")?;
        ensure!(url.path().len() > 1, "a Postgres address must name a database");
        Ok(Self { url })
    }

    /// The superuser's URL of the maintenance database.
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The superuser's URL of a database.
    pub fn url_of(&self, database: &str) -> String {
        let mut url = self.url.clone();
        url.set_path(database);
        url.into()
    }

    /// An empty database of the caller's own.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn fresh_database(&self) -> Result<TestDatabase> {
        self.create("template0").await
    }

    /// A copy of a database that nobody is connected to, such as one with all
    /// migrations applied.
    ///
    /// # Errors
    /// When the server refuses, or somebody is connected to `template`.
    pub async fn fresh_copy_of(&self, template: &TestDatabase) -> Result<TestDatabase> {
        self.create(&template.name).await
    }

    async fn create(&self, template: &str) -> Result<TestDatabase> {
        let name = format!("t_{}", Uuid::new_v4().simple());
        execute(self.url(), &format!("CREATE DATABASE {name} TEMPLATE {template}")).await?;
        Ok(TestDatabase { url: self.url_of(&name), name, endpoint: self.clone() })
    }
}

/// A database of one test. Dropping it drops the database, soon after and in
/// the background.
#[derive(Debug)]
pub struct TestDatabase {
    name: String,
    url: String,
    endpoint: PostgresEndpoint,
}

impl TestDatabase {
    /// The database's name, unique on its server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The superuser's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server that it is on.
    pub fn endpoint(&self) -> &PostgresEndpoint {
        &self.endpoint
    }

    /// The URL of another role.
    ///
    /// # Errors
    /// Never for a database of an endpoint; the parts are checked all the same.
    pub fn url_as(&self, role: &str, password: &str) -> Result<String> {
        let mut url = Url::parse(&self.url)?;
        let set = url.set_username(role).and_then(|()| url.set_password(Some(password)));
        ensure!(set.is_ok(), "the address cannot carry a user name");
        Ok(url.into())
    }

    /// Runs SQL as the superuser; several statements run as one transaction.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn execute(&self, sql: &str) -> Result<()> {
        execute(&self.url, sql).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // A test must not wait for it, and may have no runtime left to wait with.
        let order = (self.endpoint.url().to_owned(), self.name.clone());
        let _ = reaper().send(order);
    }
}

async fn execute(url: &str, sql: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// One thread drops the databases of all tests of this process, one after the other.
fn reaper() -> &'static mpsc::Sender<(String, String)> {
    static REAPER: OnceLock<mpsc::Sender<(String, String)>> = OnceLock::new();
    REAPER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<(String, String)>();
        std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
                return;
            };
            for (url, name) in orders {
                // A server that is gone took its databases with it.
                let sql = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                let _ = runtime.block_on(execute(&url, &sql));
            }
        });
        sender
    })
}
