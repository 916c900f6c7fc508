use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::SecretId;
use rota_core::rotation::{Outcome, State};

use super::{Call, Disturbance, FakeKind, Guards, Scenario, SecretPlan, SimClock, Wire, run, work};
use crate::ports::{Clock, OrderKind, within};

fn clock() -> SimClock {
    SimClock::new("2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap())
}

/// One call that adds one, under `disturbance`; what came back and what was added by then.
fn disturbed(disturbance: Disturbance) -> (Result<u32, Fault>, u32, Arc<Mutex<u32>>, SimClock) {
    let clock = clock();
    let wire = Wire::new(clock.clone());
    let wanted = disturbance.clone();
    wire.disturb_with(move |_: &Call| Some(wanted.clone()));
    let counter = Arc::new(Mutex::new(0));
    let effect = Arc::clone(&counter);
    let call = wire.call("test", "add", String::new(), move || {
        let mut counter = effect.lock().unwrap();
        *counter += 1;
        Ok::<u32, Fault>(*counter)
    });
    let answer = run(&clock, within(&clock, SignedDuration::from_secs(30), "adding", call));
    let added = *counter.lock().unwrap();
    (answer, added, counter, clock)
}

#[test]
fn a_lost_answer_had_its_effect_and_a_failure_had_none() {
    let (answer, added, ..) = disturbed(Disturbance::AnswerLost);
    assert!(matches!(answer, Err(Fault::Transient { .. })));
    assert_eq!(added, 1);
    let (answer, added, ..) = disturbed(Disturbance::Fails(Fault::denied("no")));
    assert_eq!(answer, Err(Fault::denied("no")));
    assert_eq!(added, 0);
}

#[test]
fn a_late_effect_lands_after_its_caller_gave_up() {
    let (answer, added, counter, clock) = disturbed(Disturbance::LandsLater(SignedDuration::from_secs(100)));
    assert!(matches!(answer, Err(Fault::Transient { .. })));
    assert_eq!((added, clock.elapsed()), (0, SignedDuration::from_secs(30)));
    clock.advance_by(SignedDuration::from_secs(100));
    assert_eq!((*counter.lock().unwrap(), clock.elapsed()), (1, SignedDuration::from_secs(130)));
}

#[test]
fn a_slow_call_answers_in_its_own_time_and_leaves_no_timer_behind() {
    let (answer, _, _, clock) = disturbed(Disturbance::Slow(SignedDuration::from_secs(20)));
    assert_eq!(answer, Ok(1));
    assert_eq!(clock.elapsed(), SignedDuration::from_secs(20));
    assert_eq!(clock.next(), None);
}

#[test]
fn events_happen_in_the_order_of_their_time_and_then_of_their_registration() {
    let clock = clock();
    let seen = Arc::new(Mutex::new(Vec::new()));
    for (after, name) in [(20, "c"), (10, "a"), (10, "b")] {
        let seen = Arc::clone(&seen);
        clock.at(clock.later(SignedDuration::from_secs(after)), move || seen.lock().unwrap().push(name));
    }
    clock.advance_by(SignedDuration::from_secs(15));
    assert_eq!(*seen.lock().unwrap(), ["a", "b"]);
    while clock.advance() {}
    assert_eq!(*seen.lock().unwrap(), ["a", "b", "c"]);
}

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

#[test]
fn every_shape_goes_through_a_whole_rotation_without_a_refused_use() {
    for (name, plan) in SecretPlan::every_shape() {
        let gap = plan.kind == FakeKind::Single;
        let secret = SecretId::new(&plan.name).unwrap();
        let scenario = Scenario::of(plan, 1, Guards::default(), start()).unwrap();
        scenario.journal.order(&secret, OrderKind::Rotate, "test", "to see it work");
        let engine = scenario.engine("one", 2);
        let ended = |scenario: &Scenario| {
            assert_eq!(if gap { vec![] } else { scenario.world.complaints() }, [], "{name}");
            scenario.journal.look(|tables| tables.latest(&secret).is_some_and(|row| !row.in_flight()))
                || scenario.clock.elapsed() > SignedDuration::from_hours(24 * 30)
        };
        run(&scenario.clock, work(&scenario, &engine, ended)).unwrap();
        let state = scenario.journal.look(|tables| tables.latest(&secret).unwrap().rotation.state.clone());
        let completed = matches!(state, State::Ended { outcome: Outcome::Completed, .. });
        assert!(completed, "{name}: {state:?}");
        assert_eq!(scenario.world.complaints(), [], "{name}");
    }
}
