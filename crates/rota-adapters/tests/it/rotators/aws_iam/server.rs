//! A user of the emulator with one key in use.

use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_iam::Client;
use aws_sdk_iam::types::StatusType;
use jiff::Timestamp;
use rota_adapters::aws::AwsAccount;
use rota_adapters::catalog::kinds;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::rotators::aws_iam::IamKeyRotator;
use rota_core::fault::Fault;
use rota_core::id::{FieldName, RotationId, SecretId};
use rota_core::policy::diagnostic::render_all;
use rota_core::policy::model::{FieldPolicy, Fields, PolicyEntry, SecretPolicy};
use rota_core::policy::{Piece, load};
use rota_core::value::Bundle;
use rota_engine::ports::{Rotator, TargetContext};
use rota_engine::test_support::rotator_suite::{RotatorUnderTest, SecretUnderTest};
use rota_fakes::moto::{AwsKey, MotoServer};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use uuid::{ContextV7, Uuid};

use crate::stores::aws_secrets_manager::environment_at;
use crate::support::value;

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[store.main]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "test/{name}"

[secret.S3_KEY]
kind = "aws-iam-access-key"
stores = ["main"]
consumers = "none"
cadence = "30d"
overlap = "1d"
fields = { S3_KEY = "{access_key_id}:{secret_access_key}" }

[secret.S3_KEY.iam]
"#;

/// The emulator of all tests here, and its administrator.
async fn emulator() -> &'static (MotoServer, AwsKey) {
    static EMULATOR: OnceCell<(MotoServer, AwsKey)> = OnceCell::const_new();
    let start = async || {
        let server = MotoServer::start(&[]).unwrap();
        let key = server.require_auth().await.unwrap();
        (server, key)
    };
    EMULATOR.get_or_init(start).await
}

/// An IAM user whose key is rotated.
pub(super) struct User {
    pub(super) environment: AdapterEnvironment,
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) settings: Value,
    pub(super) first: (String, String),
    /// When the first key was made, by the emulator's clock.
    pub(super) began: Timestamp,
}

fn account() -> AwsAccount {
    AwsAccount { region: "us-east-1".to_owned(), role: None }
}

impl User {
    pub(super) async fn new() -> Self {
        let (server, admin) = emulator().await;
        let environment = environment_at(&server.url(), &admin.id, &admin.secret).await;
        let client = Client::new(&environment.aws.account(&account()).await);
        let name = format!("user-{}", Uuid::new_v4());
        client.create_user().user_name(&name).send().await.unwrap();
        let settings = json!({ "user": name, "exclusive": true, "quiet": "0s" });
        let made = client.create_access_key().user_name(&name).send().await.unwrap().access_key.unwrap();
        let began = Timestamp::from_second(made.create_date.unwrap().secs()).unwrap();
        let first = (made.access_key_id, made.secret_access_key);
        Self { environment, client, name, settings, first, began }
    }

    /// A key that somebody makes by hand.
    pub(super) async fn make(&self) -> (String, String) {
        let made = self.client.create_access_key().user_name(&self.name).send().await.unwrap();
        let key = made.access_key.unwrap();
        (key.access_key_id, key.secret_access_key)
    }

    pub(super) async fn delete(&self, id: &str) {
        self.client.delete_access_key().user_name(&self.name).access_key_id(id).send().await.unwrap();
    }

    /// Id and state of each key, sorted.
    pub(super) async fn keys(&self) -> Vec<(String, bool)> {
        let listed = self.client.list_access_keys().user_name(&self.name).send().await.unwrap();
        let key = |key: &aws_sdk_iam::types::AccessKeyMetadata| {
            (key.access_key_id.clone().unwrap(), key.status == Some(StatusType::Active))
        };
        let mut keys: Vec<(String, bool)> = listed.access_key_metadata.iter().map(key).collect();
        keys.sort();
        keys
    }

    /// Asks STS with a key, as consumers sign their calls.
    pub(super) async fn call(&self, id: &str, secret: &str) -> bool {
        let (server, _) = emulator().await;
        let own = environment_at(&server.url(), id, secret).await;
        let sts = aws_sdk_sts::Client::new(&own.aws.account(&account()).await);
        sts.get_caller_identity().send().await.is_ok()
    }

    pub(super) fn rotator_alone(&self) -> Arc<dyn Rotator> {
        Arc::new(IamKeyRotator::new(&self.entry().secret, &self.environment).unwrap())
    }

    fn entry(&self) -> PolicyEntry {
        let text = format!("{POLICY}{}", toml::to_string(&self.settings).unwrap());
        let loaded = load(&[Piece::from_bytes("policy.toml", text.into_bytes()).unwrap()], &kinds().unwrap());
        let said = render_all(&loaded.diagnostics);
        let policy = loaded.policy.unwrap_or_else(|| panic!("{said}"));
        policy.entry(&SecretId::new("S3_KEY").unwrap()).unwrap()
    }

    pub(super) fn parts((id, secret): (&str, &str)) -> Bundle {
        let field = |name: &str| FieldName::new(name).unwrap();
        let parts = [("access_key_id", id), ("secret_access_key", secret)];
        Bundle::new(parts.into_iter().map(|(name, text)| (field(name), value(text))).collect())
    }

    /// What a call of the engine would be given, in a rotation that begins now.
    pub(super) fn context(&self) -> TargetContext {
        let seconds = u64::try_from(self.began.as_second()).unwrap();
        let began = uuid::Timestamp::from_unix(ContextV7::new(), seconds, 0);
        TargetContext {
            rotation: RotationId(Uuid::new_v7(began)),
            policy: Arc::new(self.entry()),
            old: Some(Self::parts((&self.first.0, &self.first.1))),
            new: None,
            old_identity: None,
            new_identity: None,
            admin: None,
            since_promotion: None,
            emergency: false,
            predecessor_unknown: false,
        }
    }
}

/// The fault of a call, which tells no secret.
pub(super) fn told<T>(user: &User, result: Result<T, Fault>) -> Fault {
    let fault = crate::support::fault(result);
    assert!(!fault.to_string().contains(&user.first.1), "a secret key is told: {fault}");
    fault
}

fn field() -> FieldName {
    FieldName::new("S3_KEY").unwrap()
}

fn part<'a>(value: &'a Bundle, name: &str) -> &'a str {
    value.iter().find(|(part, _)| part.as_str() == name).unwrap().1.expose()
}

#[async_trait]
impl RotatorUnderTest for User {
    fn secret(&self) -> SecretUnderTest {
        let template = "{access_key_id}:{secret_access_key}".parse().unwrap();
        let field_policy = FieldPolicy { template: Some(template), format: None };
        SecretUnderTest {
            kind: "aws-iam-access-key".to_owned(),
            settings: json!({ "user": self.name, "exclusive": true, "quiet": "0s" }),
            fields: Fields::from_iter([(field(), field_policy)]),
            accept_gap: false,
        }
    }

    fn rotator(&self, policy: &SecretPolicy) -> Arc<dyn Rotator> {
        Arc::new(IamKeyRotator::new(policy, &self.environment).unwrap())
    }

    fn admin(&self) -> Option<(String, String)> {
        None
    }

    fn first(&self) -> Bundle {
        Bundle::single(field(), value(&format!("{}:{}", self.first.0, self.first.1)))
    }

    /// The emulator lets an inactive key in, which AWS does not.
    async fn uses(&self, key: &Bundle) -> bool {
        let id = part(key, "access_key_id");
        let active = self.keys().await.contains(&(id.to_owned(), true));
        active && self.call(id, part(key, "secret_access_key")).await
    }

    async fn alive(&self) -> Vec<String> {
        self.keys().await.into_iter().map(|(id, _)| id).collect()
    }

    async fn change_by_hand(&self, key: &Bundle) {
        self.delete(part(key, "access_key_id")).await;
        self.make().await;
    }
}
