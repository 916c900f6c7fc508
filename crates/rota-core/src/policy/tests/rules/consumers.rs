use insta::assert_snapshot;

use super::{added, edited, rule};

#[test]
fn a_consumer_is_watched_or_says_why_not() {
    let checks = "checks = [{ kind = \"http\", url = \"https://api.example.com/health\" }]\n";
    assert_snapshot!(rule("P070", &edited(checks, "")), @r#"
    error[P070]: nothing tells whether `backend` is well
      --> policy.toml:16:11
       |
    16 | [consumer.backend]
       |           ^^^^^^^
       = help: add `checks = [{ kind = ... }]`, or `unmonitored = "the reason"`
    "#);
    assert_snapshot!(rule("P070", &edited(checks, "checks = []\n")), @r#"
    error[P070]: nothing tells whether `backend` is well
      --> policy.toml:16:11
       |
    16 | [consumer.backend]
       |           ^^^^^^^
       = help: add `checks = [{ kind = ... }]`, or `unmonitored = "the reason"`
    "#);
    assert_eq!(super::load(&edited(checks, "unmonitored = \"a batch job\"\n")).diagnostics, []);
    assert_snapshot!(rule("P016", &edited(checks, &format!("{checks}unmonitored = \"a batch job\"\n"))), @r#"
    error[P016]: `backend` is unmonitored and has checks
      --> policy.toml:19:15
       |
    19 | unmonitored = "a batch job"
       |               ^^^^^^^^^^^^^
       = help: keep one of them
    "#);
}

#[test]
fn a_secret_says_who_uses_it() {
    assert_snapshot!(rule("P071", &edited("consumers = [\"backend\"]\n", "")), @r#"
    error[P071]: `SESSION_SECRET` does not say who uses it
      --> policy.toml:20:9
       |
    20 | [secret.SESSION_SECRET]
       |         ^^^^^^^^^^^^^^
       = help: add `consumers = ["NAME"]`, or `consumers = "none"` where nobody reads it
    "#);
    assert_snapshot!(rule("P071", &edited("consumers = [\"backend\"]", "consumers = []")), @r#"
    error[P071]: `SESSION_SECRET` does not say who uses it
      --> policy.toml:26:13
       |
    26 | consumers = []
       |             ^^
       = help: add `consumers = ["NAME"]`, or `consumers = "none"` where nobody reads it
    "#);
}

#[test]
fn somebody_is_told_by_name_in_production() {
    let text = edited("[defaults]\nowner = \"platform\"\n", "");
    assert_snapshot!(rule("P090", &text), @r#"
    hint[P090]: nobody is told by name about `SESSION_SECRET`
      --> policy.toml:18:9
       |
    18 | [secret.SESSION_SECRET]
       |         ^^^^^^^^^^^^^^
       = help: add `owner = "NAME"` here or in `[defaults]`, and a table `[owner.NAME]`
    "#);
    let staging = text.replace("\"production\"", "\"staging\"");
    assert!(!super::load(&staging).diagnostics.iter().any(|d| d.code == "P090"));
}

#[test]
fn a_proof_knows_the_value_that_it_uses() {
    let stripe = |more: &str| {
        added(&format!(
            "[secret.STRIPE]\nkind = \"operator\"\ncadence = \"90d\"\nconsumers = [\"backend\"]\n\
             fields = {{ PUBLISHABLE = {{}}, SECRET = {{}} }}\nprove = {{ kind = \"http\", url = \"https://x\" }}\n{more}"
        ))
    };
    assert_snapshot!(rule("P093", &stripe("")), @r#"
    error[P093]: `STRIPE` has 2 values, and the proof does not say which it uses
      --> policy.toml:33:9
       |
    33 | prove = { kind = "http", url = "https://x" }
       |         ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: add `prove_with`, one of `PUBLISHABLE` and `SECRET`
    "#);
    assert_snapshot!(rule("P093", &stripe("prove_with = \"STRIPE\"\n")), @r#"
    error[P093]: `STRIPE` is no value of `STRIPE`
      --> policy.toml:34:14
       |
    34 | prove_with = "STRIPE"
       |              ^^^^^^^^
       = help: the values are `PUBLISHABLE` and `SECRET`
    "#);
    let policy = super::load(&stripe("prove_with = \"SECRET\"\n")).policy.unwrap();
    let with = policy.secrets.values().find_map(|secret| secret.prove_with.as_ref());
    assert_eq!(with.map(|field| field.as_str()), Some("SECRET"));
}

const KEY: &str = "[secret.OPENAI_API_KEY]\nkind = \"operator\"\nclass = \"api-key\"\ncadence = \"90d\"\n";

#[test]
fn a_person_finds_the_page_and_the_value_is_proven() {
    let text = added(&format!("{KEY}consumers = [\"backend\"]\n"));
    assert_snapshot!(rule("P091", &text), @r#"
    hint[P091]: where a person makes `OPENAI_API_KEY` is not said
      --> policy.toml:28:9
       |
    28 | [secret.OPENAI_API_KEY]
       |         ^^^^^^^^^^^^^^
       = help: add `page = "https://..."`: it stands in every reminder
    "#);
    assert_snapshot!(rule("P092", &text), @r#"
    hint[P092]: only the checks of its consumers tell whether a new `OPENAI_API_KEY` works
      --> policy.toml:28:9
       |
    28 | [secret.OPENAI_API_KEY]
       |         ^^^^^^^^^^^^^^
       = help: add `prove = { kind = ... }` where the provider can be asked
    "#);
    assert!(rule("P092", &added(&format!("{KEY}consumers = \"none\"\n"))).contains("nothing tells"));
    let whole = "page = \"https://platform.example.com/keys\"\n\
                 prove = { kind = \"http\", url = \"https://platform.example.com/v1/models\", expect = 200 }\n";
    assert_eq!(super::load(&(text + whole)).diagnostics, []);
}

#[test]
fn a_role_is_better_than_a_static_key() {
    let key = KEY.replace("OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY");
    let text = added(&format!("{key}consumers = [\"backend\"]\n"));
    assert_snapshot!(rule("P094", &text), @r#"
    hint[P094]: `AWS_SECRET_ACCESS_KEY` is a key that does not expire
      --> policy.toml:28:9
       |
    28 | [secret.AWS_SECRET_ACCESS_KEY]
       |         ^^^^^^^^^^^^^^^^^^^^^
       = help: where its consumers run on AWS, give them a role: its credentials rotate by themselves
    "#);
    let fields = added(&format!(
        "{KEY}consumers = [\"backend\"]\nfields = {{ aws_access_key_id = {{}}, aws_secret_access_key = {{}} }}\n"
    ));
    assert!(rule("P094", &fields).contains("OPENAI_API_KEY"));
}
