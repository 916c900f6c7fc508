//! The accepted policy as a process keeps it: small, and whole where one secret is asked for.
//!
//! A hundred thousand secrets are far fewer different ones: most differ from another in
//! nothing but their name. Each is kept as its JSON with the name left out, and equal
//! texts are kept once. Deliberately absent: changes. A policy is replaced as a whole.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use jiff::SignedDuration;
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap as _, SerializeStruct as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use super::model::{Policy, PolicyEntry, SecretPolicy};
use crate::id::SecretId;

/// Stands for the secret's own name in its text. JSON has no such character: it would
/// be written as an escape.
const OWN_NAME: char = '\u{1}';

/// A [`Policy`] in little memory. Reads and writes the same JSON.
#[derive(Debug, Clone, PartialEq)]
pub struct CompactPolicy {
    /// Everything but the secrets.
    shared: Policy,
    secrets: BTreeMap<SecretId, Arc<str>>,
    longest_reminder: SignedDuration,
}

impl CompactPolicy {
    /// # Errors
    /// Never for a policy that was loaded: it can always be written as JSON.
    pub fn of(policy: &Policy) -> Result<Self, serde_json::Error> {
        let mut packer = Packer::default();
        for (id, secret) in &policy.secrets {
            packer.add(id.clone(), &serde_json::to_string(secret)?)?;
        }
        let Policy { application, environment, secrets: _, consumers, stores, owners } = policy;
        let shared = Policy {
            application: application.clone(),
            environment: *environment,
            secrets: BTreeMap::new(),
            consumers: consumers.clone(),
            stores: stores.clone(),
            owners: owners.clone(),
        };
        Ok(packer.finish(shared))
    }

    /// The policy without its secrets.
    #[must_use]
    pub fn shared(&self) -> &Policy {
        &self.shared
    }

    /// How many secrets there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.secrets.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.secrets.is_empty()
    }

    /// How many secrets differ in more than their name.
    #[cfg(test)]
    pub(crate) fn distinct_secrets(&self) -> usize {
        self.secrets.values().collect::<HashSet<_>>().len()
    }

    /// The names of all secrets, sorted.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = &SecretId> {
        self.secrets.keys()
    }

    /// The longest time before a due date at which any secret wants a reminder.
    #[must_use]
    pub fn longest_reminder(&self) -> SignedDuration {
        self.longest_reminder
    }

    /// One secret; `None` where the policy has none of that name.
    #[must_use]
    pub fn secret(&self, id: &SecretId) -> Option<SecretPolicy> {
        // Every text was read once when it came in.
        serde_json::from_str(&self.text(id)?).ok()
    }

    /// The entry of `id`; `None` where the policy has no such secret.
    #[must_use]
    pub fn entry(&self, id: &SecretId) -> Option<PolicyEntry> {
        Some(PolicyEntry::of(self.secret(id)?, &self.shared))
    }

    /// The whole policy, in as much memory as it takes.
    #[must_use]
    pub fn unpack(&self) -> Policy {
        let secrets = self.secrets.keys().filter_map(|id| Some((id.clone(), self.secret(id)?))).collect();
        Policy { secrets, ..self.shared.clone() }
    }

    fn text(&self, id: &SecretId) -> Option<String> {
        Some(self.secrets.get(id)?.replace(OWN_NAME, id.as_str()))
    }
}

/// Builds the texts, equal ones once.
#[derive(Default)]
struct Packer {
    secrets: BTreeMap<SecretId, Arc<str>>,
    texts: HashSet<Arc<str>>,
    longest_reminder: SignedDuration,
}

impl Packer {
    fn add(&mut self, id: SecretId, json: &str) -> Result<(), serde_json::Error> {
        let text = json.replace(id.as_str(), OWN_NAME.encode_utf8(&mut [0; 4]));
        let text = match self.texts.get(text.as_str()) {
            Some(known) => Arc::clone(known),
            None => {
                let secret: SecretPolicy = serde_json::from_str(json)?;
                let longest = secret.remind.iter().copied().max().unwrap_or_default();
                self.longest_reminder = self.longest_reminder.max(longest);
                let text: Arc<str> = text.into();
                self.texts.insert(Arc::clone(&text));
                text
            }
        };
        self.secrets.insert(id, text);
        Ok(())
    }

    fn finish(self, shared: Policy) -> CompactPolicy {
        CompactPolicy { shared, secrets: self.secrets, longest_reminder: self.longest_reminder }
    }
}

impl Serialize for CompactPolicy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Policy { application, environment, secrets: _, consumers, stores, owners } = &self.shared;
        let mut policy = serializer.serialize_struct("Policy", 6)?;
        policy.serialize_field("application", application)?;
        policy.serialize_field("environment", environment)?;
        policy.serialize_field("secrets", &Texts(self))?;
        policy.serialize_field("consumers", consumers)?;
        policy.serialize_field("stores", stores)?;
        policy.serialize_field("owners", owners)?;
        policy.end()
    }
}

/// The secrets as a map of what was read.
struct Texts<'p>(&'p CompactPolicy);

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (id, text) in &self.0.secrets {
            let text =
                RawValue::from_string(text.replace(OWN_NAME, id.as_str())).map_err(S::Error::custom)?;
            map.serialize_entry(id, &text)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for CompactPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Whole)
    }
}

/// Reads the policy's own keys; the secrets one after the other.
struct Whole;

impl<'de> Visitor<'de> for Whole {
    type Value = CompactPolicy;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a policy")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<CompactPolicy, A::Error> {
        let mut packer = Packer::default();
        let mut rest = serde_json::Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == "secrets" {
                map.next_value_seed(&mut packer)?;
            } else {
                rest.insert(key, map.next_value()?);
            }
        }
        rest.insert("secrets".to_owned(), serde_json::Value::Object(serde_json::Map::new()));
        let shared = serde_json::from_value(serde_json::Value::Object(rest)).map_err(A::Error::custom)?;
        Ok(packer.finish(shared))
    }
}

impl<'de> DeserializeSeed<'de> for &mut Packer {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Packer {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of secrets by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some((id, text)) = map.next_entry::<SecretId, Box<RawValue>>()? {
            self.add(id, text.get()).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}
