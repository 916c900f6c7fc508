//! A daemon with secrets of every kind on real servers, and everybody who might see a value.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rota_fakes::http::Listen;
use rota_fakes::moto::MotoServer;
use rota_fakes::postgres::{PostgresOptions, PostgresServer};
use rota_fakes::recorder::Recorder;
use rota_fakes::slack::SlackFake;
use rota_fakes::vault::VaultFake;
use rota_fakes::webhook::WebhookFake;
use serde_json::json;

use super::places::{Haystack, Place};
use super::values::{Values, Watcher};
use crate::subjects::{Aws, STORES, Store, Subject};
use crate::support::{Ran, finish};
use crate::world::{Daemon, Login, World, http};

/// With which the daemon signs, and the sink verifies.
const WEBHOOK_KEY: &str = "a-key-of-thirty-two-bytes-or-more";

/// Keeps the arguments and environment of itself, and of who started it.
const RECORD: &str = "#!/bin/sh\nfor id in $$ $PPID; do\n  \
    cat /proc/$id/cmdline /proc/$id/environ >> \"$(dirname \"$0\")/children\" 2>/dev/null\ndone\n\
    cat > /dev/null\nexit 0\n";

/// Everything as loud as anybody may ask.
const LOUDEST: &str = "trace,sqlx=trace,hyper=trace,aws_smithy_runtime=trace,aws_sigv4=trace,rustify=trace,\
    vaultrs=trace,reqwest=trace,redis=trace,tokio_postgres=trace,h2=trace,rustls=trace,log=trace";

/// Consumers, times and channels of all secrets.
const COMMON: &str = r#"
version = 1
application = "acd"
environment = "development"

[consumer.app]
settle = "1s"
rollout = { kind = "command", commands = [["{folder}/record", "rollout"]] }
checks = [{ kind = "command", command = ["{folder}/record", "check"] }]
"#;

/// How often the daemon's pages are read.
const PAGES_EVERY: Duration = Duration::from_millis(200);

pub(super) struct Run {
    pub(super) server: PostgresServer,
    pub(super) world: World,
    pub(super) slack: SlackFake,
    pub(super) webhook: WebhookFake,
    pub(super) vault: VaultFake,
    vault_calls: Recorder,
    aws: Aws,
    aws_calls: Recorder,
    _moto: MotoServer,
    pub(super) settings: Vec<(String, String)>,
    watcher: Watcher,
    printed: Mutex<String>,
    /// Dropped last: their servers hold what they accept.
    pub(super) subjects: Vec<Subject>,
}

impl Run {
    /// With the servers, the secrets of `subjects` and lines for some secrets.
    pub(super) async fn new() -> Self {
        let server = PostgresServer::start(PostgresOptions::new()).unwrap();
        let endpoint = server.endpoint().unwrap();
        let world = World::on(&endpoint).await;
        let moto = MotoServer::start(&[]).unwrap();
        let aws = Aws::of(&moto).await;
        let vault = VaultFake::start(Listen::default()).unwrap();
        let (aws_calls, vault_calls) =
            (Recorder::start(&aws.url).unwrap(), Recorder::start(&vault.url()).unwrap());
        let prove = "prove = { kind = \"command\", command = [\"{folder}/record\", \"prove\"] }\n";
        let subjects = vec![
            Subject::generated("SESSION_SECRET", Store::Env),
            Subject::generated("API_KEY", Store::Vault),
            Subject::password("PASSWORD", Store::Aws),
            Subject::operator("PROVIDER_KEY", Store::Aws, ""),
            Subject::operator("OTHER_KEY", Store::Vault, prove),
            Subject::postgres("DATABASE_URL", Store::Aws, &endpoint, "two-users").await,
            Subject::postgres("REPORTS_URL", Store::Vault, &endpoint, "new-user").await,
            Subject::redis("CACHE_URL", Store::Aws, "two-passwords"),
            Subject::redis("QUEUE_URL", Store::Vault, "two-users"),
            Subject::iam("S3_KEY", Store::Aws, &aws).await,
        ];
        let slack = SlackFake::start(Listen::default()).unwrap();
        let webhook = WebhookFake::start(&[WEBHOOK_KEY.as_bytes()], Listen::default()).unwrap();
        let mut settings = aws.settings(&aws_calls.url());
        settings.extend(channels(&world, &slack, &webhook));
        let token = vault.root_token();
        let login =
            [("ADDRESS", vault_calls.url()), ("AUTH", "token".to_owned()), ("TOKEN", token.to_owned())];
        settings.extend(login.map(|(key, value)| (format!("ROTA__VAULT__{key}"), value)));
        let mut lines = String::new();
        for (name, text) in subjects
            .iter()
            .flat_map(|subject| subject.before.iter().map(move |(name, text)| ((subject.store, name), text)))
        {
            match name {
                (Store::Env, name) => lines.push_str(&format!("{name}='{text}'\n")),
                (Store::Aws, name) => aws.create(&format!("acd/{name}"), text).await,
                (Store::Vault, name) => {
                    let data = json!({ "data": { "value": text } });
                    vault.admin("POST", &format!("secret/data/acd/{name}"), data).await.unwrap();
                }
            }
        }
        let file = world.write("app.env", &lines);
        let watcher = Watcher::of(&file);
        write_record(world.folder.path());
        let all = ["ALTER SYSTEM SET log_statement = 'all'", "ALTER SYSTEM SET log_connections = 'on'"];
        for sql in all {
            world.database.execute(sql).await.unwrap();
        }
        world.database.execute("SELECT pg_reload_conf()").await.unwrap();
        Self {
            server,
            world,
            slack,
            webhook,
            vault,
            vault_calls,
            aws,
            aws_calls,
            _moto: moto,
            settings,
            watcher,
            printed: Mutex::default(),
            subjects,
        }
    }

    /// Accepts the secrets of all subjects, each with the times that `times` gives it.
    pub(super) fn write_policy(&self, times: impl Fn(&str) -> String) {
        let mut text = format!("{COMMON}{STORES}");
        for subject in &self.subjects {
            let hook = "hooks = [{ at = \"before-promote\", kind = \"command\", command = [\"{folder}/record\", \"hook\"] }]";
            let own = times(subject.name);
            text.push_str(&subject.policy);
            text.push_str(&format!(
                "consumers = [\"app\"]\nhealthy = {{ count = 1, every = \"1s\" }}\n{hook}\n{own}\n"
            ));
        }
        self.world.write_policy(&text);
        let lint = self.world.run(Login::Nobody, &["policy", "lint", "policy.toml"]);
        assert_eq!(lint.code, 0, "{}{}", lint.stdout, lint.stderr);
    }

    /// A daemon as loud as it gets, whose limits allow a core dump.
    pub(super) fn daemon(&self, set: impl FnOnce(&mut Command)) -> Daemon {
        let command = self.world.daemon_command();
        let mut unlimited = Command::new("/bin/sh");
        unlimited.args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""]).arg(command.get_program());
        unlimited.args(command.get_args()).current_dir(self.world.folder.path()).env_clear();
        for (name, value) in command.get_envs() {
            unlimited.env(name, value.unwrap_or_default());
        }
        unlimited.env("HOME", self.world.folder.path()).env("PATH", "/usr/bin:/bin");
        unlimited.envs(self.settings.iter().cloned());
        unlimited.env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full");
        unlimited.env("ROTA__TELEMETRY__FILTER", LOUDEST);
        set(&mut unlimited);
        Daemon::spawn(unlimited)
    }

    /// Runs a command as an operator, with `input`; what it prints is searched.
    pub(super) fn command(&self, arguments: &[&str], input: &str) -> Ran {
        let mut command = self.world.command(Login::Operator, arguments);
        command.envs(self.settings.iter().cloned()).env("RUST_LOG", "trace");
        let file = self.world.write("input", input);
        command.stdin(std::fs::File::open(&file).unwrap());
        std::fs::remove_file(file).unwrap();
        let ran = finish(command.output().unwrap());
        self.keep_printed(&ran);
        ran
    }

    /// What a command printed is searched.
    pub(super) fn keep_printed(&self, ran: &Ran) {
        self.printed.lock().unwrap().push_str(&format!("{}\n{}\n", ran.stdout, ran.stderr));
    }

    /// The same where it has to succeed.
    pub(super) fn ok(&self, arguments: &[&str], input: &str) {
        let ran = self.command(arguments, input);
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
    }

    /// Everything that is searched, but for logs and pages of daemons.
    pub(super) fn haystack(&self) -> Haystack {
        let mut haystack = Haystack::default();
        haystack.add_server(&self.server);
        for message in self.slack.received() {
            haystack.add(Place::Slack, "message", format!("{}\n{}", message.text, message.whole()));
        }
        for delivery in self.webhook.received() {
            haystack.add(Place::Webhook, &delivery.id, delivery.body.to_string());
        }
        haystack.add(Place::Commands, "output", self.printed.lock().unwrap().as_bytes());
        let children = std::fs::read(self.world.path("children")).unwrap_or_default();
        haystack.add(Place::Children, "argv and environment", children);
        let stores = ["app.env", ".app.env.rota"];
        let wanted = |path: &Path| !stores.iter().any(|store| path.ends_with(store));
        haystack.add_files(Place::Folder, self.world.folder.path(), &wanted);
        haystack
    }

    /// What consumers of the secret read.
    pub(super) async fn published(&self, subject: &Subject) -> String {
        let name = subject.shown;
        match subject.store {
            Store::Env => self.world.shown_in_env_file(name),
            Store::Aws => self.aws.read(&format!("acd/{name}")).await,
            Store::Vault => {
                let path = format!("secret/data/acd/{name}");
                let read = self.vault.admin("GET", &path, json!(null)).await.unwrap();
                read["data"]["data"]["value"].as_str().unwrap().to_owned()
            }
        }
    }

    /// Every value that went to a store or came from it so far; ends the look at the env file.
    pub(super) fn values(self) -> Values {
        let mut values = self.watcher.values();
        for recorded in self.aws_calls.calls().iter().chain(&self.vault_calls.calls()) {
            values.add_call(recorded);
        }
        values
    }
}

/// The program that consumers, checks and hooks are, in `folder`.
pub(super) fn write_record(folder: &Path) {
    let record = folder.join("record");
    std::fs::write(&record, RECORD).unwrap();
    std::fs::set_permissions(record, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The sinks of messages, as the binary's settings.
fn channels(world: &World, slack: &SlackFake, webhook: &WebhookFake) -> [(String, String); 3] {
    let file = world.write("slack.url", &format!("{}\n", slack.url()));
    [
        ("SLACK__WEBHOOK_URL_FILE", file.display().to_string()),
        ("WEBHOOK__URL", webhook.url()),
        ("WEBHOOK__SECRET", WEBHOOK_KEY.to_owned()),
    ]
    .map(|(key, value)| (format!("ROTA__{key}"), value))
}

/// Reads everything that a daemon shows, again and again.
pub(super) struct Pages {
    done: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Pages {
    pub(super) fn of(address: SocketAddr) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&done);
        let thread = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !stop.load(Ordering::Relaxed) {
                for path in ["/", "/status.json", "/metrics", "/readyz", "/livez"] {
                    let request = format!("GET {path} HTTP/1.1\r\nHost: rota\r\nConnection: close\r\n\r\n");
                    seen.insert(http(address, &request));
                }
                std::thread::sleep(PAGES_EVERY);
            }
            seen
        });
        Self { done, thread }
    }

    pub(super) fn seen(self) -> BTreeSet<String> {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
