//! Private Postgres clusters for tests: real servers, never the machine's own.
//!
//! A test asks [`shared`] for an endpoint and takes a database of its own from
//! it; a test of crashes, TLS or server settings starts a [`PostgresServer`].
//!
//! The superuser `postgres` needs no password; every other role authenticates
//! with SCRAM over TCP and socket alike, so that a wrong password is refused.
//!
//! Deliberately absent: replication. A standby is a server of its own that follows nobody.

mod endpoint;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};

pub use endpoint::{PostgresEndpoint, TestDatabase};

use crate::process::{ServerFolder, Supervised, in_path, on_some_port};
use crate::tls::{Issued, TestCa};

/// Names the endpoint of a server that was started for a whole test run.
pub const ENDPOINT_VARIABLE: &str = "ROTA_TEST_POSTGRES";

/// Where Debian puts the server's programs, by major version.
const DEBIAN_ROOT: &str = "/usr/lib/postgresql";

/// What line 8 of postmaster.pid says of a server that takes connections.
const UP: [&str; 2] = ["ready", "standby"];

/// Enough for every test of a binary at once with a small pool each.
const MAX_CONNECTIONS: u16 = 300;

/// How a cluster differs from the usual one (fsync off, no TLS).
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    durable: bool,
    tls: bool,
    superuser_password: Option<String>,
    settings: Vec<(String, String)>,
}

impl PostgresOptions {
    /// fsync off, no TLS, defaults otherwise.
    pub fn new() -> Self {
        Self::default()
    }

    /// fsync and full-page writes on: for crash tests and benchmarks.
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// TLS with a certificate of a private authority ([`PostgresServer::ca`]),
    /// issued for `localhost` and `127.0.0.1`; plain TCP is refused.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Makes the superuser authenticate over TCP as well.
    pub fn superuser_password(mut self, password: &str) -> Self {
        self.superuser_password = Some(password.to_owned());
        self
    }

    /// A line of postgresql.conf, such as `log_statement` = `all`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A cluster of its own, which ends with its owner.
pub struct PostgresServer {
    // Dropped first: the folder goes after its server.
    server: Supervised,
    folder: ServerFolder,
    programs: PathBuf,
    port: u16,
    options: PostgresOptions,
    ca: Option<TestCa>,
}

impl PostgresServer {
    /// Makes a cluster and starts it; blocks for about a second.
    ///
    /// # Errors
    /// When Postgres is not installed or does not start.
    pub fn start(options: PostgresOptions) -> Result<Self> {
        let programs = programs()?;
        let folder = ServerFolder::unprivileged("rota-pg-")?;
        let ca = if options.tls { Some(TestCa::new()?) } else { None };
        let issued = ca.as_ref().map(|ca| ca.issue(&["localhost", "127.0.0.1"])).transpose()?;
        make_cluster(&programs, &folder, &options, issued)?;
        let (server, port) = on_some_port(|port| start_on(&programs, &folder, port))?;
        Ok(Self { server, folder, programs, port, options, ca })
    }

    /// Where clients connect, as the superuser.
    ///
    /// # Errors
    /// Never for a server that was started; the URL is checked all the same.
    pub fn endpoint(&self) -> Result<PostgresEndpoint> {
        let port = self.port;
        let password = self.options.superuser_password.as_ref();
        let user = password.map_or_else(|| "postgres".to_owned(), |password| format!("postgres:{password}"));
        let mode = if self.ca.is_some() { "require" } else { "disable" };
        PostgresEndpoint::parse(&format!("postgres://{user}@127.0.0.1:{port}/postgres?sslmode={mode}"))
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the unix socket.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// The data folder, for tests that search it for what must not be there.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// The authority that signed the server's certificate, with [`PostgresOptions::tls`].
    pub fn ca(&self) -> Option<&TestCa> {
        self.ca.as_ref()
    }

    /// A program that came with the server, such as `pgbench`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// What the server has logged.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Ends the server as a crash does: no checkpoint, clients cut off.
    /// Idempotent.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_immediate(&mut self) -> Result<()> {
        self.server.end("QUIT")
    }

    /// Ends the server in order; open sessions are cut off. Idempotent.
    ///
    /// # Errors
    /// When it does not end.
    pub fn stop_fast(&mut self) -> Result<()> {
        self.server.end("INT")
    }

    /// Starts a stopped server on its old port.
    ///
    /// # Errors
    /// When it runs, or does not start.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(!self.server.is_running(), "the server runs already");
        self.server = start_on(&self.programs, &self.folder, self.port)?;
        Ok(())
    }

    /// Starts a stopped server as a standby that follows nobody: it is in recovery and
    /// takes no writes until `pg_promote()`.
    ///
    /// # Errors
    /// When it runs, or does not start.
    pub fn start_as_standby(&mut self) -> Result<()> {
        self.folder.write("data/standby.signal", "", 0o600)?;
        self.start_again()
    }

    /// Copies the data folder of a stopped server, as a backup would be taken.
    ///
    /// # Errors
    /// When the server runs or the copy fails.
    pub fn back_up(&mut self) -> Result<Backup> {
        ensure!(!self.server.is_running(), "stop the server before copying its data folder");
        let copy = tempfile::Builder::new().prefix("rota-pg-backup-").tempdir_in("/tmp")?;
        copy_folder(&self.data_folder(), &copy.path().join("data"))?;
        Ok(Backup { copy })
    }

    /// Puts a copy back in place of the data folder of a stopped server.
    ///
    /// # Errors
    /// When the server runs or the copy fails.
    pub fn restore(&mut self, backup: &Backup) -> Result<()> {
        ensure!(!self.server.is_running(), "stop the server before replacing its data folder");
        std::fs::remove_dir_all(self.data_folder())?;
        copy_folder(&backup.copy.path().join("data"), &self.data_folder())
    }
}

/// A copy of a data folder, removed when dropped.
#[derive(Debug)]
pub struct Backup {
    copy: tempfile::TempDir,
}

/// The endpoint that the tests of this process share: the server named by
/// `ROTA_TEST_POSTGRES`, else one that the first caller starts and that ends
/// with the process.
///
/// # Errors
/// When the variable is no URL, or no server can be started.
pub fn shared() -> Result<&'static PostgresEndpoint> {
    static SHARED: OnceLock<Result<(PostgresEndpoint, Option<PostgresServer>), String>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| start_shared().map_err(|error| format!("{error:#}")));
    match shared {
        Ok((endpoint, _)) => Ok(endpoint),
        Err(message) => bail!("no Postgres for tests: {message}"),
    }
}

fn start_shared() -> Result<(PostgresEndpoint, Option<PostgresServer>)> {
    if let Ok(url) = std::env::var(ENDPOINT_VARIABLE) {
        let endpoint = PostgresEndpoint::parse(&url).with_context(|| format!("read {ENDPOINT_VARIABLE}"))?;
        return Ok((endpoint, None));
    }
    let server = PostgresServer::start(PostgresOptions::new())?;
    Ok((server.endpoint()?, Some(server)))
}

/// The folder of `initdb` and `postgres`: PATH first, then the newest of Debian's.
fn programs() -> Result<PathBuf> {
    let is_whole = |dir: &Path| dir.join("initdb").is_file() && dir.join("postgres").is_file();
    let named = in_path("initdb").and_then(|file| file.canonicalize().ok());
    if let Some(dir) = named.as_deref().and_then(Path::parent).filter(|dir| is_whole(dir)) {
        return Ok(dir.to_owned());
    }
    let newest = std::fs::read_dir(DEBIAN_ROOT)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, dir)| is_whole(dir))
        .max();
    let (_, dir) = newest.context("no Postgres server found, install the package `postgresql`")?;
    Ok(dir)
}

fn make_cluster(
    programs: &Path,
    folder: &ServerFolder,
    options: &PostgresOptions,
    issued: Option<Issued>,
) -> Result<()> {
    let mut arguments = vec!["--no-sync", "-D", "data", "-U", "postgres", "--auth=scram-sha-256"];
    arguments.extend(["--encoding=UTF8", "--locale=C"]);
    // initdb wants a password with SCRAM; without one of the caller's nobody will use it.
    let password = options.superuser_password.as_deref().unwrap_or("unused");
    folder.write("password", password, 0o600)?;
    arguments.push("--pwfile=password");
    folder.run(&programs.join("initdb"), &arguments)?;

    let tcp = if issued.is_some() { "hostssl" } else { "host" };
    let superuser = if options.superuser_password.is_some() { "scram-sha-256" } else { "trust" };
    let access = format!(
        "local all postgres trust\nlocal all all scram-sha-256\n\
         {tcp} all postgres 127.0.0.1/32 {superuser}\n{tcp} all all 127.0.0.1/32 scram-sha-256\n"
    );
    folder.write("data/pg_hba.conf", &access, 0o600)?;

    let mut settings = vec![
        ("listen_addresses", "127.0.0.1".to_owned()),
        ("unix_socket_directories", folder.path().display().to_string()),
        ("max_connections", MAX_CONNECTIONS.to_string()),
        ("shared_buffers", "64MB".to_owned()),
        ("fsync", on_off(options.durable)),
        ("full_page_writes", on_off(options.durable)),
    ];
    if let Some(issued) = issued {
        folder.write("data/server.crt", &issued.certificate, 0o600)?;
        folder.write("data/server.key", &issued.key, 0o600)?;
        settings.push(("ssl", "on".to_owned()));
    }
    let mut text = std::fs::read_to_string(folder.path().join("data/postgresql.conf"))?;
    let own = options.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
    for (name, value) in settings.into_iter().chain(own) {
        text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    folder.write("data/postgresql.conf", &text, 0o600)?;
    Ok(())
}

fn on_off(on: bool) -> String {
    if on { "on".to_owned() } else { "off".to_owned() }
}

fn start_on(programs: &Path, folder: &ServerFolder, port: u16) -> Result<Supervised> {
    let note = folder.path().join("data/postmaster.pid");
    // A crashed server leaves its note with `ready` in it.
    if note.exists() {
        std::fs::remove_file(&note)?;
    }
    let port = port.to_string();
    let arguments = ["-D", "data", "-p", &port];
    let mut server = Supervised::start(folder, &programs.join("postgres"), &arguments, &[], "QUIT")?;
    // Line 8 of postmaster.pid tells the state, which is what `pg_ctl -w` reads too.
    server.wait_ready(|| {
        let text = std::fs::read_to_string(&note).unwrap_or_default();
        Ok(text.lines().nth(7).filter(|state| UP.contains(&state.trim())).map(|_| ()))
    })?;
    Ok(server)
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().context("run cp")?;
    ensure!(status.success(), "copying {} failed", from.display());
    Ok(())
}
