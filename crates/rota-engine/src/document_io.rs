//! Fields of documents, with the core's errors as faults.

use std::collections::BTreeMap;

use rota_core::document::{self, DocumentFormat};
use rota_core::fault::Fault;
use rota_core::id::FieldName;
use rota_core::value::SecretValue;

/// One field of a document; `None` where it has none of that name.
pub(crate) fn get(
    text: &SecretValue,
    format: DocumentFormat,
    field: &FieldName,
) -> Result<Option<SecretValue>, Fault> {
    document::get(text, format, field.as_str()).map_err(|error| Fault::invalid(error.to_string()))
}

/// The document with our fields set and everything else as it stands.
pub(crate) fn merge(
    base: Option<&SecretValue>,
    format: DocumentFormat,
    fields: &BTreeMap<FieldName, &SecretValue>,
) -> Result<SecretValue, Fault> {
    let changes: Vec<(&str, Option<&SecretValue>)> =
        fields.iter().map(|(name, value)| (name.as_str(), Some(*value))).collect();
    document::merge(base, format, &changes).map_err(|error| Fault::invalid(error.to_string()))
}
