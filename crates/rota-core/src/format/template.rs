//! Texts with holes: a connection URL around a password, a path around a name.

mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::redact::clean_line;
use crate::value::{InvalidValue, SecretValue};

/// The longest template, in bytes: connection URLs and paths are a tenth of it.
pub const MAX_TEMPLATE_BYTES: usize = 4096;

/// The longest path that [`Template::fill_path`] makes, in bytes: the limit of a
/// Secrets Manager name.
pub const MAX_PATH_BYTES: usize = 512;

/// A text with `{name}` and `{name:url}` holes; `{{` and `}}` are braces. `:url`
/// percent-encodes everything but the unreserved characters (RFC 3986, section 2.3).
/// Checked when made; stored as its text.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Hole { name: String, url: bool },
}

/// Why a text is not a template. `at` is the byte where it goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    #[error("`{{` at character {at} is never closed: close the hole with `}}`, or write `{{{{` for a brace")]
    Open { at: usize },
    #[error("`}}` at character {at} closes nothing: write `}}}}` for a brace")]
    Close { at: usize },
    #[error("`{{{hole}}}` is not a hole: write `{{name}}` or `{{name:url}}`, with letters, digits and `_`")]
    Hole { at: usize, hole: String },
    #[error("the template has {0} bytes, over the limit of {MAX_TEMPLATE_BYTES}")]
    TooLong(usize),
}

/// Why a template cannot be filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FillError {
    #[error("nothing fills `{{{hole}}}`: {}", advice(.known))]
    Missing { hole: String, known: Vec<String> },
    #[error("the filled template is not a value: {0}")]
    Value(#[from] InvalidValue),
    #[error("the filled template is not a path: {0}")]
    Path(&'static str),
}

fn advice(known: &[String]) -> String {
    if known.is_empty() {
        return "write the text without holes".to_owned();
    }
    let holes: Vec<_> = known.iter().map(|name| format!("`{{{name}}}`")).collect();
    format!("write one of {}", holes.join(", "))
}

impl Template {
    /// The names that have to be filled, each once.
    #[must_use]
    pub fn holes(&self) -> BTreeSet<&str> {
        self.pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Hole { name, .. } => Some(name.as_str()),
                Piece::Literal(_) => None,
            })
            .collect()
    }

    /// The template as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Fills the holes with secret values, in one buffer of exact capacity.
    ///
    /// # Errors
    /// A hole without a part; a result that is empty or too long for a value.
    pub fn fill(&self, parts: &BTreeMap<&str, &SecretValue>) -> Result<SecretValue, FillError> {
        let mut filled = self
            .fill_with(|name| parts.get(name).map(|value| value.expose()))
            .map_err(|hole| FillError::missing(hole, parts.keys()))?;
        Ok(SecretValue::new(std::mem::take(&mut *filled))?)
    }

    /// Fills the holes with plain text, for everything that is not a secret.
    ///
    /// # Errors
    /// A hole without a part.
    pub fn fill_text(&self, parts: &BTreeMap<&str, &str>) -> Result<String, FillError> {
        let mut filled = self
            .fill_with(|name| parts.get(name).copied())
            .map_err(|hole| FillError::missing(hole, parts.keys()))?;
        Ok(std::mem::take(&mut *filled))
    }

    /// Fills the holes to the path of something in a store.
    ///
    /// # Errors
    /// A hole without a part; a result with blanks, control characters, a backslash,
    /// empty or dot segments, or over [`MAX_PATH_BYTES`]. One leading slash is fine.
    pub fn fill_path(&self, parts: &BTreeMap<&str, &str>) -> Result<String, FillError> {
        let path = self.fill_text(parts)?;
        check_path(&path).map_err(FillError::Path)?;
        Ok(path)
    }

    /// Fills in one buffer that never grows, or names the hole that stays open.
    fn fill_with<'p>(&self, part: impl Fn(&str) -> Option<&'p str>) -> Result<Zeroizing<String>, &str> {
        let mut length = 0;
        for piece in &self.pieces {
            length += match piece {
                Piece::Literal(text) => text.len(),
                Piece::Hole { name, url } => {
                    let text = part(name).ok_or(name.as_str())?;
                    if *url { url_length(text) } else { text.len() }
                }
            };
        }
        let mut filled = Zeroizing::new(String::with_capacity(length));
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => filled.push_str(text),
                Piece::Hole { name, url: false } => filled.push_str(part(name).ok_or(name.as_str())?),
                Piece::Hole { name, url: true } => {
                    push_url_encoded(&mut filled, part(name).ok_or(name.as_str())?);
                }
            }
        }
        Ok(filled)
    }
}

impl FillError {
    fn missing<'n>(hole: &str, known: impl Iterator<Item = &'n &'n str>) -> Self {
        Self::Missing { hole: hole.to_owned(), known: known.map(|name| (*name).to_owned()).collect() }
    }
}

/// RFC 3986, section 2.3: the characters that stand for themselves everywhere.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn url_length(text: &str) -> usize {
    text.bytes().map(|b| if is_unreserved(b) { 1 } else { 3 }).sum()
}

/// Appends `text` with all but the unreserved characters percent-encoded, upper-case
/// as RFC 3986, section 2.1 asks.
fn push_url_encoded(out: &mut String, text: &str) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if is_unreserved(byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// Says why `path` cannot be one.
fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > MAX_PATH_BYTES {
        return Err("it is longer than 512 bytes");
    }
    if path.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("it has a blank, a control character or a backslash");
    }
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
    if segments.any(|s| matches!(s, "" | "." | "..")) {
        return Err("it has an empty, `.` or `..` segment between slashes");
    }
    Ok(())
}

impl FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        if text.len() > MAX_TEMPLATE_BYTES {
            return Err(InvalidTemplate::TooLong(text.len()));
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(found) = text[at..].find(['{', '}']) {
            let brace = at + found;
            literal.push_str(&text[at..brace]);
            let (first, second) = (&text[brace..=brace], text.get(brace + 1..brace + 2));
            if second == Some(first) {
                literal.push_str(first);
                at = brace + 2;
                continue;
            }
            if first == "}" {
                return Err(InvalidTemplate::Close { at: brace });
            }
            let length = text[brace + 1..].find(['{', '}']).unwrap_or(0);
            let close = brace + 1 + length;
            if !text[close..].starts_with('}') {
                return Err(InvalidTemplate::Open { at: brace });
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(parse_hole(&text[brace + 1..close], brace)?);
            at = close + 1;
        }
        literal.push_str(&text[at..]);
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Self { text: text.to_owned(), pieces })
    }
}

fn parse_hole(hole: &str, at: usize) -> Result<Piece, InvalidTemplate> {
    let (name, filter) = hole.split_once(':').map_or((hole, None), |(name, filter)| (name, Some(filter)));
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let named = !name.is_empty() && name.bytes().all(legal);
    match filter {
        None if named => Ok(Piece::Hole { name: name.to_owned(), url: false }),
        Some("url") if named => Ok(Piece::Hole { name: name.to_owned(), url: true }),
        None | Some(_) => Err(InvalidTemplate::Hole { at, hole: clean_line(hole, 40) }),
    }
}

impl TryFrom<String> for Template {
    type Error = InvalidTemplate;

    fn try_from(text: String) -> Result<Self, InvalidTemplate> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.text
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Template({:?})", self.text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.to_owned()).unwrap()
    }

    fn fill(template: &str, parts: &[(&str, &str)]) -> Result<String, FillError> {
        let values: Vec<_> = parts.iter().map(|(name, text)| (*name, value(text))).collect();
        let parts = values.iter().map(|(name, value)| (*name, value)).collect();
        template.parse::<Template>().unwrap().fill(&parts).map(|v| v.expose().to_owned())
    }

    #[test]
    fn holes_are_filled_and_doubled_braces_are_braces() {
        for (template, filled) in [
            ("{p}", "a/b é"),
            ("x{p}y{p}", "xa/b éya/b é"),
            ("{p:url}", "a%2Fb%20%C3%A9"),
            ("{{p}}", "{p}"),
            ("{{{p}}}", "{a/b é}"),
            ("}}{{", "}{"),
            ("{{\"k\": \"{p:url}\"}}", "{\"k\": \"a%2Fb%20%C3%A9\"}"),
            ("plain", "plain"),
        ] {
            assert_eq!(fill(template, &[("p", "a/b é")]).unwrap(), filled, "{template}");
        }
    }

    #[test]
    fn what_is_not_a_template_says_where_and_what_to_write() {
        for (text, message) in [
            ("a{b", "`{` at character 1 is never closed: close the hole with `}`, or write `{{` for a brace"),
            (
                "a{b{c}",
                "`{` at character 1 is never closed: close the hole with `}`, or write `{{` for a brace",
            ),
            ("{", "`{` at character 0 is never closed: close the hole with `}`, or write `{{` for a brace"),
            ("a}b", "`}` at character 1 closes nothing: write `}}` for a brace"),
            ("{}", "`{}` is not a hole: write `{name}` or `{name:url}`, with letters, digits and `_`"),
            ("{a b}", "`{a b}` is not a hole: write `{name}` or `{name:url}`, with letters, digits and `_`"),
            (
                "{a:b64}",
                "`{a:b64}` is not a hole: write `{name}` or `{name:url}`, with letters, digits and `_`",
            ),
            ("{é}", "`{é}` is not a hole: write `{name}` or `{name:url}`, with letters, digits and `_`"),
        ] {
            assert_eq!(text.parse::<Template>().unwrap_err().to_string(), message, "{text}");
        }
        assert_eq!(
            "x".repeat(MAX_TEMPLATE_BYTES + 1).parse::<Template>().unwrap_err(),
            InvalidTemplate::TooLong(MAX_TEMPLATE_BYTES + 1)
        );
    }

    #[test]
    fn an_unknown_hole_is_named_with_what_there_is() {
        let error = fill("{user}:{password}", &[("password", "hunter2"), ("username", "u")]).unwrap_err();
        assert_eq!(error.to_string(), "nothing fills `{user}`: write one of `{password}`, `{username}`");
        let error = fill("{user}", &[]).unwrap_err();
        assert_eq!(error.to_string(), "nothing fills `{user}`: write the text without holes");
    }

    #[test]
    fn holes_are_listed_once_each() {
        let template: Template = "{b}{a:url}{{c}}{b:url}".parse().unwrap();
        assert_eq!(template.holes().into_iter().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn a_path_cannot_climb_or_hide_anything() {
        let template: Template = "prod/acd/{name}".parse().unwrap();
        for (name, good) in [
            ("JWT_SECRET", true),
            ("a/b", true),
            ("..", false),
            ("../x", false),
            ("a//b", false),
            ("a/", false),
            ("", false),
            ("a b", false),
            ("a\\b", false),
            ("a\nb", false),
        ] {
            assert_eq!(template.fill_path(&BTreeMap::from([("name", name)])).is_ok(), good, "{name:?}");
        }
        let absolute: Template = "/etc/acd/{name}.env".parse().unwrap();
        assert_eq!(absolute.fill_path(&BTreeMap::from([("name", "a")])).unwrap(), "/etc/acd/a.env");
        let long = "n".repeat(MAX_PATH_BYTES);
        assert!(template.fill_path(&BTreeMap::from([("name", long.as_str())])).is_err());
    }

    #[test]
    fn a_template_is_stored_as_its_text() {
        let template: Template = "{a:url}{{".parse().unwrap();
        let json = serde_json::to_string(&template).unwrap();
        assert_eq!(json, r#""{a:url}{{""#);
        assert_eq!(serde_json::from_str::<Template>(&json).unwrap(), template);
        assert!(serde_json::from_str::<Template>(r#""{""#).is_err());
    }

    proptest! {
        /// The oracle is the WHATWG URL parser, which shares no code with the template.
        #[test]
        fn a_password_in_a_url_comes_back_as_it_was(password in "[^\0]{1,60}", user in "[ -~]{1,20}") {
            let filled = fill(
                "postgresql://{username:url}:{password:url}@db.internal:5432/acd",
                &[("username", user.as_str()), ("password", password.as_str())],
            ).unwrap();
            let url = url::Url::parse(&filled).unwrap();
            let decode = |text: &str| {
                percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
            };
            prop_assert_eq!(decode(url.username()), user);
            prop_assert_eq!(decode(url.password().unwrap()), password);
            prop_assert_eq!(url.host_str(), Some("db.internal"));
            prop_assert_eq!(url.port(), Some(5432));
            prop_assert_eq!(url.path(), "/acd");
        }

        #[test]
        fn any_text_is_a_template_once_its_braces_are_doubled(text in "[^\0]{1,60}") {
            let escaped = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(fill(&escaped, &[]).unwrap(), text);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in any::<String>()) {
            if let Ok(template) = text.parse::<Template>() {
                prop_assert_eq!(template.to_string(), text);
            }
        }
    }
}
