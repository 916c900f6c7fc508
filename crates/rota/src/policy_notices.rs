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
