//! Commands that need neither a database nor a store.

use crate::support::{Ran, command, finish, run};

const GOOD: &str = r#"
version = 1
application = "acd"
environment = "development"

[store.app]
kind = "env-file"
path = "/srv/app/.env"

[secret.SESSION_SECRET]
kind = "generated"
format = "hex:64"
class = "signing"
stores = ["app"]
consumers = "none"
cadence = "90d"
overlap = "7d"
token_ttl = "7d"
publish = { list = "SESSION_SECRETS" }
"#;

fn folder(policy: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("policy.toml"), policy).unwrap();
    folder
}

#[test]
fn a_good_policy_passes_and_has_a_digest() {
    let folder = folder(GOOD);
    let ran = run(folder.path(), &["policy", "lint", "policy.toml", "--json"]);
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    let document = ran.json();
    assert_eq!(document["ok"], true);
    assert_eq!(document["digest"].as_str().unwrap().len(), 64);
}

#[test]
fn a_mistake_is_shown_on_its_line_and_ends_with_code_3() {
    let folder = folder(&GOOD.replace("cadence = \"90d\"", "cadance = \"90d\""));
    let ran = run(folder.path(), &["policy", "lint", "policy.toml"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stdout.contains("cadance = \"90d\""), "{}", ran.stdout);
    assert!(ran.stdout.contains("^^^^^^^"), "{}", ran.stdout);
    assert!(ran.stdout.contains("= help: "), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}'), "no colour into a pipe");
}

#[test]
fn files_that_are_no_policy_are_refused_without_a_panic() {
    let folder = folder("");
    let path = folder.path().join("policy.toml");
    let contents: [(&str, Vec<u8>); 5] = [
        ("empty", Vec::new()),
        ("binary", vec![0xff, 0xfe, 0, 1, 2]),
        ("truncated", GOOD.as_bytes()[..GOOD.len() / 2].to_vec()),
        ("huge", b"# x\n".repeat(400_000)),
        ("nul", b"version = 1\0".to_vec()),
    ];
    for (what, bytes) in contents {
        std::fs::write(&path, bytes).unwrap();
        let ran = run(folder.path(), &["policy", "lint", "policy.toml"]);
        assert_eq!(ran.code, 3, "{what}: {}{}", ran.stdout, ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{what}: {}", ran.stderr);
    }
    let ran = run(folder.path(), &["policy", "lint", "absent.toml"]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("absent.toml"), "{}", ran.stderr);
}

#[test]
fn strict_turns_warnings_into_errors() {
    let folder = folder(&GOOD.replace("development", "production").replace("hex:64", "hex:32"));
    assert_eq!(run(folder.path(), &["policy", "lint", "policy.toml"]).code, 0);
    assert_eq!(run(folder.path(), &["policy", "lint", "policy.toml", "--strict"]).code, 3);
}

#[test]
fn the_schema_is_json_and_knows_every_kind_of_store() {
    let folder = folder(GOOD);
    let ran = run(folder.path(), &["policy", "schema"]);
    assert_eq!(ran.code, 0);
    assert!(ran.json()["$defs"].as_object().unwrap().contains_key("store.env-file"));
}

#[test]
fn showing_one_secret_fills_every_default_in() {
    let folder = folder(GOOD);
    let ran = run(folder.path(), &["policy", "show", "SESSION_SECRET", "--policy", "policy.toml"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(ran.json()["secret"]["priority"], "medium");
    let ran = run(folder.path(), &["policy", "show", "NOBODY", "--policy", "policy.toml"]);
    assert_eq!(ran.code, 6);
}

#[test]
fn the_configuration_names_the_source_of_each_value_and_hides_secrets() {
    let folder = folder(GOOD);
    let mut command = command(folder.path(), &["config", "show", "--set", "daemon.workers=3"]);
    command.env("ROTA__DATABASE__URL", "postgres://rota:hunter2@db/rota").env("ROTA__DAEMON__WAKE", "7s");
    let ran: Ran = finish(command.output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(!ran.stdout.contains("hunter2"));
    let line = |key: &str| {
        let line = ran.stdout.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("daemon.workers"), "daemon.workers 3 --set");
    assert_eq!(line("daemon.wake"), "daemon.wake 7s ROTA__DAEMON__WAKE");
    assert_eq!(line("daemon.lease"), "daemon.lease 120s built-in default");
    assert_eq!(line("database.url"), "database.url (set, not shown) ROTA__DATABASE__URL");
}

#[test]
fn mistakes_on_the_command_line_end_with_code_2_and_errors_can_be_json() {
    let folder = folder(GOOD);
    assert_eq!(run(folder.path(), &["rotat"]).code, 2);
    assert_eq!(run(folder.path(), &["config", "show", "--set", "nothing"]).code, 2);
    let ran = run(folder.path(), &["config", "show", "--json", "--set", "daemon.workers=many"]);
    assert_eq!(ran.code, 3);
    let error: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
    assert_eq!(error["error"]["exit"], "invalid");
    assert!(error["error"]["message"].as_str().unwrap().contains("daemon.workers"));
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let folder = folder(GOOD);
    for shell in ["bash", "zsh", "fish"] {
        let ran = run(folder.path(), &["completions", shell]);
        assert!(ran.code == 0 && ran.stdout.contains("policy"), "{shell}");
    }
    assert!(run(folder.path(), &["man"]).stdout.contains(".TH rota"));
    assert_eq!(run(folder.path(), &["man", "pages"]).code, 0);
    assert!(folder.path().join("pages/rota-policy-lint.1").is_file());
}

#[test]
fn output_into_a_closed_pipe_is_no_error() {
    let folder = folder(GOOD);
    let mut child = command(folder.path(), &["policy", "schema"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ran = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(ran.stderr).unwrap(), "");
}

#[test]
fn a_providers_file_is_checked_before_a_daemon_reads_it() {
    let folder = folder(GOOD);
    let shipped = include_str!("../../../../config/providers/resend.toml");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("acme.toml", &shipped.replace("name    = \"resend\"", "name = \"acme\""));
    let ran = run(folder.path(), &["provider", "lint", "acme.toml", "--json"]);
    assert_eq!((ran.code, &ran.json()["ok"]), (0, &true.into()), "{}", ran.stderr);

    write(
        "wrong.toml",
        &shipped.replace("https://api.resend.com", "http://api.resend.com").replace("{name}", "{nme}"),
    );
    write("broken.toml", "name = \n");
    let ran = run(folder.path(), &["provider", "lint", "acme.toml", "wrong.toml", "broken.toml"]);
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    for wanted in
        ["wrong.toml: `base`: ", "nothing fills `{nme}`", "write one of `{domain_id}`", "broken.toml: line 1"]
    {
        assert!(ran.stdout.contains(wanted), "`{wanted}` is missing: {}", ran.stdout);
    }
    assert_eq!(run(folder.path(), &["provider", "lint", "absent.toml"]).code, 3);
    assert_eq!(run(folder.path(), &["provider", "lint"]).code, 2);

    let providers = folder.path().join("providers");
    std::fs::create_dir(&providers).unwrap();
    std::fs::rename(folder.path().join("acme.toml"), providers.join("acme.toml")).unwrap();
    let set = format!("providers.folder={}", providers.display());
    let listed = run(folder.path(), &["provider", "list", "--json", "--set", &set]).json();
    let names =
        listed["providers"].as_array().unwrap().iter().map(|provider| provider["name"].as_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["acme", "openai", "resend", "sentry", "twilio"]);
    std::fs::rename(folder.path().join("wrong.toml"), providers.join("wrong.toml")).unwrap();
    let ran = run(folder.path(), &["provider", "list", "--set", &set]);
    assert_eq!(ran.code, 3);
    assert!(ran.stderr.contains("`base`"), "{}", ran.stderr);
}
