//! The JSON Schema of the policy file, so that editors complete and check it.
//!
//! Composed from the declarations that the loader decodes by and the schemas that
//! the kinds bring; the same kinds give the same bytes. Deliberately absent: rules
//! that need more than one key, which are the linter's.

use serde_json::{Map, Value, json};

use super::kinds::{Kind, Kinds, Port, Shape};
use super::raw::Decode;
use super::raw::tables::{
    CalendarTable, CheckTable, ConsumerTable, HookTable, OwnerTable, RolloutTable, RootTable, SecretTable,
    StoreTable,
};

/// The schema of a policy file whose kinds are `kinds`.
#[must_use]
pub fn schema(kinds: &Kinds) -> Value {
    let mut defs = Map::new();
    for (port, name, common) in [
        (Port::Store, "StoreTable", StoreTable::properties()),
        (Port::Rollout, "RolloutTable", RolloutTable::properties()),
        (Port::Check, "CheckTable", CheckTable::properties()),
        (Port::Hook, "HookTable", HookTable::properties()),
    ] {
        let table = one_of(kinds, port, &common, &mut defs);
        defs.insert(name.to_owned(), table);
    }
    let secret = secret_properties(kinds, &mut defs);
    let only = |wanted: &dyn Fn(&str) -> bool| {
        let properties: Map<String, Value> = secret
            .iter()
            .filter(|(key, _)| wanted(key))
            .map(|(key, schema)| (key.clone(), schema.clone()))
            .collect();
        json!({ "type": "object", "properties": properties, "additionalProperties": false })
    };
    defs.insert("Defaults".to_owned(), only(&|key| SecretTable::DEFAULTS.contains(&key)));
    defs.insert("Profile".to_owned(), only(&|key| !SecretTable::SECRET_ONLY.contains(&key)));
    defs.insert("Secret".to_owned(), only(&|_| true));

    let mut properties = RootTable::properties();
    let named = |schema: Value, about: &str| json!({ "type": "object", "description": about, "additionalProperties": schema });
    properties
        .insert("version".to_owned(), json!({ "const": 1, "description": "The version of this format." }));
    let defaults = "What holds for every secret that does not say otherwise.";
    properties.insert("defaults".to_owned(), json!({ "$ref": "#/$defs/Defaults", "description": defaults }));
    properties.insert("store".to_owned(), named(StoreTable::schema(), "Where consumers read secrets."));
    properties.insert("owner".to_owned(), named(OwnerTable::schema(), "Who is told."));
    properties.insert("calendar".to_owned(), named(CalendarTable::schema(), "Due dates in civil time."));
    properties.insert("consumer".to_owned(), named(ConsumerTable::schema(), "Services that use secrets."));
    properties.insert(
        "profile".to_owned(),
        named(json!({ "$ref": "#/$defs/Profile" }), "Keys that secrets share."),
    );
    properties.insert("secret".to_owned(), named(json!({ "$ref": "#/$defs/Secret" }), "What rotates."));
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Rota policy",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "$defs": defs,
    })
}

/// A table of one of the kinds of `port`.
fn one_of(kinds: &Kinds, port: Port, common: &Map<String, Value>, defs: &mut Map<String, Value>) -> Value {
    let mut branches = Vec::new();
    for kind in kinds.of(port) {
        let own = hoist(kind, defs);
        let mut properties = common.clone();
        properties
            .insert("kind".to_owned(), json!({ "const": kind.spec.name, "description": kind.spec.about }));
        properties.extend(object_of(&own, "properties"));
        let required = [json!("kind")].into_iter().chain(list_of(&own, "required"));
        let branch = json!({
            "type": "object",
            "description": kind.spec.about,
            "properties": properties,
            "required": required.collect::<Vec<_>>(),
            "additionalProperties": false,
        });
        let name = format!("{port}.{}", kind.spec.name);
        branches.push(json!({ "$ref": format!("#/$defs/{name}") }));
        defs.insert(name, branch);
    }
    if branches.is_empty() { json!({ "type": "object" }) } else { json!({ "oneOf": branches }) }
}

/// The keys of a secret: the core's, and those that rotators bring.
fn secret_properties(kinds: &Kinds, defs: &mut Map<String, Value>) -> Map<String, Value> {
    let mut properties = SecretTable::properties();
    let names: Vec<Value> = kinds
        .of(Port::Rotator)
        .map(|kind| json!({ "const": kind.spec.name, "description": kind.spec.about }))
        .collect();
    if let Some(Value::Object(kind)) = properties.get_mut("kind")
        && !names.is_empty()
    {
        kind.retain(|key, _| key == "description");
        kind.insert("oneOf".to_owned(), Value::Array(names));
    }
    for kind in kinds.of(Port::Rotator) {
        let own = hoist(kind, defs);
        match kind.spec.shape {
            Shape::Nothing => {}
            Shape::Inline => properties.extend(object_of(&own, "properties")),
            Shape::Table(name) => {
                // Parts of the table may come from the profile, so nothing is required here.
                let mut table = object_of(&own, "properties");
                let table = json!({
                    "type": "object",
                    "description": kind.spec.about,
                    "properties": std::mem::take(&mut table),
                    "additionalProperties": false,
                });
                properties.insert(name.to_owned(), table);
            }
        }
    }
    properties
}

/// The schema of a kind's settings, with its definitions moved to the common ones
/// under names of their own.
fn hoist(kind: &Kind, defs: &mut Map<String, Value>) -> Value {
    let prefix = format!("{}.{}", kind.spec.port, kind.spec.name);
    let mut own = kind.schema.clone();
    let inner = own.as_object_mut().and_then(|table| table.remove("$defs"));
    rename(&mut own, &prefix);
    if let Some(Value::Object(inner)) = inner {
        for (name, mut schema) in inner {
            rename(&mut schema, &prefix);
            defs.insert(format!("{prefix}.{name}"), schema);
        }
    }
    own
}

/// Points every reference at where the definitions went.
fn rename(schema: &mut Value, prefix: &str) {
    match schema {
        Value::Object(table) => {
            if let Some(Value::String(target)) = table.get_mut("$ref")
                && let Some(name) = target.strip_prefix("#/$defs/")
            {
                *target = format!("#/$defs/{prefix}.{name}");
            }
            table.values_mut().for_each(|value| rename(value, prefix));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| rename(value, prefix)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn object_of(schema: &Value, key: &str) -> Map<String, Value> {
    schema.get(key).and_then(Value::as_object).cloned().unwrap_or_default()
}

fn list_of(schema: &Value, key: &str) -> Vec<Value> {
    schema.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
}
