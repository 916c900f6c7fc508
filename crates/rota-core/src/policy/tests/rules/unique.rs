use insta::assert_snapshot;

use super::{SESSION, added, edited, rule};

fn password(name: &str, more: &str) -> String {
    format!(
        "[secret.{name}]\nkind = \"generated\"\nclass = \"password\"\nformat = \"password:24\"\ncadence = \"90d\"\n\
         consumers = [\"backend\"]\n{more}"
    )
}

#[test]
fn names_that_look_alike_are_told() {
    let other = SESSION.replace("SESSION_SECRET", "SESSI0N_SECRET");
    assert_snapshot!(rule("P015", &added(&other)), @r#"
    error[P015]: the secrets `SESSION_SECRET` and `SESSI0N_SECRET` look alike
      --> policy.toml:28:9
       |
    28 | [secret.SESSI0N_SECRET]
       |         ^^^^^^^^^^^^^^
       = policy.toml:20:9: the other one
       = help: rename one of them: people take orders by name
    "#);
    let other = SESSION.replace("SESSION_SECRET", "session_secret");
    assert!(rule("P015", &added(&other)).contains("`SESSION_SECRET` and `session_secret` look alike"));
    let store = edited(
        "[consumer.backend]",
        "[store.Vault]\nkind = \"vault-kv2\"\nmount = \"b\"\n\n[consumer.backend]",
    );
    assert!(rule("P015", &store).contains("stores"));
}

#[test]
fn two_secrets_are_never_one_credential() {
    let database = |name: &str| {
        format!(
            "[secret.{name}]\nkind = \"postgres\"\ncadence = \"30d\"\nconsumers = [\"backend\"]\n\
             postgres = {{ admin = \"vault:admin\", host = \"db\", users = [\"a\", \"b\"] }}\n"
        )
    };
    assert_snapshot!(rule("P080", &added(&format!("{}{}", database("DB_ONE"), database("DB_TWO")))), @r#"
    error[P080]: `DB_TWO` and `DB_ONE` are one credential: db ["a","b"]
      --> policy.toml:33:9
       |
    33 | [secret.DB_TWO]
       |         ^^^^^^
       = policy.toml:28:9: the other one
       = help: make them one secret with several `fields`; two rotations would undo each other
    "#);
}

#[test]
fn two_secrets_are_never_at_one_place() {
    let one = password("ONE", "publish = { first = \"A\", second = \"B\" }\n");
    assert_snapshot!(rule("P081", &added(&format!("{one}{}", password("B", "")))), @r#"
    error[P081]: `B` and `ONE` are both written to `acd/B` in store `vault`
      --> policy.toml:35:9
       |
    35 | [secret.B]
       |         ^
       = policy.toml:28:9: the other one
       = help: give one of them another name in `publish` or `fields`, or another store
    "#);
}

#[test]
fn fields_of_one_document_are_shared_and_one_field_is_not() {
    let document = |name: &str, field: &str| {
        password(name, &format!("publish = {{ document = \"acd/all\" }}\nfields = {{ {field} = {{}} }}\n"))
    };
    let shared = format!("{}{}", document("ONE", "A"), document("TWO", "B"));
    assert_eq!(super::load(&added(&shared)).diagnostics, []);
    assert_snapshot!(rule("P081", &added(&format!("{}{}", document("ONE", "A"), document("TWO", "A")))), @r#"
    error[P081]: `TWO` and `ONE` are both written to field `A` of `acd/all` in store `vault`
      --> policy.toml:36:9
       |
    36 | [secret.TWO]
       |         ^^^
       = policy.toml:28:9: the other one
       = help: give one of them another name in `publish` or `fields`, or another store
    "#);
    let whole = password("all", "");
    assert!(rule("P081", &added(&format!("{}{whole}", document("ONE", "A")))).contains("`acd/all`"));
}

#[test]
fn two_stores_of_the_policy_can_be_one_place() {
    let twin =
        "[store.twin]\nkind = \"vault-kv2\"\nmount = \"secret\"\npath = \"acd/{name}\"\n\n[consumer.backend]";
    let text = edited("[consumer.backend]", twin) + "stores = [\"vault\", \"twin\"]\n";
    assert_snapshot!(rule("P081", &text), @r#"
    error[P081]: `SESSION_SECRET` is written to `acd/SESSION_SECRETS` in store `twin` twice
      --> policy.toml:25:9
       |
    25 | [secret.SESSION_SECRET]
       |         ^^^^^^^^^^^^^^
       = help: two of its stores are one place, or two of its names are one path: keep one
    "#);
}
