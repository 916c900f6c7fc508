//! The values that the keys of the policy hold.

use jiff::SignedDuration;
use serde_json::{Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::tables::FieldTable;
use super::{Decode, Reading, list_of, nearest};
use crate::format::{Format, Template};
use crate::id::check_name;
use crate::policy::duration;
use crate::policy::model::{Class, Environment, HookPoint, OnFailure, Priority};
use crate::policy::rules::{self, Rule};
use crate::policy::source::{At, Finding};
use crate::schedule::{InvalidWindow, Window};

impl Decode for String {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        /// A text of the policy is for people or an address; this is more than either needs.
        const LONGEST: usize = 4096;
        let text = reading.text(value, "a text in quotes")?;
        if text.trim().is_empty() || text.len() > LONGEST {
            let span = reading.span(value);
            reading.findings.push(
                Finding::new(&rules::BAD_VALUE, span, "a text here is neither empty nor over 4096 bytes")
                    .help("write a text, or leave the key out"),
            );
            return None;
        }
        Some(text.to_owned())
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1, "maxLength": 4096 })
    }
}

impl Decode for bool {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        if let DeValue::Boolean(is) = value.get_ref() {
            return Some(*is);
        }
        reading.bad_value(value, "`true` or `false`, without quotes");
        None
    }

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

impl Decode for u32 {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        let number = match value.get_ref() {
            DeValue::Integer(number) => Self::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        if number.is_none() {
            reading.bad_value(value, "a whole number from 0 to 4294967295, without quotes");
        }
        number
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
    }
}

impl Decode for SignedDuration {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        let text = reading.text(value, "a duration in quotes, such as \"7d\", \"24h\" or \"90s\"")?;
        duration::parse(text)
            .map_err(|error| refuse(&rules::BAD_VALUE, value, reading, &error, "\"7d\", \"24h\" or \"90s\""))
            .ok()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": duration::PATTERN, "examples": ["7d", "24h"] })
    }
}

impl Decode for Format {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        const WANTED: &str = "a format such as \"hex:64\", \"base64url:32\", \"base62:40\", \"password:24:symbols\", \
                              \"uuid\" or \"text:20-200\"";
        let text = reading.text(value, WANTED)?;
        text.parse::<Self>().map_err(|error| refuse(&rules::BAD_VALUE, value, reading, &error, WANTED)).ok()
    }

    fn schema() -> Value {
        json!({
            "type": "string",
            "pattern": "^(hex|base64|base64url|base62|password|uuid|text)(:.+)?$",
            "examples": ["hex:64", "base64:32", "base64url:32", "base62:40", "password:24:symbols", "uuid", "text:20-200"],
        })
    }
}

impl Decode for Template {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        const WANTED: &str = "a template such as \"{username}:{password:url}@{host}\"";
        let text = reading.text(value, WANTED)?;
        text.parse::<Self>().map_err(|error| refuse(&rules::BAD_VALUE, value, reading, &error, WANTED)).ok()
    }

    fn schema() -> Value {
        json!({ "type": "string", "minLength": 1 })
    }
}

/// Records why a text is not what it should be. Errors that say what to write say it as help.
fn refuse(
    rule: &Rule,
    value: &Spanned<DeValue<'_>>,
    reading: &mut Reading<'_>,
    error: &dyn std::fmt::Display,
    wanted: &str,
) {
    let span = reading.span(value);
    let error = error.to_string();
    let (message, help) = match error.split_once(": write ") {
        Some((message, advice)) => (message, format!("write {advice}")),
        None => (error.as_str(), format!("write {wanted}")),
    };
    reading.findings.push(Finding::new(rule, span, message).help(help));
}

/// A reference to, or the name of, something in the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

impl Decode for Name {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        let text = reading.text(value, "a name in quotes")?;
        match check_name(text) {
            Ok(()) => Some(Self(text.to_owned())),
            Err(error) => {
                let span = reading.span(value);
                reading.findings.push(bad_name(span, &error));
                None
            }
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_./-]*$", "maxLength": crate::id::MAX_NAME_CHARS })
    }
}

pub(crate) fn bad_name(span: crate::policy::source::Span, error: &crate::id::InvalidName) -> Finding {
    Finding::new(&rules::BAD_NAME, span, error.to_string())
        .help("write a name such as `JWT_SECRET` or `prod/acd/db-admin`, of at most 128 characters")
}

/// Decodes one of a few words; the words are those that serde knows.
macro_rules! choice {
    ($($type:ty: $($word:literal)*;)*) => {$(
        impl Decode for $type {
            fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
                use serde::Deserialize;
                use serde::de::IntoDeserializer;
                use serde::de::value::{Error, StrDeserializer};
                const WORDS: &[&str] = &[$($word),*];
                let wanted = format!("one of {}", list_of(WORDS));
                let text = reading.text(value, &wanted)?;
                let deserializer: StrDeserializer<'_, Error> = text.into_deserializer();
                if let Ok(found) = <$type>::deserialize(deserializer) {
                    return Some(found);
                }
                let span = reading.span(value);
                let help = match nearest(text, WORDS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("write {wanted}"),
                };
                reading.findings.push(
                    Finding::new(&rules::BAD_VALUE, span, "none of the words that the key takes").help(help),
                );
                None
            }

            fn schema() -> Value {
                json!({ "enum": [$($word),*] })
            }
        }
    )*};
}

choice! {
    Environment: "production" "staging" "development";
    Class: "signing" "encryption" "api-key" "password";
    OnFailure: "hold" "rollback";
    Priority: "critical" "high" "medium" "low";
    HookPoint: "before-generate" "after-generate" "before-promote" "after-promote" "before-retire" "after-retire" "on-emergency";
}

impl<T: Decode> Decode for Vec<At<T>> {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        let DeValue::Array(items) = value.get_ref() else {
            reading.bad_value(value, "a list in square brackets");
            return None;
        };
        Some(items.iter().filter_map(|item| At::decode(item, reading)).collect())
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }
}

/// A table whose keys are names of the user's.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entries<T>(pub(crate) Vec<(At<String>, At<T>)>);

impl<T: Decode> Decode for Entries<T> {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        let table = reading.table(value, "a table: `{ name = ... }`")?;
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let at = At { value: key.get_ref().to_string(), span: reading.span(key) };
            entries.extend(At::decode(value, reading).map(|value| (at, value)));
        }
        Some(Self(entries))
    }

    fn schema() -> Value {
        json!({ "type": "object", "additionalProperties": T::schema() })
    }
}

/// From promotion to promotion, or only when somebody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cadence {
    Every(SignedDuration),
    OnRequest,
}

impl Decode for Cadence {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) if text == "on-request" => Some(Self::OnRequest),
            _ => SignedDuration::decode(value, reading).map(Self::Every),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "const": "on-request" }, SignedDuration::schema()] })
    }
}

/// How long before the due date to remind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reminders(pub(crate) Vec<SignedDuration>);

impl Decode for Reminders {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        let list = Vec::<At<SignedDuration>>::decode(value, reading)?;
        let mut list: Vec<SignedDuration> = list.into_iter().map(|item| item.value).collect();
        list.sort_unstable_by(|a, b| b.cmp(a));
        list.dedup();
        Some(Self(list))
    }

    fn schema() -> Value {
        Vec::<At<SignedDuration>>::schema()
    }
}

/// Who uses a secret.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ConsumerList {
    None,
    Named(Vec<At<Name>>),
}

impl Decode for ConsumerList {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        match value.get_ref() {
            DeValue::String(text) if text == "none" => Some(Self::None),
            DeValue::Array(_) => Vec::decode(value, reading).map(Self::Named),
            _ => {
                reading.bad_value(value, "a list of consumers, such as [\"backend\"], or \"none\"");
                None
            }
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "const": "none" }, Vec::<At<Name>>::schema()] })
    }
}

/// When starts and disabling may happen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum WindowForm {
    Always,
    Weekly(Window),
}

impl Decode for WindowForm {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        const WANTED: &str = "a window such as \"Mon-Thu 09:00-16:00 Europe/Amsterdam\", or \"always\"";
        let text = reading.text(value, WANTED)?;
        if text == "always" {
            return Some(Self::Always);
        }
        match text.parse::<Window>() {
            Ok(window) => Some(Self::Weekly(window)),
            Err(error) => {
                let rule = match error {
                    InvalidWindow::NeverOpen(_) => &rules::NEVER,
                    InvalidWindow::Form(_)
                    | InvalidWindow::Day(_)
                    | InvalidWindow::Time(_)
                    | InvalidWindow::Zone(_) => &rules::BAD_VALUE,
                };
                refuse(rule, value, reading, &error, WANTED);
                None
            }
        }
    }

    fn schema() -> Value {
        json!({ "type": "string", "examples": ["Mon-Thu 09:00-16:00 Europe/Amsterdam", "always"] })
    }
}

/// What one field is: a template, or a table with a template or a format.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldForm {
    pub(crate) template: Option<At<Template>>,
    pub(crate) format: Option<At<Format>>,
}

impl Decode for FieldForm {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        if let DeValue::String(_) = value.get_ref() {
            return At::decode(value, reading)
                .map(|template| Self { template: Some(template), format: None });
        }
        let table = FieldTable::decode(value, reading)?;
        Some(Self { template: table.template, format: table.format })
    }

    fn schema() -> Value {
        json!({ "anyOf": [Template::schema(), FieldTable::schema()] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered_words_are_taken<T: Decode + serde::de::DeserializeOwned>() {
        let schema = T::schema();
        let words = schema.get("enum").and_then(Value::as_array).unwrap();
        assert!(words.iter().all(|word| serde_json::from_value::<T>(word.clone()).is_ok()), "{words:?}");
    }

    #[test]
    fn every_word_that_the_schema_offers_is_one_that_is_taken() {
        offered_words_are_taken::<Environment>();
        offered_words_are_taken::<Class>();
        offered_words_are_taken::<OnFailure>();
        offered_words_are_taken::<Priority>();
        offered_words_are_taken::<HookPoint>();
    }
}
