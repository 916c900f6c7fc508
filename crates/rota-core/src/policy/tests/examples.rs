//! The policies in `config/` keep every rule of the core. Their kinds' own tables are
//! stood in for by tables that take anything.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::policy::diagnostic::{Level, render_all};
use crate::policy::kinds::{Facts, KindSpec, Kinds, Port};
use crate::policy::{Loaded, Piece, load};
use crate::rotation::Source;

type Anything = BTreeMap<String, Value>;

fn kinds() -> Kinds {
    let inline = |port, name| KindSpec::new(port, name, "a stand-in").inline::<Anything>();
    let specs = [
        inline(Port::Store, "env-file").one_document(),
        inline(Port::Store, "aws-secrets-manager"),
        inline(Port::Store, "vault-kv2"),
        inline(Port::Rollout, "ecs").facts(|_| Facts { pins_versions: true, ..Facts::default() }),
        inline(Port::Rollout, "reread"),
        inline(Port::Rollout, "command"),
        inline(Port::Check, "http"),
        inline(Port::Check, "command"),
        inline(Port::Check, "json-metric"),
        inline(Port::Check, "prometheus"),
        inline(Port::Hook, "webhook"),
        KindSpec::new(Port::Rotator, "generated", "a stand-in"),
        KindSpec::new(Port::Rotator, "operator", "a stand-in")
            .facts(|_| Facts { source: Source::Submitted, ..Facts::default() }),
    ];
    Kinds::new(specs).unwrap()
}

fn read(path: &str) -> Loaded {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(path);
    let bytes = std::fs::read(&path).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    load(&[Piece::from_bytes(name, bytes).unwrap()], &kinds())
}

fn secrets(path: &str, expected: &[&str]) {
    let loaded = read(path);
    let policy = loaded.policy.unwrap_or_else(|| panic!("{}", render_all(&loaded.diagnostics)));
    let worse: Vec<_> = loaded.diagnostics.into_iter().filter(|d| d.level < Level::Hint).collect();
    assert!(worse.is_empty(), "{}", render_all(&worse));
    let names: Vec<&str> = policy.secrets.keys().map(|id| id.as_str()).collect();
    assert_eq!(names, expected);
}

#[test]
fn the_cutover_keeps_every_rule() {
    secrets("examples/production-cutover.toml", &["HMAC_SECRET", "JWT_SECRET"]);
}

#[test]
fn mgmt_vibe_keeps_every_rule() {
    secrets("examples/mgmt-vibe.toml", &["OPENAI_API_KEY", "SESSION_SECRET", "STRIPE"]);
}

#[test]
fn the_coding_dashboard_keeps_every_rule() {
    let names = [
        "ANTHROPIC_API_KEY",
        "GITHUB_TOKEN",
        "JWT_SECRET",
        "META_APP_SECRET",
        "RESEND_API_KEY",
        "SENTRY_DSN",
        "SESSION_SECRET",
        "SLACK_WEBHOOK_URL",
        "github_actions",
        "meta_system_user",
        "supabase_service_role",
    ];
    secrets("examples/autonomous-coding-dashboard.toml", &names);
}

#[test]
fn jobswipe_keeps_every_rule() {
    let names = [
        "ANALYTICS_API_KEY",
        "AUTOMATION_API_KEY",
        "CATEGORIZATION_API_KEY",
        "DEDUPLICATION_API_KEY",
        "INGESTION_API_KEY",
        "JWT_SECRET_KEY",
        "OAUTH_STATE_SECRET",
        "SECRET_KEY",
    ];
    secrets("examples/jobswipe.toml", &names);
}

#[test]
fn the_starter_kit_keeps_every_rule() {
    let names = [
        "JWT_ACCESS_SECRET",
        "JWT_REFRESH_SECRET",
        "METRICS_AUTH_TOKEN",
        "SMTP_PASSWORD",
        "TWILIO_AUTH_TOKEN",
    ];
    secrets("examples/starter-kit.toml", &names);
}

#[test]
fn the_quickstart_s_policy_is_accepted() {
    let loaded = read("quickstart.toml");
    assert!(loaded.policy.is_some(), "{}", render_all(&loaded.diagnostics));
}
