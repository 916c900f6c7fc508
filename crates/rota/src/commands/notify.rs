//! `rota notify test`: one message to every channel, at once and past the outbox.

use std::sync::Arc;

use jiff::Timestamp;
use rota_core::policy::model::Priority;
use rota_engine::ports::{Notice, NoticeKind};
use serde_json::json;

use super::Context;
use crate::channels::{Channel, Channels};
use crate::exit::{Exit, Failure, Outcome};
use crate::machine;
use crate::output::Tone;

pub(super) async fn test(context: &Context) -> Outcome {
    let configuration = Arc::new(context.configuration(&[])?);
    let configured = Channel::configured(&configuration);
    if configured.is_empty() {
        return Err(Failure::invalid("no channel is configured")
            .hint("set slack.webhook_url_file, or webhook.url and webhook.secret_file"));
    }
    // Owners are shown where the policy is at hand; a test must not fail without it.
    let policy = match configuration.settings.policy.source {
        Some(_) => super::policy::good(context, None).await.ok().map(|(policy, _)| policy),
        None => None,
    };
    let channels = Channels::new(configuration)?;
    let notice = notice(machine::timestamp());
    let mut results = Vec::new();
    // Every way by itself: a fallback that works hides a first webhook that does not.
    for way in configured.into_iter().flat_map(|channel| channels.ways(channel, policy.as_ref())) {
        let sent = match way.notifier {
            Ok(notifier) => {
                notifier.deliver(std::slice::from_ref(&notice)).await.map_err(|fault| fault.to_string())
            }
            Err(failure) => Err(failure.message),
        };
        results.push((way.name, sent));
    }
    let well = results.iter().all(|(_, sent)| sent.is_ok());
    let out = context.output;
    if out.json {
        let results: Vec<_> = results
            .iter()
            .map(|(channel, sent)| json!({ "channel": channel, "error": sent.as_ref().err() }))
            .collect();
        out.document(&json!({ "ok": well, "channels": results }))?;
    } else {
        for (channel, sent) in &results {
            match sent {
                Ok(()) => out.line(format!("{channel}: {}", out.paint(Tone::Good, "delivered")))?,
                Err(error) => out.line(format!("{channel}: {}", out.paint(Tone::Bad, error)))?,
            }
        }
    }
    Ok(if well { Exit::Success } else { Exit::Unhealthy })
}

fn notice(at: Timestamp) -> Notice {
    Notice {
        key: format!("test:{at}"),
        kind: NoticeKind::Test,
        secret: None,
        rotation: None,
        owner: None,
        priority: Priority::Low,
        what: "This is a test of Rota's messages".to_owned(),
        impact: "nothing happened to any secret".to_owned(),
        next: "nothing; messages about rotations look like this one".to_owned(),
        command: Some("rota status".to_owned()),
        link: None,
        at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_test_message_is_this_one() {
        const PAGE: &str = include_str!("../../../../docs/notifications.md");
        let notice = notice(Timestamp::UNIX_EPOCH);
        for text in [notice.what, notice.impact, notice.next, notice.command.unwrap()] {
            assert!(PAGE.contains(&text), "docs/notifications.md has no `{text}`");
        }
    }
}
