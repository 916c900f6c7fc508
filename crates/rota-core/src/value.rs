//! Secret values in memory.
//!
//! Deliberately absent: `Debug`, `Display`, `Clone`, `Serialize` and any digest.
//! A value can only be read through [`SecretValue::expose`], which a reviewer can
//! search for, and is wiped when dropped.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::id::FieldName;

/// The longest value that any part of Rota accepts: Secrets Manager's own limit
/// for one secret string, 65,536 bytes.
pub const MAX_VALUE_BYTES: usize = 65_536;

/// One secret value: UTF-8 text in a buffer of exact capacity, wiped on drop.
pub struct SecretValue(Zeroizing<Box<str>>);

/// Why a text cannot be a secret value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    #[error("the value is empty")]
    Empty,
    #[error("the value has {0} bytes, over the limit of {MAX_VALUE_BYTES}")]
    TooLong(usize),
    #[error("the value contains a NUL byte")]
    Nul,
}

impl SecretValue {
    /// Takes `text` over without leaving a copy behind: a buffer with spare
    /// capacity is copied into an exact one and wiped.
    ///
    /// # Errors
    /// Empty, longer than [`MAX_VALUE_BYTES`], or with a NUL byte.
    pub fn new(text: String) -> Result<Self, InvalidValue> {
        let text = Zeroizing::new(text);
        if text.is_empty() {
            return Err(InvalidValue::Empty);
        }
        if text.len() > MAX_VALUE_BYTES {
            return Err(InvalidValue::TooLong(text.len()));
        }
        if text.contains('\0') {
            return Err(InvalidValue::Nul);
        }
        Ok(Self(Zeroizing::new(Box::from(text.as_str()))))
    }

    /// The value itself. Every use is a place to review.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A second copy, for the rare place where two owners are needed.
    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(Zeroizing::new(Box::from(self.expose())))
    }

    /// Compares in time that does not depend on where two values of one length differ.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        let (a, b) = (self.expose().as_bytes(), other.expose().as_bytes());
        a.len() == b.len() && a.iter().zip(b).fold(0u8, |d, (x, y)| d | (x ^ y)) == 0
    }

    /// How many bytes the value has.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.expose().len()
    }
}

/// The fields of one secret that rotate as one. A secret with a single value has
/// one field, named like the secret.
pub struct Bundle(BTreeMap<FieldName, SecretValue>);

impl Bundle {
    #[must_use]
    pub fn new(fields: BTreeMap<FieldName, SecretValue>) -> Self {
        Self(fields)
    }

    #[must_use]
    pub fn single(name: FieldName, value: SecretValue) -> Self {
        Self(BTreeMap::from([(name, value)]))
    }

    #[must_use]
    pub fn get(&self, name: &FieldName) -> Option<&SecretValue> {
        self.0.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&FieldName, &SecretValue)> {
        self.0.iter()
    }

    pub fn insert(&mut self, name: FieldName, value: SecretValue) {
        self.0.insert(name, value);
    }

    /// True where both have the same fields with the same values.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().all(|(name, value)| other.get(name).is_some_and(|o| o.same_as(value)))
    }

    #[must_use]
    pub fn duplicate(&self) -> Self {
        Self(self.0.iter().map(|(n, v)| (n.clone(), v.duplicate())).collect())
    }

    /// Writes the bundle as one JSON object, the form that slots hold.
    #[must_use]
    pub fn to_slot_text(&self) -> SecretValue {
        let mut text = Zeroizing::new(String::with_capacity(
            2 + self.0.iter().map(|(n, v)| 2 * v.byte_len() + n.as_str().len() + 8).sum::<usize>(),
        ));
        text.push('{');
        for (i, (name, value)) in self.iter().enumerate() {
            if i > 0 {
                text.push(',');
            }
            push_json_string(&mut text, name.as_str());
            text.push(':');
            push_json_string(&mut text, value.expose());
        }
        text.push('}');
        SecretValue(Zeroizing::new(Box::from(text.as_str())))
    }

    /// Reads what [`Bundle::to_slot_text`] wrote.
    ///
    /// # Errors
    /// `None` where the text is not a JSON object of strings with valid field names.
    #[must_use]
    pub fn from_slot_text(text: &SecretValue) -> Option<Self> {
        let raw: BTreeMap<String, Zeroizing<String>> = serde_json::from_str(text.expose()).ok()?;
        raw.into_iter()
            .map(|(name, mut value)| {
                Some((FieldName::new(&name).ok()?, SecretValue::new(std::mem::take(&mut *value)).ok()?))
            })
            .collect::<Option<BTreeMap<_, _>>>()
            .map(Self)
    }
}

/// Appends `text` to `out` as a JSON string, with the escapes of RFC 8785, section 3.2.2.2.
pub fn push_json_string(out: &mut String, text: &str) {
    use std::fmt::Write;
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_survives_its_slot_form() {
        let mut bundle = Bundle::single(
            FieldName::new("A").unwrap(),
            SecretValue::new("quo\"te\\ \n\u{1} é".to_owned()).unwrap(),
        );
        bundle.insert(FieldName::new("B").unwrap(), SecretValue::new("2".to_owned()).unwrap());
        let back = Bundle::from_slot_text(&bundle.to_slot_text()).unwrap();
        assert!(bundle.same_as(&back));
    }

    #[test]
    fn a_value_over_the_limit_is_refused_and_one_at_the_limit_taken() {
        assert!(SecretValue::new("x".repeat(MAX_VALUE_BYTES)).is_ok());
        assert_eq!(
            SecretValue::new("x".repeat(MAX_VALUE_BYTES + 1)).err(),
            Some(InvalidValue::TooLong(MAX_VALUE_BYTES + 1))
        );
        assert_eq!(SecretValue::new(String::new()).err(), Some(InvalidValue::Empty));
        assert_eq!(SecretValue::new("a\0b".to_owned()).err(), Some(InvalidValue::Nul));
    }
}
