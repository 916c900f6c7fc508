//! Durations as people write them: `7d`, `90s`, `1d12h`.
//!
//! One spelling for the whole policy file, the tables of the kinds included.
//! Deliberately absent: months and years, which have no fixed length, and fractions.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// The longest duration that a policy may state: 3660 days, ten years and some.
/// Far above every use, and far below where adding two of them could overflow.
pub const LONGEST: SignedDuration = SignedDuration::from_secs(3660 * 86_400);

/// The units, longest first, with their length in seconds.
const UNITS: [(char, i64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)];

/// The pattern of [`parse`], for JSON Schemas.
pub const PATTERN: &str = "^([0-9]+[wdhms])+$";

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    #[error("a duration is a number and a unit, such as `7d`, `24h`, `90s` or `1d12h`")]
    Form,
    #[error("the units of a duration go from long to short and come once each: w, d, h, m, s")]
    Order,
    #[error("a duration is at most 3660d")]
    TooLong,
}

/// Reads `7d`, `24h`, `1d12h`; units are w, d, h, m and s, from long to short.
///
/// # Errors
/// Another form, an order other than from long to short, or more than [`LONGEST`].
pub fn parse(text: &str) -> Result<SignedDuration, InvalidDuration> {
    let mut rest = text;
    let mut seconds: i64 = 0;
    let mut units = UNITS.iter();
    if text.is_empty() {
        return Err(InvalidDuration::Form);
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let unit = tail.chars().next().ok_or(InvalidDuration::Form)?;
        if digits == 0 || !UNITS.iter().any(|(u, _)| *u == unit) {
            return Err(InvalidDuration::Form);
        }
        let (_, length) = units.find(|(u, _)| *u == unit).ok_or(InvalidDuration::Order)?;
        let number: i64 = number.parse().map_err(|_| InvalidDuration::TooLong)?;
        seconds = number
            .checked_mul(*length)
            .and_then(|part| seconds.checked_add(part))
            .filter(|sum| *sum <= LONGEST.as_secs())
            .ok_or(InvalidDuration::TooLong)?;
        rest = &tail[1..];
    }
    Ok(SignedDuration::from_secs(seconds))
}

/// Writes a duration as [`parse`] reads it; days are the longest unit, fractions of a second are dropped.
#[must_use]
pub fn show(duration: SignedDuration) -> String {
    let mut rest = duration.as_secs().max(0);
    let mut text = String::new();
    for (unit, length) in UNITS.iter().filter(|(unit, _)| *unit != 'w') {
        if rest >= *length {
            text.push_str(&format!("{}{unit}", rest / length));
            rest %= length;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A duration in a kind's own table, written like every other one in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DurationText(pub SignedDuration);

impl FromStr for DurationText {
    type Err = InvalidDuration;
    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        parse(text).map(Self)
    }
}

impl TryFrom<String> for DurationText {
    type Error = InvalidDuration;
    fn try_from(text: String) -> Result<Self, InvalidDuration> {
        text.parse()
    }
}

impl From<DurationText> for String {
    fn from(duration: DurationText) -> Self {
        duration.to_string()
    }
}

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&show(self.0))
    }
}

impl schemars::JsonSchema for DurationText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_as_it_is_written() {
        for text in ["7d", "24h", "1d12h", "90s", "1w2d3h4m5s", "0s", "3660d"] {
            let duration = parse(text).unwrap();
            assert_eq!(parse(&show(duration)), Ok(duration), "{text}");
        }
        assert_eq!(show(parse("24h").unwrap()), "1d");
        assert_eq!(show(parse("1w2d3h4m5s").unwrap()), "9d3h4m5s");
        assert_eq!(show(SignedDuration::ZERO), "0s");
    }

    #[test]
    fn other_forms_are_refused_with_the_reason() {
        for text in ["", "7", "d", "7 d", "7D", "1.5h", "-1d", "7d ", "7é", "1M"] {
            assert_eq!(parse(text), Err(InvalidDuration::Form), "{text:?}");
        }
        for text in ["1h1d", "1d1d", "1s1w"] {
            assert_eq!(parse(text), Err(InvalidDuration::Order), "{text:?}");
        }
        for text in ["3661d", "99999999999999999999s", "9223372036854775807w", "3660d1s"] {
            assert_eq!(parse(text), Err(InvalidDuration::TooLong), "{text:?}");
        }
    }
}
