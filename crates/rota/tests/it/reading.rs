//! What people read: status, plan, history, and JSON of everything.

use serde_json::{Map, Value};

use crate::world::{Daemon, Login, POLICY, World};

/// A finished rotation of QUICK, one of SLOW in its watch, PROVIDER_KEY waiting for a person.
async fn busy() -> (World, Daemon) {
    let world = World::new().await;
    let daemon = world.daemon();
    world.ok(&["rotate", "QUICK", "--reason", "a, \"quoted\" reason"]);
    world.wait("QUICK", "done", |status| !status["last_promoted_at"].is_null() && status["phase"].is_null());
    world.ok(&["rotate", "SLOW", "--reason", "=1+1"]);
    world.wait_for_step("SLOW", "watch");
    world.ok(&["rotate", "PROVIDER_KEY", "--reason", "yearly"]);
    world.wait_for_step("PROVIDER_KEY", "stage");
    (world, daemon)
}

#[tokio::test]
async fn history_comes_as_table_json_csv_and_as_the_runbooks_write_it() {
    let (world, _daemon) = busy().await;
    let who = format!("ann ({})", world.login(Login::Operator));

    let table = world.ok(&["history"]).stdout;
    assert!(table.starts_with("STARTED"), "{table}");
    let quick = table.lines().find(|line| line.contains("QUICK")).unwrap();
    assert!(quick.contains("completed") && quick.contains(&who), "{quick}");

    let json = world.ok(&["history", "QUICK", "--format", "json"]).json();
    let rotation = &json["rotations"][0];
    assert_eq!((&rotation["outcome"], &rotation["cause"]), (&"completed".into(), &"requested".into()));

    let csv = world.ok(&["history", "--csv"]).stdout;
    assert!(csv.starts_with("secret,rotation,state,cause,by,reason,"), "{csv}");
    assert!(csv.contains(",\"a, \"\"quoted\"\" reason\","), "{csv}");
    assert!(csv.contains(",'=1+1,"), "no cell is a formula: {csv}");
    assert_eq!(csv, world.ok(&["history", "--format", "csv"]).stdout);

    let lines = world.ok(&["history", "--format", "runbook"]).stdout;
    let (time, rest) = lines.trim_end().split_once(" | ").unwrap();
    assert_eq!(rest, format!("QUICK | ROTATED | {who} | staging | SUCCESS"));
    assert!(time.len() == "2026-01-15 10:00:00 UTC".len() && time.ends_with(" UTC"), "{time}");

    let events = world.ok(&["history", "QUICK", "--events", "--csv"]).stdout;
    assert!(events.starts_with("chain,seq,at,event,") && events.contains(",order.given,"), "{events}");
    for part in ["--events", "--rollouts"] {
        let usage = world.run(Login::Auditor, &["history", part, "--format", "runbook"]);
        assert_eq!(usage.code, 2);
    }
    assert_eq!(world.run(Login::Auditor, &["history", "NOBODY"]).code, 6);
    let future = world.ok(&["history", "--since", "2199-01-01", "--json"]).json();
    assert_eq!(future["rotations"], Value::Array(Vec::new()));
    assert_eq!(
        world.ok(&["history", "--limit", "1", "--json"]).json()["rotations"][0]["secret"],
        "PROVIDER_KEY"
    );
}

#[tokio::test]
async fn history_shows_the_rollouts_that_served_a_secret() {
    let world = World::new().await;
    let consumer = "[consumer.api]\nrollout = { kind = \"reread\", within = \"1s\" }\n\
        unmonitored = \"a test\"\n\n[secret.QUICK]";
    let policy = POLICY
        .replace("[secret.QUICK]", consumer)
        .replace("consumers = \"none\"\ncadence = \"30d\"", "consumers = [\"api\"]\ncadence = \"30d\"");
    world.write_policy(&policy);
    let _daemon = world.daemon();
    world.ok(&["rotate", "QUICK", "--reason", "x"]);
    world.wait("QUICK", "done", |status| !status["last_promoted_at"].is_null() && status["phase"].is_null());

    let rotation = &world.ok(&["history", "QUICK", "--json"]).json()["rotations"][0];
    let rollout = &rotation["rollouts"][0];
    assert_eq!((&rollout["consumer"], &rollout["state"]), (&"api".into(), &"finished".into()));
    assert_eq!(rollout["rotation"], rotation["rotation"]);
    let alone = world.ok(&["history", "QUICK", "--rollouts", "--json"]).json();
    assert_eq!(alone["rollouts"], rotation["rollouts"]);
    let count = rotation["rollouts"].as_array().unwrap().len();
    let table = world.ok(&["history", "QUICK"]).stdout;
    assert!(table.contains(&format!("{count} finished")), "{table}");
    let table = world.ok(&["history", "QUICK", "--rollouts"]).stdout;
    assert!(table.starts_with("ASKED") && table.contains("promote_rollout"), "{table}");
    let csv = world.ok(&["history", "QUICK", "--rollouts", "--csv"]).stdout;
    assert!(csv.starts_with("secret,rotation,step,asked,consumer,generation,state,"), "{csv}");
    assert!(csv.contains(",api,1,finished,"), "{csv}");
    let csv = world.ok(&["history", "QUICK", "--csv"]).stdout;
    assert!(csv.trim_end().ends_with(&format!(",{count} finished")), "{csv}");
    let events = world.ok(&["history", "QUICK", "--events"]).stdout;
    for kind in ["rollout.asked", "rollout.intended", "rollout.begun", "rollout.finished"] {
        assert!(events.contains(kind), "{kind}: {events}");
    }
    let none = world.ok(&["history", "SLOW", "--rollouts", "--json"]).json();
    assert_eq!(none["rollouts"], Value::Array(Vec::new()));
    world.ok(&["history", "verify"]);
}

#[tokio::test]
async fn history_is_verified_against_an_anchor_and_exported_for_others() {
    let (world, _daemon) = busy().await;
    let verified = world.ok(&["history", "verify", "--json"]).json();
    assert_eq!(verified["whole"], true);
    let number = world.ask("SELECT (rota.seal_history()).number::text").await.unwrap();
    let hash = "SELECT encode(hash, 'hex') FROM rota.checkpoints ORDER BY number DESC LIMIT 1";
    let anchor = format!("checkpoint {number} sha256:{}", world.ask(hash).await.unwrap());
    world.write("anchors", &format!("ann: good morning\nrota: {anchor}\n"));
    world.ok(&["history", "verify", "--anchors", "anchors"]);
    let (name, hash) = anchor.split_once("sha256:").unwrap();
    let other = format!("{name}sha256:{}{}", &hash[1..], &hash[..1]);
    let broken = world.run(Login::Auditor, &["history", "verify", "--anchor", &other]);
    assert!(
        broken.code == 7 && broken.stderr.contains("docs/auditing.md"),
        "{} {}",
        broken.code,
        broken.stderr
    );
    world.write("empty", "nothing\n");
    assert_eq!(world.run(Login::Auditor, &["history", "verify", "--anchors", "empty"]).code, 3);

    let lines = world.ok(&["history", "export"]).stdout;
    let rows =
        lines.lines().filter(|line| serde_json::from_str::<Value>(line).unwrap()["row"].is_object()).count();
    let file = world.ok(&["history", "export", "--output", "history.jsonl", "--json"]).json();
    assert!(file["rows"].as_u64().unwrap() >= u64::try_from(rows).unwrap() && rows > 10);
    assert!(world.path("history.jsonl").is_file());
    assert_eq!(world.run(Login::Auditor, &["history", "export", "-o", "absent/x"]).code, 3);
}

#[tokio::test]
async fn a_plan_tells_what_when_why_and_whose_rollouts_are_shared() {
    let world = World::new().await;
    world.write_policy(
        &POLICY
            .replace("[secret.SLOW]", "[consumer.api]\nrollout = { kind = \"reread\", within = \"1s\" }\nunmonitored = \"a test\"\n\n[secret.SLOW]")
            .replace("consumers = \"none\"\ncadence = \"90d\"", "consumers = [\"api\"]\ncadence = \"30d\"")
            .replace("consumers = \"none\"\ncadence = \"30d\"", "consumers = [\"api\"]\ncadence = \"30d\""),
    );
    let _daemon = world.daemon();
    let plan = world.ok(&["plan", "--days", "70", "--json"]).json();
    let rotations = plan["rotations"].as_array().unwrap();
    let of = |name: &str| rotations.iter().filter(|ahead| ahead["secret"] == name).collect::<Vec<_>>();
    assert_eq!((of("SLOW").len(), of("QUICK").len(), of("PROVIDER_KEY").len()), (2, 2, 0));
    assert_eq!(of("SLOW")[0]["why"], "every 30d, age unknown");
    assert_eq!(of("SLOW")[0]["shares"], serde_json::json!(["QUICK"]), "one consumer, one time");
    let table = world.ok(&["plan", "--days", "70"]).stdout;
    assert!(table.lines().any(|line| line.contains("SLOW") && line.contains("QUICK")), "{table}");
    let nothing = world.ok(&["plan", "--days", "1"]);
    assert!(nothing.stderr.contains("nothing starts within 1 days"), "{}", nothing.stderr);

    world.write("other.toml", &world.read("policy.toml").replace("cadence = \"30d\"", "cadence = \"10d\""));
    let other = world.ok(&["plan", "--days", "70", "--policy", "other.toml", "--json"]).json();
    assert!(other["rotations"].as_array().unwrap().len() > rotations.len(), "the policy that was named");
    for days in ["0", "-1", "4000", "x"] {
        assert_eq!(world.run(Login::Auditor, &["plan", "--days", days]).code, 2, "{days}");
    }
}

#[tokio::test]
async fn status_is_watched_change_by_change() {
    let (world, _daemon) = busy().await;
    let mut command = world.command(Login::Auditor, &["status", "SLOW", "--watch", "--json"]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    assert_eq!(lines.next().unwrap()["secret"]["step"], "watch");
    world.ok(&["hold", "SLOW", "--reason", "look"]);
    let held = lines.find(|line| line["secret"]["phase"] == "held").unwrap();
    assert_eq!(held["secret"]["reached"], "monitor");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(world.run(Login::Auditor, &["status", "NOBODY", "--watch"]).code, 6);
}

/// The document's form: every key with the kind of its value, of lists the first item.
fn form(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "truth".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "text".into(),
        Value::Array(items) => Value::Array(items.iter().take(1).map(form).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), form(value))).collect::<Map<_, _>>())
        }
    }
}

#[tokio::test]
async fn every_command_prints_one_json_document_of_a_known_form() {
    let (world, daemon) = busy().await;
    world.write("good.env", "A=1\n");
    let address = daemon.address();
    let health = ["health", "--address", &address];
    let commands: [&[&str]; 20] = [
        &["status"],
        &["status", "SLOW"],
        &["plan", "--days", "40"],
        &["history", "QUICK"],
        &["history", "QUICK", "--events", "--limit", "1"],
        &["history", "verify"],
        &["history", "export", "-o", "out"],
        &["policy", "lint", "policy.toml"],
        &["policy", "diff", "--policy", "policy.toml"],
        &["policy", "accept", "--policy", "policy.toml", "--reason", "x"],
        &["config", "show"],
        &["doctor", "--policy", "policy.toml"],
        &health,
        &["health", "--live", "--address", &address],
        &["env-file", "key", "other.key"],
        &["env-file", "backups", "env", "--policy", "policy.toml"],
        &["env-file", "restore", "env", "1", "--yes", "--reason", "x", "--policy", "policy.toml"],
        &["hold", "SLOW", "--reason", "x"],
        &["completions", "bash"],
        &["man", "pages"],
    ];
    let mut forms = String::new();
    for arguments in commands {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let ran = world.run(Login::Operator, &arguments);
        assert!(ran.stderr.is_empty(), "{arguments:?}: {}", ran.stderr);
        let shown = arguments.join(" ").replace(&address, "ADDRESS");
        forms.push_str(&format!("{shown}\n  {}\n", form(&ran.json())));
    }
    insta::assert_snapshot!("json_of_every_command", forms);
    for arguments in [&["policy", "show", "--policy", "policy.toml"][..], &["policy", "schema"], &["man"]] {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        assert!(world.run(Login::Operator, &arguments).json().is_object(), "{arguments:?}");
    }
}

#[tokio::test]
async fn every_error_is_json_with_json_and_says_the_word_of_its_code() {
    let world = World::new().await;
    let unreachable = "postgres://x@127.0.0.1:1/x";
    let cases: [(&[&str], Option<&str>, i32, &str); 7] = [
        (&["rotat"], None, 2, "usage"),
        (&["rotate"], None, 2, "usage"),
        (&["policy", "lint", "absent.toml"], None, 3, "invalid"),
        (&["status"], Some(unreachable), 4, "unavailable"),
        (&["recover", "--yes", "--reason", "x"], None, 5, "refused"),
        (&["status", "NOBODY"], None, 6, "not_found"),
        (&["health", "--address", "127.0.0.1:1"], None, 7, "unhealthy"),
    ];
    for (arguments, url, code, word) in cases {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
        let mut command = world.command(Login::Operator, &arguments);
        if let Some(url) = url {
            command.env("ROTA__DATABASE__URL", url);
        }
        let ran = crate::support::finish(command.output().unwrap());
        let error: Value = serde_json::from_str(&ran.stderr).unwrap_or_else(|_| panic!("{}", ran.stderr));
        assert_eq!((ran.code, &error["error"]["exit"]), (code, &word.into()), "{arguments:?}");
        assert!(!error["error"]["message"].as_str().unwrap().is_empty());
        assert!(ran.stdout.is_empty(), "{arguments:?}: {}", ran.stdout);
    }
}
