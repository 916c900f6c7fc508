//! docs/notifications.md shows every message as it reads.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rota_adapters::notifiers::slack::{self, SlackNotifier};
use rota_core::id::{OwnerId, SecretId};
use rota_core::policy::model::{Owner, Priority};
use rota_engine::ports::{Notice, NoticeKind};
use serde_json::Value;

use crate::support::{environment, value};

const BEGIN: &str = "see crates/rota-adapters/tests/it/messages.rs -->\n";
const END: &str = "<!-- end -->";

fn notice(kind: NoticeKind, what: &str, impact: &str, next: &str, command: &str) -> Notice {
    Notice {
        key: format!("{}/{what}", kind.as_str()),
        kind,
        secret: Some(SecretId::new("JWT_SECRET").unwrap()),
        rotation: None,
        owner: Some(OwnerId::new("platform").unwrap()),
        priority: Priority::High,
        what: what.to_owned(),
        impact: impact.to_owned(),
        next: next.to_owned(),
        command: (!command.is_empty()).then(|| command.to_owned()),
        link: None,
        at: "2026-01-15T10:00:00Z".parse().unwrap(),
    }
}

/// Of a secret that a person makes, with the page where it is made.
fn by_person(notice: Notice) -> Notice {
    let name = "ANTHROPIC_API_KEY";
    Notice {
        secret: Some(SecretId::new(name).unwrap()),
        what: notice.what.replace("JWT_SECRET", name),
        command: notice.command.map(|command| command.replace("JWT_SECRET", name)),
        link: Some("https://console.anthropic.com/settings/keys".to_owned()),
        ..notice
    }
}

/// Of no secret and nobody's in particular.
fn of_all(notice: Notice) -> Notice {
    Notice { secret: None, owner: None, ..notice }
}

/// One of every kind, worded as the engine words them.
fn samples() -> Vec<(&'static str, Notice)> {
    use NoticeKind as Kind;
    let both = "the new value is in use; the old one still works";
    let still = "the value in use still works";
    let out = "fix the cause, then `rota resume JWT_SECRET --reason \"the cause is fixed\"`, or `rota rollback \
               JWT_SECRET --reason \"a rollout failed\"` to go back to the old value";
    vec![
        (
            "Due soon",
            by_person(notice(
                Kind::DueSoon,
                "JWT_SECRET is due in 7 days",
                still,
                "a rotation starts 2026-01-21 10:00 UTC and asks a person for the new value; due 2026-01-22 10:00 UTC",
                "to hand it in before: `rota rotate JWT_SECRET --reason \"before it is due\"`, then \
                 `rota submit JWT_SECRET`",
            )),
        ),
        (
            "Overdue",
            notice(
                Kind::Overdue,
                "JWT_SECRET is overdue by 3 days",
                "the value in use still works, and is older than the policy allows",
                "the rotation in flight waits for the window to open; told again 2026-01-16 10:00 UTC",
                "rota status JWT_SECRET",
            ),
        ),
        (
            "Waiting for a person",
            by_person(notice(
                Kind::WaitingForPerson,
                "the old value of JWT_SECRET can be revoked at its provider now",
                both,
                "once that is confirmed the rotation is complete; until then it waits",
                "rota confirm JWT_SECRET",
            )),
        ),
        (
            "Started",
            notice(
                Kind::Started,
                "Rotation of JWT_SECRET started, on schedule",
                "the old value is in use and still works",
                "a new value is made and proven beside the old one from now on; it is due 2026-01-16 10:00 UTC",
                "rota status JWT_SECRET --watch",
            ),
        ),
        (
            "Check failed",
            notice(
                Kind::CheckFailed,
                "A check failed after JWT_SECRET was promoted: backend/http: answered 503, expected 200",
                both,
                "the next look is at 2026-01-15 10:05 UTC; after 3 failures in a row the rotation is held",
                "rota rollback JWT_SECRET --reason \"a check failed\"",
            ),
        ),
        (
            "Rolled back",
            notice(
                Kind::RolledBack,
                "Rotation of JWT_SECRET was rolled back",
                "the old value is in use and still works; the new one is removed",
                "a new rotation starts, not before 2026-01-16 10:00 UTC",
                "rota history JWT_SECRET",
            ),
        ),
        (
            "Held",
            notice(
                Kind::Held,
                "Rotation of JWT_SECRET is held: the rollout of backend failed: deployment ecs-svc/42 failed after \
                 3 failed tasks; look at the service's events",
                "the old value is in use and still works; the new one is accepted too",
                "nothing happens until a person decides; it is due 2026-01-16 10:00 UTC",
                out,
            ),
        ),
        (
            "Completed",
            notice(
                Kind::Completed,
                "Rotation of JWT_SECRET is complete",
                "the new value is in use",
                "the next one starts 2026-04-14 10:00 UTC and is due 2026-04-15 10:00 UTC",
                "rota history JWT_SECRET",
            ),
        ),
        (
            "Emergency",
            Notice {
                priority: Priority::Critical,
                ..notice(
                    Kind::Emergency,
                    "EMERGENCY: the value in use of JWT_SECRET leaked (asked for by on-call: found in a log)",
                    "the old value is in use and still works",
                    "from now on, without waits: a new value is proven and published; the leaked one is refused \
                     before every instance is new",
                    "rota status JWT_SECRET --watch",
                )
            },
        ),
        (
            "Abandoned",
            notice(
                Kind::Abandoned,
                "Rotation of JWT_SECRET was abandoned",
                both,
                "no rotation starts until what is left alive is reconciled, however long that takes",
                "`rota status JWT_SECRET` lists what is alive; after revoking it `rota reconcile JWT_SECRET \
                 --reason \"what was alive is revoked\"`",
            ),
        ),
        (
            "Policy accepted",
            of_all(notice(
                Kind::PolicyAccepted,
                "Policy version 12 was accepted by rota-1 (acd.toml): 1 added, 2 changed",
                "running rotations keep the policy that they started with",
                "the next rotations follow the new one",
                "rota policy show --accepted",
            )),
        ),
        (
            "Policy rejected",
            of_all(notice(
                Kind::PolicyRejected,
                "The new policy was refused: the policy has 2 errors, the first in acd.toml, line 12: error[P010]: \
                 `cadance` is no key of a secret",
                "version 12 goes on; nothing rotates differently than before",
                "the source is read again and taken as soon as it is good",
                "rota policy lint acd.toml",
            )),
        ),
        (
            "Daily digest",
            of_all(notice(
                Kind::Digest,
                "2026-01-15: 42 secrets, 3 in flight",
                "1 overdue: SENTRY_DSN\n1 waiting for a person: ANTHROPIC_API_KEY",
                "JWT_SECRET is due next, on 2026-01-22\ncheckpoint 12 \
                 sha256:6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
                "rota status --attention",
            )),
        ),
        (
            "Test",
            of_all(notice(
                Kind::Test,
                "This is a test of Rota's messages",
                "nothing happened to any secret",
                "nothing; messages about rotations look like this one",
                "rota status",
            )),
        ),
    ]
}

/// How Slack shows a message's text.
fn as_read(payload: &Value) -> String {
    let mut lines = Vec::new();
    for block in payload["blocks"].as_array().unwrap() {
        let text = block["text"]["text"].as_str().or(block["elements"][0]["text"].as_str()).unwrap();
        lines.extend(text.lines().map(line_as_read));
    }
    lines.join("\n")
}

fn line_as_read(line: &str) -> String {
    let mut read = String::new();
    let mut rest = line;
    while let Some((before, tag)) = rest.split_once('<') {
        let (tag, after) = tag.split_once('>').unwrap();
        read.push_str(before);
        read.push_str(&match tag.split_once('|') {
            Some((_, shown)) => shown.to_owned(),
            None => {
                tag.replace("!subteam^S012AB3CD", "@platform-team").replace("!subteam^S012ONCALL", "@on-call")
            }
        });
        rest = after;
    }
    read.push_str(rest);
    read.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&").replace('*', "")
}

#[test]
fn the_documented_messages_are_those_that_are_sent() {
    let mention = Owner {
        slack_mention: Some("S012AB3CD".to_owned()),
        slack_escalation: Some("S012ONCALL".to_owned()),
    };
    let owners = Arc::new(BTreeMap::from([(OwnerId::new("platform").unwrap(), mention)]));
    let url = value("https://hooks.slack.com/services/T0/B0/x");
    let origin = "acd production".to_owned();
    let slack = SlackNotifier::new(slack::CHANNEL, url, origin, owners, environment().client)
        .unwrap()
        .with_status_page(Some("https://rota.internal/".to_owned()));

    let samples = samples();
    let mut shown = String::new();
    for (title, notice) in &samples {
        let text = as_read(&slack.payload(std::slice::from_ref(notice)));
        shown.push_str(&format!("### {title}\n\n```text\n{text}\n```\n\n"));
    }
    let storm: Vec<Notice> = samples.into_iter().map(|(_, notice)| notice).collect();
    let text = as_read(&slack.payload(&storm));
    shown.push_str(&format!("### Several at once\n\n```text\n{text}\n```\n\n"));

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/notifications.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (documented, after) = rest.split_once(END).unwrap();
    if std::env::var_os("ROTA_UPDATE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}\n{shown}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(documented.trim(), shown.trim(), "run this test with ROTA_UPDATE_DOCS=1");
}
