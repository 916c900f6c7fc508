//! Generated values published to an env file.

use rota_core::document::{DocumentFormat, get};
use rota_core::value::SecretValue;

use crate::support::World;

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[store.env]
kind = "env-file"
path = "{folder}/.env"

[secret.HMAC_SECRET]
kind = "generated"
format = "hex:32"
class = "password"
stores = ["env"]
consumers = "none"
cadence = "6s"
lead = "5s"
overlap = "1s"
healthy = { count = 1, every = "1s" }
"#;

fn read(world: &World, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(world.folder.path().join(".env")).ok()?;
    let text = SecretValue::new(text).unwrap();
    get(&text, DocumentFormat::Dotenv, name).unwrap().map(|value| value.expose().to_owned())
}

#[tokio::test]
async fn a_secret_is_created_on_order_and_then_rotates_on_its_cadence() {
    let world = World::new().await;
    world.accept(POLICY).await;
    world.order("rotate", "HMAC_SECRET").await;
    world.work_until_ended("HMAC_SECRET", "completed", 1).await;
    let first = read(&world, "HMAC_SECRET").expect("the value is published");
    assert_eq!(first.len(), 64);

    world.work_until_ended("HMAC_SECRET", "completed", 3).await;
    let later = read(&world, "HMAC_SECRET").unwrap();
    assert_ne!(first, later);
    assert_eq!(later.len(), 64);
}
