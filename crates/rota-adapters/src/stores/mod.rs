//! The places where consumers read secrets.

pub mod aws_secrets_manager;
pub mod env_file;
pub mod vault_kv2;

use rota_core::document::{self, DocumentFormat};
use rota_core::fault::Fault;
use rota_core::policy::model::StorePolicy;
use rota_core::publication::Place;
use rota_core::value::SecretValue;
use serde::de::DeserializeOwned;

/// Reads a store's table.
fn read_settings<T: DeserializeOwned>(policy: &StorePolicy) -> Result<T, Fault> {
    serde_json::from_value(policy.settings.clone())
        .map_err(|error| Fault::invalid(format!("the settings of store `{}` do not fit: {error}", policy.id)))
}

/// What stands at `place` in `text`, the content of its path: a field, or everything
/// without the line end that a paste leaves behind. `None` where nothing was pasted.
fn part_of(place: &Place, format: DocumentFormat, text: &SecretValue) -> Result<Option<SecretValue>, Fault> {
    let Some(field) = &place.field else {
        let text = text.expose().trim_end_matches(['\r', '\n']);
        return Ok(SecretValue::new(text.to_owned()).ok());
    };
    let found = document::get(text, format, field.as_str())
        .map_err(|error| Fault::invalid(format!("`{}`: {error}", place.path)))?;
    match found {
        Some(value) => Ok(Some(value)),
        None => {
            Err(Fault::invalid(format!("`{}` has no field `{field}`, add it or name another", place.path)))
        }
    }
}
