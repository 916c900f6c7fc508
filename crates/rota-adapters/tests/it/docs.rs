//! Every kind has its page, and every setting its line there.

use std::collections::BTreeMap;
use std::path::Path;

use rota_adapters::catalog;
use rota_core::id::StoreId;
use rota_core::policy::kinds::{Kind, KindContext, Kinds, Port};
use rota_core::policy::model::{Environment, StorePolicy};
use serde_json::Value;

fn page(folder: &str, name: &str) -> String {
    document(&format!("{folder}/{name}.md"))
}

fn document(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{} is missing", path.display()))
}

/// The fenced examples in a language.
fn blocks<'a>(page: &'a str, language: &str) -> impl Iterator<Item = &'a str> {
    let fence = format!("```{language}\n");
    let starts: Vec<usize> = page.match_indices(&fence).map(|(at, _)| at + fence.len()).collect();
    starts.into_iter().filter_map(|start| page[start..].split("```").next())
}

#[test]
fn every_kind_of_store_has_a_page_that_names_every_setting_and_examples_that_hold() {
    let kinds = Kinds::new(catalog::STORES.iter().map(|kind| kind.spec)).unwrap();
    assert!(kinds.of(Port::Store).count() > 0);
    for kind in kinds.of(Port::Store) {
        let page = page("stores", kind.spec.name);
        for example in blocks(&page, "toml").filter(|example| example.contains("[store.")) {
            let stores = toml::from_str::<Value>(example).unwrap()["store"].clone();
            for (name, mut settings) in stores.as_object().unwrap().clone() {
                let table = settings.as_object_mut().unwrap();
                assert_eq!(table.remove("kind").as_ref(), Some(&Value::from(kind.spec.name)), "{name}");
                assert!(table.remove("path").is_some(), "{name} has no path");
                let context = KindContext {
                    environment: Environment::Production,
                    stores: &BTreeMap::new(),
                    secret: None,
                };
                assert_eq!(kind.examine(&settings, &context), [], "{name}");
            }
        }
        for policy in blocks(&page, "json") {
            serde_json::from_str::<Value>(policy).unwrap();
        }
        for key in kind.keys() {
            assert!(page.contains(&format!("| `{key}` |")), "{} does not explain `{key}`", kind.spec.name);
        }
    }
}

/// Each kind with the page that explains it.
fn explained() -> Vec<(String, Kind)> {
    let specs = catalog::ROLLOUTS.iter().map(|kind| kind.spec);
    let specs = specs.chain(catalog::CHECKS.iter().map(|kind| kind.spec));
    let kinds = Kinds::new(specs.chain(catalog::HOOKS.iter().map(|kind| kind.spec))).unwrap();
    let pages = [(Port::Rollout, Some("rollouts")), (Port::Check, Some("checks")), (Port::Hook, None)];
    let mut explained = Vec::new();
    for (port, folder) in pages {
        for kind in kinds.of(port) {
            let page = folder.map_or_else(|| document("hooks.md"), |folder| page(folder, kind.spec.name));
            explained.push((page, kind.clone()));
        }
    }
    explained
}

#[test]
fn every_rotator_with_settings_has_a_page_that_names_each_and_the_index_has_all() {
    let kinds = Kinds::new(catalog::ROTATORS.iter().map(|kind| kind.spec)).unwrap();
    let index = document("rotators/README.md");
    for kind in kinds.of(Port::Rotator) {
        let name = kind.spec.name;
        assert!(index.contains(&format!("| `{name}` |")), "{name} is not in the index");
        for key in kind.keys() {
            let page = page("rotators", name);
            assert!(page.contains(&format!("| `{key}` |")), "{name} does not explain `{key}`");
        }
    }
}

/// Every table that names a kind, with the port that its key tells.
fn kinds_in(value: &Value, found: &mut Vec<(Port, Value)>) {
    let Some(table) = value.as_object() else { return };
    for (key, inner) in table {
        let port = match key.as_str() {
            "rollout" => Some(Port::Rollout),
            "checks" | "prove" => Some(Port::Check),
            "hooks" => Some(Port::Hook),
            _ => None,
        };
        match (port, inner.as_array()) {
            (Some(port), Some(several)) => found.extend(several.iter().map(|one| (port, one.clone()))),
            (Some(port), None) => found.push((port, inner.clone())),
            (None, _) => kinds_in(inner, found),
        }
    }
}

#[test]
fn every_rollout_check_and_hook_has_a_page_that_names_every_setting() {
    let explained = explained();
    assert_eq!(explained.len(), catalog::ROLLOUTS.len() + catalog::CHECKS.len() + catalog::HOOKS.len());
    for (page, kind) in explained {
        assert!(kind.keys().count() > 0);
        for key in kind.keys() {
            assert!(page.contains(&format!("| `{key}` |")), "{:?} does not explain `{key}`", kind.spec);
        }
        for example in blocks(&page, "json") {
            serde_json::from_str::<Value>(example).unwrap_or_else(|error| panic!("{error} in {example}"));
        }
    }
}

#[test]
fn every_example_of_a_rollout_check_or_hook_holds() {
    let store = StorePolicy {
        id: StoreId::new("aws").unwrap(),
        kind: "aws-secrets-manager".to_owned(),
        settings: Value::Null,
        path: "prod/{name}".parse().unwrap(),
    };
    let stores = BTreeMap::from([(store.id.clone(), store)]);
    let context = KindContext { environment: Environment::Production, stores: &stores, secret: None };
    let explained = explained();
    for (page, kind) in &explained {
        let mut found = Vec::new();
        for example in blocks(page, "toml") {
            let example: Value =
                toml::from_str(example).unwrap_or_else(|error| panic!("{error} in {example}"));
            kinds_in(&example, &mut found);
        }
        let own =
            found.iter().filter(|(port, table)| *port == kind.spec.port && table["kind"] == kind.spec.name);
        let shown = own.count();
        assert!(shown > 0 || kind.spec.port == Port::Hook, "{:?} has no example", kind.spec);
        for (port, mut table) in found {
            let settings = table.as_object_mut().unwrap();
            let name = settings.remove("kind").unwrap();
            settings.remove("at");
            let (_, kind) = explained
                .iter()
                .find(|(_, kind)| kind.spec.port == port && name == kind.spec.name)
                .unwrap_or_else(|| panic!("no {port} is called {name}"));
            assert_eq!(kind.examine(&table, &context), [], "{name}");
        }
    }
}
