//! The private Postgres clusters.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::str::FromStr as _;
use std::time::Duration;

use reqwest::Url;
use rota_fakes::postgres::{PostgresOptions, PostgresServer, TestDatabase, shared};
use rota_fakes::wait;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{Connection as _, PgConnection};

const SOON: Duration = Duration::from_secs(20);

async fn one_text(connection: &mut PgConnection, query: &'static str) -> String {
    sqlx::query_scalar(query).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn each_test_has_a_database_of_its_own_which_is_dropped_afterwards() {
    let endpoint = shared().unwrap();
    let one = endpoint.fresh_database().await.unwrap();
    let two = endpoint.fresh_database().await.unwrap();
    one.execute("CREATE TABLE here (n int)").await.unwrap();
    two.execute("CREATE TABLE here (n int)").await.unwrap();
    let copy = endpoint.fresh_copy_of(&one).await.unwrap();
    copy.execute("INSERT INTO here VALUES (1)").await.unwrap();

    let name = one.name().to_owned();
    drop(one);
    let found = wait::until(SOON, "the drop of the database", async || {
        let mut admin = PgConnection::connect(endpoint.url()).await?;
        let query = "SELECT count(*) FROM pg_database WHERE datname = $1";
        let count: i64 = sqlx::query_scalar(query).bind(&name).fetch_one(&mut admin).await?;
        Ok((count == 0).then_some(()))
    });
    found.await.unwrap();
}

#[tokio::test]
async fn a_role_with_a_wrong_password_is_refused() {
    let database = shared().unwrap().fresh_database().await.unwrap();
    let role = format!("r_{}", database.name());
    database.execute(&format!("CREATE ROLE {role} LOGIN PASSWORD 'right one'")).await.unwrap();

    let right = database.url_as(&role, "right one").unwrap();
    let mut connection = PgConnection::connect(&right).await.unwrap();
    assert_eq!(one_text(&mut connection, "SELECT current_user::text").await, role);
    connection.close().await.unwrap();

    let wrong = database.url_as(&role, "wrong one").unwrap();
    let refused = PgConnection::connect(&wrong).await.unwrap_err();
    // 28P01 is invalid_password.
    assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "28P01");

    database.execute(&format!("DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn what_was_committed_survives_a_crash_and_a_restored_backup_forgets_it() {
    let options = PostgresOptions::new().durable().setting("log_statement", "all");
    let mut server = PostgresServer::start(options).unwrap();
    let database = server.endpoint().unwrap().fresh_database().await.unwrap();
    database.execute("CREATE TABLE kept (n int)").await.unwrap();
    server.stop_fast().unwrap();
    let backup = server.back_up().unwrap();
    server.start_again().unwrap();

    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    assert_eq!(one_text(&mut connection, "SHOW fsync").await, "on");
    database.execute("INSERT INTO kept VALUES (42)").await.unwrap();
    server.stop_immediate().unwrap();
    server.stop_immediate().unwrap();
    sqlx::query("SELECT 1").execute(&mut connection).await.unwrap_err();
    server.start_again().unwrap();
    assert_eq!(kept(&database).await, [42]);
    assert!(server.log().contains("INSERT INTO kept VALUES (42)"), "statements are logged");
    assert!(server.start_again().is_err(), "a running server is not started twice");
    assert!(server.back_up().is_err(), "a running server's files are not copied");

    server.stop_immediate().unwrap();
    server.restore(&backup).unwrap();
    server.start_again().unwrap();
    assert_eq!(kept(&database).await, [0; 0]);
}

async fn kept(database: &TestDatabase) -> Vec<i32> {
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    sqlx::query_scalar("SELECT n FROM kept").fetch_all(&mut connection).await.unwrap()
}

#[tokio::test]
async fn tls_is_verified_with_the_private_authority_and_plain_tcp_is_refused() {
    let options = PostgresOptions::new().tls().superuser_password("correct horse");
    let server = PostgresServer::start(options).unwrap();
    let database = server.endpoint().unwrap().fresh_database().await.unwrap();

    let connect = PgConnectOptions::from_str(database.url()).unwrap().ssl_mode(PgSslMode::VerifyFull);
    PgConnection::connect_with(&connect).await.unwrap_err();

    let trusted = connect.clone().ssl_root_cert_from_pem(server.ca().unwrap().pem().into());
    let mut connection = PgConnection::connect_with(&trusted).await.unwrap();
    let query = "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    assert_eq!(one_text(&mut connection, query).await, "true");

    PgConnection::connect_with(&connect.clone().ssl_mode(PgSslMode::Disable)).await.unwrap_err();
    PgConnection::connect_with(&trusted.password("wrong")).await.unwrap_err();
}

#[test]
fn a_server_does_not_run_as_root() {
    let server = PostgresServer::start(PostgresOptions::new()).unwrap();
    let owner = std::fs::metadata(server.data_folder()).unwrap().uid();
    assert_ne!(owner, 0);
}

#[test]
fn a_server_ends_when_its_owner_is_killed() {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_rota-fakes"))
        .arg("postgres")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port = Url::parse(line.trim()).unwrap().port().unwrap();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    let folder = listening_folder(port).unwrap();
    assert!(folder.exists());

    // SIGKILL: no code of the owner runs any more.
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait::blocking(SOON, "the end of the server and its folder", || {
        let gone = TcpStream::connect(("127.0.0.1", port)).is_err() && !folder.exists();
        Ok(gone.then_some(()))
    })
    .unwrap();
}

/// The folder whose unix socket carries the port's number.
fn listening_folder(port: u16) -> Option<std::path::PathBuf> {
    let name = format!(".s.PGSQL.{port}");
    let folders = std::fs::read_dir("/tmp").unwrap().flatten().map(|entry| entry.path());
    folders.filter(|path| path.to_string_lossy().contains("/rota-pg-")).find(|path| path.join(&name).exists())
}

#[test]
fn a_command_runs_with_the_servers_around_it_and_its_exit_code_is_handed_on() {
    let output = Command::new(env!("CARGO_BIN_EXE_rota-fakes"))
        .args(["around", "--", "sh", "-c", "echo $ROTA_TEST_POSTGRES $ROTA_TEST_MOTO; exit 7"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(7));
    let said = String::from_utf8(output.stdout).unwrap();
    let (postgres, moto) = said.split_once(' ').unwrap();
    assert!(postgres.starts_with("postgres://postgres@127.0.0.1:"));
    assert!(moto.starts_with("http://127.0.0.1:"));
}
