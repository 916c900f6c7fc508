use proptest::prelude::*;

use super::*;
use crate::schedule::zone::{database, distinct};

const HOUR: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn quarterly(max_age: Option<SignedDuration>) -> Schedule {
    Schedule::Calendar { dates: Calendar::new("0 10 15 1,4,7,10 *", "UTC").unwrap(), max_age }
}

fn lead(lead: SignedDuration) -> Start<'static> {
    Start { lead, window: None }
}

fn due(schedule: &Schedule, promoted: &str, served: Option<&str>) -> Timestamp {
    schedule.next_due(at(promoted), served.map(at), lead(DAY)).unwrap().at
}

#[test]
fn a_cadence_runs_from_promotion_to_promotion() {
    let schedule = Schedule::Cadence { every: DAY * 30 };
    // Whether it came early or late for its date makes no difference.
    for served in [None, Some("2026-01-02T00:00:00Z"), Some("2025-06-01T00:00:00Z")] {
        assert_eq!(due(&schedule, "2026-01-01T12:00:00Z", served), at("2026-01-31T12:00:00Z"));
    }
}

#[test]
fn a_date_is_served_once() {
    let schedule = quarterly(None);
    for (why, promoted, served, next) in [
        ("promoted early by the lead", "2026-04-14T11:00:00Z", Some("2026-04-15T10:00:00Z"), "2026-07-15"),
        ("promoted on the date", "2026-04-15T10:00:00Z", Some("2026-04-15T10:00:00Z"), "2026-07-15"),
        ("promoted late", "2026-04-20T00:00:00Z", Some("2026-04-15T10:00:00Z"), "2026-07-15"),
        (
            "opened under a longer lead than now",
            "2026-04-01T00:00:00Z",
            Some("2026-04-15T10:00:00Z"),
            "2026-07-15",
        ),
        ("asked for within the lead", "2026-04-14T11:00:00Z", None, "2026-07-15"),
        ("asked for long before", "2026-03-01T00:00:00Z", None, "2026-04-15"),
        (
            "so late that the next date had its start",
            "2026-07-14T12:00:00Z",
            Some("2026-04-15T10:00:00Z"),
            "2026-10-15",
        ),
        ("two years late", "2028-03-01T00:00:00Z", Some("2026-04-15T10:00:00Z"), "2028-04-15"),
    ] {
        assert_eq!(due(&schedule, promoted, served), at(&format!("{next}T10:00:00Z")), "{why}");
    }
}

#[test]
fn the_age_bounds_a_calendar_and_both_are_shown() {
    let schedule = quarterly(Some(DAY * 60));
    let due = schedule.next_due(at("2026-01-15T10:00:00Z"), None, lead(DAY)).unwrap();
    assert_eq!(due.date, Some(at("2026-04-15T10:00:00Z")));
    assert_eq!(due.age, Some(at("2026-03-16T10:00:00Z")));
    assert_eq!(due.at, at("2026-03-16T10:00:00Z"));
    let loose = quarterly(Some(DAY * 100)).next_due(at("2026-01-15T10:00:00Z"), None, lead(DAY)).unwrap();
    assert_eq!(loose.at, at("2026-04-15T10:00:00Z"));
}

#[test]
fn a_secret_on_request_is_never_due_by_itself() {
    assert_eq!(Schedule::OnRequest.next_due(at("2026-01-15T10:00:00Z"), None, lead(DAY)), None);
    assert_eq!(Schedule::OnRequest.gaps(), None);
    let chosen = at("2026-05-01T00:00:00Z");
    let first = Schedule::OnRequest.first_due(at("2026-01-15T10:00:00Z"), Some(chosen), None, lead(DAY));
    assert_eq!(first.map(|due| due.at), Some(chosen));
}

#[test]
fn an_adopted_secret_of_unknown_age_is_not_due_at_once() {
    let adopted = at("2026-04-14T20:00:00Z");
    let cadence = Schedule::Cadence { every: DAY * 90 };
    let first = |schedule: &Schedule, chosen: Option<&str>, last: Option<&str>| {
        schedule.first_due(adopted, chosen.map(at), last.map(at), lead(DAY)).unwrap().at
    };
    assert_eq!(first(&cadence, None, None), at("2026-07-13T20:00:00Z"));
    // The date of tomorrow would start a rotation at once.
    assert_eq!(first(&quarterly(None), None, None), at("2026-07-15T10:00:00Z"));
    // Told or found: the real age counts, overdue included.
    assert_eq!(first(&cadence, None, Some("2026-03-01T00:00:00Z")), at("2026-05-30T00:00:00Z"));
    assert_eq!(first(&cadence, None, Some("2025-01-01T00:00:00Z")), at("2025-04-01T00:00:00Z"));
    assert_eq!(first(&quarterly(None), None, Some("2026-01-16T00:00:00Z")), at("2026-04-15T10:00:00Z"));
    // A date in the future is a mistake; it buys no time.
    assert_eq!(first(&cadence, None, Some("2027-01-01T00:00:00Z")), at("2026-07-13T20:00:00Z"));
    // What a person chose stands, at once included.
    assert_eq!(first(&cadence, Some("2026-04-14T20:00:00Z"), Some("2026-03-01T00:00:00Z")), adopted);
}

#[test]
fn a_rotation_starts_a_lead_before_unless_the_window_asks_for_more() {
    // Closed for 89 hours from Thursday 16:00. 2026-01-12 is a Monday.
    let window: Window = "Mon-Thu 09:00-16:00 UTC".parse().unwrap();
    let start = |lead: SignedDuration, due: &str| Start { lead, window: Some(&window) }.of(at(due));
    assert_eq!(lead(DAY).of(at("2026-01-15T10:00:00Z")), at("2026-01-14T10:00:00Z"));
    for (why, lead, due, wanted) in [
        ("89 hours before is Sunday 19:00", DAY, "2026-01-15T12:00:00Z", "2026-01-12T09:00:00Z"),
        ("89 hours before is Monday 19:00", DAY, "2026-01-16T12:00:00Z", "2026-01-13T09:00:00Z"),
        ("89 hours before is Thursday 12:00", DAY, "2026-01-19T05:00:00Z", "2026-01-15T12:00:00Z"),
        ("the next opening is the due date itself", DAY, "2026-01-19T09:00:00Z", "2026-01-15T09:00:00Z"),
        (
            "the same with the closed time as the lead",
            HOUR * 89,
            "2026-01-19T09:00:00Z",
            "2026-01-15T09:00:00Z",
        ),
        ("a week before is open", DAY * 7, "2026-01-19T10:00:00Z", "2026-01-12T10:00:00Z"),
        ("a week before is closed", DAY * 7, "2026-01-17T10:00:00Z", "2026-01-12T09:00:00Z"),
        ("a short lead fits behind the opening", HOUR, "2026-01-19T12:00:00Z", "2026-01-19T09:00:00Z"),
    ] {
        let found = start(lead, due);
        assert!(window.is_open(found), "{why}: {found}");
        assert_eq!(found, at(wanted), "{why}");
    }
}

#[test]
fn a_schedule_is_stored_flat() {
    for (schedule, json) in [
        (Schedule::Cadence { every: DAY * 30 }, r#"{"by":"cadence","every":"PT720H"}"#),
        (
            quarterly(Some(DAY * 93)),
            r#"{"by":"calendar","cron":"0 10 15 1,4,7,10 *","zone":"UTC","max_age":"PT2232H"}"#,
        ),
        (Schedule::OnRequest, r#"{"by":"on_request"}"#),
    ] {
        assert_eq!(serde_json::to_string(&schedule).unwrap(), json);
        assert_eq!(serde_json::from_str::<Schedule>(json).unwrap(), schedule);
    }
}

/// A daemon that is up from `from` to `until`, except while it is not.
struct Life<'a> {
    schedule: &'a Schedule,
    start: Start<'a>,
    /// From start to promotion.
    work: SignedDuration,
    down: Option<(Timestamp, Timestamp)>,
}

/// One rotation of a simulated life.
struct Ran {
    due: Timestamp,
    started: Timestamp,
    promoted: Timestamp,
}

impl Life<'_> {
    fn live(&self, from: Timestamp, until: Timestamp) -> Vec<Ran> {
        let mut ran = Vec::new();
        let (mut promoted, mut served) = (from, None);
        while let Some(due) = self.schedule.next_due(promoted, served, self.start) {
            let open = |at| self.start.window.map_or(at, |window| window.next_open(at));
            let mut started = open(self.start.of(due.at).max(promoted));
            if let Some((_, up)) = self.down.filter(|(down, up)| (*down..*up).contains(&started)) {
                started = open(up);
            }
            if started >= until {
                break;
            }
            promoted = later(started, self.work);
            served = Some(due.at);
            ran.push(Ran { due: due.at, started, promoted });
        }
        ran
    }
}

#[test]
fn in_every_zone_for_twenty_years_nothing_is_late_out_of_hours_or_twice() {
    let (from, until) = (at("2024-01-01T00:00:00Z"), at("2044-01-01T00:00:00Z"));
    let windows = ["Mon-Thu 09:00-16:00", "daily 22:00-04:00", "Sat,Sun 01:30-03:30"];
    for (i, name) in distinct().iter().enumerate() {
        let window: Window = format!("{} {name}", windows[i % windows.len()]).parse().unwrap();
        let start = Start { lead: DAY, window: Some(&window) };
        let every = DAY * 30;
        let cadence = Schedule::Cadence { every };
        let mut last = from;
        let life = Life { schedule: &cadence, start, work: HOUR * 20, down: None };
        for run in life.live(from, until) {
            assert!(window.is_open(run.started), "{window} {}", run.started);
            assert!(run.promoted.duration_since(last) <= every, "{window} {}", run.promoted);
            assert!(run.promoted > last, "{window} {}", run.promoted);
            last = run.promoted;
        }
        assert!(last > until - every * 2);

        let dates = Calendar::new("30 2 15 1,4,7,10 *", name).unwrap();
        let calendar = Schedule::Calendar { dates: dates.clone(), max_age: None };
        let mut dates = dates.dates_after(from);
        let mut last = from;
        for run in (Life { schedule: &calendar, ..life }).live(from, until) {
            assert_eq!(Some(run.due), dates.next(), "{window}");
            assert!(window.is_open(run.started) && run.promoted <= run.due, "{window} {}", run.started);
            last = run.due;
        }
        assert!(last > until - DAY * 93, "{window} {last}");
    }
}

#[test]
fn months_of_downtime_give_exactly_one_rotation() {
    let window: Window = "Mon-Thu 09:00-16:00 Europe/Amsterdam".parse().unwrap();
    let down = (at("2026-02-01T00:00:00Z"), at("2026-11-21T00:00:00Z"));
    for schedule in [Schedule::Cadence { every: DAY * 30 }, quarterly(None), quarterly(Some(DAY * 93))] {
        for window in [None, Some(&window)] {
            let start = Start { lead: DAY, window };
            let life = Life { schedule: &schedule, start, work: HOUR, down: Some(down) };
            let ran = life.live(at("2026-01-01T00:00:00Z"), at("2026-12-10T00:00:00Z"));
            let caught_up: Vec<_> = ran.iter().filter(|run| run.started >= down.0).collect();
            assert_eq!(caught_up.len(), 1, "{schedule:?}");
            assert!(caught_up[0].started >= down.1 && caught_up[0].due < down.1);
        }
    }
}

proptest! {
    #[test]
    fn a_start_is_open_and_leaves_a_day_or_the_lead(
        days in 1u8..128, from in 0u16..1440, length in 1u16..1440, zone_index in 0usize..400,
        lead in 0i64..400_000, due in 1_700_000_000i64..2_400_000_000,
    ) {
        let name = database().available().nth(zone_index).unwrap();
        let names = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
        let days: Vec<_> = (0..7).filter(|day| days & (1 << day) != 0).map(|day| names[day]).collect();
        let until = (from + length) % 1440;
        let window: Window = format!(
            "{} {:02}:{:02}-{:02}:{:02} {name}", days.join(","), from / 60, from % 60, until / 60, until % 60
        ).parse().unwrap();
        let due = Timestamp::from_second(due).unwrap();
        let lead = SignedDuration::from_secs(lead);
        let start = Start { lead, window: Some(&window) }.of(due);
        prop_assert!(window.is_open(start));
        let (ahead, closed) = (due.duration_since(start), window.longest_closed());
        prop_assert!(ahead >= lead.min(DAY));
        prop_assert!(ahead <= lead.max(closed).max(lead.min(DAY) + closed * 2));
    }

    #[test]
    fn a_promotion_is_always_before_the_next_due_date(
        promoted in 1_600_000_000i64..2_400_000_000, early in 0i64..40_000_000, lead in 0i64..5_000_000,
    ) {
        let promoted = Timestamp::from_second(promoted).unwrap();
        let served = promoted + SignedDuration::from_secs(early - 20_000_000);
        let start = Start { lead: SignedDuration::from_secs(lead), window: None };
        let due = quarterly(None).next_due(promoted, Some(served), start).unwrap();
        prop_assert!(due.at > promoted && due.at > served);
        prop_assert!(start.of(due.at) > promoted);
    }
}
