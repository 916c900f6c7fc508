//! A user name and a password: the parts of a login, and what consumers read that is
//! made of them.
//!
//! Deliberately absent: servers. What a password opens is known to the kind.

use std::collections::{BTreeMap, BTreeSet};

use rota_core::fault::Fault;
use rota_core::format::Template;
use rota_core::id::FieldName;
use rota_core::policy::kinds::{KindProblem, SecretView};
use rota_core::policy::model::SecretPolicy;
use rota_core::value::{Bundle, SecretValue};
use zeroize::Zeroizing;

/// What a template of a server's login may be filled with.
pub(crate) const PARTS: [&str; 5] = ["username", "password", "host", "port", "database"];

/// The parts that no rotation changes, by name.
pub(crate) type Constants = [(&'static str, String); 3];

/// Who logs in and with what.
pub(crate) struct Login {
    pub(crate) username: String,
    pub(crate) password: SecretValue,
}

impl Login {
    /// # Errors
    /// [`Fault::Invalid`] where a part is missing.
    pub(crate) fn of(parts: &Bundle) -> Result<Self, Fault> {
        let part = |name: &str| {
            let found = parts.iter().find(|(part, _)| part.as_str() == name).map(|(_, value)| value);
            found.ok_or_else(|| Fault::invalid(format!("the value has no {name}")))
        };
        Ok(Self { username: part("username")?.expose().to_owned(), password: part("password")?.duplicate() })
    }

    /// The administrator's login: a JSON document with `username` and `password`, or a
    /// URL such as `example`.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where it is neither.
    pub(crate) fn of_admin(stored: &SecretValue, example: &str) -> Result<Self, Fault> {
        #[derive(serde::Deserialize)]
        struct Document {
            username: String,
            password: Zeroizing<String>,
        }
        let unreadable = || {
            Fault::invalid(format!(
                "the administrator's login is neither JSON with `username` and `password` nor a URL such as \
                 {example}; correct what is stored at `admin`"
            ))
        };
        if let Ok(mut document) = serde_json::from_str::<Document>(stored.expose()) {
            let password =
                SecretValue::new(std::mem::take(&mut *document.password)).map_err(|_| unreadable())?;
            return Ok(Self { username: document.username, password });
        }
        let url: Template =
            "{scheme}://{username:url}:{password:url}@{rest}".parse().map_err(|_| unreadable())?;
        let mut parts = url.read(stored, &Default::default()).ok_or_else(unreadable)?;
        match (parts.remove("username"), parts.remove("password")) {
            (Some(username), Some(password)) => Ok(Self { username: username.expose().to_owned(), password }),
            _ => Err(unreadable()),
        }
    }
}

/// Every part of a value.
///
/// # Errors
/// [`Fault::Invalid`] where a part cannot be one.
pub(crate) fn bundle(constants: &[(&'static str, String)], login: &Login) -> Result<Bundle, Fault> {
    let mut parts = BTreeMap::new();
    for (name, text) in constants {
        parts.insert(field(name)?, value(text.clone())?);
    }
    parts.insert(field("username")?, value(login.username.clone())?);
    parts.insert(field("password")?, login.password.duplicate());
    Ok(Bundle::new(parts))
}

/// # Errors
/// [`Fault::Invalid`] where this is no name.
pub(crate) fn field(name: &str) -> Result<FieldName, Fault> {
    FieldName::new(name).map_err(|error| Fault::invalid(error.to_string()))
}

/// # Errors
/// [`Fault::Invalid`] where this can be no value.
pub(crate) fn value(text: String) -> Result<SecretValue, Fault> {
    SecretValue::new(text).map_err(|error| Fault::invalid(error.to_string()))
}

/// Takes apart what consumers read. A user name that no field holds is `usual`.
///
/// # Errors
/// [`Fault::Invalid`] where a field was not made from its template, or no password is there.
pub(crate) fn parts_of(
    fields: &Bundle,
    policy: &SecretPolicy,
    constants: &[(&'static str, String)],
    usual: Option<&str>,
) -> Result<Bundle, Fault> {
    let known = constants.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let mut found = read_fields(fields, policy, &known)?;
    let username = found.remove("username").map(|name| name.expose().to_owned());
    let username = username.or_else(|| usual.map(str::to_owned)).ok_or_else(|| {
        Fault::invalid("no published field holds the user name; add `{username}` to a template")
    })?;
    let password = found.remove("password").ok_or_else(|| {
        Fault::invalid("no published field holds the password; add `{password}` to a template")
    })?;
    bundle(constants, &Login { username, password })
}

/// The parts that stand in what consumers read, by name; those of `known` are checked.
///
/// # Errors
/// [`Fault::Invalid`] where a field was not made from its template, or two do not agree.
pub(crate) fn read_fields(
    fields: &Bundle,
    policy: &SecretPolicy,
    known: &BTreeMap<&str, &str>,
) -> Result<BTreeMap<String, SecretValue>, Fault> {
    let mut found: BTreeMap<String, SecretValue> = BTreeMap::new();
    for (name, text) in fields.iter() {
        let Some(template) = policy.fields.get(name).and_then(|field| field.template.as_ref()) else {
            continue;
        };
        let parts = template.read(text, known).ok_or_else(|| {
            Fault::invalid(format!(
                "what is published as `{name}` was not made from its template; write it in that form, \
                 or correct the template and the settings that it is filled with"
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
    Ok(found)
}

/// Everything that the templates of a secret are filled with.
pub(crate) fn holes_of<'s>(secret: &SecretView<'s>) -> BTreeSet<&'s str> {
    secret
        .fields
        .iter()
        .flat_map(|fields| fields.values())
        .filter_map(|field| field.template.as_ref())
        .flat_map(|template| template.holes())
        .collect()
}

/// A hole that no part fills.
pub(crate) fn unknown_hole(holes: &BTreeSet<&str>, parts: &[&str]) -> Option<KindProblem> {
    let unknown = holes.iter().find(|hole| !parts.contains(hole))?;
    let known: Vec<String> = parts.iter().map(|part| format!("`{{{part}}}`")).collect();
    let help = format!("write one of {}", known.join(", "));
    Some(KindProblem::error("fields", "", format!("nothing fills `{{{unknown}}}`"), help))
}

/// What consumers read is made of `parts`. `changing` where the user is another after each
/// rotation; `example` says what to add.
pub(crate) fn fields_problem(
    secret: &SecretView<'_>,
    parts: &[&str],
    changing: bool,
    example: &str,
) -> Option<KindProblem> {
    let problem = |message: String, help: &str| Some(KindProblem::error("fields", "", message, help));
    let holes = holes_of(secret);
    if let Some(unknown) = unknown_hole(&holes, parts) {
        return Some(unknown);
    }
    if !holes.contains("password") {
        return problem(format!("consumers of `{}` would read no password", secret.id), example);
    }
    if changing && !holes.contains("username") {
        let message = format!(
            "the user changes with each rotation, and consumers of `{}` would not read its name",
            secret.id
        );
        return problem(message, example);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_administrator_is_read_from_a_document_or_a_url() {
        let read =
            |text: &str| Login::of_admin(&value(text.to_owned()).unwrap(), "kind://user:password@host");
        for stored in [
            r#"{"engine":"postgres","username":"admin","password":"p@s/s","port":5432}"#,
            "postgresql://admin:p%40s%2Fs@db.internal:5432/postgres?sslmode=verify-full",
            "rediss://admin:p%40s%2Fs@cache/0",
        ] {
            let login = read(stored).unwrap();
            assert_eq!((login.username.as_str(), login.password.expose()), ("admin", "p@s/s"), "{stored}");
        }
        for stored in ["hunter2", r#"{"username":"admin"}"#, "postgresql://admin@db/x", "{}"] {
            let Err(fault) = read(stored) else { panic!("{stored} was taken") };
            assert!(matches!(fault, Fault::Invalid { .. }) && !fault.to_string().contains("hunter2"));
        }
    }
}
