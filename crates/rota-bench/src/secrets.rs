//! Policies of any size: as the engine has them, and as the files that people write.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use jiff::SignedDuration;
use rota_core::format::Format;
use rota_core::id::{ConsumerId, FieldName, SecretId, StoreId};
use rota_core::policy::model::{
    CheckPolicy, Class, ConsumerPolicy, Consumers, Environment, FieldPolicy, Fields, Healthy, OnFailure,
    Policy, Priority, PublishForm, RolloutPolicy, SecretPolicy, StorePolicy,
};
use rota_core::publication::{paths, render};
use rota_core::rotation::List;
use rota_core::schedule::Schedule;
use rota_core::value::{Bundle, SecretValue};
use serde_json::json;

use crate::fakes::{WITH_TARGET, World};

/// The one store of these policies.
const STORE: &str = "memory";

/// Secrets in one file of a folder: well below the limit of a mebibyte.
const SECRETS_IN_A_FILE: usize = 5_000;

/// The name of secret number `index`.
pub(crate) fn name(index: usize) -> String {
    format!("SERVICE_{index:06}_SECRET")
}

/// The id of the one store.
pub(crate) fn store() -> Result<StoreId> {
    Ok(StoreId::new(STORE)?)
}

/// A policy of `count` secrets that wait for nothing: half of them credentials of a
/// target, half signing keys in lists, each with a consumer of its own that has two checks.
pub(crate) fn policy(count: usize) -> Result<Policy> {
    let store = StorePolicy {
        id: store()?,
        kind: "memory".to_owned(),
        settings: json!({}),
        path: "bench/{name}".to_owned().try_into().context("a path")?,
    };
    let mut policy = Policy {
        application: "bench".to_owned(),
        environment: Environment::Development,
        secrets: BTreeMap::new(),
        consumers: BTreeMap::new(),
        stores: BTreeMap::from([(store.id.clone(), store)]),
        owners: BTreeMap::new(),
    };
    for index in 0..count {
        let consumer = consumer(index)?;
        let secret = secret(index, &consumer.id)?;
        policy.consumers.insert(consumer.id.clone(), consumer);
        policy.secrets.insert(secret.id.clone(), secret);
    }
    Ok(policy)
}

fn consumer(index: usize) -> Result<ConsumerPolicy> {
    let check = |name: &str| CheckPolicy {
        name: name.to_owned(),
        kind: "http".to_owned(),
        settings: json!({ "url": format!("https://service-{index}.internal/{name}"), "expect": 200 }),
    };
    Ok(ConsumerPolicy {
        id: ConsumerId::new(&format!("service-{index:06}"))?,
        rollout: RolloutPolicy {
            kind: "ecs".to_owned(),
            settings: json!({ "cluster": "prod", "service": format!("service-{index}") }),
            deadline: SignedDuration::from_hours(2),
        },
        checks: vec![check("health"), check("ready")],
        unmonitored: None,
        settle: SignedDuration::ZERO,
    })
}

fn secret(index: usize, consumer: &ConsumerId) -> Result<SecretPolicy> {
    let signs = index.is_multiple_of(2);
    let field = FieldName::new(&name(index))?;
    let publish = if signs { PublishForm::List { name: field.clone() } } else { PublishForm::Single };
    Ok(SecretPolicy {
        id: SecretId::new(&name(index))?,
        kind: if signs { "generated" } else { WITH_TARGET }.to_owned(),
        settings: json!(null),
        class: Some(if signs { Class::Signing } else { Class::Password }),
        format: Some("hex:64".parse::<Format>().context("a format")?),
        fields: Fields::from([(field, FieldPolicy { template: None, format: None })]),
        stores: vec![store()?],
        publish,
        schedule: Schedule::Cadence { every: SignedDuration::from_hours(90 * 24) },
        lead: SignedDuration::from_hours(24),
        overlap: SignedDuration::ZERO,
        token_ttl: SignedDuration::ZERO,
        revoke_after: SignedDuration::ZERO,
        window: None,
        healthy: Healthy { count: 3, every: SignedDuration::ZERO, failures: 3 },
        on_failure: OnFailure::Hold,
        deadlines: BTreeMap::new(),
        consumers: Consumers::Named { names: vec![consumer.clone()] },
        accept_gap: false,
        priority: Priority::Medium,
        owner: None,
        remind: vec![SignedDuration::from_hours(48)],
        page: None,
        prove: None,
        prove_with: None,
        hooks: Vec::new(),
        inbox: None,
        own: false,
        cadence_basis: None,
    })
}

/// The world of `policy`, in which every secret has its first value.
pub(crate) fn world(policy: &Policy) -> Result<World> {
    let world = World::new(store()?);
    for secret in policy.secrets.values() {
        let field = secret.fields.keys().next().context("a secret without a field")?;
        let value = SecretValue::new(format!("{:0>128}", secret.id.as_str().len()))?;
        let bundle = Bundle::single(field.clone(), value);
        let texts = render(secret, List::Old, Some(&bundle), None)?;
        for store in policy.stores.values() {
            for (path, names) in paths(secret, store) {
                for text in names.iter().filter_map(|(name, _)| texts.get(name)) {
                    world.put(path.clone(), text.duplicate());
                }
            }
        }
    }
    Ok(world)
}

/// Writes a policy of `count` secrets as a folder of TOML files, as a team would.
pub(crate) fn write_files(folder: &Path, count: usize) -> Result<()> {
    let head = "version = 1\napplication = \"bench\"\nenvironment = \"production\"\n\n\
        [store.vault]\nkind = \"vault-kv2\"\nmount = \"secret\"\npath = \"bench/{name}\"\n\n\
        [defaults]\nstores = [\"vault\"]\nremind = [\"14d\", \"7d\", \"1d\"]\nowner = \"platform\"\n\n[owner.platform]\nslack_mention = \"S012AB3CD\"\n\n\
        [profile.signing-key]\nkind = \"generated\"\nformat = \"hex:64\"\nclass = \"signing\"\n\
        cadence = \"90d\"\noverlap = \"7d\"\ntoken_ttl = \"7d\"\n\n\
        [profile.password]\nkind = \"generated\"\nformat = \"base62:32\"\nclass = \"password\"\n\
        cadence = \"30d\"\noverlap = \"24h\"\naccept_gap = true\n\n";
    let mut shared = head.to_owned();
    for service in 0..services(count) {
        shared.push_str(&format!(
            "[consumer.service-{service:04}]\nrollout = {{ kind = \"reread\", within = \"5m\" }}\n\
             checks = [{{ kind = \"http\", url = \"https://service-{service}.example.com/health\" }}]\n\n"
        ));
    }
    std::fs::write(folder.join("a-shared.toml"), shared)?;
    for first in (0..count).step_by(SECRETS_IN_A_FILE) {
        let mut text = String::from("version = 1\n\n");
        for index in first..count.min(first + SECRETS_IN_A_FILE) {
            text.push_str(&entry(index, services(count)));
        }
        std::fs::write(folder.join(format!("secrets-{first:06}.toml")), text)?;
    }
    Ok(())
}

/// A hundred secrets a service.
fn services(secrets: usize) -> usize {
    secrets.div_ceil(100)
}

fn entry(index: usize, services: usize) -> String {
    let (name, service) = (name(index), index % services);
    if index.is_multiple_of(2) {
        format!(
            "[secret.{name}]\nprofile = \"signing-key\"\nconsumers = [\"service-{service:04}\"]\n\
             publish = {{ list = \"{name}S\" }}\n\n"
        )
    } else {
        format!("[secret.{name}]\nprofile = \"password\"\nconsumers = [\"service-{service:04}\"]\n\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_has_as_many_secrets_as_asked_for_and_its_world_their_values() {
        let policy = policy(11).unwrap();
        assert_eq!((policy.secrets.len(), policy.consumers.len()), (11, 11));
        assert!(world(&policy).is_ok());
        assert_eq!([services(1), services(100), services(101)], [1, 1, 2]);
    }
}
