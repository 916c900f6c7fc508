//! How one secret is, in the words of its users: behind `rota status` and the status page.
//!
//! Deliberately absent: terminals and HTML.

use jiff::Timestamp;
use rota_core::rotation::Step;
use rota_postgres::{InFlight, SecretStatus};
use serde::Serialize;

/// One secret.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Secret {
    pub(crate) secret: String,
    pub(crate) kind: String,
    pub(crate) priority: String,
    pub(crate) owner: Option<String>,
    /// Of the rotation in flight; absent while the secret is at rest.
    pub(crate) phase: Option<String>,
    pub(crate) step: Option<String>,
    /// The phase of the step: where a held rotation stands.
    pub(crate) reached: Option<&'static str>,
    pub(crate) rotation: Option<String>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) emergency: bool,
    pub(crate) waiting_for: Option<String>,
    pub(crate) waits_for_person: bool,
    pub(crate) held: Option<Held>,
    pub(crate) can_undo: bool,
    /// What consumers read, the first to use: `[new, old]`. Only of a rotation in flight, and
    /// of one that was given up: else there is one value at rest, however the last list calls it.
    pub(crate) published: Option<String>,
    pub(crate) old_version: Option<String>,
    pub(crate) new_version: Option<String>,
    /// Absent where the age is unknown.
    pub(crate) last_promoted_at: Option<Timestamp>,
    pub(crate) next_due_at: Option<Timestamp>,
    pub(crate) next_start_at: Option<Timestamp>,
    pub(crate) overdue: bool,
    pub(crate) postponed: Option<String>,
    pub(crate) blocked_by: Option<String>,
    pub(crate) orphans: i64,
    pub(crate) removed: bool,
}

/// Why a rotation waits for a person, and the command that gets out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Held {
    pub(crate) why: String,
    pub(crate) way_out: String,
}

impl From<SecretStatus> for Secret {
    fn from(status: SecretStatus) -> Self {
        let flight = status.in_flight.as_ref();
        let text = |of: fn(&InFlight) -> &String| flight.map(|flight| of(flight).clone());
        let version = |of: fn(&InFlight) -> &Option<String>| flight.and_then(|flight| of(flight).clone());
        Self {
            phase: text(|flight| &flight.phase),
            step: text(|flight| &flight.step),
            reached: flight.and_then(|flight| Some(Step::parse(&flight.step)?.phase().as_str())),
            rotation: flight.map(|flight| flight.rotation.to_string()),
            since: flight.map(|flight| flight.opened_at),
            emergency: flight.is_some_and(|flight| flight.emergency),
            waiting_for: version(|flight| &flight.waiting_for),
            waits_for_person: flight.is_some_and(|flight| flight.waits_for_person),
            held: flight.and_then(|flight| {
                let reason = flight.held.as_ref()?;
                Some(Held { why: reason.message(), way_out: reason.way_out(&status.secret, flight.can_undo) })
            }),
            can_undo: flight.is_some_and(|flight| flight.can_undo),
            old_version: version(|flight| &flight.old_version),
            new_version: version(|flight| &flight.new_version),
            published: published(&status),
            secret: status.secret,
            kind: status.kind,
            priority: status.priority,
            owner: status.owner,
            last_promoted_at: status.last_promoted_at,
            next_due_at: status.next_due_at,
            next_start_at: status.next_start_at,
            overdue: status.overdue,
            postponed: status.postponed_why,
            blocked_by: status.blocked_by,
            orphans: status.orphans,
            removed: status.removed_at.is_some(),
        }
    }
}

impl Secret {
    /// True where somebody has to do something.
    pub(crate) fn needs_attention(&self) -> bool {
        self.held.is_some()
            || self.overdue
            || self.waits_for_person
            || self.blocked_by.is_some()
            || self.postponed.is_some()
            || self.orphans > 0
    }

    /// One phrase for where it is: `dual_run: promote_rollout`, `at rest`.
    pub(crate) fn place(&self) -> String {
        match (&self.phase, &self.step) {
            (Some(phase), Some(step)) => format!("{phase}: {step}"),
            _ => "at rest".to_owned(),
        }
    }

    /// What is said about it beside its place; the most urgent first.
    pub(crate) fn remark(&self) -> String {
        let overdue = self.overdue.then(|| "overdue".to_owned());
        let held = self.held.as_ref().map(|held| held.why.clone());
        let blocked = self.blocked_by.as_ref().map(|why| format!("blocked: {why}"));
        let emergency = self.emergency.then(|| "EMERGENCY".to_owned());
        let said = [emergency, overdue, held, blocked, self.waiting_for.clone(), self.postponed.clone()];
        said.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// What consumers read, where that is more than the one value of a secret at rest: old
/// and new are words for the values of a rotation.
fn published(status: &SecretStatus) -> Option<String> {
    let stored = status.published.as_deref()?;
    match &status.in_flight {
        Some(flight) if flight.shows_a_second => Some(list(stored)),
        // One name holds one value: the first.
        Some(_) => Some(list(stored.split('_').next().unwrap_or(stored))),
        None => status.blocked_by.as_ref().map(|_| list(stored)),
    }
}

/// `new_old` as people write it.
fn list(stored: &str) -> String {
    match stored {
        "nothing" => "[]".to_owned(),
        words => format!("[{}]", words.replace('_', ", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_shown_as_lists() {
        assert_eq!(list("new_old"), "[new, old]");
        assert_eq!(list("old"), "[old]");
        assert_eq!(list("nothing"), "[]");
    }
}
