//! Civil dates in a zone, written as a five-field cron pattern.
//!
//! The pattern is matched on the calendar alone and the zone is applied afterwards,
//! so that every date gives exactly one moment: a time that a clock change skips is
//! the moment of the change, a time that it repeats is the first of the two. (The
//! zone-aware search of the cron library drops dates that fall into a change at
//! midnight or have several hours, and stops at a day that a zone left out.)

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, civil};
use serde::{Deserialize, Serialize};

use super::zone::{UnknownZone, zone};
use crate::redact::clean_line;

/// After so many years the Gregorian calendar repeats, weekdays included: a pattern
/// without a date in them has none.
const CALENDAR_CYCLE_YEARS: i16 = 400;

/// The years that [`Calendar::gaps`] looks at: twenty-eight, after which weekdays and
/// leap years repeat.
const LOOKED_AT: std::ops::Range<i16> = 2024..2052;

/// The longest pattern, in bytes.
const MAX_CRON_BYTES: usize = 200;

/// Civil dates in a zone. Checked when made; stored as its two texts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub struct Calendar {
    cron: String,
    zone: TimeZone,
}

#[derive(Serialize, Deserialize)]
struct Text {
    cron: String,
    zone: String,
}

/// Why a pattern and a zone are not a calendar; says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCalendar {
    #[error(
        "`{0}` is not a calendar: write five fields (minute, hour, day of month, month, day of week), as in \
         `0 10 15 1,4,7,10 *`"
    )]
    Form(String),
    #[error("`{text}` is not {field}: write {range}")]
    Field { text: String, field: &'static str, range: &'static str },
    #[error("`{0}` never comes: no year has such a date")]
    Never(String),
    #[error(transparent)]
    Zone(#[from] UnknownZone),
}

/// How far apart the dates of a calendar are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gaps {
    pub shortest: SignedDuration,
    pub longest: SignedDuration,
}

impl Calendar {
    /// # Errors
    /// Where `cron` is not five fields or has no date ever, or the zone is unknown.
    pub fn new(cron: &str, zone_name: &str) -> Result<Self, InvalidCalendar> {
        let cron = cron.split_whitespace().collect::<Vec<_>>().join(" ");
        let pattern = parse(&cron)?;
        let first = civil::date(LOOKED_AT.start, 1, 1).at(0, 0, 0, 0);
        match pattern.find_next_occurrence(&first, true) {
            Ok(date) if date.year() < LOOKED_AT.start + CALENDAR_CYCLE_YEARS => {}
            Ok(_) | Err(_) => return Err(InvalidCalendar::Never(cron)),
        }
        Ok(Self { cron, zone: zone(zone_name)? })
    }

    /// The pattern, with single spaces.
    #[must_use]
    pub fn cron(&self) -> &str {
        &self.cron
    }

    /// The zone's IANA name.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        // Every zone comes from the database by its name.
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The first date strictly after `at`; `None` only at the end of time.
    #[must_use]
    pub fn next_after(&self, at: Timestamp) -> Option<Timestamp> {
        self.dates_after(at).next()
    }

    /// The dates strictly after `at`, in order.
    pub fn dates_after(&self, at: Timestamp) -> impl Iterator<Item = Timestamp> {
        // Checked when the calendar was made.
        let pattern = parse(&self.cron).ok();
        let mut last = at;
        let mut date = self.zone.to_offset(at).to_datetime(at);
        std::iter::from_fn(move || {
            loop {
                date = pattern.as_ref()?.find_next_occurrence(&date, false).ok()?;
                let moment = self.moment(date)?;
                // In a repeated hour the wall clock shows times that came already, and
                // all times of a skipped hour are one moment.
                if moment > last {
                    last = moment;
                    return Some(moment);
                }
            }
        })
    }

    /// The shortest and the longest time between two dates from 2024 on, clock changes included.
    #[must_use]
    pub fn gaps(&self) -> Gaps {
        let mut gaps: Option<Gaps> = None;
        let mut last = None;
        for moment in self.edges_of_days() {
            let gap = last.map(|last| moment.duration_since(last)).filter(|gap| gap.is_positive());
            if let Some(gap) = gap {
                let known = gaps.get_or_insert(Gaps { shortest: gap, longest: gap });
                *known = Gaps { shortest: known.shortest.min(gap), longest: known.longest.max(gap) };
            }
            last = Some(moment);
        }
        // A pattern with a single date in twenty-eight years has them as far apart.
        let forever = SignedDuration::from_hours(24 * 365 * 28);
        gaps.unwrap_or(Gaps { shortest: forever, longest: forever })
    }

    /// Every date of the looked-at years, but of days that look alike (same times, no
    /// clock change) only the first one whole, and of the others the first and last time.
    fn edges_of_days(&self) -> Vec<Timestamp> {
        let Ok(pattern) = parse(&self.cron) else { return Vec::new() };
        let mut moments = Vec::new();
        let mut times: Vec<civil::Time> = Vec::new();
        let mut from = civil::date(LOOKED_AT.start, 1, 1).at(0, 0, 0, 0);
        while let Ok(first) = pattern.find_next_occurrence(&from, true) {
            // One date after the end closes the last gap.
            let is_last = first.year() >= LOOKED_AT.end;
            let day = first.date();
            let whole = times.is_empty() || self.has_change(day);
            if times.is_empty() {
                times = times_of(&pattern, first);
            }
            let shown = times.iter().enumerate().filter(|(i, _)| whole || *i == 0 || *i + 1 == times.len());
            moments.extend(shown.filter_map(|(_, time)| self.moment(day.to_datetime(*time))));
            let Ok(tomorrow) = day.tomorrow() else { break };
            from = tomorrow.at(0, 0, 0, 0);
            if is_last {
                break;
            }
        }
        moments
    }

    fn has_change(&self, day: civil::Date) -> bool {
        let start = self.moment(day.at(0, 0, 0, 0));
        let end = day.tomorrow().ok().and_then(|day| self.moment(day.at(0, 0, 0, 0)));
        let length = start.zip(end).map(|(start, end)| end.duration_since(start));
        length != Some(SignedDuration::from_hours(24))
    }

    /// The one moment of a civil time.
    fn moment(&self, date: civil::DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(date).offset() {
            AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(date).ok(),
            // The first of the two.
            AmbiguousOffset::Fold { before, .. } => before.to_timestamp(date).ok(),
            // Read with the offset before, a skipped time lies after the change.
            AmbiguousOffset::Gap { before, .. } => {
                let after = before.to_timestamp(date).ok()?;
                let nano = SignedDuration::from_nanos(1);
                self.zone.preceding(after.checked_add(nano).ok()?).next().map(|change| change.timestamp())
            }
        }
    }
}

/// The times of the day on which `first` is the first.
fn times_of(pattern: &Cron, first: civil::DateTime) -> Vec<civil::Time> {
    let mut times = vec![first.time()];
    let mut last = first;
    while let Ok(next) = pattern.find_next_occurrence(&last, false) {
        if next.date() != first.date() {
            break;
        }
        times.push(next.time());
        last = next;
    }
    times
}

const FIELDS: [(&str, &str); 5] = [
    ("a minute", "0-59, as in `0` or `0,30`"),
    ("an hour", "0-23, as in `10` or `9-17`"),
    ("a day of month", "1-31, `L` for the last day, or `*`"),
    ("a month", "1-12 or JAN-DEC, as in `1,4,7,10`, or `*`"),
    ("a day of week", "0-7 or SUN-SAT, as in `MON` or `1#1` for the first Monday, or `*`"),
];

fn parse(cron: &str) -> Result<Cron, InvalidCalendar> {
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    if let Ok(pattern) = parser.parse(cron)
        && cron.len() <= MAX_CRON_BYTES
    {
        return Ok(pattern);
    }
    let fields: Vec<_> = cron.split(' ').collect();
    let alone = |i: usize, text: &str| {
        let mut pattern = ["*"; 5];
        pattern[i] = text;
        parser.parse(&pattern.join(" ")).is_ok()
    };
    if fields.len() == FIELDS.len()
        && let Some(wrong) = (0..FIELDS.len()).find(|i| !alone(*i, fields[*i]))
    {
        let (field, range) = FIELDS[wrong];
        return Err(InvalidCalendar::Field { text: clean_line(fields[wrong], 40), field, range });
    }
    Err(InvalidCalendar::Form(clean_line(cron, 60)))
}

impl fmt::Display for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.cron, self.zone_name())
    }
}

impl fmt::Debug for Calendar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Calendar({self})")
    }
}

impl TryFrom<Text> for Calendar {
    type Error = InvalidCalendar;

    fn try_from(text: Text) -> Result<Self, InvalidCalendar> {
        Self::new(&text.cron, &text.zone)
    }
}

impl From<Calendar> for Text {
    fn from(calendar: Calendar) -> Self {
        let zone = calendar.zone_name().to_owned();
        Self { cron: calendar.cron, zone }
    }
}

#[cfg(test)]
mod tests;
