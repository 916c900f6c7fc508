use insta::assert_snapshot;

use super::{added, edited, rule};

#[test]
fn a_reference_to_nothing_is_told_with_the_nearest_name() {
    assert_snapshot!(rule("P020", &added("stores = [\"valt\"]\n")), @r#"
    error[P020]: there is no store `valt`
      --> policy.toml:28:11
       |
    28 | stores = ["valt"]
       |           ^^^^^^
       = help: did you mean `vault`?
    "#);
    assert_snapshot!(rule("P020", &edited("consumers = [\"backend\"]", "consumers = [\"frontend\"]")), @r#"
    error[P020]: there is no consumer `frontend`
      --> policy.toml:26:14
       |
    26 | consumers = ["frontend"]
       |              ^^^^^^^^^^
       = help: the consumers are `backend`; or add `[consumer.frontend]`
    "#);
    assert_snapshot!(rule("P020", &added("profile = \"signing\"\n")), @r#"
    error[P020]: there is no profile `signing`
      --> policy.toml:28:11
       |
    28 | profile = "signing"
       |           ^^^^^^^^^
       = help: add a table `[profile.signing]`
    "#);
    assert_snapshot!(rule("P020", &edited("cadence = \"90d\"", "calendar = \"quarterly\"")), @r#"
    error[P020]: there is no calendar `quarterly`
      --> policy.toml:24:12
       |
    24 | calendar = "quarterly"
       |            ^^^^^^^^^^^
       = help: add a table `[calendar.quarterly]`
    "#);
    assert_snapshot!(rule("P020", &edited("owner = \"platform\"", "owner = \"plattform\"")), @r#"
    error[P020]: there is no owner `plattform`
     --> policy.toml:6:9
      |
    6 | owner = "plattform"
      |         ^^^^^^^^^^^
      = help: did you mean `platform`?
    "#);
}

#[test]
fn an_unknown_kind_is_told_with_the_nearest_one() {
    assert_snapshot!(rule("P021", &edited("kind = \"generated\"", "kind = \"generate\"")), @r#"
    error[P021]: there is no kind `generate` of rotator
      --> policy.toml:21:8
       |
    21 | kind = "generate"
       |        ^^^^^^^^^^
       = help: did you mean `generated`?
    "#);
    assert_snapshot!(rule("P021", &edited("kind = \"vault-kv2\"", "kind = \"vault\"")), @r#"
    error[P021]: there is no kind `vault` of store
      --> policy.toml:12:8
       |
    12 | kind = "vault"
       |        ^^^^^^^
       = help: the kinds of store are `env-file` and `vault-kv2`
    "#);
    assert_snapshot!(rule("P021", &edited("kind = \"ecs\"", "kind = \"kubernetes\"")), @r#"
    error[P021]: there is no kind `kubernetes` of rollout
      --> policy.toml:17:20
       |
    17 | rollout = { kind = "kubernetes", cluster = "prod", service = "backend" }
       |                    ^^^^^^^^^^^^
       = help: the kinds of rollout are `ecs` and `reread`
    "#);
    assert_snapshot!(rule("P021", &edited("kind = \"http\"", "kind = \"https\"")), @r#"
    error[P021]: there is no kind `https` of check
      --> policy.toml:18:20
       |
    18 | checks = [{ kind = "https", url = "https://api.example.com/health" }]
       |                    ^^^^^^^
       = help: did you mean `http`?
    "#);
    assert_snapshot!(rule("P021", &added("hooks = [{ at = \"before-retire\", kind = \"webhok\" }]\n")), @r#"
    error[P021]: there is no kind `webhok` of hook
      --> policy.toml:28:41
       |
    28 | hooks = [{ at = "before-retire", kind = "webhok" }]
       |                                         ^^^^^^^^
       = help: did you mean `webhook`?
    "#);
}

#[test]
fn a_consumer_that_could_not_be_read_is_not_told_as_missing() {
    let text = edited("kind = \"ecs\"", "kind = \"kubernetes\"");
    let loaded = super::load(&text);
    assert!(loaded.diagnostics.iter().all(|d| d.code == "P021"), "{:?}", loaded.diagnostics);
}

#[test]
fn a_definition_that_nothing_uses_is_told() {
    let spare = "[store.spare]\nkind = \"vault-kv2\"\nmount = \"b\"\n[owner.spare]\n[profile.spare]\n\
                 [calendar.spare]\ncron = \"0 0 1 * *\"\nzone = \"UTC\"\nmax_age = \"31d\"\n\
                 [consumer.spare]\nunmonitored = \"a batch job\"\nrollout = { kind = \"reread\", within = \"5m\" }\n";
    let text = edited("cadence = \"90d\"", "cadence = \"90d\"\nstores = [\"vault\"]") + spare;
    assert_snapshot!(rule("P022", &text), @r#"
    hint[P022]: nothing uses the store `spare`
      --> policy.toml:29:8
       |
    29 | [store.spare]
       |        ^^^^^
       = help: remove it, or refer to it

    hint[P022]: nothing uses the owner `spare`
      --> policy.toml:32:8
       |
    32 | [owner.spare]
       |        ^^^^^
       = help: remove it, or refer to it

    hint[P022]: nothing uses the profile `spare`
      --> policy.toml:33:10
       |
    33 | [profile.spare]
       |          ^^^^^
       = help: remove it, or refer to it

    hint[P022]: nothing uses the calendar `spare`
      --> policy.toml:34:11
       |
    34 | [calendar.spare]
       |           ^^^^^
       = help: remove it, or refer to it

    hint[P022]: nothing uses the consumer `spare`
      --> policy.toml:38:11
       |
    38 | [consumer.spare]
       |           ^^^^^
       = help: remove it, or refer to it
    "#);
}

#[test]
fn a_key_of_another_kind_is_told_with_its_kind() {
    assert_snapshot!(rule("P023", &added("postgres = { host = \"db\" }\n")), @r#"
    error[P023]: `postgres` belongs to the kind `postgres`, and this secret is of kind `generated`
      --> policy.toml:28:1
       |
    28 | postgres = { host = "db" }
       | ^^^^^^^^
       = help: write `kind = "postgres"`, or remove `postgres`
    "#);
    assert_snapshot!(rule("P023", &added("archive = true\n")), @r#"
    error[P023]: `archive` belongs to the kind `encryption-key`, and this secret is of kind `generated`
      --> policy.toml:28:1
       |
    28 | archive = true
       | ^^^^^^^
       = help: write `kind = "encryption-key"`, or remove `archive`
    "#);
    assert_snapshot!(rule("P023", &added("inbox = \"inbox/x\"\n")), @r#"
    error[P023]: `inbox` means nothing to the kind `generated`
      --> policy.toml:28:9
       |
    28 | inbox = "inbox/x"
       |         ^^^^^^^^^
       = help: remove it: only a value that a person supplies has an inbox
    "#);
}

#[test]
fn a_promise_that_nothing_keeps_is_refused() {
    assert_snapshot!(rule("P024", &added("self = true\n")), @r#"
    error[P024]: Rota does not replace its own credentials yet
      --> policy.toml:28:8
       |
    28 | self = true
       |        ^^^^
       = help: remove `self`, and give the daemon its new credential by hand: docs/configuration.md
    "#);
    assert_eq!(super::load(&added("self = false\n")).diagnostics, []);
}

#[test]
fn a_kind_s_table_is_checked_to_the_key() {
    assert_snapshot!(rule("P100", &edited("service = \"backend\"", "servce = \"backend\"")), @r#"
    error[P100]: rollout `ecs`: the key `service` is missing
      --> policy.toml:17:11
       |
    17 | rollout = { kind = "ecs", cluster = "prod", servce = "backend" }
       |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: add `service = ...`

    error[P100]: rollout `ecs`: there is no key `servce` here
      --> policy.toml:17:45
       |
    17 | rollout = { kind = "ecs", cluster = "prod", servce = "backend" }
       |                                             ^^^^^^
       = help: did you mean `service`?
    "#);
    assert_snapshot!(rule("P100", &edited("mount = \"secret\"", "mount = 5")), @r#"
    error[P100]: store `vault-kv2`: a number does not fit here
      --> policy.toml:13:9
       |
    13 | mount = 5
       |         ^
       = help: write a text in quotes
    "#);
    let postgres = "[secret.DB]\nkind = \"postgres\"\ncadence = \"30d\"\nconsumers = [\"backend\"]\n";
    assert_snapshot!(rule("P100", &added(&format!("{postgres}postgres = {{ admin = \"vault:a\", users = \"a\" }}\n"))), @r#"
    error[P100]: rotator `postgres`: the key `host` is missing
      --> policy.toml:32:12
       |
    32 | postgres = { admin = "vault:a", users = "a" }
       |            ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: add `host = ...`

    error[P100]: rotator `postgres`: a text does not fit here
      --> policy.toml:32:41
       |
    32 | postgres = { admin = "vault:a", users = "a" }
       |                                         ^^^
       = help: write a list in square brackets
    "#);
    assert_snapshot!(rule("P100", &added(postgres)), @r#"
    error[P100]: rotator `postgres`: the key `admin` is missing
      --> policy.toml:29:8
       |
    29 | kind = "postgres"
       |        ^^^^^^^^^^
       = help: add `admin = ...`: where the administrator's credential is kept
    "#);
}

#[test]
fn a_kind_s_own_rules_speak_under_its_name_and_point_at_its_key() {
    let loaded = super::load(&edited("https://api.example.com", "http://api.example.com"));
    assert!(loaded.policy.is_none());
    assert_snapshot!(loaded.diagnostics[0].render(), @r#"
    error[http:plain-http]: check `http`: the address is not https
      --> policy.toml:18:34
       |
    18 | checks = [{ kind = "http", url = "http://api.example.com/health" }]
       |                                  ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: write `https://`
    "#);
}

#[test]
fn a_kind_s_hint_does_not_stop_the_policy() {
    let key = "[secret.S3_KEY]\nkind = \"iam\"\ncadence = \"180d\"\nconsumers = [\"backend\"]\n";
    let loaded = super::load(&added(key));
    assert!(loaded.policy.is_some());
    assert_snapshot!(loaded.diagnostics[0].render(), @r#"
    hint[iam:static-key]: rotator `iam`: a static key where a role would do
      --> policy.toml:29:8
       |
    29 | kind = "iam"
       |        ^^^^^
       = help: use a role
    "#);
}
