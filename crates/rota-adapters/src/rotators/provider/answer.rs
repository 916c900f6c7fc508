//! What a provider answered, and what it means.
//!
//! Fields that nobody asked for are not looked at. What is looked for and missing makes an
//! answer unreadable: a list that cannot be read is not an empty one.

use jiff::Timestamp;
use reqwest::header::{HeaderMap, LINK};
use rota_core::fault::Fault;
use rota_core::value::SecretValue;
use serde_json::Value;
use zeroize::Zeroize as _;

use super::file::{Path, Rule};
use crate::http;

/// The longest id of a key; the longest known ones have 40 characters.
const LONGEST_ID: usize = 200;

/// An answer of a provider. Its JSON may hold a secret and is wiped when dropped.
pub(super) struct Answer {
    pub(super) status: reqwest::StatusCode,
    pub(super) headers: HeaderMap,
    json: Json,
}

struct Json(Option<Value>);

impl Drop for Json {
    fn drop(&mut self) {
        if let Some(value) = &mut self.0 {
            wipe(value);
        }
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(table) => table.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

impl Answer {
    /// A body that is not JSON is none.
    pub(super) fn new(status: reqwest::StatusCode, headers: HeaderMap, body: &[u8]) -> Self {
        Self { status, headers, json: Json(serde_json::from_slice(body).ok()) }
    }

    pub(super) fn is(&self, statuses: &[u16]) -> bool {
        statuses.contains(&self.status.as_u16())
    }

    pub(super) fn fits(&self, rule: &Rule) -> bool {
        if self.status.as_u16() != rule.status {
            return false;
        }
        match (&rule.path, &rule.equals) {
            (Some(path), Some(wanted)) => self.json().and_then(|json| one(path, json)) == Some(wanted),
            _ => true,
        }
    }

    pub(super) fn fits_any(&self, rules: &[Rule]) -> bool {
        rules.iter().any(|rule| self.fits(rule))
    }

    pub(super) fn json(&self) -> Option<&Value> {
        self.json.0.as_ref()
    }

    /// The array at `path`.
    pub(super) fn items(&self, path: &Path) -> Option<&Vec<Value>> {
        one(path, self.json()?)?.as_array()
    }

    /// The next page's address in the `Link` header (RFC 8288). Sentry names a next page
    /// always, and says `results="false"` where it would be empty.
    pub(super) fn link(&self) -> Option<String> {
        let links = self.headers.get_all(LINK).into_iter().filter_map(|value| value.to_str().ok());
        links.flat_map(|line| line.split('<').skip(1)).find_map(|link| {
            let (address, parameters) = link.split_once('>')?;
            let mut parameters = parameters.split([';', ',']).map(str::trim);
            let mut next = false;
            let more = parameters.all(|parameter| {
                next |= parameter == "rel=\"next\"" || parameter == "rel=next";
                parameter != "results=\"false\""
            });
            (next && more).then(|| address.to_owned())
        })
    }

    /// Why a call failed whose status says so.
    pub(super) fn fault(&self, what: &str) -> Fault {
        http::status_fault(what, self.status, &self.headers)
    }
}

/// The one value at `path`.
pub(super) fn one<'v>(path: &Path, value: &'v Value) -> Option<&'v Value> {
    path.0.query(value).exactly_one().ok()
}

/// An id: text, or a number as text. It comes to stand in addresses, so that it holds only
/// what stands for itself there.
pub(super) fn id(path: &Path, value: &Value) -> Option<String> {
    let id = match one(path, value)? {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    is_plain(&id).then_some(id)
}

/// True for what can be a segment of a path as it stands (RFC 3986, section 2.3).
pub(super) fn is_plain(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
    (1..=LONGEST_ID).contains(&text.len()) && text.chars().all(legal) && text.chars().any(|c| c != '.')
}

/// A part of a key that was made.
pub(super) fn secret(path: &Path, value: &Value) -> Option<SecretValue> {
    SecretValue::new(one(path, value)?.as_str()?.to_owned()).ok()
}

/// A time: RFC 3339, RFC 2822 or Unix seconds.
pub(super) fn time(path: &Path, value: &Value) -> Option<Timestamp> {
    match one(path, value)? {
        Value::Number(seconds) => Timestamp::from_second(seconds.as_i64()?).ok(),
        Value::String(text) => text.parse().ok().or_else(|| http::http_date(text)),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn path(text: &str) -> Path {
        Path::try_from(text.to_owned()).unwrap()
    }

    fn with_link(link: &str) -> Answer {
        let headers = HeaderMap::from_iter([(LINK, link.parse().unwrap())]);
        Answer::new(reqwest::StatusCode::OK, headers, b"[]")
    }

    #[test]
    fn the_next_page_is_the_one_that_is_not_empty() {
        let next = "<https://h/x/?&cursor=0:0:1>; rel=\"previous\"; results=\"false\"; cursor=\"0:0:1\", \
                    <https://h/x/?&cursor=0:100:0>; rel=\"next\"; results=\"true\"; cursor=\"0:100:0\"";
        assert_eq!(with_link(next).link().as_deref(), Some("https://h/x/?&cursor=0:100:0"));
        for none in [
            "<https://h/x/?&cursor=0:100:0>; rel=\"next\"; results=\"false\"; cursor=\"0:100:0\"",
            "<https://h/x/>; rel=\"previous\"",
            "nonsense",
        ] {
            assert_eq!(with_link(none).link(), None, "{none}");
        }
        assert_eq!(with_link("<https://h/2>; rel=next").link().as_deref(), Some("https://h/2"));
    }

    #[test]
    fn an_id_never_leaves_its_segment() {
        let read = |value: Value| id(&path("$.id"), &json!({ "id": value }));
        assert_eq!(read(json!("re_1-2.3~4")), Some("re_1-2.3~4".to_owned()));
        assert_eq!(read(json!(17)), Some("17".to_owned()));
        for bad in
            [json!(""), json!(".."), json!("a/b"), json!("a?b"), json!("a%2fb"), json!(null), json!([1])]
        {
            assert_eq!(read(bad.clone()), None, "{bad}");
        }
        assert_eq!(read(json!("x".repeat(LONGEST_ID + 1))), None);
    }

    #[test]
    fn times_are_read_in_the_forms_that_providers_use() {
        let wanted: Timestamp = "2023-04-08T00:11:13Z".parse().unwrap();
        for text in [
            json!("2023-04-08T00:11:13+00:00"),
            json!("2023-04-08 00:11:13+00"),
            json!("2023-04-08T02:11:13.000000+02:00"),
            json!("Sat, 08 Apr 2023 00:11:13 +0000"),
            json!(1_680_912_673),
        ] {
            assert_eq!(time(&path("$.at"), &json!({ "at": text })), Some(wanted), "{text}");
        }
        assert_eq!(time(&path("$.at"), &json!({ "at": "yesterday" })), None);
    }

    #[test]
    fn a_rule_compares_the_status_and_one_value() {
        let answer = |status: u16, body: &str| {
            let status = reqwest::StatusCode::from_u16(status).unwrap();
            Answer::new(status, HeaderMap::new(), body.as_bytes())
        };
        let rule = Rule { status: 401, path: Some(path("$.name")), equals: Some(json!("restricted")) };
        assert!(answer(401, r#"{"name":"restricted","added":"tomorrow"}"#).fits(&rule));
        for (status, body) in
            [(401, r#"{"name":"other"}"#), (401, "no json"), (401, "{}"), (403, r#"{"name":"restricted"}"#)]
        {
            assert!(!answer(status, body).fits(&rule), "{status} {body}");
        }
        assert!(answer(404, "").fits(&Rule { status: 404, path: None, equals: None }));
    }
}
