//! A body with holes: JSON whose texts are templates, or one text.

use std::collections::{BTreeMap, BTreeSet};

use rota_core::fault::Fault;
use rota_core::format::Template;
use rota_core::value::{SecretValue, push_json_string};
use serde_json::Value;
use zeroize::Zeroizing;

/// What holes are filled with, by name.
pub(super) struct Parts<'a> {
    /// Names and ids, which may stand in addresses.
    plain: BTreeMap<&'static str, &'a SecretValue>,
    /// Passwords.
    secret: BTreeMap<&'static str, &'a SecretValue>,
}

impl<'a> Parts<'a> {
    pub(super) fn new(username: &'a SecretValue) -> Self {
        Self { plain: BTreeMap::from([("username", username)]), secret: BTreeMap::new() }
    }

    pub(super) fn with_id(mut self, id: Option<&'a SecretValue>) -> Self {
        self.plain.extend(id.map(|id| ("id", id)));
        self
    }

    pub(super) fn with(mut self, name: &'static str, value: &'a SecretValue) -> Self {
        self.secret.insert(name, value);
        self
    }

    /// What may stand in an address.
    pub(super) fn shown(&self) -> BTreeMap<&str, &str> {
        self.plain.iter().map(|(name, value)| (*name, value.expose())).collect()
    }

    fn all(&self) -> BTreeMap<&str, &SecretValue> {
        self.plain.iter().chain(&self.secret).map(|(name, value)| (*name, *value)).collect()
    }
}

/// A body, taken apart.
pub(super) enum Body {
    Text(Template),
    Json(Json),
}

/// JSON in which each text with a hole is a template.
pub(super) enum Json {
    Hole(Template),
    /// Everything without a hole below it, as it is written.
    Plain(String),
    List(Vec<Json>),
    Table(Vec<(String, Json)>),
}

/// JSON whose holes are filled, each in a buffer of its own.
enum Filled<'j> {
    Value(SecretValue),
    Plain(&'j str),
    List(Vec<Filled<'j>>),
    Table(Vec<(&'j str, Filled<'j>)>),
}

impl Body {
    /// # Errors
    /// Which text is no template.
    pub(super) fn parse(body: &Value) -> Result<Self, String> {
        match body {
            Value::String(text) => Ok(Self::Text(template(text)?)),
            other => Ok(Self::Json(Json::parse(other)?)),
        }
    }

    pub(super) fn holes(&self) -> BTreeSet<String> {
        let mut holes = BTreeSet::new();
        match self {
            Self::Text(template) => holes.extend(template.holes().into_iter().map(str::to_owned)),
            Self::Json(json) => json.collect_holes(&mut holes),
        }
        holes
    }

    /// What the body is where no header says it.
    pub(super) fn media_type(&self) -> &'static str {
        match self {
            Self::Text(_) => "text/plain; charset=utf-8",
            Self::Json(_) => "application/json",
        }
    }

    /// The bytes to send, in one buffer that never grows.
    ///
    /// # Errors
    /// [`Fault::Invalid`] where a hole stays open.
    pub(super) fn fill(&self, parts: &Parts<'_>) -> Result<Vec<u8>, Fault> {
        match self {
            Self::Text(template) => Ok(filled(template, parts)?.expose().as_bytes().to_vec()),
            Self::Json(json) => {
                let filled = json.fill(parts)?;
                let mut text = Zeroizing::new(String::with_capacity(filled.room()));
                filled.write(&mut text);
                Ok(std::mem::take(&mut *text).into_bytes())
            }
        }
    }
}

fn template(text: &str) -> Result<Template, String> {
    text.parse().map_err(|why| format!("{why}"))
}

fn filled(template: &Template, parts: &Parts<'_>) -> Result<SecretValue, Fault> {
    template.fill(&parts.all()).map_err(|why| Fault::invalid(format!("the body: {why}")))
}

impl Json {
    fn parse(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => {
                let template = template(text)?;
                // Braces are doubled in a template, with or without a hole.
                if text.contains(['{', '}']) { Self::Hole(template) } else { Self::Plain(value.to_string()) }
            }
            Value::Array(items) => Self::List(items.iter().map(Self::parse).collect::<Result<_, _>>()?),
            Value::Object(fields) => Self::Table(
                fields.iter().map(|(name, value)| Ok((name.clone(), Self::parse(value)?))).collect::<Result<
                    _,
                    String,
                >>(
                )?,
            ),
            Value::Null | Value::Bool(_) | Value::Number(_) => Self::Plain(value.to_string()),
        })
    }

    fn collect_holes(&self, holes: &mut BTreeSet<String>) {
        match self {
            Self::Hole(template) => holes.extend(template.holes().into_iter().map(str::to_owned)),
            Self::Plain(_) => {}
            Self::List(items) => items.iter().for_each(|item| item.collect_holes(holes)),
            Self::Table(fields) => fields.iter().for_each(|(_, field)| field.collect_holes(holes)),
        }
    }

    fn fill(&self, parts: &Parts<'_>) -> Result<Filled<'_>, Fault> {
        Ok(match self {
            Self::Hole(template) => Filled::Value(filled(template, parts)?),
            Self::Plain(text) => Filled::Plain(text),
            Self::List(items) => {
                Filled::List(items.iter().map(|item| item.fill(parts)).collect::<Result<_, _>>()?)
            }
            Self::Table(fields) => Filled::Table(
                fields
                    .iter()
                    .map(|(name, field)| Ok((name.as_str(), field.fill(parts)?)))
                    .collect::<Result<_, Fault>>()?,
            ),
        })
    }
}

/// The most bytes that a text of `length` bytes has in JSON, with its quotes: a control
/// character becomes six.
fn quoted(length: usize) -> usize {
    6 * length + 2
}

impl Filled<'_> {
    /// At least as many bytes as [`Filled::write`] appends.
    fn room(&self) -> usize {
        match self {
            Self::Value(value) => quoted(value.byte_len()),
            Self::Plain(text) => text.len(),
            Self::List(items) => items.iter().map(|item| item.room() + 1).sum::<usize>() + 2,
            Self::Table(fields) => {
                fields.iter().map(|(name, field)| quoted(name.len()) + field.room() + 2).sum::<usize>() + 2
            }
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Value(value) => push_json_string(out, value.expose()),
            Self::Plain(text) => out.push_str(text),
            Self::List(items) => {
                out.push('[');
                for (place, item) in items.iter().enumerate() {
                    out.push_str(if place > 0 { "," } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Table(fields) => {
                out.push('{');
                for (place, (name, field)) in fields.iter().enumerate() {
                    out.push_str(if place > 0 { "," } else { "" });
                    push_json_string(out, name);
                    out.push(':');
                    field.write(out);
                }
                out.push('}');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.to_owned()).unwrap()
    }

    #[test]
    fn a_password_is_quoted_as_the_body_wants_it() {
        let (user, hard) = (value("o'acd"), value("a\"b\\c{d}\n\u{1}é%&"));
        let parts = Parts::new(&user).with("password", &hard);
        let body = json!({ "user": { "name": "{username}", "passwords": ["{password}", "x{password}{{}}"] }, "n": 7, "keep": true, "empty": "" });
        let sent = Body::parse(&body).unwrap().fill(&parts).unwrap();
        let expected = json!({ "user": { "name": "o'acd", "passwords": [hard.expose(), format!("x{}{{}}", hard.expose())] }, "n": 7, "keep": true, "empty": "" });
        assert_eq!(serde_json::from_slice::<Value>(&sent).unwrap(), expected);
        let form = Body::parse(&json!("name={username:url}&secret={password:url}")).unwrap();
        assert_eq!(form.fill(&parts).unwrap(), b"name=o%27acd&secret=a%22b%5Cc%7Bd%7D%0A%01%C3%A9%25%26");
    }

    #[test]
    fn a_hole_that_nothing_fills_is_named_and_no_value_is() {
        let (user, password) = (value("ci"), value("hunter2"));
        let parts = Parts::new(&user).with("password", &password);
        let body = Body::parse(&json!({ "old": "{current}", "new": "{password}" })).unwrap();
        let message = body.fill(&parts).unwrap_err().to_string();
        assert!(message.contains("`{current}`") && !message.contains("hunter2"), "{message}");
        assert_eq!(body.holes().into_iter().collect::<Vec<_>>(), ["current", "password"]);
        assert!(Body::parse(&json!({ "a": ["{nope"] })).is_err());
    }

    #[test]
    fn the_buffer_of_a_body_never_grows() {
        let (user, password) = (value("ci"), value(&"\u{1}".repeat(40)));
        let parts = Parts::new(&user).with("password", &password);
        let body = json!([["{password}"], { "a\nb": "{password}", "c": null }]);
        let Body::Json(json) = Body::parse(&body).unwrap() else { panic!("not JSON") };
        let filled = json.fill(&parts).unwrap();
        let mut text = String::with_capacity(filled.room());
        let before = text.capacity();
        filled.write(&mut text);
        assert_eq!(text.capacity(), before);
    }
}
