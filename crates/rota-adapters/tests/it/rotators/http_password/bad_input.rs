//! Whatever is wrong is told in words that say what to change, before anything is changed.

use std::sync::Arc;

use rota_engine::ports::OrderKind;
use rota_engine::test_support::rotator_suite::Harness;
use serde_json::{Value, json};

use super::grafana::{Grafana, by_an_administrator, by_itself};
use super::registry;
use super::subject::{Account, FIRST, USER, admin, holds};

fn with(mut account: Account<Grafana>, key: &str, value: Value) -> Account<Grafana> {
    account.settings[key] = value;
    account
}

#[tokio::test]
async fn an_administrator_that_is_missing_wrong_or_the_user_itself_is_named() {
    let elsewhere = with(by_an_administrator(), "admin", json!("main:elsewhere"));
    holds(&elsewhere.held().await, &["nothing is stored at `main:elsewhere`; put"]);

    for (login, words) in [
        (admin("rota", "another"), &["401", "the login is not valid"][..]),
        (admin("Anna", "her-own-word"), &["403", "the login lacks the right"]),
        (admin(USER, FIRST), &["`ci` cannot rotate itself", "or leave `admin` out"]),
        (Some("hunter2".to_owned()), &["https://user:password@name", "correct what is stored at `admin`"]),
    ] {
        let account = Account { admin: login, ..by_an_administrator() };
        let why = account.held().await;
        holds(&why, words);
        assert!(!why.contains("hunter2"), "{why}");
    }
}

#[tokio::test]
async fn a_user_that_is_not_there_or_another_is_named() {
    let nobody = with(by_an_administrator(), "user", json!("nobody"));
    holds(&nobody.held().await, &["does not know the user `nobody`; correct `user`"]);
    // Grafana looks for addresses as well, and for names whatever their case.
    let address = with(by_an_administrator(), "user", json!("ci@localhost"));
    holds(&address.held().await, &["another user of", "answers to `ci@localhost`"]);
    let nobody = with(by_itself(), "user", json!("nobody"));
    assert!(waits(nobody, 2).await.contains("refuses the published password of `nobody`"));
}

/// What a rotation waits for that looks again and again and changes nothing.
async fn waits(account: Account<Grafana>, looks: usize) -> String {
    let harness = Harness::new(Arc::new(account)).await;
    harness.order(OrderKind::Rotate);
    let seen = std::cell::Cell::new(0);
    let enough = |harness: &Harness| {
        let calls = harness.take_calls();
        assert!(calls.iter().all(|seen| seen.name != "apply"), "{calls:?}");
        seen.set(seen.get() + calls.iter().filter(|seen| seen.name == "preflight").count());
        seen.get() >= looks
    };
    harness.work_until(enough).await;
    harness.waits_for().unwrap_or_default()
}

#[tokio::test]
async fn a_published_password_that_is_refused_is_told() {
    let account = Account { published: "yesterdays-word".to_owned(), ..by_an_administrator() };
    holds(&waits(account, 2).await, &["refuses the published password of `ci`", "too many wrong ones"]);
    let account = Account { published: "yesterdays-word".to_owned(), ..registry::account().await };
    let why = account.held().await;
    holds(&why, &["refuses the published password of `ci`; publish the one that it accepts"]);
}

#[tokio::test]
async fn a_login_that_anybody_passes_proves_nothing() {
    let mut account = by_an_administrator();
    let url = account.settings["url"].as_str().unwrap().to_owned();
    account.kind = "http-password";
    account.table = "http";
    account.settings = json!({
        "user": USER,
        "set": { "method": "PUT", "url": format!("{url}/api/user/password"), "body": { "newPassword": "{password}" } },
        "login": { "url": format!("{url}/api/health") },
    });
    account.admin = None;
    holds(&account.held().await, &["takes any password for the call `login`; name a call"]);
}

#[tokio::test]
async fn a_password_that_the_service_does_not_take_is_held_with_its_status() {
    let account = by_an_administrator();
    account.service.0.require_password_policy();
    let harness = Harness::new(Arc::new(account)).await;
    let before = harness.published();
    harness.order(OrderKind::Rotate);
    harness.work_until(|harness| harness.held().is_some()).await;
    holds(&harness.held().unwrap(), &["answered 400", "does not take the request"]);
    assert!(harness.published().same_as(&before), "something was published");
}

#[tokio::test]
async fn a_token_that_lacks_the_right_is_told() {
    let account = Account { admin: Some("another-token".to_owned()), ..registry::account().await };
    let harness = Harness::new(Arc::new(account)).await;
    harness.order(OrderKind::Rotate);
    harness.work_until(|harness| harness.held().is_some()).await;
    holds(&harness.held().unwrap(), &["403", "the login lacks the right"]);
}
