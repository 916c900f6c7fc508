//! When a secret is due, and when its rotation may start.
//!
//! Cadence runs from promotion to promotion. A calendar gives dates, and each date is
//! served by one promotion: the one of the rotation that was opened for it, or any
//! that came when the rotation for it would have started. Deliberately absent: a
//! clock, and any state; what was promoted when is the journal's.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

mod calendar;
mod reminder;
mod window;
mod zone;

pub use calendar::{Calendar, Gaps, InvalidCalendar};
pub use reminder::{Reminder, reminder_at};
pub use window::{InvalidWindow, Window};
pub use zone::{UnknownZone, zone};

/// How long before `due` a rotation starts where the policy does not say.
pub const DEFAULT_LEAD: SignedDuration = SignedDuration::from_hours(24);

/// How the next due date follows from the last promotion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Schedule {
    /// From promotion to promotion.
    Cadence { every: SignedDuration },
    /// Civil dates in a zone, and never longer than `max_age` after the last promotion.
    Calendar {
        #[serde(flatten)]
        dates: Calendar,
        max_age: Option<SignedDuration>,
    },
    /// Only when somebody asks.
    OnRequest,
}

/// When the next value must be promoted, and why then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// The earlier of the two below, or what a person chose.
    pub at: Timestamp,
    /// The calendar's date.
    pub date: Option<Timestamp>,
    /// When the value reaches its cadence, or its `max_age` beside a calendar.
    pub age: Option<Timestamp>,
}

impl Due {
    fn earlier(date: Option<Timestamp>, age: Option<Timestamp>) -> Option<Self> {
        let at = date.into_iter().chain(age).min()?;
        Some(Self { at, date, age })
    }
}

/// What decides when a rotation for a due date starts.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    pub lead: SignedDuration,
    pub window: Option<&'a Window>,
}

/// A start that a closed window moves still leaves so long before the due date (or
/// the lead, where that is shorter): the value must be rolled out by then.
const LEFT_BY_A_WINDOW: SignedDuration = DEFAULT_LEAD;

impl Start<'_> {
    /// The moment from which a rotation for `due` may start; open in the window. It lies
    /// the lead before, and never less than the longest closed time. Where the window is
    /// closed then, it is the next opening, or an earlier one where the next is too late.
    /// In the past it means at the next opening.
    #[must_use]
    pub fn of(&self, due: Timestamp) -> Timestamp {
        let Some(window) = self.window else { return earlier(due, self.lead) };
        let opens = window.next_open(earlier(due, self.lead.max(window.longest_closed())));
        let latest = earlier(due, self.lead.min(LEFT_BY_A_WINDOW));
        if opens <= latest {
            return opens;
        }
        // As long before the latest start as the closed time is long: in the opening
        // before, but not in its last minute.
        match window.closed_around(latest) {
            Some((since, until)) => window.next_open(earlier(latest, until.duration_since(since))),
            None => latest,
        }
    }
}

impl Schedule {
    /// The next due date after a promotion at `promoted_at` by a rotation that was
    /// opened for `served` (`None` where it was asked for). A date that was at most the
    /// lead ahead, or whose rotation could have started, is served, too: no date is
    /// served twice. `None` where nothing is ever due by itself.
    #[must_use]
    pub fn next_due(
        &self,
        promoted_at: Timestamp,
        served: Option<Timestamp>,
        start: Start<'_>,
    ) -> Option<Due> {
        match self {
            Self::Cadence { every } => Due::earlier(None, Some(later(promoted_at, *every))),
            Self::Calendar { dates, max_age } => {
                let served = served.unwrap_or(promoted_at).max(later(promoted_at, start.lead));
                let mut date = dates.next_after(served);
                while let Some(served) = date.filter(|date| start.of(*date) <= promoted_at) {
                    date = dates.next_after(served);
                }
                Due::earlier(date, max_age.map(|age| later(promoted_at, age)))
            }
            Self::OnRequest => None,
        }
    }

    /// The first due date of a secret that Rota takes over: what a person chose, else
    /// what follows from its real last rotation, overdue included, else (its age is
    /// unknown) what would follow had it been promoted now.
    #[must_use]
    pub fn first_due(
        &self,
        adopted_at: Timestamp,
        chosen: Option<Timestamp>,
        last_rotated: Option<Timestamp>,
        start: Start<'_>,
    ) -> Option<Due> {
        if let Some(at) = chosen {
            return Some(Due { at, date: None, age: None });
        }
        let from = last_rotated.unwrap_or(adopted_at).min(adopted_at);
        self.next_due(from, None, start)
    }

    /// The shortest and the longest time between two due dates, for lint; `None` where
    /// nothing is ever due by itself.
    #[must_use]
    pub fn gaps(&self) -> Option<Gaps> {
        match self {
            Self::Cadence { every } => Some(Gaps { shortest: *every, longest: *every }),
            Self::Calendar { dates, max_age } => {
                let gaps = dates.gaps();
                let bound = |gap: SignedDuration| max_age.map_or(gap, |age| gap.min(age));
                Some(Gaps { shortest: bound(gaps.shortest), longest: bound(gaps.longest) })
            }
            Self::OnRequest => None,
        }
    }
}

fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn earlier(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests;
