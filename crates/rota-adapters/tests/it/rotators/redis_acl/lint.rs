//! What lint says of settings, as a person reads it.

use rota_adapters::catalog::kinds;
use rota_core::policy::diagnostic::render_all;
use rota_core::policy::{Piece, load};

const POLICY: &str = r#"version = 1
application = "acd"
environment = "production"
defaults = { owner = "platform" }
owner = { platform = { slack_mention = "S012AB3CD" } }
[store.aws]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "prod/acd/{name}"

[secret.REDIS_PASSWORD]
kind = "redis-acl"
class = "password"
stores = ["aws"]
consumers = "none"
cadence = "180d"
overlap = "24h"
redis = { SETTINGS }
fields = { FIELDS }
"#;
const FIELDS: &str = r#"REDIS_PASSWORD = "{password}""#;
const URL: &str = r#"url = "rediss://cache.internal""#;

fn said(settings: &str, fields: &str) -> String {
    let text = POLICY.replace("SETTINGS", settings).replace("FIELDS", fields);
    let piece = Piece::from_bytes("policy.toml", text.into_bytes()).unwrap();
    let loaded = load(&[piece], &kinds().unwrap());
    render_all(&loaded.diagnostics)
}

#[test]
fn what_fits_is_accepted() {
    let admin = r#"admin = "aws:prod/acd/redis-admin""#;
    for good in [
        format!(r#"{URL}, user = "acd", {admin}"#),
        format!(r#"{URL}, mode = "two-users", users = ["acd_a", "acd_b"], {admin}"#),
        format!(r#"{URL}, nodes = ["cache-1", "cache-2:6380"], user = "o'acd", {admin}"#),
        URL.to_owned(),
        r#"url = "redis://127.0.0.1:6379/2""#.to_owned(),
    ] {
        let fields = r#"REDIS_URL = "rediss://{username}:{password:url}@{host}:{port}/{database}""#;
        assert_eq!(said(&good, fields), "no findings\n", "{good}");
    }
}

/// What is said of settings: the rule with its message, the text under the mark, the help.
type Told = (&'static str, &'static str, &'static str);

fn assert_told(settings: &str, fields: &str, (message, marked, help): Told) {
    let said = said(settings, fields);
    let (rule, message) = message.split_once("]: ").unwrap();
    let told = format!("error[redis-acl:{rule}]: rotator `redis-acl`: {message}\n");
    assert!(said.contains(&told), "`{told}` is missing:\n{said}");
    assert!(said.contains(&format!("= help: {help}\n")), "`{help}` is missing:\n{said}");
    assert!(said.ends_with("1 error\n"), "more is told:\n{said}");
    if !marked.is_empty() {
        // The settings begin after `redis = { `, in line 18.
        let column = settings.find(marked).unwrap() + 11;
        assert!(said.contains(&format!("--> policy.toml:18:{column}\n")), "not at {column}:\n{said}");
    }
}

#[test]
fn whatever_is_wrong_is_told_where_it_stands_with_what_to_write() {
    const ADMIN: &str = r#"admin = "aws:prod/acd/redis-admin""#;
    const BOTH: &str = "write `users = [\"acd_a\", \"acd_b\"]`";
    let url = |url: &str| format!("url = \"{url}\", user = \"acd\", {ADMIN}");
    let more = |more: &str| format!("{URL}, {more}");
    let cases: Vec<(String, Told)> = vec![
        (
            url("redis://cache.internal"),
            (
                "tls]: without TLS anybody on the way reads the password of each login",
                "\"redis://",
                "write `rediss://`, and turn TLS on in the server (`tls-port`)",
            ),
        ),
        (
            url("rediss://acd:word@cache.internal"),
            (
                "url]: this is not the address of a Redis server, or it holds a login",
                "\"rediss://acd",
                "write `rediss://cache.internal:6379/0`; logins are kept in stores",
            ),
        ),
        (
            more(&format!("user = \"acd\", {ADMIN}, nodes = [\"a\", \"a:6379\"]")),
            ("host]: a:6379 is named twice", "[\"a\"", "name each node once"),
        ),
        (
            more(&format!("user = \"acd\", {ADMIN}, nodes = [\"a b\"]")),
            (
                "host]: this is not a server's name",
                "[\"a b\"",
                "write `cache-1.internal` or `cache-1.internal:6379`",
            ),
        ),
        (
            more(&format!("user = \"a b\", {ADMIN}")),
            (
                "name]: a user's name in Redis has no spaces and no control characters",
                "\"a b\"",
                "write the name as `ACL LIST` shows it",
            ),
        ),
        (
            more(r#"user = "acd""#),
            (
                "mode]: without an administrator only `requirepass` can be rotated",
                "\"acd\"",
                "add `admin = \"store:path\"`, or remove `user`",
            ),
        ),
        (
            more(ADMIN),
            (
                "mode]: no user is named",
                "",
                "add `user = \"acd\"`; `default` is whose password `requirepass` is",
            ),
        ),
        (
            more(&format!("user = \"acd\", {ADMIN}, mode = \"two-users\"")),
            ("mode]: two users take turns, and this names one", "\"acd\"", BOTH),
        ),
        (
            more(&format!("users = [\"a\", \"a\"], {ADMIN}, mode = \"two-users\"")),
            ("mode]: two users take turns, and they are not named", "", BOTH),
        ),
        (
            more(&format!("users = [\"a\", \"b\"], {ADMIN}")),
            (
                "mode]: only the mode `two-users` has two",
                "[\"a\"",
                "add `mode = \"two-users\"`, or write `user`",
            ),
        ),
        (
            more(&format!("user = \"acd\", {ADMIN}, ca = \"MIIB\"")),
            ("ca]: this is not a certificate in PEM", "\"MIIB\"", "paste the bundle between `'''` and `'''`"),
        ),
    ];
    for (settings, told) in cases {
        let both = r#"REDIS_LOGIN = "{username}:{password}""#;
        let fields = if settings.contains("two-users") { both } else { FIELDS };
        assert_told(&settings, fields, told);
    }
}

#[test]
fn consumers_must_read_what_changes() {
    const ADMIN: &str = r#"admin = "aws:prod/acd/redis-admin""#;
    const HELP: &str =
        "add `fields = { REDIS_URL = \"rediss://{username}:{password:url}@{host}:{port}/{database}\" }`";
    let two = format!("{URL}, mode = \"two-users\", users = [\"acd_a\", \"acd_b\"], {ADMIN}");
    let message = "fields]: the user changes with each rotation, and consumers of `REDIS_PASSWORD` would not \
                   read its name";
    assert_told(&two, FIELDS, (message, "", HELP));
    let one = format!("{URL}, user = \"acd\", {ADMIN}");
    let message = "fields]: consumers of `REDIS_PASSWORD` would read no password";
    assert_told(&one, r#"REDIS_HOST = "{host}""#, (message, "", HELP));
    let help = "write one of `{username}`, `{password}`, `{host}`, `{port}`, `{database}`";
    assert_told(&one, r#"REDIS_PASSWORD = "{pass}""#, ("fields]: nothing fills `{pass}`", "", help));
}
