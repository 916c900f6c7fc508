//! The parts of a credential, and what consumers read that is made of them.

use std::collections::BTreeMap;

use rota_core::fault::Fault;
use rota_core::id::FieldName;
use rota_core::policy::model::SecretPolicy;
use rota_core::value::{Bundle, SecretValue};

use super::settings::PostgresSettings;

/// What a template may be filled with.
pub(super) const PARTS: [&str; 5] = ["username", "password", "host", "port", "database"];

/// Who logs in and with what.
pub(super) struct Login {
    pub(super) username: String,
    pub(super) password: SecretValue,
}

impl Login {
    /// # Errors
    /// [`Fault::Invalid`] where a part is missing.
    pub(super) fn of(parts: &Bundle) -> Result<Self, Fault> {
        let part = |name: &str| {
            let found = parts.iter().find(|(part, _)| part.as_str() == name).map(|(_, value)| value);
            found.ok_or_else(|| Fault::invalid(format!("the value has no {name}")))
        };
        Ok(Self { username: part("username")?.expose().to_owned(), password: part("password")?.duplicate() })
    }
}

/// Every part of a value.
///
/// # Errors
/// [`Fault::Invalid`] where a part cannot be one.
pub(super) fn bundle(settings: &PostgresSettings, login: &Login) -> Result<Bundle, Fault> {
    let mut parts = BTreeMap::new();
    for (name, text) in constants(settings) {
        parts.insert(field(name)?, value(text)?);
    }
    parts.insert(field("username")?, value(login.username.clone())?);
    parts.insert(field("password")?, login.password.duplicate());
    Ok(Bundle::new(parts))
}

/// The parts that no rotation changes.
fn constants(settings: &PostgresSettings) -> [(&'static str, String); 3] {
    [
        ("host", settings.host.clone()),
        ("port", settings.port().to_string()),
        ("database", settings.database.clone()),
    ]
}

fn field(name: &str) -> Result<FieldName, Fault> {
    FieldName::new(name).map_err(|error| Fault::invalid(error.to_string()))
}

fn value(text: String) -> Result<SecretValue, Fault> {
    SecretValue::new(text).map_err(|error| Fault::invalid(error.to_string()))
}

/// Takes apart what consumers read. A user name that no field holds is `usual`.
///
/// # Errors
/// [`Fault::Invalid`] where a field was not made from its template, or no password is there.
pub(super) fn parts_of(
    fields: &Bundle,
    policy: &SecretPolicy,
    settings: &PostgresSettings,
    usual: Option<&str>,
) -> Result<Bundle, Fault> {
    let constants = constants(settings);
    let known: BTreeMap<&str, &str> = constants.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let mut found: BTreeMap<String, SecretValue> = BTreeMap::new();
    for (name, text) in fields.iter() {
        let Some(template) = policy.fields.get(name).and_then(|field| field.template.as_ref()) else {
            continue;
        };
        let parts = template.read(text, &known).ok_or_else(|| {
            Fault::invalid(format!(
                "what is published as `{name}` was not made from its template; write it in that form, \
                 or correct the template, host, port and database"
            ))
        })?;
        for (part, text) in parts {
            if found.get(&part).is_some_and(|before| !before.same_as(&text)) {
                return Err(Fault::invalid(format!(
                    "the published fields do not agree on {part}; correct them"
                )));
            }
            found.insert(part, text);
        }
    }
    let username = found.remove("username").map(|name| name.expose().to_owned());
    let username = username.or_else(|| usual.map(str::to_owned)).ok_or_else(|| {
        Fault::invalid("no published field holds the user name; add `{username}` to a template")
    })?;
    let password = found.remove("password").ok_or_else(|| {
        Fault::invalid("no published field holds the password; add `{password}` to a template")
    })?;
    bundle(settings, &Login { username, password })
}
