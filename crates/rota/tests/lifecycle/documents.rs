//! Secrets that share a document with others, and secrets with a mirror.

use rota_core::document::{DocumentFormat, get};
use rota_core::value::SecretValue;
use serde_json::Value;

use crate::support::World;

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[defaults]
consumers = "none"
cadence = "90d"
overlap = "1s"
healthy = { count = 1, every = "1s" }

[store.aws]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "test/{name}"

[store.env]
kind = "env-file"
path = "{folder}/.env"

[secret.ALPHA]
kind = "generated"
format = "hex:32"
class = "password"
stores = ["{store}"]
{publish}

[secret.BETA]
kind = "generated"
format = "base62:40"
class = "password"
stores = ["{store}"]
{publish}
"#;

fn policy(store: &str, publish: &str) -> String {
    POLICY.replace("{store}", store).replace("{publish}", publish)
}

async fn rotate_both(world: &World) {
    for secret in ["ALPHA", "BETA"] {
        world.order("rotate", secret).await;
    }
    for secret in ["ALPHA", "BETA"] {
        world.work_until_ended(secret, "completed", 1).await;
    }
}

#[tokio::test]
async fn two_secrets_of_one_json_document_rotate_at_once_and_leave_every_other_field_alone() {
    let world = World::new().await;
    let before = r#"{"ALPHA":"old-alpha","FOREIGN":"stays","BETA":"old-beta","NUMBER":7}"#;
    world.aws.create("test/app", before).unwrap();
    world.accept(&policy("aws", r#"publish = { document = "test/app" }"#)).await;
    rotate_both(&world).await;
    let text = world.aws.value("test/app", "AWSCURRENT").unwrap();
    let after: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(after["FOREIGN"], "stays");
    assert_eq!(after["NUMBER"], 7);
    assert_eq!(after["ALPHA"].as_str().unwrap().len(), 64);
    assert_eq!(after["BETA"].as_str().unwrap().len(), 40);
    assert_eq!(after.as_object().unwrap().len(), 4);
}

fn line(world: &World, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(world.folder.path().join(".env")).unwrap();
    let text = SecretValue::new(text).unwrap();
    get(&text, DocumentFormat::Dotenv, name).unwrap().map(|value| value.expose().to_owned())
}

#[tokio::test]
async fn two_secrets_of_one_env_file_rotate_at_once_and_leave_every_other_line_alone() {
    let world = World::new().await;
    let before = "# keep me\nALPHA=old-alpha\nFOREIGN='stays as it is'\nBETA=old-beta\n";
    let file = world.write_env_file(before);
    world.accept(&policy("env", "")).await;
    rotate_both(&world).await;
    assert_eq!(line(&world, "ALPHA").unwrap().len(), 64);
    assert_eq!(line(&world, "BETA").unwrap().len(), 40);
    let after = std::fs::read_to_string(file).unwrap();
    for kept in ["# keep me", "FOREIGN='stays as it is'"] {
        assert!(after.lines().any(|line| line == kept), "{kept} is gone");
    }
}

#[tokio::test]
async fn a_mirror_shows_the_same_value_as_the_primary_after_every_rotation() {
    let world = World::new().await;
    world.accept(&policy(r#"env", "aws"#, "")).await;
    let mut before = None;
    for times in 1..=2 {
        world.order("rotate", "ALPHA").await;
        world.work_until_ended("ALPHA", "completed", times).await;
        let primary = line(&world, "ALPHA").unwrap();
        assert_eq!(world.aws.value("test/ALPHA", "AWSCURRENT").unwrap(), primary);
        assert_ne!(before.replace(primary.clone()), Some(primary));
    }
}
