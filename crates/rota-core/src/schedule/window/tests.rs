use proptest::prelude::*;

use super::*;
use crate::schedule::zone::{database, distinct};

fn window(text: &str) -> Window {
    text.parse().unwrap()
}

/// A moment, written as the zone's wall clock shows it; the first where it does twice.
fn at(wall_clock: &str, zone_name: &str) -> Timestamp {
    let civil: civil::DateTime = wall_clock.parse().unwrap();
    zone(zone_name).unwrap().to_ambiguous_timestamp(civil).earlier().unwrap()
}

const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[test]
fn windows_are_written_in_their_shortest_form() {
    for (text, shown) in [
        ("Mon-Thu 09:00-16:00 Europe/Amsterdam", "Mon-Thu 09:00-16:00 Europe/Amsterdam"),
        ("daily 22:00-04:00 UTC", "daily 22:00-04:00 UTC"),
        ("Mon,Wed,Fri 10:00-12:00 utc", "Mon,Wed,Fri 10:00-12:00 UTC"),
        ("  mon,tue   09:00-10:00 europe/amsterdam ", "Mon,Tue 09:00-10:00 Europe/Amsterdam"),
        ("Mon-Sun 00:00-24:00 UTC", "daily 00:00-24:00 UTC"),
        ("Fri-Mon 20:00-00:00 UTC", "Mon,Fri-Sun 20:00-24:00 UTC"),
        ("Sun 23:59-00:01 UTC", "Sun 23:59-00:01 UTC"),
        ("Tue-Thu,Wed-Fri 00:00-00:01 UTC", "Tue-Fri 00:00-00:01 UTC"),
    ] {
        let parsed = window(text);
        assert_eq!(parsed.to_string(), shown);
        assert_eq!(window(shown), parsed);
        let json = serde_json::to_string(&parsed).unwrap();
        assert_eq!(json, format!("\"{shown}\""));
        assert_eq!(serde_json::from_str::<Window>(&json).unwrap(), parsed);
    }
}

#[test]
fn what_is_not_a_window_says_what_to_write() {
    let form = "is not a window: write days, hours and a zone, as in `Mon-Thu 09:00-16:00 Europe/Amsterdam` \
                or `daily 22:00-04:00 UTC`";
    let time = "is not a time: write hours and minutes, 00:00 to 24:00, as in `09:00-16:00`";
    let day = "is not a day: write `daily`, `Mon`, `Mon-Thu` or `Mon,Wed,Fri`";
    for (text, message) in [
        ("", format!("`` {form}")),
        ("Mon 09:00-16:00", format!("`Mon 09:00-16:00` {form}")),
        ("Mon 09:00 - 16:00 UTC", format!("`Mon 09:00 - 16:00 UTC` {form}")),
        ("Mon 09:00 UTC", format!("`Mon 09:00 UTC` {form}")),
        ("Mon 9:00-16:00 UTC", format!("`9:00` {time}")),
        ("Mon 09:00-24:01 UTC", format!("`24:01` {time}")),
        ("Mon 09:60-16:00 UTC", format!("`09:60` {time}")),
        ("Mon 24:00-09:00 UTC", format!("`24:00` {time}")),
        ("Mon 9am-5pm UTC", format!("`9am` {time}")),
        ("Monday 09:00-16:00 UTC", format!("`Monday` {day}")),
        ("Mon,,Tue 09:00-16:00 UTC", format!("`` {day}")),
        ("weekdays 09:00-16:00 UTC", format!("`weekdays` {day}")),
        (
            "Mon 09:00-09:00 UTC",
            "a window of `09:00-09:00` never opens: write `00:00-24:00` for the whole day".to_owned(),
        ),
        ("Mon 09:00-16:00 Amsterdam", "`Amsterdam` is not a time zone: write `Europe/Amsterdam`".to_owned()),
    ] {
        assert_eq!(text.parse::<Window>().unwrap_err().to_string(), message, "{text}");
    }
}

#[test]
fn a_window_is_open_from_its_first_minute_to_before_its_last() {
    let window = window("Mon-Thu 09:00-16:00 Europe/Amsterdam");
    for (wall_clock, open, next) in [
        // 2026-01-12 is a Monday.
        ("2026-01-12T08:59:59.999", false, "2026-01-12T09:00"),
        ("2026-01-12T09:00", true, "2026-01-12T09:00"),
        ("2026-01-12T15:59:59.999", true, "2026-01-12T15:59:59.999"),
        ("2026-01-12T16:00", false, "2026-01-13T09:00"),
        ("2026-01-15T16:00", false, "2026-01-19T09:00"),
        ("2026-01-17T12:00", false, "2026-01-19T09:00"),
    ] {
        let moment = at(wall_clock, "Europe/Amsterdam");
        assert_eq!(window.is_open(moment), open, "{wall_clock}");
        assert_eq!(window.next_open(moment), at(next, "Europe/Amsterdam"), "{wall_clock}");
    }
}

#[test]
fn a_window_across_midnight_belongs_to_the_day_on_which_it_starts() {
    let window = window("Fri,Sun 22:00-04:00 UTC");
    for (wall_clock, open) in [
        // 2026-01-16 is a Friday.
        ("2026-01-16T03:00", false),
        ("2026-01-16T23:00", true),
        ("2026-01-17T03:59", true),
        ("2026-01-17T04:00", false),
        ("2026-01-17T23:00", false),
        ("2026-01-18T22:00", true),
        ("2026-01-19T01:00", true),
        ("2026-01-19T22:00", false),
    ] {
        assert_eq!(window.is_open(at(wall_clock, "UTC")), open, "{wall_clock}");
    }
}

#[test]
fn hours_that_a_clock_change_skips_are_not_open_and_repeated_ones_are_twice() {
    // Amsterdam skips 02:00 to 03:00 on 2026-03-29 and repeats it on 2026-10-25, both Sundays.
    let zone_name = "Europe/Amsterdam";
    let skipped = window("Sun 02:15-02:45 Europe/Amsterdam");
    assert_eq!(skipped.next_open(at("2026-03-28T12:00", zone_name)), at("2026-04-05T02:15", zone_name));
    let over = window("Sun 02:30-03:30 Europe/Amsterdam");
    let change = at("2026-03-29T03:00", zone_name);
    assert_eq!(over.next_open(at("2026-03-28T12:00", zone_name)), change);
    assert_eq!(over.next_closed(change), Some(change + HOUR / 2));

    let first = at("2026-10-25T02:15", zone_name);
    assert_eq!(skipped.next_open(at("2026-10-24T12:00", zone_name)), first);
    assert_eq!(skipped.next_closed(first), Some(first + HOUR / 2));
    assert_eq!(skipped.next_open(first + HOUR / 2), first + HOUR);
    assert_eq!(skipped.next_closed(first + HOUR), Some(first + HOUR * 3 / 2));
}

#[test]
fn a_day_that_a_zone_leaves_out_has_no_window() {
    // Apia went from Thursday 29 to Saturday 31 December 2011.
    let window = window("Fri 09:00-16:00 Pacific/Apia");
    let next = window.next_open(at("2011-12-29T12:00", "Pacific/Apia"));
    assert_eq!(next, at("2012-01-06T09:00", "Pacific/Apia"));
}

#[test]
fn the_longest_closed_time_counts_clock_changes() {
    let hours = |text: &str| window(text).longest_closed().as_secs_f64() / 3600.0;
    for (text, wanted) in [
        ("daily 00:00-24:00 UTC", 0.0),
        ("daily 09:00-16:00 UTC", 17.0),
        ("Mon-Thu 09:00-16:00 UTC", 89.0),
        ("Mon 00:00-24:00 UTC", 6.0 * 24.0),
        ("Mon 09:00-10:00 UTC", 7.0 * 24.0 - 1.0),
        // The clock goes back in the weekend.
        ("Mon-Thu 09:00-16:00 Europe/Amsterdam", 90.0),
        // The hour does not come on the Sunday of the change: two weeks, less the hour that the clock skips.
        ("Sun 02:00-03:00 Europe/Amsterdam", 2.0 * 7.0 * 24.0 - 1.0 - 1.0),
    ] {
        assert!((hours(text) - wanted).abs() < 1e-9, "{text}: {}", hours(text));
    }
}

#[test]
fn a_window_that_never_closes_has_no_closed_time() {
    let window = window("daily 00:00-24:00 Europe/Amsterdam");
    assert_eq!(window.next_closed(at("2026-03-29T00:00", "UTC")), None);
    assert_eq!(window.closed_around(at("2026-03-29T00:00", "UTC")), None);
    let nearly = self::window("daily 00:01-24:00 UTC");
    assert_eq!(nearly.longest_closed(), SignedDuration::from_mins(1));
}

/// What the promises of `next_open`, `next_closed` and `closed_around` come to at `at`.
fn holds(window: &Window, at: Timestamp) {
    let nano = SignedDuration::from_nanos(1);
    let open = window.is_open(at);
    let opens = window.next_open(at);
    assert!(window.is_open(opens) && opens >= at && (opens == at) == open, "{window} at {at}");
    let Some((since, until)) = window.closed_around(at) else {
        assert!(open, "{window} at {at}");
        let closes = window.next_closed(at).unwrap();
        assert!(closes > at && !window.is_open(closes) && window.is_open(closes - nano), "{window} at {at}");
        return;
    };
    assert!(!open && since <= at && at < until && until == opens, "{window} at {at}");
    assert!(window.is_open(since - nano) && !window.is_open(since), "{window} at {at}");
    assert!(until.duration_since(since) <= window.longest_closed(), "{window} at {at}");
    // Closed all along, looked at in steps that share no divisor with an hour.
    let step = until.duration_since(since) / 37 + SignedDuration::from_secs(1);
    let mut between = since;
    while between < until {
        assert!(!window.is_open(between), "{window} at {between}");
        between += step;
    }
    assert!(!window.is_open(until - nano), "{window} at {at}");
}

#[test]
fn in_every_zone_around_every_clock_change_of_twenty_years_open_means_open() {
    let texts = ["Sat,Sun 00:00-03:00", "daily 01:30-02:30", "Sun 22:00-02:15", "Mon-Thu 09:00-16:00"];
    let (first, last) = (at("2024-01-01T00:00", "UTC"), at("2044-01-01T00:00", "UTC"));
    let mut changes = 0;
    for name in distinct() {
        let zone = zone(&name).unwrap();
        let windows: Vec<Window> = texts.map(|text| window(&format!("{text} {name}"))).into();
        let jumps = zone.following(first).map(|jump| jump.timestamp()).take_while(|jump| *jump < last);
        for (i, jump) in jumps.enumerate() {
            changes += 1;
            let window = &windows[i % windows.len()];
            for minutes in [-90, -1, 0, 1, 61] {
                holds(window, jump + SignedDuration::from_mins(minutes));
            }
        }
    }
    assert!(changes > 1000, "{changes}");
}

proptest! {
    #[test]
    fn any_window_keeps_its_promises_at_any_time(
        days in 1u8..128,
        from in 0u16..1440,
        length in 1u16..1440,
        zone_index in 0usize..400,
        second in 1_700_000_000i64..2_400_000_000,
    ) {
        let name = database().available().nth(zone_index).unwrap();
        let days: Vec<_> = (0..7).filter(|day| days & (1 << day) != 0).map(|day| DAYS[day]).collect();
        let until = (from + length) % MINUTES_PER_DAY;
        let text = format!(
            "{} {:02}:{:02}-{:02}:{:02} {name}",
            days.join(","), from / 60, from % 60, until / 60, until % 60
        );
        let window = window(&text);
        prop_assert_eq!(&self::window(&window.to_string()), &window);
        let at = Timestamp::from_second(second).unwrap();
        holds(&window, at);
        // The rule itself, read off the wall clock.
        let clock = zone(name.as_str()).unwrap().to_datetime(at);
        let minute = clock.hour() as u16 * 60 + clock.minute() as u16;
        let day = clock.weekday().to_monday_zero_offset() as usize;
        let starts = |day: usize| days.contains(&DAYS[day % 7]);
        let open = (0..2u16).any(|ago| {
            let minute = minute + ago * MINUTES_PER_DAY;
            starts(day + 7 - usize::from(ago)) && minute >= from && minute < from + length
        });
        prop_assert_eq!(window.is_open(at), open);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "[A-Za-z0-9:, /-]{0,40}") {
        if let Ok(window) = text.parse::<Window>() {
            prop_assert_eq!(window.to_string().parse::<Window>().unwrap(), window);
        }
    }
}
