//! Time zones by name, from the database that is compiled in.
//!
//! Deliberately absent: the host's own zone files. Every replica, and a container
//! without any, gives the same answer; new rules come with a new release.

use std::sync::OnceLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::redact::clean_line;

/// A name that is not in the time-zone database.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is not a time zone: write {advice}")]
pub struct UnknownZone {
    name: String,
    advice: String,
}

/// The compiled-in IANA time-zone database.
pub(super) fn database() -> &'static TimeZoneDatabase {
    static DATABASE: OnceLock<TimeZoneDatabase> = OnceLock::new();
    DATABASE.get_or_init(TimeZoneDatabase::bundled)
}

/// The zone with this IANA name, in any case.
///
/// # Errors
/// Where there is none; says a likely one.
pub fn zone(name: &str) -> Result<TimeZone, UnknownZone> {
    match database().get(name) {
        // `Etc/Unknown` stands for no zone at all (CLDR); it would pass for UTC.
        Ok(zone) if !zone.is_unknown() && zone.iana_name().is_some() => Ok(zone),
        Ok(_) | Err(_) => Err(UnknownZone { name: clean_line(name, 60), advice: advice(name) }),
    }
}

/// Somebody who writes `Amsterdam` or `new york` means the zone of that city.
fn advice(name: &str) -> String {
    let wanted = name.trim().replace(' ', "_");
    let city = wanted.rsplit('/').next().unwrap_or_default();
    let meant = database().available().map(|zone| zone.as_str().to_owned()).find(|zone| {
        let theirs = zone.rsplit('/').next().unwrap_or_default();
        zone.contains('/') && theirs.eq_ignore_ascii_case(city)
    });
    match meant {
        Some(zone) => format!("`{zone}`"),
        None => "an IANA name such as `Europe/Amsterdam`, or `UTC`".to_owned(),
    }
}

/// One name for every different behaviour from 2024 to 2044: most names are other
/// names for the same rules, and looking at each adds time and nothing else.
#[cfg(test)]
pub(super) fn distinct() -> Vec<String> {
    let from: jiff::Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
    let until: jiff::Timestamp = "2044-01-01T00:00:00Z".parse().unwrap();
    let behaviours: std::collections::BTreeMap<_, _> = database()
        .available()
        .map(|name| {
            let zone = zone(name.as_str()).unwrap();
            let changes = zone.following(from).take_while(|change| change.timestamp() < until);
            let changes: Vec<_> = changes.map(|change| (change.timestamp(), change.offset())).collect();
            ((zone.to_offset(from), changes), name.as_str().to_owned())
        })
        .collect();
    behaviours.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_found_in_any_case_without_the_hosts_files() {
        for (name, canonical) in [
            ("Europe/Amsterdam", "Europe/Amsterdam"),
            ("america/new_york", "America/New_York"),
            ("utc", "UTC"),
        ] {
            assert_eq!(zone(name).unwrap().iana_name(), Some(canonical));
        }
        assert!(database().available().count() > 400);
        assert!(distinct().len() > 60, "{}", distinct().len());
    }

    #[test]
    fn an_unknown_zone_says_what_to_write() {
        for (name, message) in [
            ("Amsterdam", "`Amsterdam` is not a time zone: write `Europe/Amsterdam`"),
            ("new york", "`new york` is not a time zone: write `America/New_York`"),
            ("Europe/Tokyo", "`Europe/Tokyo` is not a time zone: write `Asia/Tokyo`"),
            (
                "Europe/Amsterdan",
                "`Europe/Amsterdan` is not a time zone: write an IANA name such as `Europe/Amsterdam`, or `UTC`",
            ),
            (
                "Etc/Unknown",
                "`Etc/Unknown` is not a time zone: write an IANA name such as `Europe/Amsterdam`, or `UTC`",
            ),
            ("", "`` is not a time zone: write an IANA name such as `Europe/Amsterdam`, or `UTC`"),
        ] {
            assert_eq!(zone(name).unwrap_err().to_string(), message);
        }
    }
}
