//! Against the strict fake and against the emulator.

mod emulator;
mod errors;
mod strict;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use rota_adapters::aws::AwsEnvironment;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::stores::aws_secrets_manager::AwsSecretsManagerStore;
use rota_core::fault::Fault;
use rota_core::id::{RotationId, SecretId, StoreId};
use rota_core::policy::model::StorePolicy;
use rota_engine::ports::{Slot, SlotRole};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::environment;

const REGION: &str = "us-east-1";
const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const KEY: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// The SDK's configuration with this key and no other source of credentials.
async fn sdk(id: &str, key: &str) -> SdkConfig {
    let credentials = Credentials::new(id, key, None, None, "test");
    aws_config::defaults(BehaviorVersion::latest())
        .region(Region::from_static(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .load()
        .await
}

pub(crate) async fn environment_at(endpoint: &str, id: &str, key: &str) -> AdapterEnvironment {
    let aws = AwsEnvironment::with_config(sdk(id, key).await, Some(endpoint)).unwrap();
    AdapterEnvironment { aws, ..environment() }
}

fn store_with(environment: &AdapterEnvironment, settings: Value) -> Result<AwsSecretsManagerStore, Fault> {
    let policy = StorePolicy {
        id: StoreId::new("aws").unwrap(),
        kind: "aws-secrets-manager".to_owned(),
        settings,
        path: "prod/acd/{name}".parse().unwrap(),
    };
    AwsSecretsManagerStore::new(&policy, environment)
}

fn store(environment: &AdapterEnvironment) -> AwsSecretsManagerStore {
    store_with(environment, json!({ "region": REGION })).unwrap()
}

/// A name that no other test has.
fn fresh_path() -> String {
    format!("prod/acd/{}", Uuid::new_v4())
}

fn slot(beside: &str, shared: bool) -> Slot {
    Slot {
        rotation: RotationId(Uuid::new_v4()),
        secret: SecretId::new("JWT_SECRET").unwrap(),
        role: SlotRole::Candidate,
        beside: beside.to_owned(),
        shared,
    }
}
