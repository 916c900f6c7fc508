//! What to say about a due date, before and after it.

use jiff::{SignedDuration, Timestamp};

use super::earlier;

/// How often an overdue secret is spoken of.
const OVERDUE_EVERY_HOURS: i64 = 24;

/// One thing to say about a due date. Each is said once; whoever says it remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reminder {
    /// The due date is at most this far ahead, as the policy asks to be told.
    Before { ahead: SignedDuration },
    /// The due date passed so many whole days of 24 hours ago without a promotion.
    Overdue { days: i64 },
}

/// The one thing that is true of `due` at `now`: the closest reminder that was
/// reached, or the day past due. After a long silence the older ones are not said.
#[must_use]
pub fn reminder_at(due: Timestamp, remind: &[SignedDuration], now: Timestamp) -> Option<Reminder> {
    if now >= due {
        return Some(Reminder::Overdue { days: now.duration_since(due).as_hours() / OVERDUE_EVERY_HOURS });
    }
    let ahead = remind.iter().copied().filter(|ahead| earlier(due, *ahead) <= now).min()?;
    Some(Reminder::Before { ahead })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn at(day: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH.checked_add(SignedDuration::from_hours(24 * day)).unwrap()
    }

    #[test]
    fn each_reminder_comes_once_and_in_its_turn() {
        let remind = [DAY, DAY * 14, DAY * 7];
        let mut said = Vec::new();
        // Looked at every six hours from forty days before to three days after.
        for quarter in 60 * 4..=103 * 4 {
            let now = at(0) + SignedDuration::from_hours(6 * quarter);
            said.extend(reminder_at(at(100), &remind, now));
        }
        said.dedup();
        let before = |days| Reminder::Before { ahead: DAY * days };
        let overdue = |days| Reminder::Overdue { days };
        assert_eq!(said, [before(14), before(7), before(1), overdue(0), overdue(1), overdue(2), overdue(3)]);
    }

    #[test]
    fn a_reminder_is_due_from_its_very_moment_on() {
        let nano = SignedDuration::from_nanos(1);
        assert_eq!(reminder_at(at(100), &[DAY], at(99) - nano), None);
        assert_eq!(reminder_at(at(100), &[DAY], at(99)), Some(Reminder::Before { ahead: DAY }));
        assert_eq!(reminder_at(at(100), &[DAY], at(100) - nano), Some(Reminder::Before { ahead: DAY }));
        assert_eq!(reminder_at(at(100), &[DAY], at(100)), Some(Reminder::Overdue { days: 0 }));
        assert_eq!(reminder_at(at(100), &[], at(99)), None);
    }
}
