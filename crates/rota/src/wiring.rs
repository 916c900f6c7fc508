//! Puts the adapters together from the daemon's configuration.
//!
//! Deliberately absent: anything that a policy decides.

use std::path::PathBuf;
use std::sync::Arc;

use rota_adapters::aws::AwsEnvironment;
use rota_adapters::catalog::{self, Catalog};
use rota_adapters::child::Runs;
use rota_adapters::credential::CredentialSource;
use rota_adapters::ecs::EcsClients;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::http::{HttpClient, HttpOptions, Reach, Trust};
use rota_adapters::rotators::provider::Providers;
use rota_adapters::vault::{ReadSecret, VaultConnection, VaultLogin, VaultServer};
use rota_core::policy::kinds::Kinds;
use rota_core::policy::model::Environment;
use rota_engine::ports::{Adapters, Clock};

use crate::aws::{self, ObjectReader};
use crate::config::{Configuration, SecretKey, Settings, VaultAuth, read_pem};
use crate::exit::{Exit, Failure};
use crate::limits::LimitedAdapters;
use crate::machine::BootClock;
use crate::policy_source::PolicySource;

/// Where Kubernetes puts a pod's own token ("Service Accounts").
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Every kind that this build knows.
///
/// # Errors
/// A mistake in the catalogue.
pub(crate) fn kinds() -> Result<Kinds, Failure> {
    catalog::kinds().map_err(|clash| Failure::new(Exit::Failure, format!("a bug in the catalogue: {clash}")))
}

/// The production clock.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(BootClock)
}

/// How HTTP clients behave: whom they trust, and where they may go.
fn http(settings: &Settings) -> Result<HttpOptions, Failure> {
    let mut networks = Vec::new();
    for text in &settings.http.private_networks.0 {
        let network = text.parse().map_err(|_| {
            Failure::invalid(format!("`{text}` in `http.private_networks` is not a network"))
                .hint("write networks such as 10.0.0.0/8 or fd00::/8")
        })?;
        networks.push(network);
    }
    let trust = match &settings.http.ca_file {
        Some(path) => Trust::SystemAnd(read_pem(path)?.into_bytes()),
        None => Trust::System,
    };
    Ok(HttpOptions { trust, reach: Reach::private_within(networks), ..HttpOptions::default() })
}

/// A client for what the policy and the configuration name.
///
/// # Errors
/// Where its settings cannot be used.
pub(crate) fn client(settings: &Settings) -> Result<HttpClient, Failure> {
    Ok(HttpClient::new(&http(settings)?)?)
}

/// A client for what only the configuration names: channels. Private addresses are fine there.
///
/// # Errors
/// Where its settings cannot be used.
pub(crate) fn own_client(settings: &Settings) -> Result<HttpClient, Failure> {
    Ok(HttpClient::new(&HttpOptions { reach: Reach::private_too(), ..http(settings)? })?)
}

/// The environment as teams write it in their logs.
pub(crate) fn environment_word(environment: Environment) -> &'static str {
    match environment {
        Environment::Production => "prod",
        Environment::Staging => "staging",
        Environment::Development => "dev",
    }
}

/// What adapters are made of.
///
/// # Errors
/// Settings that cannot be used.
pub(crate) fn environment(settings: &Settings) -> Result<AdapterEnvironment, Failure> {
    let aws = AwsEnvironment::new(settings.aws.endpoint.as_deref())?;
    Ok(AdapterEnvironment {
        host: settings.env_file.host.clone(),
        http: http(settings)?,
        client: client(settings)?,
        clock: clock(),
        vault: vault(settings, &aws)?,
        aws,
        env_file_key: settings.env_file.key_file.clone(),
        credentials: CredentialSource::default(),
        runs: Runs::default(),
        ecs: EcsClients::default(),
        providers: Providers::with_folder(settings.providers.folder.as_deref())?,
    })
}

/// Every adapter, each behind its backend's gate.
///
/// # Errors
/// Settings that cannot be used.
pub(crate) fn adapters(settings: &Settings) -> Result<Arc<dyn Adapters>, Failure> {
    let catalog = Arc::new(Catalog::new(environment(settings)?));
    Ok(Arc::new(LimitedAdapters::new(catalog, clock(), settings.limits.clone())))
}

/// The Vault server, where one is configured. Makes no call.
fn vault(all: &Settings, aws: &AwsEnvironment) -> Result<Option<Arc<VaultConnection>>, Failure> {
    let settings = &all.vault;
    let Some(address) = settings.address.clone() else { return Ok(None) };
    let needed = |value: &Option<String>, key: &str| {
        value.clone().ok_or_else(|| {
            Failure::invalid(format!("`vault.{key}` is not set"))
                .hint("`vault.auth` needs it, see config/default.toml")
        })
    };
    let secret = |reader: &Option<ReadSecret>, key: SecretKey| {
        reader.clone().ok_or_else(|| Failure::invalid(format!("`{}` is not set", key.file())))
    };
    let mount = |usual: &str| settings.mount.clone().unwrap_or_else(|| usual.to_owned());
    let login = match settings.auth {
        VaultAuth::Token => {
            VaultLogin::Token { token: secret(&settings.secrets.token, SecretKey::VaultToken)? }
        }
        VaultAuth::Approle => VaultLogin::AppRole {
            mount: mount("approle"),
            role_id: needed(&settings.role_id, "role_id")?,
            secret_id: secret(&settings.secrets.secret_id, SecretKey::VaultSecretId)?,
        },
        VaultAuth::Kubernetes => VaultLogin::Kubernetes {
            mount: mount("kubernetes"),
            role: needed(&settings.role, "role")?,
            jwt_file: settings.jwt_file.clone().unwrap_or_else(|| PathBuf::from(SERVICE_ACCOUNT_TOKEN)),
        },
        VaultAuth::AwsIam => VaultLogin::AwsIam {
            mount: mount("aws"),
            role: needed(&settings.role, "role")?,
            sts_region: settings.sts_region.clone(),
            server_id: settings.server_id.clone(),
        },
    };
    let server = VaultServer {
        address,
        namespace: settings.namespace.clone(),
        authority: settings.ca_file.as_deref().map(read_pem).transpose()?.map(String::into_bytes),
        login,
    };
    let http = http(all)?;
    Ok(Some(Arc::new(VaultConnection::new(server, &http, aws.clone(), clock())?)))
}

/// The policy's place, and what reads it where that is S3.
pub(crate) struct Source {
    pub(crate) place: PolicySource,
    pub(crate) objects: Option<Arc<ObjectReader>>,
}

/// Where the policy is read from.
///
/// # Errors
/// Where none is named, or it cannot be understood.
pub(crate) async fn policy_source(configuration: &Configuration) -> Result<Source, Failure> {
    let settings = &configuration.settings;
    let text = settings.policy.source.as_deref().ok_or_else(|| {
        Failure::invalid("no policy is named").hint("give it on the command line, or set policy.source")
    })?;
    let place = PolicySource::parse(text)?;
    let objects = match &place {
        PolicySource::Path(_) => None,
        PolicySource::Object { .. } => Some(Arc::new(ObjectReader {
            config: aws::configuration(settings.aws.region.as_deref()).await,
            client: client(settings)?,
            endpoint: settings.aws.endpoint.clone(),
        })),
    };
    Ok(Source { place, objects })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Places;

    fn with(settings: &[(&str, &str)]) -> Result<Option<Arc<VaultConnection>>, Failure> {
        let flags = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let configuration = Configuration::load(&Places { flags, ..Places::default() }, [])?;
        vault(&configuration.settings, &AwsEnvironment::new(None)?)
    }

    #[test]
    fn vault_is_there_where_its_address_is_and_each_login_says_what_it_lacks() {
        assert!(with(&[]).unwrap().is_none());
        let address = ("vault.address", "https://vault.internal:8200");
        for (auth, lacks) in [("approle", "role_id"), ("kubernetes", "role"), ("aws-iam", "role")] {
            let auth = ("vault.auth", auth);
            let Err(failure) = with(&[address, auth]) else { panic!("{auth:?} was taken") };
            assert_eq!(failure.message, format!("`vault.{lacks}` is not set"));
            let key = format!("vault.{lacks}");
            assert!(with(&[address, auth, (&key, "rota")]).unwrap().is_some());
        }
        assert!(with(&[address, ("vault.auth", "token")]).unwrap().is_some());
        assert!(with(&[("vault.address", "http://vault.internal"), ("vault.auth", "token")]).is_err());
    }
}
