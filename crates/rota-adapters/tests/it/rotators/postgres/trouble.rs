//! What may be wrong with a server and its roles: each is held or asked again with a
//! reason, and nothing is left half-done.

use std::cell::Cell;
use std::sync::Arc;

use rota_core::rotation::Outcome;
use rota_engine::ports::OrderKind;
use rota_engine::test_support::rotator_suite::{Harness, RotatorUnderTest as _};
use rota_fakes::postgres::{PostgresOptions, PostgresServer, shared};
use rota_fakes::tls::TestCa;
use serde_json::{Value, json};

use super::server::{ADMIN, Users, modes};

/// Why a rotation is held before it changed anything: the published value is still used,
/// and nobody else can log in who could not before. The family's name is `ID` there.
async fn held(users: Users) -> String {
    let users = Arc::new(users);
    let before = users.alive().await;
    let harness = Harness::new(Arc::clone(&users) as _).await;
    harness.order(OrderKind::Rotate);
    harness.work_until(|harness| harness.held().is_some()).await;
    let applied: Vec<_> = harness.take_calls().into_iter().filter(|seen| seen.name == "apply").collect();
    assert_eq!(applied, [], "something was changed on the target");
    assert_eq!(users.alive().await, before);
    harness.held().unwrap().replace(&users.id, "ID")
}

/// Why a rotation is held where `sql` was run before; `ID` in it is the family's name.
async fn held_after(mode: &Value, sql: &str) -> String {
    let users = Users::new(mode.clone()).await;
    let sql = sql.replace("ID", &users.id).replace("DATABASE_NAME", users.database.name());
    users.database.execute(&sql).await.unwrap();
    held(users).await
}

#[tokio::test]
async fn an_administrator_that_is_not_stored_or_not_let_in_is_named() {
    for mode in modes() {
        let mut users = Users::new(mode.clone()).await;
        users.settings["admin"] = json!("main:elsewhere");
        let why = held(users).await;
        assert!(why.contains("nothing is stored at `main:elsewhere`; put"), "{why}");
        let why = held_after(&mode, "ALTER ROLE ID_admin PASSWORD 'another'").await;
        assert!(why.contains("as the administrator `") && why.contains("28P01; correct"), "{why}");
    }
}

#[tokio::test]
async fn an_administrator_that_lacks_a_right_is_told_which() {
    for mode in modes() {
        for (sql, told) in [
            (
                "ALTER ROLE ID_admin NOCREATEROLE",
                "lacks CREATEROLE; run `ALTER ROLE \"ID_admin\" CREATEROLE`",
            ),
            ("REVOKE pg_signal_backend FROM ID_admin", "run `GRANT pg_signal_backend TO \"ID_admin\"`"),
            ("REVOKE CREATE ON DATABASE DATABASE_NAME FROM ID_admin", "grant it CREATE on the database"),
        ] {
            let why = held_after(&mode, sql).await;
            assert!(why.contains(told), "{why}");
        }
    }
}

#[tokio::test]
async fn where_old_sessions_are_not_told_from_new_ones_nothing_is_changed() {
    let [_, _, one] = modes();
    let why = held_after(&one, "REVOKE pg_read_all_stats FROM ID_admin").await;
    assert!(why.contains("run `GRANT pg_read_all_stats TO \"ID_admin\"`"), "{why}");
}

#[tokio::test]
async fn an_administrator_never_rotates_itself() {
    for mode in [json!({ "users": ["ID_a", "ID_admin"] }), json!({ "mode": "one-user", "user": "ID_admin" })]
    {
        let why = held(Users::new(mode).await).await;
        assert!(why.contains("_admin` cannot rotate itself; give Rota a login of its own"), "{why}");
    }
    // The published user is the administrator.
    let mut users = Users::new(json!({ "mode": "new-user", "user": "ID" })).await;
    users.published = (format!("{}_admin", users.id), ADMIN);
    let why = held(users).await;
    assert!(why.contains("_admin` cannot rotate itself"), "{why}");
}

#[tokio::test]
async fn a_superuser_is_never_rotated() {
    for (mode, user) in modes().into_iter().zip(["ID_b", "ID_a", "ID_a"]) {
        let why = held_after(&mode, &format!("ALTER ROLE {user} SUPERUSER")).await;
        assert!(why.contains("is a superuser, which Rota does not rotate; give consumers"), "{why}");
    }
}

#[tokio::test]
async fn a_user_that_is_not_as_it_should_be_is_named() {
    let [two, new, one] = modes();
    for (mode, sql, told) in [
        (&two, "ALTER ROLE ID_b LOGIN PASSWORD 'theirs'", "should be idle and can log in; see who uses it"),
        (
            &two,
            "DROP OWNED BY ID_b; DROP ROLE ID_b",
            "there is no role `ID_b`; create it with NOLOGIN and its rights",
        ),
        (&two, "REVOKE ID_owner FROM ID_b", "is no member of `role`; run `GRANT"),
        (&two, "ALTER ROLE ID_b RESET role", "does not act as `role` after its login; run `ALTER ROLE"),
        (&two, "ALTER ROLE ID_a PASSWORD 'another'", "refuses the published password of"),
        (&new, "ALTER ROLE ID_a PASSWORD 'another'", "refuses the published password of"),
        (&one, "ALTER ROLE ID_a PASSWORD 'another'", "refuses the published password of"),
        (&one, "ALTER ROLE ID_a NOLOGIN", "is NOLOGIN; run `ALTER ROLE \"ID_a\" LOGIN`"),
    ] {
        let why = held_after(mode, sql).await;
        assert!(why.contains(told), "{sql}: {why}");
    }
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named() {
    for mode in modes() {
        let mut users = Users::new(mode).await;
        users.settings["database"] = json!("nowhere");
        let why = held(users).await;
        assert!(why.contains("database does not exist, correct `database`"), "{why}");
    }
}

/// Begins a rotation, which looks again and again and changes nothing.
async fn is_asked_again(harness: &Harness, reason: &str) {
    harness.order(OrderKind::Rotate);
    let looks = Cell::new(0);
    let three_looks = |harness: &Harness| {
        let calls = harness.take_calls();
        assert!(calls.iter().all(|seen| seen.name != "apply"), "{calls:?}");
        looks.set(looks.get() + calls.iter().filter(|seen| seen.name == "preflight").count());
        looks.get() >= 3
    };
    harness.work_until(three_looks).await;
    let why = harness.waits_for().unwrap();
    assert!(why.contains(reason), "{why}");
}

#[tokio::test]
async fn a_read_only_database_is_asked_again_until_it_takes_writes() {
    for mode in modes() {
        let users = Arc::new(Users::with_admin(mode, true).await);
        let set = |value: &str| {
            format!("ALTER DATABASE {} SET default_transaction_read_only = {value}", users.database.name())
        };
        users.database.execute(&set("on")).await.unwrap();
        let harness = Harness::new(Arc::clone(&users) as _).await;
        is_asked_again(
            &harness,
            "the database is read-only (default_transaction_read_only); nothing is changed",
        )
        .await;
        let writable = format!("BEGIN READ WRITE; {}; COMMIT", set("off"));
        users.database.execute(&writable).await.unwrap();
        assert_eq!(harness.finish().await, Outcome::Completed);
    }
}

#[tokio::test]
async fn a_server_in_recovery_is_asked_again_until_it_is_promoted() {
    let mut server = PostgresServer::start(PostgresOptions::new()).unwrap();
    let mode = modes()[0].clone();
    let users = Arc::new(Users::on(&server.endpoint().unwrap(), mode, false).await);
    server.stop_fast().unwrap();
    server.start_as_standby().unwrap();
    let harness = Harness::new(Arc::clone(&users) as _).await;
    is_asked_again(&harness, "the server is in recovery (a standby); name the primary as `host`").await;
    users.database.execute("SELECT pg_promote()").await.unwrap();
    assert_eq!(harness.finish().await, Outcome::Completed);
}

#[tokio::test]
async fn a_server_that_is_gone_for_a_while_is_asked_again() {
    let mut server = PostgresServer::start(PostgresOptions::new()).unwrap();
    let mode = modes()[0].clone();
    let users = Arc::new(Users::on(&server.endpoint().unwrap(), mode, false).await);
    let harness = Harness::new(Arc::clone(&users) as _).await;
    server.stop_immediate().unwrap();
    is_asked_again(&harness, "the server cannot be reached").await;
    server.start_again().unwrap();
    assert_eq!(harness.finish().await, Outcome::Completed);
}

#[tokio::test]
async fn names_with_quotes_and_other_scripts_are_names() {
    const ODD: &str = "ID \"é' \\ 鍵%$1";
    for mode in [json!({ "mode": "new-user", "user": ODD }), json!({ "users": ["ID_a", format!("{ODD}_b")] })]
    {
        let users = Users::with_admin(mode, true).await;
        let odd = format!("{ODD}_b").replace("ID", &users.id).replace('"', "\"\"");
        let sql = format!(
            "ALTER ROLE {id}_a RESET role; ALTER ROLE {id}_b RESET role; \
             ALTER ROLE {id}_b RENAME TO \"{odd}\"; CREATE TABLE \"{odd}\" (\"{odd}\" int); \
             GRANT SELECT (\"{odd}\") ON \"{odd}\" TO {id}_a, \"{odd}\"",
            id = users.id
        );
        users.database.execute(&sql).await.unwrap();
        let harness = Harness::new(Arc::new(users)).await;
        for _ in 0..3 {
            assert_eq!(harness.rotate().await, Outcome::Completed);
        }
        let (uses, refusals) = harness.uses();
        assert!(uses > 0 && refusals.is_empty(), "{refusals:?} of {uses}");
    }
}

#[tokio::test]
async fn a_server_is_believed_by_its_certificate_alone() {
    // Its certificate holds the first of these addresses.
    let options = PostgresOptions::new().tls().setting("listen_addresses", "127.0.0.1,127.0.0.2");
    let server = PostgresServer::start(options).unwrap();
    let refused = "the server's certificate was not accepted; check that it holds the host's name";
    for mut mode in modes() {
        mode["ca"] = json!(server.ca().unwrap().pem());
        let users = Users::on(&server.endpoint().unwrap(), mode.clone(), true).await;
        assert_eq!(Harness::new(Arc::new(users)).await.rotate().await, Outcome::Completed);
        let mut users = Users::on(&server.endpoint().unwrap(), mode.clone(), true).await;
        users.settings["host"] = json!("127.0.0.2");
        let why = held(users).await;
        assert!(why.contains(refused), "{why}");
        mode["ca"] = json!(TestCa::new().unwrap().pem());
        let why = held(Users::on(&server.endpoint().unwrap(), mode, true).await).await;
        assert!(why.contains(refused), "{why}");
    }
}

#[tokio::test]
async fn a_server_without_tls_is_not_believed_where_authorities_are_named() {
    let mode = json!({ "users": ["ID_a", "ID_b"], "ca": TestCa::new().unwrap().pem() });
    let why = held(Users::on(shared().unwrap(), mode, false).await).await;
    assert!(why.contains("does not speak TLS"), "{why}");
}
