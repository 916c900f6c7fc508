use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::exit::Exit;

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// A folder whose files are written first.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn places(folder: &tempfile::TempDir, environment: Option<&str>, flags: &[(&str, &str)]) -> Places {
    Places {
        folder: Some(folder.path().to_owned()),
        environment: environment.map(str::to_owned),
        flags: flags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
    }
}

fn source_of(configuration: &Configuration, key: &str) -> String {
    let entry = configuration.entries().iter().find(|entry| entry.key == key);
    entry.unwrap_or_else(|| panic!("{key} is not listed")).source.clone()
}

fn failure(places: &Places, pairs: &[(&str, &str)]) -> Failure {
    match Configuration::load(places, variables(pairs)) {
        Ok(_) => panic!("this configuration was accepted"),
        Err(failure) => failure,
    }
}

fn secret_file(folder: &tempfile::TempDir, text: &str, mode: u32) -> PathBuf {
    let path = folder.path().join("secret");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

#[test]
fn each_layer_covers_the_one_below_and_is_named() {
    let folder = folder(&[
        ("default.toml", "[daemon]\nworkers = 2\nwake = '2s'\nlease = '62s'\nstop_timeout = '12s'\n"),
        ("production.toml", "[daemon]\nwake = '3s'\nlease = '63s'\nstop_timeout = '13s'\n"),
    ]);
    let places = places(&folder, Some("production"), &[("daemon.stop_timeout", "15s")]);
    let environment = [("ROTA__DAEMON__LEASE", "64s"), ("ROTA__DAEMON__STOP_TIMEOUT", "14s")];
    let configuration = Configuration::load(&places, variables(&environment)).unwrap();
    let daemon = &configuration.settings.daemon;
    let seen = [daemon.wake.to_string(), daemon.lease.to_string(), daemon.stop_timeout.to_string()];
    assert_eq!(seen, ["3s", "1m4s", "15s"]);
    assert_eq!(daemon.workers.get(), 2);
    assert_eq!(source_of(&configuration, "daemon.listen"), "built-in default");
    assert!(source_of(&configuration, "daemon.workers").ends_with("default.toml"));
    assert!(source_of(&configuration, "daemon.wake").ends_with("production.toml"));
    assert_eq!(source_of(&configuration, "daemon.lease"), "ROTA__DAEMON__LEASE");
    assert_eq!(source_of(&configuration, "daemon.stop_timeout"), "--set");
}

#[test]
fn numbers_and_truths_can_come_as_text() {
    let environment = [("ROTA__DAEMON__WORKERS", "3"), ("ROTA__DATABASE__RDS_IAM", "true")];
    let configuration = Configuration::load(&Places::default(), variables(&environment)).unwrap();
    assert_eq!(configuration.settings.daemon.workers.get(), 3);
    assert!(configuration.settings.database.rds_iam);
}

#[test]
fn mistakes_name_the_key_and_where_it_stands() {
    let folder = folder(&[
        ("default.toml", ""),
        ("unknown.toml", "[daemon]\nlisten_on = '127.0.0.1:1'\n"),
        ("section.toml", "[deamon]\nlisten = '127.0.0.1:1'\n"),
        ("broken.toml", "[slack]\nwebhook_url = \"https://hooks.example/hunter2\n"),
        ("duration.toml", "[daemon]\nwake = '10 minutes'\n"),
        ("zero.toml", "[daemon]\nworkers = 0\n"),
        ("lease.toml", "[daemon]\nlease = '5s'\n"),
    ]);
    let mut texts = Vec::new();
    for environment in ["unknown", "section", "broken", "duration", "zero", "lease", "absent", "../up"] {
        let failure = failure(&places(&folder, Some(environment), &[]), &[]);
        assert_eq!(failure.exit, Exit::Invalid, "{failure}");
        texts.push(failure.to_string().replace(&folder.path().display().to_string(), "FOLDER"));
    }
    insta::assert_snapshot!(texts.join("\n"), @r#"
    `daemon.listen_on` (from FOLDER/unknown.toml): unknown field `listen_on`, expected one of `listen`, `replica`, `workers`, `wake`, `lease`, `stop_timeout`, `digest`
    `deamon` (from FOLDER/section.toml): unknown field `deamon`, expected one of `database`, `policy`, `daemon`, `retention`, `limits`, `http`, `env_file`, `providers`, `slack`, `webhook`, `vault`, `aws`, `telemetry`
    FOLDER/broken.toml:2:45: invalid basic string, expected `"`
    `daemon.wake` (from FOLDER/duration.toml): a duration is a number and a unit, such as `7d`, `24h`, `90s` or `1d12h`
    `daemon.workers` (from FOLDER/zero.toml): invalid value: integer `0`, expected a nonzero u32
    `daemon.lease` is 5s, too short for one slow call
    the environment absent has no FOLDER/absent.toml
    `../up` is not an environment's name
    "#);
}

#[test]
fn a_secret_is_never_quoted_whatever_is_wrong_with_the_rest() {
    let folder = folder(&[("default.toml", "[slack]\nwebhook_url = 'hunter2'\n")]);
    let all = [
        failure(&places(&folder, None, &[]), &[]),
        failure(&Places { flags: vec![("vault.token".into(), "hunter2".into())], ..Places::default() }, &[]),
        failure(
            &Places {
                flags: vec![("database.url".into(), "postgres://a:hunter2@h/d".into())],
                ..Places::default()
            },
            &[],
        ),
        failure(
            &Places::default(),
            &[("ROTA__DATABASE__PASSWORD", "hunter2"), ("ROTA__DAEMON__WORKERS", "x")],
        ),
        failure(&Places::default(), &[("ROTA__DATABASE__PASSWORT", "hunter2")]),
        failure(&Places::default(), &[("ROTA__SLACK__WEBHOOK_URL", "a\0hunter2")]),
    ];
    for failure in all {
        let shown = format!("{} {:?}", failure.message, failure.hint);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_secret_comes_from_the_environment_or_from_a_file_that_only_its_owner_reads() {
    let folder = folder(&[]);
    let environment = [("ROTA__SLACK__WEBHOOK_URL", "https://hooks.example/a")];
    let configuration = Configuration::load(&Places::default(), variables(&environment)).unwrap();
    let value = configuration.secret(SecretKey::SlackWebhookUrl).unwrap().unwrap();
    assert_eq!(value.expose(), "https://hooks.example/a");
    let listed = configuration.entries().iter().find(|entry| entry.key == "slack.webhook_url").unwrap();
    assert_eq!(listed.value, "(set, not shown)");

    let path = secret_file(&folder, "from-a-file\n", 0o600);
    let flag = ("slack.webhook_url_file", path.to_str().unwrap());
    let places = places(&folder, None, &[flag]);
    let configuration = Configuration::load(&places, variables(&environment)).unwrap();
    let value = configuration.secret(SecretKey::SlackWebhookUrl).unwrap().unwrap();
    assert_eq!(value.expose(), "from-a-file", "the flag is stronger than the environment");

    for mode in [0o604, 0o644, 0o660, 0o601] {
        secret_file(&folder, "x", mode);
        let failure = configuration.secret(SecretKey::SlackWebhookUrl).err().unwrap();
        assert!(failure.hint.unwrap().starts_with("chmod 600"), "{mode:o}");
    }
    secret_file(&folder, "x", 0o640);
    assert!(configuration.secret(SecretKey::SlackWebhookUrl).is_ok());
}

#[test]
fn a_secret_file_that_is_missing_empty_huge_or_binary_is_refused() {
    let folder = folder(&[]);
    let path = folder.path().join("secret");
    let refused = |what: &str| {
        assert!(secrets::read_file(&path).is_err(), "{what}");
    };
    refused("missing");
    for (what, text) in [("empty", String::new()), ("a newline", "\n".into()), ("huge", "x".repeat(70_000))] {
        secret_file(&folder, &text, 0o600);
        refused(what);
    }
    std::fs::write(&path, [b'a', 0xff]).unwrap();
    refused("binary");
}

#[test]
fn a_value_and_a_file_in_one_layer_are_one_too_many() {
    let failure = failure(
        &Places::default(),
        &[("ROTA__VAULT__TOKEN", "hunter2"), ("ROTA__VAULT__TOKEN_FILE", "/run/token")],
    );
    assert_eq!(failure.message, "both `vault.token` and `vault.token_file` are set");
}

#[test]
fn the_default_file_explains_every_key() {
    let schema = serde_json::to_value(schemars::schema_for!(Settings)).unwrap();
    let mut keys = Vec::new();
    for (section, reference) in schema["properties"].as_object().unwrap() {
        let name = reference["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
        for key in schema["$defs"][name]["properties"].as_object().unwrap().keys() {
            keys.push((section.clone(), key.clone()));
        }
    }
    for key in SecretKey::ALL {
        let file = key.file();
        let (section, key) = file.split_once('.').unwrap();
        keys.push((section.to_owned(), key.to_owned()));
    }
    assert!(keys.len() > 30, "{keys:?}");
    for (section, key) in keys {
        let text =
            BUILT_IN.split(&format!("\n[{section}]\n")).nth(1).unwrap_or_else(|| panic!("no [{section}]"));
        let text = text.split("\n[").next().unwrap();
        let written = text.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} =")));
        assert!(
            written || BUILT_IN.contains(&format!("[{section}.{key}.")),
            "[{section}] says nothing of `{key}`"
        );
    }
}
