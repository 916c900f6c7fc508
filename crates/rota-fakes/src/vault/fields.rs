//! Reading the fields of a request as Vault's framework does: durations as
//! seconds or as text, lists as arrays or separated by commas.

use jiff::SignedDuration;
use serde_json::{Map, Value};

use super::reply::Reply;

/// The JSON body of a call.
pub(super) type Fields = Map<String, Value>;

/// A string, or nothing.
pub(super) fn text<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(Value::as_str)
}

/// A string that has to be there.
pub(super) fn required<'a>(fields: &'a Fields, name: &str) -> Result<&'a str, Reply> {
    text(fields, name)
        .filter(|text| !text.is_empty())
        .ok_or_else(|| Reply::bad_request(format!("missing {name}")))
}

/// A boolean.
pub(super) fn flag(fields: &Fields, name: &str) -> Option<bool> {
    fields.get(name).and_then(Value::as_bool)
}

/// A whole number, not below zero.
pub(super) fn number(fields: &Fields, name: &str) -> Result<Option<u64>, Reply> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(number) => Ok(Some(number)),
            None => Err(Reply::bad_request(format!("error converting input for field {name:?}"))),
        },
    }
}

/// A list of strings.
pub(super) fn list(fields: &Fields, name: &str) -> Option<Vec<String>> {
    match fields.get(name)? {
        Value::Array(items) => Some(items.iter().filter_map(Value::as_str).map(ToOwned::to_owned).collect()),
        Value::String(text) => {
            Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Into::into).collect())
        }
        _ => None,
    }
}

/// A list of version numbers.
pub(super) fn versions(fields: &Fields) -> Result<Vec<u64>, Reply> {
    let items = match fields.get("versions") {
        Some(Value::Array(items)) => items.clone(),
        Some(one) => vec![one.clone()],
        None => Vec::new(),
    };
    // hvac sends numbers, the command line sends text.
    let numbers: Option<Vec<u64>> =
        items.iter().map(|item| item.as_u64().or_else(|| item.as_str()?.parse().ok())).collect();
    match numbers {
        Some(numbers) if !numbers.is_empty() => Ok(numbers),
        Some(_) => Err(Reply::bad_request("no version number provided")),
        None => Err(Reply::bad_request("error converting input for field \"versions\"")),
    }
}

/// A duration: seconds, or text such as `90s`, `1h30m`, `30d`.
pub(super) fn duration(fields: &Fields, name: &str) -> Result<Option<SignedDuration>, Reply> {
    let wrong = || Reply::bad_request(format!("error converting input for field {name:?}"));
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(seconds)) => {
            Ok(Some(SignedDuration::from_secs(seconds.as_i64().ok_or_else(wrong)?)))
        }
        Some(Value::String(text)) => parse_duration(text).map(Some).ok_or_else(wrong),
        Some(_) => Err(wrong()),
    }
}

fn parse_duration(text: &str) -> Option<SignedDuration> {
    if text.is_empty() {
        return Some(SignedDuration::ZERO);
    }
    if let Ok(seconds) = text.parse() {
        return Some(SignedDuration::from_secs(seconds));
    }
    let mut total = SignedDuration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0)?;
        let count: i64 = rest[..digits].parse().ok()?;
        let end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |end| digits + end);
        let unit = match &rest[digits..end] {
            "s" => 1,
            "m" => 60,
            "h" => 3_600,
            "d" => 86_400,
            _ => return None,
        };
        total += SignedDuration::from_secs(count.checked_mul(unit)?);
        rest = &rest[end..];
    }
    Some(total)
}

/// A duration the way Go writes it: `0s`, `90s` as `1m30s`, an hour as `1h0m0s`.
pub(super) fn go_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn durations_are_read_and_written_as_vault_does() {
        for (given, written) in [
            (json!(90), "1m30s"),
            (json!("90"), "1m30s"),
            (json!("1h30m"), "1h30m0s"),
            (json!("30d"), "720h0m0s"),
            (json!("0s"), "0s"),
            (json!(""), "0s"),
        ] {
            let fields = Fields::from_iter([("ttl".to_owned(), given)]);
            let read = duration(&fields, "ttl").unwrap().unwrap();
            assert_eq!(go_duration(read), written);
        }
        for wrong in [json!("1 hour"), json!("h"), json!(true), json!(1.5)] {
            let fields = Fields::from_iter([("ttl".to_owned(), wrong)]);
            assert!(duration(&fields, "ttl").is_err());
        }
    }
}
