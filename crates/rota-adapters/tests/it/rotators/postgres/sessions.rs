//! Retirement waits for the sessions of the old login, on every server, and ends them in
//! an emergency.

use std::cell::Cell;
use std::sync::Arc;

use rota_core::rotation::Outcome;
use rota_engine::ports::OrderKind;
use rota_engine::test_support::rotator_suite::{Harness, RotatorUnderTest as _};
use rota_fakes::postgres::{PostgresOptions, PostgresServer};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use super::server::{Users, modes, port};

/// A session of the login that is published.
async fn session(users: &Users) -> PgConnection {
    let (user, password) = &users.published;
    PgConnection::connect(&users.database.url_as(user, password).unwrap()).await.unwrap()
}

async fn is_open(session: &mut PgConnection) -> bool {
    sqlx::query("SELECT 1").execute(session).await.is_ok()
}

/// Rotates until the old login is looked at for the third time.
async fn looks_for_sessions(harness: &Harness) {
    let looks = Cell::new(0);
    let three_looks = |harness: &Harness| {
        let calls = harness.take_calls();
        looks.set(looks.get() + calls.iter().filter(|seen| seen.name == "idleness").count());
        looks.get() >= 3
    };
    harness.work_until(three_looks).await;
}

async fn users_of_each_mode() -> [Users; 3] {
    [Users::two().await, Users::fresh().await, Users::one().await]
}

#[tokio::test]
async fn the_old_login_is_kept_as_long_as_a_session_of_it_is_open() {
    for users in users_of_each_mode().await {
        let users = Arc::new(users);
        let mut open = session(&users).await;
        let harness = Harness::new(Arc::clone(&users) as _).await;
        harness.order(OrderKind::Rotate);
        looks_for_sessions(&harness).await;
        let why = harness.waits_for().unwrap();
        assert!(why.contains(&format!("`{}` has 1 session", users.published.0)), "{why}");
        assert!(is_open(&mut open).await && harness.outcome().is_none());
        open.close().await.unwrap();
        assert_eq!(harness.finish().await, Outcome::Completed);
        let (uses, refusals) = harness.uses();
        assert!(uses > 0);
        assert!(refusals.is_empty() || users.settings["mode"] == "one-user", "{refusals:?}");
    }
}

#[tokio::test]
async fn sessions_of_a_login_that_leaked_are_ended() {
    for users in users_of_each_mode().await {
        let users = Arc::new(users);
        let mut open = session(&users).await;
        let harness = Harness::new(Arc::clone(&users) as _).await;
        harness.order(OrderKind::Emergency { suspect: None });
        assert_eq!(harness.finish().await, Outcome::Completed);
        assert!(!is_open(&mut open).await, "{}", users.settings);
    }
}

#[tokio::test]
async fn a_session_on_a_standby_counts_and_one_that_is_gone_is_not_idle() {
    let mut standby = PostgresServer::start(PostgresOptions::new()).unwrap();
    let [mut mode, _, _] = modes();
    mode["standbys"] = json!([format!("127.0.0.1:{}", standby.port())]);
    let users = Arc::new(Users::with_admin(mode, true).await);
    // What would be replicated: the logins and the database.
    let (user, password) = &users.published;
    let there = PgConnection::connect(standby.endpoint().unwrap().url()).await.unwrap();
    users.replicate_to(there).await;
    let url = format!(
        "postgres://{user}:{password}@127.0.0.1:{}/{}?sslmode=disable",
        standby.port(),
        users.database.name()
    );
    assert_ne!(standby.port(), port(&users.database));
    let harness = Harness::new(Arc::clone(&users) as _).await;
    standby.stop_fast().unwrap();
    harness.order(OrderKind::Rotate);
    harness.work_until(|harness| harness.waits_for().is_some()).await;
    let why = harness.waits_for().unwrap();
    assert!(why.contains("the server cannot be reached"), "{why}");
    standby.start_again().unwrap();
    let open = PgConnection::connect(&url).await.unwrap();
    looks_for_sessions(&harness).await;
    let why = harness.waits_for().unwrap();
    assert!(why.contains(&format!("`{user}` has 1 session")), "{why}");
    standby.stop_fast().unwrap();
    looks_for_sessions(&harness).await;
    let why = harness.waits_for().unwrap();
    assert!(why.contains("the server cannot be reached"), "{why}");
    drop(open);
    standby.start_again().unwrap();
    assert_eq!(harness.finish().await, Outcome::Completed);
    assert_eq!(users.alive().await.len(), 1);
}
