//! The daemon's configuration: layers, and where each value came from.
//!
//! From weak to strong: built-in defaults (`config/default.toml` as it was at the
//! build), `default.toml` and `{environment}.toml` of the configuration folder,
//! `ROTA__SECTION__KEY`, flags. Deliberately absent: the policy, which is another
//! file with rules of its own.

mod model;
mod secrets;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ::config::{Config, ConfigError, Map, Source, Value, ValueKind};
use rota_adapters::vault::ReadSecret;
use rota_core::fault::Fault;
use rota_core::value::SecretValue;

use crate::exit::Failure;
pub(crate) use model::{BackendLimit, Limits, Settings, VaultAuth, VaultSecrets};
pub(crate) use secrets::SecretKey;
use secrets::Secrets;

/// What every value is where nothing else says so.
pub(crate) const BUILT_IN: &str = include_str!("../../../../config/default.toml");

/// The names of the layers that are not files, as shown to people.
const FROM_BUILT_IN: &str = "built-in default";
const FROM_ENVIRONMENT: &str = "the environment";
const FROM_FLAGS: &str = "--set";

/// The prefix of environment variables, and what separates their parts.
const PREFIX: &str = "ROTA";
const SEPARATOR: &str = "__";

/// Far more than any configuration; bounds what is read from a wrong path.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Where to look for the layers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places {
    /// A folder with `default.toml` and `{environment}.toml`. Both must exist where named by hand.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) environment: Option<String>,
    /// `section.key=value`.
    pub(crate) flags: Vec<(String, String)>,
}

/// The folder that is read where none is named and it exists.
const DEFAULT_FOLDER: &str = "config";

/// All settings, with what is needed to explain them.
pub(crate) struct Configuration {
    pub(crate) settings: Settings,
    secrets: Arc<Secrets>,
    entries: Vec<Entry>,
    /// The files that were read, in order.
    pub(crate) files: Vec<PathBuf>,
}

/// One value, for people.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Entry {
    pub(crate) key: String,
    /// The value; never a secret one.
    pub(crate) value: String,
    pub(crate) source: String,
}

impl Configuration {
    /// Reads every layer. `variables` is the process's environment.
    ///
    /// # Errors
    /// The first thing that is wrong, with where it stands and what to write instead.
    pub(crate) fn load(
        places: &Places,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, Failure> {
        let mut files = Vec::new();
        let mut layers = vec![Layer::from_toml(FROM_BUILT_IN, BUILT_IN)?];
        for path in layer_files(places)? {
            layers.push(Layer::from_toml(&path.display().to_string(), &read(&path)?)?);
            files.push(path);
        }
        layers.push(Layer::from_variables(variables)?);
        layers.push(Layer::from_flags(&places.flags));
        let ranks: Vec<String> = layers.iter().map(|layer| layer.origin.clone()).collect();
        let merged = layers
            .into_iter()
            .fold(Config::builder(), |builder, layer| builder.add_source(layer))
            .build()
            .map_err(|error| refuse(error, &[]))?;
        let mut tree = merged.cache;
        let mut entries = Vec::new();
        flatten("", &tree, &mut entries);
        let secrets = Arc::new(Secrets::take(&mut tree, &ranks)?);
        let mut settings: Settings = tree.try_deserialize().map_err(|error| refuse(error, &entries))?;
        settings.check()?;
        settings.vault.secrets = VaultSecrets {
            token: Some(reader(&secrets, SecretKey::VaultToken)),
            secret_id: Some(reader(&secrets, SecretKey::VaultSecretId)),
        };
        for entry in &mut entries {
            if SecretKey::ALL.iter().any(|key| key.inline() == entry.key) {
                "(set, not shown)".clone_into(&mut entry.value);
            }
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(Self { settings, secrets, entries, files })
    }

    /// Every value that is set, by key, with its source; secret ones are not shown.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// A secret setting, read now; a file is read anew at each call.
    ///
    /// # Errors
    /// A file that cannot be read, is empty, or that others may read.
    pub(crate) fn secret(&self, key: SecretKey) -> Result<Option<SecretValue>, Failure> {
        self.secrets.read(key)
    }

    /// True where a secret setting is set, readable or not.
    pub(crate) fn has(&self, key: SecretKey) -> bool {
        self.secrets.has(key)
    }

    /// A secret setting that has to be there.
    ///
    /// # Errors
    /// As [`Configuration::secret`], and where it is not set.
    pub(crate) fn required_secret(&self, key: SecretKey) -> Result<SecretValue, Failure> {
        self.secret(key)?.ok_or_else(|| {
            Failure::invalid(format!("`{}` is not set", key.inline())).hint(format!(
                "set {} or {}",
                variable(&key.file()),
                variable(key.inline())
            ))
        })
    }
}

/// Reads a secret setting again and again, for logins that outlive a file's content.
fn reader(secrets: &Arc<Secrets>, key: SecretKey) -> ReadSecret {
    let secrets = Arc::clone(secrets);
    Arc::new(move || {
        let found = secrets.read(key).map_err(|failure| Fault::denied(failure.message))?;
        found.ok_or_else(|| Fault::invalid(format!("`{}` is not set", key.file())))
    })
}

/// The environment variable of a key.
pub(crate) fn variable(key: &str) -> String {
    format!("{PREFIX}{SEPARATOR}{}", key.replace('.', SEPARATOR).to_uppercase())
}

/// The files of the configuration folder that have to be read.
fn layer_files(places: &Places) -> Result<Vec<PathBuf>, Failure> {
    let folder = places.folder.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FOLDER));
    if !folder.is_dir() {
        return match (&places.folder, &places.environment) {
            (None, None) => Ok(Vec::new()),
            _ => Err(Failure::invalid(format!("there is no configuration folder at {}", folder.display()))
                .hint("name the right one with --config-dir, or leave --config-dir and --environment out")),
        };
    }
    let mut files = Vec::new();
    let general = folder.join("default.toml");
    if general.is_file() {
        files.push(general);
    }
    if let Some(environment) = &places.environment {
        if !environment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')) {
            return Err(Failure::invalid(format!("`{environment}` is not an environment's name"))
                .hint("use letters, digits, `-` and `_`"));
        }
        let own = folder.join(format!("{environment}.toml"));
        if !own.is_file() {
            return Err(Failure::invalid(format!("the environment {environment} has no {}", own.display()))
                .hint("create it (it may be empty), or correct --environment"));
        }
        files.push(own);
    }
    Ok(files)
}

/// Reads certificates, which are no secret.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn read_pem(path: &Path) -> Result<String, Failure> {
    read(path)
}

fn read(path: &Path) -> Result<String, Failure> {
    let refuse = |why: String| Failure::invalid(format!("cannot read {}: {why}", path.display()));
    let size = std::fs::metadata(path).map_err(|error| refuse(error.to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(refuse(format!("{size} bytes, over the limit of {MAX_FILE_BYTES}")));
    }
    std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))
}

/// One source of settings; every value remembers its name.
#[derive(Debug, Clone)]
struct Layer {
    origin: String,
    values: Map<String, Value>,
}

impl Layer {
    fn from_toml(origin: &str, text: &str) -> Result<Self, Failure> {
        let table: toml::Table = toml::from_str(text).map_err(|error| {
            // Not the error's own text: it quotes the line, which may hold a value.
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            Failure::invalid(format!("{origin}:{line}:{column}: {}", error.message()))
        })?;
        let origin = origin.to_owned();
        let values = table.into_iter().map(|(key, value)| (key, layered(value, &origin))).collect();
        Ok(Self { origin, values })
    }

    fn from_variables(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, Failure> {
        let prefix = format!("{PREFIX}{SEPARATOR}");
        let mut texts = Map::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(&prefix)) else { continue };
            let value = value
                .into_string()
                .map_err(|_| Failure::invalid(format!("the environment variable {name} is not UTF-8")))?;
            texts.insert(name.to_owned(), value);
        }
        let values = ::config::Environment::with_prefix(PREFIX)
            .prefix_separator(SEPARATOR)
            .separator(SEPARATOR)
            .ignore_empty(true)
            .source(Some(texts))
            .collect()
            .map_err(|error| refuse(error, &[]))?;
        Ok(Self { origin: FROM_ENVIRONMENT.to_owned(), values })
    }

    fn from_flags(flags: &[(String, String)]) -> Self {
        let origin = FROM_FLAGS.to_owned();
        let value = |text: &str| Value::new(Some(&origin), ValueKind::String(text.to_owned()));
        let values = flags.iter().map(|(key, text)| (key.clone(), value(text))).collect();
        Self { origin, values }
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.values.clone())
    }
}

fn layered(value: toml::Value, origin: &String) -> Value {
    let kind = match value {
        toml::Value::String(text) => ValueKind::String(text),
        toml::Value::Integer(number) => ValueKind::I64(number),
        toml::Value::Float(number) => ValueKind::Float(number),
        toml::Value::Boolean(truth) => ValueKind::Boolean(truth),
        toml::Value::Datetime(moment) => ValueKind::String(moment.to_string()),
        toml::Value::Array(values) => {
            ValueKind::Array(values.into_iter().map(|value| layered(value, origin)).collect())
        }
        toml::Value::Table(table) => {
            ValueKind::Table(table.into_iter().map(|(key, value)| (key, layered(value, origin))).collect())
        }
    };
    Value::new(Some(origin), kind)
}

/// Line and column of a byte, from one.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// Every leaf with its full key.
fn flatten(prefix: &str, value: &Value, into: &mut Vec<Entry>) {
    if let ValueKind::Table(table) = &value.kind {
        for (key, value) in table {
            let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            flatten(&key, value, into);
        }
        return;
    }
    let source = match value.origin() {
        Some(FROM_ENVIRONMENT) => variable(prefix),
        Some(origin) => origin.to_owned(),
        None => FROM_BUILT_IN.to_owned(),
    };
    into.push(Entry { key: prefix.to_owned(), value: value.to_string(), source });
}

/// A mistake in what the layers say, with the layer that says it. The secret keys
/// were taken out before, so nothing secret can be quoted.
fn refuse(error: ConfigError, entries: &[Entry]) -> Failure {
    let (key, message) = match error {
        ConfigError::NotFound(key) => (Some(key), "not set".to_owned()),
        ConfigError::Type { unexpected, expected, key, .. } => {
            (key, format!("invalid type: {unexpected}, expected {expected}"))
        }
        ConfigError::At { error, key, .. } => (key, error.to_string()),
        other => (None, other.to_string()),
    };
    // An unknown field's error names the table that it stands in.
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    let key = match (key, unknown) {
        (Some(table), Some(field)) => Some(format!("{table}.{field}")),
        (None, Some(field)) => Some(field.to_owned()),
        (key, None) => key,
    };
    let Some(key) = key else { return Failure::invalid(message) };
    let inside = format!("{key}.");
    let source = entries
        .iter()
        .find(|entry| entry.key == key || entry.key.starts_with(&inside))
        .map(|entry| format!(" (from {})", entry.source))
        .unwrap_or_default();
    Failure::invalid(format!("`{key}`{source}: {message}"))
        .hint("config/default.toml explains every setting; `rota config show` lists where each comes from")
}
