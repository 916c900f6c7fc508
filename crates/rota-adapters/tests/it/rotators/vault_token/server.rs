//! A Vault with a token in use, and a daemon that has the rights of the documentation.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use rota_adapters::aws::AwsEnvironment;
use rota_adapters::catalog::kinds;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::http::HttpOptions;
use rota_adapters::rotators::vault_token::VaultTokenRotator;
use rota_core::fault::Fault;
use rota_core::id::{EffectNo, Epoch, FieldName, Incarnation, RotationId, SecretId};
use rota_core::policy::diagnostic::render_all;
use rota_core::policy::model::{FieldPolicy, Fields, PolicyEntry, SecretPolicy};
use rota_core::policy::{Piece, load};
use rota_core::value::Bundle;
use rota_engine::ports::{Created, Fence, Rotator, TargetContext};
use rota_engine::test_support::SimClock;
use rota_engine::test_support::rotator_suite::{RotatorUnderTest, SecretUnderTest};
use rota_fakes::http::Listen;
use rota_fakes::vault::VaultFake;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::stores::vault_kv2::{environment_with, server, token_login};
use crate::support::value;

/// What the page of the kind asks for, one line for each right.
pub(super) const RIGHTS: [&str; 5] = [
    r#"path "auth/token/create/acd" { capabilities = ["update"] }"#,
    r#"path "auth/token/create-orphan" { capabilities = ["update", "sudo"] }"#,
    r#"path "auth/token/accessors/" { capabilities = ["list", "sudo"] }"#,
    r#"path "auth/token/lookup-accessor" { capabilities = ["update"] }"#,
    r#"path "auth/token/revoke-accessor" { capabilities = ["update"] }"#,
];

const TEMPLATES: [(&str, &str); 2] = [("VAULT_TOKEN", "{token}"), ("VAULT_TOKEN_ACCESSOR", "{accessor}")];

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[store.main]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "test/{name}"

[secret.SUBJECT]
kind = "vault-token"
stores = ["main"]
consumers = "none"
cadence = "30d"
overlap = "1d"
fields = { VAULT_TOKEN = "{token}", VAULT_TOKEN_ACCESSOR = "{accessor}" }

[secret.SUBJECT.vault]
"#;

pub(super) struct Server {
    pub(super) fake: VaultFake,
    pub(super) environment: AdapterEnvironment,
    pub(super) settings: Value,
    pub(super) first: Bundle,
    /// Accessors that are no consumer's: the root's and the daemon's.
    others: Vec<String>,
    client: reqwest::Client,
}

pub(super) fn fence() -> Fence {
    Fence { incarnation: Incarnation(1), epoch: Epoch(5), effect: EffectNo(17) }
}

pub(super) fn bundle(token: &str, accessor: &str) -> Bundle {
    let name = |name: &str| FieldName::new(name).unwrap();
    Bundle::new([(name("token"), value(token)), (name("accessor"), value(accessor))].into())
}

pub(super) fn part<'a>(parts: &'a Bundle, name: &str) -> &'a str {
    parts.iter().find(|(part, _)| part.as_str() == name).unwrap().1.expose()
}

/// The fault of a call, which tells no token.
pub(super) fn told<T>(result: Result<T, Fault>) -> Fault {
    let fault = crate::support::fault(result);
    assert!(!fault.to_string().contains("hvs."), "a token is told: {fault}");
    fault
}

pub(super) fn holds(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "`{word}` is missing: {said}");
    }
}

/// A daemon that may do what these lines say.
pub(super) async fn daemon(fake: &VaultFake, rights: &str) -> AdapterEnvironment {
    fake.policy("rota", rights).await.unwrap();
    let token = fake.token(json!({ "policies": ["rota", "acd"], "display_name": "daemon" })).await.unwrap();
    let clock = SimClock::new(Timestamp::UNIX_EPOCH);
    let aws = AwsEnvironment::new(None).unwrap();
    environment_with(server(&fake.url(), token_login(&token)), &HttpOptions::default(), aws, &clock).unwrap()
}

impl Server {
    async fn new(settings: Value) -> Self {
        let fake = VaultFake::start(Listen::default()).unwrap();
        fake.policy("acd", r#"path "secret/data/acd/*" { capabilities = ["read"] }"#).await.unwrap();
        let role = json!({ "allowed_policies": ["acd"], "orphan": true, "token_period": "72h" });
        fake.admin("POST", "auth/token/roles/acd", role).await.unwrap();
        let environment = daemon(&fake, &RIGHTS.join("\n")).await;
        let listed = fake.admin("LIST", "auth/token/accessors", json!({})).await.unwrap();
        let others = listed["data"]["keys"].as_array().unwrap().iter();
        let others = others.map(|key| key.as_str().unwrap().to_owned()).collect();
        let made =
            fake.admin("POST", "auth/token/create-orphan", json!({ "policies": ["acd"] })).await.unwrap();
        let text = |name: &str| made["auth"][name].as_str().unwrap().to_owned();
        let first = bundle(&text("client_token"), &text("accessor"));
        Self { fake, environment, settings, first, others, client: reqwest::Client::new() }
    }

    pub(super) async fn by_policies() -> Self {
        Self::new(json!({ "policies": ["acd"], "ttl": "768h" })).await
    }

    pub(super) async fn by_role() -> Self {
        Self::new(json!({ "role": "acd", "period": "72h" })).await
    }

    fn entry(&self) -> PolicyEntry {
        let text = format!("{POLICY}{}", toml::to_string(&self.settings).unwrap());
        let loaded = load(&[Piece::from_bytes("policy.toml", text.into_bytes()).unwrap()], &kinds().unwrap());
        let said = render_all(&loaded.diagnostics);
        let policy = loaded.policy.unwrap_or_else(|| panic!("{said}"));
        policy.entry(&SecretId::new("SUBJECT").unwrap()).unwrap()
    }

    pub(super) fn rotator_alone(&self) -> Arc<dyn Rotator> {
        self.rotator(&self.entry().secret)
    }

    /// What a call of the engine would be given.
    pub(super) fn context(&self) -> TargetContext {
        TargetContext {
            rotation: RotationId(Uuid::now_v7()),
            policy: Arc::new(self.entry()),
            old: Some(self.first.duplicate()),
            new: None,
            old_identity: None,
            new_identity: None,
            admin: None,
            since_promotion: None,
            emergency: false,
            predecessor_unknown: false,
        }
    }

    /// The context of a rotation that has made its token.
    pub(super) async fn made(&self) -> TargetContext {
        let context = self.context();
        let Created { parts, identity } = self.rotator_alone().create(&context, fence()).await.unwrap();
        TargetContext { new: Some(parts), new_identity: Some(identity), ..context }
    }

    /// What Vault tells of a token.
    pub(super) async fn look_up(&self, accessor: &str) -> Value {
        let asked = json!({ "accessor": accessor });
        self.fake.admin("POST", "auth/token/lookup-accessor", asked).await.unwrap()["data"].clone()
    }

    /// A token that somebody makes with another one, and its accessor.
    pub(super) async fn child_of(&self, token: &str, policies: &[&str]) -> (String, String) {
        let request = self.client.post(format!("{}/v1/auth/token/create", self.fake.url()));
        let request =
            request.header("x-vault-token", token).json(&json!({ "policies": policies, "ttl": "1h" }));
        let made: Value = request.send().await.unwrap().json().await.unwrap();
        let text = |name: &str| made["auth"][name].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        (text("client_token"), text("accessor"))
    }

    pub(super) async fn lets_in(&self, token: &str) -> bool {
        let request = self.client.get(format!("{}/v1/auth/token/lookup-self", self.fake.url()));
        request.header("x-vault-token", token).send().await.unwrap().status().is_success()
    }
}

#[async_trait]
impl RotatorUnderTest for Server {
    fn secret(&self) -> SecretUnderTest {
        let field = |(name, template): (&str, &str)| {
            let policy = FieldPolicy { template: Some(template.parse().unwrap()), format: None };
            (FieldName::new(name).unwrap(), policy)
        };
        SecretUnderTest {
            kind: "vault-token".to_owned(),
            settings: self.settings.clone(),
            fields: Fields::from_iter(TEMPLATES.map(field)),
            accept_gap: false,
        }
    }

    fn rotator(&self, policy: &SecretPolicy) -> Arc<dyn Rotator> {
        Arc::new(VaultTokenRotator::new(policy, &self.environment).unwrap())
    }

    fn admin(&self) -> Option<(String, String)> {
        None
    }

    fn first(&self) -> Bundle {
        let field = |name: &str| FieldName::new(name).unwrap();
        let of = |name: &str| value(part(&self.first, name));
        let parts = [(field("VAULT_TOKEN"), of("token")), (field("VAULT_TOKEN_ACCESSOR"), of("accessor"))];
        Bundle::new(parts.into())
    }

    async fn uses(&self, token: &Bundle) -> bool {
        self.lets_in(part(token, "token")).await
    }

    async fn alive(&self) -> Vec<String> {
        let listed = self.fake.admin("LIST", "auth/token/accessors", json!({})).await.unwrap();
        let listed = listed["data"]["keys"].as_array().unwrap().iter();
        let all = listed.map(|key| key.as_str().unwrap().to_owned());
        let mut alive: Vec<String> = all.filter(|accessor| !self.others.contains(accessor)).collect();
        alive.sort();
        alive
    }

    /// Somebody makes a token that says it is this secret's.
    async fn change_by_hand(&self, _: &Bundle) {
        let settings = json!({ "policies": ["acd"], "meta": { "rota_secret": "SUBJECT" } });
        self.fake.token(settings).await.unwrap();
    }
}
