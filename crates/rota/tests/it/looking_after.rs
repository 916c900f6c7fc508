//! What keeps Rota itself well: doctor, messages, health, copies of env files, recovery.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;

use rota_fakes::http::Listen;
use rota_fakes::slack::{SlackFake, Standing};
use serde_json::Value;

use crate::support::{Ran, finish};
use crate::world::{Login, POLICY, Terminal, World};

/// What `doctor` found about one thing: its state, what was seen, what to do.
fn finding(ran: &Ran, what: &str) -> (String, String, String) {
    let all = ran.json();
    let one = all["findings"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["what"].as_str().unwrap().starts_with(what));
    let one = one.unwrap_or_else(|| panic!("nothing of {what} in {all:#}"));
    let text = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
    (text("state"), text("seen"), text("fix"))
}

fn doctor(world: &World, login: Login, set: &[(&str, &str)]) -> Ran {
    let mut command = world.command(login, &["doctor", "--json"]);
    command.env("ROTA__POLICY__SOURCE", "policy.toml").env("ROTA__DAEMON__LISTEN", "127.0.0.1:1");
    for (key, value) in set {
        command.env(key, value);
    }
    finish(command.output().unwrap())
}

#[tokio::test]
async fn doctor_finds_nothing_where_all_is_well() {
    let world = World::new().await;
    let daemon = world.daemon();
    let ran = doctor(&world, Login::Operator, &[("ROTA__DAEMON__LISTEN", &daemon.address())]);
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    for what in ["state database", "grants", "schema", "database identity", "clocks", "store env", "daemon"] {
        assert_eq!(finding(&ran, what).0, "well", "{what}");
    }
    assert_eq!(finding(&ran, "messages").0, "doubtful", "no channel is configured");
    for what in ["rotator of QUICK (generated)", "rotator of PROVIDER_KEY (operator)"] {
        let (state, seen, _) = finding(&ran, what);
        assert_eq!(
            (state.as_str(), seen.as_str()),
            ("well", "its settings can be used; nothing was started")
        );
    }
    assert!(finding(&ran, "store env").1.contains("writing is tried by a rotation"));
    let text = world.run(Login::Operator, &["doctor", "--policy", "policy.toml"]);
    assert!(text.stdout.contains("ok   clocks: "), "{}", text.stdout);
}

#[tokio::test]
async fn doctor_has_a_fix_beside_each_failure_of_the_database() {
    let world = World::new().await;
    let broken = |ran: &Ran, what: &str| {
        assert_eq!(ran.code, 7, "{}", ran.stdout);
        let (state, seen, fix) = finding(ran, what);
        assert_eq!(state, "broken", "{what}: {seen}");
        (seen, fix)
    };
    let url = "ROTA__DATABASE__URL";
    let (seen, fix) =
        broken(&doctor(&world, Login::Operator, &[(url, "postgres://x@127.0.0.1:1/x")]), "state database");
    assert!(seen.contains("refused") && fix.contains("is it running"), "{seen}; {fix}");
    let wrong = world.database.url_as(&world.login(Login::Operator), "wrong").unwrap();
    let (seen, fix) = broken(&doctor(&world, Login::Operator, &[(url, &wrong)]), "state database");
    assert!(seen.contains("check the login") && !seen.contains("wrong") && !fix.is_empty(), "{seen}; {fix}");
    let (seen, fix) = broken(&doctor(&world, Login::Operator, &[(url, "")]), "state database");
    assert!(seen.contains("not set") && fix.contains("ROTA__DATABASE__URL_FILE"), "{seen}; {fix}");
    let (_, fix) = broken(&doctor(&world, Login::Nobody, &[]), "grants");
    assert!(fix.contains("GRANT rota_operator, rota_auditor TO"), "{fix}");

    let other = world.database.endpoint().fresh_database().await.unwrap();
    let (seen, fix) = broken(&doctor(&world, Login::Operator, &[(url, other.url())]), "schema");
    assert!(seen.contains("lacks migration 1") && fix == "rota migrate", "{seen}; {fix}");
    world
        .database
        .execute("UPDATE rota.incarnations SET suspended_because = 'a mark is ahead'")
        .await
        .unwrap();
    for login in [Login::Operator, Login::Daemon] {
        let (seen, fix) = broken(&doctor(&world, login, &[]), "database identity");
        assert!(seen.contains("a mark is ahead") && fix == "rota recover", "{seen}; {fix}");
    }
    world.database.execute("UPDATE rota.compatibility SET minimum_binary = '999.1.0'").await.unwrap();
    let (seen, fix) = broken(&doctor(&world, Login::Operator, &[]), "schema");
    assert!(seen.contains("needs rota 999.1.0") && fix.contains("install"), "{seen}; {fix}");
}

#[tokio::test]
async fn doctor_has_a_fix_beside_each_failure_of_policy_stores_checks_and_channels() {
    let world = World::new().await;
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let consumer = format!(
        "[consumer.api]\nrollout = {{ kind = \"reread\", within = \"1s\" }}\n\
         checks = [{{ kind = \"http\", url = \"http://{closed}/health\" }}]\n\n[secret.SLOW]"
    );
    let text = POLICY.replace("[secret.SLOW]", &consumer).replacen(
        "consumers = \"none\"",
        "consumers = [\"api\"]",
        1,
    );
    world.write_policy(&text.replace("{folder}/app.env", "{folder}/absent/app.env"));
    let hook = world.write("slack", "https://hooks.slack.com/services/T0/B0/hunter2\n");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o644)).unwrap();
    let slack = ("ROTA__SLACK__WEBHOOK_URL_FILE", hook.to_str().unwrap());
    let ran = doctor(&world, Login::Operator, &[slack]);
    assert_eq!(ran.code, 7);
    let (state, seen, fix) = finding(&ran, "store env");
    assert!(state == "broken" && seen.contains("absent") && !fix.is_empty(), "{seen}; {fix}");
    let (state, seen, fix) = finding(&ran, "check api/http");
    assert!(state != "well" && !seen.is_empty() && !fix.is_empty(), "{state} {seen}; {fix}");
    let (state, _, fix) = finding(&ran, "channel slack");
    assert_eq!((state.as_str(), fix), ("broken", format!("chmod 600 {}", hook.display())));
    let (state, _, fix) = finding(&ran, "daemon");
    assert!(state == "doubtful" && fix.contains("rota serve"));
    assert!(!ran.stdout.contains("hunter2"));

    world.write("policy.toml", "version = 7");
    let (state, seen, fix) = finding(&doctor(&world, Login::Operator, &[]), "policy");
    assert!(state == "broken" && seen.contains("error") && fix == "rota policy lint", "{seen}; {fix}");
    let absent = [("ROTA__POLICY__SOURCE", "absent.toml")];
    let (_, seen, fix) = finding(&doctor(&world, Login::Operator, &absent), "policy");
    assert!(seen.contains("absent.toml") && fix.contains("policy.source"), "{seen}; {fix}");
    let keyless = [("ROTA__ENV_FILE__KEY_FILE", "/absent/key")];
    world.write_policy(POLICY);
    let (_, seen, _) = finding(&doctor(&world, Login::Operator, &keyless), "store env");
    assert!(seen.contains("rota env-file key"), "{seen}");
}

fn slack(world: &World, fake: &SlackFake) -> [(String, String); 2] {
    let second = fake.add_webhook("second");
    let file = |name: &str, url: &str| world.write(name, &format!("{url}\n")).display().to_string();
    [
        ("ROTA__SLACK__WEBHOOK_URL_FILE".to_owned(), file("first.url", &fake.url())),
        ("ROTA__SLACK__FALLBACK_URL_FILE".to_owned(), file("second.url", &second)),
    ]
}

#[tokio::test]
async fn a_test_message_goes_every_way_and_a_dead_first_webhook_shows_although_the_fallback_works() {
    let world = World::new().await;
    let fake = SlackFake::start(Listen::default()).unwrap();
    let settings = slack(&world, &fake);
    let test = || {
        let mut command = world.command(Login::Nobody, &["notify", "test", "--json"]);
        finish(command.envs(settings.clone()).output().unwrap())
    };
    let ran = test();
    assert_eq!((ran.code, ran.json()["ok"].clone()), (0, Value::Bool(true)), "{}", ran.stderr);
    let mut webhooks: Vec<_> = fake.received().into_iter().map(|message| message.webhook).collect();
    webhooks.sort();
    assert_eq!(webhooks, ["first", "second"]);
    assert!(fake.received()[0].whole().contains("This is a test"), "{}", fake.received()[0].whole());

    fake.set_standing("first", Standing::NoService);
    let ran = test();
    assert_eq!(ran.code, 7);
    let channels = ran.json()["channels"].clone();
    assert!(
        channels[0]["error"].as_str().unwrap().contains("removed or disabled")
            && channels[1]["error"].is_null(),
        "{channels}"
    );
    assert!(!ran.stdout.contains("/services/"), "the webhook's address is a secret");

    let daemon = world.daemon_with(|command| {
        command.envs(settings.clone());
    });
    let troubles = daemon.wait_for("/readyz", "messages go to the fallback");
    assert!(
        troubles.starts_with("HTTP/1.1 200") && troubles.contains("channel slack fallback"),
        "{troubles}"
    );
    daemon.wait_for("/metrics", "rota_channel_fallback{channel=\"slack\"} 1");
    daemon.wait_for("/metrics", "rota_channel_up{channel=\"slack\"} 1");
    let health = world.run(Login::Nobody, &["health", "--address", &daemon.address()]);
    assert!(health.code == 0 && health.stdout.contains("fallback"), "{}", health.stdout);

    fake.set_standing("first", Standing::Active);
    world.ok(&["rotate", "QUICK", "--reason", "something to tell"]);
    daemon.wait_for("/metrics", "rota_channel_fallback{channel=\"slack\"} 0");
    assert!(!daemon.body("/readyz").contains("fallback"));
}

#[tokio::test]
async fn both_ways_dead_is_a_trouble_that_doctor_and_health_tell() {
    let world = World::new().await;
    let fake = SlackFake::start(Listen::default()).unwrap();
    let settings = slack(&world, &fake);
    fake.set_standing("first", Standing::ChannelIsArchived);
    fake.set_standing("second", Standing::InvalidToken);
    let daemon = world.daemon_with(|command| {
        command.envs(settings.clone());
    });
    daemon.wait_for("/readyz", "failed deliveries in a row");
    let (state, seen, fix) = finding(&doctor(&world, Login::Operator, &[]), "messages on slack");
    assert!(
        state == "broken" && seen.contains("waiting") && fix.contains("rota notify test"),
        "{seen}; {fix}"
    );
}

#[tokio::test]
async fn without_a_channel_a_test_message_is_refused() {
    let world = World::new().await;
    let ran = world.run(Login::Nobody, &["notify", "test"]);
    assert!(ran.code == 3 && ran.stderr.contains("slack.webhook_url_file"), "{}", ran.stderr);
}

#[tokio::test]
async fn health_says_in_words_why_a_daemon_is_not_ready() {
    let world = World::new().await;
    let daemon = world.start_daemon(|command| {
        command.env("ROTA__DATABASE__URL", "postgres://x@127.0.0.1:1/x");
    });
    daemon.wait_for("/readyz", "refused");
    let health = |arguments: &[&str]| {
        world.run(Login::Nobody, &[&["health", "--address", &daemon.address()], arguments].concat())
    };
    let ran = health(&[]);
    assert!(ran.code == 7 && ran.stdout.starts_with("not ready\ndatabase: "), "{}", ran.stdout);
    assert_eq!(
        (health(&["--json"]).json()["ready"].clone(), health(&["--live"]).code),
        (Value::Bool(false), 0)
    );
    let none = world.run(Login::Nobody, &["health", "--address", "127.0.0.1:1"]);
    assert!(none.code == 7 && none.stderr.contains("rota serve"), "{}", none.stderr);
}

#[tokio::test]
async fn a_replaced_env_file_is_put_back_from_its_sealed_copy() {
    let world = World::new().await;
    let daemon = world.daemon();
    let before = world.read("app.env");
    world.ok(&["rotate", "QUICK", "--reason", "x"]);
    world.wait("QUICK", "done", |status| !status["last_promoted_at"].is_null() && status["phase"].is_null());
    drop(daemon);
    let after = world.read("app.env");
    assert_ne!(before, after);
    let policy = ["--policy", "policy.toml"];
    let listed = world.ok(&[&["env-file", "backups", "env", "--json"], &policy[..]].concat()).json();
    assert_eq!(listed["backups"][0]["number"], 1);
    let restore = |more: &[&str]| {
        world.run(Login::Nobody, &[&["env-file", "restore", "env"], more, &policy[..]].concat())
    };
    let asked = restore(&["1"]);
    assert!(asked.code == 8 && world.read("app.env") == after, "{}", asked.stderr);
    assert_eq!(restore(&["99", "--yes", "--reason", "x"]).code, 6);
    assert_eq!(restore(&["1", "--yes"]).code, 2, "a reason is needed");
    assert_eq!(world.run(Login::Nobody, &["env-file", "backups", "nope", "--policy", "policy.toml"]).code, 6);

    let command =
        world.command(Login::Nobody, &["env-file", "restore", "env", "1", "--policy", "policy.toml"]);
    let mut terminal = Terminal::run(world.folder.path(), &command);
    terminal.answer("Type env to go on:", "env");
    terminal.answer("Why (kept in the history):", "the new value broke the application");
    let (code, shown) = terminal.ended();
    // Whoever may not write history may have a file to save all the same.
    assert!(code == 0 && shown.contains("history does not know of it"), "{shown}");
    assert!(world.read("app.env").ends_with(&before), "under our comment the old file stands again");
    let listed = world.ok(&[&["env-file", "backups", "env", "--json"], &policy[..]].concat()).json();
    let last = listed["backups"].as_array().unwrap().last().unwrap()["number"].to_string();
    let arguments = ["env-file", "restore", "env", &last, "--yes", "--reason", "it was right", "--json"];
    let back = world.ok(&[&arguments, &policy[..]].concat()).json();
    assert_eq!((back["restored"].to_string(), &back["recorded"]), (last, &true.into()));
    let kept = "SELECT detail ->> 'reason' FROM rota.history WHERE kind = 'env_file.restored'";
    assert_eq!(world.ask(kept).await.as_deref(), Some("it was right"));
    assert!(
        world.read("app.env").contains(after.lines().last().unwrap()),
        "what was replaced was sealed, too"
    );
}

#[tokio::test]
async fn a_restored_database_is_compared_with_the_stores_and_goes_on() {
    let world = World::new().await;
    let daemon = world.daemon();
    world.ok(&["rotate", "QUICK", "--reason", "x"]);
    world.wait("QUICK", "done", |status| !status["last_promoted_at"].is_null() && status["phase"].is_null());
    let needless = world.run(Login::Operator, &["recover", "--yes", "--reason", "x"]);
    assert!(needless.code == 5 && needless.stderr.contains("nothing to recover"), "{}", needless.stderr);
    world.ok(&["rotate", "SLOW", "--reason", "x"]);
    world.wait_for_step("SLOW", "watch");
    drop(daemon);

    world
        .database
        .execute("UPDATE rota.incarnations SET system_identifier = 'another server'")
        .await
        .unwrap();
    let daemon = world.start_daemon(|_| {});
    let refused = daemon.wait_for("/readyz", "rota recover");
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    let told = "SELECT notice ->> 'command' FROM rota.outbox WHERE key = 'recovery:1'";
    let told = world.ask(told).await.unwrap();
    assert!(told.contains("rota recover --dry-run"), "{told}");
    drop(daemon);
    let same = world.ok(&["recover", "--dry-run", "--json"]).json();
    assert_eq!(same["places"][0]["state"], "same");
    assert_eq!(same["begun"], Value::Null);

    // Somebody, or a rotation after the backup, has written the file.
    let file = world.read("app.env").replace("SLOW_LIST=", "ADDED=1\nSLOW_LIST=");
    world.write("app.env", &file);
    let dry = world.run(Login::Operator, &["recover", "--dry-run"]);
    assert!(dry.code == 7 && dry.stdout.contains("DIFFERS"), "{} {}", dry.code, dry.stdout);
    assert_eq!(world.run(Login::Operator, &["recover", "--reason", "x"]).code, 8, "it has to be confirmed");
    let begun = world.run(
        Login::Operator,
        &["recover", "--yes", "--reason", "the backup of last night", "--number", "7", "--json"],
    );
    assert_eq!(begun.code, 0, "{}", begun.stderr);
    assert_eq!((&begun.json()["begun"], &begun.json()["stopped"]), (&7.into(), &3.into()));
    let status = world.status("QUICK");
    assert!(status["blocked_by"].as_str().unwrap().contains("after a recovery"), "{status}");

    let free = "UPDATE rota.rotations SET lease_until = now() WHERE holder = 'recovery'";
    world.database.execute(free).await.unwrap();
    let _daemon = world.daemon();
    let held = world.wait("SLOW", "held", |status| !status["held"].is_null());
    assert!(held["held"]["why"].as_str().unwrap().contains("after a recovery"), "{held}");
    let blocked = world.run(Login::Operator, &["rotate", "QUICK", "--reason", "x"]);
    assert!(blocked.code == 5 && blocked.stderr.contains("rota reconcile"), "{}", blocked.stderr);
    world.ok(&["reconcile", "QUICK", "--yes", "--reason", "one value is published"]);
    world.ok(&["rotate", "QUICK", "--reason", "x"]);
    let rotations =
        || world.ok(&["history", "QUICK", "--json"]).json()["rotations"].as_array().unwrap().len();
    world.wait("QUICK", "a second rotation", |status| status["phase"].is_null() && rotations() == 2);
    assert!(world.read("app.env").contains("ADDED=1"), "what somebody added stays");
    let twice = world.run(Login::Operator, &["recover", "--yes", "--reason", "x"]);
    assert_eq!(twice.code, 5);
}

#[tokio::test]
async fn a_database_that_is_behind_an_env_file_stops_before_it_writes() {
    let world = World::new().await;
    let daemon = world.daemon();
    world.ok(&["rotate", "QUICK", "--reason", "x"]);
    world.wait("QUICK", "done", |status| !status["last_promoted_at"].is_null() && status["phase"].is_null());
    drop(daemon);
    let file = world.read("app.env");
    // What a failover leaves that lost the last commits: the server is the same one.
    world.database.execute("ALTER SEQUENCE rota.epochs RESTART WITH 1").await.unwrap();
    let daemon = world.start_daemon(|_| {});
    let refused = daemon.wait_for("/readyz", "was changed under incarnation 1 epoch");
    assert!(refused.contains("store `env`") && refused.contains("rota recover"), "{refused}");
    world.ok(&["rotate", "SLOW", "--reason", "x"]);
    let dry = world.ok(&["recover", "--dry-run"]).stdout;
    assert!(dry.contains("cannot go on") && dry.contains("was changed under incarnation 1"), "{dry}");
    assert_eq!(world.read("app.env"), file);
    let begun = world.run(Login::Operator, &["recover", "--yes", "--reason", "compared", "--json"]);
    assert_eq!(begun.code, 0, "{}", begun.stderr);
    let free = "UPDATE rota.secrets SET postponed_until = NULL, postponed_why = NULL";
    world.database.execute(free).await.unwrap();
    world.wait_for_step("SLOW", "watch");
    assert!(daemon.wait_for("/readyz", "200").starts_with("HTTP/1.1 200"), "it goes on by itself");
}
