//! A generated value in Vault.

use rota_core::policy::model::Policy;

use crate::support::World;

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[store.vault]
kind = "vault-kv2"
mount = "secret"
path = "test/{name}"

[secret.HMAC_SECRET]
kind = "generated"
format = "hex:32"
class = "password"
stores = ["vault"]
consumers = "none"
cadence = "90d"
overlap = "1s"
healthy = { count = 1, every = "1s" }
"#;

async fn published(world: &World, policy: &Policy) -> String {
    let store = world.adapters.store(policy.stores.values().next().unwrap()).unwrap();
    store.read("test/HMAC_SECRET").await.unwrap().unwrap().value.expose().to_owned()
}

#[tokio::test]
async fn a_secret_is_created_in_vault_on_order_and_rotates_there() {
    let world = World::new().await;
    let policy = world.accept(POLICY).await;
    world.order("rotate", "HMAC_SECRET").await;
    world.work_until_ended("HMAC_SECRET", "completed", 1).await;
    let first = published(&world, &policy).await;
    world.order("rotate", "HMAC_SECRET").await;
    world.work_until_ended("HMAC_SECRET", "completed", 2).await;
    let second = published(&world, &policy).await;
    assert_eq!((first.len(), second.len()), (64, 64));
    assert_ne!(first, second);
}
