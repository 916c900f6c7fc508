//! A user with one password, on a service that other tests may disturb.

use std::sync::Arc;

use async_trait::async_trait;
use rota_adapters::catalog::{ROTATORS, kinds};
use rota_core::fault::Fault;
use rota_core::id::{EffectNo, Epoch, FieldName, Incarnation, RotationId, SecretId};
use rota_core::policy::diagnostic::render_all;
use rota_core::policy::model::{FieldPolicy, Fields, PolicyEntry, SecretPolicy};
use rota_core::policy::{Piece, load};
use rota_core::value::Bundle;
use rota_engine::ports::{Fence, OrderKind, Rotator, TargetContext};
use rota_engine::test_support::rotator_suite::{Harness, RotatorUnderTest, SecretUnderTest};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{environment, value};

pub(super) const USER: &str = "ci";
pub(super) const FIRST: &str = "first-word-of-many";
pub(super) const NEXT: &str = "next-word-of-many";

/// A service as a test sees it, whatever its calls.
#[async_trait]
pub(super) trait Service: Send + Sync {
    /// Logs in as consumers do.
    async fn lets_in(&self, user: &str, password: &str) -> bool;

    /// What somebody does in the browser.
    fn set_by_hand(&self, user: &str, password: &str);

    fn url(&self) -> String;
}

/// The user [`USER`] with [`FIRST`], and how Rota is told to rotate it.
pub(super) struct Account<S> {
    pub(super) service: S,
    pub(super) kind: &'static str,
    pub(super) table: &'static str,
    pub(super) settings: Value,
    /// What is kept at `main:admin`.
    pub(super) admin: Option<String>,
    /// What consumers read.
    pub(super) published: String,
}

const POLICY: &str = r#"
version = 1
application = "test"
environment = "development"

[store.main]
kind = "aws-secrets-manager"
region = "us-east-1"
path = "test/{name}"

[secret.PASSWORD]
kind = "KIND"
stores = ["main"]
consumers = "none"
cadence = "30d"
overlap = "1d"
accept_gap = true
fields = { PASSWORD = "{password}" }

"#;

fn field() -> FieldName {
    FieldName::new("PASSWORD").unwrap()
}

pub(super) fn fence() -> Fence {
    Fence { incarnation: Incarnation(1), epoch: Epoch(5), effect: EffectNo(17) }
}

pub(super) fn parts(user: &str, password: &str) -> Bundle {
    let name = |name: &str| FieldName::new(name).unwrap();
    Bundle::new([(name("username"), value(user)), (name("password"), value(password))].into())
}

/// The fault of a call, which tells none of the passwords.
pub(super) fn told<T>(result: Result<T, Fault>) -> Fault {
    let fault = crate::support::fault(result);
    for secret in [FIRST, NEXT, "admin-word"] {
        assert!(!fault.to_string().contains(secret), "a password is told: {fault}");
    }
    fault
}

pub(super) fn holds(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "`{word}` is missing: {said}");
    }
}

impl<S: Service + 'static> Account<S> {
    fn entry(&self) -> PolicyEntry {
        let table = json!({ "secret": { "PASSWORD": { self.table: self.settings } } });
        let text = POLICY.replace("KIND", self.kind) + &toml::to_string(&table).unwrap();
        let loaded = load(&[Piece::from_bytes("policy.toml", text.into_bytes()).unwrap()], &kinds().unwrap());
        let said = render_all(&loaded.diagnostics);
        let policy = loaded.policy.unwrap_or_else(|| panic!("{said}"));
        policy.entry(&SecretId::new("PASSWORD").unwrap()).unwrap()
    }

    pub(super) fn rotator_alone(&self) -> Arc<dyn Rotator> {
        self.rotator(&self.entry().secret)
    }

    /// What a call of the engine would be given.
    pub(super) fn context(&self) -> TargetContext {
        TargetContext {
            rotation: RotationId(Uuid::now_v7()),
            policy: Arc::new(self.entry()),
            old: Some(parts(USER, FIRST)),
            new: Some(parts(USER, NEXT)),
            old_identity: None,
            new_identity: None,
            admin: self.admin.as_deref().map(value),
            since_promotion: None,
            emergency: false,
            predecessor_unknown: false,
        }
    }

    /// Why a rotation is held before it changed anything.
    pub(super) async fn held(self) -> String {
        let harness = Harness::new(Arc::new(self)).await;
        harness.order(OrderKind::Rotate);
        harness.work_until(|harness| harness.held().is_some()).await;
        let calls = harness.take_calls();
        assert!(calls.iter().all(|seen| seen.name != "apply"), "something was changed: {calls:?}");
        harness.held().unwrap()
    }
}

#[async_trait]
impl<S: Service + 'static> RotatorUnderTest for Account<S> {
    fn secret(&self) -> SecretUnderTest {
        let template = FieldPolicy { template: Some("{password}".parse().unwrap()), format: None };
        SecretUnderTest {
            kind: self.kind.to_owned(),
            settings: self.settings.clone(),
            fields: Fields::from_iter([(field(), template)]),
            accept_gap: true,
        }
    }

    fn rotator(&self, policy: &SecretPolicy) -> Arc<dyn Rotator> {
        let kind = ROTATORS.iter().find(|kind| kind.spec.name == self.kind).unwrap();
        (kind.build)(policy, &environment()).unwrap()
    }

    fn admin(&self) -> Option<(String, String)> {
        self.admin.clone().map(|login| ("admin".to_owned(), login))
    }

    fn first(&self) -> Bundle {
        Bundle::single(field(), value(&self.published))
    }

    async fn uses(&self, value: &Bundle) -> bool {
        let password = value.get(&FieldName::new("password").unwrap()).unwrap();
        self.service.lets_in(USER, password.expose()).await
    }

    /// There is one password, whatever it is.
    async fn alive(&self) -> Vec<String> {
        vec![USER.to_owned()]
    }

    async fn change_by_hand(&self, _: &Bundle) {
        self.service.set_by_hand(USER, "set-by-somebody");
    }
}

/// An administrator's login, as it is stored.
pub(super) fn admin(user: &str, password: &str) -> Option<String> {
    Some(json!({ "username": user, "password": password }).to_string())
}
