//! Slack and the webhook for programs, against strict sinks.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::SignedDuration;
use rota_adapters::notifiers::slack::{self, SlackNotifier};
use rota_adapters::notifiers::webhook::{Message, WebhookNotifier};
use rota_core::fault::Fault;
use rota_core::id::{OwnerId, RotationId, SecretId};
use rota_core::policy::model::{Owner, Priority};
use rota_engine::ports::{Notice, NoticeKind, Notifier};
use rota_engine::test_support::notifier_suite::{NotifierUnderTest, Reply};
use rota_fakes::http::{Effect, Fault as Scripted, Listen, Script};
use rota_fakes::slack::{SlackFake, Standing};
use rota_fakes::webhook::WebhookFake;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{environment, fault, value};

const KEY: &str = "a key of at least thirty-two bytes";

const KINDS: [NoticeKind; 14] = [
    NoticeKind::DueSoon,
    NoticeKind::Overdue,
    NoticeKind::WaitingForPerson,
    NoticeKind::Started,
    NoticeKind::CheckFailed,
    NoticeKind::RolledBack,
    NoticeKind::Held,
    NoticeKind::Completed,
    NoticeKind::Emergency,
    NoticeKind::Abandoned,
    NoticeKind::PolicyAccepted,
    NoticeKind::PolicyRejected,
    NoticeKind::Digest,
    NoticeKind::Test,
];

fn notice(kind: NoticeKind, key: &str) -> Notice {
    Notice {
        key: key.to_owned(),
        kind,
        secret: Some(SecretId::new("JWT_SECRET").unwrap()),
        rotation: Some(RotationId(Uuid::from_u128(7))),
        owner: Some(OwnerId::new("platform").unwrap()),
        priority: Priority::Critical,
        what: "the rollout of backend failed: <b>2 of 3</b> & more".to_owned(),
        impact: "the old value still works".to_owned(),
        next: "nothing happens until somebody decides".to_owned(),
        command: Some("rota rollback JWT_SECRET --reason ...".to_owned()),
        link: Some("https://runbooks.example/rotation?a=1&b=2".to_owned()),
        at: "2026-01-15T10:00:00Z".parse().unwrap(),
    }
}

fn slack_at(url: String, channel: &'static str) -> SlackNotifier {
    let mention = Owner { slack_mention: Some("S012AB3CD".to_owned()), slack_escalation: None };
    let owners = BTreeMap::from([(OwnerId::new("platform").unwrap(), mention)]);
    let client = environment().client;
    SlackNotifier::new(channel, value(&url), "acd production".to_owned(), Arc::new(owners), client).unwrap()
}

fn samples() -> Vec<Vec<Notice>> {
    let mut samples: Vec<Vec<Notice>> = KINDS.iter().map(|kind| vec![notice(*kind, "one")]).collect();
    samples.push(KINDS.iter().map(|kind| notice(*kind, kind.as_str())).collect());
    samples.push((0..500).map(|n| notice(NoticeKind::Overdue, &n.to_string())).collect());
    samples
}

#[tokio::test]
async fn slack_takes_every_kind_of_notice_and_a_storm() {
    let fake = SlackFake::start(Listen::default()).unwrap();
    let slack = slack_at(fake.url(), slack::CHANNEL);
    for sample in samples() {
        slack.deliver(&sample).await.unwrap();
    }
    slack.deliver(&[]).await.unwrap();
    assert_eq!(fake.refused(), Vec::<String>::new());
    assert_eq!(fake.received().len(), samples().len(), "a storm is one message, nothing is none");
    assert!(fake.received().iter().all(|message| message.whole().contains("<!subteam^S012AB3CD>")));
}

#[tokio::test]
async fn each_answer_of_slack_says_whether_the_channel_is_dead() {
    let fake = SlackFake::start(Listen::default()).unwrap();
    let slack = slack_at(fake.url(), slack::CHANNEL);
    let deliver = async || fault(slack.deliver(&[notice(NoticeKind::Held, "one")]).await);
    for standing in [Standing::InvalidToken, Standing::NoService, Standing::ChannelIsArchived] {
        fake.set_standing("first", standing);
        assert!(matches!(deliver().await, Fault::Denied { .. }), "{standing:?}");
    }
    fake.set_standing("first", Standing::Active);
    for (status, word) in [
        (403, "action_prohibited"),
        (403, "invalid_token"),
        (404, "channel_not_found"),
        (404, "no_service"),
        (410, "channel_is_archived"),
        (403, "a word that is not known"),
        (404, ""),
        (400, "no_team"),
    ] {
        let body = word.to_owned();
        fake.script().add(Scripted::next("POST", Effect::Answer { status, headers: Vec::new(), body }));
        let fault = deliver().await;
        assert!(matches!(fault, Fault::Denied { .. }), "{status} {word}: {fault}");
        assert!(!fault.to_string().contains("not known"), "{fault}");
    }
    for status in [500, 502, 503, 408] {
        fake.script().add(Scripted::status("POST", status));
        assert!(matches!(deliver().await, Fault::Transient { .. }), "{status}");
    }
    for status in [400, 302, 413] {
        fake.script().add(Scripted::status("POST", status));
        assert!(matches!(deliver().await, Fault::Invalid { .. }), "{status}");
    }
    for effect in [Effect::CutBefore, Effect::CutAfter] {
        fake.script().add(Scripted::next("POST", effect));
        assert!(matches!(deliver().await, Fault::Transient { .. }));
    }
    fake.rate_limit(1, 17);
    let Fault::RateLimited { retry_after, .. } = deliver().await else { panic!("no rate limit") };
    assert_eq!(retry_after, SignedDuration::from_secs(17));
    assert_eq!(fake.script().pending(), 0);
}

#[tokio::test]
async fn a_webhooks_address_is_in_no_message() {
    let fake = SlackFake::start(Listen::default()).unwrap();
    let slack = slack_at(fake.url(), slack::CHANNEL);
    let mut faults = Vec::new();
    for effect in [Effect::CutAfter, Effect::Answer { status: 404, headers: Vec::new(), body: fake.url() }] {
        fake.script().add(Scripted::next("POST", effect));
        faults.push(fault(slack.deliver(&[notice(NoticeKind::Held, "one")]).await));
    }
    drop(fake);
    faults.push(fault(slack.deliver(&[notice(NoticeKind::Held, "one")]).await));
    for url in ["http://hooks.slack.example/services/T0/B0/xxxx", "not a url xxxx"] {
        let made = SlackNotifier::new(
            slack::CHANNEL,
            value(url),
            String::new(),
            Arc::new(BTreeMap::new()),
            environment().client,
        );
        faults.push(fault(made));
    }
    for fault in faults {
        assert!(!fault.to_string().contains("xxxx") && !fault.to_string().contains("/services"), "{fault}");
    }
}

#[tokio::test]
async fn the_fallback_is_a_channel_of_its_own() {
    let fake = SlackFake::start(Listen::default()).unwrap();
    let fallback = slack_at(fake.add_webhook("second"), slack::FALLBACK_CHANNEL);
    assert_eq!(fallback.channel(), "slack-fallback");
    fake.set_standing("first", Standing::InvalidToken);
    fallback.deliver(&[notice(NoticeKind::Held, "one")]).await.unwrap();
    assert_eq!(fake.received()[0].webhook, "second");
}

/// The interpreter of the environment that scripts/test makes.
fn python() -> PathBuf {
    let usual = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    std::env::var_os("ROTA_TEST_PYTHON").map_or_else(usual, PathBuf::from)
}

/// Slack's own library reads every block and checks its limits.
const CHECK: &str = r#"
import json, sys
from slack_sdk.models.blocks import Block, ContextBlock, SectionBlock
for payload in json.load(sys.stdin):
    assert payload["text"], payload
    assert set(payload) == {"text", "blocks"}, payload
    for raw in payload["blocks"]:
        block = Block.parse(raw)
        assert type(block) in (SectionBlock, ContextBlock), raw
        block.validate_json()
        assert block.to_dict() == raw, (block.to_dict(), raw)
"#;

#[test]
fn slacks_own_library_understands_every_message() {
    let slack = slack_at("http://127.0.0.1:1/services/x".to_owned(), slack::CHANNEL);
    let payloads: Vec<Value> = samples().iter().map(|sample| slack.payload(sample)).collect();
    let mut command = Command::new(python());
    let child = command.args(["-c", CHECK]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child =
        child.expect("no python in .venv/bin of the repository, run scripts/test, which makes it");
    child.stdin.take().unwrap().write_all(json!(payloads).to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn program_at(fake: &WebhookFake, key: &str) -> WebhookNotifier {
    let clock = fake.script().clock().clone();
    let (url, origin, client) = (fake.url(), "acd production".to_owned(), environment().client);
    WebhookNotifier::new(url, value(key), origin, client, Arc::new(move || clock.now())).unwrap()
}

#[tokio::test]
async fn programs_get_the_notices_as_signed_json_once() {
    let fake = WebhookFake::start(&[KEY.as_bytes()], Listen::default()).unwrap();
    let webhook = program_at(&fake, KEY);
    let notices = [notice(NoticeKind::Held, "a"), notice(NoticeKind::Completed, "b")];
    fake.script().add(Scripted::next("POST", Effect::CutAfter));
    assert!(matches!(fault(webhook.deliver(&notices).await), Fault::Transient { .. }));
    fake.script().clock().advance(SignedDuration::from_secs(100));
    webhook.deliver(&notices).await.unwrap();
    webhook.deliver(&notices[..1]).await.unwrap();
    let received = fake.received();
    assert_eq!((received.len(), fake.repeats().len(), fake.refused().len()), (2, 1, 0));
    let message: Message = serde_json::from_value(received[0].body.clone()).unwrap();
    assert_eq!((message.version, message.kind.as_str()), (1, "notices"));
    let kinds: Vec<&str> = message.notices.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["held", "completed"]);
    assert_eq!(received[0].body["notices"][0]["priority"], "critical");
    assert_eq!(received[0].body["notices"][0]["at"], "2026-01-15T10:00:00Z");
}

#[tokio::test]
async fn a_receiver_that_does_not_know_the_key_is_a_dead_channel() {
    let fake = WebhookFake::start(&[b"another key of at least thirty-two bytes"], Listen::default()).unwrap();
    let notices = [notice(NoticeKind::Held, "a")];
    assert!(matches!(fault(program_at(&fake, KEY).deliver(&notices).await), Fault::Denied { .. }));
    assert!(matches!(fault(program_at(&fake, "short").deliver(&notices).await), Fault::Invalid { .. }));
    for (status, passes) in [(500, true), (503, true), (429, true), (410, false), (400, false)] {
        fake.script().add(Scripted::status("POST", status));
        let fault = fault(program_at(&fake, KEY).deliver(&notices).await);
        assert_eq!(fault.passes_by_itself(), passes, "{status}");
    }
}

#[test]
fn the_documented_schema_is_the_one_of_the_code() {
    let schema = schemars::SchemaGenerator::default().into_root_schema_for::<Message>();
    let schema = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/notices.schema.json");
    if std::env::var_os("ROTA_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &schema).unwrap();
    }
    let documented = std::fs::read_to_string(&path).unwrap();
    assert_eq!(documented, schema, "run this test with ROTA_UPDATE_DOCS=1");
}

fn script_reply(script: &Script, reply: Reply) {
    let answer = |status: u16| Effect::Answer { status, headers: Vec::new(), body: String::new() };
    let effect = match reply {
        Reply::TakesAndIsSilent => Effect::CutAfter,
        Reply::Fails => answer(503),
        Reply::IsGone => answer(404),
        Reply::IsBusy(pause) => {
            let headers = vec![("retry-after".to_owned(), pause.as_secs().to_string())];
            Effect::Answer { status: 429, headers, body: String::new() }
        }
    };
    script.add(Scripted::next("POST", effect));
}

struct Slack(SlackFake);

#[async_trait]
impl NotifierUnderTest for Slack {
    fn notifier(&self) -> Arc<dyn Notifier> {
        Arc::new(slack_at(self.0.url(), slack::CHANNEL))
    }

    async fn next_reply(&self, reply: Reply) {
        script_reply(self.0.script(), reply);
    }

    async fn taken(&self) -> Vec<String> {
        self.0.received().iter().map(|message| message.whole()).collect()
    }
}

mod slack_suite {
    use super::*;
    rota_engine::notifier_suite!(Slack(SlackFake::start(Listen::default()).unwrap()));
}

struct Receiver(WebhookFake);

#[async_trait]
impl NotifierUnderTest for Receiver {
    fn notifier(&self) -> Arc<dyn Notifier> {
        Arc::new(program_at(&self.0, KEY))
    }

    async fn next_reply(&self, reply: Reply) {
        script_reply(self.0.script(), reply);
    }

    async fn taken(&self) -> Vec<String> {
        self.0.received().iter().map(|delivery| delivery.body.to_string()).collect()
    }
}

mod webhook_suite {
    use super::*;
    rota_engine::notifier_suite!(Receiver(WebhookFake::start(&[KEY.as_bytes()], Listen::default()).unwrap()));
}
