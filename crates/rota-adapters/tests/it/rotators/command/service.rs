//! An application with users of its own, which lets in whoever shows a password, and what
//! every target here needs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};

use rota_adapters::catalog::kinds;
use rota_adapters::rotators::command::CommandRotator;
use rota_core::id::{EffectNo, Epoch, FieldName, Incarnation, RotationId, SecretId};
use rota_core::policy::diagnostic::render_all;
use rota_core::policy::model::{FieldPolicy, Fields, PolicyEntry};
use rota_core::policy::{Piece, load};
use rota_core::value::Bundle;
use rota_engine::ports::{Fence, TargetContext};
use serde_json::Value;
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::value;

/// The statements that a test makes by hand, and the logins of consumers.
pub(super) struct Service {
    /// Held, so that the file stays.
    pub(super) folder: TempDir,
    child: Child,
    talk: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    port: u16,
    http: reqwest::Client,
}

/// The interpreter of the environment that scripts/test makes.
pub(super) fn python() -> String {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    let python = std::env::var_os("ROTA_TEST_PYTHON").map_or_else(usual, PathBuf::from);
    python.to_str().unwrap().to_owned()
}

/// One of `config/examples/rotators`.
pub(super) fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/examples/rotators").join(name);
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

impl Service {
    pub(super) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(python());
        command.args(["-c", include_str!("service.py")]).arg(folder.path().join("users.db"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the service says its port");
        let service =
            Self { folder, child, talk: Mutex::new((stdin, stdout)), port, http: reqwest::Client::new() };
        service.sql(
            "CREATE TABLE users (name TEXT PRIMARY KEY, salt TEXT, hash TEXT, enabled INTEGER NOT NULL)",
        );
        service.sql("CREATE TABLE sessions (user TEXT NOT NULL)");
        service
    }

    /// One statement, and its rows.
    pub(super) fn sql(&self, statement: &str) -> String {
        let mut talk = self.talk.lock().unwrap();
        writeln!(talk.0, "{statement}").unwrap();
        let mut answer = String::new();
        assert!(talk.1.read_line(&mut answer).unwrap() > 0, "the service ended at: {statement}");
        answer.trim().to_owned()
    }

    pub(super) fn database(&self) -> PathBuf {
        self.folder.path().join("users.db")
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(super) async fn lets_in(&self, user: &str, password: &str) -> bool {
        let request = self.http.get(format!("http://{}/", self.address()));
        request.basic_auth(user, Some(password)).send().await.unwrap().status().is_success()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[store.main]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "test/{name}"

[secret.LOGIN]
kind = "command"
class = "password"
stores = ["main"]
consumers = "none"
cadence = "30d"
overlap = "1d"
"#;

/// What lint says of a secret with this table.
pub(super) fn loaded(settings: &Value, template: &str) -> Result<PolicyEntry, String> {
    let fields = toml::to_string(&serde_json::json!({ "fields": { "LOGIN": template } })).unwrap();
    let (fields, table) =
        (fields.replace("[fields]", "[secret.LOGIN.fields]"), toml::to_string(settings).unwrap());
    let (own, inner) = table.split_once("\n[").unwrap_or((&table, ""));
    let inner = if inner.is_empty() { String::new() } else { format!("[secret.LOGIN.command.{inner}") };
    let text = format!("{POLICY}\n{fields}\n[secret.LOGIN.command]\n{own}\n{inner}");
    let loaded = load(&[Piece::from_bytes("policy.toml", text.into_bytes()).unwrap()], &kinds().unwrap());
    let said = render_all(&loaded.diagnostics);
    let entry = loaded.policy.and_then(|policy| policy.entry(&SecretId::new("LOGIN").unwrap()));
    entry.ok_or(said)
}

pub(super) fn rotator(settings: &Value, template: &str) -> CommandRotator {
    let entry = loaded(settings, template).unwrap_or_else(|said| panic!("{said}"));
    CommandRotator::new(&entry.secret).unwrap()
}

pub(super) fn fence(effect: i64) -> Fence {
    Fence { incarnation: Incarnation(1), epoch: Epoch(1), effect: EffectNo(effect) }
}

pub(super) fn field(name: &str) -> FieldName {
    FieldName::new(name).unwrap()
}

pub(super) fn fields(template: &str) -> Fields {
    let policy = FieldPolicy { template: Some(template.parse().unwrap()), format: None };
    Fields::from_iter([(field("LOGIN"), policy)])
}

pub(super) fn bundle(parts: &[(&str, &str)]) -> Bundle {
    Bundle::new(parts.iter().map(|(name, text)| (field(name), value(text))).collect())
}

/// What a call of the engine would be given.
pub(super) fn context(settings: &Value, template: &str) -> TargetContext {
    TargetContext {
        rotation: RotationId(Uuid::from_u128(7)),
        policy: Arc::new(loaded(settings, template).unwrap_or_else(|said| panic!("{said}"))),
        old: None,
        new: None,
        old_identity: None,
        new_identity: None,
        admin: None,
        since_promotion: None,
        emergency: false,
        predecessor_unknown: false,
    }
}

/// One part of a value.
pub(super) fn part<'a>(value: &'a Bundle, name: &str) -> &'a str {
    value.iter().find(|(part, _)| part.as_str() == name).unwrap().1.expose()
}
