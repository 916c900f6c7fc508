//! A database with the real roles, an env file, and daemons of the built binary.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rota_fakes::postgres::{PostgresEndpoint, TestDatabase, shared};
use rota_fakes::wait;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::sync::OnceCell;

use crate::support::{Ran, command, finish};

/// Far longer than anything takes on a machine that builds at the same time.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Every test's database is a copy of this one.
static MIGRATED: OnceCell<TestDatabase> = OnceCell::const_new();

/// What the application published before Rota knew it.
pub(crate) const OLD_KEY: &str = "sk-old-0123456789abcdef0123456789abcdef";

/// One secret that stays in its watch, one that is done in a second, one that a person makes.
pub(crate) const POLICY: &str = r#"
version = 1
application = "acd"
environment = "staging"

[defaults]
stores = ["env"]
lead = "10s"
healthy = { count = 1, every = "1s" }

[store.env]
kind = "env-file"
path = "{folder}/app.env"

[secret.SLOW]
kind = "generated"
format = "hex:64"
class = "password"
consumers = "none"
cadence = "90d"
overlap = "1h"
publish = { list = "SLOW_LIST" }

[secret.QUICK]
kind = "generated"
format = "hex:64"
class = "password"
consumers = "none"
cadence = "30d"
overlap = "1s"

[secret.PROVIDER_KEY]
kind = "operator"
format = "text:20-200"
consumers = "none"
cadence = "80d"
overlap = "1s"
publish = { first = "PROVIDER_KEY", second = "PROVIDER_KEY_BACKUP" }
"#;

/// Who runs a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    Daemon,
    /// Orders and reports.
    Operator,
    /// Reports only.
    Auditor,
    /// No role of Rota.
    Nobody,
}

impl Login {
    const ALL: [Self; 4] = [Self::Daemon, Self::Operator, Self::Auditor, Self::Nobody];

    fn prefix(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
            Self::Nobody => "nobody",
        }
    }

    fn grant(self) -> Option<&'static str> {
        match self {
            Self::Daemon => Some("rota_daemon"),
            Self::Operator => Some("rota_operator, rota_auditor"),
            Self::Auditor => Some("rota_auditor"),
            Self::Nobody => None,
        }
    }
}

/// A folder that commands run in, and a database that they reach.
pub(crate) struct World {
    pub(crate) database: TestDatabase,
    pub(crate) folder: tempfile::TempDir,
}

/// A database of `server` with the schema.
async fn migrated(server: &PostgresEndpoint) -> TestDatabase {
    let database = server.fresh_database().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut migrate = command(folder.path(), &["migrate", "--json"]);
    let ran = finish(migrate.env("ROTA__DATABASE__URL", database.url()).output().unwrap());
    assert!(ran.code == 0 && ran.json()["version"].is_i64(), "{}{}", ran.stdout, ran.stderr);
    database
}

impl World {
    /// A migrated database with a login for each role, and `POLICY`.
    pub(crate) async fn new() -> Self {
        let template = MIGRATED.get_or_init(|| async { migrated(shared().unwrap()).await }).await;
        Self::of(shared().unwrap().fresh_copy_of(template).await.unwrap()).await
    }

    /// The same on a server of the test's own.
    pub(crate) async fn on(server: &PostgresEndpoint) -> Self {
        Self::of(migrated(server).await).await
    }

    async fn of(database: TestDatabase) -> Self {
        let world = Self { database, folder: tempfile::tempdir().unwrap() };
        for login in Login::ALL {
            let name = world.login(login);
            let grant = login.grant().map(|roles| format!("GRANT {roles} TO {name};")).unwrap_or_default();
            world
                .database
                .execute(&format!("CREATE ROLE {name} LOGIN PASSWORD 'pw'; {grant}"))
                .await
                .unwrap();
        }
        world.write_policy(POLICY);
        let env = format!(
            "QUICK={0}\nSLOW_LIST='[\"{0}\"]'\nPROVIDER_KEY={OLD_KEY}\nPROVIDER_KEY_BACKUP={OLD_KEY}\n",
            "a".repeat(64)
        );
        world.write("app.env", &env);
        let made = world.run(Login::Nobody, &["env-file", "key", "env-file.key"]);
        assert_eq!(made.code, 0, "{}", made.stderr);
        world
    }

    /// Writes a file as a person leaves it: for its owner only.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Writes `policy.toml`; `{folder}` in it is this test's folder.
    pub(crate) fn write_policy(&self, text: &str) {
        self.write("policy.toml", &text.replace("{folder}", &self.folder.path().display().to_string()));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    /// The name of a login at this test's database.
    pub(crate) fn login(&self, login: Login) -> String {
        format!("{}_{}", login.prefix(), self.database.name())
    }

    /// The text at a name of the env file.
    pub(crate) fn shown_in_env_file(&self, name: &str) -> String {
        let file = self.read("app.env");
        let line = file.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{name} is not there")).trim_matches(['\'', '"']).to_owned()
    }

    /// A command with that login's connection.
    pub(crate) fn command(&self, login: Login, arguments: &[&str]) -> Command {
        let mut command = command(self.folder.path(), arguments);
        let url = self.database.url_as(&self.login(login), "pw").unwrap();
        command
            .env("ROTA__DATABASE__URL", url)
            .env("ROTA__ENV_FILE__KEY_FILE", self.path("env-file.key"))
            .env("ROTA_OPERATOR", "ann");
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, login: Login, arguments: &[&str]) -> Ran {
        finish(self.command(login, arguments).output().unwrap())
    }

    /// Runs a command with `input` on its standard input.
    pub(crate) fn run_with_input(&self, login: Login, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.command(login, arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        finish(child.wait_with_output().unwrap())
    }

    /// Runs a command that has to succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Ran {
        let ran = self.run(Login::Operator, arguments);
        assert_eq!(ran.code, 0, "{arguments:?}: {}{}", ran.stdout, ran.stderr);
        ran
    }

    /// What `status NAME --json` says of the secret.
    pub(crate) fn status(&self, name: &str) -> Value {
        self.run(Login::Auditor, &["status", name, "--json"]).json()["secret"].clone()
    }

    /// Waits until the secret's status is as wanted.
    pub(crate) fn wait(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let look = || {
            last = self.status(name);
            Ok(wanted(&last).then(|| last.clone()))
        };
        let found = wait::blocking(LIMIT, what, look);
        found.unwrap_or_else(|error| panic!("{error}: {last:#}"))
    }

    /// Waits until the rotation in flight stands at `step`.
    pub(crate) fn wait_for_step(&self, name: &str, step: &str) -> Value {
        self.wait(name, step, |status| status["step"] == step && status["held"].is_null())
    }

    /// Waits until nothing of the secret is in flight any more.
    pub(crate) fn wait_for_rest(&self, name: &str) -> Value {
        self.wait(name, "rest", |status| status["phase"].is_null())
    }

    /// One text of the database, as the superuser reads it.
    pub(crate) async fn ask(&self, sql: &str) -> Option<String> {
        let mut connection = PgConnection::connect(self.database.url()).await.unwrap();
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned()))
            .fetch_optional(&mut connection)
            .await
            .unwrap()
            .flatten()
    }

    /// A daemon on this folder's policy, ready.
    pub(crate) fn daemon(&self) -> Daemon {
        self.daemon_with(|_| {})
    }

    /// The same with other settings.
    pub(crate) fn daemon_with(&self, set: impl FnOnce(&mut Command)) -> Daemon {
        let daemon = self.start_daemon(set);
        wait::blocking(LIMIT, "a ready daemon", || {
            Ok((daemon.get("/readyz").starts_with("HTTP/1.1 200")).then_some(()))
        })
        .unwrap_or_else(|error| panic!("{error}: {}", daemon.log()));
        daemon
    }

    /// A daemon that listens, ready or not.
    pub(crate) fn start_daemon(&self, set: impl FnOnce(&mut Command)) -> Daemon {
        let mut command = self.daemon_command();
        set(&mut command);
        Daemon::spawn(command)
    }

    /// What starts a daemon on this folder's policy.
    pub(crate) fn daemon_command(&self) -> Command {
        let mut command = self.command(Login::Daemon, &["serve", "--listen", "127.0.0.1:0"]);
        for (key, value) in [
            ("POLICY__SOURCE", "policy.toml"),
            ("POLICY__RELOAD", "1s"),
            ("DAEMON__WAKE", "1s"),
            ("DAEMON__LEASE", "60s"),
            ("DAEMON__STOP_TIMEOUT", "20s"),
            ("TELEMETRY__FORMAT", "json"),
        ] {
            command.env(format!("ROTA__{key}"), value);
        }
        command
    }
}

/// A running `rota serve`; killed when dropped.
pub(crate) struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
    address: SocketAddr,
}

impl Daemon {
    pub(crate) fn spawn(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, kept) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = kept.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let found = wait::blocking(LIMIT, "the daemon's address", || {
            let log = log.lock().unwrap();
            let address = log.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next());
            Ok(address.and_then(|text| text.parse().ok()))
        });
        let address = found.unwrap_or_else(|error| panic!("{error}: {}", log.lock().unwrap()));
        Self { child, log, address }
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Everything that it has logged.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The whole answer to a GET.
    pub(crate) fn get(&self, path: &str) -> String {
        http(self.address, &format!("GET {path} HTTP/1.1\r\nHost: rota\r\nConnection: close\r\n\r\n"))
    }

    /// The body of an answer.
    pub(crate) fn body(&self, path: &str) -> String {
        self.get(path).split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// Waits until the answer to a GET holds `text`.
    pub(crate) fn wait_for(&self, path: &str, text: &str) -> String {
        let look = || {
            let answer = self.get(path);
            Ok(answer.contains(text).then_some(answer))
        };
        wait::blocking(LIMIT, text, look).unwrap_or_else(|error| panic!("{error}: {}", self.get(path)))
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(status.success());
    }

    /// Waits for its end; gives the exit code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.end().code()
    }

    /// How it ended, where it has.
    pub(crate) fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// Waits for its end; tells the signal, too, that ended it.
    pub(crate) fn end(&mut self) -> ExitStatus {
        let ended = wait::blocking(LIMIT, "the daemon's end", || Ok(self.child.try_wait()?));
        ended.unwrap_or_else(|error| panic!("{error}: {}", self.log()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One exchange with a server on this machine; empty where nobody answers.
pub(crate) fn http(address: SocketAddr, request: &str) -> String {
    let exchange = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    exchange().unwrap_or_default()
}

/// A command on a terminal of its own (script(1)), answered as a person answers.
pub(crate) struct Terminal {
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    pub(crate) fn run(folder: &Path, command: &Command) -> Self {
        let quoted = |text: &std::ffi::OsStr| format!("'{}'", text.to_str().unwrap().replace('\'', "'\\''"));
        let line: Vec<String> =
            std::iter::once(command.get_program()).chain(command.get_args()).map(quoted).collect();
        let mut script = Command::new("script");
        script.args(["-qefc", &format!("exec {}", line.join(" ")), "/dev/null"]).current_dir(folder);
        script.env_clear().env("PATH", "/usr/bin:/bin").env("SHELL", "/bin/sh").env("TERM", "dumb");
        for (name, value) in command.get_envs() {
            script.env(name, value.unwrap_or_default());
        }
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = script.spawn().expect("script(1) of bsdutils");
        let (mut out, shown) = (child.stdout.take().unwrap(), Arc::new(Mutex::new(String::new())));
        let kept = Arc::clone(&shown);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = out.read(&mut buffer) {
                kept.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        Self { child, shown }
    }

    pub(crate) fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    pub(crate) fn wait_for(&self, prompt: &str) {
        let look = || Ok(self.shown.lock().unwrap().contains(prompt).then_some(()));
        wait::blocking(LIMIT, prompt, look).unwrap_or_else(|error| panic!("{error}: {}", self.shown()));
    }

    /// Waits for a prompt and types a line.
    pub(crate) fn answer(&mut self, prompt: &str, line: &str) {
        self.wait_for(prompt);
        let stdin = self.child.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        stdin.flush().unwrap();
    }

    /// The exit code and everything that was shown.
    pub(crate) fn ended(mut self) -> (i32, String) {
        let ended = wait::blocking(LIMIT, "the command's end", || Ok(self.child.try_wait()?));
        let code = ended.unwrap_or_else(|error| panic!("{error}: {}", self.shown())).code().unwrap_or(-1);
        (code, self.shown())
    }
}
