//! Telling one accepted policy from another: digest, difference, and whether a
//! person has to consent to it.
//!
//! Deliberately absent: who accepted what and when, which the journal keeps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::model::{Policy, SecretPolicy};
use crate::id::SecretId;
use crate::value::push_json_string;

/// Losing more than one in so many secrets at once needs consent: a folder that was
/// mounted empty and a merge that went wrong look like that.
const CONSENT_SHARE: usize = 5;

/// The SHA-256 of the policy's canonical JSON, in lower-case hex. Canonical: no
/// whitespace, keys sorted by their bytes, numbers as serde_json writes them.
#[must_use]
pub fn digest(policy: &Policy) -> String {
    let Policy { application, environment, secrets, consumers, stores, owners } = policy;
    let mut hasher = Sha256::new();
    let mut text = String::new();
    let parts = [
        ("application", as_value(application)),
        ("consumers", as_value(consumers)),
        ("environment", as_value(environment)),
        ("owners", as_value(owners)),
    ];
    for (index, (key, value)) in parts.iter().enumerate() {
        text.push(if index == 0 { '{' } else { ',' });
        push_json_string(&mut text, key);
        text.push(':');
        canonical(value, &mut text);
    }
    text.push_str(",\"secrets\":{");
    for (index, (id, secret)) in secrets.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_json_string(&mut text, id.as_str());
        text.push(':');
        canonical(&as_value(secret), &mut text);
        // One secret at a time: the whole text would be as large as the policy.
        hasher.update(text.as_bytes());
        text.clear();
    }
    text.push_str("},\"stores\":");
    canonical(&as_value(stores), &mut text);
    text.push('}');
    hasher.update(text.as_bytes());
    hex::encode(hasher.finalize())
}

/// The model has string keys and finite numbers only, so that this always succeeds.
fn as_value<T: Serialize>(part: &T) -> Value {
    serde_json::to_value(part).unwrap_or_default()
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(table) => {
            let sorted: BTreeMap<&String, &Value> = table.iter().collect();
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                out.push(if index == 0 { '{' } else { ',' });
                push_json_string(out, key);
                out.push(':');
                canonical(value, out);
            }
            out.push_str(if table.is_empty() { "{}" } else { "}" });
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        Value::String(text) => push_json_string(out, text),
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

/// What differs between two accepted policies, by name; never a setting's content.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDiff {
    pub added: Vec<SecretId>,
    pub removed: Vec<SecretId>,
    /// The keys of the accepted form that differ, by secret.
    pub changed: BTreeMap<SecretId, Vec<String>>,
    /// Stores, consumers and owners that came, went or changed, as `store.aws`; and
    /// `application`, `environment`.
    pub shared: Vec<String>,
}

impl PolicyDiff {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { added, removed, changed, shared } = self;
        added.is_empty() && removed.is_empty() && changed.is_empty() && shared.is_empty()
    }
}

impl fmt::Display for PolicyDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.added.len(), "added"),
            (self.removed.len(), "removed"),
            (self.changed.len(), "changed"),
            (self.shared.len(), "shared definitions changed"),
        ];
        let said: Vec<String> =
            parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        f.write_str(if said.is_empty() { "no change" } else { "" })?;
        f.write_str(&said.join(", "))
    }
}

/// What changes from `old` to `new`.
#[must_use]
pub fn diff(old: &Policy, new: &Policy) -> PolicyDiff {
    let mut diff = PolicyDiff {
        added: new.secrets.keys().filter(|id| !old.secrets.contains_key(id)).cloned().collect(),
        removed: removed(old, new).cloned().collect(),
        ..PolicyDiff::default()
    };
    for (id, after) in &new.secrets {
        if let Some(before) = old.secrets.get(id).filter(|before| *before != after) {
            diff.changed.insert(id.clone(), changed_keys(before, after));
        }
    }
    if old.application != new.application {
        diff.shared.push("application".to_owned());
    }
    if old.environment != new.environment {
        diff.shared.push("environment".to_owned());
    }
    changed_names("consumer", &old.consumers, &new.consumers, &mut diff.shared);
    changed_names("owner", &old.owners, &new.owners, &mut diff.shared);
    changed_names("store", &old.stores, &new.stores, &mut diff.shared);
    diff
}

/// True where `new` loses more than a fifth of the secrets named by `old`.
#[must_use]
pub fn removals_need_consent<'a>(old: impl ExactSizeIterator<Item = &'a SecretId>, new: &Policy) -> bool {
    let all = old.len();
    old.filter(|id| !new.secrets.contains_key(id)).count() * CONSENT_SHARE > all
}

fn removed<'a>(old: &'a Policy, new: &'a Policy) -> impl Iterator<Item = &'a SecretId> {
    old.secrets.keys().filter(|id| !new.secrets.contains_key(id))
}

fn changed_keys(before: &SecretPolicy, after: &SecretPolicy) -> Vec<String> {
    let (before, after) = (as_value(before), as_value(after));
    let keys: BTreeSet<&String> =
        [&before, &after].into_iter().filter_map(Value::as_object).flat_map(|table| table.keys()).collect();
    keys.into_iter().filter(|key| before.get(key) != after.get(key)).cloned().collect()
}

fn changed_names<K: Ord + fmt::Display, V: PartialEq>(
    what: &str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    out: &mut Vec<String>,
) {
    let names: BTreeSet<&K> = old.keys().chain(new.keys()).collect();
    out.extend(
        names.into_iter().filter(|name| old.get(name) != new.get(name)).map(|name| format!("{what}.{name}")),
    );
}
