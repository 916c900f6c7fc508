use jiff::SignedDuration;
use rota_core::rotation::State;

use super::*;
use crate::ports::{Journal as _, NoticeKind, OrderKind};
use crate::test_support::{Call, Disturbance, FakeKind, Form, Guards, Scenario, SecretPlan, run, work};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

fn two_users() -> (Scenario, SecretId) {
    let plan = SecretPlan::new("DATABASE_URL", FakeKind::TwoUsers, Form::Single);
    let start = "2026-01-01T00:00:00Z".parse().unwrap();
    let scenario = Scenario::of(plan, 1, Guards::default(), start).unwrap();
    let secret = SecretId::new("DATABASE_URL").unwrap();
    scenario.journal.order(&secret, OrderKind::Rotate, "test", "to see it work");
    (scenario, secret)
}

/// Works as one process that ends when the rotation has come to `step`; its lease lapses.
fn until(scenario: &Scenario, secret: &SecretId, step: Step) {
    let there = format!("{secret} Running {{ step: {step:?},");
    let mut has_ended = false;
    scenario.wire.disturb_with(move |call: &Call| {
        let ended = has_ended;
        has_ended |= call.name == "record" && call.detail.starts_with(&there);
        ended.then(|| Disturbance::Fails(Fault::transient("the process has ended")))
    });
    let engine = scenario.engine("one", 2);
    run(&scenario.clock, work(scenario, &engine, |_| false)).unwrap_err();
    scenario.wire.heal();
    scenario.clock.advance_by(HOUR);
}

/// Nobody claims any more, and people know what to run.
fn everything_stands_still(scenario: &Scenario) {
    let claimed = run(&scenario.clock, scenario.engine("three", 4).drive_one());
    assert!(matches!(claimed, Err(Fault::Invalid { .. })), "{claimed:?}");
    let opened = scenario.journal.look(|tables| tables.rotations.len());
    scenario.journal.order(&scenario.plans[0].name.parse().unwrap(), OrderKind::Rotate, "test", "again");
    let _ = run(&scenario.clock, scenario.engine("three", 4).open_due());
    assert_eq!(scenario.journal.look(|tables| tables.rotations.len()), opened);
    let told = scenario.journal.look(|tables| {
        tables.outbox.iter().map(|row| row.notice.clone()).find(|notice| notice.key.starts_with("recovery:"))
    });
    let told = told.expect("people are told");
    assert!(told.kind == NoticeKind::Held && told.command.unwrap().contains("rota recover"));
}

#[test]
fn a_backup_without_a_rotation_is_noticed_before_the_next_one_starts() {
    let (scenario, secret) = two_users();
    let backup = scenario.journal.back_up();
    until(&scenario, &secret, Step::Prove);
    scenario.journal.restore(backup);
    assert_eq!(run(&scenario.clock, scenario.engine("two", 3).open_due()), Ok(0));
    let why = scenario.journal.look(|tables| tables.distrusted.clone()).unwrap();
    assert!(why.contains("keeps a slot of rotation"), "{why}");
    everything_stands_still(&scenario);
}

#[test]
fn stores_are_compared_one_after_the_other() {
    let (scenario, secret) = two_users();
    let engine = scenario.engine("one", 2);
    let compare = |after: Option<&SecretId>| run(&scenario.clock, engine.compare_next(after)).unwrap();
    assert_eq!(compare(None).as_ref(), Some(&secret));
    assert_eq!(compare(Some(&secret)), None);
    let backup = scenario.journal.back_up();
    until(&scenario, &secret, Step::Watch);
    scenario.journal.restore(backup);
    assert_eq!(compare(None).as_ref(), Some(&secret));
    everything_stands_still(&scenario);
}

#[test]
fn what_an_earlier_life_of_the_journal_left_is_no_reason_to_stop() {
    let (scenario, secret) = two_users();
    let backup = scenario.journal.back_up();
    until(&scenario, &secret, Step::Watch);
    let mut fresh = backup;
    fresh.began_at = scenario.journal.clock_now();
    fresh.incarnation = rota_core::id::Incarnation(2);
    scenario.journal.restore(fresh);
    assert_eq!(run(&scenario.clock, scenario.engine("two", 3).open_due()), Ok(1));
    assert_eq!(scenario.journal.look(|tables| tables.distrusted.clone()), None);
}

#[test]
fn a_leap_of_the_database_s_clock_is_told_until_it_is_back_or_confirmed() {
    let (scenario, _) = two_users();
    let engine = scenario.engine("one", 2);
    let now = scenario.journal.clock_now();
    assert_eq!(engine.leap(now), None);
    scenario.clock.advance_by(HOUR);
    assert_eq!(engine.leap(now + HOUR), None);
    let ahead = engine.leap(now + HOUR * 3).unwrap();
    assert!(ahead.contains("leapt ahead by 2h"), "{ahead}");
    let back = engine.leap(now).unwrap();
    assert!(back.contains("leapt back by 1h"), "{back}");
    assert_eq!(engine.leap(now + HOUR), None);
    engine.trust_clock(now + HOUR * 3);
    assert_eq!(engine.leap(now + HOUR * 3), None);

    scenario.journal.set_clock_offset(HOUR * -6);
    run(&scenario.clock, engine.remind()).unwrap();
    run(&scenario.clock, engine.remind()).unwrap();
    let told = scenario
        .journal
        .look(|tables| tables.outbox.iter().filter(|row| row.notice.what.contains("leapt back")).count());
    assert_eq!(told, 1, "once a day");
}

/// A backup of the moment in which the rotation stood at `backed_up`, restored when it had
/// come to `reached`, some claims later: who claims it holds it, and nobody goes on.
fn held_after_a_restore(backed_up: Step, reached: Step) -> String {
    let (scenario, secret) = two_users();
    until(&scenario, &secret, backed_up);
    let backup = scenario.journal.back_up();
    for _ in 0..3 {
        run(&scenario.clock, scenario.journal.claim("idle", HOUR)).unwrap().expect("it is awake");
        scenario.clock.advance_by(HOUR);
    }
    until(&scenario, &secret, reached);
    scenario.journal.restore(backup);
    let engine = scenario.engine("two", 3);
    while matches!(run(&scenario.clock, engine.drive_one()), Ok(Some(_))) {}
    everything_stands_still(&scenario);
    scenario.journal.look(|tables| match &tables.in_flight(&secret).unwrap().rotation.state {
        State::Held { reason: HoldReason::Recovery { detail }, .. } => detail.clone(),
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_store_that_is_ahead_holds_the_rotation_that_would_write_again() {
    let why = held_after_a_restore(Step::Promote, Step::Watch);
    assert!(why.starts_with("store `main` was changed under"), "{why}");
}

#[test]
fn a_target_that_is_ahead_holds_the_rotation_that_would_change_it() {
    let why = held_after_a_restore(Step::Install, Step::Prove);
    assert!(why.starts_with("the target was changed under"), "{why}");
}
