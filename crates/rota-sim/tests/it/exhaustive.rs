//! Kill the process at any call of the loop: it converges, for every shape.

use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_core::rotation::{HoldReason, Outcome, Step, Suspect};
use rota_engine::ports::OrderKind;
use rota_engine::test_support::{Disturbance, FakeKind, SecretPlan};
use rota_sim::exhaustive::{Case, Moment, Ran};

/// Longer than a call may take, and shorter than what a late effect may take.
const LATE: SignedDuration = SignedDuration::from_secs(60);

/// Of calls that repeat in one place, so many get a fault.
const EACH: usize = 1;

fn plan(shape: &str) -> SecretPlan {
    SecretPlan::every_shape().into_iter().find(|(name, _)| *name == shape).unwrap().1
}

fn disturbances() -> [Disturbance; 5] {
    [
        Disturbance::Fails(Fault::transient("the network is down")),
        Disturbance::CrashBefore,
        Disturbance::CrashAfter,
        Disturbance::AnswerLost,
        Disturbance::LandsLater(LATE),
    ]
}

/// A key that its target shows once may be lost between target and slot: then a person
/// is asked, and rolls back.
fn may_lose_its_key(plan: &SecretPlan, moment: &Moment) -> bool {
    plan.kind == FakeKind::Created && moment.step == Some(Step::Stage)
}

fn expect_completed(plan: &SecretPlan, moment: &Moment, ran: &Ran) -> Result<(), String> {
    let lost_key = ran.holds.iter().all(|hold| matches!(hold, HoldReason::ValueMissing { .. }));
    let ended = match ran.outcome {
        Outcome::Completed => ran.holds.is_empty() || (may_lose_its_key(plan, moment) && lost_key),
        Outcome::RolledBack => may_lose_its_key(plan, moment) && lost_key,
        Outcome::Abandoned | Outcome::Superseded => false,
    };
    if ended { Ok(()) } else { Err(format!("ended {:?} after holds {:?}", ran.outcome, ran.holds)) }
}

/// Every shape's calls, once.
fn calm(shape: &str) -> (SecretPlan, Ran) {
    let plan = plan(shape);
    let ran = Case::new(plan.clone()).run().unwrap();
    assert_eq!((ran.outcome, &ran.holds), (Outcome::Completed, &vec![]), "{shape}");
    (plan, ran)
}

/// Reports every case that went wrong, the first in full.
fn report(shape: &str, runs: usize, failures: &[String]) {
    let short: Vec<&str> = failures.iter().filter_map(|failure| failure.lines().next()).take(40).collect();
    assert!(
        failures.is_empty(),
        "{shape}: {} of {runs} runs went wrong:\n{}\n\nthe first in full:\n{}",
        failures.len(),
        short.join("\n"),
        failures[0]
    );
}

fn survives_any_fault(shape: &str) {
    let (plan, calm) = calm(shape);
    let (mut runs, mut failures) = (0, Vec::new());
    for call in calm.moments(EACH) {
        for disturbance in disturbances() {
            let moment = &calm.calls[usize::try_from(call).unwrap()];
            let case = Case::new(plan.clone()).with_fault(call, disturbance.clone());
            let result = case.run().and_then(|ran| expect_completed(&plan, moment, &ran));
            runs += 1;
            if let Err(problem) = result {
                failures.push(format!("{disturbance:?} at call {call} ({moment}): {problem}"));
            }
        }
    }
    report(shape, runs, &failures);
}

fn obeys_at_any_call(shape: &str, order: &OrderKind, fits: impl Fn(&SecretPlan, &Moment, &Ran) -> bool) {
    let (plan, calm) = calm(shape);
    let (mut runs, mut failures) = (0, Vec::new());
    for call in calm.moments(EACH) {
        let moment = &calm.calls[usize::try_from(call).unwrap()];
        if moment.step.is_none() {
            // Before the rotation is open, or after it: another test's concern.
            continue;
        }
        runs += 1;
        match Case::new(plan.clone()).with_order(call, order.clone()).run() {
            Ok(ran) if fits(&plan, moment, &ran) => {}
            Ok(ran) => failures.push(format!(
                "{order:?} at call {call} ({moment}): ended {:?}, the order was {:?}, holds {:?}",
                ran.outcome, ran.answer, ran.holds
            )),
            Err(problem) => failures.push(format!("{order:?} at call {call} ({moment}): {problem}")),
        }
    }
    report(shape, runs, &failures);
}

/// A rollback ends with the old value, or is refused and the rotation completes.
fn turned_back_or_refused(_: &SecretPlan, _: &Moment, ran: &Ran) -> bool {
    match ran.outcome {
        Outcome::RolledBack => ran.answer.as_deref() == Some("applied") && ran.holds.is_empty(),
        Outcome::Completed => ran.answer.as_deref() != Some("applied") && ran.holds.is_empty(),
        Outcome::Abandoned | Outcome::Superseded => false,
    }
}

/// An emergency ends by itself; that nothing leaked is left alive is checked by the run.
fn dealt_with(_: &SecretPlan, _: &Moment, ran: &Ran) -> bool {
    ran.answer.is_some() && ran.holds.is_empty()
}

macro_rules! every_shape {
    ($($module:ident: $shape:literal),* $(,)?) => {$(
        mod $module {
            use super::*;

            #[test]
            fn survives_a_fault_at_every_call() {
                survives_any_fault($shape);
            }

            #[test]
            fn turns_back_at_every_call() {
                obeys_at_any_call($shape, &OrderKind::Rollback, turned_back_or_refused);
            }

            #[test]
            fn deals_with_a_leak_of_the_old_value_at_every_call() {
                let order = OrderKind::Emergency { suspect: Some(Suspect::Older) };
                obeys_at_any_call($shape, &order, dealt_with);
            }

            #[test]
            fn deals_with_a_leak_of_the_new_value_at_every_call() {
                let order = OrderKind::Emergency { suspect: Some(Suspect::Newer) };
                obeys_at_any_call($shape, &order, dealt_with);
            }

            #[test]
            fn deals_with_a_leak_of_both_values_at_every_call() {
                obeys_at_any_call($shape, &OrderKind::Emergency { suspect: None }, dealt_with);
            }
        }
    )*};
}

every_shape! {
    signing_key_in_a_list: "a signing key in a list",
    signing_key_as_a_pinned_pair: "a signing key as a pinned pair",
    signing_key_in_a_document: "a signing key in a document",
    signing_key_with_a_mirror: "a signing key with a mirror",
    database_user: "a database user",
    key_that_its_target_makes: "a key that its target makes",
    key_that_a_person_makes: "a key that a person makes",
    cache_password_with_hooks: "a cache password with hooks",
    only_password: "the only password",
}
