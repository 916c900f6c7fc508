use insta::assert_snapshot;

use super::{HEAD, added, edited, rule};

#[test]
fn durations_and_counts_are_above_zero() {
    assert_snapshot!(rule("P030", &edited("cadence = \"90d\"", "cadence = \"0d\"")), @r#"
    error[P030]: `cadence` is zero
      --> policy.toml:24:11
       |
    24 | cadence = "0d"
       |           ^^^^
       = help: write a duration above zero, or leave the key out
    "#);
    assert_snapshot!(rule("P030", &edited("token_ttl = \"7d\"", "token_ttl = \"0s\"\noverlap = \"0s\"")), @r#"
    error[P030]: `overlap` is zero
      --> policy.toml:26:11
       |
    26 | overlap = "0s"
       |           ^^^^
       = help: write a duration above zero, or leave the key out
    "#);
    assert_snapshot!(rule("P030", &added("healthy = { count = 0, every = \"0s\" }\n")), @r#"
    error[P030]: `count` is zero
      --> policy.toml:28:21
       |
    28 | healthy = { count = 0, every = "0s" }
       |                     ^
       = help: write 1 or more, or leave the key out

    error[P030]: `every` is zero
      --> policy.toml:28:32
       |
    28 | healthy = { count = 0, every = "0s" }
       |                                ^^^^
       = help: write a duration above zero, or leave the key out
    "#);
    assert_snapshot!(rule("P030", &added("deadline = { promote = \"0s\" }\n")), @r#"
    error[P030]: `promote` is zero
      --> policy.toml:28:24
       |
    28 | deadline = { promote = "0s" }
       |                        ^^^^
       = help: write a duration above zero, or leave the key out
    "#);
    assert_snapshot!(rule("P030", &edited("[consumer.backend]", "[consumer.backend]\nsettle = \"0s\"")), @r#"
    error[P030]: no value is everywhere at once
      --> policy.toml:17:10
       |
    17 | settle = "0s"
       |          ^^^^
       = help: write how long a published value takes to be seen, at least "1s"
    "#);
    assert_snapshot!(rule("P030", &edited("kind = \"ecs\"", "kind = \"ecs\", deadline = \"0s\"")), @r#"
    error[P030]: a rollout takes some time
      --> policy.toml:17:38
       |
    17 | rollout = { kind = "ecs", deadline = "0s", cluster = "prod", service = "backend" }
       |                                      ^^^^
       = help: write how long it may take, or leave the key out
    "#);
}

#[test]
fn an_overlap_is_below_the_cadence() {
    assert_snapshot!(rule("P031", &added("overlap = \"90d\"\n")), @r#"
    error[P031]: the overlap of 90d is not below the cadence of 90d
      --> policy.toml:28:11
       |
    28 | overlap = "90d"
       |           ^^^^^
       = policy.toml:24:11: the cadence
       = help: write an overlap of at most a quarter of the cadence, such as "22d12h"
    "#);
}

#[test]
fn a_cadence_under_a_day_has_no_place_in_production() {
    let short = "cadence = \"1h\"\noverlap = \"10m\"";
    let text = edited("cadence = \"90d\"", short).replace("token_ttl = \"7d\"", "token_ttl = \"1m\"");
    assert_snapshot!(rule("P032", &text), @r#"
    error[P032]: `SESSION_SECRET` rotates every 1h in production
      --> policy.toml:24:11
       |
    24 | cadence = "1h"
       |           ^^^^
       = help: write at least "1d"; shorter cadences are for staging and development
    "#);
    let elsewhere = text.replace("\"production\"", "\"development\"");
    assert!(super::load(&elsewhere).policy.is_some());
}

#[test]
fn an_overlap_lasts_as_long_as_what_was_signed() {
    assert_snapshot!(rule("P033", &edited("token_ttl = \"7d\"", "token_ttl = \"14d\"\noverlap = \"24h\"")), @r#"
    error[P033]: what `SESSION_SECRET` signed is accepted for 14d, and the overlap is only 1d
      --> policy.toml:25:13
       |
    25 | token_ttl = "14d"
       |             ^^^^^
       = policy.toml:26:11: the overlap
       = help: write `overlap = "14d"` or more
    "#);
    assert_snapshot!(rule("P033", &edited("[defaults]", "[defaults]\noverlap = \"24h\"")), @r#"
    error[P033]: what `SESSION_SECRET` signed is accepted for 7d, and the overlap is only 1d
      --> policy.toml:26:13
       |
    26 | token_ttl = "7d"
       |             ^^^^
       = policy.toml:6:11: the overlap
       = help: write `overlap = "7d"` or more
    "#);
    let unsaid = super::load(&edited("token_ttl = \"7d\"", "token_ttl = \"8d\"")).policy.unwrap();
    let secret = unsaid.secrets.values().next().unwrap();
    assert_eq!(secret.overlap, secret.token_ttl);
}

#[test]
fn a_rotation_fits_between_two_promotions() {
    assert_snapshot!(rule("P034", &edited("cadence = \"90d\"", "cadence = \"30d\"\noverlap = \"28d\"\nlead = \"2d\"")), @r#"
    warning[P034]: a rotation of `SESSION_SECRET` can take 30d1h33m, and the next one is due after 30d
      --> policy.toml:24:11
       |
    24 | cadence = "30d"
       |           ^^^^^
       = help: shorten one of these: the lead (2d), the rollouts (3 times up to 31m), the overlap (28d)
    "#);
}

#[test]
fn enough_observations_fit_too() {
    let text = edited("cadence = \"90d\"", "cadence = \"30d\"\nhealthy = { count = 100, every = \"8h\" }");
    assert_snapshot!(rule("P034", &text), @r#"
    warning[P034]: a rotation of `SESSION_SECRET` can take 34d9h33m, and the next one is due after 30d
      --> policy.toml:24:11
       |
    24 | cadence = "30d"
       |           ^^^^^
       = help: shorten one of these: the lead (1d), the rollouts (3 times up to 31m), the healthy observations (33d8h)
    "#);
}

#[test]
fn a_calendar_is_not_busier_than_a_day_in_production() {
    let calendar = |cron: &str| {
        let dates =
            format!("calendar = \"busy\"\n[calendar.busy]\ncron = \"{cron}\"\nzone = \"America/New_York\"\n");
        edited("cadence = \"90d\"\n", "") + &dates
    };
    assert_snapshot!(rule("P032", &calendar("*/5 * * * *")), @r#"
    error[P032]: dates of `busy` are only 5m apart in production
      --> policy.toml:29:8
       |
    29 | cron = "*/5 * * * *"
       |        ^^^^^^^^^^^^^
       = help: write one date a day at most; shorter cadences are for staging and development
    "#);
    // A day of 23 hours is a day.
    let daily = super::load(&calendar("0 10 * * *"));
    assert!(daily.diagnostics.iter().all(|found| found.code != "P032"));
}

#[test]
fn a_calendar_keeps_the_age_that_it_promises() {
    let calendar =
        "calendar = \"quarterly\"\n[calendar.quarterly]\ncron = \"0 10 15 1,4,7,10 *\"\nzone = \"UTC\"\n";
    let text = |more: &str| edited("cadence = \"90d\"\n", "") + calendar + more;
    assert_snapshot!(rule("P035", &text("max_age = \"90d\"\n")), @r#"
    error[P035]: dates of `quarterly` are up to 92 days apart, over the 90d that it promises
      --> policy.toml:31:11
       |
    31 | max_age = "90d"
       |           ^^^^^
       = policy.toml:29:8: the dates
       = help: write `max_age = "92d"`, or dates that are closer together
    "#);
    assert_snapshot!(rule("P036", &text("")), @r#"
    warning[P036]: dates of `quarterly` are up to 92 days apart, over the usual 90d
      --> policy.toml:29:8
       |
    29 | cron = "0 10 15 1,4,7,10 *"
       |        ^^^^^^^^^^^^^^^^^^^^
       = help: add `max_age = "92d"` to promise that, or `cadence = "90d"` in its place
    "#);
    let kept = super::load(&text("max_age = \"93d\"\n"));
    assert_eq!(kept.diagnostics, []);
}

#[test]
fn a_calendar_that_keeps_the_usual_age_needs_no_promise() {
    let calendar = "calendar = \"weekly\"\n[calendar.weekly]\ncron = \"0 10 * * 1\"\nzone = \"UTC\"\n";
    let text = edited("cadence = \"90d\"\n", "")
        .replace("token_ttl = \"7d\"", "token_ttl = \"1d\"\noverlap = \"1d\"");
    assert_eq!(super::load(&(text + calendar)).diagnostics, []);
}

#[test]
fn an_overlap_is_below_the_shortest_time_between_dates() {
    let calendar = "calendar = \"weekly\"\n[calendar.weekly]\ncron = \"0 10 * * 1\"\nzone = \"UTC\"\n";
    assert_snapshot!(rule("P031", &(edited("cadence = \"90d\"\n", "") + calendar)), @r#"
    error[P031]: the overlap of 7d is not below the cadence of 7d
      --> policy.toml:27:12
       |
    27 | calendar = "weekly"
       |            ^^^^^^^^
       = policy.toml:27:12: the cadence
       = help: write an overlap of at most a quarter of the cadence, such as "1d18h"
    "#);
}

#[test]
fn a_calendar_or_window_occurs() {
    let calendar = "[calendar.never]\ncron = \"0 10 30 2 *\"\nzone = \"UTC\"\n";
    assert_snapshot!(rule("P037", &added(calendar)), @r#"
    error[P037]: `0 10 30 2 *` never comes: no year has such a date
      --> policy.toml:29:8
       |
    29 | cron = "0 10 30 2 *"
       |        ^^^^^^^^^^^^^
       = help: write days that some month has
    "#);
    assert_snapshot!(rule("P037", &added("window = \"Mon 09:00-09:00 UTC\"\n")), @r#"
    error[P037]: a window of `09:00-09:00` never opens
      --> policy.toml:28:10
       |
    28 | window = "Mon 09:00-09:00 UTC"
       |          ^^^^^^^^^^^^^^^^^^^^^
       = help: write `00:00-24:00` for the whole day
    "#);
}

#[test]
fn a_reminder_comes_after_the_last_promotion() {
    assert_snapshot!(rule("P038", &added("remind = [\"120d\", \"7d\"]\n")), @r#"
    warning[P038]: a reminder 120d ahead never rests: the cadence is 90d
      --> policy.toml:28:10
       |
    28 | remind = ["120d", "7d"]
       |          ^^^^^^^^^^^^^^
       = help: remind less than a cadence ahead
    "#);
}

#[test]
fn reminders_of_the_defaults_hold_where_they_fit() {
    let text = edited("[defaults]", "[defaults]\nremind = [\"120d\", \"7d\"]");
    let loaded = super::load(&text);
    assert_eq!(loaded.diagnostics, []);
    assert_eq!(loaded.policy.unwrap().secrets.values().next().unwrap().remind.len(), 1);
}

#[test]
fn a_lead_covers_the_longest_closed_window() {
    let text = added("lead = \"1d\"\nwindow = \"Mon-Thu 09:00-16:00 Europe/Amsterdam\"\n");
    assert_snapshot!(rule("P039", &text), @r#"
    warning[P039]: a lead of 1d can fall into a closed window; taken as 3d18h
      --> policy.toml:28:8
       |
    28 | lead = "1d"
       |        ^^^^
       = policy.toml:29:10: the window
       = help: write `lead = "3d18h"`, or widen the window
    "#);
    let raised = super::load(&text).policy.unwrap();
    let secret = raised.secrets.values().next().unwrap();
    assert_eq!(secret.lead, secret.window.as_ref().unwrap().longest_closed());
}

#[test]
fn an_unusual_cadence_says_where_it_comes_from() {
    let text = edited("cadence = \"90d\"", "cadence = \"45d\"");
    assert_snapshot!(rule("P040", &text), @r#"
    hint[P040]: every 45d is not a usual cadence (30d, 90d, 180d, 365d)
      --> policy.toml:24:11
       |
    24 | cadence = "45d"
       |           ^^^^^
       = help: add `cadence_basis = "where it comes from"`
    "#);
    let said =
        text.replace("cadence = \"45d\"", "cadence = \"45d\"\ncadence_basis = \"the provider's rule\"");
    assert_eq!(super::load(&said).diagnostics, []);
}

#[test]
fn a_value_that_ends_by_itself_lives_until_the_next_one_took_over() {
    let key = |cadence: &str| {
        added(&format!(
            "[secret.S3_KEY]\nkind = \"iam\"\ncadence = \"{cadence}\"\noverlap = \"7d\"\nconsumers = [\"backend\"]\n"
        ))
    };
    assert_snapshot!(rule("P042", &key("194d")), @r#"
    error[P042]: a value of `S3_KEY` ends after 200d, and is used for 194d and an overlap
      --> policy.toml:30:11
       |
    30 | cadence = "194d"
       |           ^^^^^^
       = help: let it live for 201d or more, or for ever while it is renewed
    "#);
    assert!(super::load(&key("193d")).diagnostics.iter().all(|found| found.code != "P042"));
}

#[test]
fn a_signing_secret_says_how_long_what_it_signed_is_accepted() {
    let text = edited("token_ttl = \"7d\"\n", "");
    assert_snapshot!(rule("P041", &text), @r#"
    hint[P041]: how long what `SESSION_SECRET` signed is accepted is not said; taken as the overlap, 7d
      --> policy.toml:20:9
       |
    20 | [secret.SESSION_SECRET]
       |         ^^^^^^^^^^^^^^
       = help: add `token_ttl`: the longest life of a token, cookie or state that it signs
    "#);
    let policy = super::load(&text).policy.unwrap();
    let secret = policy.secrets.values().next().unwrap();
    assert_eq!(secret.token_ttl, secret.overlap);
}

#[test]
fn a_secret_on_request_has_no_cadence_to_fit_into() {
    let text = edited("cadence = \"90d\"", "cadence = \"on-request\"\noverlap = \"400d\"");
    let loaded = super::load(&text);
    assert_eq!(loaded.diagnostics, []);
    assert!(HEAD.contains("production"));
}
