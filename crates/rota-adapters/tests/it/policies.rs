//! The policies in `config/` are accepted with the kinds that there are.

use std::path::{Path, PathBuf};

use rota_adapters::catalog::kinds;
use rota_core::policy::diagnostic::{Level, render_all};
use rota_core::policy::schema::schema;
use rota_core::policy::{Piece, load};

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config")
}

/// Every policy under `config/`; the daemon's own configuration lies beside them.
fn policies() -> Vec<PathBuf> {
    let examples = std::fs::read_dir(config().join("examples")).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> =
        examples.filter(|path| path.extension().is_some_and(|kind| kind == "toml")).collect();
    found.push(config().join("quickstart.toml"));
    found.sort();
    found
}

#[test]
fn every_policy_in_config_is_accepted_without_a_warning() {
    let kinds = kinds().unwrap();
    assert!(policies().len() >= 6);
    let mut said = String::new();
    for path in policies() {
        let piece = Piece::from_bytes(path.display().to_string(), std::fs::read(&path).unwrap()).unwrap();
        let loaded = load(&[piece], &kinds);
        let worse: Vec<_> = loaded.diagnostics.iter().filter(|d| d.level < Level::Hint).cloned().collect();
        if !worse.is_empty() || loaded.policy.is_none() {
            said.push_str(&render_all(&worse));
        }
    }
    assert!(said.is_empty(), "{said}");
}

#[test]
fn the_committed_schema_is_that_of_the_kinds() {
    let made = serde_json::to_string_pretty(&schema(&kinds().unwrap())).unwrap() + "\n";
    let path = config().join("policy.schema.json");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "run this test with UPDATE_SCHEMA=1, or `rota policy schema > config/policy.schema.json`"
    );
}
