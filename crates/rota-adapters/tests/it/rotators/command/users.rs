//! `sqlite-users`: two users of an application, in an SQLite file.

use std::sync::Arc;

use async_trait::async_trait;
use rota_adapters::rotators::command::CommandRotator;
use rota_core::fault::Fault;
use rota_core::policy::model::SecretPolicy;
use rota_core::value::Bundle;
use rota_engine::ports::{Idleness, Observed, Proof, Rotator, TargetContext, TargetEffect, Which};
use rota_engine::test_support::rotator_suite::{RotatorUnderTest, SecretUnderTest};
use serde_json::{Value, json};

use super::service::{Service, bundle, context, example, fence, field, fields, part, python, rotator};
use crate::support::{fault, value};

pub(super) const TEMPLATE: &str = "{username}:{password}";
const FIRST: &str = "the-first-password-of-many";

pub(super) struct Users {
    service: Service,
    settings: Value,
}

impl Users {
    pub(super) fn start() -> Self {
        let service = Service::start();
        let settings = json!({
            "program": [python(), "-I", "-S", example("sqlite-users")],
            "target": "the application",
            "users": ["acd_a", "acd_b"],
            "disables": true,
            "fenced": true,
            "options": { "database": service.database(), "address": service.address() },
        });
        let users = Self { service, settings };
        users.set("acd_a", FIRST);
        users
    }

    fn set(&self, user: &str, password: &str) {
        use sha2::Digest as _;
        let hash = hex::encode(sha2::Sha256::digest(format!("salt:{password}")));
        self.service.sql(&format!("INSERT OR REPLACE INTO users VALUES ('{user}', 'salt', '{hash}', 1)"));
    }

    fn context(&self) -> TargetContext {
        TargetContext {
            old: Some(bundle(&[("username", "acd_a"), ("password", FIRST)])),
            new: Some(bundle(&[("username", "acd_b"), ("password", "the-second-password")])),
            ..context(&self.settings, TEMPLATE)
        }
    }

    fn rotator(&self) -> CommandRotator {
        rotator(&self.settings, TEMPLATE)
    }
}

#[async_trait]
impl RotatorUnderTest for Users {
    fn secret(&self) -> SecretUnderTest {
        SecretUnderTest {
            kind: "command".to_owned(),
            settings: self.settings.clone(),
            fields: fields(TEMPLATE),
            accept_gap: false,
        }
    }

    fn rotator(&self, policy: &SecretPolicy) -> Arc<dyn Rotator> {
        Arc::new(CommandRotator::new(policy).unwrap())
    }

    fn admin(&self) -> Option<(String, String)> {
        None
    }

    fn first(&self) -> Bundle {
        Bundle::single(field("LOGIN"), value(&format!("acd_a:{FIRST}")))
    }

    async fn uses(&self, login: &Bundle) -> bool {
        self.service.lets_in(part(login, "username"), part(login, "password")).await
    }

    async fn alive(&self) -> Vec<String> {
        let rows = self.service.sql("SELECT name FROM users WHERE enabled = 1 ORDER BY name");
        rows.split(';').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    }

    async fn change_by_hand(&self, login: &Bundle) {
        self.set(part(login, "username"), "somebody-elses-password");
    }
}

#[tokio::test]
async fn each_verb_does_what_the_protocol_says_and_may_be_repeated() {
    let users = Users::start();
    let (rotator, context) = (users.rotator(), users.context());
    rotator.preflight(&context).await.unwrap();
    let mut number = 0;
    for (effect, old, new) in [
        (TargetEffect::Install, true, true),
        (TargetEffect::Disable, false, true),
        (TargetEffect::Restore, true, true),
        (TargetEffect::Disable, false, true),
        (TargetEffect::Revoke, false, true),
        (TargetEffect::Remove, false, false),
    ] {
        number += 1;
        assert_eq!(rotator.observe(effect, &context).await.unwrap(), Observed::Absent, "{effect:?}");
        for _ in 0..2 {
            rotator.apply(effect, &context, fence(number)).await.unwrap();
        }
        assert_eq!(rotator.observe(effect, &context).await.unwrap(), Observed::Applied, "{effect:?}");
        for (which, accepted) in [(Which::Old, old), (Which::New, new)] {
            let proof = rotator.prove(which, &context).await.unwrap();
            assert_eq!(proof == Proof::Accepted, accepted, "{which:?} after {effect:?}: {proof:?}");
        }
    }
    let late = rotator.apply(TargetEffect::Install, &context, fence(1)).await;
    assert!(matches!(fault(late), Fault::Conflict { .. }));
    assert_eq!(rotator.observe(TargetEffect::Install, &context).await.unwrap(), Observed::Absent);
}

#[tokio::test]
async fn a_session_keeps_the_old_user_busy_and_ends_when_it_is_revoked() {
    let users = Users::start();
    let (rotator, context) = (users.rotator(), users.context());
    assert_eq!(rotator.idleness(&context).await.unwrap(), Idleness::Idle);
    users.service.sql("INSERT INTO sessions VALUES ('acd_a')");
    let Idleness::Busy { detail } = rotator.idleness(&context).await.unwrap() else { panic!("it is in use") };
    assert!(detail.contains("`acd_a`"), "{detail}");
    rotator.apply(TargetEffect::Revoke, &context, fence(1)).await.unwrap();
    assert_eq!(users.service.sql("SELECT count(*) FROM sessions"), "0");
}

#[tokio::test]
async fn a_user_of_somebody_else_is_foreign_and_a_published_value_that_is_refused_is_told() {
    let users = Users::start();
    let (rotator, context) = (users.rotator(), users.context());
    users.set("acd_b", "somebody-elses-password");
    let observed = rotator.observe(TargetEffect::Install, &context).await.unwrap();
    assert!(matches!(&observed, Observed::Foreign { detail } if detail.contains("`acd_b`")), "{observed:?}");
    assert!(matches!(
        fault(rotator.apply(TargetEffect::Install, &context, fence(1)).await),
        Fault::Conflict { .. }
    ));
    assert!(users.service.lets_in("acd_b", "somebody-elses-password").await);
    users.set("acd_a", "another-password");
    assert!(matches!(fault(rotator.preflight(&context).await), Fault::Invalid { .. }));
}

#[tokio::test]
async fn an_application_that_does_not_answer_is_unknown_and_a_file_that_is_not_there_is_told() {
    let mut users = Users::start();
    users.settings["options"]["address"] = json!("127.0.0.1:1");
    users.settings["options"]["database"] = json!("/nowhere/users.db");
    let (rotator, context) = (users.rotator(), users.context());
    assert!(matches!(fault(rotator.prove(Which::New, &context).await), Fault::Transient { .. }));
    assert!(matches!(fault(rotator.preflight(&context).await), Fault::Invalid { .. }));
}
