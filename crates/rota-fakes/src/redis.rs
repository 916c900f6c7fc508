//! Private Redis servers for tests: real ones, with an ACL file.
//!
//! The default user always has a password; without one a wrong password falls
//! back to it and nothing is ever refused.
//!
//! Deliberately absent: TLS and cluster mode.

use anyhow::{Context as _, Result, ensure};

use crate::process::{ServerFolder, Supervised, in_path, on_some_port};
use crate::wait;

/// The default user's password where a test names no other.
const DEFAULT_PASSWORD: &str = "redis-default-password";

/// A server of its own, which ends with its owner.
#[derive(Debug)]
pub struct RedisServer {
    server: Supervised,
    folder: ServerFolder,
    port: u16,
}

impl RedisServer {
    /// Starts a node that stands alone.
    ///
    /// # Errors
    /// When Redis is not installed or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(None)
    }

    /// Starts a replica of `primary`. Its ACL file is its own: Redis does not
    /// replicate users.
    ///
    /// # Errors
    /// When Redis is not installed or does not start.
    pub fn replica_of(primary: &Self) -> Result<Self> {
        Self::start_with(Some(primary.port))
    }

    fn start_with(primary: Option<u16>) -> Result<Self> {
        let folder = ServerFolder::unprivileged("rota-redis-")?;
        let users = format!("user default on >{DEFAULT_PASSWORD} ~* &* +@all\n");
        folder.write("users.acl", &users, 0o600)?;
        let replication = primary.map_or_else(String::new, |port| {
            format!("replicaof 127.0.0.1 {port}\nmasterauth {DEFAULT_PASSWORD}\n")
        });
        let config =
            format!("bind 127.0.0.1\nsave \"\"\nappendonly no\ndir .\naclfile users.acl\n{replication}");
        folder.write("redis.conf", &config, 0o600)?;
        let (server, port) = on_some_port(|port| start_on(&folder, port))?;
        Ok(Self { server, folder, port })
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
        self.server = start_on(&self.folder, self.port)?;
        Ok(())
    }
}

fn start_on(folder: &ServerFolder, port: u16) -> Result<Supervised> {
    let program = in_path("redis-server").context("no redis-server, install the package `redis-server`")?;
    let arguments = ["redis.conf", "--port", &port.to_string()];
    let mut server = Supervised::start(folder, &program, &arguments, &[], "KILL")?;
    server.wait_ready(|| {
        let answer = wait::ask(port, "PING\r\n").unwrap_or_default();
        Ok((answer.starts_with("-NOAUTH") || answer.starts_with("+PONG")).then_some(()))
    })?;
    Ok(server)
}
