//! Names and numbers that identify things. Each is a type of its own, so that a
//! consumer's name cannot be passed where a secret's is wanted. Copies of a name share
//! its text: a policy of a hundred thousand secrets names the same few stores,
//! consumers and owners.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest name of a secret, field, consumer, store or owner, in characters.
pub const MAX_NAME_CHARS: usize = 128;

/// Why a text is not a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    #[error("a name cannot be empty")]
    Empty,
    #[error("a name has at most {MAX_NAME_CHARS} characters")]
    TooLong,
    #[error("a name starts with a letter or digit and goes on with letters, digits, `_`, `.`, `/` or `-`")]
    Character,
    #[error("a name has no empty, `.` or `..` segment between slashes")]
    Segment,
}

/// Checks `[A-Za-z0-9][A-Za-z0-9_./-]*` without empty or dot segments.
///
/// # Errors
/// The first rule that `text` breaks.
pub fn check_name(text: &str) -> Result<(), InvalidName> {
    if text.is_empty() {
        return Err(InvalidName::Empty);
    }
    if text.len() > MAX_NAME_CHARS {
        return Err(InvalidName::TooLong);
    }
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b'-');
    if !text.as_bytes()[0].is_ascii_alphanumeric() || !text.bytes().all(legal) {
        return Err(InvalidName::Character);
    }
    if text.split('/').any(|s| s.is_empty() || s == "." || s == "..") {
        return Err(InvalidName::Segment);
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(Arc<str>);

        impl $type {
            /// # Errors
            /// Where `text` breaks a rule of [`check_name`].
            pub fn new(text: &str) -> Result<Self, InvalidName> {
                check_name(text)?;
                Ok(Self(text.into()))
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;
            fn try_from(text: String) -> Result<Self, InvalidName> {
                check_name(&text)?;
                Ok(Self(text.into()))
            }
        }

        impl std::str::FromStr for $type {
            type Err = InvalidName;
            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::new(text)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.as_str().to_owned()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The stable name of one secret: an entry of the policy file.
    SecretId
);
name!(
    /// One of the values that rotate together under one secret.
    FieldName
);
name!(
    /// A service that uses secrets.
    ConsumerId
);
name!(
    /// A store as the policy names it.
    StoreId
);
name!(
    /// Who is told about a secret.
    OwnerId
);

/// One run of the machine for one secret; names everything that the run makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RotationId(pub Uuid);

impl RotationId {
    /// The first twelve hex digits of the random part, for names with little room
    /// (roles, labels): 48 bits.
    #[must_use]
    pub fn short(&self) -> String {
        let text = self.0.simple().to_string();
        text[20..].to_owned()
    }
}

impl fmt::Display for RotationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The store's own name of a stored value. Never a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VersionRef(pub String);

impl fmt::Display for VersionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who may record for a row: taken from one sequence that never resets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

/// The number of an external effect; grows per target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EffectNo(pub i64);

/// The life of the state database; a recovery takes the next one. Compares
/// before the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["A", "JWT_SECRET", "prod/acd/db-admin", "a.b", "0x"] {
            assert!(SecretId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "_A", "a//b", "a/../b", "a/.", "a b", "ä", "a\n", "/a", "a/", "-a"] {
            assert!(SecretId::new(bad).is_err(), "{bad:?}");
        }
        assert!(SecretId::new(&"a".repeat(MAX_NAME_CHARS)).is_ok());
        assert_eq!(SecretId::new(&"a".repeat(MAX_NAME_CHARS + 1)), Err(InvalidName::TooLong));
    }
}
