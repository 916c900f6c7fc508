//! One JSON object whose own members are strings.

use std::fmt;

use serde::Deserializer as _;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{Change, DocumentError, Piece, join};
use crate::value::{SecretValue, push_json_string};

pub(super) fn get(text: &str, name: &str) -> Result<Option<SecretValue>, DocumentError> {
    let document = Document::parse(text)?;
    let Some(i) = document.find(name)? else { return Ok(None) };
    let (from, to) = document.members[i].value;
    let mut value =
        unescape(&text[from..to]).ok_or_else(|| DocumentError::NotText { name: name.to_owned() })?;
    if value.is_empty() { Ok(None) } else { Ok(Some(SecretValue::new(std::mem::take(&mut *value))?)) }
}

pub(super) fn merge(text: &str, changes: &[Change<'_>]) -> Result<SecretValue, DocumentError> {
    // A store's console makes an empty text where a person clears a document.
    let text = if text.trim().is_empty() { "{}" } else { text };
    let document = Document::parse(text)?;
    let mut fates: Vec<Fate<'_>> = document.members.iter().map(|_| Fate::Keep).collect();
    let mut added = Vec::new();
    for (name, value) in changes {
        match (document.find(name)?, value) {
            (Some(i), Some(value)) => fates[i] = Fate::Set(value),
            (Some(i), None) => fates[i] = Fate::Remove,
            (None, Some(value)) => added.push((*name, *value)),
            (None, None) => {}
        }
    }
    join(&document.pieces(&fates, &added))
}

/// What becomes of a member that is there.
enum Fate<'a> {
    Keep,
    Set(&'a SecretValue),
    Remove,
}

/// Where everything stands in the text, in bytes.
struct Document<'a> {
    text: &'a str,
    /// After the opening brace.
    start: usize,
    members: Vec<Member>,
}

struct Member {
    name: String,
    key: (usize, usize),
    value: (usize, usize),
}

impl<'a> Document<'a> {
    fn parse(text: &'a str) -> Result<Self, DocumentError> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let raw = deserializer
            .deserialize_map(RawMembers)
            .and_then(|raw| deserializer.end().map(|()| raw))
            // The message can repeat a part of the document; the place cannot.
            .map_err(|error| DocumentError::NotJson { line: error.line(), column: error.column() })?;
        let place = |raw: &RawValue| {
            let from = raw.get().as_ptr().addr() - text.as_ptr().addr();
            (from, from + raw.get().len())
        };
        let member = |(key, value): (&RawValue, &RawValue)| {
            // A name that is no Unicode text (half a surrogate pair) is none of ours.
            let name = serde_json::from_str(key.get()).unwrap_or_else(|_| key.get().to_owned());
            Member { name, key: place(key), value: place(value) }
        };
        let members = raw.into_iter().map(member).collect();
        // Deserialized as a map, so there is one.
        let start = text.find('{').map_or(0, |brace| brace + 1);
        Ok(Self { text, start, members })
    }

    fn find(&self, name: &str) -> Result<Option<usize>, DocumentError> {
        let mut found = self.members.iter().enumerate().filter(|(_, member)| member.name == name);
        let first = found.next().map(|(i, _)| i);
        match found.next() {
            Some(_) => Err(DocumentError::Duplicate { name: name.to_owned() }),
            None => Ok(first),
        }
    }

    /// The document with its members kept, set or removed, and others added after the
    /// last one. A member keeps the blanks and the comma that stand before it, the
    /// first one those after the brace; added ones look like the last.
    fn pieces(&self, fates: &[Fate<'_>], added: &[(&str, &SecretValue)]) -> Vec<Piece<'a>> {
        let mut pieces = vec![Piece::Kept(&self.text[..self.start])];
        let mut any = false;
        for (i, (member, fate)) in self.members.iter().zip(fates).enumerate() {
            let before =
                if any { &self.text[self.end_before(i)..member.key.0] } else { self.blanks_before(i) };
            let (key, value) = (member.key.0..member.value.0, member.value.0..member.value.1);
            match fate {
                Fate::Remove => continue,
                Fate::Keep => pieces.extend([before, &self.text[key], &self.text[value]].map(Piece::Kept)),
                Fate::Set(new) => {
                    pieces.extend([before, &self.text[key]].map(Piece::Kept));
                    pieces.push(Piece::Own(json_string(new.expose())));
                }
            }
            any = true;
        }
        let last = self.members.len().checked_sub(1);
        let (blanks, colon) = last.map_or(("", ":"), |last| {
            (self.blanks_before(last), &self.text[self.members[last].key.1..self.members[last].value.0])
        });
        for (name, value) in added {
            pieces.extend([if any { "," } else { "" }, blanks].map(Piece::Kept));
            pieces.push(Piece::Own(json_string(name)));
            pieces.push(Piece::Kept(colon));
            pieces.push(Piece::Own(json_string(value.expose())));
            any = true;
        }
        pieces.push(Piece::Kept(&self.text[last.map_or(self.start, |last| self.members[last].value.1)..]));
        pieces
    }

    fn end_before(&self, i: usize) -> usize {
        i.checked_sub(1).map_or(self.start, |before| self.members[before].value.1)
    }

    /// What stands between the comma, or the opening brace, and member `i`.
    fn blanks_before(&self, i: usize) -> &'a str {
        let between = &self.text[self.end_before(i)..self.members[i].key.0];
        between.split_once(',').map_or(between, |(_, blanks)| blanks)
    }
}

fn json_string(text: &str) -> Zeroizing<String> {
    // At most `\u001f` for each byte, and the quotes: the buffer never grows.
    let mut string = Zeroizing::new(String::with_capacity(6 * text.len() + 2));
    push_json_string(&mut string, text);
    string
}

/// The text of a JSON string (RFC 8259, section 7), in one buffer that never grows;
/// `None` for anything else, and for half of a surrogate pair.
fn unescape(raw: &str) -> Option<Zeroizing<String>> {
    let mut rest = raw.strip_prefix('"')?.strip_suffix('"')?;
    let mut text = Zeroizing::new(String::with_capacity(rest.len()));
    while let Some((plain, escaped)) = rest.split_once('\\') {
        text.push_str(plain);
        let kind = escaped.chars().next()?;
        rest = &escaped[kind.len_utf8()..];
        let c = match kind {
            '"' | '\\' | '/' => kind,
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => unescape_unicode(&mut rest)?,
            _ => return None,
        };
        text.push(c);
    }
    text.push_str(rest);
    Some(text)
}

/// Reads the four hex digits of a `\\u`, and the second half of a pair after the first.
fn unescape_unicode(rest: &mut &str) -> Option<char> {
    let first = code_unit(rest)?;
    if !(0xd800..0xdc00).contains(&first) {
        return char::from_u32(first);
    }
    *rest = rest.strip_prefix("\\u")?;
    let second = code_unit(rest).filter(|second| (0xdc00..0xe000).contains(second))?;
    char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))
}

fn code_unit(rest: &mut &str) -> Option<u32> {
    let digits = rest.get(..4).filter(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))?;
    *rest = &rest[4..];
    u32::from_str_radix(digits, 16).ok()
}

/// The members of an object as they stand in the text, keys included.
struct RawMembers;

impl<'de> Visitor<'de> for RawMembers {
    type Value = Vec<(&'de RawValue, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}
