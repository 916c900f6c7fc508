//! The engine and its fakes without one protection: the simulator has to notice.
//!
//! Most protections are missed within a few seeds of the swarm. Those that only matter
//! when two rare things meet are missed in runs that make them meet.

use std::ops::Range;

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::{SecretId, StoreId};
use rota_core::rotation::{HoldReason, State, Step, Suspect};
use rota_engine::ports::OrderKind;
use rota_engine::test_support::{
    Call, Disturbance, FakeKind, Form, Guard, Guards, Scenario, SecretPlan, Style,
};

use crate::checker::unsettled;
use crate::exhaustive::Case;
use crate::sim::{Sim, Stop};
use crate::swarm::Swarm;

/// How a missing protection was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kill {
    /// The seed, or the run that makes things meet.
    pub by: String,
    pub what: String,
}

/// So many seeds are run before the directed runs, and the others after them.
const FIRST_SEEDS: u64 = 15;

/// Runs seeds below `limit` and every directed run without `guard` until one goes
/// wrong; `None` where none does.
#[must_use]
pub fn hunt(guard: Guard, limit: u64) -> Option<Kill> {
    let by_seed = |mut seeds: Range<u64>| seeds.find_map(|seed| by_seed(guard, seed));
    by_seed(0..limit.min(FIRST_SEEDS))
        .or_else(|| DIRECTED.iter().find_map(|(name, _)| by_directed(guard, name)))
        .or_else(|| by_seed(FIRST_SEEDS.min(limit)..limit))
}

/// What goes wrong in this seed without `guard`.
#[must_use]
pub fn by_seed(guard: Guard, seed: u64) -> Option<Kill> {
    let swarm = Swarm { guards: Guards::without(guard), ..Swarm::new(seed) };
    let failure = swarm.run().err()?;
    Some(Kill { by: format!("seed {seed}"), what: failure.what })
}

/// What goes wrong in the directed run of this name without `guard`.
#[must_use]
pub fn by_directed(guard: Guard, name: &str) -> Option<Kill> {
    let (name, run) = DIRECTED.iter().find(|(known, _)| *known == name)?;
    let what = run(Guards::without(guard)).err()?;
    Some(Kill { by: (*name).to_owned(), what: what.lines().next().unwrap_or_default().to_owned() })
}

/// A run of things that meet; says what went wrong.
pub type Directed = fn(Guards) -> Result<(), String>;

/// Every directed run with its name.
pub const DIRECTED: [(&str, Directed); 9] = [
    ("a rollback while an effect lands late", a_rollback_meets_a_late_effect),
    ("a slot's write that lands late", a_slot_is_written_late),
    ("a rollout's start that lands hours late", a_start_lands_late),
    ("reads that lag behind", reads_lag),
    ("somebody else's value", somebody_writes),
    ("a third value after a lost key", a_third_value_follows_a_lost_key),
    ("a leak of both values", both_values_leak),
    ("two secrets of one document", two_write_one_document),
    ("an order in the middle of a call", an_order_meets_a_call),
];

/// No directed run takes longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 20);

fn start() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Every change of a target lands a minute after its caller gave up, and right when it
/// is made a person turns the rotation back.
///
/// # Errors
/// What went wrong.
pub fn a_rollback_meets_a_late_effect(guards: Guards) -> Result<(), String> {
    let late = Disturbance::LandsLater(SignedDuration::from_secs(100));
    for kind in [FakeKind::TwoUsers, FakeKind::OneWay, FakeKind::Created] {
        let case = Case { guards, ..Case::new(SecretPlan::new("SECRET", kind, Form::Single)) };
        let calm = case.run()?;
        let changes = (0..).zip(&calm.calls).filter(|(_, call)| matches!(call.name, "apply" | "create"));
        for (number, moment) in changes {
            for order_at in [number, number + 1] {
                let case = case.clone().with_fault(number, late.clone());
                let ran = case.with_order(order_at, OrderKind::Rollback).run();
                ran.map_err(|problem| format!("{moment}: {problem}"))?;
            }
        }
    }
    Ok(())
}

/// The first write of each slot lands when the slot was written again.
///
/// # Errors
/// What went wrong.
pub fn a_slot_is_written_late(guards: Guards) -> Result<(), String> {
    let case = Case { guards, ..Case::new(SecretPlan::new("SECRET", FakeKind::TwoUsers, Form::Single)) };
    let calm = case.run()?;
    for (number, _) in (0..).zip(&calm.calls).filter(|(_, call)| call.name == "stage") {
        let late = Disturbance::LandsLater(SignedDuration::from_secs(60));
        case.clone().with_fault(number, late).run()?;
    }
    Ok(())
}

/// The start of a rollout with pinned references lands when everybody has newer ones.
///
/// # Errors
/// What went wrong.
pub fn a_start_lands_late(guards: Guards) -> Result<(), String> {
    let plan = SecretPlan::new("PAIR_KEY", FakeKind::Generated, Form::PinnedPair);
    let case = Case { guards, ..Case::new(plan) };
    let calm = case.run()?;
    let first = (0..).zip(&calm.calls).find(|(_, call)| call.name == "begin");
    let (number, _) = first.ok_or("no rollout was started")?;
    let late = Disturbance::LandsLater(SignedDuration::from_hours(5));
    let ran = case.with_fault(number, late).run()?;
    match ran.holds.as_slice() {
        [HoldReason::RolloutFailed { .. }] => Ok(()),
        holds => Err(format!("the older references were not found: {holds:?}")),
    }
}

/// An emergency publishes twice at once in a store whose reads lag, and is never held.
///
/// # Errors
/// What it was held for.
pub fn reads_lag(guards: Guards) -> Result<(), String> {
    for form in [Form::List, Form::PairInDocument] {
        for seed in 0..12 {
            let mut sim = lagging(guards, form, seed).map_err(|fault| fault.to_string())?;
            let secret = SecretId::new("SECRET").map_err(|error| error.to_string())?;
            sim.order(&secret, OrderKind::Rotate);
            let introduced = |sim: &mut Sim| step(sim, &secret) == Some(Step::IntroduceRollout);
            sim.run_until(LONGEST, introduced).map_err(|violation| violation.to_string())?;
            sim.order(&secret, OrderKind::Emergency { suspect: Some(Suspect::Older) });
            let stop = sim.run_until(LONGEST, |sim| rests(sim, &secret).is_some());
            stop.map_err(|violation| violation.to_string())?;
            match rests(&sim, &secret) {
                Some(State::Ended { .. }) => {}
                state => return Err(format!("seed {seed}: {state:?}")),
            }
        }
    }
    Ok(())
}

fn lagging(guards: Guards, form: Form, seed: u64) -> Result<Sim, Fault> {
    let mut scenario = Scenario::new(seed, guards, start());
    scenario.add_consumer("web", SignedDuration::from_secs(60))?;
    scenario.add_secret(SecretPlan::new("SECRET", FakeKind::Generated, form))?;
    scenario.world.with(|world| {
        for store in world.stores.values_mut() {
            store.stale_for = SignedDuration::from_secs(40);
        }
    });
    scenario.start_fleets(2, Style::Restarted)?;
    Ok(Sim::new(scenario, 1, seed, false))
}

/// Somebody who is not Rota publishes a value in the middle of a rotation: the rotation is
/// held, and that value stands.
///
/// # Errors
/// What became of it.
pub fn somebody_writes(guards: Guards) -> Result<(), String> {
    const THEIRS: &str = "somebody:else";
    let plan = SecretPlan::new("SECRET", FakeKind::TwoUsers, Form::Single);
    let scenario = Scenario::of(plan, 1, guards, start()).map_err(|fault| fault.to_string())?;
    let mut sim = Sim::new(scenario, 1, 1, false);
    let secret = SecretId::new("SECRET").map_err(|error| error.to_string())?;
    let main = StoreId::new("main").map_err(|error| error.to_string())?;
    sim.order(&secret, OrderKind::Rotate);
    let staged = |sim: &mut Sim| step(sim, &secret) == Some(Step::Prove);
    let stop = sim.run_until(LONGEST, staged).map_err(|violation| violation.to_string())?;
    if stop == Stop::TimeUp {
        return Err("the rotation was never staged".to_owned());
    }
    let store = sim.scenario.world.fake_store(&main).map_err(|fault| fault.to_string())?;
    store.write_as_other("prod/SECRET", THEIRS);
    let stop = sim.run_until(LONGEST, |sim| rests(sim, &secret).is_some());
    stop.map_err(|violation| violation.to_string())?;
    let stands = sim.scenario.world.with(|world| world.published(&secret, &main)) == [THEIRS];
    match rests(&sim, &secret) {
        Some(State::Held { reason: HoldReason::Foreign { .. }, .. }) if stands => Ok(()),
        state => Err(format!("their value stands: {stands}, and the rotation is {state:?}")),
    }
}

/// The key that the target has just made is lost on its way, and then both values leak:
/// the lost key is removed before another is made.
///
/// # Errors
/// What went wrong.
pub fn a_third_value_follows_a_lost_key(guards: Guards) -> Result<(), String> {
    let plan = SecretPlan::new("SECRET", FakeKind::Created, Form::Single);
    let scenario = Scenario::of(plan, 1, guards, start()).map_err(|fault| fault.to_string())?;
    let mut lost = false;
    scenario.wire.disturb_with(move |call: &Call| {
        let loses = !lost && call.name == "stage" && call.detail.starts_with("candidate");
        lost |= loses;
        loses.then(|| Disturbance::Fails(Fault::transient("connection reset")))
    });
    let mut sim = Sim::new(scenario, 1, 1, false);
    let secret = SecretId::new("SECRET").map_err(|error| error.to_string())?;
    sim.order(&secret, OrderKind::Rotate);
    let stop = sim.run_until(LONGEST, |sim| rests(sim, &secret).is_some());
    stop.map_err(|violation| violation.to_string())?;
    sim.order(&secret, OrderKind::Emergency { suspect: None });
    let made = |sim: &mut Sim| sim.scenario.world.with(|world| world.targets.values().all(|t| t.made > 1));
    sim.run_until(LONGEST, made).map_err(|violation| violation.to_string())?;
    let keys = sim
        .scenario
        .world
        .with(|world| world.targets.values().map(|target| target.credentials.len()).sum::<usize>());
    if keys == 2 { Ok(()) } else { Err(format!("{keys} keys at once")) }
}

/// Both values leak while both are in use: a third one takes over, and neither is left.
///
/// # Errors
/// What went wrong.
pub fn both_values_leak(guards: Guards) -> Result<(), String> {
    for kind in [FakeKind::OneWay, FakeKind::Created, FakeKind::TwoUsers] {
        let case = Case { guards, ..Case::new(SecretPlan::new("SECRET", kind, Form::Single)) };
        let calm = case.run()?;
        let watched = (0..).zip(&calm.calls).find(|(_, call)| call.step == Some(Step::Watch));
        let (number, _) = watched.ok_or("the rotation never watched")?;
        case.with_order(number, OrderKind::Emergency { suspect: None }).run()?;
    }
    Ok(())
}

/// Two processes rotate two secrets of one document at the same time, and the first to
/// write does so a minute late.
///
/// # Errors
/// What went wrong.
pub fn two_write_one_document(guards: Guards) -> Result<(), String> {
    for seed in 0..12 {
        let mut sim = neighbours(guards, seed).map_err(|fault| fault.to_string())?;
        let secrets: Vec<SecretId> = sim.scenario.policy.secrets.keys().cloned().collect();
        for secret in &secrets {
            sim.order(secret, OrderKind::Rotate);
        }
        let stop = sim.run_until(LONGEST, |sim| secrets.iter().all(|secret| rests(sim, secret).is_some()));
        stop.map_err(|violation| format!("seed {seed}: {violation}"))?;
        let problems = unsettled(&sim.scenario);
        if !problems.is_empty() {
            return Err(format!("seed {seed}: {}", problems.join("; ")));
        }
    }
    Ok(())
}

fn neighbours(guards: Guards, seed: u64) -> Result<Sim, Fault> {
    let mut scenario = Scenario::new(seed, guards, start());
    scenario.add_consumer("web", SignedDuration::ZERO)?;
    for name in ["ONE", "OTHER"] {
        scenario.add_secret(SecretPlan::new(name, FakeKind::Generated, Form::PairInDocument))?;
    }
    scenario.start_fleets(2, Style::Restarted)?;
    let mut writes = 0;
    scenario.wire.disturb_with(move |call: &Call| {
        writes += u32::from(call.name == "write");
        (call.name == "write" && writes == 1)
            .then_some(Disturbance::LandsLater(SignedDuration::from_secs(60)))
    });
    Ok(Sim::new(scenario, 2, seed, false))
}

/// A person gives an order while a call is on its way, at every kind of call.
///
/// # Errors
/// What went wrong.
pub fn an_order_meets_a_call(guards: Guards) -> Result<(), String> {
    let plan = SecretPlan::new("SECRET", FakeKind::TwoUsers, Form::Single);
    let case = Case { guards, ..Case::new(plan) };
    let calm = case.run()?;
    for number in calm.moments(1) {
        let ran = case.clone().with_order(number, OrderKind::Rollback).run();
        ran.map_err(|problem| format!("an order at call {number}: {problem}"))?;
    }
    Ok(())
}

fn step(sim: &Sim, secret: &SecretId) -> Option<Step> {
    sim.scenario.journal.look(|tables| tables.in_flight(secret)?.rotation.step())
}

/// The state of the last rotation, once it has ended or is held.
fn rests(sim: &Sim, secret: &SecretId) -> Option<State> {
    let state =
        sim.scenario.journal.look(|tables| tables.latest(secret).map(|row| row.rotation.state.clone()));
    state.filter(|state| matches!(state, State::Held { .. } | State::Ended { .. }))
}
