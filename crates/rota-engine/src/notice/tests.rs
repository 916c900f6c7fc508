use rota_core::id::{OwnerId, SecretId};
use rota_core::rotation::{List, Publication};
use rota_core::schedule::Schedule;

use super::*;
use crate::test_support::journal_suite::parts;

/// What people are shown as examples, see crates/rota-adapters/tests/it/messages.rs.
const PAGE: &str = include_str!("../../../../docs/notifications.md");

const DAY: SignedDuration = SignedDuration::from_hours(24);

fn now() -> Timestamp {
    "2026-01-15T10:00:00Z".parse().unwrap()
}

/// A value that is due every 90 days and has an owner.
fn secret(name: &str) -> SecretPolicy {
    SecretPolicy {
        schedule: Schedule::Cadence { every: DAY * 90 },
        lead: DAY,
        healthy: Healthy { count: 6, every: SignedDuration::from_mins(5), failures: 3 },
        owner: Some(OwnerId::new("platform").unwrap()),
        page: Some("https://console.example/keys".to_owned()),
        ..parts::secret_policy(name, Priority::High)
    }
}

/// A rotation on schedule that serves a due date in a day.
fn scheduled(name: &str) -> Rotation {
    let mut rotation = parts::rotation(name, now());
    rotation.order.cause = Cause::Scheduled;
    rotation.order.serves = Some(now() + DAY);
    rotation
}

fn published(mut rotation: Rotation, list: List) -> Rotation {
    rotation.facts.publication = Some(Publication { list, at: now(), refs: Default::default() });
    if list == List::NewOld {
        rotation.facts.promoted_at = Some(now());
    }
    rotation
}

fn ended(rotation: Rotation, outcome: Outcome) -> (Rotation, Rotation) {
    let after = Rotation { state: State::Ended { outcome, at: now() }, ..rotation.clone() };
    (rotation, after)
}

fn held_by(rotation: Rotation, reason: HoldReason) -> (Rotation, Rotation) {
    let step = rotation.step().unwrap();
    let after =
        Rotation { state: State::Held { step, intent: None, reason, since: now() }, ..rotation.clone() };
    (rotation, after)
}

/// The one notice of a change.
fn told((before, after): (Rotation, Rotation)) -> Notice {
    let event = Event::EvidenceAged;
    let mut notices = of_transition(&before, &after, &event, &secret(before.secret.as_str()), now());
    assert_eq!(notices.len(), 1, "{notices:?}");
    notices.remove(0)
}

fn upcoming(name: &str, due: Timestamp) -> Upcoming {
    let secret = SecretId::new(name).unwrap();
    Upcoming { secret, due, waits_for_person: false, step: None, waiting: None }
}

fn by_person(name: &str, due: Timestamp) -> Upcoming {
    Upcoming { waits_for_person: true, ..upcoming(name, due) }
}

fn rollout_failed() -> HoldReason {
    HoldReason::RolloutFailed {
        consumer: "backend".to_owned(),
        detail: "deployment ecs-svc/42 failed after 3 failed tasks; look at the service's events".to_owned(),
    }
}

/// Every notice that the engine words, of the same happenings as in the page.
fn all() -> Vec<Notice> {
    let (jwt, key) = ("JWT_SECRET", "ANTHROPIC_API_KEY");
    let due = |name| secret(name);
    let confirming = {
        let before = published(scheduled(key), List::NewOld);
        let state =
            State::Running { step: Step::Confirm, attempt: rota_core::rotation::Attempt::fresh(now()) };
        (before.clone(), Rotation { state, ..before })
    };
    let waiting = Upcoming {
        step: Some(Step::Promote),
        waiting: Some("the window to open".to_owned()),
        ..upcoming(jwt, now() - DAY * 3)
    };
    let leaked = {
        let mut rotation = scheduled(jwt);
        rotation.order.cause =
            Cause::Requested { by: "on-call".to_owned(), reason: "found in a log".to_owned() };
        rotation.order.haste = Haste::Emergency { suspect: Suspect::Older };
        rotation
    };
    let promoted = published(scheduled(jwt), List::NewOld);
    vec![
        due_soon(&due(key), &by_person(key, now() + DAY * 7), DAY * 7, now()),
        overdue(&due(jwt), &waiting, 3, now()),
        told(confirming),
        started(&scheduled(jwt), &due(jwt), now()),
        check_failed(
            &watching(promoted.clone()),
            &due(jwt),
            Verdict::Unhealthy,
            "backend/http: answered 503, expected 200",
            now(),
        ),
        told(ended(scheduled(jwt), Outcome::RolledBack)),
        told(held_by(published(scheduled(jwt), List::OldNew), rollout_failed())),
        told(ended(promoted.clone(), Outcome::Completed)),
        started(&leaked, &due(jwt), now()),
        told(ended(promoted, Outcome::Abandoned)),
    ]
}

fn watching(rotation: Rotation) -> Rotation {
    let state = State::Running { step: Step::Watch, attempt: rota_core::rotation::Attempt::fresh(now()) };
    Rotation { state, ..rotation }
}

#[test]
fn the_documented_messages_are_these() {
    for notice in all() {
        for text in [&notice.what, &notice.impact, &notice.next, notice.command.as_ref().unwrap()] {
            assert!(PAGE.contains(text.as_str()), "docs/notifications.md has no `{text}`");
        }
    }
}

#[test]
fn every_message_says_what_now_next_and_a_command_that_can_be_pasted() {
    for notice in all() {
        assert_eq!(notice.owner, secret("X").owner, "{notice:?}");
        let command = notice.command.unwrap();
        for text in [&notice.what, &notice.impact, &notice.next, &command] {
            assert!(!text.is_empty() && !text.contains("...") && !text.contains("REF"), "{text}");
        }
        assert!(command.contains("rota "), "{command}");
    }
}

#[test]
fn what_cannot_start_calls_its_owner_and_says_when_it_is_tried_again() {
    let due = DueSecret {
        secret: SecretId::new("JWT_SECRET").unwrap(),
        due: Some(now()),
        priority: Priority::High,
        order: None,
        exists: true,
    };
    let again = now() + SignedDuration::from_mins(15);
    let notice = cannot_start(&due, Some(&secret("JWT_SECRET")), "the store is gone", again, now());
    assert_eq!(notice.owner, Some(OwnerId::new("platform").unwrap()));
    assert_eq!(notice.next, "it is tried again at 2026-01-15 10:15 UTC, and as often as it takes");
    let removed = cannot_start(&due, None, "the policy no longer has this secret", again, now());
    assert_eq!(removed.owner, None);
}

#[test]
fn a_value_is_asked_for_by_a_command_that_works_at_that_moment() {
    let key = secret("KEY");
    let soon = by_person("KEY", now() + DAY * 7);
    let said = |upcoming: &Upcoming| due_soon(&key, upcoming, DAY * 7, now());
    let before = said(&soon);
    assert!(before.next.starts_with("a rotation starts 2026-01-21 10:00 UTC"), "{}", before.next);
    let command = before.command.unwrap();
    let (rotate, submit) = (command.find("`rota rotate KEY --reason"), command.find("`rota submit KEY`"));
    assert!(rotate.is_some() && rotate < submit, "nothing waits for a value yet: {command}");
    let waits = said(&Upcoming { step: Some(Step::Stage), ..soon.clone() });
    assert_eq!(waits.command.as_deref(), Some("rota submit KEY"));
    let handed_in = said(&Upcoming { step: Some(Step::Prove), ..soon });
    assert_eq!(handed_in.command.as_deref(), Some("rota status KEY"));
    let by_itself = said(&upcoming("KEY", now() + DAY * 7));
    assert_eq!(
        by_itself.next,
        "the rotation starts 2026-01-21 10:00 UTC and runs by itself; due 2026-01-22 10:00 UTC"
    );
}

#[test]
fn what_comes_next_has_a_date() {
    let completed = told(ended(published(scheduled("A"), List::NewOld), Outcome::Completed));
    assert_eq!(completed.next, "the next one starts 2026-04-14 10:00 UTC and is due 2026-04-15 10:00 UTC");
    let back = told(ended(scheduled("A"), Outcome::RolledBack));
    assert_eq!(back.next, "a new rotation starts, not before 2026-01-16 10:00 UTC");
    let held = told(held_by(scheduled("A"), rollout_failed()));
    assert_eq!(held.next, "nothing happens until a person decides; it is due 2026-01-16 10:00 UTC");
    let mut late = scheduled("A");
    late.order.serves = Some(now() - DAY);
    let held = told(held_by(late, rollout_failed()));
    assert_eq!(held.next, "nothing happens until a person decides; it is overdue since 2026-01-14 10:00 UTC");
    let served = told(held_by(published(scheduled("A"), List::NewOld), rollout_failed()));
    assert_eq!(served.next, "nothing happens until a person decides, however long that takes");
}

#[test]
fn a_failed_check_says_when_the_next_look_is_and_how_it_ends() {
    let rotation = watching(published(scheduled("A"), List::NewOld));
    let mut policy = secret("A");
    let told = |policy: &SecretPolicy, verdict| check_failed(&rotation, policy, verdict, "503", now());
    let next = |policy: &SecretPolicy| told(policy, Verdict::Unhealthy).next;
    assert_eq!(
        next(&policy),
        "the next look is at 2026-01-15 10:05 UTC; after 3 failures in a row the rotation is held"
    );
    policy.on_failure = OnFailure::Rollback;
    let unread = told(&policy, Verdict::Unknown);
    assert_eq!(
        unread.next,
        "the next look is at 2026-01-15 10:05 UTC; after 3 such rounds in a row the rotation is held"
    );
    assert_eq!(unread.command.as_deref(), Some("rota rollback A --reason \"a check could not be read\""));
    policy.healthy.failures = 1;
    assert_eq!(next(&policy), "the rotation is rolled back now");
}
