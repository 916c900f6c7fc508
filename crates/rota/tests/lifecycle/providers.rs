//! The keys of the example policies that providers make, through creation and one whole
//! rotation at fakes of the providers.

use std::collections::BTreeMap;
use std::path::Path;

use rota_adapters::rotators::provider::Providers;
use rota_core::policy::model::{PolicyEntry, SecretPolicy, StorePolicy};
use rota_core::publication::paths;
use rota_fakes::http::Listen;
use rota_fakes::providers::{Product, ProviderFake, openai, sentry, twilio};
use serde_json::json;

use crate::examples::{append_line, example, in_seconds};
use crate::support::World;

/// What stands in the place of an example's account, by name.
type With = &'static [(&'static str, &'static str)];

/// Each provider with its base and the account of its fake.
const PROVIDERS: [(&str, &str, Product, With); 4] = [
    ("openai", "https://api.openai.com", Product::OpenAi, &[("project", openai::PROJECT)]),
    ("resend", "https://api.resend.com", Product::Resend, &[]),
    (
        "sentry",
        "https://sentry.io",
        Product::Sentry,
        &[("organization", sentry::ORGANIZATION), ("project", sentry::PROJECT)],
    ),
    ("twilio", "https://api.twilio.com", Product::Twilio, &[("account", twilio::ACCOUNT)]),
];

/// The shipped files with the fakes' addresses, and the fakes by the provider's name.
fn at_fakes() -> (Providers, BTreeMap<&'static str, ProviderFake>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/providers");
    let (mut files, mut fakes) = (Vec::new(), BTreeMap::new());
    for (name, base, product, _) in PROVIDERS {
        let fake = ProviderFake::start(product, Listen::default()).unwrap();
        let file = std::fs::read_to_string(folder.join(format!("{name}.toml"))).unwrap();
        files.push((name, file.replace(base, &fake.url())));
        fakes.insert(name, fake);
    }
    let providers = Providers::of(files.iter().map(|(name, file)| (*name, file.as_str()))).unwrap();
    (providers, fakes)
}

/// The login at the fake stands where the test's store keeps it.
fn settle_in(secret: &mut SecretPolicy, store: &StorePolicy, fake: &ProviderFake, world: &World) {
    let name = secret.settings["name"].as_str().unwrap().to_owned();
    let admin = match store.kind.as_str() {
        "env-file" => {
            let file = world.folder.path().join("admin.env");
            let line = format!("ADMIN_{}", name.to_uppercase());
            append_line(&file, &line, &fake.admin());
            format!("{}:{}#{line}", store.id, file.to_str().unwrap())
        }
        _ => {
            world.aws.create(&format!("admin/{name}"), &fake.admin()).unwrap();
            format!("{}:admin/{name}", store.id)
        }
    };
    let (.., with) = PROVIDERS.into_iter().find(|(provider, ..)| *provider == name).unwrap();
    secret.settings["admin"] = admin.into();
    secret.settings["with"] = json!(BTreeMap::from_iter(with.iter().copied()));
}

/// One key is alive, and it is the published one.
async fn assert_only_the_published(world: &World, entry: &PolicyEntry, fake: &ProviderFake, when: &str) {
    let keys = fake.keys();
    let [key] = keys.as_slice() else { panic!("{when}: {} keys", keys.len()) };
    assert!(key.active, "{when}");
    let store = &entry.stores[entry.secret.primary_store().unwrap()];
    let mut published = String::new();
    for path in paths(&entry.secret, store).into_keys() {
        let read = world.adapters.store(store).unwrap().read(&path).await.unwrap();
        published.push_str(read.unwrap().value.expose());
    }
    for (part, shown) in fake.parts(key) {
        let read = entry.secret.fields.values().filter_map(|field| field.template.as_ref());
        if read.flat_map(|template| template.holes()).any(|hole| hole == part) {
            assert!(published.contains(&shown), "{when}: consumers do not read the {part} of the key");
        }
    }
}

async fn every_key_lives(file: &str, wanted: usize) {
    let (providers, fakes) = at_fakes();
    let world = World::new().await.with_providers(providers).await;
    let mut policy = example(file);
    in_seconds(&mut policy, &world);
    policy.secrets.retain(|_, secret| secret.kind == "provider");
    assert_eq!(policy.secrets.len(), wanted);
    for secret in policy.secrets.values_mut() {
        let store = policy.stores[secret.primary_store().unwrap()].clone();
        let name = secret.settings["name"].as_str().unwrap().to_owned();
        settle_in(secret, &store, &fakes[name.as_str()], &world);
    }
    world.accept_loaded(&policy).await;
    for times in 1..=2 {
        for id in policy.secrets.keys() {
            world.order("rotate", id.as_str()).await;
        }
        for (id, secret) in &policy.secrets {
            world.work_until_ended(id.as_str(), "completed", times).await;
            let fake = &fakes[secret.settings["name"].as_str().unwrap()];
            let when = format!("{id}, rotation {times}");
            assert_only_the_published(&world, &policy.entry(id).unwrap(), fake, &when).await;
        }
    }
}

#[tokio::test]
async fn the_dashboards_keys_are_made_and_rotated_at_resend_and_sentry() {
    every_key_lives("autonomous-coding-dashboard.toml", 2).await;
}

#[tokio::test]
async fn mgmt_vibes_key_is_made_and_rotated_at_openai() {
    every_key_lives("mgmt-vibe.toml", 1).await;
}

#[tokio::test]
async fn the_starter_kits_key_is_made_and_rotated_at_twilio() {
    every_key_lives("starter-kit.toml", 1).await;
}
