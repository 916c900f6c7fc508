//! What consumers read of one secret, by name.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::model::FieldPolicy;
use crate::id::FieldName;

/// The fields of a secret, sorted by name; written as a map. Nearly every secret has
/// one, and a tree with room for eleven would be the largest part of the policy.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fields(Box<[Entry]>);

type Entry = (FieldName, FieldPolicy);

impl Fields {
    #[must_use]
    pub fn get(&self, name: &FieldName) -> Option<&FieldPolicy> {
        let at = self.0.binary_search_by(|(own, _)| own.cmp(name)).ok()?;
        self.0.get(at).map(|(_, field)| field)
    }

    #[must_use]
    pub fn contains_key(&self, name: &FieldName) -> bool {
        self.get(name).is_some()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&FieldName, &FieldPolicy)> {
        self.0.iter().map(|(name, field)| (name, field))
    }

    pub fn keys(&self) -> impl ExactSizeIterator<Item = &FieldName> {
        self.0.iter().map(|(name, _)| name)
    }

    pub fn values(&self) -> impl ExactSizeIterator<Item = &FieldPolicy> {
        self.0.iter().map(|(_, field)| field)
    }
}

impl FromIterator<(FieldName, FieldPolicy)> for Fields {
    /// Of two fields with one name the later one stays.
    fn from_iter<I: IntoIterator<Item = (FieldName, FieldPolicy)>>(fields: I) -> Self {
        let sorted: BTreeMap<FieldName, FieldPolicy> = fields.into_iter().collect();
        Self(sorted.into_iter().collect())
    }
}

impl<const N: usize> From<[(FieldName, FieldPolicy); N]> for Fields {
    fn from(fields: [(FieldName, FieldPolicy); N]) -> Self {
        fields.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = (&'a FieldName, &'a FieldPolicy);
    type IntoIter = std::iter::Map<std::slice::Iter<'a, Entry>, fn(&'a Entry) -> Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(name, field)| (name, field))
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map;

        impl<'de> Visitor<'de> for Map {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of fields by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::with_capacity(map.size_hint().unwrap_or(1).min(16));
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(fields.into_iter().collect())
            }
        }

        deserializer.deserialize_map(Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(name: &str, format: &str) -> (FieldName, FieldPolicy) {
        (FieldName::new(name).unwrap(), FieldPolicy { template: None, format: format.parse().ok() })
    }

    #[test]
    fn fields_are_sorted_unique_and_survive_as_a_map() {
        let fields = Fields::from([field("B", "hex:32"), field("A", "uuid"), field("B", "hex:16")]);
        assert_eq!(fields.keys().map(FieldName::as_str).collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(fields.get(&FieldName::new("B").unwrap()), Some(&field("B", "hex:16").1));
        assert!(!fields.contains_key(&FieldName::new("C").unwrap()));
        let json = serde_json::to_value(&fields).unwrap();
        assert_eq!(json["B"]["format"], "hex:16");
        assert_eq!(serde_json::from_value::<Fields>(json).unwrap(), fields);
        assert_eq!(fields.into_iter().len(), 2);
    }
}
