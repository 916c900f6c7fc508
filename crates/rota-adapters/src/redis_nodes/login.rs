//! Connections to a node: as an administrator, and as consumers log in.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo,
    TlsCertificates,
};
use rota_core::fault::Fault;
use rota_core::value::SecretValue;

use super::fault::{Doing as _, code_of, fault};
use super::session::Session;
use super::{Node, TlsUse};

/// How long a node may take to take a connection: several nodes are asked in one call,
/// which ends before the engine gives up on it.
const CONNECT: Duration = Duration::from_secs(4);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(8);

/// What a node said to a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoginOutcome {
    Accepted,
    /// No such user, or another password, or the user is off.
    Wrong,
}

impl Node {
    fn address(&self) -> Result<ConnectionInfo, redis::RedisError> {
        let address = match &self.tls {
            TlsUse::None => ConnectionAddr::Tcp(self.host.clone(), self.port),
            TlsUse::Verified(_) => ConnectionAddr::TcpTls {
                host: self.host.clone(),
                port: self.port,
                insecure: false,
                tls_params: None,
            },
        };
        // Nothing is sent before AUTH, so that its answer is the server's own.
        let bare = RedisConnectionInfo::default().set_skip_set_lib_name();
        Ok(address.into_connection_info()?.set_redis_settings(bare))
    }

    async fn open(&self) -> Result<MultiplexedConnection, redis::RedisError> {
        let address = self.address()?;
        let client = match &self.tls {
            TlsUse::None => redis::Client::open(address)?,
            TlsUse::Verified(authorities) => {
                let certificates = TlsCertificates { client_tls: None, root_cert: authorities.clone() };
                redis::Client::build_with_tls(address, certificates)?
            }
        };
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER));
        client.get_multiplexed_async_connection_with_config(&limits).await
    }

    /// A session of the administrator's.
    ///
    /// # Errors
    /// [`Fault::Denied`] where the login is refused, a passing fault where nobody answers.
    pub(crate) async fn connect(&self, username: &str, password: &SecretValue) -> Result<Session, Fault> {
        let doing = format!("logging in to {self} as the administrator `{username}`");
        let mut connection = self.open().await.doing(&doing)?;
        let mut auth = redis::cmd("AUTH");
        auth.arg(username).arg(password.expose());
        auth.exec_async(&mut connection).await.doing(&doing)?;
        Ok(Session::new(self.to_string(), connection))
    }

    /// Logs in as consumers do, asks for something and leaves.
    ///
    /// # Errors
    /// A passing fault where nobody answers.
    pub(crate) async fn log_in(&self, username: &str, password: &SecretValue) -> Result<LoginOutcome, Fault> {
        let doing = format!("logging in to {self} as `{username}`");
        let mut connection = self.open().await.doing(&doing)?;
        let mut auth = redis::cmd("AUTH");
        auth.arg(username).arg(password.expose());
        match auth.exec_async(&mut connection).await {
            Ok(()) => {}
            Err(error) if code_of(&error).as_deref() == Some("WRONGPASS") => return Ok(LoginOutcome::Wrong),
            Err(error) => return Err(fault(&doing, &error)),
        }
        match redis::cmd("PING").exec_async(&mut connection).await {
            Ok(()) => Ok(LoginOutcome::Accepted),
            // Whoever is told what it may not do is logged in.
            Err(error) if code_of(&error).as_deref() == Some("NOPERM") => Ok(LoginOutcome::Accepted),
            Err(error) => Err(fault(&doing, &error)),
        }
    }
}
