//! The calls of the KV version 2 engine ("KV secrets engine - version 2 (API)").
//!
//! vaultrs's own endpoints for reading and writing go through `serde_json::Value`, which
//! rewrites other teams' numbers and leaves copies of values; these keep the text.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rota_core::fault::Fault;
use rota_core::id::VersionRef;
use rota_core::value::{SecretValue, push_json_string};
use rustify::endpoint::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError as RestError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use vaultrs::api::{exec_with_empty, exec_with_result};
use vaultrs::client::VaultClient;
use vaultrs::error::ClientError;
use zeroize::Zeroizing;

use crate::vault::{Call, Failure, VaultConnection};

/// The one field of a value that is not a document.
pub(super) const VALUE: &str = "value";

/// What stands at a path.
pub(super) enum Current {
    Absent,
    /// The version's data was deleted or destroyed; the next write names its number.
    Gone {
        number: u64,
        destroyed: bool,
    },
    Live(Live),
}

pub(super) struct Live {
    pub(super) number: u64,
    pub(super) version: VersionRef,
    pub(super) layout: Layout,
    pub(super) value: SecretValue,
}

/// How a text is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As the field `value`.
    Plain,
    /// As fields of its own.
    Fields,
}

/// One mount.
pub(super) struct Kv<'a> {
    pub(super) connection: &'a VaultConnection,
    pub(super) mount: &'a str,
}

/// What the engine promises for a mount or a path.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Limits {
    pub(super) max_versions: u64,
    pub(super) delete_version_after: String,
}

impl Kv<'_> {
    /// Reads the version that is current, or `number`.
    pub(super) async fn read(&self, path: &str, number: Option<u64>) -> Result<Current, Fault> {
        let query = number.map(|number| format!("version={number}"));
        let call = Request::get(self.path("data", path), query);
        match self.connection.call::<SecretData>(&Answered(call)).await {
            Ok(found) => Ok(Current::Live(live(found, path)?)),
            Err(Failure::Absent(None)) => Ok(Current::Absent),
            Err(Failure::Absent(Some(gone))) => {
                Ok(Current::Gone { number: gone.version, destroyed: gone.destroyed })
            }
            Err(failure) => Err(self.fault(failure, "data", path, "read")),
        }
    }

    /// Writes where `cas` is the current version, 0 for none; `None` where it is not.
    pub(super) async fn write(
        &self,
        path: &str,
        text: &SecretValue,
        layout: Layout,
        cas: u64,
    ) -> Result<Option<VersionRef>, Fault> {
        let mut body = Zeroizing::new(String::with_capacity(2 * text.byte_len() + 64));
        body.push_str(&format!("{{\"options\":{{\"cas\":{cas}}},\"data\":"));
        match layout {
            Layout::Fields => body.push_str(text.expose()),
            Layout::Plain => {
                body.push('{');
                push_json_string(&mut body, VALUE);
                body.push(':');
                push_json_string(&mut body, text.expose());
                body.push('}');
            }
        }
        body.push('}');
        let call = Request::<Metadata>::post(self.path("data", path), &body);
        match self.connection.call(&Answered(call)).await {
            Ok(written) => Ok(Some(written.version())),
            Err(Failure::OtherVersion) => Ok(None),
            Err(failure) => Err(self.fault(failure, "data", path, "create or update")),
        }
    }

    /// Removes the data of versions for good. Versions that are not there do not matter.
    pub(super) async fn destroy(&self, path: &str, numbers: &[u64]) -> Result<(), Fault> {
        let numbers = numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let body = Zeroizing::new(format!("{{\"versions\":[{numbers}]}}"));
        let call = Request::<()>::post(self.path("destroy", path), &body);
        match self.connection.call(&Unanswered(call)).await {
            Ok(()) => Ok(()),
            Err(failure) => Err(self.fault(failure, "destroy", path, "update")),
        }
    }

    /// The names in a folder, folders with a slash at their end. Nothing where there is no
    /// such folder, and where the login may not list.
    pub(super) async fn list(&self, folder: &str) -> Result<Vec<String>, Fault> {
        #[derive(Deserialize)]
        struct Names {
            keys: Vec<String>,
        }
        let call = Request::<Names>::list(self.path("metadata", folder));
        match self.connection.call(&Answered(call)).await {
            Ok(found) => Ok(found.keys),
            Err(Failure::Absent(_) | Failure::Refused) => Ok(Vec::new()),
            Err(failure) => Err(self.fault(failure, "metadata", folder, "list")),
        }
    }

    /// Fails unless a KV version 2 engine is mounted here and we may know it.
    pub(super) async fn check_mount(&self) -> Result<(), Fault> {
        #[derive(Deserialize)]
        struct Mount {
            #[serde(rename = "type")]
            engine: String,
            options: Option<BTreeMap<String, String>>,
        }
        let path = format!("sys/internal/ui/mounts/{}", self.mount);
        let found: Mount = match self.connection.call(&Answered(Request::get(path.clone(), None))).await {
            Ok(found) => found,
            Err(Failure::Refused) => {
                return Err(Fault::denied(format!(
                    "{} has no mount `{}`, or the login may do nothing in it, check `mount` and the login's policy",
                    self.connection.shown(),
                    self.mount
                )));
            }
            Err(failure) => return Err(failure.fault(self.connection.shown(), &path)),
        };
        let version = found.options.as_ref().and_then(|options| options.get("version"));
        if found.engine != "kv" || version.map(String::as_str) != Some("2") {
            return Err(Fault::invalid(format!(
                "`{}` of {} is not a KV version 2 engine, run `vault kv enable-versioning {}` or name another",
                self.mount,
                self.connection.shown(),
                self.mount
            )));
        }
        Ok(())
    }

    /// The limits of the mount and, where it exists, of the path.
    pub(super) async fn limits(&self, path: &str) -> Result<Vec<Limits>, Fault> {
        let mut limits = Vec::new();
        for (at, must) in [(format!("{}/config", self.mount), true), (self.path("metadata", path), false)] {
            match self.connection.call::<Limits>(&Answered(Request::get(at.clone(), None))).await {
                Ok(found) => limits.push(found),
                Err(Failure::Absent(_)) if !must => {}
                Err(failure) => {
                    return Err(failure.fault(self.connection.shown(), &format!("read on `{at}`")));
                }
            }
        }
        Ok(limits)
    }

    /// Fails with the first of `wanted` (a path below the mount and a capability) that
    /// the login lacks.
    pub(super) async fn check_capabilities(&self, wanted: &[(&str, &str, &str)]) -> Result<(), Fault> {
        let mut body = Zeroizing::new(String::from("{\"paths\":["));
        for (index, (kind, path, _)) in wanted.iter().enumerate() {
            if index > 0 {
                body.push(',');
            }
            push_json_string(&mut body, &self.path(kind, path));
        }
        body.push_str("]}");
        let call = Request::<BTreeMap<String, Vec<String>>>::post("sys/capabilities-self".to_owned(), &body);
        let found =
            self.connection.call(&Answered(call)).await.map_err(|failure| {
                failure.fault(self.connection.shown(), "update on `sys/capabilities-self`")
            })?;
        for (kind, path, right) in wanted {
            let path = self.path(kind, path);
            let has = |name: &str| found.get(&path).is_some_and(|has| has.iter().any(|one| one == name));
            if !has(right) && !has("root") {
                return Err(Fault::denied(format!(
                    "{} does not give the login `{right}` on `{path}`, add it as the page of this store shows",
                    self.connection.shown()
                )));
            }
        }
        Ok(())
    }

    fn path(&self, kind: &str, path: &str) -> String {
        format!("{}/{kind}/{path}", self.mount)
    }

    fn fault(&self, failure: Failure, kind: &str, path: &str, right: &str) -> Fault {
        failure.fault(self.connection.shown(), &format!("{right} on `{}`", self.path(kind, path)))
    }
}

fn live(found: SecretData, path: &str) -> Result<Live, Fault> {
    let invalid = |error: String| Fault::invalid(format!("`{path}` in Vault: {error}"));
    let (layout, text) = match plain(found.data.get()) {
        Some(text) => (Layout::Plain, text),
        None => (Layout::Fields, Zeroizing::new(found.data.get().to_owned())),
    };
    let value = SecretValue::new(text.as_str().to_owned()).map_err(|error| invalid(error.to_string()))?;
    Ok(Live { number: found.metadata.version, version: found.metadata.version(), layout, value })
}

/// The text of `{"value": "..."}`; `None` for any other data.
fn plain(data: &str) -> Option<Zeroizing<String>> {
    let mut fields: BTreeMap<String, &RawValue> = serde_json::from_str(data).ok()?;
    let value = fields.remove(VALUE).filter(|_| fields.is_empty())?;
    serde_json::from_str(value.get()).ok()
}

/// How a text that nobody has written here yet is kept.
///
/// # Errors
/// A document whose only field is `value` would be read back as that field.
pub(super) fn layout_of(text: &SecretValue) -> Result<Layout, Fault> {
    let is_object = text.expose().trim_start().starts_with('{')
        && serde_json::from_str::<BTreeMap<String, &RawValue>>(text.expose()).is_ok();
    match is_object {
        true if plain(text.expose()).is_some() => Err(Fault::invalid(
            "a document in Vault cannot have `value` as its only field, which is how single values are kept, rename it",
        )),
        true => Ok(Layout::Fields),
        false => Ok(Layout::Plain),
    }
}

/// What a read gives.
#[derive(Deserialize)]
struct SecretData {
    data: Box<RawValue>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    version: u64,
    created_time: String,
}

impl Metadata {
    /// With the time of its writing, since a path whose metadata was deleted counts
    /// from one again.
    fn version(&self) -> VersionRef {
        VersionRef(format!("{}@{}", self.version, self.created_time))
    }
}

/// A request whose body is text of ours.
struct Request<T> {
    method: RequestMethod,
    path: String,
    query: Option<String>,
    body: Option<Zeroizing<Vec<u8>>>,
    answer: std::marker::PhantomData<fn() -> T>,
}

impl<T> Request<T> {
    fn get(path: String, query: Option<String>) -> Self {
        Self { method: RequestMethod::GET, path, query, body: None, answer: std::marker::PhantomData }
    }

    fn list(path: String) -> Self {
        Self { method: RequestMethod::LIST, path, query: None, body: None, answer: std::marker::PhantomData }
    }

    fn post(path: String, body: &str) -> Self {
        let body = Some(Zeroizing::new(body.as_bytes().to_vec()));
        Self { method: RequestMethod::POST, path, query: None, body, answer: std::marker::PhantomData }
    }

    fn again(&self) -> Self {
        let Self { method, path, query, body, answer } = self;
        Self {
            method: method.clone(),
            path: path.clone(),
            query: query.clone(),
            body: body.clone(),
            answer: *answer,
        }
    }
}

impl<T: DeserializeOwned + Send + Sync> Endpoint for Request<T> {
    type Response = T;
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        self.method.clone()
    }

    fn query(&self) -> Result<Option<String>, RestError> {
        Ok(self.query.clone())
    }

    fn body(&self) -> Result<Option<Vec<u8>>, RestError> {
        Ok(self.body.as_ref().map(|body| body.to_vec()))
    }
}

/// A call that is answered with data.
struct Answered<T>(Request<T>);

/// A call that is answered with nothing.
struct Unanswered(Request<()>);

#[async_trait]
impl<T: DeserializeOwned + Send + Sync> Call for Answered<T> {
    type Answer = T;

    async fn make(&self, client: &VaultClient) -> Result<T, ClientError> {
        exec_with_result(client, self.0.again()).await
    }
}

#[async_trait]
impl Call for Unanswered {
    type Answer = ();

    async fn make(&self, client: &VaultClient) -> Result<(), ClientError> {
        exec_with_empty(client, self.0.again()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.to_owned()).unwrap()
    }

    #[test]
    fn documents_are_fields_and_everything_else_is_one_value() {
        for text in [r#"{"A":"1"}"#, r#" {"A":{"b":[1.50]},"value":"x"}"#, "{}"] {
            assert_eq!(layout_of(&value(text)), Ok(Layout::Fields), "{text}");
        }
        for text in ["plain", "{", "[1]", "null", "7", "\"x\"", "{not json}"] {
            assert_eq!(layout_of(&value(text)), Ok(Layout::Plain), "{text}");
        }
        assert!(matches!(layout_of(&value(r#"{"value":"x"}"#)), Err(Fault::Invalid { .. })));
        assert_eq!(layout_of(&value(r#"{"value":7}"#)), Ok(Layout::Fields));
    }

    #[test]
    fn what_others_wrote_is_read_to_the_letter() {
        let read = |data: &str| {
            let answer = format!(r#"{{"data":{data},"metadata":{{"version":3,"created_time":"t"}}}}"#);
            live(serde_json::from_str(&answer).unwrap(), "x").unwrap()
        };
        let found = read(r#"{"n": 1.50, "A":"old"}"#);
        assert_eq!((found.layout, found.value.expose()), (Layout::Fields, r#"{"n": 1.50, "A":"old"}"#));
        let found = read(r#"{"value":"a\nb"}"#);
        assert_eq!((found.layout, found.value.expose()), (Layout::Plain, "a\nb"));
        assert_eq!(found.version.0, "3@t");
    }
}
