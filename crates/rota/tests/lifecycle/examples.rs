//! Every secret of the example policies below, through creation and one whole rotation.
//!
//! What the examples say of values, names and consumers stays. Stores become the
//! strict fake and a file of the test, waits become seconds, and rollouts, checks and
//! hooks become the tests' own.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use jiff::SignedDuration;
use rota_core::id::RotationId;
use rota_core::policy::model::{CheckPolicy, Healthy, Policy, SecretPolicy, StorePolicy};
use rota_core::policy::{self, Piece};
use rota_core::publication::place;
use rota_core::schedule::Schedule;
use rota_core::value::SecretValue;
use rota_engine::ports::{Slot, SlotRole};
use rota_fakes::postgres::{TestDatabase, shared};
use serde_json::{Value, json};

use crate::support::{SystemRandom, World};
use crate::{consumers, postgres};

pub(crate) fn example(name: &str) -> Policy {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/examples").join(name);
    let bytes = std::fs::read(path).unwrap();
    let loaded = policy::load(&[Piece::from_bytes(name.to_owned(), bytes).unwrap()], &consumers::kinds());
    let said: Vec<String> = loaded.diagnostics.iter().map(|finding| finding.message.clone()).collect();
    loaded.policy.unwrap_or_else(|| panic!("{name} is refused: {said:?}"))
}

fn test_kind(name: &str) -> CheckPolicy {
    CheckPolicy { name: name.to_owned(), kind: name.to_owned(), settings: Value::Null }
}

/// The same policy for a test's world.
pub(crate) fn in_seconds(policy: &mut Policy, world: &World) {
    for (id, store) in &mut policy.stores {
        if store.kind == "env-file" {
            let file = world.folder.path().join(format!("{id}.env"));
            store.path = file.to_str().unwrap().parse().unwrap();
            store.settings = json!({});
        } else {
            store.kind = "aws-secrets-manager".to_owned();
            store.settings = json!({ "region": "us-east-1" });
        }
    }
    in_place(policy);
    let second = SignedDuration::from_secs(1);
    for secret in policy.secrets.values_mut() {
        secret.schedule = Schedule::OnRequest;
        secret.overlap = second;
        secret.token_ttl = secret.token_ttl.min(second);
        secret.revoke_after = SignedDuration::ZERO;
        secret.window = None;
        secret.healthy = Healthy { count: 1, every: second, failures: 3 };
        secret.deadlines.clear();
        secret.remind.clear();
    }
}

/// Rollouts, checks, hooks and proofs become the tests' own.
pub(crate) fn in_place(policy: &mut Policy) {
    for consumer in policy.consumers.values_mut() {
        consumer.rollout.kind = "test-fleet".to_owned();
        consumer.rollout.settings = Value::Null;
        consumer.checks = vec![test_kind("test-health")];
        consumer.settle = SignedDuration::ZERO;
    }
    for secret in policy.secrets.values_mut() {
        secret.hooks.clear();
        secret.prove = secret.prove.as_ref().map(|_| test_kind("test-provider"));
    }
}

/// Kinds whose servers are in tests of their own, where their secrets are rotated.
const AT_SERVERS_OF_THEIR_OWN: [&str; 5] =
    ["aws-iam-access-key", "grafana-admin", "provider", "redis-acl", "vault-token"];

/// Each database of the example becomes one of the test, with a first login in use; a
/// database user is never created from nothing.
async fn with_databases(policy: &mut Policy, world: &World) -> Vec<TestDatabase> {
    let mut databases = Vec::new();
    let Policy { secrets, stores, .. } = policy;
    secrets.retain(|_, secret| !AT_SERVERS_OF_THEIR_OWN.contains(&secret.kind.as_str()));
    for secret in secrets.values_mut().filter(|secret| secret.kind == "postgres") {
        let database = shared().unwrap().fresh_database().await.unwrap();
        let store = &stores[secret.primary_store().unwrap()];
        log_in_at(&database, secret, world, store).await;
        databases.push(database);
    }
    databases
}

/// Users of the names `app_*` (in use) and `idle_*`, and an administrator.
async fn log_in_at(database: &TestDatabase, secret: &mut SecretPolicy, world: &World, store: &StorePolicy) {
    let name = &database.name()[2..14];
    let sql = format!(
        "CREATE ROLE adm_{name} LOGIN SUPERUSER PASSWORD 'admin-word'; CREATE ROLE owner_{name}; \
         CREATE ROLE app_{name} LOGIN PASSWORD 'first-word'; CREATE ROLE idle_{name}; \
         GRANT owner_{name} TO app_{name}, idle_{name}; \
         ALTER ROLE app_{name} SET role = owner_{name}; ALTER ROLE idle_{name} SET role = owner_{name}; \
         CREATE TABLE items (id int); ALTER TABLE items OWNER TO owner_{name}"
    );
    database.execute(&sql).await.unwrap();
    let (host, port, user) = ("127.0.0.1", postgres::port(database), format!("app_{name}"));
    secret.settings["host"] = host.into();
    secret.settings["port"] = port.into();
    secret.settings["database"] = database.name().into();
    if secret.settings.get("users").is_some() {
        secret.settings["users"] = json!([user, format!("idle_{name}")]);
        secret.settings["role"] = format!("owner_{name}").into();
    } else {
        secret.settings["user"] = user.as_str().into();
    }
    let admin = format!("postgres://adm_{name}:admin-word@127.0.0.1/postgres");
    secret.settings["admin"] = match store.kind.as_str() {
        "env-file" => {
            let file = world.folder.path().join("admin.env");
            append_line(&file, "DB_ADMIN", &admin);
            format!("{}:{}#DB_ADMIN", store.id, file.to_str().unwrap())
        }
        _ => {
            world.aws.create(&format!("admin/{name}"), &admin).unwrap();
            format!("{}:admin/{name}", store.id)
        }
    }
    .into();
    let port = port.to_string();
    let parts = [
        ("username", user.as_str()),
        ("password", "first-word"),
        ("host", host),
        ("port", &port),
        ("database", database.name()),
    ];
    for (field, form) in &secret.fields {
        let text = form.template.as_ref().unwrap().fill_text(&parts.into()).unwrap();
        let place = place(secret, store, field);
        match place.field {
            Some(name) => append_line(Path::new(&place.path), name.as_str(), &text),
            None => world.aws.create(&place.path, &text).unwrap(),
        }
    }
}

/// Adds a line to an env file that is for its owner only.
pub(crate) fn append_line(file: &Path, name: &str, text: &str) {
    let mut options = OpenOptions::new();
    let mut file = options.append(true).create(true).mode(0o600).open(file).unwrap();
    writeln!(file, "{name}='{text}'").unwrap();
}

/// A value as a person would hand it in: plain, or the fields as one JSON object; and
/// its parts, for the revoke.
pub(crate) fn handed_in(secret: &SecretPolicy) -> (SecretValue, Vec<String>) {
    let mut all = serde_json::Map::new();
    for (name, field) in &secret.fields {
        let format = field.format.as_ref().or(secret.format.as_ref());
        // A format that only the provider can make is told by its length at most.
        let made = format.and_then(|format| format.generate(&mut SystemRandom).ok());
        let text = made.map_or_else(
            || format!("sk-{}-{}", uuid::Uuid::new_v4(), uuid::Uuid::new_v4()),
            |made| made.expose().to_owned(),
        );
        all.insert(name.to_string(), text.into());
    }
    let parts: Vec<String> = all.values().filter_map(Value::as_str).map(str::to_owned).collect();
    let text = if parts.len() == 1 { parts[0].clone() } else { Value::Object(all).to_string() };
    (SecretValue::new(text).unwrap(), parts)
}

/// Rotates every secret once, all at the same time.
/// Returns what was handed in.
async fn rotate_all(world: &World, policy: &Policy, times: i64, before: &[String]) -> Vec<String> {
    let mut handed = Vec::new();
    for id in policy.secrets.keys() {
        world.order("rotate", id.as_str()).await;
    }
    let by_people = || policy.secrets.iter().filter(|(_, secret)| secret.kind == "operator");
    for (id, secret) in by_people() {
        world.work_until_step(id.as_str(), "stage").await;
        let entry = policy.entry(id).unwrap();
        let rotation = RotationId(world.rotation(id.as_str()).await);
        let slot = Slot::of(&entry, rotation, SlotRole::Candidate).unwrap();
        let store = world.adapters.store(&entry.stores[secret.primary_store().unwrap()]).unwrap();
        let (value, parts) = handed_in(secret);
        store.stage(&slot, &value).await.unwrap();
        handed.extend(parts);
    }
    for (id, _) in by_people().filter(|_| times > 1) {
        world.work_until_step(id.as_str(), "confirm").await;
    }
    before.iter().for_each(|key| world.consumers.revoke(key));
    for (id, _) in by_people().filter(|_| times > 1) {
        world.order("confirm", id.as_str()).await;
    }
    for id in policy.secrets.keys() {
        world.work_until_ended(id.as_str(), "completed", times).await;
    }
    handed
}

async fn every_secret_lives(file: &str) {
    let world = World::new().await;
    let mut policy = example(file);
    in_seconds(&mut policy, &world);
    let _databases = with_databases(&mut policy, &world).await;
    world.accept_loaded(&policy).await;
    assert!(!policy.secrets.is_empty());
    let first = rotate_all(&world, &policy, 1, &[]).await;
    rotate_all(&world, &policy, 2, &first).await;
}

#[tokio::test]
async fn every_secret_of_the_autonomous_coding_dashboard_example_is_created_and_rotated() {
    every_secret_lives("autonomous-coding-dashboard.toml").await;
}

#[tokio::test]
async fn every_secret_of_the_jobswipe_example_is_created_and_rotated() {
    every_secret_lives("jobswipe.toml").await;
}

#[tokio::test]
async fn every_secret_of_the_mgmt_vibe_example_is_created_and_rotated() {
    every_secret_lives("mgmt-vibe.toml").await;
}

#[tokio::test]
async fn every_secret_of_the_production_cutover_example_is_created_and_rotated() {
    every_secret_lives("production-cutover.toml").await;
}

#[tokio::test]
async fn every_secret_of_the_starter_kit_example_is_created_and_rotated() {
    every_secret_lives("starter-kit.toml").await;
}
