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

[secret.PASSWORD]
kind = "KIND"
class = "password"
stores = ["aws"]
consumers = "none"
cadence = "180d"
overlap = "24h"
GAP
fields = { FIELDS }
"#;
const FIELDS: &str = r#"PASSWORD = "{password}""#;
const SET: &str = r#"set = { method = "PUT", url = "https://acd.internal/users/{username:url}", body = { password = "{password}" } }"#;
const LOGIN: &str = r#"login = { url = "https://acd.internal/me" }"#;

fn said(kind: &str, settings: &str, gap: &str, fields: &str) -> String {
    let text = POLICY.replace("KIND", kind).replace("GAP", gap).replace("FIELDS", fields);
    let piece = Piece::from_bytes("policy.toml", format!("{text}{settings}\n").into_bytes()).unwrap();
    render_all(&load(&[piece], &kinds().unwrap()).diagnostics)
}

fn of_http(settings: &str) -> String {
    said("http-password", &format!("http = {{ {settings} }}"), "accept_gap = true", FIELDS)
}

fn of_grafana(settings: &str) -> String {
    said("grafana-admin", &format!("grafana = {{ {settings} }}"), "accept_gap = true", FIELDS)
}

#[test]
fn what_fits_is_accepted() {
    let admin = r#"admin = "aws:prod/acd/admin""#;
    for good in [
        format!(r#"user = "ci", {SET}, {LOGIN}"#),
        format!(
            r#"user = "ci", {admin}, {SET}, {LOGIN}, lockout = "15m", refused = [400, 401], timeout = "5s""#
        ),
        format!(
            r#"user = "ci", {admin}, {LOGIN}, find = {{ url = "https://acd.internal/users?name={{username:url}}", id = "$.id" }}, set = {{ url = "https://acd.internal/users/{{id}}", auth = "bearer", body = "{{password}}" }}"#
        ),
        format!(
            r#"user = "ci", {SET}, login = {{ url = "https://acd.internal/session", body = {{ u = "{{username}}", p = "{{password}}" }}, expect = [302] }}"#
        ),
    ] {
        assert_eq!(of_http(&good), "no findings\n", "{good}");
    }
    for good in [
        format!(r#"url = "https://grafana.internal/sub/path/", {admin}"#),
        r#"url = "http://127.0.0.1:3000", user = "o'acd@localhost""#.to_owned(),
    ] {
        assert_eq!(of_grafana(&good), "no findings\n", "{good}");
    }
}

#[test]
fn the_gap_has_to_be_accepted() {
    for (kind, settings) in [
        ("grafana-admin", r#"grafana = { url = "https://grafana.internal" }"#.to_owned()),
        ("http-password", format!(r#"http = {{ user = "ci", {SET}, {LOGIN} }}"#)),
    ] {
        let said = said(kind, &settings, "", FIELDS);
        assert!(
            said.contains("cannot take two values at once") && said.contains("accept_gap = true"),
            "{said}"
        );
    }
}

#[test]
fn each_setting_that_cannot_work_is_pointed_at() {
    for (settings, rule, message) in [
        (format!(r#"user = "c:i", {SET}, {LOGIN}"#), "name", "has no colon"),
        (
            format!(r#"user = "ci", admin = "vault:x", {SET}, {LOGIN}"#),
            "reference",
            "no store is called `vault`",
        ),
        (
            format!(
                r#"user = "ci", {LOGIN}, set = {{ url = "https://acd.internal/{{password}}", body = "{{password}}" }}"#
            ),
            "value-in-address",
            "would stand in an address",
        ),
        (
            format!(r#"user = "ci", {SET}, login = {{ url = "http://acd.internal/me" }}"#),
            "address",
            "without TLS",
        ),
        (
            format!(
                r#"user = "ci", {LOGIN}, set = {{ url = "https://acd.internal/x", body = {{ p = "{{pasword}}" }} }}"#
            ),
            "hole",
            "nothing fills `{pasword}`",
        ),
        (
            format!(
                r#"user = "ci", {LOGIN}, set = {{ url = "https://acd.internal/x", body = {{ p = "literal" }} }}"#
            ),
            "login",
            "does not hold the new password",
        ),
        (
            format!(r#"user = "ci", {SET}, login = {{ url = "https://acd.internal/me", auth = "none" }}"#),
            "login",
            "proves nothing",
        ),
        (
            format!(r#"user = "ci", {SET}, login = {{ url = "https://acd.internal/me", auth = "bearer" }}"#),
            "login",
            "no bearer token",
        ),
        (
            format!(
                r#"user = "ci", {LOGIN}, set = {{ url = "https://acd.internal/x", auth = "bearer", body = "{{password}}" }}"#
            ),
            "login",
            "no token is kept anywhere",
        ),
        (
            format!(
                r#"user = "ci", {LOGIN}, set = {{ url = "https://acd.internal/{{id}}", body = "{{password}}" }}"#
            ),
            "find",
            "no call tells the user's id",
        ),
        (
            format!(r#"user = "ci", {SET}, {LOGIN}, find = {{ url = "https://acd.internal/u", id = "id" }}"#),
            "path",
            "not a JSONPath",
        ),
        (
            format!(
                r#"user = "ci", {SET}, login = {{ url = "https://acd.internal/me", expect = [200, 401] }}"#
            ),
            "status",
            "401 would say that a password is right, and that it is wrong",
        ),
        (format!(r#"user = "ci", {SET}, {LOGIN}, refused = 42"#), "status", "from 200 to 599"),
        (format!(r#"user = "ci", {SET}, {LOGIN}, timeout = "1h""#), "timeout", "at most 25s"),
        (
            format!(
                r#"user = "ci", {LOGIN}, set = {{ url = "https://acd.internal/x", header = {{ authorization = "Bearer x" }}, body = "{{password}}" }}"#
            ),
            "secret-in-policy",
            "does not belong into a policy",
        ),
    ] {
        let said = of_http(&settings);
        assert!(
            said.contains(&format!("[http-password:{rule}]")) && said.contains(message),
            "{settings}\n{said}"
        );
    }
    for (settings, rule) in [
        (r#"url = "https://grafana.internal?x=1""#, "address"),
        (r#"url = "http://grafana.internal""#, "address"),
        (r#"url = "https://grafana.internal", user = """#, "name"),
        (r#"url = "https://grafana.internal", admin = "vault:x""#, "reference"),
        (r#"url = "https://grafana.internal", timeout = "0s""#, "timeout"),
    ] {
        let said = of_grafana(settings);
        assert!(said.contains(&format!("[grafana-admin:{rule}]")), "{settings}\n{said}");
    }
}

#[test]
fn what_consumers_read_holds_the_password() {
    let grafana = r#"grafana = { url = "https://grafana.internal" }"#;
    for fields in [r#"NAME = "{username}""#, r#"URL = "https://{username}:{password}@{host}""#] {
        let said = said("grafana-admin", grafana, "accept_gap = true", fields);
        assert!(said.contains("[grafana-admin:fields]"), "{said}");
    }
}

#[test]
fn one_password_is_one_target_whichever_kind_names_it() {
    let both = r#"grafana = { url = "https://grafana.internal", user = "ci" }
[secret.OTHER]
kind = "http-password"
class = "password"
stores = ["aws"]
consumers = "none"
cadence = "180d"
overlap = "24h"
accept_gap = true
fields = { OTHER = "{password}" }
http = { user = "ci", set = { url = "https://grafana.internal/x", body = "{password}" }, login = { url = "https://grafana.internal/y" } }"#;
    let said = said("grafana-admin", both, "accept_gap = true", FIELDS);
    assert!(said.contains("password of ci at https://grafana.internal"), "{said}");
}
