//! The weekly hours in which rotations may start and old values may be disabled.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};
use serde::{Deserialize, Serialize};

use super::zone::{UnknownZone, zone};
use crate::redact::clean_line;

const MINUTES_PER_DAY: u16 = 1440;
const MINUTES_PER_WEEK: u16 = 7 * MINUTES_PER_DAY;

/// Transitions of the zone that [`Window::longest_closed`] looks at: forty years, all
/// that the time-zone database says one by one (the moving ones of Morocco) and many
/// rounds of every yearly rule.
const LOOKED_AT: std::ops::Range<i16> = 2020..2060;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// Weekly hours in a zone: `Mon-Thu 09:00-16:00 Europe/Amsterdam`, `daily 22:00-04:00 UTC`,
/// `Mon,Wed,Fri 10:00-12:00 UTC`. The window is open exactly while the wall clock there
/// shows such a time: what a clock change skips is not open, what it repeats is open
/// twice. Hours that end at or before their start end on the next day.
/// Checked when made; stored as its text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Window {
    /// The days on which the hours start, Monday first.
    days: [bool; 7],
    /// Minutes after midnight; `until` is exclusive, in `1..=1440`, and never `from`.
    from: u16,
    until: u16,
    zone: TimeZone,
    longest_closed: OnceLock<SignedDuration>,
}

/// Why a text is not a window; says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidWindow {
    #[error(
        "`{0}` is not a window: write days, hours and a zone, as in `Mon-Thu 09:00-16:00 Europe/Amsterdam` \
         or `daily 22:00-04:00 UTC`"
    )]
    Form(String),
    #[error("`{0}` is not a day: write `daily`, `Mon`, `Mon-Thu` or `Mon,Wed,Fri`")]
    Day(String),
    #[error("`{0}` is not a time: write hours and minutes, 00:00 to 24:00, as in `09:00-16:00`")]
    Time(String),
    #[error("a window of `{0}` never opens: write `00:00-24:00` for the whole day")]
    NeverOpen(String),
    #[error(transparent)]
    Zone(#[from] UnknownZone),
}

impl Window {
    /// True where the wall clock of the zone shows a time inside the window.
    #[must_use]
    pub fn is_open(&self, at: Timestamp) -> bool {
        self.shows_open(position(self.wall_clock(at)) / NANOS_PER_MINUTE)
    }

    /// The first moment, `at` included, at which the window is open.
    #[must_use]
    pub fn next_open(&self, at: Timestamp) -> Timestamp {
        if self.is_open(at) { at } else { self.next_change(at).unwrap_or(Timestamp::MAX) }
    }

    /// The first moment after `at` at which the window is closed; `None` where it
    /// never closes.
    #[must_use]
    pub fn next_closed(&self, at: Timestamp) -> Option<Timestamp> {
        if self.is_open(at) { self.next_change(at) } else { Some(at) }
    }

    /// The closed time that `at` is in, up to its end, which is open; `None` where the
    /// window is open at `at`.
    #[must_use]
    pub fn closed_around(&self, at: Timestamp) -> Option<(Timestamp, Timestamp)> {
        (!self.is_open(at)).then(|| (self.last_change(at), self.next_open(at)))
    }

    /// The longest time for which the window stays closed, clock changes included.
    #[must_use]
    pub fn longest_closed(&self) -> SignedDuration {
        *self.longest_closed.get_or_init(|| self.longest_closed_civil().max(self.longest_closed_at_changes()))
    }

    /// The zone's IANA name.
    #[must_use]
    pub fn zone_name(&self) -> &str {
        // Every zone comes from the database by its name.
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The longest closed run of a week without a clock change.
    fn longest_closed_civil(&self) -> SignedDuration {
        let closed = |start: &u16| {
            let first = i64::from(*start) * NANOS_PER_MINUTE;
            if self.shows_open(i64::from(*start)) { None } else { self.civil_to_change(first) }
        };
        SignedDuration::from_nanos(self.edges().iter().filter_map(closed).max().unwrap_or(0))
    }

    /// The longest closed run that touches a clock change.
    fn longest_closed_at_changes(&self) -> SignedDuration {
        let year = |year| civil::date(year, 1, 1).to_zoned(TimeZone::UTC).map(|z| z.timestamp());
        let (Ok(first), Ok(end)) = (year(LOOKED_AT.start), year(LOOKED_AT.end)) else {
            return SignedDuration::ZERO;
        };
        self.zone
            .following(first)
            .map(|change| change.timestamp())
            .take_while(|change| *change < end)
            .flat_map(|change| [change, just_before(change)])
            .filter_map(|at| self.closed_around(at))
            .map(|(since, until)| until.duration_since(since))
            .max()
            .unwrap_or(SignedDuration::ZERO)
    }

    fn wall_clock(&self, at: Timestamp) -> civil::DateTime {
        self.zone.to_offset(at).to_datetime(at)
    }

    /// True where this minute of the week, counted from Monday's midnight, is inside.
    fn shows_open(&self, minute_of_week: i64) -> bool {
        let minutes = i64::from(MINUTES_PER_DAY);
        let (day, minute) = ((minute_of_week / minutes) as usize % 7, (minute_of_week % minutes) as u16);
        if self.from < self.until {
            self.days[day] && (self.from..self.until).contains(&minute)
        } else {
            (self.days[day] && minute >= self.from) || (self.days[(day + 6) % 7] && minute < self.until)
        }
    }

    /// Every minute of the week at which the window may open or close.
    fn edges(&self) -> [u16; 14] {
        let mut edges = [0; 14];
        for day in 0..7 {
            let midnight = day as u16 * MINUTES_PER_DAY;
            edges[day] = midnight + self.from;
            edges[day + 7] = (midnight + self.until) % MINUTES_PER_WEEK;
        }
        edges
    }

    /// Wall-clock nanoseconds from a position in the week to the next change;
    /// `None` where there is never one.
    fn civil_to_change(&self, position: i64) -> Option<i64> {
        let open = self.shows_open(position / NANOS_PER_MINUTE);
        self.edges()
            .into_iter()
            .filter(|edge| self.shows_open(i64::from(*edge)) != open)
            .map(|edge| (i64::from(edge) * NANOS_PER_MINUTE - position).rem_euclid(NANOS_PER_WEEK))
            .min()
    }

    /// Wall-clock nanoseconds from a position in the week back to the change that
    /// began what is so there.
    fn civil_from_change(&self, position: i64) -> Option<i64> {
        let open = self.shows_open(position / NANOS_PER_MINUTE);
        let week = i64::from(MINUTES_PER_WEEK);
        self.edges()
            .into_iter()
            .map(i64::from)
            .filter(|edge| {
                self.shows_open(*edge) == open && self.shows_open((edge + week - 1) % week) != open
            })
            .map(|edge| (position - edge * NANOS_PER_MINUTE).rem_euclid(NANOS_PER_WEEK))
            .min()
    }

    /// The first moment after `at` at which the window is what it is not at `at`.
    /// Between two changes of the zone the wall clock runs evenly; at each it jumps.
    fn next_change(&self, at: Timestamp) -> Option<Timestamp> {
        let open = self.is_open(at);
        let mut from = at;
        loop {
            let civil = self.civil_to_change(position(self.wall_clock(from)))?;
            let change = from.checked_add(SignedDuration::from_nanos(civil)).ok()?;
            match self.zone.following(from).next() {
                Some(jump) if jump.timestamp() <= change => {
                    from = jump.timestamp();
                    if self.is_open(from) != open {
                        return Some(from);
                    }
                }
                Some(_) | None => return Some(change),
            }
        }
    }

    /// The moment at which what is so at `at` began; the beginning of time where it
    /// always was.
    fn last_change(&self, at: Timestamp) -> Timestamp {
        let open = self.is_open(at);
        let mut from = at;
        loop {
            let Some(civil) = self.civil_from_change(position(self.wall_clock(from))) else {
                return Timestamp::MIN;
            };
            let Ok(change) = from.checked_sub(SignedDuration::from_nanos(civil)) else {
                return Timestamp::MIN;
            };
            let jump = self.zone.preceding(just_after(from)).next().map(|jump| jump.timestamp());
            match jump {
                Some(jump) if jump >= change => {
                    from = just_before(jump);
                    if self.is_open(from) != open {
                        return jump;
                    }
                }
                Some(_) | None => return change,
            }
        }
    }
}

const NANOS_PER_MINUTE: i64 = 60 * 1_000_000_000;
const NANOS_PER_WEEK: i64 = MINUTES_PER_WEEK as i64 * NANOS_PER_MINUTE;

/// Nanoseconds since Monday's midnight on the wall clock.
fn position(wall_clock: civil::DateTime) -> i64 {
    let day = i64::from(wall_clock.weekday().to_monday_zero_offset());
    let midnight = wall_clock.date().to_datetime(civil::Time::midnight());
    let in_day = wall_clock.duration_since(midnight).as_nanos() as i64;
    day * i64::from(MINUTES_PER_DAY) * NANOS_PER_MINUTE + in_day
}

const NANO: SignedDuration = SignedDuration::from_nanos(1);

fn just_before(at: Timestamp) -> Timestamp {
    at.checked_sub(NANO).unwrap_or(Timestamp::MIN)
}

fn just_after(at: Timestamp) -> Timestamp {
    at.checked_add(NANO).unwrap_or(Timestamp::MAX)
}

impl FromStr for Window {
    type Err = InvalidWindow;

    fn from_str(text: &str) -> Result<Self, InvalidWindow> {
        let form = || InvalidWindow::Form(clean_line(text, 80));
        let mut words = text.split_whitespace();
        let (Some(days), Some(hours), Some(name), None) =
            (words.next(), words.next(), words.next(), words.next())
        else {
            return Err(form());
        };
        let (from, until) = hours.split_once('-').ok_or_else(form)?;
        let (from, until) = (parse_time(from)?, parse_time(until)?);
        // Midnight ends the day before rather than beginning the same one.
        let until = if until == 0 { MINUTES_PER_DAY } else { until };
        if from == MINUTES_PER_DAY {
            return Err(InvalidWindow::Time("24:00".to_owned()));
        }
        if from == until {
            return Err(InvalidWindow::NeverOpen(clean_line(hours, 20)));
        }
        Ok(Self { days: parse_days(days)?, from, until, zone: zone(name)?, longest_closed: OnceLock::new() })
    }
}

/// `HH:MM`, 00:00 to 24:00, in minutes.
fn parse_time(text: &str) -> Result<u16, InvalidWindow> {
    let number = |part: &str| {
        let plain = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| part.parse::<u16>().ok()).flatten()
    };
    text.split_once(':')
        .and_then(|(hours, minutes)| Some((number(hours)?, number(minutes)?)))
        .filter(|(_, minutes)| *minutes < 60)
        .map(|(hours, minutes)| hours * 60 + minutes)
        .filter(|minutes| *minutes <= MINUTES_PER_DAY)
        .ok_or_else(|| InvalidWindow::Time(clean_line(text, 20)))
}

fn parse_days(text: &str) -> Result<[bool; 7], InvalidWindow> {
    if text.eq_ignore_ascii_case("daily") {
        return Ok([true; 7]);
    }
    let day = |name: &str| {
        DAYS.iter()
            .position(|day| day.eq_ignore_ascii_case(name))
            .ok_or_else(|| InvalidWindow::Day(clean_line(name, 20)))
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        // A range may go over the end of the week: `Fri-Mon`.
        for step in 0..=(last + 7 - first) % 7 {
            days[(first + step) % 7] = true;
        }
    }
    Ok(days)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_days(self.days, f)?;
        let (from, until) = (self.from, self.until);
        write!(f, " {:02}:{:02}-{:02}:{:02} ", from / 60, from % 60, until / 60, until % 60)?;
        f.write_str(self.zone_name())
    }
}

/// Runs of three and more as a range; a run over the end of the week is two.
fn write_days(days: [bool; 7], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if days == [true; 7] {
        return f.write_str("daily");
    }
    let mut separator = "";
    let mut day = 0;
    while day < 7 {
        let run = days[day..].iter().take_while(|on| **on).count();
        match run {
            0 => day += 1,
            1 | 2 => {
                write!(f, "{separator}{}", DAYS[day])?;
                day += 1;
                separator = ",";
            }
            _ => {
                write!(f, "{separator}{}-{}", DAYS[day], DAYS[day + run - 1])?;
                day += run;
                separator = ",";
            }
        }
    }
    Ok(())
}

impl fmt::Debug for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Window({self})")
    }
}

impl PartialEq for Window {
    fn eq(&self, other: &Self) -> bool {
        let Self { days, from, until, zone, longest_closed: _ } = self;
        (days, from, until, zone) == (&other.days, &other.from, &other.until, &other.zone)
    }
}

impl Eq for Window {}

impl TryFrom<String> for Window {
    type Error = InvalidWindow;

    fn try_from(text: String) -> Result<Self, InvalidWindow> {
        text.parse()
    }
}

impl From<Window> for String {
    fn from(window: Window) -> Self {
        window.to_string()
    }
}

#[cfg(test)]
mod tests;
