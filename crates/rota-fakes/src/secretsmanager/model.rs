//! Secrets, their versions and the labels on them, with the documented limits.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::aws_json::{AwsError, epoch, refuse};

pub(super) const CURRENT: &str = "AWSCURRENT";
pub(super) const PREVIOUS: &str = "AWSPREVIOUS";

/// "Staging labels attached across all versions of a secret" in the quotas.
const LABEL_QUOTA: usize = 20;

/// "Versions per secret" in the quotas.
const VERSION_QUOTA: usize = 100;

/// Unlabelled versions younger than this are not removed to make room.
const PRUNABLE_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// A secret.
#[derive(Clone, Debug)]
pub(super) struct Secret {
    pub(super) arn: String,
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) created: Timestamp,
    pub(super) changed: Timestamp,
    /// When it will be gone.
    pub(super) deletion: Option<Timestamp>,
    /// The function of native rotation.
    pub(super) rotation: Option<String>,
    pub(super) versions: BTreeMap<String, Version>,
}

/// A version; one without labels is deprecated.
#[derive(Clone, Debug)]
pub(super) struct Version {
    pub(super) content: Content,
    pub(super) created: Timestamp,
    pub(super) labels: BTreeSet<String>,
}

/// A value, as text or as bytes in base64.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    Binary(String),
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Content(..)")
    }
}

impl Secret {
    /// The version that a label is on.
    pub(super) fn holder(&self, label: &str) -> Option<&str> {
        self.versions.iter().find(|(_, version)| version.labels.contains(label)).map(|(id, _)| id.as_str())
    }

    /// Adds a version with labels, or recognises one that exists.
    pub(super) fn put(
        &mut self,
        id: &str,
        content: Content,
        labels: &[String],
        now: Timestamp,
    ) -> Result<(), AwsError> {
        if let Some(existing) = self.versions.get(id) {
            if existing.content == content {
                // Ignored as a whole: labels that it lost meanwhile stay lost.
                return Ok(());
            }
            return refuse("ResourceExistsException", "A resource with the ID you requested already exists.");
        }
        let is_first = self.versions.is_empty();
        self.make_room(now)?;
        let mut changed = self.clone();
        changed.versions.insert(id.to_owned(), Version { content, created: now, labels: BTreeSet::new() });
        for label in labels {
            changed.attach(label, id);
        }
        if is_first {
            // Documented of PutSecretValue: the first version always becomes current.
            changed.attach(CURRENT, id);
        }
        changed.check_labels()?;
        changed.changed = now;
        *self = changed;
        Ok(())
    }

    /// Moves, adds or removes a label.
    pub(super) fn move_label(
        &mut self,
        label: &str,
        from: Option<&str>,
        to: Option<&str>,
        now: Timestamp,
    ) -> Result<(), AwsError> {
        if let Some(missing) = [from, to].into_iter().flatten().find(|id| !self.versions.contains_key(*id)) {
            let text = format!("Secrets Manager can't find the specified secret version: {missing}.");
            return refuse("ResourceNotFoundException", text);
        }
        let holder = self.holder(label).map(ToOwned::to_owned);
        match (holder.as_deref(), from, to) {
            (_, None, None) => {
                return refuse(
                    "InvalidParameterException",
                    "Specify RemoveFromVersionId or MoveToVersionId.",
                );
            }
            (Some(holder), None, Some(to)) if holder != to => {
                let text = format!(
                    "The parameter RemoveFromVersionId can't be empty. Staging label {label} is currently attached \
                     to version {holder}, so you must explicitly reference that version in RemoveFromVersionId."
                );
                return refuse("InvalidParameterException", text);
            }
            (holder, Some(from), _) if holder != Some(from) => {
                let text = format!(
                    "The staging label {label} is not attached to the version in RemoveFromVersionId."
                );
                return refuse("InvalidParameterException", text);
            }
            (Some(_), Some(_), None) if label == CURRENT => {
                let text =
                    "You can't remove the staging label AWSCURRENT without moving it to another version.";
                return refuse("InvalidParameterException", text);
            }
            _ => {}
        }
        let mut changed = self.clone();
        match to {
            Some(to) => changed.attach(label, to),
            None => changed.detach(label),
        }
        changed.check_labels()?;
        changed.changed = now;
        *self = changed;
        Ok(())
    }

    /// Removes versions without labels; all of them, or those that are in the way.
    pub(super) fn prune(&mut self) -> usize {
        let before = self.versions.len();
        self.versions.retain(|_, version| !version.labels.is_empty());
        before - self.versions.len()
    }

    fn attach(&mut self, label: &str, id: &str) {
        let holder = self.holder(label).map(ToOwned::to_owned);
        if holder.as_deref() == Some(id) {
            return;
        }
        self.detach(label);
        if let Some(version) = self.versions.get_mut(id) {
            version.labels.insert(label.to_owned());
        }
        if let Some(holder) = holder.filter(|_| label == CURRENT) {
            self.attach(PREVIOUS, &holder);
        }
    }

    fn detach(&mut self, label: &str) {
        for version in self.versions.values_mut() {
            version.labels.remove(label);
        }
    }

    fn check_labels(&self) -> Result<(), AwsError> {
        let count: usize = self.versions.values().map(|version| version.labels.len()).sum();
        if count > LABEL_QUOTA {
            return refuse(
                "LimitExceededException",
                "You have reached the quota of staging labels of a secret.",
            );
        }
        Ok(())
    }

    fn make_room(&mut self, now: Timestamp) -> Result<(), AwsError> {
        if self.versions.len() < VERSION_QUOTA {
            return Ok(());
        }
        let is_prunable = |version: &Version| {
            version.labels.is_empty() && now.duration_since(version.created) > PRUNABLE_AFTER
        };
        self.versions.retain(|_, version| !is_prunable(version));
        if self.versions.len() < VERSION_QUOTA {
            return Ok(());
        }
        refuse("LimitExceededException", "You have reached the quota of versions of a secret.")
    }

    pub(super) fn show_value(&self, id: &str, version: &Version) -> Value {
        let mut shown = json!({
            "ARN": self.arn,
            "Name": self.name,
            "VersionId": id,
            "VersionStages": version.labels,
            "CreatedDate": epoch(version.created),
        });
        let (key, text) = match &version.content {
            Content::Text(text) => ("SecretString", text),
            Content::Binary(base64) => ("SecretBinary", base64),
        };
        shown[key] = text.as_str().into();
        shown
    }

    pub(super) fn show(&self) -> Value {
        let labelled = self.versions.iter().filter(|(_, version)| !version.labels.is_empty());
        let stages: Map<String, Value> =
            labelled.map(|(id, version)| (id.clone(), json!(version.labels))).collect();
        let tags: Vec<Value> =
            self.tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
        let mut shown = json!({
            "ARN": self.arn,
            "Name": self.name,
            "Tags": tags,
            "CreatedDate": epoch(self.created),
            "LastChangedDate": epoch(self.changed),
        });
        if !stages.is_empty() {
            shown["VersionIdsToStages"] = Value::Object(stages);
        }
        if let Some(description) = &self.description {
            shown["Description"] = description.as_str().into();
        }
        if let Some(deletion) = self.deletion {
            shown["DeletedDate"] = epoch(deletion);
        }
        if let Some(function) = &self.rotation {
            shown["RotationEnabled"] = true.into();
            shown["RotationLambdaARN"] = function.as_str().into();
            shown["RotationRules"] = json!({"AutomaticallyAfterDays": 30});
        }
        shown
    }
}
