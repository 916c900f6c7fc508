use insta::assert_snapshot;

use super::{added, edited, rule};
use crate::policy::diagnostic::Level;

fn published(form: &str) -> String {
    edited("publish = { list = \"SESSION_SECRETS\" }\n", form)
}

#[test]
fn a_target_that_takes_one_value_needs_an_accepted_gap() {
    let admin = "[secret.GRAFANA]\nkind = \"admin-password\"\nclass = \"password\"\nformat = \"password:24\"\n\
                 cadence = \"180d\"\nconsumers = \"none\"\n";
    assert_snapshot!(rule("P060", &added(admin)), @r#"
    error[P060]: `admin-password` cannot take two values at once, so `GRAFANA` has a gap
      --> policy.toml:29:8
       |
    29 | kind = "admin-password"
       |        ^^^^^^^^^^^^^^^^
       = help: add `accept_gap = true` where the gap is acceptable (it is measured), or choose another kind
    "#);
    assert_eq!(super::load(&added(&format!("{admin}accept_gap = true\n"))).diagnostics, []);
}

#[test]
fn a_signing_pair_is_pinned_or_one_value_or_has_an_accepted_gap() {
    let pair = "publish = { first = \"X_NEW\", second = \"X\" }\n";
    assert_snapshot!(rule("P061", &published(pair)), @r#"
    error[P061]: `SESSION_SECRET` stands under two names, and an instance that starts between two writes misses one
      --> policy.toml:27:11
       |
    27 | publish = { first = "X_NEW", second = "X" }
       |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: add `pinned = true`, or `whole = true` for a document that is read in one request, or publish one value with `list`, or say `accept_gap = true`
    "#);
    assert_eq!(super::load(&published(&pair.replace(" }", ", pinned = true }"))).diagnostics, []);
    assert_eq!(super::load(&published(&format!("{pair}accept_gap = true\n"))).diagnostics, []);
    let document = "publish = { document = \"acd\", first = \"X_NEW\", second = \"X\" }\n";
    assert!(rule("P061", &published(document)).contains("two names"));
    assert_eq!(super::load(&published(&document.replace(" }", ", whole = true }"))).diagnostics, []);
}

#[test]
fn a_pair_in_a_file_is_read_whole() {
    let file = "[store.file]\nkind = \"env-file\"\npath = \"/srv/acd/.env\"\n\n[consumer.backend]";
    let text =
        published("publish = { first = \"X_NEW\", second = \"X\" }\n").replace("[consumer.backend]", file);
    assert_eq!(super::load(&(text.clone() + "stores = [\"file\"]\n")).of(Level::Error).count(), 0);
    assert!(rule("P061", &(text + "stores = [\"file\", \"vault\"]\n")).contains("two names"));
}

#[test]
fn only_a_document_is_read_whole() {
    assert_snapshot!(rule("P016", &published("publish = { list = \"X\", whole = true }\n")), @r#"
    error[P016]: `SESSION_SECRET` stands in no document that could be read whole
      --> policy.toml:27:33
       |
    27 | publish = { list = "X", whole = true }
       |                                 ^^^^
       = help: add `document = "PATH"`, or remove `whole`
    "#);
}

#[test]
fn a_password_may_stand_under_two_names() {
    let text = published("publish = { first = \"X_NEW\", second = \"X\" }\n")
        .replace("class = \"signing\"", "class = \"password\"");
    assert_eq!(super::load(&text).diagnostics, []);
}

#[test]
fn consumers_of_a_signing_secret_see_both_values() {
    assert_snapshot!(rule("P062", &published("")), @r#"
    error[P062]: consumers see one value of `SESSION_SECRET`, so what the old one signed fails at the switch
      --> policy.toml:20:9
       |
    20 | [secret.SESSION_SECRET]
       |         ^^^^^^^^^^^^^^
       = help: publish both: `publish = { list = "SESSION_SECRETS" }`, or a pinned pair; or say `accept_gap = true`
    "#);
    assert_snapshot!(rule("P062", &published("publish = { document = \"acd\" }\n")), @r#"
    error[P062]: consumers see one value of `SESSION_SECRET`, so what the old one signed fails at the switch
      --> policy.toml:27:11
       |
    27 | publish = { document = "acd" }
       |           ^^^^^^^^^^^^^^^^^^^^
       = help: publish both: `publish = { list = "SESSION_SECRETS" }`, or a pinned pair; or say `accept_gap = true`
    "#);
    assert_eq!(super::load(&published("accept_gap = true\n")).diagnostics, []);
}

#[test]
fn what_an_encryption_key_encrypted_stays_readable() {
    let key = |kind: &str| {
        added(&format!(
            "[secret.ENCRYPTION_KEY]\nkind = \"{kind}\"\nclass = \"encryption\"\nformat = \"hex:32\"\n\
             cadence = \"90d\"\nconsumers = [\"backend\"]\n"
        ))
    };
    assert_snapshot!(rule("P063", &key("generated")), @r#"
    error[P063]: what `ENCRYPTION_KEY` encrypted cannot be read once the old value is gone
      --> policy.toml:30:9
       |
    30 | class = "encryption"
       |         ^^^^^^^^^^^^
       = help: use a kind that re-encrypts (`reencrypt = ...`) or archives (`archive = true`)
    "#);
    assert!(rule("P063", &key("encryption-key")).contains("`reencrypt = ...`"));
    assert_eq!(super::load(&(key("encryption-key") + "reencrypt = \"job\"\n")).diagnostics, []);
}

#[test]
fn only_a_rollout_that_pins_versions_serves_a_pinned_pair() {
    let text = published("publish = { first = \"X_NEW\", second = \"X\", pinned = true }\n").replace(
        "{ kind = \"ecs\", cluster = \"prod\", service = \"backend\" }",
        "{ kind = \"reread\", within = \"5m\" }",
    );
    assert_snapshot!(rule("P064", &text), @r#"
    error[P064]: `SESSION_SECRET` is pinned, and the rollout of `backend` cannot pin versions
      --> policy.toml:27:11
       |
    27 | publish = { first = "X_NEW", second = "X", pinned = true }
       |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = policy.toml:16:11: the consumer
       = help: publish one value with `list`, or say `accept_gap = true` in place of `pinned`
    "#);
}

#[test]
fn a_pair_or_a_list_holds_one_value() {
    let text = edited(
        "format = \"hex:64\"",
        "fields = { A = { format = \"hex:64\" }, B = { format = \"hex:64\" } }",
    );
    assert_snapshot!(rule("P065", &text), @r#"
    error[P065]: `SESSION_SECRET` has 2 fields, and a pair or a list holds one value
      --> policy.toml:27:11
       |
    27 | publish = { list = "SESSION_SECRETS" }
       |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: publish them as one document: `publish = { document = "PATH", whole = true }`
    "#);
}

#[test]
fn fields_that_are_read_one_by_one_are_told() {
    let stripe = "[secret.STRIPE]\nkind = \"operator\"\ncadence = \"90d\"\nconsumers = [\"backend\"]\n\
                  fields = { STRIPE_PUBLISHABLE_KEY = {}, STRIPE_SECRET_KEY = {} }\n";
    assert_snapshot!(rule("P066", &added(stripe)), @r#"
    hint[P066]: the 2 fields of `STRIPE` are read one by one, and can be of two versions
      --> policy.toml:32:10
       |
    32 | fields = { STRIPE_PUBLISHABLE_KEY = {}, STRIPE_SECRET_KEY = {} }
       |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: where consumers can read a document in one request: `publish = { document = "PATH", whole = true }`
    "#);
    let document = |more: &str| added(&format!("{stripe}publish = {{ document = \"acd\"{more} }}\n"));
    assert!(rule("P066", &document("")).contains("`whole = true`"));
    assert!(!super::load(&document(", whole = true")).diagnostics.iter().any(|d| d.code == "P066"));
}
