//! An account at a provider's fake, described by the provider's own file, and a key in use.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use rota_adapters::catalog::kinds;
use rota_adapters::environment::AdapterEnvironment;
use rota_adapters::rotators::provider::{ProviderRotator, Providers};
use rota_core::fault::Fault;
use rota_core::id::{EffectNo, Epoch, FieldName, Incarnation, RotationId, SecretId};
use rota_core::policy::diagnostic::render_all;
use rota_core::policy::model::{FieldPolicy, Fields, PolicyEntry, SecretPolicy};
use rota_core::policy::{Piece, load};
use rota_core::value::{Bundle, SecretValue};
use rota_engine::ports::{Fence, Rotator, TargetContext};
use rota_engine::test_support::rotator_suite::{RotatorUnderTest, SecretUnderTest};
use rota_fakes::http::Listen;
use rota_fakes::providers::{Key, Product, ProviderFake, openai, sentry, twilio};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{environment, value};

/// What tests have to know about an entry of the catalogue.
pub(super) struct Entry {
    pub(super) product: Product,
    pub(super) name: &'static str,
    /// The base in its file, which the fake's address takes the place of.
    base: &'static str,
    /// What consumers read, by name.
    fields: &'static [(&'static str, &'static str)],
    with: &'static [(&'static str, &'static str)],
    /// The beginning of the call that makes a key, and of the one that lists them.
    pub(super) creates: &'static str,
    pub(super) lists: &'static str,
}

pub(super) const RESEND: Entry = Entry {
    product: Product::Resend,
    name: "resend",
    base: "https://api.resend.com",
    fields: &[("KEY", "{secret}"), ("KEY_ID", "{id}")],
    with: &[],
    creates: "POST /api-keys",
    lists: "GET /api-keys",
};

pub(super) const TWILIO: Entry = Entry {
    product: Product::Twilio,
    name: "twilio",
    base: "https://api.twilio.com",
    fields: &[("KEY", "{id}:{secret}")],
    with: &[("account", twilio::ACCOUNT)],
    creates: "POST /2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/Keys.json",
    lists: "GET /2010-04-01/Accounts/AC0123456789abcdef0123456789abcdef/Keys.json",
};

pub(super) const SENTRY: Entry = Entry {
    product: Product::Sentry,
    name: "sentry",
    base: "https://sentry.io",
    fields: &[("KEY", "{dsn}")],
    with: &[("organization", sentry::ORGANIZATION), ("project", sentry::PROJECT)],
    creates: "POST /api/0/projects/acme/backend/keys/",
    lists: "GET /api/0/projects/acme/backend/keys/",
};

pub(super) const OPENAI: Entry = Entry {
    product: Product::OpenAi,
    name: "openai",
    base: "https://api.openai.com",
    fields: &[("KEY", "{secret}"), ("KEY_ID", "{id}")],
    with: &[("project", openai::PROJECT)],
    creates: "POST /v1/organization/projects/proj_abc/service_accounts",
    lists: "GET /v1/organization/projects/proj_abc/service_accounts",
};

/// Every entry of the catalogue.
pub(super) const ALL: [&Entry; 4] = [&RESEND, &TWILIO, &SENTRY, &OPENAI];

pub(super) const LABEL: &str = "acd";

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[store.main]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "test/{name}"

[secret.KEY]
kind = "provider"
stores = ["main"]
consumers = "none"
cadence = "30d"
overlap = "1d"
publish = { document = "test/key", whole = true }
"#;

/// The file of an entry, as it is shipped.
pub(super) fn file_of(name: &str) -> String {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/providers").join(format!("{name}.toml"));
    std::fs::read_to_string(path).unwrap()
}

/// An account whose first key was made by hand.
pub(super) struct Account {
    pub(super) entry: &'static Entry,
    pub(super) fake: ProviderFake,
    pub(super) environment: AdapterEnvironment,
    pub(super) first: Key,
}

impl Account {
    pub(super) fn new(entry: &'static Entry) -> Self {
        Self::with_file(entry, |file| file)
    }

    /// An account whose provider's file says something else.
    pub(super) fn with_file(entry: &'static Entry, edit: impl FnOnce(String) -> String) -> Self {
        let fake = ProviderFake::start(entry.product, Listen::default()).unwrap();
        // Rotations of the suite begin in a time of their own; keys are younger than all of them.
        fake.script().clock().advance(SignedDuration::from_hours(24 * 365 * 20));
        let file = edit(file_of(entry.name).replace(entry.base, &fake.url()));
        let providers = Providers::of([(entry.name, file.as_str())]).unwrap();
        let first = fake.make("made-by-hand");
        Self { entry, fake, environment: AdapterEnvironment { providers, ..environment() }, first }
    }

    pub(super) fn settings(&self) -> Value {
        let with: serde_json::Map<String, Value> =
            self.entry.with.iter().map(|(name, text)| ((*name).to_owned(), json!(text))).collect();
        json!({ "name": self.entry.name, "label": LABEL, "admin": "main:admin", "with": with })
    }

    pub(super) fn policy(&self) -> PolicyEntry {
        let fields: toml::Table =
            self.entry.fields.iter().map(|(name, text)| ((*name).to_owned(), (*text).into())).collect();
        let own = toml::Table::from_iter([
            ("provider".to_owned(), toml::Value::try_from(self.settings()).unwrap()),
            ("fields".to_owned(), fields.into()),
        ]);
        let text = format!("{POLICY}{}", toml::to_string(&own).unwrap().replace("[", "[secret.KEY."));
        let loaded = load(&[Piece::from_bytes("policy.toml", text.into_bytes()).unwrap()], &kinds().unwrap());
        let said = render_all(&loaded.diagnostics);
        let policy = loaded.policy.unwrap_or_else(|| panic!("{said}"));
        policy.entry(&SecretId::new("KEY").unwrap()).unwrap()
    }

    pub(super) fn rotator_alone(&self) -> Arc<dyn Rotator> {
        Arc::new(ProviderRotator::new(&self.policy().secret, &self.environment).unwrap())
    }

    /// What consumers read of a key.
    fn published(&self, key: &Key) -> Bundle {
        let parts = self.fake.parts(key);
        let filled = |template: &str| {
            parts
                .iter()
                .fold(template.to_owned(), |text, (part, shown)| text.replace(&format!("{{{part}}}"), shown))
        };
        let field =
            |(name, template): &(&str, &str)| (FieldName::new(name).unwrap(), value(&filled(template)));
        Bundle::new(self.entry.fields.iter().map(field).collect())
    }

    /// The parts of a key, as the rotator reads them.
    pub(super) fn parts(&self, key: &Key) -> Bundle {
        self.rotator_alone().parts_of(&self.published(key), &self.policy().secret).unwrap()
    }

    /// What a call of the engine would be given.
    pub(super) fn context(&self) -> TargetContext {
        TargetContext {
            rotation: RotationId(Uuid::now_v7()),
            policy: Arc::new(self.policy()),
            old: Some(self.parts(&self.first)),
            new: None,
            old_identity: None,
            new_identity: None,
            admin: Some(value(&self.fake.admin())),
            since_promotion: None,
            emergency: false,
            predecessor_unknown: false,
        }
    }

    /// A rotation whose key was made and staged.
    pub(super) async fn made(&self) -> TargetContext {
        let (context, rotator) = (self.context(), self.rotator_alone());
        rotator.preflight(&context).await.unwrap();
        let created = rotator.create(&context, fence()).await.unwrap();
        TargetContext { new_identity: Some(created.identity), new: Some(created.parts), ..context }
    }

    /// The fault of a call, which tells no secret.
    pub(super) fn told<T>(&self, result: Result<T, Fault>) -> Fault {
        let fault = crate::support::fault(result);
        let admin = self.fake.admin();
        // A login of two parts is told by neither its whole nor its longest part.
        let longest = admin.split('"').max_by_key(|part| part.len()).unwrap_or_default().to_owned();
        for secret in self.fake.keys().into_iter().map(|key| key.secret).chain([admin, longest]) {
            assert!(!fault.to_string().contains(&secret), "a secret is told: {fault}");
        }
        fault
    }
}

pub(super) fn fence() -> Fence {
    Fence { incarnation: Incarnation(1), epoch: Epoch(1), effect: EffectNo(1) }
}

pub(super) fn part<'a>(value: &'a Bundle, name: &str) -> &'a SecretValue {
    value.iter().find(|(part, _)| part.as_str() == name).unwrap().1
}

#[async_trait]
impl RotatorUnderTest for Account {
    fn secret(&self) -> SecretUnderTest {
        let field = |(name, template): &(&str, &str)| {
            let policy = FieldPolicy { template: Some(template.parse().unwrap()), format: None };
            (FieldName::new(name).unwrap(), policy)
        };
        SecretUnderTest {
            kind: "provider".to_owned(),
            settings: self.settings(),
            fields: Fields::from_iter(self.entry.fields.iter().map(field)),
            accept_gap: false,
        }
    }

    fn rotator(&self, policy: &SecretPolicy) -> Arc<dyn Rotator> {
        Arc::new(ProviderRotator::new(policy, &self.environment).unwrap())
    }

    fn admin(&self) -> Option<(String, String)> {
        Some(("admin".to_owned(), self.fake.admin()))
    }

    fn first(&self) -> Bundle {
        self.published(&self.first)
    }

    async fn uses(&self, key: &Bundle) -> bool {
        let parts = key.iter().map(|(name, part)| (name.as_str().to_owned(), part.expose().to_owned()));
        self.fake.is_accepted(&parts.collect()).await
    }

    async fn alive(&self) -> Vec<String> {
        let mut ids: Vec<String> = self.fake.keys().into_iter().map(|key| key.id).collect();
        ids.sort();
        ids
    }

    /// The key is gone, and another stands under the label.
    async fn change_by_hand(&self, key: &Bundle) {
        self.fake.remove(part(key, "id").expose());
        self.fake.make(&format!("{LABEL}-{}", Uuid::now_v7().simple()));
    }
}
