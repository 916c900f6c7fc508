//! The calls to Secrets Manager, each with the outcomes that its page of the API
//! reference names. Nothing retries, and no text of the service gets into a message.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_secretsmanager::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_secretsmanager::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::types::{SecretVersionsListEntry, Tag};
use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::value::SecretValue;

use crate::aws;
use crate::http::http_date;

/// A version with its content.
pub(super) struct Version {
    pub(super) id: String,
    pub(super) labels: Vec<String>,
    pub(super) value: SecretValue,
}

/// Which version is read.
#[derive(Clone, Copy)]
pub(super) enum Which<'a> {
    Label(&'a str),
    Id(&'a str),
}

/// What a secret says about itself.
pub(super) struct Description {
    pub(super) arn: String,
    /// The labels of each version that has any.
    pub(super) labels: BTreeMap<String, Vec<String>>,
    pub(super) being_deleted: bool,
    pub(super) native_rotation: bool,
    pub(super) owned_by: Option<String>,
    pub(super) primary_region: Option<String>,
}

/// One version, without its content.
pub(super) struct Made {
    pub(super) at: Timestamp,
    pub(super) labels: Vec<String>,
}

impl Made {
    fn of(version: &SecretVersionsListEntry) -> Option<Self> {
        let at = Timestamp::from_second(version.created_date()?.secs()).ok()?;
        Some(Self { at, labels: version.version_stages().to_vec() })
    }
}

/// As many as AWS gives at once.
const PAGE: i32 = 100;

/// An answer that never ends must not hold a rotation for ever.
const MAX_PAGES: usize = 50;

/// What a new secret is made with.
pub(super) struct NewSecret<'a> {
    pub(super) name: &'a str,
    pub(super) about: &'a str,
    pub(super) value: &'a SecretValue,
    pub(super) token: &'a str,
    pub(super) kms_key: Option<&'a str>,
    pub(super) tags: &'a BTreeMap<String, String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Creation {
    Created,
    /// There is a secret of that name, and this call did not make it.
    Exists,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Put {
    /// The version is there with these labels; a repeat gives back none that it lost.
    Done {
        labels: Vec<String>,
    },
    /// The token was used for another content.
    OtherContent,
    NoSecret,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    Done,
    /// The label is not where it was said to be, or a version is gone.
    Refused,
}

pub(super) struct Api {
    client: Client,
}

impl Api {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Reads a version; `None` where there is no such secret or version.
    pub(super) async fn get(&self, name: &str, which: Which<'_>) -> Result<Option<Version>, Fault> {
        let call = self.client.get_secret_value().secret_id(name);
        let call = match which {
            Which::Label(label) => call.version_stage(label),
            Which::Id(id) => call.version_id(id),
        };
        let found = match call.send().await {
            Ok(found) => found,
            Err(error) if code(&error) == NOT_FOUND => return Ok(None),
            Err(error) => return Err(fault(name, &error)),
        };
        let (Some(id), Some(text)) = (found.version_id, found.secret_string) else {
            return Err(Fault::invalid(format!("{} holds bytes and not a text", shown(name))));
        };
        let value =
            SecretValue::new(text).map_err(|error| Fault::invalid(format!("{}: {error}", shown(name))))?;
        Ok(Some(Version { id, labels: found.version_stages.unwrap_or_default(), value }))
    }

    /// Describes a secret; `None` where there is none.
    pub(super) async fn describe(&self, name: &str) -> Result<Option<Description>, Fault> {
        let found = match self.client.describe_secret().secret_id(name).send().await {
            Ok(found) => found,
            Err(error) if code(&error) == NOT_FOUND => return Ok(None),
            Err(error) => return Err(fault(name, &error)),
        };
        Ok(Some(Description {
            arn: found.arn.unwrap_or_default(),
            labels: found.version_ids_to_stages.unwrap_or_default().into_iter().collect(),
            being_deleted: found.deleted_date.is_some(),
            native_rotation: found.rotation_enabled.unwrap_or(false),
            owned_by: found.owning_service,
            primary_region: found.primary_region,
        }))
    }

    /// When each version was made and under which labels it is, those without labels
    /// included. AWS answers with up to a hundred at a time, and drops none that is younger
    /// than a day, so a busy secret has several pages.
    pub(super) async fn versions(&self, name: &str) -> Result<Vec<Made>, Fault> {
        let call = self.client.list_secret_version_ids().secret_id(name).include_deprecated(true);
        let call = call.max_results(PAGE);
        let mut all = Vec::new();
        let mut next = None;
        for _ in 0..MAX_PAGES {
            let found = match call.clone().set_next_token(next.take()).send().await {
                Ok(found) => found,
                Err(error) if code(&error) == NOT_FOUND => return Ok(Vec::new()),
                Err(error) => return Err(fault(name, &error)),
            };
            all.extend(found.versions().iter().filter_map(Made::of));
            match found.next_token.filter(|token| !token.is_empty()) {
                Some(token) => next = Some(token),
                None => return Ok(all),
            }
        }
        Ok(all)
    }

    pub(super) async fn create(&self, new: &NewSecret<'_>) -> Result<Creation, Fault> {
        let NewSecret { name, about, value, token, kms_key, tags } = *new;
        let tags = tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build());
        let call = self
            .client
            .create_secret()
            .name(name)
            .description(about)
            .secret_string(value.expose())
            .client_request_token(token)
            .set_kms_key_id(kms_key.map(str::to_owned))
            .set_tags(Some(tags.collect()));
        match call.send().await {
            Ok(_) => Ok(Creation::Created),
            Err(error) if code(&error) == EXISTS => Ok(Creation::Exists),
            Err(error) => Err(fault(name, &error)),
        }
    }

    /// Adds a version with one label, which leaves the version that has it. The first
    /// version of a secret becomes the current one whatever its label.
    pub(super) async fn put(
        &self,
        name: &str,
        value: &SecretValue,
        token: &str,
        label: &str,
    ) -> Result<Put, Fault> {
        let call = self
            .client
            .put_secret_value()
            .secret_id(name)
            .secret_string(value.expose())
            .client_request_token(token)
            .version_stages(label);
        match call.send().await {
            Ok(done) => Ok(Put::Done { labels: done.version_stages.unwrap_or_default() }),
            Err(error) if code(&error) == EXISTS => Ok(Put::OtherContent),
            Err(error) if code(&error) == NOT_FOUND => Ok(Put::NoSecret),
            Err(error) => Err(fault(name, &error)),
        }
    }

    /// Moves a label, or takes it away where `to` is `None`.
    pub(super) async fn move_label(
        &self,
        name: &str,
        label: &str,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Move, Fault> {
        let call = self
            .client
            .update_secret_version_stage()
            .secret_id(name)
            .version_stage(label)
            .set_remove_from_version_id(from.map(str::to_owned))
            .set_move_to_version_id(to.map(str::to_owned));
        match call.send().await {
            Ok(_) => Ok(Move::Done),
            Err(error) if matches!(code(&error), NOT_FOUND | "InvalidParameterException") => {
                Ok(Move::Refused)
            }
            Err(error) => Err(fault(name, &error)),
        }
    }

    /// The service's clock, from the `Date` of its answer to a question about `name`;
    /// whether there is such a secret, and whether we may know, does not matter.
    pub(super) async fn date(&self, name: &str) -> Result<Timestamp, Fault> {
        let seen = DateSeen::default();
        let call = self.client.describe_secret().secret_id(name).customize().interceptor(seen.clone());
        let answered = call.send().await;
        match (seen.take(), answered) {
            (Some(date), _) => Ok(date),
            (None, Err(error)) => Err(fault(name, &error)),
            (None, Ok(_)) => Err(Fault::transient("AWS Secrets Manager answers without a date")),
        }
    }
}

const NOT_FOUND: &str = "ResourceNotFoundException";
const EXISTS: &str = "ResourceExistsException";

fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> &str {
    error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default()
}

fn shown(name: &str) -> String {
    format!("AWS secret `{name}`")
}

/// The errors that only this service has; the rest are every service's.
fn fault<E>(name: &str, error: &SdkError<E>) -> Fault
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let shown = shown(name);
    match code(error) {
        "InvalidRequestException" => Fault::invalid(format!(
            "{shown} cannot be used: it is marked for deletion or belongs to another service, restore it with \
             `aws secretsmanager restore-secret` or name another"
        )),
        "LimitExceededException" => Fault::invalid(format!(
            "{shown} has as many versions or staging labels as AWS allows, remove labels that nobody needs"
        )),
        "DecryptionFailure" | "EncryptionFailure" => Fault::denied(format!(
            "{shown}: its KMS key cannot be used, enable it and allow kms:Decrypt and kms:GenerateDataKey"
        )),
        "ResourceNotFoundException" => Fault::invalid(format!("{shown} or its KMS key does not exist")),
        _ => aws::fault(&shown, error),
    }
}

/// Remembers the `Date` of an answer.
#[derive(Debug, Clone, Default)]
struct DateSeen(Arc<Mutex<Option<Timestamp>>>);

impl DateSeen {
    fn take(&self) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Intercept for DateSeen {
    fn name(&self) -> &'static str {
        "DateSeen"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(http_date);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}
