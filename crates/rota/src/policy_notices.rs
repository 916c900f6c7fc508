//! What people are told about the policy itself.
//!
//! Deliberately absent: notices about rotations, which are the engine's.

use jiff::Timestamp;
use rota_core::policy::model::Priority;
use rota_engine::ports::{AcceptedPolicy, Notice, NoticeKind};

/// Once for each version, whoever accepted it.
pub(crate) fn accepted(accepted: &AcceptedPolicy, changes: &str) -> Notice {
    Notice {
        priority: Priority::Low,
        what: format!("Policy version {} was accepted by {}: {changes}", accepted.version, accepted.by),
        impact: "running rotations keep the policy that they started with".to_owned(),
        next: "the next rotations follow the new one".to_owned(),
        command: Some("rota policy show --accepted".to_owned()),
        ..notice(format!("policy_accepted:{}", accepted.version), NoticeKind::PolicyAccepted, accepted.at)
    }
}

/// One notice for each distinct refusal and day, whichever replica says it first.
/// `version` is the one that goes on.
pub(crate) fn rejected(why: &str, command: String, version: Option<i64>, now: Timestamp) -> Notice {
    let day = now.as_second().div_euclid(86_400);
    Notice {
        priority: Priority::High,
        what: format!("The new policy was refused: {why}"),
        impact: match version {
            Some(version) => format!("version {version} goes on; nothing rotates differently than before"),
            None => "no policy is accepted yet; nothing rotates".to_owned(),
        },
        next: "the source is read again and taken as soon as it is good".to_owned(),
        command: Some(command),
        ..notice(format!("policy_rejected:{day}:{why}"), NoticeKind::PolicyRejected, now)
    }
}

fn notice(key: String, kind: NoticeKind, at: Timestamp) -> Notice {
    Notice {
        key,
        kind,
        secret: None,
        rotation: None,
        owner: None,
        priority: Priority::Low,
        what: String::new(),
        impact: String::new(),
        next: String::new(),
        command: None,
        link: None,
        at,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// What people are shown as an example is what is sent.
    #[test]
    fn the_documented_messages_are_these() {
        const PAGE: &str = include_str!("../../../docs/notifications.md");
        let now = Timestamp::UNIX_EPOCH;
        let policy = rota_core::policy::model::Policy {
            application: "acd".to_owned(),
            environment: rota_core::policy::model::Environment::Production,
            secrets: Default::default(),
            consumers: Default::default(),
            stores: Default::default(),
            owners: Default::default(),
        };
        let version = AcceptedPolicy {
            version: 12,
            digest: String::new(),
            policy: Arc::new(rota_core::policy::CompactPolicy::of(&policy).unwrap()),
            by: "rota-1 (acd.toml)".to_owned(),
            at: now,
        };
        let why = "the policy has 2 errors, the first in acd.toml, line 12: error[P010]: `cadance` is no key of a secret";
        let lint = "rota policy lint acd.toml".to_owned();
        for notice in [accepted(&version, "1 added, 2 changed"), rejected(why, lint, Some(12), now)] {
            for text in [&notice.what, &notice.impact, &notice.next, notice.command.as_ref().unwrap()] {
                assert!(PAGE.contains(text.as_str()), "docs/notifications.md has no `{text}`");
            }
        }
    }
}
