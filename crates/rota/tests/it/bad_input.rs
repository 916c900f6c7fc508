//! What people get wrong and what breaks: a clear text, no panic, nothing lost.

use std::process::Command;

use rota_fakes::http::Listen;
use rota_fakes::vault::VaultFake;
use serde_json::{Value, json};

use crate::daemons::secrets_manager;
use crate::support::{Ran, finish};
use crate::world::{Daemon, Login, POLICY, World};

/// QUICK alone, in Vault.
const IN_VAULT: &str = r#"
version = 1
application = "acd"
environment = "staging"

[store.vault]
kind = "vault-kv2"
mount = "secret"
path = "acd/{name}"

[secret.QUICK]
kind = "generated"
format = "hex:64"
class = "password"
stores = ["vault"]
consumers = "none"
cadence = "30d"
overlap = "1s"
healthy = { count = 1, every = "1s" }
"#;

fn with(world: &World, login: Login, arguments: &[&str], settings: &[(String, String)]) -> Ran {
    let mut command = world.command(login, arguments);
    command.env("ROTA__POLICY__SOURCE", "policy.toml").envs(settings.iter().cloned());
    finish(command.output().unwrap())
}

/// The lines about one thing, with the fix below.
fn told(ran: &Ran, what: &str) -> String {
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let at = lines.iter().position(|line| line.contains(what));
    let at = at.unwrap_or_else(|| panic!("nothing of {what}: {}", ran.stdout));
    lines[at..(at + 2).min(lines.len())].join("\n")
}

/// Waits until an order says why it waits.
fn why_it_waits(world: &World, name: &str) -> String {
    let mut said = String::new();
    let look = || {
        let orders = world.run(Login::Auditor, &["status", name, "--json"]).json()["orders"].clone();
        said = orders[0]["waiting"].as_str().or(orders[0]["outcome"].as_str()).unwrap_or_default().to_owned();
        Ok((!said.is_empty()).then(|| said.clone()))
    };
    rota_fakes::wait::blocking(crate::world::LIMIT, "a reason", look).unwrap()
}

fn unhurt(daemon: &Daemon) {
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
    assert!(daemon.get("/livez").starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_bad_policy_file_under_a_running_daemon_keeps_the_last_good_one() {
    let world = World::new().await;
    let daemon = world.daemon();
    daemon.wait_for("/status.json", "\"version\":1");
    let good = world.read("policy.toml");
    let contents: [(&str, Vec<u8>, &str); 6] = [
        ("empty", Vec::new(), "version"),
        ("truncated", good.as_bytes()[..good.len() / 2].to_vec(), "policy"),
        ("binary", vec![0xff, 0xfe, 0, 1, 2], "UTF-8"),
        ("huge", b"# x\n".repeat(400_000), "bytes"),
        ("another version", b"version = 2\n".to_vec(), "version"),
        ("no TOML", b"{\"version\": 1}".to_vec(), "policy"),
    ];
    for (what, bytes, word) in contents {
        std::fs::write(world.path("policy.toml"), &bytes).unwrap();
        let refused = daemon.wait_for("/readyz", "version 1 goes on");
        assert!(refused.starts_with("HTTP/1.1 200") && refused.contains(word), "{what}: {refused}");
        assert!(refused.contains("rota policy lint policy.toml"), "{what}: {refused}");
        daemon.wait_for("/metrics", "rota_policy_rejected 1");
        world.write("policy.toml", &good);
        daemon.wait_for("/readyz", "\"troubles\":{}");
    }
    std::fs::remove_file(world.path("policy.toml")).unwrap();
    daemon.wait_for("/readyz", "version 1 goes on");
    world.ok(&["rotate", "QUICK", "--reason", "the last good policy works"]);
    world.wait("QUICK", "done", |status| !status["last_promoted_at"].is_null() && status["phase"].is_null());
    unhurt(&daemon);
}

#[tokio::test]
async fn a_daemon_without_any_good_policy_waits_for_one_and_says_so() {
    let world = World::new().await;
    world.write("policy.toml", "nonsense");
    let daemon = world.start_daemon(|_| {});
    let answer = daemon.wait_for("/readyz", "no policy was ever accepted");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    world.write_policy(POLICY);
    daemon.wait_for("/readyz", "\"ready\":true");
}

fn vault(address: &str, token: &str) -> Vec<(String, String)> {
    [("ADDRESS", address), ("AUTH", "token"), ("TOKEN", token)]
        .map(|(key, value)| (format!("ROTA__VAULT__{key}"), value.to_owned()))
        .into()
}

#[tokio::test]
async fn a_wrong_vault_address_is_named_and_nothing_starts() {
    let world = World::new().await;
    world.write_policy(IN_VAULT);
    let settings = vault("http://127.0.0.1:1", "s.0123456789");
    let doctor = with(&world, Login::Operator, &["doctor"], &settings);
    let said = told(&doctor, "store vault (vault-kv2)");
    assert!(doctor.code == 7 && said.starts_with("BAD") && said.contains("fix: "), "{said}");
    assert!(said.contains("reach"), "{said}");
    for wrong in ["vault.internal:8200", "http://vault.internal:8200", "ftp://x"] {
        let ran = with(&world, Login::Operator, &["doctor"], &vault(wrong, "s.0123456789"));
        assert!(
            ran.code == 7 && !ran.stdout.contains("panicked") && ran.stdout.contains("BAD"),
            "{wrong}: {}",
            ran.stdout
        );
    }
    let daemon = world.daemon_with(|command| {
        command.envs(settings.clone());
    });
    world.ok(&["rotate", "QUICK", "--reason", "x"]);
    let why = why_it_waits(&world, "QUICK");
    assert!(why.contains("ault"), "{why}");
    assert!(world.status("QUICK")["phase"].is_null(), "no rotation was opened");
    unhurt(&daemon);
}

/// A Vault, a token for it that lives an hour, in a file, and settings that name both.
async fn vault_with_a_token(world: &World) -> (VaultFake, String, Vec<(String, String)>) {
    let fake = VaultFake::start(Listen::default()).unwrap();
    fake.policy(
        "all",
        "path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"patch\", \"delete\", \"list\"] }",
    )
    .await
    .unwrap();
    let token = fresh_token(world, &fake).await;
    let settings = vec![
        ("ROTA__VAULT__ADDRESS".to_owned(), fake.url()),
        ("ROTA__VAULT__AUTH".to_owned(), "token".to_owned()),
        ("ROTA__VAULT__TOKEN_FILE".to_owned(), world.path("token").display().to_string()),
    ];
    (fake, token, settings)
}

async fn fresh_token(world: &World, fake: &VaultFake) -> String {
    let token = fake.token(json!({ "policies": ["all"], "ttl": "1h" })).await.unwrap();
    world.write("token", &token);
    token
}

#[tokio::test]
async fn an_expired_vault_token_is_told_and_a_fresh_one_goes_on() {
    let world = World::new().await;
    world.write_policy(IN_VAULT);
    let (fake, token, settings) = vault_with_a_token(&world).await;
    let daemon = world.daemon_with(|command| {
        command.envs(settings.clone());
    });
    fake.script().clock().advance(jiff::SignedDuration::from_hours(2));
    let doctor = with(&world, Login::Operator, &["doctor"], &settings);
    let said = told(&doctor, "store vault");
    assert!(doctor.code == 7 && said.contains("token") && !said.contains(&token), "{said}");
    world.ok(&["rotate", "QUICK", "--reason", "the first value"]);
    let why = why_it_waits(&world, "QUICK");
    assert!(why.contains("token") && !why.contains(&token), "{why}");

    let fresh = fresh_token(&world, &fake).await;
    world.database.execute("UPDATE rota.orders SET not_before = NULL, waiting = NULL").await.unwrap();
    world.wait("QUICK", "done", |status| !status["last_promoted_at"].is_null() && status["phase"].is_null());
    unhurt(&daemon);
    assert!(!daemon.log().contains(&token) && !daemon.log().contains(&fresh));
}

#[tokio::test]
async fn a_vault_token_that_expires_in_the_middle_of_a_rotation_loses_neither_value() {
    let world = World::new().await;
    let list = "overlap = \"1h\"\npublish = { list = \"QUICK_LIST\" }";
    world.write_policy(&IN_VAULT.replace("overlap = \"1s\"", list));
    let (fake, token, settings) = vault_with_a_token(&world).await;
    let daemon = world.daemon_with(|command| {
        command.envs(settings.clone());
    });
    let published = async || {
        let read = fake.admin("GET", "secret/data/acd/QUICK_LIST", Value::Null).await.unwrap();
        let keys: Vec<String> =
            serde_json::from_str(read["data"]["data"]["value"].as_str().unwrap()).unwrap();
        keys
    };
    world.ok(&["rotate", "QUICK", "--reason", "the first value"]);
    world.wait("QUICK", "made", |status| !status["last_promoted_at"].is_null() && status["phase"].is_null());
    let old = published().await;
    world.ok(&["rotate", "QUICK", "--reason", "the second one"]);
    world.wait_for_step("QUICK", "watch");
    let both = published().await;

    fake.script().clock().advance(jiff::SignedDuration::from_hours(2));
    world.ok(&["rollback", "QUICK", "--yes", "--reason", "it was wrong"]);
    let held = world.wait("QUICK", "an expired token", |status| !status["held"].is_null());
    let why = held["held"]["why"].as_str().unwrap();
    assert!(why.contains("token") && !why.contains(&token), "{why}");
    assert_eq!(published().await, both, "both values stand");
    let fresh = fresh_token(&world, &fake).await;
    world.ok(&["resume", "QUICK", "--reason", "a fresh token"]);
    world.wait_for_rest("QUICK");
    assert_eq!(published().await, old);
    unhurt(&daemon);
    assert!(!daemon.log().contains(&token) && !daemon.log().contains(&fresh));
}

#[tokio::test]
async fn a_secret_that_is_missing_in_its_store_is_created_on_order_only() {
    let world = World::new().await;
    let daemon = world.daemon();
    let file: String = world
        .read("app.env")
        .lines()
        .filter(|line| !line.starts_with("QUICK="))
        .map(|line| format!("{line}\n"))
        .collect();
    world.write("app.env", &file);
    world.ok(&["adopt", "QUICK", "--rotated-on", "2020-01-15"]);
    let postponed = world.wait("QUICK", "a reason", |status| !status["postponed"].is_null());
    let why = postponed["postponed"].as_str().unwrap();
    assert!(why.contains("does not exist in its store yet") && why.contains("rota rotate QUICK"), "{why}");
    let table = world.ok(&["status", "--attention"]).stdout;
    assert!(table.contains("QUICK") && table.contains("does not exist"), "{table}");
    assert_eq!(world.read("app.env"), file, "nothing was written");
    world.ok(&["rotate", "QUICK", "--reason", "make it"]);
    world.wait("QUICK", "made", |status| status["phase"].is_null() && status["overdue"] == false);
    assert!(world.read("app.env").contains("QUICK="));
    unhurt(&daemon);
}

#[tokio::test]
async fn native_rotation_and_a_foreign_pending_version_are_refused_by_name() {
    let world = World::new().await;
    let (fake, settings) = secrets_manager(&world);
    let daemon = world.daemon_with(|command| {
        command.envs(settings.clone());
    });
    fake.switch_rotation_on("acd/QUICK").unwrap();
    let doctor = with(&world, Login::Operator, &["doctor"], &settings);
    let said = told(&doctor, "acd/QUICK");
    assert!(doctor.code == 7 && said.contains("rotated by AWS itself") && said.contains("fix: "), "{said}");
    world.ok(&["rotate", "QUICK", "--reason", "x"]);
    let why = why_it_waits(&world, "QUICK");
    assert!(why.contains("rotated by AWS itself"), "{why}");
    assert_eq!(fake.value("acd/QUICK", "AWSCURRENT").unwrap(), "a".repeat(64), "nothing was written");

    let (fake, settings) = secrets_manager(&world);
    let pending = json!({
        "SecretId": "acd/QUICK", "SecretString": "somebody-else-s", "VersionStages": ["AWSPENDING"],
        "ClientRequestToken": "00000000-0000-4000-8000-000000000001",
    });
    fake.call("PutSecretValue", pending).unwrap();
    let doctor = with(&world, Login::Operator, &["doctor"], &settings);
    let said = told(&doctor, "acd/QUICK");
    assert!(doctor.code == 7 && said.contains("AWSPENDING") && said.contains("fix: "), "{said}");
    assert!(!said.contains("somebody-else-s"), "{said}");
    unhurt(&daemon);
}

#[tokio::test]
async fn a_full_disk_leaves_the_env_file_whole_and_the_rotation_goes_on_when_there_is_room() {
    let world = World::new().await;
    let file = format!("{}PADDING={}\n", world.read("app.env"), "x".repeat(3500));
    let file = format!("{file}#{}\n", "x".repeat(4000 - file.len()));
    world.write("app.env", &file);
    // No file of the daemon may grow beyond 4 KiB, as on a disk that runs full.
    let plain = world.daemon_command();
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\""])
        .arg(plain.get_program())
        .args(plain.get_args());
    limited.current_dir(world.folder.path()).env_clear();
    limited.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let daemon = Daemon::spawn(limited);
    daemon.wait_for("/readyz", "\"ready\":true");
    world.ok(&["rotate", "SLOW", "--reason", "x"]);
    let waiting = world.wait("SLOW", "a full disk", |status| {
        status["waiting_for"].as_str().is_some_and(|why| why.contains("full"))
            || status["postponed"].as_str().is_some_and(|why| why.contains("full"))
    });
    assert!(waiting.to_string().contains("make room"), "{waiting}");
    assert_eq!(world.read("app.env"), file, "the old file is whole");
    unhurt(&daemon);
    drop(daemon);
    world
        .database
        .execute("UPDATE rota.rotations SET lease_until = now() WHERE holder IS NOT NULL")
        .await
        .unwrap();
    let _roomy = world.daemon();
    world.wait_for_step("SLOW", "watch");
}

#[tokio::test]
async fn a_schema_from_the_future_is_refused_by_every_command() {
    let world = World::new().await;
    world.database.execute("UPDATE rota.compatibility SET minimum_binary = '999.1.0'").await.unwrap();
    let newer = "needs rota 999.1.0 or newer";
    for arguments in [&["status"][..], &["plan"], &["rotate", "QUICK", "--reason", "x"], &["history"]] {
        let ran = world.run(Login::Operator, arguments);
        assert!(ran.code == 3 && ran.stderr.contains(newer), "{arguments:?}: {}", ran.stderr);
    }
    let served = finish(world.daemon_command().output().unwrap());
    assert!(served.code == 3 && served.stderr.contains(newer), "{} {}", served.code, served.stderr);
    let mut migrate = world.command(Login::Operator, &["migrate"]);
    let migrated = finish(migrate.env("ROTA__DATABASE__URL", world.database.url()).output().unwrap());
    assert!(migrated.code == 3 && migrated.stderr.contains(newer), "{}", migrated.stderr);
}

#[tokio::test]
async fn a_row_that_this_binary_cannot_read_is_no_panic() {
    let world = World::new().await;
    let daemon = world.daemon();
    world.ok(&["rotate", "SLOW", "--reason", "x"]);
    world.wait_for_step("SLOW", "watch");
    let spoil = "UPDATE rota.rotations SET rotation = rotation || '{\"state\": {\"state\": \"from the future\"}}' WHERE secret = 'SLOW'";
    world.database.execute(spoil).await.unwrap();
    let ran = world.run(Login::Auditor, &["status", "SLOW"]);
    assert!(ran.code == 3 && ran.stderr.contains("as new as the schema"), "{} {}", ran.code, ran.stderr);
    unhurt(&daemon);
}
