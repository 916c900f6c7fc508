use proptest::prelude::*;

use super::*;
use crate::schedule::zone::{database, distinct};

fn calendar(cron: &str, zone_name: &str) -> Calendar {
    Calendar::new(cron, zone_name).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn days(gap: SignedDuration) -> f64 {
    gap.as_secs_f64() / 86_400.0
}

#[test]
fn dates_are_civil_dates_of_the_zone() {
    let quarterly = calendar("0 10 15 1,4,7,10 *", "Europe/Amsterdam");
    let mut from = at("2026-01-01T00:00:00Z");
    for wanted in
        ["2026-01-15T09:00:00Z", "2026-04-15T08:00:00Z", "2026-07-15T08:00:00Z", "2026-10-15T08:00:00Z"]
    {
        from = quarterly.next_after(from).unwrap();
        assert_eq!(from, at(wanted));
    }
    // Strictly after, to the nanosecond.
    let just_before = from - SignedDuration::from_nanos(1);
    assert_eq!(quarterly.next_after(just_before), Some(from));
    assert_eq!(quarterly.next_after(from), Some(at("2027-01-15T09:00:00Z")));
}

#[test]
fn patterns_of_weekdays_and_last_days_work() {
    let after = at("2026-01-31T23:00:00Z");
    for (cron, wanted) in [
        ("0 9 * * 1#1", "2026-02-02T09:00:00Z"),
        ("0 9 L * *", "2026-02-28T09:00:00Z"),
        ("0 9 29 2 *", "2028-02-29T09:00:00Z"),
        ("0 9 * * MON-FRI", "2026-02-02T09:00:00Z"),
        ("@monthly", "2026-02-01T00:00:00Z"),
        ("  0  9 1   * *", "2026-02-01T09:00:00Z"),
    ] {
        assert_eq!(calendar(cron, "UTC").next_after(after), Some(at(wanted)), "{cron}");
    }
}

#[test]
fn what_is_not_a_calendar_says_what_to_write() {
    let form = "is not a calendar: write five fields (minute, hour, day of month, month, day of week), as in \
                `0 10 15 1,4,7,10 *`";
    for (cron, zone_name, message) in [
        ("", "UTC", format!("`` {form}")),
        ("0 10 15 1,4,7,10", "UTC", format!("`0 10 15 1,4,7,10` {form}")),
        ("0 0 10 15 1,4,7,10 *", "UTC", format!("`0 0 10 15 1,4,7,10 *` {form}")),
        (
            "0 10 15 13 *",
            "UTC",
            "`13` is not a month: write 1-12 or JAN-DEC, as in `1,4,7,10`, or `*`".to_owned(),
        ),
        ("0 25 15 1 *", "UTC", "`25` is not an hour: write 0-23, as in `10` or `9-17`".to_owned()),
        (
            "0 10 32 1 *",
            "UTC",
            "`32` is not a day of month: write 1-31, `L` for the last day, or `*`".to_owned(),
        ),
        ("0 0 30 2 *", "UTC", "`0 0 30 2 *` never comes: no year has such a date".to_owned()),
        ("0 0 31 4,6 *", "UTC", "`0 0 31 4,6 *` never comes: no year has such a date".to_owned()),
        (
            "0 0 1 1 *",
            "Europe/Amsterdan",
            "`Europe/Amsterdan` is not a time zone: write an IANA name such as `Europe/Amsterdam`, or `UTC`"
                .to_owned(),
        ),
    ] {
        assert_eq!(Calendar::new(cron, zone_name).unwrap_err().to_string(), message, "{cron}");
    }
    assert!(Calendar::new(&format!("{} * * * *", ["1"; 200].join(",")), "UTC").is_err());
}

#[test]
fn a_skipped_time_is_the_moment_of_the_change_and_a_repeated_one_comes_once() {
    // Amsterdam skips 02:00 to 03:00 on 2026-03-29 and repeats it on 2026-10-25.
    let skipped = calendar("30 2 29 3 *", "Europe/Amsterdam");
    assert_eq!(skipped.next_after(at("2026-01-01T00:00:00Z")), Some(at("2026-03-29T01:00:00Z")));
    assert_eq!(skipped.next_after(at("2026-03-29T01:00:00Z")), Some(at("2027-03-29T00:30:00Z")));
    let repeated = calendar("30 2 25 10 *", "Europe/Amsterdam");
    assert_eq!(repeated.next_after(at("2026-01-01T00:00:00Z")), Some(at("2026-10-25T00:30:00Z")));
    for after in ["2026-10-25T00:30:00Z", "2026-10-25T01:10:00Z", "2026-10-25T01:30:00Z"] {
        assert_eq!(repeated.next_after(at(after)), Some(at("2027-10-25T00:30:00Z")), "{after}");
    }
}

#[test]
fn a_date_is_not_lost_to_a_change_where_a_zone_aware_search_loses_it() {
    // The library's own search, to show what is worked around.
    let theirs = |cron: &str, zone_name: &str, after: Timestamp| {
        let found =
            parse(cron).unwrap().find_next_occurrence(&after.to_zoned(zone(zone_name).unwrap()), false);
        found.ok().map(|date| date.timestamp())
    };
    for (cron, zone_name, after, wanted, lost_to) in [
        // Several hours: the library calls it an interval, and intervals skip what is skipped.
        (
            "30 2,14 29 3 *",
            "Europe/Amsterdam",
            "2026-03-28T12:00:00Z",
            "2026-03-29T01:00:00Z",
            Some("2026-03-29T12:30:00Z"),
        ),
        // Apia had no 30 December 2011: the date is the moment at which the 31st began.
        ("0 10 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", "2011-12-30T10:00:00Z", None),
        // Nuuk skipped 22:00 to 23:00 in 2024 and has skipped 23:00 to midnight since.
        (
            "30 23 * 3 SAT",
            "America/Nuuk",
            "2026-03-28T12:00:00Z",
            "2026-03-29T01:00:00Z",
            Some("2027-03-07T01:30:00Z"),
        ),
    ] {
        let after = at(after);
        assert_eq!(calendar(cron, zone_name).next_after(after), Some(at(wanted)), "{cron}");
        assert_eq!(theirs(cron, zone_name, after), lost_to.map(at), "{cron}");
    }
}

#[test]
fn gaps_are_the_real_ones() {
    for (cron, zone_name, shortest, longest) in [
        ("0 10 15 1,4,7,10 *", "UTC", 90.0, 92.0),
        ("0 0 1 * *", "UTC", 28.0, 31.0),
        ("0 9 * * MON", "UTC", 7.0, 7.0),
        ("0 9 * * MON", "Europe/Amsterdam", 7.0 - 1.0 / 24.0, 7.0 + 1.0 / 24.0),
        ("0 0 29 2 *", "UTC", 1461.0, 1461.0),
        ("*/30 9-10 1 6 *", "UTC", 0.5 / 24.0, 366.0 - 1.5 / 24.0),
        ("0 0,12 * * *", "UTC", 0.5, 0.5),
        ("0 0,12 * * *", "Europe/Amsterdam", 11.0 / 24.0, 13.0 / 24.0),
        ("0 2,3,4 * * *", "Europe/Amsterdam", 1.0 / 24.0, 22.0 / 24.0),
    ] {
        let gaps = calendar(cron, zone_name).gaps();
        assert!((days(gaps.shortest) - shortest).abs() < 1e-9, "{cron}: {}", days(gaps.shortest));
        assert!((days(gaps.longest) - longest).abs() < 1e-9, "{cron}: {}", days(gaps.longest));
    }
}

#[test]
fn a_calendar_is_stored_as_its_two_texts() {
    let calendar = calendar("0 10 15 1,4,7,10 *", "europe/amsterdam");
    let json = serde_json::to_string(&calendar).unwrap();
    assert_eq!(json, r#"{"cron":"0 10 15 1,4,7,10 *","zone":"Europe/Amsterdam"}"#);
    assert_eq!(serde_json::from_str::<Calendar>(&json).unwrap(), calendar);
    assert!(serde_json::from_str::<Calendar>(r#"{"cron":"x","zone":"UTC"}"#).is_err());
}

/// Checks every date of twenty years against jiff's own reading of the civil time.
fn dates_are_right(zone_name: &str, day: i8, hour: i8, minute: i8) {
    let calendar = calendar(&format!("{minute} {hour} {day} * *"), zone_name);
    let zone = zone(zone_name).unwrap();
    // The last days of 2023 may still hold a date of December.
    let mut dates = calendar
        .dates_after(at("2023-12-31T00:00:00Z"))
        .skip_while(|date| zone.to_datetime(*date).year() < 2024);
    let first = civil::date(2024, 1, day).at(hour, minute, 0, 0);
    for months in 0..240 {
        let civil = first + jiff::Span::new().months(months);
        let found = dates.next().unwrap();
        let ambiguous = zone.to_ambiguous_timestamp(civil);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
                assert_eq!(found, ambiguous.earlier().unwrap(), "{calendar} at {civil}");
            }
            AmbiguousOffset::Gap { .. } => {
                let before = found - SignedDuration::from_nanos(1);
                let (before, after) = (zone.to_datetime(before), zone.to_datetime(found));
                assert!(before < civil && civil < after, "{calendar} at {civil}");
            }
        }
    }
}

#[test]
fn in_every_zone_every_date_of_twenty_years_comes_exactly_once() {
    for (i, name) in distinct().iter().enumerate() {
        // The hours in which clocks change, on other days for each zone.
        for hour in 0..4 {
            dates_are_right(name, 1 + ((i + 9 * hour) % 28) as i8, hour as i8, (i % 2) as i8 * 30);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn dates_go_on_forever_and_forward(
        minute in 0u8..60, hours in prop::collection::btree_set(0u8..24, 1..4), day in 1u8..29,
        // From 2024 on: the years whose gaps are promised.
        zone_index in 0usize..400, second in 1_704_067_200i64..2_200_000_000,
    ) {
        let name = database().available().nth(zone_index).unwrap();
        let hours: Vec<_> = hours.iter().map(u8::to_string).collect();
        let calendar = calendar(&format!("{minute} {} {day} * *", hours.join(",")), name.as_str());
        let gaps = calendar.gaps();
        let mut dates = calendar.dates_after(Timestamp::from_second(second).unwrap());
        let mut last = dates.next().unwrap();
        prop_assert!(last.as_second() > second);
        for next in dates.take(30) {
            prop_assert_eq!(calendar.next_after(last), Some(next));
            let gap = next.duration_since(last);
            prop_assert!(gap >= gaps.shortest && gap <= gaps.longest, "{} {gap:?} {gaps:?}", calendar);
            last = next;
        }
    }
}
