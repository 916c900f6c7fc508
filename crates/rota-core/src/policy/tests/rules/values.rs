use insta::assert_snapshot;

use super::{added, edited, rule};

/// A secret that is not for signing.
fn plain(kind: &str, class: &str, format: &str) -> String {
    added(&format!(
        "[secret.OTHER]\nkind = \"{kind}\"\nclass = \"{class}\"\nformat = \"{format}\"\ncadence = \"90d\"\n\
         consumers = [\"backend\"]\naccept_gap = true\n"
    ))
}

fn codes(text: &str) -> Vec<String> {
    super::load(text).diagnostics.into_iter().map(|d| d.code).collect()
}

#[test]
fn a_signing_secret_has_32_bytes_of_entropy() {
    assert_snapshot!(rule("P050", &edited("hex:64", "hex:31")), @r#"
    error[P050]: `hex:31` has 31 bytes of entropy, and a signing secret needs 32
      --> policy.toml:23:10
       |
    23 | format = "hex:31"
       |          ^^^^^^^^
       = help: write `hex:32` or `base64url:32`
    "#);
    assert_snapshot!(rule("P050", &edited("hex:64", "uuid")), @r#"
    error[P050]: `uuid` has 15 bytes of entropy, and a signing secret needs 32
      --> policy.toml:23:10
       |
    23 | format = "uuid"
       |          ^^^^^^
       = help: write `hex:32` or `base64url:32`
    "#);
    assert_eq!(codes(&edited("hex:64", "hex:32").replace("\"production\"", "\"staging\"")), [""; 0]);
}

#[test]
fn api_keys_have_32_characters_and_passwords_16() {
    assert_snapshot!(rule("P050", &plain("generated", "api-key", "base62:31")), @r#"
    error[P050]: `base62:31` has 31 characters, and an API key needs 32
      --> policy.toml:31:10
       |
    31 | format = "base62:31"
       |          ^^^^^^^^^^^
       = help: write `base62:40`
    "#);
    assert_snapshot!(rule("P050", &plain("generated", "password", "password:15")), @r#"
    error[P050]: `password:15` has 15 characters, and a password needs 16
      --> policy.toml:31:10
       |
    31 | format = "password:15"
       |          ^^^^^^^^^^^^^
       = help: write `password:24`
    "#);
    assert_eq!(codes(&plain("generated", "api-key", "base62:32")), [""; 0]);
    assert_eq!(codes(&plain("generated", "password", "password:16")), [""; 0]);
}

#[test]
fn a_provider_s_values_are_as_long_as_the_provider_makes_them() {
    assert_snapshot!(rule("P050", &plain("operator", "api-key", "text:20-40")), @r#"
    error[P050]: `text:20-40` has 20 characters, and an API key needs 32
      --> policy.toml:31:10
       |
    31 | format = "text:20-40"
       |          ^^^^^^^^^^^^
       = help: write a longer format, or `minimum = 20` where the provider's values are that short
    "#);
    let said = plain("operator", "api-key", "text:20-40") + "minimum = 20\n";
    assert!(!codes(&said).contains(&"P050".to_owned()));
}

#[test]
fn a_minimum_of_its_own_raises_what_holds_for_a_generated_secret() {
    assert_snapshot!(rule("P050", &added("minimum = 96\n")), @r#"
    error[P050]: `hex:64` has 64 bytes of entropy, and a signing secret needs 96
      --> policy.toml:23:10
       |
    23 | format = "hex:64"
       |          ^^^^^^^^
       = help: write `hex:96` or `base64url:96`
    "#);
    assert!(codes(&(edited("hex:64", "hex:31") + "minimum = 16\n")).contains(&"P050".to_owned()));
}

#[test]
fn the_rules_of_the_file_raise_the_minimums() {
    let text = edited("[defaults]", "[rules]\nsigning = 80\n\n[defaults]");
    assert_snapshot!(rule("P050", &text), @r#"
    error[P050]: `hex:64` has 64 bytes of entropy, and a signing secret needs 80
      --> policy.toml:26:10
       |
    26 | format = "hex:64"
       |          ^^^^^^^^
       = help: write `hex:80` or `base64url:80`
    "#);
}

#[test]
fn a_signing_secret_in_production_should_have_64_bytes() {
    assert_snapshot!(rule("P051", &edited("hex:64", "hex:32")), @r#"
    warning[P051]: `hex:32` has 32 bytes of entropy, and production should have 64
      --> policy.toml:23:10
       |
    23 | format = "hex:32"
       |          ^^^^^^^^
       = help: write `hex:64` or `base64url:64`
    "#);
}

#[test]
fn an_encryption_key_has_exactly_32_bytes() {
    assert_snapshot!(rule("P052", &plain("encryption-key", "encryption", "hex:64")), @r#"
    error[P052]: `hex:64` is no encryption key: that has exactly 32 bytes
      --> policy.toml:31:10
       |
    31 | format = "hex:64"
       |          ^^^^^^^^
       = help: write `hex:32` (64 hex digits), `base64:32` or `base64url:32`
    "#);
    assert_snapshot!(rule("P052", &plain("encryption-key", "encryption", "base62:64")), @r#"
    error[P052]: `base62:64` is no encryption key: that has exactly 32 bytes
      --> policy.toml:31:10
       |
    31 | format = "base62:64"
       |          ^^^^^^^^^^^
       = help: write `hex:32` (64 hex digits), `base64:32` or `base64url:32`
    "#);
    assert_eq!(codes(&(plain("encryption-key", "encryption", "hex:32") + "archive = true\n")), [""; 0]);
}

#[test]
fn the_rules_of_the_file_lower_nothing() {
    let text = edited("[defaults]", "[rules]\nsigning = 16\npassword = 8\n\n[defaults]");
    assert_snapshot!(rule("P053", &text), @r#"
    error[P053]: the minimum of `signing` is 32 and cannot be lowered
     --> policy.toml:6:11
      |
    6 | signing = 16
      |           ^^
      = help: write 32 or more, or remove the line

    error[P053]: the minimum of `password` is 16 and cannot be lowered
     --> policy.toml:7:12
      |
    7 | password = 8
      |            ^
      = help: write 16 or more, or remove the line
    "#);
}

#[test]
fn a_generated_secret_has_a_format() {
    assert_snapshot!(rule("P054", &edited("format = \"hex:64\"\n", "")), @r#"
    error[P054]: `SESSION_SECRET` does not say what it looks like
      --> policy.toml:20:9
       |
    20 | [secret.SESSION_SECRET]
       |         ^^^^^^^^^^^^^^
       = help: give the secret a `format` such as "hex:64"
    "#);
    assert_snapshot!(rule("P054", &edited("hex:64", "text:20-200")), @r#"
    error[P054]: a `text` value is made elsewhere and cannot be generated
      --> policy.toml:23:10
       |
    23 | format = "text:20-200"
       |          ^^^^^^^^^^^^^
       = help: write a format such as `hex:64`, or `kind = "operator"`
    "#);
    let fields = edited("format = \"hex:64\"", "fields = { A = { format = \"hex:64\" }, B = {} }");
    assert_snapshot!(rule("P054", &fields), @r#"
    error[P054]: `SESSION_SECRET` does not say what it looks like
      --> policy.toml:23:10
       |
    23 | fields = { A = { format = "hex:64" }, B = {} }
       |          ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: give each field a `format` such as "hex:64"
    "#);
}

#[test]
fn a_generated_secret_has_a_class() {
    assert_snapshot!(rule("P055", &edited("class = \"signing\"\n", "")), @r#"
    warning[P055]: only the least minimum holds for `SESSION_SECRET`: it has no class
      --> policy.toml:20:9
       |
    20 | [secret.SESSION_SECRET]
       |         ^^^^^^^^^^^^^^
       = help: add `class = "signing"`, `"api-key"` or `"password"`
    "#);
}

#[test]
fn a_generated_value_without_a_class_is_not_tiny() {
    let text = edited("class = \"signing\"\n", "").replace("hex:64", "hex:1");
    assert_snapshot!(rule("P050", &text), @r#"
    error[P050]: `hex:1` has 2 characters, and a generated value needs 16
      --> policy.toml:22:10
       |
    22 | format = "hex:1"
       |          ^^^^^^^
       = help: write `password:24`
    "#);
}

#[test]
fn a_file_holds_all_names() {
    let file = |path: &str| {
        let store = format!("[store.file]\nkind = \"env-file\"\n{path}\n[consumer.backend]");
        edited("[consumer.backend]", &store) + "stores = [\"file\"]\n"
    };
    assert_snapshot!(rule("P056", &file("path = \"/srv/acd/{name}.env\"\n")), @r#"
    error[P056]: one file of `file` holds all names, and its path has a hole `{name}`
      --> policy.toml:18:8
       |
    18 | path = "/srv/acd/{name}.env"
       |        ^^^^^^^^^^^^^^^^^^^^^
       = help: write the path of one file
    "#);
    let relative = rule("P056", &file("path = \"srv/acd/.env\"\n"));
    assert!(relative.contains("the path of store `file` does not begin at the root"), "{relative}");
    assert_snapshot!(rule("P012", &file("")), @r#"
    error[P012]: `file` does not say where its file is
      --> policy.toml:16:8
       |
    16 | [store.file]
       |        ^^^^
       = help: add `path = ...`, the path of one file
    "#);
    let policy = super::load(&file("path = \"/srv/acd/.env\"\n")).policy.unwrap();
    assert!(policy.stores.values().any(|store| store.path.as_str() == "/srv/acd/.env"));
}

#[test]
fn a_path_knows_the_name_only() {
    assert_snapshot!(rule("P056", &edited("acd/{name}", "acd/{environment}/{name}")), @r#"
    error[P056]: the path of store `vault` has a hole `{environment}`
      --> policy.toml:14:8
       |
    14 | path = "acd/{environment}/{name}"
       |        ^^^^^^^^^^^^^^^^^^^^^^^^^^
       = help: a path knows `{name}` only
    "#);
    assert_snapshot!(rule("P056", &edited("acd/{name}", "acd/../{name}")), @r#"
    error[P056]: the path of store `vault` is not one: it has an empty, `.` or `..` segment between slashes
      --> policy.toml:14:8
       |
    14 | path = "acd/../{name}"
       |        ^^^^^^^^^^^^^^^
       = help: write it without blanks, backslashes and empty or dot segments
    "#);
}
