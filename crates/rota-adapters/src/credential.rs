//! Credentials that settings refer to: a policy names where a key is kept, never
//! the key.
//!
//! Deliberately absent: files and environment variables. Whoever edits a policy may
//! name what the daemon's stores let it read, and nothing else of its machine.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::id::{FieldName, StoreId};
use rota_core::publication::Place;
use rota_core::value::SecretValue;
use serde::{Deserialize, Serialize};

/// Where a credential is kept: `store:path` or `store:path#field`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    pub store: StoreId,
    pub place: Place,
}

/// The text is not a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a credential is written as `store:path` or `store:path#field`, such as `aws:prod/acd/webhook-key`")]
pub struct InvalidReference;

impl TryFrom<String> for Reference {
    type Error = InvalidReference;

    fn try_from(text: String) -> Result<Self, InvalidReference> {
        let (store, rest) = text.split_once(':').ok_or(InvalidReference)?;
        let (path, field) = rest.split_once('#').map_or((rest, None), |(path, field)| (path, Some(field)));
        if path.is_empty() || path.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(InvalidReference);
        }
        let field = field.map(FieldName::new).transpose().map_err(|_| InvalidReference)?;
        let store = StoreId::new(store).map_err(|_| InvalidReference)?;
        Ok(Self { store, place: Place { path: path.to_owned(), field } })
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> Self {
        reference.to_string()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.store, self.place.path)?;
        match &self.place.field {
            Some(field) => write!(f, "#{field}"),
            None => Ok(()),
        }
    }
}

impl schemars::JsonSchema for Reference {
    fn schema_name() -> Cow<'static, str> {
        "Reference".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "Where a credential is kept: `store:path` or `store:path#field`.",
            "pattern": "^[A-Za-z0-9][A-Za-z0-9_./-]*:[^#\\s]+(#[A-Za-z0-9][A-Za-z0-9_./-]*)?$",
        })
    }
}

/// Reads credentials anew at each use, so that a rotated one is picked up.
#[async_trait]
pub trait Credentials: Send + Sync {
    /// # Errors
    /// [`Fault::Invalid`] where nothing is kept there; the store's own faults.
    async fn read(&self, reference: &Reference) -> Result<SecretValue, Fault>;
}

/// Where adapters find credentials once somebody is there who has them: stores are
/// adapters too, so the one that reads from them comes after the adapters.
#[derive(Clone, Default)]
pub struct CredentialSource {
    reader: Arc<OnceLock<Arc<dyn Credentials>>>,
}

impl CredentialSource {
    /// Says who reads; only the first call counts.
    pub fn connect(&self, reader: Arc<dyn Credentials>) {
        // A second reader would be a mistake of this program's start, not a fault.
        let _ = self.reader.set(reader);
    }
}

#[async_trait]
impl Credentials for CredentialSource {
    async fn read(&self, reference: &Reference) -> Result<SecretValue, Fault> {
        match self.reader.get() {
            Some(reader) => reader.read(reference).await,
            None => Err(Fault::transient("the stores are not connected yet")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_written_as_it_is_read() {
        for good in ["aws:prod/acd/key", "vault:acd/key#token", "env:/srv/app/.env#KEY"] {
            let reference = Reference::try_from(good.to_owned()).unwrap();
            assert_eq!(reference.to_string(), good);
        }
        for bad in ["", "aws", "aws:", ":path", "aws:a b", "aws:a#", "aws:a#b c", "a b:c", "aws:#x"] {
            assert!(Reference::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    struct Fixed;

    #[async_trait]
    impl Credentials for Fixed {
        async fn read(&self, _: &Reference) -> Result<SecretValue, Fault> {
            Ok(SecretValue::new("hunter2".to_owned()).unwrap())
        }
    }

    #[tokio::test]
    async fn a_reader_that_is_not_there_yet_is_waited_for() {
        let source = CredentialSource::default();
        let reference = Reference::try_from("aws:key".to_owned()).unwrap();
        assert!(matches!(source.clone().read(&reference).await, Err(Fault::Transient { .. })));
        source.clone().connect(Arc::new(Fixed));
        assert_eq!(source.read(&reference).await.unwrap().expose(), "hunter2");
    }
}
