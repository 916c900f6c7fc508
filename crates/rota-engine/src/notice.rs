//! The words of notices: what happened, what it means now, what comes next, what to run.

use jiff::{SignedDuration, Timestamp};
use rota_core::id::Incarnation;
use rota_core::policy::model::{Healthy, OnFailure, Priority, SecretPolicy};
use rota_core::rotation::{
    Cause, Event, Haste, HoldReason, List, Outcome, Phase, Rotation, Source, State, Step, Suspect, Verdict,
    can_roll_back,
};
use rota_core::schedule::Start;

use crate::drive::start_after_rollback;
use crate::ports::{DueSecret, Notice, NoticeKind, Upcoming};

/// What a change of a rotation tells people.
pub(crate) fn of_transition(
    before: &Rotation,
    after: &Rotation,
    event: &Event,
    secret: &SecretPolicy,
    now: Timestamp,
) -> Vec<Notice> {
    let mut notices = Vec::new();
    if let Event::Hastened { suspect, by, reason } = event {
        notices.push(emergency(after, secret, *suspect, &format!("{by}: {reason}"), now));
    }
    if let Event::RolledBack { by, reason } = event {
        notices.push(turned_back(after, secret, by, reason, now));
    }
    match (&before.state, &after.state) {
        (State::Running { .. }, State::Held { reason, .. }) => {
            notices.push(held(after, secret, reason, now));
        }
        (_, State::Ended { outcome, .. }) => notices.extend(ended(after, secret, *outcome, now)),
        (_, State::Running { step, .. }) if before.step() != Some(*step) => {
            notices.extend(waiting_for_person(after, secret, *step, now));
        }
        _ => {}
    }
    notices
}

fn base(rotation: &Rotation, secret: &SecretPolicy, kind: NoticeKind, now: Timestamp) -> Notice {
    let step = rotation.step().map_or("", Step::as_str);
    Notice {
        key: format!("{}:{}:{step}:{}", rotation.id, kind.as_str(), now.as_millisecond()),
        kind,
        secret: Some(secret.id.clone()),
        rotation: Some(rotation.id),
        owner: secret.owner.clone(),
        priority: secret.priority,
        what: String::new(),
        impact: impact(rotation).to_owned(),
        next: String::new(),
        command: None,
        link: None,
        at: now,
    }
}

/// What consumers live with at this moment.
fn impact(rotation: &Rotation) -> &'static str {
    let revoked = rotation.facts.done.contains(&Step::Revoke) || rotation.facts.confirmed_at.is_some();
    let disabled = rotation.facts.attempted.contains(&Step::Disable);
    match rotation.list() {
        List::Nothing => "the secret does not exist yet; nothing reads it",
        List::Old => "the old value is in use and still works",
        List::OldNew => "the old value is in use and still works; the new one is accepted too",
        List::NewOld | List::New if revoked => "the new value is in use; the old one is revoked",
        List::NewOld | List::New if disabled => {
            "the new value is in use; the old one is disabled and recoverable"
        }
        List::NewOld => "the new value is in use; the old one still works",
        List::New => "the new value is in use; the old one is kept and recoverable",
    }
}

pub(crate) fn started(rotation: &Rotation, secret: &SecretPolicy, now: Timestamp) -> Notice {
    let why = match &rotation.order.cause {
        Cause::Scheduled => "on schedule".to_owned(),
        Cause::Requested { by, reason } => format!("asked for by {by}: {reason}"),
    };
    if let Haste::Emergency { suspect } = rotation.order.haste {
        return emergency(rotation, secret, suspect, &why, now);
    }
    let submitted = rotation.shape.source == Source::Submitted;
    let (what, next) = match (rotation.shape.creation, submitted) {
        (true, false) => ("Creation", "the first value is made, proven and published from now on"),
        (false, false) => ("Rotation", "a new value is made and proven beside the old one from now on"),
        (true, true) => ("Creation", "a person makes the first value and hands it in"),
        (false, true) => ("Rotation", "a person makes the new value and hands it in"),
    };
    let command = if submitted { format!("rota submit {}", secret.id) } else { watch(secret) };
    Notice {
        what: format!("{what} of {} started, {why}", secret.id),
        next: format!("{next}{}", due_by(rotation)),
        command: Some(command),
        link: secret.page.clone(),
        ..base(rotation, secret, NoticeKind::Started, now)
    }
}

fn emergency(
    rotation: &Rotation,
    secret: &SecretPolicy,
    suspect: Suspect,
    why: &str,
    now: Timestamp,
) -> Notice {
    let (leaked, next) = match suspect {
        Suspect::Older => (
            "the value in use",
            "from now on, without waits: a new value is proven and published; the leaked one is refused \
             before every instance is new",
        ),
        Suspect::Newer => (
            "the new value",
            "from now on, without waits: the old value is published again and the leaked one refused, then \
             a fresh rotation starts",
        ),
    };
    Notice {
        what: format!("EMERGENCY: {leaked} of {} leaked ({why})", secret.id),
        next: next.to_owned(),
        command: Some(watch(secret)),
        priority: Priority::Critical,
        ..base(rotation, secret, NoticeKind::Emergency, now)
    }
}

fn turned_back(rotation: &Rotation, secret: &SecretPolicy, by: &str, reason: &str, now: Timestamp) -> Notice {
    Notice {
        what: format!("Rotation of {} is going back to the old value ({by}: {reason})", secret.id),
        next: "from now on the old value is published and rolled out step by step, then the new one is \
               removed"
            .to_owned(),
        command: Some(watch(secret)),
        ..base(rotation, secret, NoticeKind::RolledBack, now)
    }
}

fn held(rotation: &Rotation, secret: &SecretPolicy, reason: &HoldReason, now: Timestamp) -> Notice {
    let can_undo = can_roll_back(rotation).is_ok();
    Notice {
        what: format!("Rotation of {} is held: {}", secret.id, reason.message()),
        next: match unserved(rotation) {
            Some(due) if due > now => {
                format!("nothing happens until a person decides; it is due {}", utc(due))
            }
            Some(due) => {
                format!("nothing happens until a person decides; it is overdue since {}", utc(due))
            }
            None => "nothing happens until a person decides, however long that takes".to_owned(),
        },
        command: Some(reason.way_out(secret.id.as_str(), can_undo)),
        ..base(rotation, secret, NoticeKind::Held, now)
    }
}

fn ended(rotation: &Rotation, secret: &SecretPolicy, outcome: Outcome, now: Timestamp) -> Option<Notice> {
    debug_assert!(rotation.phase().is_ended());
    Some(match outcome {
        Outcome::Completed => Notice {
            what: format!("Rotation of {} is complete", secret.id),
            impact: rotation.facts.refusal.clone().unwrap_or_else(|| "the new value is in use".to_owned()),
            next: next_one(rotation, secret, now),
            command: Some(format!("rota history {}", secret.id)),
            ..base(rotation, secret, NoticeKind::Completed, now)
        },
        Outcome::RolledBack => Notice {
            what: format!("Rotation of {} was rolled back", secret.id),
            impact: "the old value is in use and still works; the new one is removed".to_owned(),
            next: format!("a new rotation starts, not before {}", utc(start_after_rollback(rotation, now))),
            command: Some(format!("rota history {}", secret.id)),
            ..base(rotation, secret, NoticeKind::RolledBack, now)
        },
        Outcome::Abandoned => Notice {
            what: format!("Rotation of {} was abandoned", secret.id),
            next: "no rotation starts until what is left alive is reconciled, however long that takes"
                .to_owned(),
            command: Some(format!(
                "`rota status {0}` lists what is alive; after revoking it `rota reconcile {0} --reason \
                 \"what was alive is revoked\"`",
                secret.id
            )),
            ..base(rotation, secret, NoticeKind::Abandoned, now)
        },
        // The one that took over speaks.
        Outcome::Superseded => return None,
    })
}

/// The due date that the rotation serves, while what is in use is still the old value.
fn unserved(rotation: &Rotation) -> Option<Timestamp> {
    rotation.order.serves.filter(|_| rotation.facts.promoted_at.is_none())
}

/// `; it is due 2026-01-15 10:00 UTC`, where it is.
fn due_by(rotation: &Rotation) -> String {
    unserved(rotation).map_or_else(String::new, |due| format!("; it is due {}", utc(due)))
}

/// When the rotation after a completed one comes.
fn next_one(rotation: &Rotation, secret: &SecretPolicy, now: Timestamp) -> String {
    let start = Start { lead: secret.lead, window: secret.window.as_ref() };
    let promoted = rotation.facts.promoted_at.unwrap_or(now);
    let Some(due) = secret.schedule.next_due(promoted, rotation.order.serves, start) else {
        return format!("the next one starts when somebody runs `rota rotate {}`", secret.id);
    };
    match start.of(due.at) {
        begins if begins > now => format!("the next one starts {} and is due {}", utc(begins), utc(due.at)),
        _ => format!("the next one starts as soon as it may and is due {}", utc(due.at)),
    }
}

/// The command that shows a rotation as it goes on.
fn watch(secret: &SecretPolicy) -> String {
    format!("rota status {} --watch", secret.id)
}

/// Tells the person whom a step waits for, once.
fn waiting_for_person(
    rotation: &Rotation,
    secret: &SecretPolicy,
    step: Step,
    now: Timestamp,
) -> Option<Notice> {
    let submitting = step == Step::Stage && rotation.shape.source == Source::Submitted;
    let (what, next, command) = if submitting {
        (
            format!("{} needs a new value from a person", secret.id),
            format!("once it is handed in it is proven, published and watched{}", due_by(rotation)),
            format!("rota submit {}", secret.id),
        )
    } else if step == Step::Confirm {
        (
            format!("the old value of {} can be revoked at its provider now", secret.id),
            "once that is confirmed the rotation is complete; until then it waits".to_owned(),
            format!("rota confirm {}", secret.id),
        )
    } else {
        return None;
    };
    Some(Notice {
        key: format!("{}:waiting:{step}", rotation.id),
        what,
        next,
        command: Some(command),
        link: secret.page.clone(),
        ..base(rotation, secret, NoticeKind::WaitingForPerson, now)
    })
}

/// What was pasted into the inbox is left there: it is not what the policy promises.
pub(crate) fn not_taken(rotation: &Rotation, secret: &SecretPolicy, why: &str, now: Timestamp) -> Notice {
    Notice {
        what: format!("what is in the inbox of {} is not taken: {why}", secret.id),
        next: "replace it there; it is looked at every minute, and nothing was written".to_owned(),
        command: Some(format!("rota submit {}", secret.id)),
        link: secret.page.clone(),
        ..base(rotation, secret, NoticeKind::WaitingForPerson, now)
    }
}

/// Nothing that cannot be taken back happens by a clock that nobody can trust. Said once a
/// day for each step.
pub(crate) fn clocks_disagree(
    rotation: &Rotation,
    secret: &SecretPolicy,
    why: &str,
    now: Timestamp,
) -> Notice {
    let step = rotation.step().map_or("", Step::as_str);
    Notice {
        key: format!("{}:clocks:{step}:{}", rotation.id, now.as_second() / 86_400),
        what: format!("Rotation of {} pauses before {step}: clocks disagree, {why}", secret.id),
        next: "it goes on by itself once they agree; look at the time service of the database's host"
            .to_owned(),
        command: Some(format!("rota status {}", secret.id)),
        ..base(rotation, secret, NoticeKind::CheckFailed, now)
    }
}

/// What is due, and how long a wait was, is told by the database's clock. Said once a day.
pub(crate) fn clock_leapt(why: &str, now: Timestamp) -> Notice {
    Notice {
        key: format!("clocks:{}", now.as_second() / 86_400),
        what: format!("Clocks disagree: {why}"),
        impact: "nothing that cannot be taken back happens where no store's clock agrees".to_owned(),
        next: "it goes on once the clock is back; where the new time is the right one, start the daemons \
               again"
            .to_owned(),
        command: Some("rota doctor".to_owned()),
        ..of_everything(NoticeKind::CheckFailed, now)
    }
}

/// The journal is not the whole past: every process stops. Said once for each incarnation.
#[must_use]
pub fn past_is_lost(why: &str, incarnation: Incarnation, now: Timestamp) -> Notice {
    Notice {
        key: format!("recovery:{}", incarnation.0),
        what: format!("The state database is a restored backup or has lost commits: {why}"),
        impact: "every value in use still works; no rotation starts or goes on".to_owned(),
        next: "nothing happens until a person has compared it with the stores, however long that takes"
            .to_owned(),
        command: Some(
            "rota recover --dry-run, then rota recover --reason \"the database was restored\"".to_owned(),
        ),
        ..of_everything(NoticeKind::Held, now)
    }
}

/// A notice about no secret in particular.
fn of_everything(kind: NoticeKind, now: Timestamp) -> Notice {
    Notice {
        key: String::new(),
        kind,
        secret: None,
        rotation: None,
        owner: None,
        priority: Priority::Critical,
        what: String::new(),
        impact: String::new(),
        next: String::new(),
        command: None,
        link: None,
        at: now,
    }
}

/// The first round that is not healthy: a check failed, or could not be read.
pub(crate) fn check_failed(
    rotation: &Rotation,
    secret: &SecretPolicy,
    verdict: Verdict,
    detail: &str,
    now: Timestamp,
) -> Notice {
    debug_assert_eq!(rotation.phase(), Phase::Monitor);
    let Healthy { every, failures, .. } = secret.healthy;
    let (what, rounds, end) = match (verdict, secret.on_failure) {
        (Verdict::Unknown, _) => ("could not be read", "such rounds", "held"),
        (_, OnFailure::Hold) => ("failed", "failures", "held"),
        (_, OnFailure::Rollback) => ("failed", "failures", "rolled back"),
    };
    let next = if failures > 1 {
        let look = utc(now.saturating_add(every).unwrap_or(Timestamp::MAX));
        format!("the next look is at {look}; after {failures} {rounds} in a row the rotation is {end}")
    } else {
        format!("the rotation is {end} now")
    };
    Notice {
        what: format!("A check {what} after {} was promoted: {detail}", secret.id),
        next,
        command: Some(format!("rota rollback {} --reason \"a check {what}\"", secret.id)),
        ..base(rotation, secret, NoticeKind::CheckFailed, now)
    }
}

/// A rotation that should start and cannot, and is tried again at `again`. Said once a
/// day. `secret` is `None` where the policy no longer has it.
pub(crate) fn cannot_start(
    due: &DueSecret,
    secret: Option<&SecretPolicy>,
    why: &str,
    again: Timestamp,
    now: Timestamp,
) -> Notice {
    let day = now.as_second() / 86_400;
    Notice {
        key: format!("{}:cannot_start:{day}", due.secret),
        kind: NoticeKind::Held,
        secret: Some(due.secret.clone()),
        rotation: None,
        owner: secret.and_then(|secret| secret.owner.clone()),
        priority: due.priority,
        what: format!("Rotation of {} cannot start: {why}", due.secret),
        impact: "nothing was changed; the value in use still works".to_owned(),
        next: format!("it is tried again at {}, and as often as it takes", utc(again)),
        command: Some("rota doctor".to_owned()),
        link: None,
        at: now,
    }
}

pub(crate) fn due_soon(
    secret: &SecretPolicy,
    upcoming: &Upcoming,
    before: SignedDuration,
    now: Timestamp,
) -> Notice {
    let (next, command) = ahead(secret, upcoming, now);
    Notice {
        key: format!("{}:due_soon:{}:{}", secret.id, upcoming.due, before.as_secs()),
        kind: NoticeKind::DueSoon,
        secret: Some(secret.id.clone()),
        rotation: None,
        owner: secret.owner.clone(),
        priority: secret.priority,
        what: format!("{} is due in {}", secret.id, rough(upcoming.due.duration_since(now))),
        impact: "the value in use still works".to_owned(),
        next,
        command: Some(command),
        link: secret.page.clone(),
        at: now,
    }
}

/// What comes before the due date, and what to run. A value can be handed in only to a
/// rotation that waits for it.
fn ahead(secret: &SecretPolicy, upcoming: &Upcoming, now: Timestamp) -> (String, String) {
    let (name, due) = (&secret.id, utc(upcoming.due));
    let by_person = upcoming.waits_for_person;
    match upcoming.step {
        Some(Step::Stage) if by_person => (
            format!("the rotation waits until a person hands the new value in; due {due}"),
            format!("rota submit {name}"),
        ),
        Some(_) => (format!("the rotation in flight goes on; due {due}"), format!("rota status {name}")),
        None => {
            let start = Start { lead: secret.lead, window: secret.window.as_ref() }.of(upcoming.due);
            let start = if start > now { utc(start) } else { "as soon as it may".to_owned() };
            if by_person {
                (
                    format!("a rotation starts {start} and asks a person for the new value; due {due}"),
                    format!(
                        "to hand it in before: `rota rotate {name} --reason \"before it is due\"`, then \
                         `rota submit {name}`"
                    ),
                )
            } else {
                (
                    format!("the rotation starts {start} and runs by itself; due {due}"),
                    format!("rota status {name}"),
                )
            }
        }
    }
}

pub(crate) fn overdue(secret: &SecretPolicy, upcoming: &Upcoming, days: i64, now: Timestamp) -> Notice {
    let (name, again) = (&secret.id, told_again(upcoming.due, days));
    let (next, command) = match (&upcoming.step, &upcoming.waiting) {
        (Some(_), Some(why)) => {
            (format!("the rotation in flight waits for {why}"), format!("rota status {name}"))
        }
        (Some(_), None) => ("the rotation in flight goes on".to_owned(), format!("rota status {name}")),
        (None, _) => (
            "no rotation is in flight".to_owned(),
            format!(
                "`rota status {name}` says what keeps it; `rota rotate {name} --reason \"it is overdue\"` \
                 starts one now"
            ),
        ),
    };
    Notice {
        key: format!("{}:overdue:{}:{days}", secret.id, upcoming.due),
        kind: NoticeKind::Overdue,
        secret: Some(secret.id.clone()),
        rotation: None,
        owner: secret.owner.clone(),
        priority: escalated(secret.priority, days),
        what: format!("{} is overdue by {}", secret.id, rough(now.duration_since(upcoming.due))),
        impact: "the value in use still works, and is older than the policy allows".to_owned(),
        next: format!("{next}; told again {again}"),
        command: Some(command),
        link: secret.page.clone(),
        at: now,
    }
}

/// When the alert after that of the day `days` past due comes.
fn told_again(due: Timestamp, days: i64) -> String {
    let ahead = SignedDuration::from_hours(24 * (days + 1));
    utc(due.saturating_add(ahead).unwrap_or(Timestamp::MAX))
}

/// Each three days past due raise the priority by one.
fn escalated(priority: Priority, days: i64) -> Priority {
    let ladder = [Priority::Critical, Priority::High, Priority::Medium, Priority::Low];
    let start = ladder.iter().position(|step| *step == priority).unwrap_or(0);
    let raised = start.saturating_sub(usize::try_from(days / 3).unwrap_or(0));
    ladder[raised]
}

/// A moment as people write it; the zone stands with it.
fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn rough(duration: SignedDuration) -> String {
    let hours = duration.as_hours();
    if hours >= 48 {
        format!("{} days", hours / 24)
    } else if hours >= 2 {
        format!("{hours} hours")
    } else {
        format!("{} minutes", duration.as_mins())
    }
}

#[cfg(test)]
mod tests;
