//! Child servers that never outlive the process that started them.
//!
//! Each runs under a small shell supervisor in a process group of its own,
//! which holds the read end of a pipe. When the owner ends in any way, kill -9
//! included, the pipe closes, the server is ended and its folder removed.
//! `PR_SET_PDEATHSIG` would not do: it fires when the starting *thread* ends,
//! and every test is a thread.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::wait;

const SUPERVISOR: &str = include_str!("supervisor.sh");

/// The supervisor itself kills after ten seconds; past this the machine is stuck.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// How much of a server's log goes into an error message, in bytes.
const LOG_TAIL: usize = 2_000;

/// How often a start is tried with another port when somebody took ours.
const START_TRIES: u32 = 5;

/// The unprivileged users that a server may run as when tests run as root, in
/// order of preference.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// A folder of a server, removed when dropped, and by the supervisor when the
/// owner is killed.
#[derive(Debug)]
pub struct ServerFolder {
    dir: tempfile::TempDir,
    user: Option<User>,
}

#[derive(Clone, Debug)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

impl ServerFolder {
    /// Makes a folder that belongs to an unprivileged user when we are root
    /// (Postgres refuses to run as root).
    ///
    /// # Errors
    /// When the folder cannot be made or no unprivileged user exists.
    pub fn unprivileged(prefix: &str) -> Result<Self> {
        Self::new(prefix, if is_root()? { Some(unprivileged_user()?) } else { None })
    }

    /// Makes a folder for a server that runs as whoever runs the tests.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn own(prefix: &str) -> Result<Self> {
        Self::new(prefix, None)
    }

    fn new(prefix: &str, user: Option<User>) -> Result<Self> {
        // A unix socket's path is limited to 107 bytes, so a long TMPDIR is passed
        // over, and so is one of root's, which another user may not enter.
        let parent = std::env::temp_dir();
        let unfit = user.is_some() || parent.as_os_str().len() > 60;
        let parent = if unfit { PathBuf::from("/tmp") } else { parent };
        let dir = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir_in(&parent)
            .with_context(|| format!("make a folder in {}", parent.display()))?;
        let folder = Self { dir, user };
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700))?;
        folder.give(folder.path())?;
        Ok(folder)
    }

    /// The folder's path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a file that the server's user owns.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &str, mode: u32) -> Result<PathBuf> {
        let path = self.path().join(name);
        fs::write(&path, content).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        self.give(&path)?;
        Ok(path)
    }

    fn give(&self, path: &Path) -> Result<()> {
        if let Some(user) = &self.user {
            std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid))
                .with_context(|| format!("give {} to {}", path.display(), user.name))?;
        }
        Ok(())
    }

    /// A command that runs as the folder's user, in the folder.
    pub fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut line = self.line(program, arguments).into_iter();
        let mut command = Command::new(line.next().unwrap_or_default());
        command.args(line).current_dir(self.path());
        command
    }

    fn line(&self, program: &Path, arguments: &[&str]) -> Vec<std::ffi::OsString> {
        let mut line = Vec::new();
        if let Some(user) = &self.user {
            line.push("setpriv".into());
            line.push(format!("--reuid={}", user.uid).into());
            line.push(format!("--regid={}", user.gid).into());
            line.push("--clear-groups".into());
            line.push("--".into());
        }
        line.push(program.into());
        line.extend(arguments.iter().map(Into::into));
        line
    }

    /// Runs a command of the folder's user to its end.
    ///
    /// # Errors
    /// When it cannot be run or ends with another code than 0; the message
    /// holds the end of what it printed.
    pub fn run(&self, program: &Path, arguments: &[&str]) -> Result<()> {
        let output = self
            .command(program, arguments)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("run {} (is it installed?)", program.display()))?;
        if !output.status.success() {
            let said = [output.stdout, output.stderr].concat();
            bail!("{} ended with {}: {}", program.display(), output.status, tail(&said));
        }
        Ok(())
    }
}

/// A server that ends with its owner.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    child: Child,
    line: Option<ChildStdin>,
    log: PathBuf,
}

impl Supervised {
    /// Starts `program` as the folder's user; its output goes to `log` in the
    /// folder. `last_signal` (such as `QUIT`) is what it gets when the owner goes.
    ///
    /// # Errors
    /// When the supervisor cannot be started.
    pub fn start(
        folder: &ServerFolder,
        program: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
        last_signal: &str,
    ) -> Result<Self> {
        let name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
        let log = folder.path().join("log");
        let file = File::options().create(true).append(true).open(&log)?;
        let mut child = Command::new("/bin/sh")
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(folder.path())
            .arg(last_signal)
            .args(folder.line(program, arguments))
            .envs(environment.iter().copied())
            .current_dir(folder.path())
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            // Ctrl-C in a terminal goes to the owner alone; the server follows it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let line = child.stdin.take();
        Ok(Self { name, child, line, log })
    }

    /// What the server has printed.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Waits until `ready` gives something, or the server ends.
    ///
    /// # Errors
    /// When the server ends first or the deadline passes; the message holds the
    /// end of its log.
    pub fn wait_ready<T>(&mut self, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let what = format!("the start of {}", self.name);
        let found = wait::blocking(wait::START_DEADLINE, &what, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}", self.name);
            }
            ready()
        });
        found.with_context(|| format!("log of {}: {}", self.name, tail(self.log().as_bytes())))
    }

    /// Sends a signal by name (`HUP`, `STOP`, `KILL`).
    ///
    /// # Errors
    /// When the server has ended.
    pub fn signal(&mut self, name: &str) -> Result<()> {
        let line = self.line.as_mut().context("the server was stopped before")?;
        writeln!(line, "{name}").with_context(|| format!("signal {}", self.name))
    }

    /// Whether the server runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal and waits for the end; the folder stays.
    ///
    /// # Errors
    /// When the server does not end in time.
    pub fn end(&mut self, signal: &str) -> Result<()> {
        if self.is_running() {
            self.signal(signal)?;
        }
        self.wait_ended()
    }

    fn wait_ended(&mut self) -> Result<()> {
        let what = format!("the end of {}", self.name);
        wait::blocking(STOP_DEADLINE, &what, || Ok(self.child.try_wait()?.map(drop)))
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.line.take());
        // Nothing is left to do about a failure: the supervisor goes on by itself.
        let _ = self.wait_ended();
    }
}

/// A TCP port that was free a moment ago.
fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Starts a server on a free port, with another one when somebody took it
/// between the choice and the start.
///
/// # Errors
/// When the start fails for another reason, or too often.
pub fn on_some_port<T>(mut start: impl FnMut(u16) -> Result<T>) -> Result<(T, u16)> {
    let mut tries = START_TRIES;
    loop {
        let port = free_port()?;
        let error = match start(port) {
            Ok(started) => return Ok((started, port)),
            Err(error) => error,
        };
        tries -= 1;
        let text = format!("{error:#}").to_lowercase();
        if tries == 0 || !text.contains("address already in use") {
            return Err(error);
        }
    }
}

/// The program of this name in PATH.
pub fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self")?.uid() == 0)
}

fn unprivileged_user() -> Result<User> {
    let passwd = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
    let find = |wanted: &str| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| *name == wanted)?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(User { name: name.to_owned(), uid, gid })
        })
    };
    UNPRIVILEGED
        .iter()
        .find_map(|name| find(name))
        .context("tests run as root, but there is no user `postgres` or `nobody` to run servers as")
}

fn tail(bytes: &[u8]) -> String {
    let start = bytes.len().saturating_sub(LOG_TAIL);
    String::from_utf8_lossy(&bytes[start..]).trim().to_owned()
}
