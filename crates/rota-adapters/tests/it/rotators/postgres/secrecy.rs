//! What a server gets to see and keep of a password: nothing but its verifier.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use rota_core::rotation::{Outcome, Step};
use rota_engine::ports::OrderKind;
use rota_engine::test_support::rotator_suite::Harness;
use rota_fakes::postgres::{PostgresOptions, PostgresServer};
use sqlx::{Connection as _, PgConnection};

use super::server::{ADMIN, Users, modes, part};

/// So many characters of a password are told from chance.
const PART: usize = 8;

/// The parts of some texts, to be looked for all at once.
struct Parts {
    parts: HashSet<Vec<u8>>,
    /// Whether a part begins with these two bytes: most places of a text are not looked at twice.
    begin: Vec<bool>,
}

impl Parts {
    fn of<'t>(texts: impl IntoIterator<Item = &'t str>) -> Self {
        let windows = texts.into_iter().flat_map(|text| text.as_bytes().windows(PART));
        let parts: HashSet<Vec<u8>> = windows.map(<[u8]>::to_vec).collect();
        let mut begin = vec![false; 1 << 16];
        for part in &parts {
            begin[usize::from(part[0]) << 8 | usize::from(part[1])] = true;
        }
        Self { parts, begin }
    }

    /// How often any of them stands in `text`.
    fn count(&self, text: &[u8]) -> usize {
        let begins = |part: &[u8]| self.begin[usize::from(part[0]) << 8 | usize::from(part[1])];
        text.windows(PART).filter(|part| begins(part) && self.parts.contains(*part)).count()
    }
}

/// Every file below a folder, in one text.
fn files(folder: &Path, text: &mut Vec<u8>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), text);
        } else {
            // A file of a server at work may be gone by now.
            text.extend(std::fs::read(entry.path()).unwrap_or_default());
        }
    }
}

fn server() -> PostgresServer {
    let options = PostgresOptions::new()
        .setting("log_statement", "all")
        .setting("log_connections", "on")
        .setting("log_min_error_statement", "debug5")
        .setting("log_parameter_max_length", "-1")
        .setting("shared_preload_libraries", "pg_stat_statements")
        .setting("pg_stat_statements.track", "all");
    PostgresServer::start(options).unwrap()
}

/// Every statement that the server counted.
async fn statements(server: &PostgresServer) -> String {
    let mut session = PgConnection::connect(server.endpoint().unwrap().url()).await.unwrap();
    sqlx::query("CREATE EXTENSION IF NOT EXISTS pg_stat_statements").execute(&mut session).await.unwrap();
    let sql = "SELECT string_agg(query, E'\\n') FROM pg_stat_statements";
    sqlx::query_scalar(sql).fetch_one(&mut session).await.unwrap()
}

/// Rotations of every kind: on, back, and in an emergency. Every password that was made.
async fn passwords_of(users: Users) -> Vec<String> {
    let reversible = users.settings["mode"] != "one-user";
    let harness = Harness::new(Arc::new(users)).await;
    let mut passwords = Vec::new();
    let orders = [OrderKind::Rotate, OrderKind::Emergency { suspect: None }];
    for order in orders {
        harness.order(order);
        assert_eq!(harness.finish().await, Outcome::Completed);
        passwords.push(part(&harness.published(), "password").to_owned());
    }
    if reversible {
        harness.order(OrderKind::Rotate);
        harness.work_until(|harness| harness.step() == Some(Step::Watch)).await;
        passwords.push(part(&harness.published(), "password").to_owned());
        harness.order(OrderKind::Rollback);
        assert_eq!(harness.finish().await, Outcome::RolledBack);
    }
    passwords
}

#[tokio::test]
async fn neither_statements_nor_log_nor_files_hold_a_password() {
    let server = server();
    let mut passwords = vec![ADMIN.to_owned()];
    for mode in modes() {
        let users = Users::on(&server.endpoint().unwrap(), mode, true).await;
        passwords.extend(passwords_of(users).await);
    }
    let statements = statements(&server).await;
    let mut kept = Vec::new();
    files(&server.data_folder(), &mut kept);
    let log = server.log();
    let secret = Parts::of(passwords.iter().map(String::as_str));
    let (changes, verifiers) = (Parts::of(["ALTER ROLE "]), Parts::of(["SCRAM-SHA-256$4096:"]));
    for (place, text) in
        [("the statements", statements.as_bytes()), ("the log", log.as_bytes()), ("the files", &kept)]
    {
        // Without a trace of the changes it would prove nothing that no password is there.
        assert!(changes.count(text) > 0 && verifiers.count(text) > 0, "{place} hold nothing");
        assert_eq!(secret.count(text), 0, "{place} hold a part of a password");
    }
}
