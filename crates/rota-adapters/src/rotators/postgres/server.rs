//! Connections to the server: as its administrator, and as consumers log in.
//!
//! Deliberately absent: pools. A call makes its connections and closes them, so that
//! nothing is held between two calls and none of our sessions looks like a consumer's.

use rota_core::fault::Fault;
use sqlx::postgres::{PgConnectOptions, PgDatabaseError, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, PgConnection};

use super::fault::{Doing as _, code_of, fault};
use super::settings::PostgresSettings;
use crate::address::{authorities, is_here};
use crate::http::Trust;
use crate::login::Login;

/// What every session of the administrator sets, whatever the role's defaults are. A
/// commit is on disk before it is reported (`remote_apply` is stronger than `on` and stays);
/// a call ends before the engine gives up on it.
const SESSION: &str = "SELECT set_config('search_path', 'pg_catalog', false), \
    set_config('synchronous_commit', CASE current_setting('synchronous_commit') \
        WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false), \
    set_config('statement_timeout', '20s', false), \
    set_config('lock_timeout', '5s', false), \
    set_config('idle_in_transaction_session_timeout', '20s', false)";

/// A login as it may be kept in a store.
pub(crate) const EXAMPLE: &str = "postgresql://user:password@host/database";

/// What the sessions are called in `pg_stat_activity`.
pub(crate) const APPLICATION: &str = "rota";

/// A server and how it is reached.
pub(crate) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
    authorities: Option<Vec<u8>>,
}

/// What the server said to a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LoginOutcome {
    Accepted,
    /// The password is right, and the role may not use the database.
    NoDatabase,
    /// The password is right, and the role is NOLOGIN.
    NotPermitted,
    /// No such role, or another password, or none, or an expired one.
    Wrong,
}

impl Server {
    /// The daemon's own authorities stand in for `ca`.
    pub(crate) fn new(host: String, port: u16, ca: Option<&String>, trust: &Trust) -> Self {
        Self { host, port, authorities: authorities(ca, trust) }
    }

    pub(super) fn primary(settings: &PostgresSettings, trust: &Trust) -> Self {
        Self::new(settings.host.clone(), settings.port(), settings.ca.as_ref(), trust)
    }

    pub(super) fn standbys(settings: &PostgresSettings, trust: &Trust) -> Vec<Self> {
        let server = |(host, port)| Self::new(host, port, settings.ca.as_ref(), trust);
        settings.standbys().map(server).collect()
    }

    fn options(&self, login: &Login, database: &str) -> PgConnectOptions {
        let options = PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .username(&login.username)
            .password(login.password.expose())
            .database(database)
            .application_name(APPLICATION)
            .ssl_mode(self.ssl_mode())
            .disable_statement_logging();
        match &self.authorities {
            Some(pem) => options.ssl_root_cert_from_pem(pem.clone()),
            None => options,
        }
    }

    /// TLS is verified in full; only this machine may do without.
    fn ssl_mode(&self) -> PgSslMode {
        if is_here(&self.host) && self.authorities.is_none() {
            PgSslMode::Prefer
        } else {
            PgSslMode::VerifyFull
        }
    }

    /// A session of the administrator's.
    ///
    /// # Errors
    /// [`Fault::Denied`] where the login is refused, a passing fault where nobody answers.
    pub(crate) async fn connect(&self, admin: &Login, database: &str) -> Result<PgConnection, Fault> {
        let doing = format!("logging in to {} as the administrator `{}`", self.host, admin.username);
        let mut connection = self.options(admin, database).connect().await.doing(&doing)?;
        sqlx::query(SESSION).execute(&mut connection).await.doing(&doing)?;
        Ok(connection)
    }

    /// Logs in as consumers do, asks for something and leaves.
    ///
    /// # Errors
    /// A passing fault where nobody answers; [`Fault::Denied`] where the server's
    /// `pg_hba.conf` does not let us get as far as the password.
    pub(super) async fn log_in(&self, login: &Login, database: &str) -> Result<LoginOutcome, Fault> {
        let doing = format!("logging in to {} as `{}`", self.host, login.username);
        let mut connection = match self.options(login, database).connect().await {
            Ok(connection) => connection,
            Err(error) => return refusal(&doing, &error),
        };
        sqlx::query("SELECT 1").execute(&mut connection).await.doing(&doing)?;
        // Whatever comes of the farewell, the login was accepted.
        let _ = connection.close().await;
        Ok(LoginOutcome::Accepted)
    }
}

/// What a failed login means (postgresql.org, "PostgreSQL Error Codes", class 28, and
/// the routines that raise them).
fn refusal(doing: &str, error: &sqlx::Error) -> Result<LoginOutcome, Fault> {
    let routine = error
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<PgDatabaseError>())
        .and_then(PgDatabaseError::routine);
    match (code_of(error).as_deref(), routine) {
        (Some("28P01"), _) => Ok(LoginOutcome::Wrong),
        // The password was asked for and found right before the role was looked at.
        (Some("28000"), Some("InitializeSessionUserId")) => Ok(LoginOutcome::NotPermitted),
        (Some("28000"), _) => Err(Fault::denied(format!(
            "{doing}: the server asks for no password there; add a line with scram-sha-256 to its pg_hba.conf"
        ))),
        (Some("42501"), _) => Ok(LoginOutcome::NoDatabase),
        _ => Err(fault(doing, error)),
    }
}

/// A name as SQL wants it.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL wants it.
pub(super) fn literal(text: &str) -> String {
    format!(" E'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, authorities: Option<Vec<u8>>) -> Server {
        Server { host: host.to_owned(), port: 5432, authorities }
    }

    #[test]
    fn only_this_machine_is_reached_without_verified_tls() {
        for host in ["localhost", "127.0.0.1", "::1", "[::1]"] {
            assert!(matches!(server(host, None).ssl_mode(), PgSslMode::Prefer), "{host}");
            assert!(matches!(server(host, Some(vec![])).ssl_mode(), PgSslMode::VerifyFull), "{host}");
        }
        for host in ["db.internal", "10.0.0.7", "localhost.evil.example", "fd00::7"] {
            assert!(matches!(server(host, None).ssl_mode(), PgSslMode::VerifyFull), "{host}");
        }
    }

    #[test]
    fn names_and_texts_stay_what_they_are_in_sql() {
        assert_eq!(ident("a\"b é"), "\"a\"\"b é\"");
        assert_eq!(literal("it's \\ x"), " E'it''s \\\\ x'");
    }
}
