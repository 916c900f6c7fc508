//! The TOML form: what the keys are, and where each stands.
//!
//! The parser's tree is decoded key by key and not through serde, so that one
//! load finds every mistake and each has its place. The JSON Schema comes from
//! the same declarations. Deliberately absent: what the keys mean together.

pub(crate) mod tables;
mod types;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::rules;
use super::source::{At, Finding, Findings, Span};
pub(crate) use types::{Cadence, ConsumerList, Entries, FieldForm, Name, Reminders, WindowForm, bad_name};

/// What decoding needs beside the value.
pub(crate) struct Reading<'a> {
    pub(crate) file: u32,
    pub(crate) findings: &'a mut Findings,
}

impl Reading<'_> {
    pub(crate) fn span<T>(&self, spanned: &Spanned<T>) -> Span {
        Span::new(self.file, spanned.span())
    }

    /// Records that `value` is not what is wanted here.
    pub(crate) fn bad_value(&mut self, value: &Spanned<DeValue<'_>>, wanted: &str) {
        let span = self.span(value);
        let found = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.findings.push(
            Finding::new(&rules::BAD_VALUE, span, format!("{found} does not fit here"))
                .help(format!("write {wanted}")),
        );
    }

    pub(crate) fn text<'v>(&mut self, value: &'v Spanned<DeValue<'_>>, wanted: &str) -> Option<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => {
                self.bad_value(value, wanted);
                None
            }
        }
    }

    pub(crate) fn table<'v, 'i>(
        &mut self,
        value: &'v Spanned<DeValue<'i>>,
        wanted: &str,
    ) -> Option<&'v DeTable<'i>> {
        match value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => {
                self.bad_value(value, wanted);
                None
            }
        }
    }
}

/// A value that a key can hold.
pub(crate) trait Decode: Sized {
    fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self>;

    /// The JSON Schema of what [`Decode::decode`] takes.
    fn schema() -> serde_json::Value;
}

impl<T: Decode> At<T> {
    pub(crate) fn decode(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        let span = reading.span(value);
        T::decode(value, reading).map(|value| Self { value, span })
    }
}

/// A part of the file that a kind understands and the core does not: as JSON, with
/// the place of each key and value by JSON pointer (RFC 6901).
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Raw {
    pub(crate) value: serde_json::Value,
    pub(crate) span: Span,
    places: Vec<Place>,
}

/// Where the value at a JSON pointer stands, and its key.
#[derive(Debug, Clone, PartialEq)]
struct Place {
    pointer: String,
    key: Span,
    value: Span,
}

impl Raw {
    pub(crate) fn read(value: &Spanned<DeValue<'_>>, reading: &mut Reading<'_>) -> Option<Self> {
        let mut places = Vec::new();
        let json = to_json(value, &mut String::new(), &mut places, reading)?;
        Some(Self { value: json, span: reading.span(value), places })
    }

    pub(crate) fn empty(span: Span) -> Self {
        Self { value: serde_json::Value::Object(serde_json::Map::new()), span, places: Vec::new() }
    }

    /// Where the value at `pointer` stands; of what is missing, its nearest parent.
    pub(crate) fn place(&self, pointer: &str) -> Span {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.find(pointer) {
                return place.value;
            }
            match pointer.rfind('/') {
                Some(at) => pointer = &pointer[..at],
                None => return self.span,
            }
        }
    }

    /// Where the key at `pointer` stands.
    pub(crate) fn key(&self, pointer: &str) -> Span {
        self.find(pointer).map_or_else(|| self.place(pointer), |place| place.key)
    }

    fn find(&self, pointer: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.pointer == pointer)
    }

    /// Adds the keys of `other` that are absent here.
    pub(crate) fn fill_from(&mut self, other: &Self) {
        let (Some(own), Some(theirs)) = (self.value.as_object_mut(), other.value.as_object()) else { return };
        for (key, value) in theirs {
            if !own.contains_key(key) {
                own.insert(key.clone(), value.clone());
                let prefix = pointer_to("", key);
                let below =
                    |at: &str| at.strip_prefix(&prefix).is_some_and(|t| t.is_empty() || t.starts_with('/'));
                self.places.extend(other.places.iter().filter(|place| below(&place.pointer)).cloned());
            }
        }
    }

    /// Puts `part` under `key`.
    fn put(&mut self, key: At<String>, part: Self) {
        let prefix = pointer_to("", &key.value);
        self.places.push(Place { pointer: prefix.clone(), key: key.span, value: part.span });
        let below = part.places.into_iter();
        self.places
            .extend(below.map(|place| Place { pointer: format!("{prefix}{}", place.pointer), ..place }));
        if let Some(table) = self.value.as_object_mut() {
            table.insert(key.value, part.value);
        }
    }
}

/// `parent/key` as a JSON pointer.
pub(crate) fn pointer_to(parent: &str, key: &str) -> String {
    format!("{parent}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn to_json(
    value: &Spanned<DeValue<'_>>,
    pointer: &mut String,
    places: &mut Vec<Place>,
    reading: &mut Reading<'_>,
) -> Option<serde_json::Value> {
    use serde_json::Value;
    Some(match value.get_ref() {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Boolean(is) => Value::Bool(*is),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::from(number),
            Err(_) => {
                reading.bad_value(value, "a smaller number");
                return None;
            }
        },
        DeValue::Float(number) => match number.as_str().parse().ok().and_then(serde_json::Number::from_f64) {
            Some(number) => Value::Number(number),
            None => {
                reading.bad_value(value, "a finite number");
                return None;
            }
        },
        DeValue::Datetime(_) => {
            reading.bad_value(value, "the date as a text, in quotes");
            return None;
        }
        DeValue::Array(items) => {
            let mut list = Vec::with_capacity(items.len());
            let parent = pointer.len();
            for (index, item) in items.iter().enumerate() {
                pointer.push_str(&format!("/{index}"));
                let span = reading.span(item);
                places.push(Place { pointer: pointer.clone(), key: span, value: span });
                list.extend(to_json(item, pointer, places, reading));
                pointer.truncate(parent);
            }
            Value::Array(list)
        }
        DeValue::Table(table) => {
            let mut map = serde_json::Map::new();
            let parent = pointer.len();
            for (key, item) in table {
                *pointer = pointer_to(pointer, key.get_ref());
                let (key_span, span) = (reading.span(key), reading.span(item));
                places.push(Place { pointer: pointer.clone(), key: key_span, value: span });
                if let Some(json) = to_json(item, pointer, places, reading) {
                    map.insert(key.get_ref().to_string(), json);
                }
                pointer.truncate(parent);
            }
            Value::Object(map)
        }
    })
}

/// The keys of a table that the core does not know: a kind's own, or mistakes.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Rest(Vec<RestEntry>);

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RestEntry {
    pub(crate) key: At<String>,
    pub(crate) raw: Raw,
}

impl Rest {
    fn take(
        &mut self,
        key: &Spanned<std::borrow::Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        reading: &mut Reading<'_>,
    ) {
        let at = At { value: key.get_ref().to_string(), span: reading.span(key) };
        if let Some(raw) = Raw::read(value, reading) {
            self.0.push(RestEntry { key: at, raw });
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &RestEntry> {
        self.0.iter()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&RestEntry> {
        self.0.iter().find(|entry| entry.key.value == key)
    }

    /// Those whose key `wanted` takes.
    pub(crate) fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|entry| wanted(&entry.key.value)).cloned().collect())
    }

    /// All of them as one table.
    pub(crate) fn into_raw(self, span: Span) -> Raw {
        let mut raw = Raw::empty(span);
        for entry in self.0 {
            raw.put(entry.key, entry.raw);
        }
        raw
    }

    /// Each one is a mistake.
    pub(crate) fn refuse(&self, table: &str, known: &[&str], findings: &mut Findings) {
        for entry in &self.0 {
            findings.push(unknown_key(entry, table, known));
        }
    }
}

/// The finding about a key that `table` does not have.
pub(crate) fn unknown_key(entry: &RestEntry, table: &str, known: &[&str]) -> Finding {
    let key = &entry.key.value;
    let finding = Finding::new(&rules::UNKNOWN_KEY, entry.key.span, format!("{table} has no key `{key}`"));
    match nearest(key, known) {
        Some(near) => finding.help(format!("did you mean `{near}`?")),
        None if entry.raw.value.is_object() => finding
            .help(format!("the keys are {}; a name with a dot in it is written in quotes", list_of(known))),
        None => finding.help(format!("the keys are {}", list_of(known))),
    }
}

/// `a, b and c`, each in backquotes; at most thirty.
pub(crate) fn list_of<S: AsRef<str>>(names: &[S]) -> String {
    const SHOWN: usize = 30;
    let mut shown: Vec<String> =
        names.iter().take(SHOWN).map(|name| format!("`{}`", name.as_ref())).collect();
    if names.len() > SHOWN {
        shown.push(format!("{} more", names.len() - SHOWN));
    }
    match shown.pop() {
        None => "none".to_owned(),
        Some(last) if shown.is_empty() => last,
        Some(last) => format!("{} and {last}", shown.join(", ")),
    }
}

/// What people write for a key that is called something else here.
const SYNONYMS: &[(&str, &str)] = &[
    ("type", "kind"),
    ("every", "cadence"),
    ("interval", "cadence"),
    ("frequency", "cadence"),
    ("period", "cadence"),
    ("schedule", "calendar"),
    ("timezone", "zone"),
    ("tz", "zone"),
    ("ttl", "token_ttl"),
    ("max_ttl", "token_ttl"),
    ("reminders", "remind"),
    ("severity", "priority"),
    ("length", "format"),
    ("grace", "overlap"),
    ("grace_period", "overlap"),
    ("url", "page"),
    ("used_by", "consumers"),
    ("services", "consumers"),
];

/// The known name that `text` most likely stands for.
pub(crate) fn nearest<'a, S: AsRef<str>>(text: &str, known: &'a [S]) -> Option<&'a str> {
    /// Longer texts are no slips of the finger, and the table below is quadratic.
    const LONGEST: usize = 64;
    if text.len() > LONGEST {
        return None;
    }
    let lower = text.to_ascii_lowercase().replace('-', "_");
    let allowed = (lower.chars().count() / 3).clamp(1, 3);
    let synonym = SYNONYMS.iter().find(|(from, _)| *from == lower).map(|(_, to)| *to);
    known.iter().map(AsRef::as_ref).find(|name| Some(*name) == synonym).or_else(|| {
        known
            .iter()
            .map(AsRef::as_ref)
            .filter(|name| name.len() <= LONGEST)
            .map(|name| (edits(&lower, &name.to_ascii_lowercase().replace('-', "_")), name))
            .filter(|(distance, _)| *distance <= allowed)
            .min()
            .map(|(_, name)| name)
    })
}

/// How many single-character edits lead from one text to the other (Levenshtein).
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_suggested_and_a_far_one_is_not() {
        let known = ["cadence", "overlap", "token_ttl", "consumers", "kind"];
        assert_eq!(nearest("overlapp", &known), Some("overlap"));
        assert_eq!(nearest("Consumer", &known), Some("consumers"));
        assert_eq!(nearest("token-ttl", &known), Some("token_ttl"));
        assert_eq!(nearest("type", &known), Some("kind"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest(&"x".repeat(1000), &known), None);
    }

    #[test]
    fn a_place_is_found_by_pointer_and_else_its_parent_s() {
        let text = "a = { b = [1, { \"c/d\" = true }] }";
        let tree = DeTable::parse(text).unwrap();
        let mut findings = Findings::default();
        let mut reading = Reading { file: 0, findings: &mut findings };
        let raw = Raw::read(tree.get_ref().get("a").unwrap(), &mut reading).unwrap();
        let shown = |pointer: &str| {
            let span = raw.place(pointer);
            &text[span.start as usize..span.end as usize]
        };
        assert_eq!(shown("/b/0"), "1");
        assert_eq!(shown("/b/1/c~1d"), "true");
        assert_eq!(shown("/b/1/nothing"), "{ \"c/d\" = true }");
        assert_eq!(shown(""), "{ b = [1, { \"c/d\" = true }] }");
        assert_eq!(raw.value, serde_json::json!({ "b": [1, { "c/d": true }] }));
    }
}
