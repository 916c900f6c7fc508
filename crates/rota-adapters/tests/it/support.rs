//! What every test of an adapter starts from.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rota_adapters::aws::AwsEnvironment;
use rota_adapters::child::Runs;
use rota_adapters::credential::{CredentialSource, Credentials, Reference};
use rota_adapters::ecs::EcsClients;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::http::{HttpClient, HttpOptions};
use rota_adapters::rotators::provider::Providers;
use rota_core::fault::Fault;
use rota_core::id::{EffectNo, Epoch, Incarnation};
use rota_core::value::SecretValue;
use rota_engine::ports::WriteToken;
use rota_engine::test_support::SimClock;
use uuid::Uuid;

/// No credentials, no private networks, a clock that stands still.
pub(crate) fn environment() -> AdapterEnvironment {
    let http = HttpOptions::default();
    AdapterEnvironment {
        host: None,
        client: HttpClient::new(&http).unwrap(),
        http,
        clock: Arc::new(SimClock::new(Timestamp::UNIX_EPOCH)),
        aws: AwsEnvironment::new(None).unwrap(),
        vault: None,
        env_file_key: None,
        credentials: CredentialSource::default(),
        runs: Runs::default(),
        ecs: EcsClients::default(),
        providers: Providers::shipped().unwrap(),
    }
}

/// An environment in whose stores these credentials are kept, by reference.
pub(crate) fn environment_with(credentials: &[(&'static str, &'static str)]) -> AdapterEnvironment {
    let environment = environment();
    environment.credentials.connect(Arc::new(FakeCredentials(credentials.iter().copied().collect())));
    environment
}

struct FakeCredentials(BTreeMap<&'static str, &'static str>);

#[async_trait]
impl Credentials for FakeCredentials {
    async fn read(&self, reference: &Reference) -> Result<SecretValue, Fault> {
        let found = self.0.get(reference.to_string().as_str());
        let found = found.ok_or_else(|| Fault::invalid(format!("nothing is stored at `{reference}`")));
        Ok(value(found?))
    }
}

pub(crate) fn value(text: &str) -> SecretValue {
    SecretValue::new(text.to_owned()).unwrap()
}

/// A token that no other write has.
pub(crate) fn token() -> WriteToken {
    WriteToken { token: Uuid::new_v4(), incarnation: Incarnation(1), epoch: Epoch(5), effect: EffectNo(17) }
}

/// The fault of a call that must not succeed; its message is what a person reads.
pub(crate) fn fault<T>(result: Result<T, Fault>) -> Fault {
    let Err(fault) = result else { panic!("the call succeeded") };
    let message = fault.to_string();
    assert!(!message.ends_with('.') && message.lines().count() == 1, "not a message: {message}");
    fault
}
