//! The operations, each as its page of the API reference says.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::model::{CURRENT, Content, Secret};
use crate::aws_json::{ACCOUNT, AwsError, AwsResult, epoch, refuse};

type Fields = Map<String, Value>;

/// The length of a secret's value, in bytes.
const VALUE_LIMIT: usize = 65_536;

const NAME_LIMIT: usize = 512;
const LABELS_A_CALL: usize = 20;
const LABEL_LENGTH: usize = 256;
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// All secrets of an account and region, and what late readers still see.
#[derive(Debug)]
pub(super) struct Secrets {
    pub(super) region: String,
    pub(super) by_name: BTreeMap<String, Secret>,
    /// How many reads after a write still see what was there before it.
    pub(super) lag: u32,
    behind: BTreeMap<String, (Option<Secret>, u32)>,
}

impl Secrets {
    pub(super) fn new(region: &str) -> Self {
        Self { region: region.to_owned(), by_name: BTreeMap::new(), lag: 0, behind: BTreeMap::new() }
    }

    /// Carries out an operation.
    pub(super) fn call(&mut self, operation: &str, fields: &Fields, now: Timestamp) -> AwsResult {
        self.by_name.retain(|_, secret| secret.deletion.is_none_or(|at| now < at));
        match operation {
            "CreateSecret" => self.create(fields, now),
            "PutSecretValue" => self.put(fields, now),
            "GetSecretValue" => self.get(fields),
            "DescribeSecret" => Ok(self.seen(fields)?.show()),
            "ListSecretVersionIds" => self.list_versions(fields),
            "ListSecrets" => {
                let listed: Vec<Value> = self.by_name.values().map(Secret::show).collect();
                Ok(json!({"SecretList": listed}))
            }
            "UpdateSecretVersionStage" => self.move_label(fields, now),
            "DeleteSecret" => self.delete(fields, now),
            "RestoreSecret" => self.change(fields, |secret| {
                secret.deletion = None;
                Ok(json!({"ARN": secret.arn, "Name": secret.name}))
            }),
            "TagResource" => {
                let tags = tags(fields)?;
                self.change(fields, |secret| {
                    secret.tags.extend(tags);
                    Ok(json!({}))
                })
            }
            "UntagResource" => {
                let keys: Vec<&str> = fields
                    .get("TagKeys")
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .collect();
                self.change(fields, |secret| {
                    secret.tags.retain(|key, _| !keys.contains(&key.as_str()));
                    Ok(json!({}))
                })
            }
            _ => refuse("UnknownOperationException", "the operation is not known"),
        }
    }

    fn create(&mut self, fields: &Fields, now: Timestamp) -> AwsResult {
        let name = required(fields, "Name")?;
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
        if name.len() > NAME_LIMIT || !name.chars().all(is_allowed) {
            return refuse(
                "ValidationException",
                "Invalid name. Must be a valid name containing /_+=.@- only.",
            );
        }
        let content = content(fields)?;
        if let Some(existing) = self.by_name.get(name) {
            if existing.deletion.is_some() {
                let text = "You can't create this secret because a secret with this name is already scheduled for deletion.";
                return refuse("InvalidRequestException", text);
            }
            let token = text(fields, "ClientRequestToken").unwrap_or_default();
            let same = existing
                .versions
                .get(token)
                .is_some_and(|version| Some(&version.content) == content.as_ref());
            if !same {
                let text = format!("The operation failed because the secret {name} already exists.");
                return refuse("ResourceExistsException", text);
            }
            return Ok(json!({"ARN": existing.arn, "Name": name, "VersionId": token}));
        }
        let suffix: String = Uuid::new_v4().simple().to_string().chars().take(6).collect();
        let mut secret = Secret {
            arn: format!("arn:aws:secretsmanager:{}:{ACCOUNT}:secret:{name}-{suffix}", self.region),
            name: name.to_owned(),
            description: text(fields, "Description").map(ToOwned::to_owned),
            tags: tags(fields)?,
            created: now,
            changed: now,
            deletion: None,
            rotation: None,
            versions: BTreeMap::new(),
        };
        let mut shown = json!({"ARN": secret.arn, "Name": name});
        if let Some(content) = content {
            let token = token(fields)?;
            secret.put(token, content, &[CURRENT.to_owned()], now)?;
            shown["VersionId"] = token.into();
        }
        self.remember(name);
        self.by_name.insert(name.to_owned(), secret);
        Ok(shown)
    }

    fn put(&mut self, fields: &Fields, now: Timestamp) -> AwsResult {
        let token = token(fields)?;
        let content = content(fields)?;
        let content = content.ok_or_else(|| {
            AwsError::new("InvalidRequestException", "You must provide either SecretString or SecretBinary.")
        })?;
        let labels = labels(fields)?;
        self.change(fields, |secret| {
            usable(secret)?;
            secret.put(token, content, &labels, now)?;
            let labels = secret.versions.get(token).map(|version| &version.labels);
            Ok(json!({"ARN": secret.arn, "Name": secret.name, "VersionId": token, "VersionStages": labels}))
        })
    }

    fn get(&mut self, fields: &Fields) -> AwsResult {
        let secret = self.seen(fields)?;
        usable(&secret)?;
        let (id, label) = (text(fields, "VersionId"), text(fields, "VersionStage"));
        let missing = |what: String| {
            let text = format!("Secrets Manager can't find the specified secret value for {what}");
            AwsError::new("ResourceNotFoundException", text)
        };
        let label = label.or(if id.is_none() { Some(CURRENT) } else { None });
        let found = match (id, label) {
            (Some(id), _) => Some(id),
            (None, Some(label)) => secret.holder(label),
            (None, None) => None,
        };
        let by_label = || missing(format!("staging label: {}", label.unwrap_or_default()));
        let id = found.ok_or_else(by_label)?;
        let version = secret.versions.get(id).ok_or_else(|| missing(format!("VersionId: {id}")))?;
        if let Some(label) = label.filter(|label| !version.labels.contains(*label)) {
            let text = format!(
                "You provided a VersionStage that is not associated to the provided VersionId: {label}."
            );
            return refuse("InvalidRequestException", text);
        }
        Ok(secret.show_value(id, version))
    }

    fn list_versions(&mut self, fields: &Fields) -> AwsResult {
        let secret = self.seen(fields)?;
        let deprecated_too = fields.get("IncludeDeprecated").and_then(Value::as_bool).unwrap_or(false);
        let most = fields.get("MaxResults").and_then(Value::as_u64).unwrap_or(100);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let from: usize = text(fields, "NextToken").and_then(|token| token.parse().ok()).unwrap_or(0);
        let shown: Vec<Value> = secret
            .versions
            .iter()
            .filter(|(_, version)| deprecated_too || !version.labels.is_empty())
            .map(|(id, version)| {
                json!({"VersionId": id, "VersionStages": version.labels, "CreatedDate": epoch(version.created)})
            })
            .collect();
        let page: Vec<&Value> = shown.iter().skip(from).take(most).collect();
        let mut answer = json!({"ARN": secret.arn, "Name": secret.name, "Versions": page});
        if from + page.len() < shown.len() {
            answer["NextToken"] = (from + most).to_string().into();
        }
        Ok(answer)
    }

    fn move_label(&mut self, fields: &Fields, now: Timestamp) -> AwsResult {
        let label = required(fields, "VersionStage")?;
        let (from, to) = (text(fields, "RemoveFromVersionId"), text(fields, "MoveToVersionId"));
        self.change(fields, |secret| {
            usable(secret)?;
            secret.move_label(label, from, to, now)?;
            Ok(json!({"ARN": secret.arn, "Name": secret.name}))
        })
    }

    fn delete(&mut self, fields: &Fields, now: Timestamp) -> AwsResult {
        let forced = fields.get("ForceDeleteWithoutRecovery").and_then(Value::as_bool).unwrap_or(false);
        let days = fields.get("RecoveryWindowInDays").and_then(Value::as_i64);
        if forced && days.is_some() {
            let text = "You can't use ForceDeleteWithoutRecovery in conjunction with RecoveryWindowInDays.";
            return refuse("InvalidParameterException", text);
        }
        let days = days.unwrap_or(30);
        if !(7..=30).contains(&days) {
            return refuse(
                "InvalidParameterException",
                "RecoveryWindowInDays must be between 7 and 30 days.",
            );
        }
        let at = if forced { now } else { now + DAY * i32::try_from(days).unwrap_or(30) };
        self.change(fields, |secret| {
            usable(secret)?;
            secret.deletion = Some(at);
            Ok(json!({"ARN": secret.arn, "Name": secret.name, "DeletionDate": epoch(at)}))
        })
    }

    fn change(&mut self, fields: &Fields, change: impl FnOnce(&mut Secret) -> AwsResult) -> AwsResult {
        let name = self.name_of(required(fields, "SecretId")?)?;
        let mut secret = self.by_name.get(&name).cloned().ok_or_else(not_found)?;
        let answer = change(&mut secret)?;
        self.remember(&name);
        self.by_name.insert(name, secret);
        Ok(answer)
    }

    /// What a read sees: for a while after a write, what was there before it.
    fn seen(&mut self, fields: &Fields) -> Result<Secret, AwsError> {
        let name = self.name_of(required(fields, "SecretId")?)?;
        if let Some((before, left)) = self.behind.get_mut(&name).filter(|(_, left)| *left > 0) {
            *left -= 1;
            return before.clone().ok_or_else(not_found);
        }
        self.by_name.get(&name).cloned().ok_or_else(not_found)
    }

    fn remember(&mut self, name: &str) {
        if self.lag > 0 {
            self.behind.insert(name.to_owned(), (self.by_name.get(name).cloned(), self.lag));
        }
    }

    /// The name that a name, an ARN or an ARN without its suffix means.
    fn name_of(&self, id: &str) -> Result<String, AwsError> {
        if self.by_name.contains_key(id) {
            return Ok(id.to_owned());
        }
        let is_meant = |secret: &&Secret| {
            let partial = secret.arn.rsplit_once('-').map(|(start, _)| start);
            secret.arn == id || partial == Some(id)
        };
        self.by_name.values().find(is_meant).map(|secret| secret.name.clone()).ok_or_else(not_found)
    }
}

fn not_found() -> AwsError {
    AwsError::new("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

fn usable(secret: &Secret) -> Result<(), AwsError> {
    if secret.deletion.is_some() {
        let text = "You can't perform this operation on the secret because it was marked for deletion.";
        return refuse("InvalidRequestException", text);
    }
    Ok(())
}

fn text<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(Value::as_str)
}

fn required<'a>(fields: &'a Fields, name: &str) -> Result<&'a str, AwsError> {
    let missing =
        || AwsError::new("ValidationException", format!("1 validation error detected: '{name}' is missing"));
    text(fields, name).filter(|text| !text.is_empty()).ok_or_else(missing)
}

/// The client's request token, which becomes the version's id.
fn token(fields: &Fields) -> Result<&str, AwsError> {
    let token = text(fields, "ClientRequestToken").unwrap_or_default();
    if (32..=64).contains(&token.len()) {
        return Ok(token);
    }
    refuse("InvalidParameterException", "ClientRequestToken must have 32 to 64 characters.")
}

fn content(fields: &Fields) -> Result<Option<Content>, AwsError> {
    let (content, length) = match (text(fields, "SecretString"), text(fields, "SecretBinary")) {
        (Some(_), Some(_)) => {
            let text =
                "You can't specify both a binary secret value and a string secret value in the same secret.";
            return refuse("InvalidParameterException", text);
        }
        (None, None) => return Ok(None),
        (Some(text), None) => (Content::Text(text.to_owned()), text.len()),
        (None, Some(base64)) => {
            let Ok(bytes) = BASE64_STANDARD.decode(base64) else {
                return refuse("SerializationException", "SecretBinary is not base64");
            };
            (Content::Binary(base64.to_owned()), bytes.len())
        }
    };
    if length == 0 || length > VALUE_LIMIT {
        return refuse(
            "ValidationException",
            format!("a value has 1 to {VALUE_LIMIT} bytes, this one has {length}"),
        );
    }
    Ok(Some(content))
}

fn labels(fields: &Fields) -> Result<Vec<String>, AwsError> {
    let Some(list) = fields.get("VersionStages") else { return Ok(vec![CURRENT.to_owned()]) };
    let labels: Vec<String> =
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(ToOwned::to_owned).collect();
    let fits = |label: &String| (1..=LABEL_LENGTH).contains(&label.chars().count());
    if labels.is_empty() || labels.len() > LABELS_A_CALL || !labels.iter().all(fits) {
        let text = format!("VersionStages has 1 to {LABELS_A_CALL} labels of 1 to {LABEL_LENGTH} characters");
        return refuse("ValidationException", text);
    }
    Ok(labels)
}

fn tags(fields: &Fields) -> Result<BTreeMap<String, String>, AwsError> {
    let mut tags = BTreeMap::new();
    for tag in fields.get("Tags").and_then(Value::as_array).into_iter().flatten() {
        let (Some(key), Some(value)) = (tag["Key"].as_str(), tag["Value"].as_str()) else {
            return refuse("InvalidParameterException", "a tag has a Key and a Value");
        };
        tags.insert(key.to_owned(), value.to_owned());
    }
    Ok(tags)
}
