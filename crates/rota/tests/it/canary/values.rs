//! Every value of a run: what went to the stores and came from them, what was handed in,
//! and what stood there before Rota.
//!
//! Nothing is planted in the product. Stores that are spoken to over HTTP are read by their
//! recorders, which miss nothing; an env file is looked at all the time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rota_fakes::recorder::Recorded;
use serde_json::Value;

use super::search::{PIECE, Search};

/// Parts of a credential that are names and addresses, not secrets.
const PUBLIC: [&str; 5] = ["username", "host", "port", "database", "access_key_id"];

/// A publication stands for seconds.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Values, each with where it was seen first.
#[derive(Debug, Default)]
pub(crate) struct Values(BTreeMap<String, String>);

impl Values {
    pub(crate) fn add(&mut self, seen: &str, value: &str) {
        if value.len() >= PIECE {
            self.0.entry(value.to_owned()).or_insert_with(|| seen.to_owned());
        }
    }

    /// Adds every secret part of a stored text: a value, a list or document of them, a URL, a
    /// slot's material.
    pub(crate) fn add_text(&mut self, seen: &str, text: &str) {
        match serde_json::from_str(text) {
            Ok(json @ (Value::Object(_) | Value::Array(_))) => self.add_json(seen, &json),
            _ => self.add_leaf(seen, text),
        }
    }

    fn add_json(&mut self, seen: &str, json: &Value) {
        match json {
            Value::String(text) => self.add_text(seen, text),
            Value::Array(items) => items.iter().for_each(|item| self.add_json(seen, item)),
            Value::Object(fields) => {
                let secret = fields.iter().filter(|(name, _)| !PUBLIC.contains(&name.as_str()));
                secret.for_each(|(_, field)| self.add_json(seen, field));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn add_leaf(&mut self, seen: &str, text: &str) {
        let in_url = text.split_once("://").and_then(|(_, rest)| rest.rsplit_once('@'));
        let password = in_url.and_then(|(login, _)| login.split_once(':')).map(|(_, password)| password);
        let of_key = text.strip_prefix("AKIA").and_then(|key| key.split_once(':')).map(|(_, secret)| secret);
        self.add(seen, password.or(of_key).unwrap_or(text));
    }

    /// Adds what one call wrote to a store or read from it.
    pub(crate) fn add_call(&mut self, recorded: &Recorded) {
        for text in [&recorded.request, &recorded.answer] {
            if let Ok(json) = serde_json::from_str::<Value>(text) {
                // Secrets Manager, and Vault's requests and answers.
                let stored = [&json["SecretString"], &json["data"]["data"], &json["data"]];
                let is_kv = recorded.call.contains("/secret/data/");
                let stored = stored.into_iter().enumerate().filter(|(at, _)| *at == 0 || is_kv);
                stored.for_each(|(_, value)| self.add_stored(&recorded.call, value));
            }
            for key in text.split("<SecretAccessKey>").skip(1) {
                self.add("CreateAccessKey", key.split('<').next().unwrap());
            }
        }
    }

    /// Data of Vault, whose answers have metadata beside it.
    fn add_stored(&mut self, seen: &str, value: &Value) {
        match value {
            Value::Object(fields)
                if fields.contains_key("metadata") || fields.contains_key("created_time") => {}
            value => self.add_json(seen, value),
        }
    }

    /// Adds the values of a file of `KEY=value` lines, or of a slot beside it.
    fn add_file(&mut self, text: &str) {
        if let Some((_, value)) = text.strip_prefix("# rota slot: ").and_then(|slot| slot.split_once('\n')) {
            return self.add_text("a slot", value);
        }
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        for (name, value) in lines.filter_map(|line| line.split_once('=')) {
            self.add_text(name, value.trim_matches(['\'', '"']));
        }
    }

    /// How many values were seen first at `seen`.
    pub(crate) fn count(&self, seen: &str) -> usize {
        self.0.values().filter(|place| place.contains(seen)).count()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn search(&self) -> Search {
        Search::of(self.0.iter().map(|(value, seen)| (seen.as_str(), value.as_str())))
    }
}

/// Looks at an env file and what stands beside it until it is asked what was seen.
pub(crate) struct Watcher {
    done: Arc<AtomicBool>,
    seen: Arc<Mutex<BTreeSet<String>>>,
    thread: JoinHandle<()>,
}

impl Watcher {
    pub(crate) fn of(file: &Path) -> Self {
        let (done, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeSet::new())));
        let name = file.file_name().unwrap().to_str().unwrap();
        let slots = file.with_file_name(format!(".{name}.rota"));
        let (file, stop, kept) = (file.to_owned(), Arc::clone(&done), Arc::clone(&seen));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let beside =
                    std::fs::read_dir(&slots).into_iter().flatten().flatten().map(|entry| entry.path());
                // Sealed copies are no text.
                let texts =
                    beside.chain([file.clone()]).filter_map(|path| std::fs::read_to_string(path).ok());
                kept.lock().unwrap().extend(texts);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Self { done, seen, thread }
    }

    pub(crate) fn values(self) -> Values {
        self.done.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        let mut values = Values::default();
        self.seen.lock().unwrap().iter().for_each(|text| values.add_file(text));
        values
    }
}

#[test]
fn the_secret_part_of_everything_stored_is_a_value_and_nothing_else_is() {
    let mut values = Values::default();
    for text in [
        "a-value-of-its-own",
        r#"["first-of-a-list", "second-of-a-list"]"#,
        "postgresql://some-long-user:the-password-of-it@127.0.0.1:5432/some-database",
        "AKIAIOSFODNN7EXAMPLE:the-secret-of-a-key",
        r#"{"fields":{"URL":"redis://a-long-user-name:redis-password@127.0.0.1:1/0"},
            "parts":{"username":"a-long-user-name","password":"redis-password","host":"a-long-host-name"}}"#,
        "short",
    ] {
        values.add_text("somewhere", text);
    }
    let wanted = [
        "a-value-of-its-own",
        "first-of-a-list",
        "redis-password",
        "second-of-a-list",
        "the-password-of-it",
        "the-secret-of-a-key",
    ];
    assert_eq!(values.0.keys().collect::<Vec<_>>(), wanted);
    assert_eq!(values.count("somewhere"), wanted.len());
}

#[test]
fn what_a_call_wrote_or_read_is_a_value() {
    let mut values = Values::default();
    let call = |call: &str, request: &str, answer: &str| Recorded {
        call: call.to_owned(),
        request: request.to_owned(),
        answer: answer.to_owned(),
    };
    values.add_call(&call("POST /", r#"{"SecretId":"a-path-of-it","SecretString":"written-to-aws"}"#, "{}"));
    values.add_call(&call(
        "POST /",
        "{}",
        r#"{"SecretString":"[\"read-from-aws\"]","VersionId":"an-id-of-aws"}"#,
    ));
    values.add_call(&call("POST /v1/secret/data/a", r#"{"data":{"value":"written-to-vault"}}"#, "{}"));
    let read = r#"{"data":{"data":{"value":"read-from-vault"},"metadata":{"created_time":"2026-01-01T00"}}}"#;
    values.add_call(&call("GET /v1/secret/data/a", "", read));
    let metadata = r#"{"data":{"created_time":"2026-01-01T00","custom_metadata":{"note":"a-long-note"}}}"#;
    values.add_call(&call("PUT /v1/secret/data/a", "", metadata));
    values.add_call(&call("GET /v1/auth/token", "", r#"{"data":{"display_name":"the-name-of-a-token"}}"#));
    let made =
        "<AccessKeyId>AKIAIOSFODNN7EXAMPLE</AccessKeyId><SecretAccessKey>made-by-iam</SecretAccessKey>";
    values.add_call(&call(
        "POST /",
        "Action=CreateAccessKey",
        &made.replace("made-by-iam", "made-by-iam-once"),
    ));
    let wanted =
        ["made-by-iam-once", "read-from-aws", "read-from-vault", "written-to-aws", "written-to-vault"];
    assert_eq!(values.0.keys().collect::<Vec<_>>(), wanted);
}

#[test]
fn a_watched_file_gives_every_value_that_stood_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.env");
    std::fs::create_dir(folder.path().join(".app.env.rota")).unwrap();
    let watcher = Watcher::of(&file);
    let mut files: Vec<(&Path, String)> = Vec::new();
    let slot = folder.path().join(".app.env.rota/slot");
    let pending = r#"{"fields":{"KEY":"a-pending-value"},"parts":{"password":"a-pending-value"}}"#;
    files.push((&file, "# a comment=that-is-no-value\nKEY=the-first-value\n".to_owned()));
    files.push((&file, "KEY='[\"the-second-value\"]'\n".to_owned()));
    files.push((&slot, format!("# rota slot: filled rotation=1 secret=KEY\n{pending}")));
    for (path, text) in &files {
        std::fs::write(path, text).unwrap();
        let look = || Ok(watcher.seen.lock().unwrap().contains(text).then_some(()));
        rota_fakes::wait::blocking(crate::world::LIMIT, "a look", look).unwrap();
    }
    let values = watcher.values();
    let wanted = ["a-pending-value", "the-first-value", "the-second-value"];
    assert_eq!(values.0.keys().collect::<Vec<_>>(), wanted);
}
