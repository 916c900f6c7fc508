//! Hooks against a receiver that misbehaves on order.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use rota_adapters::hooks::{command, webhook};
use rota_core::fault::Fault;
use rota_core::id::{RotationId, SecretId};
use rota_core::policy::model::{Hook, HookPoint};
use rota_engine::ports::{HookContext, HookRunner, HookStatus};
use rota_engine::test_support::hook_suite::HookUnderTest;
use rota_fakes::http::{Effect, Fault as Scripted, Listen};
use rota_fakes::webhook::WebhookFake;
use serde_json::json;
use uuid::Uuid;

use crate::support::{environment, environment_with};

const KEY: &str = "a key of at least thirty-two bytes";

fn receiver() -> (WebhookFake, Arc<dyn HookRunner>) {
    let fake = WebhookFake::start(&[KEY.as_bytes()], Listen::default()).unwrap();
    let environment = environment_with(&[("aws:webhook-key", KEY)]);
    let settings = json!({ "url": fake.url(), "key": "aws:webhook-key" });
    let hook = Hook { at: HookPoint::BeforePromote, kind: webhook::NAME.to_owned(), settings };
    (fake, (webhook::KIND.build)(&hook, &environment).unwrap())
}

fn context(fake: &WebhookFake) -> HookContext {
    HookContext {
        rotation: RotationId(Uuid::from_u128(7)),
        secret: SecretId::new("ENCRYPTION_KEY").unwrap(),
        point: HookPoint::BeforePromote,
        index: 0,
        attempt: 0,
        now: fake.script().clock().now(),
    }
}

#[tokio::test]
async fn a_receiver_recognises_the_repeat_of_a_run() {
    let (fake, hook) = receiver();
    for effect in [Effect::CutBefore, Effect::CutAfter] {
        fake.script().add(Scripted::next("POST /hook", effect));
        assert!(matches!(hook.run(&context(&fake)).await, Err(Fault::Transient { .. })));
    }
    assert_eq!(hook.run(&context(&fake)).await, Ok(HookStatus::Succeeded));
    let received = fake.received();
    assert_eq!((received.len(), fake.repeats().len(), fake.refused().len()), (1, 1, 0));
    assert_eq!(received[0].id, format!("hook/{}", context(&fake).idempotency_key()));
    assert_eq!(
        received[0].body,
        json!({
            "version": 1,
            "type": "hook",
            "rotation": "00000000-0000-0000-0000-000000000007",
            "secret": "ENCRYPTION_KEY",
            "point": "before-promote",
            "index": 0,
        })
    );
}

#[tokio::test]
async fn a_receiver_that_works_for_long_is_asked_again() {
    let (fake, hook) = receiver();
    let answer =
        |status: u16, body: &str| Effect::Answer { status, headers: Vec::new(), body: body.to_owned() };
    fake.script().add(Scripted::next("POST /hook", answer(202, "")));
    assert!(matches!(hook.run(&context(&fake)).await, Ok(HookStatus::UnderWay { .. })));
    fake.script().add(Scripted::next("POST /hook", answer(200, r#"{"state":"under_way"}"#)));
    assert!(matches!(hook.run(&context(&fake)).await, Ok(HookStatus::UnderWay { .. })));
    fake.script().add(Scripted::next("POST /hook", answer(200, r#"{"state":"failed"}"#)));
    assert!(matches!(hook.run(&context(&fake)).await, Ok(HookStatus::Failed { .. })));
    fake.script().add(Scripted::status("POST /hook", 204));
    assert_eq!(hook.run(&context(&fake)).await, Ok(HookStatus::Succeeded));
    for (status, transient) in [(503, true), (500, true), (404, false), (401, false)] {
        fake.script().add(Scripted::status("POST /hook", status));
        let fault = hook.run(&context(&fake)).await.unwrap_err();
        assert_eq!(fault.passes_by_itself(), transient, "{status}");
    }
}

/// A receiver that works for a while.
struct Receiver {
    fake: WebhookFake,
    hook: Arc<dyn HookRunner>,
}

impl Receiver {
    fn start() -> Self {
        let (fake, hook) = receiver();
        Self { fake, hook }
    }
}

#[async_trait]
impl HookUnderTest for Receiver {
    fn hook(&self) -> Arc<dyn HookRunner> {
        Arc::clone(&self.hook)
    }

    fn run(&self) -> HookContext {
        context(&self.fake)
    }

    async fn let_it_succeed(&self, succeeds: bool) {
        let says = |state: &str| {
            let body = format!(r#"{{"state":"{state}"}}"#);
            Scripted::next("POST /hook", Effect::Answer { status: 200, headers: Vec::new(), body })
        };
        self.fake.script().add(says("under_way"));
        if !succeeds {
            self.fake.script().add(says("failed"));
        }
    }

    async fn pass(&self) {}

    async fn runs_seen(&self) -> BTreeSet<String> {
        self.fake.received().into_iter().map(|delivery| delivery.id).collect()
    }
}

mod webhook_suite {
    use super::*;
    rota_engine::hook_suite!(Receiver::start());
}

/// A program that notes each run and ends as a file says.
struct Program {
    folder: tempfile::TempDir,
    hook: Arc<dyn HookRunner>,
}

impl Program {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo $ROTA_IDEMPOTENCY_KEY >> runs; exit $(cat code)";
        let settings = json!({ "command": ["/bin/sh", "-c", script], "directory": folder.path() });
        let hook = Hook { at: HookPoint::BeforePromote, kind: "command".to_owned(), settings };
        Self { folder, hook: (command::KIND.build)(&hook, &environment()).unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[async_trait]
impl HookUnderTest for Program {
    fn hook(&self) -> Arc<dyn HookRunner> {
        Arc::clone(&self.hook)
    }

    fn run(&self) -> HookContext {
        HookContext {
            rotation: RotationId(Uuid::from_u128(7)),
            secret: SecretId::new("ENCRYPTION_KEY").unwrap(),
            point: HookPoint::BeforePromote,
            index: 0,
            attempt: 0,
            now: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    async fn let_it_succeed(&self, succeeds: bool) {
        std::fs::write(self.path("code"), if succeeds { "0" } else { "3" }).unwrap();
    }

    async fn pass(&self) {}

    async fn runs_seen(&self) -> BTreeSet<String> {
        std::fs::read_to_string(self.path("runs")).unwrap().lines().map(str::to_owned).collect()
    }
}

mod command_suite {
    use super::*;
    rota_engine::hook_suite!(Program::new());
}
