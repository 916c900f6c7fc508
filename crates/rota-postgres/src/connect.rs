//! Connections to the state database: TLS, passwords that expire, and the settings
//! that every session has, whatever the server's defaults are.
//!
//! Deliberately absent: unverified TLS. Plain TCP goes to loopback only.

use std::net::IpAddr;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::value::SecretValue;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, PgPool};
use tokio::task::AbortHandle;

use crate::error::Doing as _;

/// How often a password that expires is asked for anew. RDS IAM tokens live 15 minutes.
const FRESH_PASSWORD_EVERY: Duration = Duration::from_mins(5);

/// After a failed attempt to get a fresh password.
const FRESH_PASSWORD_RETRY: Duration = Duration::from_secs(10);

/// A pool that cannot give a connection by then reports the database as unreachable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections are made anew now and then, so that a failover's new address is found.
const MAX_LIFETIME: Duration = Duration::from_mins(30);

/// No statement of the daemon is slow; one that is has met a lock or a sick server.
const STATEMENT_TIMEOUT: &str = "30s";

/// Locks are held for one short transaction.
const LOCK_TIMEOUT: &str = "10s";

/// A transaction whose process hangs must not keep its locks.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "30s";

/// What every session sets, whatever its role's defaults say. `remote_apply` is
/// stronger than `on` and stays.
const SESSION: &str = "SELECT set_config('synchronous_commit', \
        CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false), \
    set_config('search_path', 'pg_catalog', false), \
    set_config('TimeZone', 'UTC', false), \
    set_config('statement_timeout', $1, false), \
    set_config('lock_timeout', $2, false), \
    set_config('idle_in_transaction_session_timeout', $3, false), \
    CASE WHEN $4 <> '' THEN set_config('role', $4, false) END";

/// Gives the password for connections that are made from now on.
#[async_trait]
pub trait PasswordSource: Send + Sync {
    /// A password that a connection made now can use.
    ///
    /// # Errors
    /// Any; the last password is used meanwhile.
    async fn password(&self) -> Result<SecretValue, Fault>;
}

/// How the state database is reached.
#[derive(Clone)]
pub struct ConnectSettings {
    options: PgConnectOptions,
    passwords: Option<Arc<dyn PasswordSource>>,
    role: Option<String>,
    max_connections: u32,
}

impl std::fmt::Debug for ConnectSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConnectSettings")
            .field("host", &self.options.get_host())
            .field("database", &self.options.get_database())
            .field("user", &self.options.get_username())
            .finish_non_exhaustive()
    }
}

impl ConnectSettings {
    /// Reads `postgres://user@host:port/database?sslmode=verify-full&sslrootcert=/ca.pem`.
    /// Without an `sslmode` a remote server is verified in full.
    ///
    /// # Errors
    /// [`Fault::Invalid`] for anything that is no such URL, and for a remote server that
    /// would not be verified.
    pub fn from_url(url: &str) -> Result<Self, Fault> {
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            Fault::invalid(
                "the state database's address is no URL such as \
                 postgres://user@host:5432/database?sslmode=verify-full",
            )
        })?;
        let options = match options.get_ssl_mode() {
            _ if is_local(&options) => options,
            PgSslMode::VerifyFull | PgSslMode::VerifyCa => options,
            // What a URL without `sslmode` gives.
            PgSslMode::Prefer => options.ssl_mode(PgSslMode::VerifyFull),
            PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Require => {
                return Err(Fault::invalid(
                    "the state database's sslmode would not verify the server; use verify-full",
                ));
            }
        };
        let options = options.application_name("rota").disable_statement_logging();
        Ok(Self { options, passwords: None, role: None, max_connections: 10 })
    }

    /// Trusts exactly the authorities in `pem`, beside none of the system's.
    #[must_use]
    pub fn trust_authority(mut self, pem: &str) -> Self {
        self.options = self.options.ssl_root_cert_from_pem(pem.as_bytes().to_vec());
        self
    }

    #[must_use]
    pub fn password(mut self, password: &SecretValue) -> Self {
        self.options = self.options.password(password.expose());
        self
    }

    /// Asks for a password now and again while the pool lives: RDS IAM authentication.
    #[must_use]
    pub fn fresh_passwords(mut self, source: Arc<dyn PasswordSource>) -> Self {
        self.passwords = Some(source);
        self
    }

    /// What `pg_stat_activity` shows; `rota` without it.
    #[must_use]
    pub fn application_name(mut self, name: &str) -> Self {
        self.options = self.options.application_name(name);
        self
    }

    /// Gives up every right but those of `role` (`SET ROLE`) after the login.
    #[must_use]
    pub fn act_as(mut self, role: &str) -> Self {
        self.role = Some(role.to_owned());
        self
    }

    /// At most this many connections at once; 10 without it.
    #[must_use]
    pub fn max_connections(mut self, max: u32) -> Self {
        self.max_connections = max;
        self
    }

    /// One connection as the login itself and without time limits, for migrations.
    pub(crate) async fn unlimited_connection(&self) -> Result<PgConnection, Fault> {
        let options = self.current_options().await?;
        let mut connection = options.connect().await.doing("connecting")?;
        set_up(&mut connection, None, ["0", "0", "0"]).await.doing("connecting")?;
        Ok(connection)
    }

    /// A pool; its first connection is made now.
    ///
    /// # Errors
    /// The fault of that connection.
    pub async fn connect(&self) -> Result<JournalPool, Fault> {
        let options = self.current_options().await?;
        self.probe(&options).await?;
        let role = self.role.clone();
        let pool = PgPoolOptions::new()
            .max_connections(self.max_connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_lifetime(MAX_LIFETIME)
            .after_connect(move |connection, _| {
                let role = role.clone();
                Box::pin(async move {
                    let limits = [STATEMENT_TIMEOUT, LOCK_TIMEOUT, IDLE_IN_TRANSACTION_TIMEOUT];
                    set_up(connection, role.as_deref(), limits).await
                })
            })
            .connect_with(options)
            .await
            .doing("connecting")?;
        let refresher = self.passwords.as_ref().map(|source| {
            let task = tokio::spawn(refresh(pool.clone(), Arc::clone(source)));
            Arc::new(Refresher(task.abort_handle()))
        });
        Ok(JournalPool { pool, _refresher: refresher })
    }

    /// Connects once beside the pool, which would try again until it gives up and then
    /// says only that it did.
    async fn probe(&self, options: &PgConnectOptions) -> Result<(), Fault> {
        let connecting =
            async { options.connect().await.doing("connecting")?.close().await.doing("connecting") };
        tokio::time::timeout(ACQUIRE_TIMEOUT, connecting)
            .await
            .unwrap_or_else(|_| Err(Fault::transient("connecting: the state database does not answer")))
    }

    async fn current_options(&self) -> Result<PgConnectOptions, Fault> {
        let options = self.options.clone();
        match &self.passwords {
            Some(source) => Ok(options.password(source.password().await?.expose())),
            None => Ok(options),
        }
    }
}

/// Loopback or a unix socket.
fn is_local(options: &PgConnectOptions) -> bool {
    let host = options.get_host();
    options.get_socket().is_some()
        || host.starts_with('/')
        || host == "localhost"
        || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn set_up(
    connection: &mut PgConnection,
    role: Option<&str>,
    [statement, lock, idle]: [&str; 3],
) -> Result<(), sqlx::Error> {
    let query = sqlx::query(SESSION).bind(statement).bind(lock).bind(idle).bind(role.unwrap_or_default());
    query.execute(connection).await.map(|_| ())
}

/// Connections to the state database. Cloning shares them.
#[derive(Clone)]
pub struct JournalPool {
    pub(crate) pool: PgPool,
    _refresher: Option<Arc<Refresher>>,
}

impl JournalPool {
    /// Closes every connection, and waits for those in use.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl JournalPool {
    /// What a session has a setting at, for `rota doctor`.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where there is no such setting.
    pub async fn show(&self, setting: &str) -> Result<String, Fault> {
        let query = sqlx::query_scalar("SELECT current_setting($1)").bind(setting);
        query.fetch_one(&self.pool).await.doing("reading a setting")
    }
}

/// Ends the task with the last clone of its pool.
struct Refresher(AbortHandle);

impl Drop for Refresher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn refresh(pool: PgPool, source: Arc<dyn PasswordSource>) {
    let mut pause = FRESH_PASSWORD_EVERY;
    loop {
        tokio::time::sleep(pause).await;
        pause = match source.password().await {
            Ok(password) => {
                let options = PgConnectOptions::clone(&pool.connect_options());
                pool.set_connect_options(options.password(password.expose()));
                FRESH_PASSWORD_EVERY
            }
            Err(fault) => {
                tracing::warn!(%fault, "no fresh password for the state database");
                FRESH_PASSWORD_RETRY
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_server_is_always_verified() {
        for url in ["postgres://rota@db.internal/rota", "postgres://rota@10.0.0.7/rota?sslmode=prefer"] {
            let settings = ConnectSettings::from_url(url).unwrap();
            assert!(matches!(settings.options.get_ssl_mode(), PgSslMode::VerifyFull), "{url}");
        }
        for mode in ["disable", "allow", "require"] {
            let url = format!("postgres://rota:hunter2@db.internal/rota?sslmode={mode}");
            let refused = ConnectSettings::from_url(&url).unwrap_err().to_string();
            assert!(refused.contains("verify-full") && !refused.contains("hunter2"), "{refused}");
        }
        for url in ["postgres://rota@localhost/rota", "postgres://rota@127.0.0.1/rota?sslmode=disable"] {
            assert!(ConnectSettings::from_url(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn neither_settings_nor_a_refused_address_show_the_password() {
        let settings = ConnectSettings::from_url("postgres://rota:hunter2@localhost/rota").unwrap();
        assert!(!format!("{settings:?}").contains("hunter2"));
        let refused = ConnectSettings::from_url("postgres://rota:hunter2@loc alhost:x/rota").unwrap_err();
        assert!(!refused.to_string().contains("hunter2"));
    }
}
