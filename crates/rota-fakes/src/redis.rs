//! Private Redis servers for tests: real ones, with an ACL file.
//!
//! The default user always has a password; without one a wrong password falls
//! back to it and nothing is ever refused.
//!
//! Deliberately absent: cluster mode.

use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};

use crate::process::{ServerFolder, Supervised, in_path, on_some_port};
use crate::tls::Issued;
use crate::wait;

/// The default user's password where a test names no other.
const DEFAULT_PASSWORD: &str = "redis-default-password";

/// What every node is told; a replica is served at once.
const COMMON: &str = "bind 127.0.0.1\nsave \"\"\nappendonly no\ndir .\nrepl-diskless-sync-delay 0\n";

/// A server of its own, which ends with its owner.
#[derive(Debug)]
pub struct RedisServer {
    server: Supervised,
    folder: ServerFolder,
    port: u16,
    tls: bool,
}

impl RedisServer {
    /// Starts a node that stands alone.
    ///
    /// # Errors
    /// When Redis is not installed or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with("", None)
    }

    /// Starts a replica of `primary`. Its ACL file is its own: Redis does not
    /// replicate users.
    ///
    /// # Errors
    /// When Redis is not installed or does not start.
    pub fn replica_of(primary: &Self) -> Result<Self> {
        Self::replica_with(primary, "")
    }

    /// A replica with more lines of redis.conf.
    ///
    /// # Errors
    /// When Redis is not installed or does not start.
    pub fn replica_with(primary: &Self, lines: &str) -> Result<Self> {
        let port = primary.port;
        let follow = format!("replicaof 127.0.0.1 {port}\nmasterauth {DEFAULT_PASSWORD}\n{lines}");
        Self::start_with(&follow, None)
    }

    /// Starts a node that speaks nothing but TLS and shows this certificate.
    ///
    /// # Errors
    /// When Redis is not installed or does not start.
    pub fn with_tls(issued: &Issued) -> Result<Self> {
        Self::start_with("", Some(issued))
    }

    /// Starts a node with more lines of redis.conf.
    ///
    /// # Errors
    /// When Redis is not installed or does not start.
    pub fn with(lines: &str) -> Result<Self> {
        Self::start_with(lines, None)
    }

    /// Starts a node whose users stand in redis.conf, as in one that has only
    /// `requirepass`; `lines` say which.
    ///
    /// # Errors
    /// When Redis is not installed or does not start.
    pub fn without_acl_file(lines: &str) -> Result<Self> {
        let folder = ServerFolder::unprivileged("rota-redis-")?;
        folder.write("redis.conf", &format!("{COMMON}{lines}\n"), 0o600)?;
        Self::start_in(folder, false)
    }

    fn start_with(lines: &str, tls: Option<&Issued>) -> Result<Self> {
        let folder = ServerFolder::unprivileged("rota-redis-")?;
        let users = format!("user default on >{DEFAULT_PASSWORD} ~* &* +@all\n");
        folder.write("users.acl", &users, 0o600)?;
        let mut config = format!("{COMMON}aclfile users.acl\n{lines}\n");
        if let Some(issued) = tls {
            folder.write("server.crt", &issued.certificate, 0o600)?;
            folder.write("server.key", &issued.key, 0o600)?;
            config.push_str("tls-cert-file server.crt\ntls-key-file server.key\ntls-auth-clients no\n");
        }
        folder.write("redis.conf", &config, 0o600)?;
        Self::start_in(folder, tls.is_some())
    }

    fn start_in(folder: ServerFolder, tls: bool) -> Result<Self> {
        let (server, port) = on_some_port(|port| start_on(&folder, port, tls))?;
        Ok(Self { server, folder, port, tls })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of the default user, who may do everything.
    pub fn url(&self) -> String {
        format!("redis://:{DEFAULT_PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// The default user's password.
    pub fn password(&self) -> &str {
        DEFAULT_PASSWORD
    }

    /// Lets nobody write into the server's folder, or again.
    ///
    /// # Errors
    /// When that cannot be changed.
    pub fn lock_folder(&self, locked: bool) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = if locked { 0o500 } else { 0o700 };
        Ok(std::fs::set_permissions(self.folder.path(), std::fs::Permissions::from_mode(mode))?)
    }

    /// The ACL file's content: what a restart will find.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn saved_users(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.folder.path().join("users.acl"))?)
    }

    /// Ends the server at once and starts it again on its port: what was not
    /// saved is forgotten.
    ///
    /// # Errors
    /// When it does not end or start.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.start_again()
    }

    /// Ends the server at once.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.server.end("KILL")
    }

    /// Starts a stopped server on its old port.
    ///
    /// # Errors
    /// When it runs, or does not start.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(!self.server.is_running(), "the server runs already");
        self.server = start_on(&self.folder, self.port, self.tls)?;
        Ok(())
    }
}

fn start_on(folder: &ServerFolder, port: u16, tls: bool) -> Result<Supervised> {
    let program = in_path("redis-server").context("no redis-server, install the package `redis-server`")?;
    let number = port.to_string();
    let arguments: &[&str] = if tls {
        &["redis.conf", "--port", "0", "--tls-port", &number]
    } else {
        &["redis.conf", "--port", &number]
    };
    let mut server = Supervised::start(folder, &program, arguments, &[], "KILL")?;
    server.wait_ready(|| {
        if tls {
            return Ok(TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(()));
        }
        let answer = wait::ask(port, "PING\r\n").unwrap_or_default();
        Ok((answer.starts_with("-NOAUTH") || answer.starts_with("+PONG")).then_some(()))
    })?;
    Ok(server)
}
