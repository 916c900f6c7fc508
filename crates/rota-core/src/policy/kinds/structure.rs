//! Whether settings fit the schema that their kind declares, with the place of
//! each mistake.
//!
//! Understands the part of JSON Schema (draft 2020-12) that derived schemas use:
//! `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`,
//! `items`, `pattern` of durations, numeric bounds, `$ref` into `$defs`, `anyOf`,
//! `oneOf` and `allOf`. Deliberately absent: everything else, which is ignored; the kind's own
//! type reads the settings afterwards and has the last word.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::KindProblem;
use crate::policy::duration;
use crate::policy::raw::{list_of, nearest, pointer_to};

/// The rule that structural problems carry.
pub(in crate::policy) const RULE: &str = "table";

/// Schemas refer to themselves; settings are parsed with a smaller limit than this.
const DEEPEST: usize = 200;

pub(super) fn nothing() -> Value {
    json!({ "type": "object", "additionalProperties": false })
}

pub(super) fn schema_of<T: schemars::JsonSchema>() -> Value {
    schemars::SchemaGenerator::default().into_root_schema_for::<T>().to_value()
}

/// Why `T` cannot be read from `settings`. Serde's messages may quote the settings,
/// which are the user's own file and hold references, not secrets.
pub(super) fn refusal_of<T: DeserializeOwned>(settings: &Value) -> Option<String> {
    serde_json::from_value::<T>(settings.clone()).err().map(|error| error.to_string())
}

/// Every place where `value` does not fit `schema`. `beside` are the core's keys of
/// the same table, which a slip of the finger may have meant.
pub(super) fn check(schema: &Value, value: &Value, beside: &[&str]) -> Vec<KindProblem> {
    let mut checking = Checking { root: schema, beside, problems: Vec::new() };
    checking.walk(schema, value, "", 0);
    checking.problems
}

struct Checking<'a> {
    root: &'a Value,
    beside: &'a [&'a str],
    problems: Vec<KindProblem>,
}

impl<'a> Checking<'a> {
    fn walk(&mut self, schema: &'a Value, value: &Value, pointer: &str, depth: usize) {
        if depth > DEEPEST {
            return;
        }
        let Some(schema) = self.follow(schema) else { return };
        if let Some(wanted) = schema.get("const")
            && wanted != value
        {
            self.problem(
                pointer,
                "another value than the only one that fits",
                format!("write `{}`", bare(wanted)),
            );
            return;
        }
        if let Some(words) = schema.get("enum").and_then(Value::as_array)
            && !words.contains(value)
        {
            let words: Vec<String> = words.iter().map(bare).collect();
            self.word(value, &words, pointer);
            return;
        }
        if let Some(types) = schema.get("type")
            && !fits(types, value)
        {
            self.problem(
                pointer,
                &format!("{} does not fit here", found(value)),
                format!("write {}", wanted(types)),
            );
            return;
        }
        self.alternatives(schema, value, pointer, depth);
        for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.walk(part, value, pointer, depth + 1);
        }
        match value {
            Value::Object(table) => self.table(schema, table, pointer, depth),
            Value::Array(items) => {
                if let Some(schema) = schema.get("items") {
                    for (index, item) in items.iter().enumerate() {
                        self.walk(schema, item, &format!("{pointer}/{index}"), depth + 1);
                    }
                }
            }
            Value::String(text) => self.text(schema, text, pointer),
            Value::Number(number) => self.number(schema, number, pointer),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// The schema that `schema` stands for.
    fn follow(&self, schema: &'a Value) -> Option<&'a Map<String, Value>> {
        let mut schema = schema.as_object()?;
        for _ in 0..DEEPEST {
            let Some(target) = schema.get("$ref").and_then(Value::as_str) else { return Some(schema) };
            schema = self.root.pointer(target.strip_prefix('#')?)?.as_object()?;
        }
        None
    }

    /// One of several schemas fits, or the nearest one's problems are told.
    fn alternatives(&mut self, schema: &'a Map<String, Value>, value: &Value, pointer: &str, depth: usize) {
        for key in ["anyOf", "oneOf"] {
            let Some(parts) = schema.get(key).and_then(Value::as_array) else { continue };
            let words: Vec<String> = parts
                .iter()
                .filter_map(|part| self.follow(part)?.get("const").filter(|word| word.is_string()).map(bare))
                .collect();
            if !words.is_empty() && words.len() == parts.len() {
                if !parts.iter().any(|part| part.get("const") == Some(value)) {
                    self.word(value, &words, pointer);
                }
                continue;
            }
            let mut best: Option<Vec<KindProblem>> = None;
            for part in parts {
                let mut trial = Checking { root: self.root, beside: &[], problems: Vec::new() };
                trial.walk(part, value, pointer, depth + 1);
                // The alternative whose mistakes lie deepest is the one that was meant.
                let rank = |problems: &[KindProblem]| {
                    problems.iter().map(|p| p.pointer.matches('/').count()).min().unwrap_or(usize::MAX)
                };
                if best.as_ref().is_none_or(|best| rank(&trial.problems) > rank(best)) {
                    best = Some(trial.problems);
                }
            }
            self.problems.extend(best.into_iter().flatten());
        }
    }

    fn table(
        &mut self,
        schema: &'a Map<String, Value>,
        table: &Map<String, Value>,
        pointer: &str,
        depth: usize,
    ) {
        let empty = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object);
        for key in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
            let Some(key) = key.as_str().filter(|key| !table.contains_key(*key)) else { continue };
            let about = properties.and_then(|p| p.get(key)?.get("description")?.as_str());
            let help = match about {
                Some(about) => format!("add `{key} = ...`: {}", in_a_sentence(about)),
                None => format!("add `{key} = ...`"),
            };
            self.problem(pointer, &format!("the key `{key}` is missing"), help);
        }
        for (key, value) in table {
            let at = pointer_to(pointer, key);
            match (properties.and_then(|p| p.get(key)), schema.get("additionalProperties")) {
                (Some(schema), _) => self.walk(schema, value, &at, depth + 1),
                (None, Some(Value::Bool(false))) => {
                    let beside = if pointer.is_empty() { self.beside } else { &[] };
                    let own = properties.unwrap_or(&empty).keys().map(String::as_str);
                    let known: Vec<&str> = own.chain(beside.iter().copied()).collect();
                    let help = match nearest(key, &known) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => format!("the keys are {}", list_of(&known)),
                    };
                    let problem = KindProblem::error(RULE, at, format!("there is no key `{key}` here"), help);
                    self.problems.push(problem.on_key());
                }
                (None, Some(schema @ Value::Object(_))) => self.walk(schema, value, &at, depth + 1),
                (None, _) => {}
            }
        }
    }

    fn text(&mut self, schema: &Map<String, Value>, text: &str, pointer: &str) {
        if schema.get("pattern").and_then(Value::as_str) == Some(duration::PATTERN)
            && let Err(error) = duration::parse(text)
        {
            self.problem(pointer, &error.to_string(), "write \"7d\", \"24h\" or \"90s\"".to_owned());
        }
        let shortest = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0);
        if (text.chars().count() as u64) < shortest {
            self.problem(pointer, "the text is too short", format!("write at least {shortest} characters"));
        }
    }

    fn number(&mut self, schema: &Map<String, Value>, number: &serde_json::Number, pointer: &str) {
        let Some(number) = number.as_f64() else { return };
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        if let Some(least) = bound("minimum").filter(|least| number < *least) {
            self.problem(pointer, "the number is too small", format!("write at least {least}"));
        }
        if let Some(most) = bound("maximum").filter(|most| number > *most) {
            self.problem(pointer, "the number is too large", format!("write at most {most}"));
        }
    }

    fn word(&mut self, value: &Value, words: &[String], pointer: &str) {
        let help = match value.as_str().and_then(|text| nearest(text, words)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("write one of {}", list_of(words)),
        };
        self.problem(pointer, "none of the words that the key takes", help);
    }

    fn problem(&mut self, pointer: &str, message: &str, help: String) {
        self.problems.push(KindProblem::error(RULE, pointer, message, help));
    }
}

/// The first line of a description, to go on with after a colon.
fn in_a_sentence(about: &str) -> String {
    let line = about.lines().next().unwrap_or_default().trim_end_matches('.');
    let mut chars = line.chars();
    match (chars.next(), chars.next()) {
        // Not an abbreviation.
        (Some(first), Some(second)) if !second.is_uppercase() => {
            first.to_lowercase().chain(line.chars().skip(1)).collect()
        }
        _ => line.to_owned(),
    }
}

/// A word without its quotes.
fn bare(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn fits(types: &Value, value: &Value) -> bool {
    let one = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        _ => true,
    };
    match types {
        Value::String(name) => one(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(one),
        _ => true,
    }
}

fn found(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

fn wanted(types: &Value) -> String {
    let one = |name: &str| match name {
        "object" => "a table in curly brackets",
        "array" => "a list in square brackets",
        "string" => "a text in quotes",
        "boolean" => "`true` or `false`, without quotes",
        "integer" => "a whole number, without quotes",
        "number" => "a number, without quotes",
        _ => "another value",
    };
    let names: Vec<&str> = match types {
        Value::String(name) => vec![name],
        Value::Array(names) => {
            names.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect()
        }
        _ => Vec::new(),
    };
    names.iter().map(|name| one(name)).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::duration::DurationText;

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        /// Where it is.
        #[expect(dead_code, reason = "only the shape matters")]
        url: String,
        #[expect(dead_code, reason = "only the shape matters")]
        timeout: Option<DurationText>,
        #[expect(dead_code, reason = "only the shape matters")]
        port: Option<u16>,
        #[expect(dead_code, reason = "only the shape matters")]
        mode: Option<Mode>,
        #[expect(dead_code, reason = "only the shape matters")]
        nested: Option<Vec<Nested>>,
        #[expect(dead_code, reason = "only the shape matters")]
        either: Option<Either>,
    }

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[serde(rename_all = "kebab-case")]
    enum Mode {
        /// One at a time.
        OneByOne,
        /// At once.
        AllAtOnce,
    }

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Nested {
        #[expect(dead_code, reason = "only the shape matters")]
        key: bool,
    }

    #[derive(serde::Deserialize, schemars::JsonSchema)]
    #[serde(untagged)]
    enum Either {
        #[expect(dead_code, reason = "only the shape matters")]
        Text(String),
        #[expect(dead_code, reason = "only the shape matters")]
        Table(Nested),
    }

    fn told(settings: Value) -> Vec<(String, String, String)> {
        check(&schema_of::<Settings>(), &settings, &["deadline"])
            .into_iter()
            .map(|p| (p.pointer, p.message, p.help))
            .collect()
    }

    fn one(settings: Value) -> (String, String, String) {
        let mut all = told(settings);
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    fn is(pointer: &str, message: &str, help: &str) -> (String, String, String) {
        (pointer.to_owned(), message.to_owned(), help.to_owned())
    }

    #[test]
    fn settings_that_fit_raise_nothing() {
        let full = json!({
            "url": "u", "timeout": "5s", "port": 1, "mode": "one-by-one",
            "nested": [{ "key": true }], "either": { "key": false },
        });
        assert_eq!(told(full), []);
        assert_eq!(told(json!({ "url": "u", "either": "x" })), []);
    }

    #[test]
    fn each_mistake_is_told_at_its_place_with_the_fix() {
        assert_eq!(one(json!({})), is("", "the key `url` is missing", "add `url = ...`: where it is"));
        assert_eq!(
            one(json!({ "url": "u", "timout": "5s" })),
            is("/timout", "there is no key `timout` here", "did you mean `timeout`?")
        );
        assert_eq!(
            one(json!({ "url": 5 })),
            is("/url", "a number does not fit here", "write a text in quotes")
        );
        assert_eq!(
            one(json!({ "url": "u", "port": 70000 })),
            is("/port", "the number is too large", "write at most 65535")
        );
        assert_eq!(
            one(json!({ "url": "u", "mode": "one-by-on" })),
            is("/mode", "none of the words that the key takes", "did you mean `one-by-one`?")
        );
        assert_eq!(
            one(json!({ "url": "u", "nested": [{ "key": "yes" }] })),
            is("/nested/0/key", "a text does not fit here", "write `true` or `false`, without quotes")
        );
        assert_eq!(
            one(json!({ "url": "u", "either": { "kex": true, "key": true } })),
            is("/either/kex", "there is no key `kex` here", "did you mean `key`?")
        );
        assert_eq!(
            one(json!({ "url": "u", "dedline": "5s" })),
            is("/dedline", "there is no key `dedline` here", "did you mean `deadline`?")
        );
        let (pointer, message, _) = one(json!({ "url": "u", "timeout": "5 s" }));
        assert_eq!(pointer, "/timeout");
        assert!(message.starts_with("a duration is"), "{message}");
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let schema = json!({ "$ref": "#/$defs/A", "$defs": { "A": { "$ref": "#/$defs/A" } } });
        assert_eq!(check(&schema, &json!({}), &[]), []);
        let schema = json!({ "type": "object", "additionalProperties": { "$ref": "#" } });
        assert_eq!(check(&schema, &json!({ "a": { "b": {} } }), &[]), []);
    }
}
