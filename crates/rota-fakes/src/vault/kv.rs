//! The versioned key-value engine ("KV secrets engine - version 2 (API)").
//!
//! Deliberately absent: patch and subkeys.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::Operation;
use super::fields::{self, Fields};
use super::reply::{Outcome, Reply};

/// Versions that are kept where neither mount nor key say how many.
const DEFAULT_MAX_VERSIONS: u64 = 10;

const MAX_CUSTOM_KEYS: usize = 64;
const MAX_CUSTOM_KEY_LENGTH: usize = 128;
const MAX_CUSTOM_VALUE_LENGTH: usize = 512;

/// A mount of the engine.
#[derive(Debug, Default)]
pub(super) struct KvMount {
    settings: Settings,
    keys: BTreeMap<String, Key>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    max_versions: u64,
    cas_required: bool,
    delete_version_after: SignedDuration,
}

#[derive(Debug)]
struct Key {
    settings: Settings,
    custom: Option<BTreeMap<String, String>>,
    created: Timestamp,
    updated: Timestamp,
    current: u64,
    oldest: u64,
    versions: BTreeMap<u64, Version>,
}

#[derive(Debug)]
struct Version {
    created: Timestamp,
    deletion: Option<Timestamp>,
    /// None once destroyed.
    data: Option<Fields>,
}

impl KvMount {
    /// Whether a write to this path would update something; None where Vault
    /// asks for `update` in any case.
    pub(super) fn exists(&self, path: &str) -> Option<bool> {
        let key = path.strip_prefix("data/").or_else(|| path.strip_prefix("metadata/"))?;
        Some(self.keys.contains_key(key))
    }

    /// Answers a call below the mount.
    pub(super) fn call(
        &mut self,
        operation: Operation,
        path: &str,
        body: &Fields,
        version: Option<&str>,
        now: Timestamp,
    ) -> Outcome {
        let (kind, key) = path.split_once('/').unwrap_or((path, ""));
        match (kind, operation) {
            ("config", Operation::Read) => Ok(Reply::data(self.settings.show())),
            ("config", Operation::Write) => self.settings.set(body).map(|()| Reply::no_content()),
            ("metadata", Operation::List) => Ok(self.list(key)),
            ("data" | "metadata" | "delete" | "undelete" | "destroy", _) if key.is_empty() => {
                Err(Reply::no_route(path))
            }
            ("data", _) if key.ends_with('/') => {
                Err(Reply::error(404, "1 error occurred:\n\t* unsupported path\n\n"))
            }
            ("data", Operation::Read) => self.read(key, version, now),
            ("data", Operation::Write) => self.write(key, body, now),
            ("data", Operation::Delete) => Ok(self.delete_latest(key, now)),
            ("delete", Operation::Write) => self.each_version(key, body, |version| version.delete(now)),
            ("undelete", Operation::Write) => self.each_version(key, body, Version::undelete),
            ("destroy", Operation::Write) => self.each_version(key, body, |version| version.data = None),
            ("metadata", Operation::Read) => self.keys.get(key).map(Key::show).ok_or_else(Reply::not_found),
            ("metadata", Operation::Write) => self.write_metadata(key, body, now),
            ("metadata", Operation::Delete) => {
                self.keys.remove(key);
                Ok(Reply::no_content())
            }
            ("config" | "data" | "delete" | "undelete" | "destroy", _) => Err(Reply::unsupported()),
            _ => Err(Reply::no_route(path)),
        }
    }

    fn read(&self, path: &str, version: Option<&str>, now: Timestamp) -> Outcome {
        let key = self.keys.get(path).ok_or_else(Reply::not_found)?;
        let asked: u64 = match version {
            None | Some("") => 0,
            Some(text) => {
                let wrong = || Reply::bad_request("error converting input for field \"version\"");
                text.parse().map_err(|_| wrong())?
            }
        };
        let number = if asked > 0 { asked } else { key.current };
        let version = key.versions.get(&number).ok_or_else(Reply::not_found)?;
        let metadata = version.show(number, key.custom.as_ref());
        match &version.data {
            Some(data) if !version.is_deleted(now) => {
                Ok(Reply::data(json!({"data": data, "metadata": metadata})))
            }
            // Documented: a deleted or destroyed version is a 404 that has its metadata.
            _ => Err(Reply::data_with_status(404, json!({"data": null, "metadata": metadata}))),
        }
    }

    fn write(&mut self, path: &str, body: &Fields, now: Timestamp) -> Outcome {
        let data = body.get("data").and_then(Value::as_object);
        let data = data.ok_or_else(|| Reply::bad_request("no data provided"))?.clone();
        let current = self.keys.get(path).map_or(0, |key| key.current);
        let key_requires = self.keys.get(path).is_some_and(|key| key.settings.cas_required);
        match body.get("options").and_then(|options| options.get("cas")) {
            Some(cas) => {
                let cas = cas.as_u64().or_else(|| cas.as_str()?.parse().ok());
                let cas = cas.ok_or_else(|| Reply::bad_request("error parsing check-and-set parameter"))?;
                if cas != current {
                    let text = "check-and-set parameter did not match the current version";
                    return Err(Reply::bad_request(text));
                }
            }
            None if self.settings.cas_required || key_requires => {
                return Err(Reply::bad_request("check-and-set parameter required for this call"));
            }
            None => {}
        }
        let mount = self.settings;
        let key = self.keys.entry(path.to_owned()).or_insert_with(|| Key::new(now));
        key.add(data, mount, now);
        let version = key.versions.get(&key.current).ok_or_else(Reply::not_found)?;
        Ok(Reply::data(version.show(key.current, key.custom.as_ref())))
    }

    fn delete_latest(&mut self, path: &str, now: Timestamp) -> Reply {
        if let Some(key) = self.keys.get_mut(path)
            && let Some(version) = key.versions.get_mut(&key.current)
        {
            version.delete(now);
        }
        Reply::no_content()
    }

    fn each_version(&mut self, path: &str, body: &Fields, mut change: impl FnMut(&mut Version)) -> Outcome {
        let numbers = fields::versions(body)?;
        if let Some(key) = self.keys.get_mut(path) {
            for number in numbers {
                key.versions.get_mut(&number).map(&mut change);
            }
        }
        Ok(Reply::no_content())
    }

    fn write_metadata(&mut self, path: &str, body: &Fields, now: Timestamp) -> Outcome {
        let custom = body.get("custom_metadata").map(custom_metadata).transpose()?;
        let mut settings = self.keys.get(path).map(|key| key.settings).unwrap_or_default();
        settings.set(body)?;
        let key = self.keys.entry(path.to_owned()).or_insert_with(|| Key::new(now));
        key.settings = settings;
        if let Some(custom) = custom {
            key.custom = Some(custom);
        }
        Ok(Reply::no_content())
    }

    fn list(&self, folder: &str) -> Reply {
        let prefix =
            if folder.is_empty() || folder.ends_with('/') { folder.to_owned() } else { format!("{folder}/") };
        let below = self.keys.keys().filter_map(|key| key.strip_prefix(&prefix));
        let names: BTreeSet<&str> =
            below.map(|rest| rest.find('/').map_or(rest, |end| &rest[..=end])).collect();
        if names.is_empty() { Reply::not_found() } else { Reply::data(json!({"keys": names})) }
    }
}

impl Settings {
    fn set(&mut self, body: &Fields) -> Result<(), Reply> {
        if let Some(most) = fields::number(body, "max_versions")? {
            self.max_versions = most;
        }
        if let Some(required) = fields::flag(body, "cas_required") {
            self.cas_required = required;
        }
        if let Some(after) = fields::duration(body, "delete_version_after")? {
            self.delete_version_after = after;
        }
        Ok(())
    }

    fn show(self) -> Value {
        json!({
            "max_versions": self.max_versions,
            "cas_required": self.cas_required,
            "delete_version_after": fields::go_duration(self.delete_version_after),
        })
    }

    /// The shorter of both where both are set; a negative one on the mount switches it off.
    fn deletion_after(self, mount: Self) -> Option<SignedDuration> {
        let set = |duration: SignedDuration| Some(duration).filter(SignedDuration::is_positive);
        if mount.delete_version_after.is_negative() {
            return None;
        }
        match (set(self.delete_version_after), set(mount.delete_version_after)) {
            (Some(own), Some(mounts)) => Some(own.min(mounts)),
            (own, mounts) => own.or(mounts),
        }
    }
}

impl Key {
    fn new(now: Timestamp) -> Self {
        Self {
            settings: Settings::default(),
            custom: None,
            created: now,
            updated: now,
            current: 0,
            oldest: 0,
            versions: BTreeMap::new(),
        }
    }

    fn add(&mut self, data: Fields, mount: Settings, now: Timestamp) {
        let deletion = self.settings.deletion_after(mount).map(|after| now + after);
        self.current += 1;
        self.updated = now;
        let most = match self.settings.max_versions.max(mount.max_versions) {
            0 => DEFAULT_MAX_VERSIONS,
            most => most,
        };
        if self.current - self.oldest >= most {
            self.oldest = self.current - most + 1;
            self.versions = self.versions.split_off(&self.oldest);
        }
        self.versions.insert(self.current, Version { created: now, deletion, data: Some(data) });
    }

    fn show(&self) -> Reply {
        let versions: BTreeMap<String, Value> =
            self.versions.iter().map(|(number, version)| (number.to_string(), version.state())).collect();
        let mut data = json!({
            "created_time": self.created,
            "updated_time": self.updated,
            "current_version": self.current,
            "oldest_version": self.oldest,
            "custom_metadata": self.custom,
            "versions": versions,
        });
        if let (Value::Object(data), Value::Object(settings)) = (&mut data, self.settings.show()) {
            data.extend(settings);
        }
        Reply::data(data)
    }
}

impl Version {
    fn is_deleted(&self, now: Timestamp) -> bool {
        self.deletion.is_some_and(|at| at <= now)
    }

    /// Soft: a version that is deleted or destroyed already stays as it is.
    fn delete(&mut self, now: Timestamp) {
        if self.data.is_some() && !self.is_deleted(now) {
            self.deletion = Some(now);
        }
    }

    fn undelete(&mut self) {
        if self.data.is_some() {
            self.deletion = None;
        }
    }

    fn state(&self) -> Value {
        let deletion = self.deletion.map_or_else(String::new, |at| at.to_string());
        json!({"created_time": self.created, "deletion_time": deletion, "destroyed": self.data.is_none()})
    }

    fn show(&self, number: u64, custom: Option<&BTreeMap<String, String>>) -> Value {
        let mut shown = self.state();
        if let Value::Object(shown) = &mut shown {
            shown.insert("version".to_owned(), number.into());
            shown.insert("custom_metadata".to_owned(), json!(custom));
        }
        shown
    }
}

fn custom_metadata(value: &Value) -> Result<BTreeMap<String, String>, Reply> {
    let failed = |reason: String| Reply::bad_request(format!("custom_metadata validation failed: {reason}"));
    let object = value.as_object().ok_or_else(|| failed("expected a map of strings".to_owned()))?;
    if object.len() > MAX_CUSTOM_KEYS {
        let count = object.len();
        return Err(failed(format!("payload must contain at most {MAX_CUSTOM_KEYS} keys, provided {count}")));
    }
    let mut custom = BTreeMap::new();
    for (key, value) in object {
        let text = value.as_str().ok_or_else(|| failed(format!("the value of {key:?} is not a string")))?;
        if key.is_empty() || key.len() > MAX_CUSTOM_KEY_LENGTH {
            return Err(failed(format!(
                "length of key {key:?} must be 0 < len(key) <= {MAX_CUSTOM_KEY_LENGTH}"
            )));
        }
        if text.is_empty() || text.len() > MAX_CUSTOM_VALUE_LENGTH {
            let most = MAX_CUSTOM_VALUE_LENGTH;
            return Err(failed(format!("length of value for key {key:?} must be 0 < len(value) <= {most}")));
        }
        custom.insert(key.clone(), text.to_owned());
    }
    Ok(custom)
}
