//! The page of the protocol, held against the code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rota_adapters::rotators::command::{Answer, Question, VERSION};
use schemars::SchemaGenerator;
use serde_json::{Value, json};

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rotators")
}

#[test]
fn the_documented_schema_is_the_one_of_the_code() {
    let mut generator = SchemaGenerator::default();
    let question = generator.subschema_for::<Question>();
    let answer = generator.subschema_for::<Answer>();
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What Rota asks a program of the rotator `command`, and how it answers",
        "anyOf": [question, answer],
        "$defs": generator.take_definitions(true),
    });
    let schema = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    let path = docs().join("command.schema.json");
    if std::env::var_os("ROTA_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    let documented = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(documented, schema, "run this test with ROTA_UPDATE_DOCS=1");
}

#[test]
fn the_examples_of_the_page_are_a_question_and_an_answer_and_every_field_is_explained() {
    let page = std::fs::read_to_string(docs().join("command.md")).unwrap();
    let examples: Vec<&str> =
        page.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let [question, answer] = examples[..] else { panic!("{} examples", examples.len()) };
    let question: Question = serde_json::from_str(question).unwrap();
    assert_eq!(question.version, VERSION);
    let fields: BTreeMap<String, Value> =
        serde_json::from_value(serde_json::to_value(&question).unwrap()).unwrap();
    assert!(
        fields
            .keys()
            .all(|field| page.contains(&format!("`{field}`")) || page.contains(&format!("\"{field}\"")))
    );
    serde_json::from_str::<Answer>(answer).unwrap();
    for field in serde_json::to_value(Answer::default()).unwrap().as_object().unwrap().keys() {
        assert!(page.contains(&format!("| `{field}` |")), "`{field}` is not explained");
    }
}
