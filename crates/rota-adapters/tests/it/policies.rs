//! The policies in `config/` are accepted with the kinds that there are.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rota_adapters::catalog::{CHECKS, HOOKS, ROLLOUTS, ROTATORS, STORES, kinds};
use rota_core::policy::diagnostic::{Level, render_all};
use rota_core::policy::schema::schema;
use rota_core::policy::{Loaded, Piece, load};

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

fn loaded() -> impl Iterator<Item = Loaded> {
    let kinds = kinds().unwrap();
    assert!(policies().len() >= 6);
    policies().into_iter().map(move |path| {
        let piece = Piece::from_bytes(path.display().to_string(), std::fs::read(&path).unwrap()).unwrap();
        load(&[piece], &kinds)
    })
}

#[test]
fn every_policy_in_config_is_accepted_without_a_warning() {
    let mut said = String::new();
    for loaded in loaded() {
        let worse: Vec<_> = loaded.diagnostics.iter().filter(|d| d.level < Level::Hint).cloned().collect();
        if !worse.is_empty() || loaded.policy.is_none() {
            said.push_str(&render_all(&worse));
        }
    }
    assert!(said.is_empty(), "{said}");
}

/// Kinds that none of the applications in `config/examples/` has a use for.
const WITHOUT_AN_EXAMPLE: [&str; 6] = [
    "rotator command",
    "rotator http-password",
    "rollout github-dispatch",
    "rollout webhook",
    "hook command",
    "hook ecs-task",
];

#[test]
fn every_kind_has_an_example() {
    let mut used = BTreeSet::new();
    for policy in loaded().filter_map(|loaded| loaded.policy) {
        used.extend(policy.stores.values().map(|store| format!("store {}", store.kind)));
        for consumer in policy.consumers.values() {
            used.insert(format!("rollout {}", consumer.rollout.kind));
            used.extend(consumer.checks.iter().map(|check| format!("check {}", check.kind)));
        }
        for secret in policy.secrets.values() {
            used.insert(format!("rotator {}", secret.kind));
            used.extend(secret.hooks.iter().map(|hook| format!("hook {}", hook.kind)));
        }
    }
    let specs = STORES.iter().map(|kind| kind.spec).chain(ROTATORS.iter().map(|kind| kind.spec));
    let specs = specs.chain(ROLLOUTS.iter().map(|kind| kind.spec)).chain(CHECKS.iter().map(|kind| kind.spec));
    let specs = specs.chain(HOOKS.iter().map(|kind| kind.spec));
    let all = specs.map(|spec| format!("{} {}", spec.port, spec.name));
    let missing: Vec<String> = all.filter(|kind| !used.contains(kind)).collect();
    assert_eq!(missing, WITHOUT_AN_EXAMPLE, "add an entry to a policy in config/examples");
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

#[test]
fn the_page_about_runbooks_names_every_secret_of_its_examples_and_no_other() {
    let page = std::fs::read_to_string(config().join("../docs/runbooks.md")).unwrap();
    for (path, loaded) in policies().into_iter().zip(loaded()) {
        let application = path.file_stem().unwrap().to_string_lossy().into_owned();
        let Some((_, part)) = page.split_once(&format!("\n## {application}\n")) else {
            assert_eq!(application, "quickstart", "the page has no part about it");
            continue;
        };
        let part = part.split("\n## ").next().unwrap();
        let policy = loaded.policy.unwrap();
        for secret in policy.secrets.keys() {
            // Five names with one ending stand in one line.
            let short = secret.as_str().strip_suffix("API_KEY").unwrap_or(secret.as_str());
            assert!(
                part.contains(&format!("`{short}")) || part.contains(&format!("[secret.{secret}]")),
                "{secret}"
            );
        }
        for named in part.split("`[secret.").skip(1).filter_map(|rest| rest.split(']').next()) {
            assert!(policy.secrets.keys().any(|id| id.as_str() == named), "{application} has no {named}");
        }
    }
}
