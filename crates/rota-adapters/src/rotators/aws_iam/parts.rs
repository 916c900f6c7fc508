//! The parts of an access key, and what consumers read that is made of them.

use std::collections::BTreeMap;

use rota_core::fault::Fault;
use rota_core::policy::model::SecretPolicy;
use rota_core::value::{Bundle, SecretValue};

use super::smtp;
use crate::login::{field, read_fields, value};

pub(super) const ID: &str = "access_key_id";
pub(super) const SECRET: &str = "secret_access_key";
pub(super) const SMTP: &str = "smtp_password";

/// What a template may be filled with.
pub(super) const PARTS: [&str; 3] = [ID, SECRET, SMTP];

/// A key, as far as it is known: who reads only the derived password has no secret.
pub(super) struct AccessKey {
    pub(super) id: String,
    pub(super) secret: Option<SecretValue>,
}

impl AccessKey {
    /// # Errors
    /// [`Fault::Invalid`] where the id is missing.
    pub(super) fn of(parts: &Bundle) -> Result<Self, Fault> {
        let part = |name: &str| parts.iter().find(|(part, _)| part.as_str() == name).map(|(_, value)| value);
        let id = part(ID).ok_or_else(|| Fault::invalid("the value has no access_key_id"))?;
        Ok(Self { id: id.expose().to_owned(), secret: part(SECRET).map(SecretValue::duplicate) })
    }
}

/// Every part of a key that was made; the SMTP password of a region where one is named.
///
/// # Errors
/// [`Fault::Invalid`] where a part cannot be one.
pub(super) fn bundle(id: String, secret: SecretValue, smtp_region: Option<&str>) -> Result<Bundle, Fault> {
    let mut parts = BTreeMap::from([(field(ID)?, value(id)?)]);
    if let Some(region) = smtp_region {
        parts.insert(field(SMTP)?, smtp::password(&secret, region)?);
    }
    parts.insert(field(SECRET)?, secret);
    Ok(Bundle::new(parts))
}

/// Takes apart what consumers read.
///
/// # Errors
/// [`Fault::Invalid`] where a field was not made from its template, or no key is there.
pub(super) fn parts_of(
    fields: &Bundle,
    policy: &SecretPolicy,
    smtp_region: Option<&str>,
) -> Result<Bundle, Fault> {
    let mut found = read_fields(fields, policy, &BTreeMap::new())?;
    let id = found.remove(ID).ok_or_else(|| {
        Fault::invalid("no published field holds the key's id; add `{access_key_id}` to a template")
    })?;
    match (found.remove(SECRET), found.remove(SMTP)) {
        (Some(secret), _) => bundle(id.expose().to_owned(), secret, smtp_region),
        (None, Some(smtp)) => Ok(Bundle::new(BTreeMap::from([(field(ID)?, id), (field(SMTP)?, smtp)]))),
        (None, None) => Err(Fault::invalid(
            "no published field holds the secret key; add `{secret_access_key}` to a template",
        )),
    }
}
