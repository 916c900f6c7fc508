use serde_json::{Value, json};

use super::kinds;
use crate::policy::kinds::{KindClash, KindSpec, Kinds, Port};
use crate::policy::schema::schema;

/// Every reference in `schema` leads to a definition.
fn follow(schema: &Value, root: &Value) {
    match schema {
        Value::Object(table) => {
            if let Some(target) = table.get("$ref").and_then(Value::as_str) {
                let pointer = target.strip_prefix('#').expect("references stay in the schema");
                assert!(root.pointer(pointer).is_some(), "{target} leads nowhere");
            }
            table.values().for_each(|value| follow(value, root));
        }
        Value::Array(items) => items.iter().for_each(|value| follow(value, root)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn the_schema_is_whole_and_the_same_every_time() {
    let made = schema(&kinds());
    follow(&made, &made);
    assert_eq!(made.to_string(), schema(&kinds()).to_string());
}

#[test]
fn the_schema_knows_the_core_s_keys_and_those_of_the_kinds() {
    let made = schema(&kinds());
    let secret = &made["$defs"]["Secret"]["properties"];
    assert_eq!(
        secret["cadence"]["description"],
        json!("From promotion to promotion, such as \"90d\", or \"on-request\".")
    );
    assert!(secret["postgres"]["properties"]["host"].is_object());
    assert!(secret["archive"].is_object());
    let rollout = &made["$defs"]["rollout.ecs"];
    assert_eq!(rollout["properties"]["kind"]["const"], json!("ecs"));
    assert_eq!(rollout["required"], json!(["kind", "cluster", "service"]));
    assert!(rollout["properties"]["deadline"].is_object());
    assert!(made["$defs"]["Defaults"]["properties"].get("token_ttl").is_none());
    assert!(made["$defs"]["Profile"]["properties"].get("fields").is_none());
    assert!(made["$defs"]["Profile"]["properties"]["token_ttl"].is_object());
}

#[test]
fn every_key_says_what_it_is_for() {
    let made = schema(&kinds());
    for (key, of) in made["$defs"]["Secret"]["properties"].as_object().unwrap() {
        let known = matches!(key.as_str(), "archive" | "reencrypt" | "postgres");
        assert!(known || of["description"].as_str().is_some_and(|text| text.ends_with('.')), "{key}");
    }
}

#[test]
fn kinds_cannot_share_a_name_or_take_a_key_of_the_core() {
    #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Greedy {
        path: String,
    }
    let one = KindSpec::new(Port::Check, "http", "a check");
    assert_eq!(Kinds::new([one, one]).unwrap_err(), KindClash::Name { port: Port::Check, name: "http" });
    let greedy = KindSpec::new(Port::Store, "greedy", "a store").inline::<Greedy>();
    let clash = KindClash::Key { port: Port::Store, name: "greedy", key: "path".to_owned() };
    assert_eq!(Kinds::new([greedy]).unwrap_err(), clash);
    let taken = KindSpec::new(Port::Rotator, "taken", "a rotator").table::<Greedy>("format");
    assert!(Kinds::new([taken]).is_err());
    assert!(Kinds::new([one, KindSpec::new(Port::Hook, "http", "a hook")]).is_ok());
}
