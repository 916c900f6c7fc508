//! One rotation, one fault: killed, failed or left without an answer at each of its
//! calls in turn, it has to end where it would have ended anyway.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rota_core::id::SecretId;
use rota_core::rotation::{HoldReason, Outcome, Rotation, State, Step};
use rota_engine::ports::{Clock, OrderKind};
use rota_engine::test_support::{Call, Disturbance, Ending, Guards, MemoryJournal, Scenario, SecretPlan};

use crate::checker::unsettled;
use crate::sim::{PEOPLE, Sim, Stop};

/// No rotation of the shapes takes longer, holds and a person's answers included.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 60);

/// A person looks at a held rotation after this.
const PERSON_ANSWERS_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// Whatever lands late has landed by then, and people have seen what was left to them.
const AFTERMATH: SignedDuration = SignedDuration::from_hours(2);

/// How many calls a failure shows.
const LAST_CALLS: usize = 60;

/// One rotation with what happens to it.
#[derive(Debug, Clone)]
pub struct Case {
    pub plan: SecretPlan,
    /// What happens to the engine's call with each number, counted from the start.
    pub faults: Vec<(u64, Disturbance)>,
    /// An order that a person gives while the engine's call with this number is on its way.
    pub order: Option<(u64, OrderKind)>,
    pub guards: Guards,
}

/// How a case went.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The engine's calls until the rotation had ended.
    pub calls: Vec<Moment>,
    pub outcome: Outcome,
    pub holds: Vec<HoldReason>,
    /// What became of the injected order.
    pub answer: Option<String>,
}

/// A call of the engine, and where the rotation stood.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment {
    pub system: String,
    pub name: &'static str,
    pub step: Option<Step>,
    pub intended: bool,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.step.map_or("no rotation", Step::as_str);
        let intended = if self.intended { ", intended" } else { "" };
        write!(f, "{} {} in {step}{intended}", self.system, self.name)
    }
}

impl Ran {
    /// The numbers of the calls that are worth a fault: of calls that repeat in one
    /// place (a wait that is looked at again and again) the first `each`.
    #[must_use]
    pub fn moments(&self, each: usize) -> Vec<u64> {
        let mut seen: BTreeMap<&Moment, usize> = BTreeMap::new();
        let mut moments = Vec::new();
        for (number, moment) in (0..).zip(&self.calls) {
            let times = seen.entry(moment).or_default();
            *times += 1;
            if *times <= each {
                moments.push(number);
            }
        }
        moments
    }
}

impl Case {
    #[must_use]
    pub fn new(plan: SecretPlan) -> Self {
        Self { plan, faults: Vec::new(), order: None, guards: Guards::default() }
    }

    #[must_use]
    pub fn with_fault(mut self, call: u64, disturbance: Disturbance) -> Self {
        self.faults.push((call, disturbance));
        self
    }

    #[must_use]
    pub fn with_order(mut self, call: u64, order: OrderKind) -> Self {
        self.order = Some((call, order));
        self
    }

    /// Runs the rotation to its end.
    ///
    /// # Errors
    /// What went wrong, with the last calls.
    pub fn run(&self) -> Result<Ran, String> {
        self.try_run(false).or_else(|_| self.try_run(true))
    }

    fn try_run(&self, traced: bool) -> Result<Ran, String> {
        let scenario = Scenario::of(self.plan.clone(), 1, self.guards, start())
            .map_err(|fault| format!("the plan cannot be set up: {fault}"))?;
        let secret = SecretId::new(&self.plan.name).map_err(|error| error.to_string())?;
        if traced {
            scenario.wire.start_trace(400);
        }
        let calls = Arc::new(Mutex::new(Vec::new()));
        let order_now = Arc::new(AtomicBool::new(false));
        let disturber = self.disturber(&secret, scenario.journal.clone(), &calls, &order_now);
        scenario.wire.disturb_with(disturber);
        let mut sim = Sim::new(scenario, 1, 1, false);
        sim.order(&secret, OrderKind::Rotate);
        let run = Run { case: self, secret, order_now, holds: Rc::default() };
        run.finish(&mut sim)
            .map_err(|problem| format!("{problem}\n{}", tail_of_trace(&sim.scenario, LAST_CALLS)))?;
        let (outcome, answer) = run.end_of(&sim)?;
        let calls = calls.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(Ran { calls, outcome, holds: run.holds.take(), answer })
    }

    /// Counts the engine's calls and disturbs the chosen ones.
    fn disturber(
        &self,
        secret: &SecretId,
        journal: MemoryJournal,
        calls: &Arc<Mutex<Vec<Moment>>>,
        order_now: &Arc<AtomicBool>,
    ) -> impl FnMut(&Call) -> Option<Disturbance> + Send + use<> {
        let faults = self.faults.clone();
        let (secret, calls, order_now) = (secret.clone(), Arc::clone(calls), Arc::clone(order_now));
        let order_at = self.order.as_ref().map(|(number, _)| *number);
        move |call: &Call| {
            if call.actor == PEOPLE {
                return None;
            }
            let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
            let number = u64::try_from(calls.len()).unwrap_or(u64::MAX);
            let (step, intended) = journal.look(|tables| {
                let rotation = tables.in_flight(&secret).map(|row| &row.rotation);
                (rotation.and_then(Rotation::step), rotation.is_some_and(|r| r.open_intent().is_some()))
            });
            calls.push(Moment { system: call.system.clone(), name: call.name, step, intended });
            if order_at == Some(number) {
                order_now.store(true, Ordering::Relaxed);
            }
            faults.iter().find(|(at, _)| *at == number).map(|(_, disturbance)| disturbance.clone())
        }
    }
}

struct Run<'c> {
    case: &'c Case,
    secret: SecretId,
    order_now: Arc<AtomicBool>,
    holds: Rc<Cell<Vec<HoldReason>>>,
}

impl Run<'_> {
    fn finish(&self, sim: &mut Sim) -> Result<(), String> {
        let mut held_since: Option<Timestamp> = None;
        let stop = sim
            .run_until(LONGEST, |sim| {
                if self.order_now.swap(false, Ordering::Relaxed)
                    && let Some((_, order)) = &self.case.order
                {
                    sim.order(&self.secret, order.clone());
                }
                self.answer_holds(sim, &mut held_since);
                self.has_ended(sim)
            })
            .map_err(|violation| violation.to_string())?;
        if stop == Stop::TimeUp {
            let state = self.latest(sim, |rotation| format!("{:?}", rotation.state));
            return Err(format!("the rotation does not end: {state:?}"));
        }
        let end = sim.scenario.clock.elapsed().saturating_add(AFTERMATH);
        sim.run_until(LONGEST, |sim| sim.scenario.clock.elapsed() > end)
            .map_err(|violation| format!("in the aftermath: {violation}"))?;
        let mut problems = unsettled(&sim.scenario);
        problems.extend(sim.checker.leaks_alive(&sim.scenario));
        if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
    }

    /// A person resumes what is held; what is held again is rolled back.
    fn answer_holds(&self, sim: &mut Sim, held_since: &mut Option<Timestamp>) {
        let held = sim.scenario.journal.look(|tables| {
            tables.in_flight(&self.secret).and_then(|row| match &row.rotation.state {
                State::Held { reason, since, .. } => Some((reason.clone(), *since)),
                State::Running { .. } | State::Ended { .. } => None,
            })
        });
        let Some((reason, since)) = held else { return };
        let now = sim.scenario.journal.clock_now();
        if *held_since == Some(since) || now.duration_since(since) < PERSON_ANSWERS_AFTER {
            return;
        }
        *held_since = Some(since);
        let mut holds = self.holds.take();
        holds.push(reason);
        let answer = match holds.len() {
            1 => OrderKind::Resume,
            2 => OrderKind::Rollback,
            _ => OrderKind::Resume,
        };
        self.holds.set(holds);
        sim.order(&self.secret, answer);
    }

    /// Nothing is in flight, asked for or about to start.
    fn has_ended(&self, sim: &Sim) -> bool {
        let now = sim.scenario.journal.clock_now();
        sim.scenario.journal.look(|tables| {
            tables.latest(&self.secret).is_some_and(|row| !row.in_flight())
                && tables.orders.values().all(|row| row.answer.is_some())
                && tables.secrets.values().all(|row| row.next_start.is_none_or(|start| start > now))
        })
    }

    fn latest<T>(&self, sim: &Sim, read: impl Fn(&rota_core::rotation::Rotation) -> T) -> Option<T> {
        sim.scenario.journal.look(|tables| tables.latest(&self.secret).map(|row| read(&row.rotation)))
    }

    fn end_of(&self, sim: &Sim) -> Result<(Outcome, Option<String>), String> {
        let outcome = self.latest(sim, |rotation| match &rotation.state {
            State::Ended { outcome, .. } => Some(*outcome),
            State::Running { .. } | State::Held { .. } => None,
        });
        let outcome = outcome.flatten().ok_or("the rotation has not ended")?;
        let answer = sim.scenario.journal.look(|tables| {
            let wanted = self.case.order.as_ref().map(|(_, kind)| kind);
            tables.orders.values().find(|row| Some(&row.order.kind) == wanted)?.answer.clone()
        });
        Ok((outcome, answer))
    }
}

fn start() -> Timestamp {
    Timestamp::from_second(1_767_225_600).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The looks of processes that find nothing to do: they fill a trace and tell nothing.
const IDLE_LOOKS: [&str; 6] =
    ["accepted_policy", "stray_orders", "due", "claim", "claim_rollout", "claim_notices"];

/// The last `lines` calls, for a person who looks for the cause.
#[must_use]
pub fn tail_of_trace(scenario: &Scenario, lines: usize) -> String {
    use std::fmt::Write;
    let mut trace = scenario.wire.trace();
    trace.retain(|(call, ending)| *ending != Ending::Answered || !IDLE_LOOKS.contains(&call.name));
    let mut text = String::new();
    for (call, ending) in trace.iter().skip(trace.len().saturating_sub(lines)) {
        let _ = writeln!(
            text,
            "  {} {} {:<10} {} {} {} -> {ending:?}",
            call.index, call.at, call.actor, call.system, call.name, call.detail
        );
    }
    text
}
