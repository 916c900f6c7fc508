//! What a person hands in: one value, or one JSON object with a text for each field.
//!
//! Checked before it goes anywhere, whichever way it comes: a slot is written once, so
//! a slip of the clipboard in it could not be taken back. Deliberately absent: the
//! value in any message; even the unknown name of a field may be a pasted key.

use crate::format::FormatMismatch;
use crate::id::FieldName;
use crate::policy::model::SecretPolicy;
use crate::value::{Bundle, SecretValue};

/// Why a value that was handed in is not taken. Never holds any of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("hand in one JSON object with the texts {}", listed(.0))]
    NotAnObject(Vec<FieldName>),
    #[error("the field {0} is missing")]
    Missing(FieldName),
    #[error("there is a field that the secret does not have; its fields are {}", listed(.0))]
    NoSuchField(Vec<FieldName>),
    #[error("field `{field}`: {mismatch}")]
    Format { field: FieldName, mismatch: FormatMismatch },
}

fn listed(names: &[FieldName]) -> String {
    let names: Vec<&str> = names.iter().map(FieldName::as_str).collect();
    names.join(", ")
}

/// The fields of `text`, each in the format that the policy promises.
///
/// # Errors
/// What does not fit, without anything of the value.
pub fn read(secret: &SecretPolicy, text: &SecretValue) -> Result<Bundle, Unfit> {
    let names = || secret.fields.keys().cloned().collect();
    let fields = match secret.fields.keys().next() {
        Some(name) if secret.fields.len() == 1 => Bundle::single(name.clone(), text.duplicate()),
        _ => Bundle::from_slot_text(text).ok_or_else(|| Unfit::NotAnObject(names()))?,
    };
    if let Some(missing) = secret.fields.keys().find(|name| fields.get(name).is_none()) {
        return Err(Unfit::Missing(missing.clone()));
    }
    if fields.iter().count() != secret.fields.len() {
        return Err(Unfit::NoSuchField(names()));
    }
    check_formats(secret, &fields)?;
    Ok(fields)
}

/// Compares what is there with the formats that the policy promises.
///
/// # Errors
/// [`Unfit::Format`] for the first field of another form.
pub fn check_formats(secret: &SecretPolicy, fields: &Bundle) -> Result<(), Unfit> {
    for (name, field) in &secret.fields {
        let format = field.format.as_ref().or(secret.format.as_ref().filter(|_| field.template.is_none()));
        if let (Some(format), Some(value)) = (format, fields.get(name)) {
            format.check(value).map_err(|mismatch| Unfit::Format { field: name.clone(), mismatch })?;
        }
    }
    Ok(())
}
