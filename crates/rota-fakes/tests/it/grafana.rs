//! The Grafana fake against Grafana's documented behaviour.

use jiff::SignedDuration;
use reqwest::{Client, Method, StatusCode};
use rota_fakes::grafana::GrafanaFake;
use rota_fakes::http::Listen;
use serde_json::{Value, json};

use crate::python;

async fn call(
    fake: &GrafanaFake,
    method: Method,
    path: &str,
    login: (&str, &str),
    body: Value,
) -> (StatusCode, Value) {
    let request = Client::new().request(method, format!("{}/api/{path}", fake.url()));
    let request = request.basic_auth(login.0, Some(login.1));
    let request = if body.is_null() { request } else { request.json(&body) };
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

async fn logs_in(fake: &GrafanaFake, login: (&str, &str)) -> bool {
    call(fake, Method::GET, "user", login, Value::Null).await.0.is_success()
}

#[test]
fn an_independent_client_finds_what_the_documentation_says() {
    let fake = GrafanaFake::start(Listen::default()).unwrap();
    python::drives("drive_grafana.py", &[("GRAFANA_URL", &fake.url())]);
}

#[tokio::test]
async fn five_wrong_passwords_block_a_user_for_five_minutes_and_blocked_ones_do_not_count() {
    let fake = GrafanaFake::start(Listen::default()).unwrap();
    fake.add_user("ci", "right", false);
    for _ in 0..5 {
        assert!(!logs_in(&fake, ("CI", "wrong")).await);
    }
    for _ in 0..3 {
        assert!(!logs_in(&fake, ("ci", "right")).await);
        assert!(!logs_in(&fake, ("ci", "wrong")).await);
    }
    assert!(logs_in(&fake, ("admin", "admin")).await);
    fake.script().clock().advance(SignedDuration::from_mins(5));
    assert!(logs_in(&fake, ("ci", "right")).await);
    assert_eq!(fake.wrong_logins("ci"), 5);
}

#[tokio::test]
async fn protection_and_policy_are_as_configured() {
    let fake = GrafanaFake::start(Listen::default()).unwrap();
    let id = fake.add_user("ci", "right", false);
    fake.disable_brute_force_login_protection();
    for _ in 0..9 {
        assert!(!logs_in(&fake, ("ci", "wrong")).await);
    }
    assert!(logs_in(&fake, ("ci", "right")).await);
    fake.require_password_policy();
    let path = format!("admin/users/{id}/password");
    for (password, status) in
        [("onlyLetters123", 400), ("Sh0rt-one", 400), ("Long-enough-1", 200), ("no-upper-case-1", 400)]
    {
        let body = json!({ "password": password });
        let (said, _) = call(&fake, Method::PUT, &path, ("admin", "admin"), body).await;
        assert_eq!(said.as_u16(), status, "{password}");
    }
}

#[tokio::test]
async fn the_last_administrator_stays_and_a_disabled_user_is_told() {
    let fake = GrafanaFake::start(Listen::default()).unwrap();
    let (admin, id) = (("admin", "admin"), fake.add_user("ci", "right", true));
    let none = json!({ "isGrafanaAdmin": false });
    let permit = async |id: i64| {
        let path = format!("admin/users/{id}/permissions");
        call(&fake, Method::PUT, &path, admin, none.clone()).await.0.as_u16()
    };
    assert_eq!((permit(id).await, permit(1).await), (200, 400));
    let path = format!("admin/users/{id}/disable");
    assert!(call(&fake, Method::POST, &path, admin, Value::Null).await.0.is_success());
    let (status, body) = call(&fake, Method::GET, "user", ("ci", "right"), Value::Null).await;
    assert_eq!((status.as_u16(), &body["messageId"]), (401, &json!("user.sync.disabled")));
}
