//! What the kinds' own lint rules say, as a person reads it: one mistake each, in `lint.txt`.
//! `UPDATE_LINT=1` writes it anew.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use rota_adapters::catalog::kinds;
use rota_core::policy::diagnostic::render_all;
use rota_core::policy::{Loaded, Piece, load};

/// Where in a policy the mistake stands.
#[derive(Clone, Copy)]
enum At {
    Store,
    Check,
    Rollout,
    Hook,
    /// A secret of its own.
    Secret,
}
use At::{Check, Hook, Rollout, Secret, Store};

const MISTAKES: &[(At, &str)] = &[
    (Store, r#"kind = "env-file", path = "/srv/a/.env", host = """#),
    (Store, r#"kind = "env-file", path = "/srv/a/.env", owner = "nobody""#),
    (Store, r#"kind = "env-file", path = "/srv/a/.env", mode = "0644""#),
    (Store, r#"kind = "env-file", path = "/srv/a/.env", backups = 0"#),
    (Store, r#"kind = "vault-kv2", path = "prod/{name}", mount = "/""#),
    (Store, r#"kind = "vault-kv2", mount = "secret", path = "prod/{name}", slots = "a//b""#),
    (Store, r#"kind = "aws-secrets-manager", path = "prod/{name}", region = "Frankfurt""#),
    (
        Store,
        r#"kind = "aws-secrets-manager", path = "prod/{name}", region = "eu-west-1", assume_role = "rota""#,
    ),
    (Store, r#"kind = "aws-secrets-manager", path = "prod/{name}", region = "eu-west-1", external_id = "x""#),
    (
        Store,
        r#"kind = "aws-secrets-manager", path = "prod/{name}", region = "eu-west-1", tags = { "aws:owner" = "x" }"#,
    ),
    (Store, r#"kind = "aws-secrets-manager", path = "prod/{name}", region = "eu-west-1", slots = "a b""#),
    (Check, r#"kind = "http", url = "http://api.example.com/health""#),
    (Check, r#"kind = "http", url = "https://api.example.com/?key={value}""#),
    (Check, r#"kind = "http", url = "https://api.example.com/health", expect = 99"#),
    (Check, r#"kind = "http", url = "https://api.example.com/health", timeout = "60s""#),
    (Check, r#"kind = "http", url = "https://api.example.com/health", header = { "x y" = "z" }"#),
    (Check, r#"kind = "http", url = "https://api.example.com/health", header = { authorization = "z" }"#),
    (Check, r#"kind = "http", url = "https://api.example.com/health", bearer = "nowhere:prod/key""#),
    (Check, r#"kind = "http", url = "https://api.example.com/health", bearer = "a-key""#),
    (
        Check,
        r#"kind = "http", url = "https://api.example.com/health", bearer = "main:a", basic = { username = "u", password = "main:b" }"#,
    ),
    (
        Check,
        r#"kind = "http", url = "https://api.example.com/health", json = { path = "status", equals = "ok" }"#,
    ),
    (Check, r#"kind = "json-metric", url = "https://api.example.com/metrics", path = "$.rate""#),
    (
        Check,
        r#"kind = "json-metric", url = "https://api.example.com/metrics", path = "$.rate", min = 2, max = 1"#,
    ),
    (Check, r#"kind = "prometheus", url = "https://prometheus.example.com", query = " ", min = 1"#),
    (Check, r#"kind = "command", command = []"#),
    (Check, r#"kind = "command", command = ["curl -f localhost"]"#),
    (Check, r#"kind = "command", command = ["curl"], environment = ["ROTA__DATABASE__URL"]"#),
    (Check, r#"kind = "iam-last-used", user = "a b", within = "6h""#),
    (Check, r#"kind = "iam-last-used", user = "acd", within = "0s""#),
    (Check, r#"kind = "iam-last-used", user = "acd", within = "6h", region = "Frankfurt""#),
    (Check, r#"kind = "iam-last-used", user = "acd", within = "6h", assume_role = "rota""#),
    (Check, r#"kind = "iam-last-used", user = "acd", within = "6h", external_id = "x""#),
    (
        Check,
        r#"kind = "postgres-sessions", host = "db.internal", database = "acd", admin = "main:db", min = 1"#,
    ),
    (
        Check,
        r#"kind = "postgres-sessions", host = "a b", database = "acd", admin = "main:db", user = "acd", min = 1"#,
    ),
    (
        Check,
        r#"kind = "redis-clients", url = "redis://cache.internal", admin = "main:r", user = "acd", min = 1"#,
    ),
    (
        Check,
        r#"kind = "redis-clients", url = "rediss://u:p@cache.internal", admin = "main:r", user = "acd", min = 1"#,
    ),
    (
        Check,
        r#"kind = "redis-clients", url = "rediss://cache.internal", ca = "none", admin = "main:r", user = "acd", min = 1"#,
    ),
    (Check, r#"kind = "cloudwatch", alarm = "a", metric = { namespace = "AWS/ELB", name = "Requests" }"#),
    (Check, r#"kind = "cloudwatch", alarm = "a", max = 1"#),
    (Check, r#"kind = "cloudwatch", alarm = "a", window = "10s""#),
    (
        Check,
        r#"kind = "auth-failures", cloudwatch = { namespace = "Acd", name = "LoginFailures" }, floor = 5, factor = 1"#,
    ),
    (
        Check,
        r#"kind = "auth-failures", cloudwatch = { namespace = "Acd", name = "LoginFailures" }, floor = 5, days = 30"#,
    ),
    (Check, r#"kind = "log-file", path = "error.log", pattern = "(", max = 3, zone = "Mars/Olympus""#),
    (
        Secret,
        r#"kind = "command", command = { program = ["p"], target = " ", users = ["a", "a"] }, fields = { U = "{username}", S = "{password}" }"#,
    ),
    (
        Secret,
        r#"kind = "provider", provider = { name = "acme", label = "acd", admin = "main:a" }, fields = { I = "{id}", S = "{secret}" }"#,
    ),
    (Rollout, r#"kind = "command", commands = []"#),
    (Rollout, r#"kind = "command", commands = [["pm2", "reload", "0"], ["pm2", "reload", "1"]]"#),
    (Rollout, r#"kind = "reread", within = "0s""#),
    (Rollout, r#"kind = "ecs", cluster = "", service = "api""#),
    (Hook, r#"kind = "ecs-task", cluster = "prod", task = "backup", launch_type = "FARGATE""#),
    (Hook, r#"kind = "ecs-task", cluster = "prod", task = "backup", public_ip = true"#),
    (
        Secret,
        r#"kind = "redis-acl", redis = { url = "rediss://cache", user = "a b", admin = "main:r" }, fields = { S = "{password}" }"#,
    ),
    (
        Secret,
        r#"kind = "redis-acl", redis = { url = "rediss://cache", users = ["a", "b"], admin = "main:r" }, fields = { S = "{password}" }"#,
    ),
    (
        Secret,
        r#"kind = "redis-acl", redis = { url = "rediss://cache", nodes = ["a b"], user = "acd", admin = "main:r" }, fields = { S = "{password}" }"#,
    ),
    (
        Secret,
        r#"kind = "postgres", postgres = { host = "db", database = "acd", admin = "main:db", user = "acd" }, fields = { S = "{password}" }"#,
    ),
    (
        Secret,
        r#"kind = "postgres", postgres = { host = "db", database = "", admin = "main:db", users = ["a", "b"] }, fields = { U = "{username}", S = "{password}" }"#,
    ),
    (
        Secret,
        r#"kind = "postgres", postgres = { host = "db", database = "acd", admin = "main:db", users = ["a", "b"] }, fields = { S = "{password}" }"#,
    ),
    (
        Secret,
        r#"kind = "postgres", postgres = { host = "db", database = "acd", admin = "main:db", users = ["a", "b"] }, fields = { U = "{user}", S = "{password}" }"#,
    ),
    (
        Secret,
        r#"kind = "aws-iam-access-key", iam = { user = "acd" }, fields = { S = "{secret_access_key}" }"#,
    ),
    (
        Secret,
        r#"kind = "aws-iam-access-key", iam = { user = "acd" }, fields = { I = "{access_key_id}", S = "{smtp_password}" }"#,
    ),
    (
        Secret,
        r#"kind = "aws-iam-access-key", iam = { user = "acd", smtp_region = "Ireland" }, fields = { I = "{access_key_id}", S = "{smtp_password}" }"#,
    ),
];

/// A sound policy with the mistake in it.
fn policy(at: At, text: &str) -> String {
    let or = |place: bool, usual: &str| if place { text.to_owned() } else { usual.to_owned() };
    let secret = match at {
        Store => "kind = \"generated\", format = \"hex:32\", stores = [\"other\"]".to_owned(),
        Hook => format!(
            "kind = \"generated\", format = \"hex:32\", hooks = [{{ at = \"before-retire\", {text} }}]"
        ),
        Secret => text.to_owned(),
        Check | Rollout => "kind = \"generated\", format = \"hex:32\"".to_owned(),
    };
    let usual_store = r#"kind = "vault-kv2", mount = "secret", path = "prod/{name}""#;
    let other = if matches!(at, Store) { format!("other = {{ {text} }}\n") } else { String::new() };
    let check = or(matches!(at, Check), r#"kind = "http", url = "https://api.example.com/health""#);
    let rollout = or(matches!(at, Rollout), r#"kind = "reread", within = "10m""#);
    format!(
        "version = 1\napplication = \"acd\"\nenvironment = \"production\"\n\
         defaults = {{ owner = \"platform\", stores = [\"main\"], consumers = [\"web\"], overlap = \"1d\", cadence = \"90d\" }}\n\
         owner = {{ platform = {{ slack_mention = \"S012AB3CD\" }} }}\n\
         [store]\nmain = {{ {usual_store} }}\n{other}\
         [consumer]\nweb = {{ rollout = {{ {rollout} }}, checks = [{{ {check} }}] }}\n\
         [secret]\nS = {{ class = \"password\", {secret} }}\n"
    )
}

fn loaded(at: At, text: &str) -> Loaded {
    let piece = Piece::from_bytes("policy.toml", policy(at, text).into_bytes()).unwrap();
    load(&[piece], &kinds().unwrap())
}

/// Each rule that the sources of the kinds write down, where it has a name of its own.
fn rules(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            rules(&entry, found);
            continue;
        }
        let source = std::fs::read_to_string(&entry).unwrap();
        for written in source.split("KindProblem::error(").skip(1) {
            if let Some(name) = written.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
            {
                found.insert(name.to_owned());
            }
        }
    }
}

/// Rules of kinds whose messages stand with the tests of the kind.
const ELSEWHERE: [&str; 8] = ["body", "find", "hole", "label", "life", "login", "rights", "with"];

#[test]
fn every_rule_of_a_kind_says_what_is_wrong_and_what_to_write() {
    let mut said = String::new();
    let mut unheard = String::new();
    let mut heard = BTreeSet::new();
    for (at, text) in MISTAKES {
        let loaded = loaded(*at, text);
        let own: Vec<_> = loaded.diagnostics.iter().filter(|d| d.code.contains(':')).cloned().collect();
        if own.is_empty() {
            writeln!(unheard, "{text}\n{}", render_all(&loaded.diagnostics)).unwrap();
        }
        heard.extend(own.iter().filter_map(|d| d.code.split_once(':')).map(|(_, rule)| rule.to_owned()));
        for diagnostic in own {
            writeln!(said, "{}", diagnostic.render()).unwrap();
        }
    }
    assert!(unheard.is_empty(), "no kind speaks about\n{unheard}");
    let mut written = BTreeSet::new();
    rules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut written);
    let silent: Vec<_> =
        written.difference(&heard).filter(|rule| !ELSEWHERE.contains(&rule.as_str())).collect();
    assert!(silent.is_empty(), "no mistake here makes these rules speak: {silent:?}");

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/lint.txt");
    if std::env::var_os("UPDATE_LINT").is_some() {
        std::fs::write(&file, &said).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(kept == said, "the messages changed: look at them, then run with UPDATE_LINT=1\n{said}");
}
