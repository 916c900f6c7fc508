//! The daemon as a process: its metrics, its stop, and how it logs in at RDS.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use rota_fakes::http::{Effect, Fault, Listen};
use rota_fakes::secretsmanager::SecretsManagerFake;

use crate::support::finish;
use crate::world::{Daemon, Login, POLICY, World};

const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const KEY: &str = "hunter2-hunter2-hunter2-hunter2-hunter2a";

/// QUICK alone, in Secrets Manager.
const IN_AWS: &str = r#"
version = 1
application = "acd"
environment = "staging"

[store.aws]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "acd/{name}"

[secret.QUICK]
kind = "generated"
format = "hex:64"
class = "password"
stores = ["aws"]
consumers = "none"
cadence = "30d"
overlap = "1s"
healthy = { count = 1, every = "1s" }
"#;

/// A Secrets Manager with one secret, and what makes the binary use it.
pub(crate) fn secrets_manager(world: &World) -> (SecretsManagerFake, Vec<(String, String)>) {
    let fake = SecretsManagerFake::start("us-east-1", Listen::default()).unwrap();
    fake.add_key(KEY_ID, KEY);
    fake.create("acd/QUICK", &"a".repeat(64)).unwrap();
    world.write_policy(IN_AWS);
    let settings = [
        ("AWS_ACCESS_KEY_ID", KEY_ID.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", KEY.to_owned()),
        ("ROTA__AWS__ENDPOINT", fake.url()),
        ("ROTA__AWS__REGION", "us-east-1".to_owned()),
    ];
    (fake, settings.map(|(key, value)| (key.to_owned(), value)).into())
}

#[tokio::test]
async fn the_metrics_are_as_prometheus_wants_them() {
    let world = World::new().await;
    let daemon = world.daemon();
    world.ok(&["rotate", "SLOW", "--reason", "x"]);
    world.wait_for_step("SLOW", "watch");
    let metrics = daemon.wait_for("/metrics", "rota_rotations{phase=\"monitor\"} 1");
    let (head, page) = metrics.split_once("\r\n\r\n").unwrap();
    assert!(head.to_lowercase().contains("content-type: text/plain; version=0.0.4"), "{head}");
    let mut check = Command::new("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().expect("promtool of the package `prometheus`");
    check.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let said = check.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert_eq!(said, "", "promtool has nothing to say about {page}");
    for secret in ["SLOW", "QUICK", "PROVIDER_KEY"] {
        assert!(!page.contains(secret), "a series for each secret costs more than it tells");
    }
}

#[tokio::test]
async fn a_step_that_ends_in_time_is_finished_before_the_daemon_stops() {
    let world = World::new().await;
    let hook = "cadence = \"30d\"\nhooks = [{ at = \"before-promote\", kind = \"command\", directory = \"{folder}\", \
                command = [\"/bin/sh\", \"-c\", \"touch begun; sleep 2; echo $ROTA_IDEMPOTENCY_KEY >> keys\"] }]";
    world.write_policy(&POLICY.replace("cadence = \"30d\"", hook));
    let mut daemon = world.daemon();
    world.ok(&["rotate", "QUICK", "--reason", "x"]);
    rota_fakes::wait::blocking(crate::world::LIMIT, "the hook", || {
        Ok(world.path("begun").exists().then_some(()))
    })
    .unwrap();
    daemon.terminate();
    assert_eq!(daemon.ended(), Some(0), "{}", daemon.log());
    assert!(daemon.log().contains("stopped") && !daemon.log().contains("stop_timeout"), "{}", daemon.log());
    let held = "SELECT holder FROM rota.rotations WHERE ended_at IS NULL AND holder IS NOT NULL";
    assert_eq!(world.ask(held).await, None, "the lease was given back");

    let _next = world.daemon();
    world.wait("QUICK", "done", |status| !status["last_promoted_at"].is_null() && status["phase"].is_null());
    let keys = world.read("keys");
    let mut keys: Vec<&str> = keys.lines().collect();
    keys.dedup();
    assert_eq!(keys.len(), 1, "whoever ran it again had the same key: {keys:?}");
}

#[tokio::test]
async fn a_step_that_hangs_is_given_up_in_time_and_the_next_start_goes_on() {
    let world = World::new().await;
    let (fake, settings) = secrets_manager(&world);
    let mut daemon = world.daemon_with(|command| {
        command.envs(settings.clone()).env("ROTA__DAEMON__STOP_TIMEOUT", "1s");
    });
    fake.script().add(Fault::next("PutSecretValue", Effect::Hang));
    world.ok(&["rotate", "QUICK", "--reason", "x"]);
    let hanging =
        || Ok((fake.script().count("PutSecretValue") > 0 || fake.script().pending() == 0).then_some(()));
    rota_fakes::wait::blocking(crate::world::LIMIT, "the hanging call", hanging).unwrap();
    daemon.terminate();
    assert_eq!(daemon.ended(), Some(0), "{}", daemon.log());
    assert!(daemon.log().contains("a step did not end within daemon.stop_timeout"), "{}", daemon.log());

    // Its lease would lapse in a minute.
    world
        .database
        .execute("UPDATE rota.rotations SET lease_until = now() WHERE holder IS NOT NULL")
        .await
        .unwrap();
    let _next = world.daemon_with(|command| {
        command.envs(settings);
    });
    world.wait("QUICK", "done", |status| !status["last_promoted_at"].is_null() && status["phase"].is_null());
    let value = fake.value("acd/QUICK", "AWSCURRENT").unwrap();
    assert!(value.len() == 128 && value != "a".repeat(64), "one new value is published");
    let history = world.ok(&["history", "QUICK", "--json"]).json();
    assert_eq!(history["rotations"].as_array().unwrap().len(), 1, "the same rotation went on");
}

#[tokio::test]
async fn a_second_daemon_on_the_same_address_says_so_at_once() {
    let world = World::new().await;
    let daemon = world.daemon();
    let mut second = world.command(Login::Daemon, &["serve", "--listen", &daemon.address()]);
    let ran = finish(second.env("ROTA__POLICY__SOURCE", "policy.toml").output().unwrap());
    assert!(ran.code == 1 && ran.stderr.contains("is another rota running?"), "{} {}", ran.code, ran.stderr);
}

#[tokio::test]
async fn a_database_without_the_schema_is_refused_and_migrated_when_asked() {
    let world = World::new().await;
    let empty = world.database.endpoint().fresh_database().await.unwrap();
    let serve = |arguments: &[&str]| {
        let mut command = world.daemon_command();
        command.args(arguments).env("ROTA__DATABASE__URL", empty.url());
        command
    };
    let refused = finish(serve(&[]).output().unwrap());
    assert!(
        refused.code == 3 && refused.stderr.contains("rota migrate"),
        "{} {}",
        refused.code,
        refused.stderr
    );
    let daemon = Daemon::spawn(serve(&["--migrate"]));
    daemon.wait_for("/readyz", "\"ready\":true");
    let other = world.database.endpoint().url_of("absent");
    let absent = finish(serve(&[]).env("ROTA__DATABASE__URL", other).output().unwrap());
    assert!(
        absent.code == 3 && absent.stderr.contains("create the database"),
        "{} {}",
        absent.code,
        absent.stderr
    );
}

/// Reads one message of the frontend after its type (PostgreSQL, "Message Formats").
fn message(stream: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
    stream.read_exact(&mut body).unwrap();
    body
}

#[tokio::test]
async fn with_rds_iam_the_password_is_a_presigned_token_that_is_never_shown() {
    let world = World::new().await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let startup = message(&mut stream);
        stream.write_all(&[b'R', 0, 0, 0, 8, 0, 0, 0, 3]).unwrap();
        let mut kind = [0];
        stream.read_exact(&mut kind).unwrap();
        assert_eq!(kind, [b'p']);
        let password = String::from_utf8(message(&mut stream)).unwrap();
        let refusal = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0";
        let length = u32::try_from(refusal.len() + 4).unwrap().to_be_bytes();
        stream.write_all(&[&b"E"[..], &length, refusal].concat()).unwrap();
        (String::from_utf8_lossy(&startup).into_owned(), password.trim_end_matches('\0').to_owned())
    });
    let mut command = world.command(Login::Operator, &["status"]);
    command
        .env("ROTA__DATABASE__URL", format!("postgres://rota_service@127.0.0.1:{port}/rota?sslmode=disable"))
        .env("ROTA__DATABASE__RDS_IAM", "true")
        .env("ROTA__AWS__REGION", "eu-central-1")
        .env("AWS_ACCESS_KEY_ID", KEY_ID)
        .env("AWS_SECRET_ACCESS_KEY", KEY);
    let ran = finish(command.output().unwrap());
    let (startup, password) = server.join().unwrap();
    assert!(startup.contains("user\0rota_service\0") && startup.contains("database\0rota\0"), "{startup}");
    let begins = format!("127.0.0.1:{port}/?Action=connect&DBUser=rota_service&");
    assert!(
        password.starts_with(&begins) && password.contains("X-Amz-Signature="),
        "another password was sent"
    );
    assert!(password.contains("eu-central-1%2Frds-db%2Faws4_request") && !password.contains(KEY));
    assert!(
        ran.code == 5 && ran.stderr.contains("28P01") && ran.stderr.contains("rota doctor"),
        "{} {}",
        ran.code,
        ran.stderr
    );
    assert!(!ran.stderr.contains("X-Amz-Signature"), "{}", ran.stderr);

    let no_user = format!("postgres://127.0.0.1:{port}/rota?sslmode=disable");
    let ran = finish(command.env("ROTA__DATABASE__URL", no_user).output().unwrap());
    assert!(ran.code == 3 && ran.stderr.contains("rds_iam"), "{}", ran.stderr);
    let ran = finish(command.env("ROTA__DATABASE__PASSWORD", "hunter2").output().unwrap());
    assert!(ran.code == 3 && ran.stderr.contains("keep one of them"), "{}", ran.stderr);
}
