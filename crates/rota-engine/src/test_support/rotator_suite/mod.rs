//! What every [`Rotator`] with a target promises, whatever product stands behind it.
//!
//! A promise is one function here; [`rotator_suite!`](crate::rotator_suite) makes a test
//! of each. The real engine drives the rotator against its real target, under a consumer
//! that uses what it holds after each effect and each restart, through crashes before and
//! after every call, lost answers, effects that land late, and orders at every step.

mod adapters;
mod harness;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::{Either, select};
use rota_core::policy::model::{Fields, SecretPolicy};
use rota_core::rotation::{Outcome, Step, Suspect};
use rota_core::value::Bundle;

use crate::ports::{OrderKind, Rotator, TargetEffect};
pub use harness::{Fate, Harness, Seen};
use harness::{lock, use_all};

/// What a policy says about the secret that is rotated; its store, consumer and times are
/// the suite's.
pub struct SecretUnderTest {
    pub kind: String,
    pub settings: serde_json::Value,
    pub fields: Fields,
    pub accept_gap: bool,
}

/// A rotator with its target, and what the suite has to know about it.
#[async_trait]
pub trait RotatorUnderTest: Send + Sync {
    fn secret(&self) -> SecretUnderTest;

    /// The rotator, as the catalogue makes it from the suite's policy of the secret.
    fn rotator(&self, policy: &SecretPolicy) -> Arc<dyn Rotator>;

    /// Where the administrator's credential is kept (the path, without the store `main`),
    /// and what stands there.
    fn admin(&self) -> Option<(String, String)>;

    /// What consumers read before the first rotation, by field. The target accepts it.
    fn first(&self) -> Bundle;

    /// Uses a value (its parts) as a consumer does; false where the target refuses it.
    async fn uses(&self, value: &Bundle) -> bool;

    /// Everything on the target that a value could be used with, sorted: users that can
    /// log in, keys that are not deleted.
    async fn alive(&self) -> Vec<String>;

    /// Somebody else gives the credential of this value another value.
    async fn change_by_hand(&self, value: &Bundle);
}

/// Makes a test of every promise. `$subject` is evaluated in each test and gives an
/// `Arc<dyn RotatorUnderTest>`, in an async context.
#[macro_export]
macro_rules! rotator_suite {
    ($subject:expr) => {
        $crate::rotator_suite! { @ $subject;
            where_both_leaked_a_third_value_takes_over_whatever_the_step
        }
        $crate::rotator_suite! { @each $subject }
    };
    // For a target that holds two values and no third.
    ($subject:expr, holds two) => {
        $crate::rotator_suite! { @ $subject;
            where_both_leaked_and_no_third_fits_nothing_in_use_is_taken_away
        }
        $crate::rotator_suite! { @each $subject }
    };
    (@each $subject:expr) => {
        $crate::rotator_suite! { @ $subject;
            twenty_rotations_back_to_back_refuse_no_use
            every_call_may_fail_once
            every_call_may_lose_its_answer_once
            every_call_may_be_the_last_of_its_process
            every_process_may_end_right_before_a_call
            each_effect_may_be_the_only_one_that_is_disturbed
            a_rollback_at_every_step_leaves_the_old_value
            a_rollback_may_be_disturbed_at_every_call
            an_older_value_that_leaked_is_refused_whatever_the_step
            a_newer_value_that_leaked_is_refused_whatever_the_step
            an_effect_that_lands_late_changes_nothing
            somebody_elses_value_is_never_overwritten
        }
    };
    (@ $subject:expr; $($promise:ident)*) => {
        $(
            #[tokio::test]
            async fn $promise() {
                let subject = $subject;
                $crate::test_support::rotator_suite::$promise(subject).await;
            }
        )*
    };
}

type Subject = Arc<dyn RotatorUnderTest>;

/// How many rotations follow each other.
const BACK_TO_BACK: u32 = 20;

impl Harness {
    /// One value is published, used and accepted; every other is refused; nothing is
    /// left of the others in slots, on the target, or in the journal.
    async fn assert_settled(&self, when: &str) {
        let published = self.published();
        assert!(self.subject.uses(&published).await, "{when}: the published value is refused");
        let (instances, values) = {
            let shared = lock(&self.shared);
            let copy = |values: &[Bundle]| values.iter().map(Bundle::duplicate).collect::<Vec<_>>();
            (copy(&shared.instances), copy(&shared.values))
        };
        for instance in &instances {
            assert!(instance.same_as(&published), "{when}: an instance uses another value");
        }
        for value in values.iter().filter(|value| !value.same_as(&published)) {
            assert!(!self.subject.uses(value).await, "{when}: a value that is not published is accepted");
        }
        let alive = self.subject.alive().await;
        assert_eq!(alive.len(), 1, "{when}: alive on the target: {alive:?}");
        self.assert_slots_are_empty(when);
        self.assert_journal_holds_no_value(when, &values);
        // What is refused for good is not tried again.
        lock(&self.shared).values.retain(|value| value.same_as(&published));
    }

    fn assert_slots_are_empty(&self, when: &str) {
        self.scenario.world.with(|world| {
            for (slot, versions) in world.stores.values().flat_map(|store| &store.slots) {
                let last = versions.last().and_then(|version| version.value.as_ref());
                assert!(last.is_none(), "{when}: a slot still holds its value: {slot:?}");
            }
        });
        let left = self.scenario.journal.look(|tables| {
            tables
                .secrets
                .values()
                .flat_map(|row| row.orphans.iter().chain(&row.blocked))
                .cloned()
                .collect::<Vec<_>>()
        });
        assert_eq!(left, Vec::<String>::new(), "{when}");
    }

    /// Passwords and keys; names and addresses may be told.
    fn assert_journal_holds_no_value(&self, when: &str, values: &[Bundle]) {
        let dump = self.scenario.journal.dump();
        let settings =
            self.policy().secrets.values().map(|secret| secret.settings.to_string()).collect::<String>();
        for value in values {
            let identity = self.rotator.identity_of(value);
            for (name, part) in value.iter() {
                let text = part.expose();
                let told = settings.contains(text) || identity.as_deref() == Some(text);
                assert!(told || !dump.contains(text), "{when}: the journal holds the {name} of a value");
            }
        }
    }

    /// No use was refused, except where the policy or an order accepts a gap.
    fn assert_no_refusals(&self, when: &str, gap: bool) {
        let (uses, refusals) = self.uses();
        if gap {
            return;
        }
        assert_eq!(refusals, Vec::<String>::new(), "{when}: of {uses} uses");
    }

    fn accepts_gap(&self) -> bool {
        !self.rotator.traits().overlaps
    }

    /// The old value is published again, or the new one where it was too late for that.
    async fn assert_ended(&self, when: &str, before: &Bundle, outcome: Outcome) {
        let back = self.published().same_as(before);
        match outcome {
            Outcome::RolledBack => assert!(back, "{when}: rolled back to another value"),
            Outcome::Completed => assert!(!back, "{when}: completed with the old value"),
            Outcome::Abandoned | Outcome::Superseded => panic!("{when}: ended as {outcome:?}"),
        }
        self.assert_settled(when).await;
    }

    /// One whole rotation, each kind of call disturbed the first time in each step.
    async fn rotate_disturbed(&self, fate: Fate) {
        let when = format!("{fate:?} at every call");
        let before = self.published();
        self.disturb(once_each(fate));
        let outcome = self.rotate().await;
        self.heal();
        assert_eq!(outcome, Outcome::Completed, "{when}");
        self.assert_ended(&when, &before, outcome).await;
        self.assert_no_refusals(&when, self.accepts_gap());
    }
}

/// Every distinct call meets `fate` once.
fn once_each(fate: Fate) -> impl FnMut(&Seen) -> Option<Fate> + Send {
    let mut met = BTreeSet::new();
    move |seen| met.insert(seen.clone()).then_some(fate)
}

/// Old and new instances use what they hold all the time, while rotation follows rotation.
pub async fn twenty_rotations_back_to_back_refuse_no_use(subject: Subject) {
    let harness = Harness::new(Arc::clone(&subject)).await;
    let rotations = async {
        for number in 1..=BACK_TO_BACK {
            let outcome = harness.rotate().await;
            assert_eq!(outcome, Outcome::Completed, "rotation {number}");
            harness.assert_settled(&format!("rotation {number}")).await;
        }
    };
    let client = async {
        loop {
            use_all(&*subject, &harness.shared, "while a rotation went on").await;
        }
    };
    match select(Box::pin(rotations), Box::pin(client)).await {
        Either::Left(((), _)) => {}
        Either::Right((never, _)) => never,
    }
    let (uses, refusals) = harness.uses();
    assert!(uses >= BACK_TO_BACK * 4, "{uses} uses prove nothing");
    if harness.accepts_gap() {
        let seen = harness.scenario.journal.look(|tables| tables.history.len());
        assert!(seen > 0);
        eprintln_gap(uses, &refusals);
    } else {
        assert_eq!(refusals, Vec::<String>::new(), "of {uses} uses");
    }
}

#[expect(clippy::print_stderr, reason = "a declared gap is measured and printed")]
fn eprintln_gap(uses: u32, refusals: &[String]) {
    eprintln!("the accepted gap: {} of {uses} uses were refused", refusals.len());
}

/// An unreachable target delays, and nothing else.
pub async fn every_call_may_fail_once(subject: Subject) {
    Harness::new(subject).await.rotate_disturbed(Fate::Fails).await;
}

pub async fn every_call_may_lose_its_answer_once(subject: Subject) {
    Harness::new(subject).await.rotate_disturbed(Fate::AnswerLost).await;
}

pub async fn every_call_may_be_the_last_of_its_process(subject: Subject) {
    Harness::new(subject).await.rotate_disturbed(Fate::CrashAfter).await;
}

pub async fn every_process_may_end_right_before_a_call(subject: Subject) {
    Harness::new(subject).await.rotate_disturbed(Fate::CrashBefore).await;
}

/// The effects of one calm rotation.
async fn effects(harness: &Harness) -> BTreeSet<Seen> {
    let outcome = harness.rotate().await;
    assert_eq!(outcome, Outcome::Completed);
    harness.take_calls().into_iter().filter(|seen| seen.name == "apply").collect()
}

/// Each effect alone: crashed before and after, and with its answer lost.
pub async fn each_effect_may_be_the_only_one_that_is_disturbed(subject: Subject) {
    let harness = Harness::new(subject).await;
    let effects = effects(&harness).await;
    assert!(!effects.is_empty(), "nothing was changed on the target");
    for effect in effects {
        for fate in [Fate::CrashBefore, Fate::CrashAfter, Fate::AnswerLost] {
            let when = format!("{fate:?} at {effect:?}");
            let (before, wanted, mut met) = (harness.published(), effect.clone(), false);
            harness
                .disturb(move |seen| (*seen == wanted && !std::mem::replace(&mut met, true)).then_some(fate));
            let outcome = harness.rotate().await;
            harness.heal();
            assert_eq!(outcome, Outcome::Completed, "{when}");
            harness.assert_ended(&when, &before, outcome).await;
            harness.assert_no_refusals(&when, harness.accepts_gap());
        }
    }
}

/// The steps at which a rotation calls its rotator, in order.
async fn steps(harness: &Harness) -> Vec<Step> {
    let outcome = harness.rotate().await;
    assert_eq!(outcome, Outcome::Completed);
    let mut steps: Vec<Step> = Vec::new();
    for step in harness.take_calls().into_iter().filter_map(|seen| seen.step) {
        if !steps.contains(&step) {
            steps.push(step);
        }
    }
    // No call of the rotator, and consumers are on their way all the same.
    steps.push(Step::PromoteRollout);
    steps.push(Step::Watch);
    steps
}

/// Begins a rotation and gives an order once it stands at `step`: before the step's
/// first call of the rotator, with the process that makes it dead.
async fn order_at(harness: &Harness, step: Step, order: OrderKind) {
    let mut met = false;
    harness.disturb(move |seen| {
        (seen.step == Some(step) && !std::mem::replace(&mut met, true)).then_some(Fate::CrashAfter)
    });
    harness.order(OrderKind::Rotate);
    let crashed = harness.crashes();
    harness
        .work_until(|harness| {
            harness.step() == Some(step) && (harness.crashes() > crashed || makes_no_call(step))
        })
        .await;
    harness.heal();
    harness.order(order);
}

fn makes_no_call(step: Step) -> bool {
    matches!(step, Step::PromoteRollout | Step::Watch)
}

/// A rollback is legal until the intent to revoke; after that the new value stands.
pub async fn a_rollback_at_every_step_leaves_the_old_value(subject: Subject) {
    let harness = Harness::new(subject).await;
    let mut back = 0;
    for step in steps(&harness).await {
        let when = format!("a rollback at {step}");
        let before = harness.published();
        order_at(&harness, step, OrderKind::Rollback).await;
        let outcome = harness.finish().await;
        back += u32::from(outcome == Outcome::RolledBack);
        harness.assert_ended(&when, &before, outcome).await;
        harness.assert_no_refusals(&when, harness.accepts_gap());
    }
    assert!(back >= 4, "only {back} rollbacks");
}

/// The way back, like the way there, survives whatever happens at each of its calls.
pub async fn a_rollback_may_be_disturbed_at_every_call(subject: Subject) {
    let harness = Harness::new(subject).await;
    let last = last_step_to_turn_back_from(&harness);
    for fate in [Fate::Fails, Fate::AnswerLost, Fate::CrashBefore, Fate::CrashAfter] {
        let when = format!("a rollback with {fate:?} at every call");
        let before = harness.published();
        order_at(&harness, last, OrderKind::Rollback).await;
        harness.disturb(once_each(fate));
        let outcome = harness.finish().await;
        harness.heal();
        assert_eq!(outcome, Outcome::RolledBack, "{when}");
        harness.assert_ended(&when, &before, outcome).await;
        harness.assert_no_refusals(&when, harness.accepts_gap());
    }
}

/// With everything done that can be undone.
fn last_step_to_turn_back_from(harness: &Harness) -> Step {
    if harness.rotator.traits().reversible { Step::Disable } else { Step::ConfirmIdle }
}

/// An emergency at every step; its declared gap ends when every instance is new.
async fn emergency_at_every_step(subject: Subject, suspect: Option<Suspect>) {
    let harness = Harness::new(subject).await;
    for step in steps(&harness).await {
        let when = format!("{suspect:?} leaked, told at {step}");
        let before = harness.published();
        order_at(&harness, step, OrderKind::Emergency { suspect }).await;
        let outcome = harness.finish().await;
        if suspect == Some(Suspect::Older) || suspect.is_none() {
            assert_eq!(outcome, Outcome::Completed, "{when}");
        }
        harness.assert_ended(&when, &before, outcome).await;
        harness.assert_no_refusals(&when, true);
    }
}

pub async fn an_older_value_that_leaked_is_refused_whatever_the_step(subject: Subject) {
    emergency_at_every_step(subject, Some(Suspect::Older)).await;
}

pub async fn a_newer_value_that_leaked_is_refused_whatever_the_step(subject: Subject) {
    emergency_at_every_step(subject, Some(Suspect::Newer)).await;
}

pub async fn where_both_leaked_a_third_value_takes_over_whatever_the_step(subject: Subject) {
    emergency_at_every_step(subject, None).await;
}

/// Both keys leaked and both are in the only places there are: a person is asked, and until
/// then the published value works.
pub async fn where_both_leaked_and_no_third_fits_nothing_in_use_is_taken_away(subject: Subject) {
    let harness = Harness::new(subject).await;
    order_at(&harness, Step::Watch, OrderKind::Emergency { suspect: None }).await;
    harness.work_until(|harness| harness.held().is_some() || harness.outcome().is_some()).await;
    let reason = harness.held().expect("it is held");
    assert!(reason.contains("delete-access-key"), "no command that makes room: {reason}");
    assert!(harness.subject.uses(&harness.published()).await, "the published value is refused");
}

/// An effect of a process that is long gone reaches the target after the rotation has
/// ended: completed, or turned back meanwhile.
pub async fn an_effect_that_lands_late_changes_nothing(subject: Subject) {
    let harness = Harness::new(subject).await;
    if !harness.rotator.traits().fenced {
        // Without a fence the engine waits until nothing can land any more.
        return;
    }
    let effects = effects(&harness).await;
    for effect in effects {
        for order in [None, Some(OrderKind::Rollback)] {
            let when = format!("{effect:?} landing late after {order:?}");
            let (before, wanted, mut met) = (harness.published(), effect.clone(), false);
            harness.disturb(move |seen| {
                (*seen == wanted && !std::mem::replace(&mut met, true)).then_some(Fate::LandsLate)
            });
            harness.order(OrderKind::Rotate);
            let crashed = harness.crashes();
            harness.work_until(|harness| harness.crashes() > crashed).await;
            harness.heal();
            if let Some(order) = order {
                harness.order(order);
            }
            let outcome = harness.finish().await;
            assert_eq!(harness.land().await, 1, "{when}");
            harness.assert_ended(&when, &before, outcome).await;
            harness.assert_no_refusals(&when, harness.accepts_gap());
        }
    }
}

/// What somebody else put on the target in the middle is held, not overwritten.
pub async fn somebody_elses_value_is_never_overwritten(subject: Subject) {
    let harness = Harness::new(subject).await;
    harness.order(OrderKind::Rotate);
    harness.work_until(|harness| harness.step() == Some(Step::Watch)).await;
    let old = lock(&harness.shared).values.first().expect("the first value").duplicate();
    let effects = [TargetEffect::Disable, TargetEffect::Revoke];
    harness.subject.change_by_hand(&old).await;
    harness.take_calls();
    harness.work_until(|harness| harness.held().is_some() || harness.outcome().is_some()).await;
    let applied: Vec<Seen> = harness
        .take_calls()
        .into_iter()
        .filter(|seen| seen.name == "apply" && seen.effect.is_some_and(|effect| effects.contains(&effect)))
        .collect();
    assert!(harness.held().is_some(), "the rotation went on: {applied:?}");
    assert_eq!(applied, [], "somebody else's value was changed");
}
