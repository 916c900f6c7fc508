use insta::assert_snapshot;

use super::{added, edited, heard, rule};
use crate::policy::tests::{HEAD, SESSION, kinds};
use crate::policy::{Piece, load};

#[test]
fn an_unknown_key_is_told_with_the_nearest_one() {
    assert_snapshot!(rule("P010", &added("overlapp = \"7d\"\n")), @r#"
    error[P010]: a secret has no key `overlapp`
      --> policy.toml:28:1
       |
    28 | overlapp = "7d"
       | ^^^^^^^^
       = help: did you mean `overlap`?
    "#);
    assert_snapshot!(rule("P010", &edited("[consumer.backend]", "[consumer.backend]\nselttle = \"1m\"")), @r#"
    error[P010]: `[consumer.NAME]` has no key `selttle`
      --> policy.toml:17:1
       |
    17 | selttle = "1m"
       | ^^^^^^^
       = help: did you mean `settle`?
    "#);
}

#[test]
fn an_unknown_table_is_told() {
    assert_snapshot!(rule("P010", &added("[secrets.OTHER]\nkind = \"generated\"\n")), @r#"
    error[P010]: a policy has no key `secrets`
      --> policy.toml:28:2
       |
    28 | [secrets.OTHER]
       |  ^^^^^^^
       = help: did you mean `secret`?
    "#);
}

#[test]
fn a_name_with_a_dot_and_no_quotes_is_explained() {
    let text = added("[secret.prod.db]\nkind = \"generated\"\n");
    assert!(rule("P010", &text).contains("a name with a dot in it is written in quotes"));
}

#[test]
fn keys_of_one_secret_have_no_place_in_defaults_and_profiles() {
    assert_snapshot!(rule("P010", &edited("[defaults]", "[defaults]\naccept_gap = true")), @r#"
    error[P010]: `accept_gap` has no place in `[defaults]`
     --> policy.toml:6:1
      |
    6 | accept_gap = true
      | ^^^^^^^^^^
      = help: write it in each `[secret.NAME]` that needs it
    "#);
    assert_snapshot!(rule("P010", &added("[profile.p]\nself = true\n")), @r#"
    error[P010]: `self` has no place in a profile
      --> policy.toml:29:1
       |
    29 | self = true
       | ^^^^
       = help: write it in each `[secret.NAME]` that needs it
    "#);
}

#[test]
fn a_value_of_another_type_is_told_with_what_to_write() {
    assert_snapshot!(rule("P011", &edited("cadence = \"90d\"", "cadence = 90")), @r#"
    error[P011]: a number does not fit here
      --> policy.toml:24:11
       |
    24 | cadence = 90
       |           ^^
       = help: write a duration in quotes, such as "7d", "24h" or "90s"
    "#);
    assert_snapshot!(rule("P011", &edited("consumers = [\"backend\"]", "consumers = \"backend\"")), @r#"
    error[P011]: a text does not fit here
      --> policy.toml:26:13
       |
    26 | consumers = "backend"
       |             ^^^^^^^^^
       = help: write a list of consumers, such as ["backend"], or "none"
    "#);
    assert_snapshot!(rule("P011", &added("accept_gap = \"yes\"\n")), @r#"
    error[P011]: a text does not fit here
      --> policy.toml:28:14
       |
    28 | accept_gap = "yes"
       |              ^^^^^
       = help: write `true` or `false`, without quotes
    "#);
}

#[test]
fn a_value_that_cannot_be_read_is_told_with_what_to_write() {
    assert_snapshot!(rule("P011", &edited("cadence = \"90d\"", "cadence = \"90 days\"")), @r#"
    error[P011]: a duration is a number and a unit, such as `7d`, `24h`, `90s` or `1d12h`
      --> policy.toml:24:11
       |
    24 | cadence = "90 days"
       |           ^^^^^^^^^
       = help: write "7d", "24h" or "90s"
    "#);
    assert_snapshot!(rule("P011", &edited("format = \"hex:64\"", "format = \"hexx:64\"")), @r#"
    error[P011]: `hexx:64` is not a format
      --> policy.toml:23:10
       |
    23 | format = "hexx:64"
       |          ^^^^^^^^^
       = help: write one of `hex:64` or `base64:32` or `base64url:32` (bytes of entropy), `base62:40` or `password:24` (characters), `uuid`, `text:20-200` (made elsewhere)
    "#);
    assert_snapshot!(rule("P011", &added("window = \"Mon-Thu 9-16\"\n")), @r#"
    error[P011]: `Mon-Thu 9-16` is not a window
      --> policy.toml:28:10
       |
    28 | window = "Mon-Thu 9-16"
       |          ^^^^^^^^^^^^^^
       = help: write days, hours and a zone, as in `Mon-Thu 09:00-16:00 Europe/Amsterdam` or `daily 22:00-04:00 UTC`
    "#);
    assert_snapshot!(rule("P011", &added("window = \"Mon-Thu 09:00-16:00 Europe/Amsterdm\"\n")), @r#"
    error[P011]: `Europe/Amsterdm` is not a time zone
      --> policy.toml:28:10
       |
    28 | window = "Mon-Thu 09:00-16:00 Europe/Amsterdm"
       |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: write an IANA name such as `Europe/Amsterdam`, or `UTC`
    "#);
    assert_snapshot!(rule("P011", &added("fields = { A = \"{password\" }\n")), @r#"
    error[P011]: `{` at character 0 is never closed: close the hole with `}`, or write `{{` for a brace
      --> policy.toml:28:16
       |
    28 | fields = { A = "{password" }
       |                ^^^^^^^^^^^
       = help: write a template such as "{username}:{password:url}@{host}"
    "#);
}

#[test]
fn a_word_that_is_none_of_the_choices_is_told_with_the_nearest_one() {
    assert_snapshot!(rule("P011", &edited("class = \"signing\"", "class = \"singing\"")), @r#"
    error[P011]: none of the words that the key takes
      --> policy.toml:22:9
       |
    22 | class = "singing"
       |         ^^^^^^^^^
       = help: did you mean `signing`?
    "#);
    assert_snapshot!(rule("P011", &added("on_failure = \"panic\"\n")), @r#"
    error[P011]: none of the words that the key takes
      --> policy.toml:28:14
       |
    28 | on_failure = "panic"
       |              ^^^^^^^
       = help: write one of `hold` and `rollback`
    "#);
}

#[test]
fn a_deadline_names_a_step() {
    assert_snapshot!(rule("P011", &added("deadline = { promot = \"1h\" }\n")), @r#"
    error[P011]: no step is called `promot`
      --> policy.toml:28:14
       |
    28 | deadline = { promot = "1h" }
       |              ^^^^^^
       = help: did you mean `promote`?
    "#);
}

#[test]
fn a_broken_calendar_is_told_with_what_to_write() {
    let calendar =
        |cron: &str, zone: &str| added(&format!("[calendar.q]\ncron = \"{cron}\"\nzone = \"{zone}\"\n"));
    assert_snapshot!(rule("P011", &calendar("0 10 15 1,4,7,10", "UTC")), @r#"
    error[P011]: `0 10 15 1,4,7,10` is not a calendar
      --> policy.toml:29:8
       |
    29 | cron = "0 10 15 1,4,7,10"
       |        ^^^^^^^^^^^^^^^^^^
       = help: write five fields (minute, hour, day of month, month, day of week), as in `0 10 15 1,4,7,10 *`
    "#);
    assert_snapshot!(rule("P011", &calendar("0 25 15 1,4,7,10 *", "UTC")), @r#"
    error[P011]: `25` is not an hour
      --> policy.toml:29:8
       |
    29 | cron = "0 25 15 1,4,7,10 *"
       |        ^^^^^^^^^^^^^^^^^^^^
       = help: write 0-23, as in `10` or `9-17`
    "#);
    assert_snapshot!(rule("P011", &calendar("0 10 15 1,4,7,10 *", "CET5")), @r#"
    error[P011]: `CET5` is not a time zone
      --> policy.toml:30:8
       |
    30 | zone = "CET5"
       |        ^^^^^^
       = help: write an IANA name such as `Europe/Amsterdam`, or `UTC`
    "#);
}

#[test]
fn a_date_and_an_endless_number_have_no_place_in_a_kind_s_table() {
    let dated = edited("service = \"backend\"", "service = 2026-01-01");
    assert!(rule("P011", &dated).contains("a date does not fit here"));
    let endless = edited("service = \"backend\"", "service = inf");
    assert!(rule("P011", &endless).contains("write a finite number"));
}

#[test]
fn missing_keys_are_told_with_an_example() {
    assert_snapshot!(rule("P012", &edited("application = \"acd\"\n", "")), @r#"
    error[P012]: `application` is missing
      = help: add `application = "acd"` at the top
    "#);
    assert_snapshot!(rule("P012", &edited("version = 1\n", "")), @r#"
    error[P012]: `version` is missing
      = help: add `version = 1` at the top
    "#);
    assert_snapshot!(rule("P012", &edited("environment = \"production\"\n", "")), @r#"
    error[P012]: `environment` is missing
      = help: add `environment = "production"` at the top
    "#);
    assert_snapshot!(rule("P012", &edited("kind = \"generated\"\n", "")), @r#"
    error[P012]: this secret does not say its kind
      --> policy.toml:20:9
       |
    20 | [secret.SESSION_SECRET]
       |         ^^^^^^^^^^^^^^
       = help: add `kind = ...`, one of `admin-password`, `encryption-key`, `generated`, `iam`, `operator` and `postgres`
    "#);
    assert_snapshot!(rule("P012", &edited("cadence = \"90d\"\n", "")), @r#"
    error[P012]: `SESSION_SECRET` does not say when it is due
      --> policy.toml:20:9
       |
    20 | [secret.SESSION_SECRET]
       |         ^^^^^^^^^^^^^^
       = help: add `cadence = "90d"`, `calendar = ...`, or `cadence = "on-request"`
    "#);
    assert_snapshot!(rule("P012", &added("[calendar.q]\ncron = \"0 0 1 1 *\"\n")), @r#"
    error[P012]: the calendar `q` needs `cron` and `zone`
      --> policy.toml:28:11
       |
    28 | [calendar.q]
       |           ^
       = help: write `cron = "0 10 15 1,4,7,10 *"` and `zone = "UTC"`
    "#);
    assert_snapshot!(rule("P012", &added("[consumer.other]\nunmonitored = \"none needed\"\n")), @r#"
    error[P012]: `other` does not say how it is made to read anew
      --> policy.toml:28:11
       |
    28 | [consumer.other]
       |           ^^^^^
       = help: add `rollout = { kind = ... }`, one of `ecs` and `reread`
    "#);
    assert_snapshot!(rule("P012", &added("hooks = [{ kind = \"webhook\", url = \"https://x\" }]\n")), @r#"
    error[P012]: the hook does not say when it runs
      --> policy.toml:28:10
       |
    28 | hooks = [{ kind = "webhook", url = "https://x" }]
       |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: add `at = "before-promote"` or another point
    "#);
    assert_snapshot!(rule("P012", &added("stores = []\n")), @r#"
    error[P012]: a secret without a store
      --> policy.toml:28:10
       |
    28 | stores = []
       |          ^^
       = help: name the store that consumers read
    "#);
    assert_snapshot!(rule("P012", &added("fields = {}\n")), @r#"
    error[P012]: `fields` without a field
      --> policy.toml:28:10
       |
    28 | fields = {}
       |          ^^
       = help: name what consumers read, or leave `fields` out
    "#);
}

#[test]
fn a_secret_says_its_store_where_there_are_several() {
    let text = edited(
        "[consumer.backend]",
        "[store.file]\nkind = \"env-file\"\npath = \"/etc/x\"\n\n[consumer.backend]",
    );
    assert_snapshot!(rule("P012", &text), @r#"
    error[P012]: `SESSION_SECRET` does not say where it is kept
      --> policy.toml:24:9
       |
    24 | [secret.SESSION_SECRET]
       |         ^^^^^^^^^^^^^^
       = help: add `stores = ["NAME"]` here or in `[defaults]`, and a table `[store.NAME]`
    "#);
}

#[test]
fn a_name_that_is_no_name_is_told() {
    assert_snapshot!(rule("P013", &edited("[secret.SESSION_SECRET]", "[secret.\"SESSION SECRET\"]")), @r#"
    error[P013]: a name starts with a letter or digit and goes on with letters, digits, `_`, `.`, `/` or `-`
      --> policy.toml:20:9
       |
    20 | [secret."SESSION SECRET"]
       |         ^^^^^^^^^^^^^^^^
       = help: write a name such as `JWT_SECRET` or `prod/acd/db-admin`, of at most 128 characters
    "#);
    assert_snapshot!(rule("P013", &edited("\"SESSION_SECRETS\"", "\"../SECRETS\"")), @r#"
    error[P013]: a name starts with a letter or digit and goes on with letters, digits, `_`, `.`, `/` or `-`
      --> policy.toml:27:20
       |
    27 | publish = { list = "../SECRETS" }
       |                    ^^^^^^^^^^^^
       = help: write a name such as `JWT_SECRET` or `prod/acd/db-admin`, of at most 128 characters
    "#);
}

#[test]
fn a_name_is_defined_once() {
    assert_snapshot!(rule("P014", &added("[secret.SESSION_SECRET]\n")), @r#"
    error[P014]: the name is defined twice
      --> policy.toml:28:9
       |
    28 | [secret.SESSION_SECRET]
       |         ^^^^^^^^^^^^^^
       = help: rename or remove one of them
    "#);
    let pieces = [Piece::new("a.toml", format!("{HEAD}{SESSION}")), Piece::new("b.toml", SESSION)];
    assert_snapshot!(heard("P014", &load(&pieces, &kinds())), @r#"
    error[P014]: secret `SESSION_SECRET` is defined twice
     --> b.toml:1:9
      |
    1 | [secret.SESSION_SECRET]
      |         ^^^^^^^^^^^^^^
      = a.toml:20:9: first here
      = help: rename or remove one of them
    "#);
    let pieces = [
        Piece::new("a.toml", format!("{HEAD}{SESSION}")),
        Piece::new(
            "b.toml",
            "[defaults]\nlead = \"2d\"\n[store.vault]\nkind = \"vault-kv2\"\nmount = \"x\"\n",
        ),
    ];
    assert_snapshot!(heard("P014", &load(&pieces, &kinds())), @r#"
    error[P014]: `[defaults]` stands in two files of one policy
     --> b.toml:1:1
      |
    1 | [defaults]
      | ^^^^^^^^^^
      = a.toml:5:1: the other one
      = help: keep it in one of them

    error[P014]: store `vault` is defined twice
     --> b.toml:3:8
      |
    3 | [store.vault]
      |        ^^^^^
      = a.toml:11:8: first here
      = help: rename or remove one of them
    "#);
}

#[test]
fn checks_and_stores_of_one_list_are_named_once() {
    let twice = edited(
        "checks = [{ kind = \"http\",",
        "checks = [{ kind = \"http\", name = \"up\", url = \"https://a\" }, { kind = \"http\", name = \"up\",",
    );
    assert_snapshot!(rule("P014", &twice), @r#"
    error[P014]: two checks of one consumer are called `up`
      --> policy.toml:18:62
       |
    18 | checks = [{ kind = "http", name = "up", url = "https://a" }, { kind = "http", name = "up", url = "https://api.example.com/health" }]
       |                                                              ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: give each a `name` of its own
    "#);
    assert_snapshot!(rule("P014", &added("stores = [\"vault\", \"vault\"]\n")), @r#"
    error[P014]: store `vault` is named twice
      --> policy.toml:28:20
       |
    28 | stores = ["vault", "vault"]
       |                    ^^^^^^^
       = help: name it once
    "#);
}

#[test]
fn keys_that_exclude_each_other_are_told() {
    let calendar = "[calendar.q]\ncron = \"0 0 1 * *\"\nzone = \"UTC\"\nmax_age = \"31d\"\n";
    assert_snapshot!(rule("P016", &added(&format!("calendar = \"q\"\n{calendar}"))), @r#"
    error[P016]: a calendar and a cadence at once
      --> policy.toml:28:12
       |
    28 | calendar = "q"
       |            ^^^
       = policy.toml:24:11: the cadence
       = help: keep one; the age that a calendar promises is its `max_age`
    "#);
    let publish = |form: &str| edited("{ list = \"SESSION_SECRETS\" }", form);
    assert_snapshot!(rule("P016", &publish("{ first = \"A\" }")), @r#"
    error[P016]: a pair has two names
      --> policy.toml:27:11
       |
    27 | publish = { first = "A" }
       |           ^^^^^^^^^^^^^^^
       = help: write `publish = { first = "X", second = "X_OLD" }`
    "#);
    assert_snapshot!(rule("P016", &publish("{ first = \"A\", second = \"A\", pinned = true }")), @r#"
    error[P016]: the two names of a pair are the same
      --> policy.toml:27:11
       |
    27 | publish = { first = "A", second = "A", pinned = true }
       |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: give the second value a name of its own, such as `X_OLD`
    "#);
    assert_snapshot!(rule("P016", &publish("{ first = \"A\", second = \"B\", list = \"C\" }")), @r#"
    error[P016]: a pair and a list at once
      --> policy.toml:27:11
       |
    27 | publish = { first = "A", second = "B", list = "C" }
       |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: keep `first` and `second`, or `list`
    "#);
    assert_snapshot!(rule("P016", &publish("{ list = \"A\", pinned = true }")), @r#"
    error[P016]: only a pair can be pinned
      --> policy.toml:27:11
       |
    27 | publish = { list = "A", pinned = true }
       |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: remove `pinned`
    "#);
}
