//! The settings that are secret: in a file of their own, or in an environment variable.
//!
//! Deliberately absent: secrets in a configuration file or on the command line. The
//! one is committed and backed up, the other shown to every process by `ps`.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ::config::{Value, ValueKind};
use rota_core::value::{MAX_VALUE_BYTES, SecretValue};

use super::{FROM_ENVIRONMENT, variable};
use crate::exit::Failure;

/// A setting that is secret. `key` is also written `key_file`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SecretKey {
    DatabaseUrl,
    DatabasePassword,
    SlackWebhookUrl,
    SlackFallbackUrl,
    WebhookSecret,
    VaultToken,
    VaultSecretId,
}

impl SecretKey {
    pub(crate) const ALL: [Self; 7] = [
        Self::DatabaseUrl,
        Self::DatabasePassword,
        Self::SlackWebhookUrl,
        Self::SlackFallbackUrl,
        Self::WebhookSecret,
        Self::VaultToken,
        Self::VaultSecretId,
    ];

    /// The key of the value itself.
    pub(crate) fn inline(self) -> &'static str {
        match self {
            Self::DatabaseUrl => "database.url",
            Self::DatabasePassword => "database.password",
            Self::SlackWebhookUrl => "slack.webhook_url",
            Self::SlackFallbackUrl => "slack.fallback_url",
            Self::WebhookSecret => "webhook.secret",
            Self::VaultToken => "vault.token",
            Self::VaultSecretId => "vault.secret_id",
        }
    }

    /// The key of the file that holds it.
    pub(crate) fn file(self) -> String {
        format!("{}_file", self.inline())
    }
}

/// Where each secret setting is.
pub(super) struct Secrets(BTreeMap<SecretKey, Holder>);

enum Holder {
    Here(SecretValue),
    File(PathBuf),
}

impl Secrets {
    /// Takes the secret keys out of `tree`. `ranks` are the layers from weak to
    /// strong; of a value and a file the stronger layer's counts.
    pub(super) fn take(tree: &mut Value, ranks: &[String]) -> Result<Self, Failure> {
        let rank = |value: &Value| ranks.iter().position(|name| Some(name.as_str()) == value.origin());
        let mut held = BTreeMap::new();
        for key in SecretKey::ALL {
            let inline = remove(tree, key.inline());
            let file = remove(tree, &key.file());
            let holder = match (inline, file) {
                (None, None) => continue,
                (Some(value), None) => here(key, value)?,
                (None, Some(value)) => in_file(key, value)?,
                (Some(value), Some(file)) => match rank(&value).cmp(&rank(&file)) {
                    std::cmp::Ordering::Greater => here(key, value)?,
                    std::cmp::Ordering::Less => in_file(key, file)?,
                    std::cmp::Ordering::Equal => {
                        let message = format!("both `{}` and `{}` are set", key.inline(), key.file());
                        return Err(Failure::invalid(message).hint("keep one of them"));
                    }
                },
            };
            held.insert(key, holder);
        }
        Ok(Self(held))
    }

    pub(super) fn has(&self, key: SecretKey) -> bool {
        self.0.contains_key(&key)
    }

    pub(super) fn read(&self, key: SecretKey) -> Result<Option<SecretValue>, Failure> {
        match self.0.get(&key) {
            None => Ok(None),
            Some(Holder::Here(value)) => Ok(Some(value.duplicate())),
            Some(Holder::File(path)) => {
                read_file(path).map(Some).map_err(|failure| failure.while_doing(&format!("`{}`", key.file())))
            }
        }
    }
}

fn remove(tree: &mut Value, key: &str) -> Option<Value> {
    let (section, leaf) = key.split_once('.')?;
    let ValueKind::Table(root) = &mut tree.kind else { return None };
    let ValueKind::Table(table) = &mut root.get_mut(section)?.kind else { return None };
    table.remove(leaf)
}

fn here(key: SecretKey, value: Value) -> Result<Holder, Failure> {
    let name = key.inline();
    let from_environment = value.origin() == Some(FROM_ENVIRONMENT);
    let origin = value.origin().unwrap_or_default().to_owned();
    let ValueKind::String(text) = value.kind else {
        return Err(Failure::invalid(format!("`{name}` in {origin} is not a text")));
    };
    let harmless = key == SecretKey::DatabaseUrl && !has_password(&text);
    let value = SecretValue::new(text)
        .map_err(|error| Failure::invalid(format!("`{name}` in {origin} cannot be used: {error}")))?;
    if !from_environment && !harmless {
        let (file, own) = (variable(&key.file()), variable(name));
        return Err(Failure::invalid(format!("`{name}` holds a secret and stands in {origin}"))
            .hint(format!("name a file with `{}` or {file}, or set {own}", key.file())));
    }
    Ok(Holder::Here(value))
}

fn in_file(key: SecretKey, value: Value) -> Result<Holder, Failure> {
    match value.kind {
        ValueKind::String(path) if !path.is_empty() => Ok(Holder::File(PathBuf::from(path))),
        _ => Err(Failure::invalid(format!("`{}` is not a path", key.file()))),
    }
}

/// True where a connection URL holds a password, as user information or as a parameter.
fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    user.is_some_and(|user| user.contains(':')) || url.contains("password=")
}

/// Reads a secret from a file that nobody but its owner and group may read; one
/// newline at the end does not count.
///
/// # Errors
/// A file that others can read or that its group can write, that is too large, empty
/// or not text.
pub(crate) fn read_file(path: &Path) -> Result<SecretValue, Failure> {
    let shown = path.display();
    let refuse = |error: std::io::Error| Failure::invalid(format!("cannot read {shown}: {error}"));
    let mut file = std::fs::File::open(path).map_err(refuse)?;
    let metadata = file.metadata().map_err(refuse)?;
    let mode = metadata.permissions().mode();
    if mode & 0o027 != 0 {
        let message = format!("{shown} can be read or written by others (mode {:03o})", mode & 0o777);
        return Err(Failure::invalid(message).hint(format!("chmod 600 {shown}")));
    }
    let limit = u64::try_from(MAX_VALUE_BYTES).unwrap_or(u64::MAX);
    if metadata.len() > limit {
        return Err(Failure::invalid(format!("{shown} has more than {MAX_VALUE_BYTES} bytes")));
    }
    let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(MAX_VALUE_BYTES + 1));
    file.by_ref().take(limit + 1).read_to_end(&mut bytes).map_err(refuse)?;
    let text =
        std::str::from_utf8(&bytes).map_err(|_| Failure::invalid(format!("{shown} is not text in UTF-8")))?;
    let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
    SecretValue::new(text.to_owned())
        .map_err(|error| Failure::invalid(format!("{shown} cannot be used: {error}")))
}
