//! One simulated world with its processes, its people and its checker.

use std::rc::Rc;

use jiff::SignedDuration;
use rota_core::id::SecretId;
use rota_engine::ports::{Clock, OrderKind};
use rota_engine::test_support::{FakeNotifier, Scenario, SeededRandom};

use crate::checker::{Checker, Violation};
use crate::executor::{Executor, Step, TaskId};
use crate::replica::{Bell, people, replica};

/// The actor under whose name people write to stores.
pub const PEOPLE: &str = "people";

/// How long a process that ended takes to be started again.
const RESTART_AFTER: SignedDuration = SignedDuration::from_secs(5);

/// A run that takes more steps than this does not end.
const MAX_STEPS: u64 = 5_000_000;

/// Why a run stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// The condition came true.
    Reached,
    /// Time was up.
    TimeUp,
}

pub struct Sim {
    pub scenario: Rc<Scenario>,
    pub checker: Checker,
    pub notifier: FakeNotifier,
    executor: Executor,
    replicas: Vec<(String, TaskId)>,
    bell: Bell,
    random: SeededRandom,
    restarts: Vec<(jiff::Timestamp, String)>,
    steps: u64,
}

impl Sim {
    /// Starts `replicas` processes and the people.
    #[must_use]
    pub fn new(scenario: Scenario, replicas: usize, seed: u64, pauses: bool) -> Self {
        let mut random = SeededRandom::new(seed);
        let checker = Checker::new(&scenario);
        let notifier = FakeNotifier::new(scenario.wire.clone(), "slack");
        let executor =
            Executor::new(scenario.clock.clone(), scenario.wire.clone(), random.next_u64(), pauses);
        let mut sim = Self {
            scenario: Rc::new(scenario),
            checker,
            notifier,
            executor,
            replicas: Vec::new(),
            bell: Bell::default(),
            random,
            restarts: Vec::new(),
            steps: 0,
        };
        for number in 1..=replicas {
            sim.start(&format!("replica-{number}"));
        }
        sim.executor.spawn(PEOPLE, people(Rc::clone(&sim.scenario), sim.bell.clone()));
        sim
    }

    fn start(&mut self, name: &str) {
        let engine = self.scenario.engine(name, self.random.next_u64());
        let future = replica(Rc::clone(&self.scenario), engine, self.notifier.clone(), self.bell.clone());
        let task = self.executor.spawn(name, future);
        self.replicas.push((name.to_owned(), task));
    }

    /// A person gives an order.
    pub fn order(&mut self, secret: &SecretId, kind: OrderKind) {
        self.checker.ordered(&self.scenario, secret, &kind);
        self.scenario.journal.order(secret, kind, PEOPLE, "simulated");
        self.bell.ring();
    }

    /// Ends one process where it stands; it is started again a little later.
    pub fn kill_one(&mut self) {
        let tasks: Vec<TaskId> = self.replicas.iter().map(|(_, task)| *task).collect();
        if let Some(task) = self.random.one_of(&tasks).copied() {
            self.executor.end(task);
            self.restart_later(task);
        }
    }

    /// From now on processes neither pause nor are disturbed.
    pub fn heal(&mut self) {
        self.scenario.wire.heal();
        self.executor.end_pauses();
    }

    fn restart_later(&mut self, task: TaskId) {
        let Some(index) = self.replicas.iter().position(|(_, known)| *known == task) else { return };
        let (name, _) = self.replicas.swap_remove(index);
        let at = self.scenario.clock.later(RESTART_AFTER);
        self.scenario.clock.at(at, || ());
        self.restarts.push((at, name));
    }

    fn restart(&mut self) {
        let now = self.scenario.clock.now();
        while let Some(index) = self.restarts.iter().position(|(at, _)| *at <= now) {
            let (_, name) = self.restarts.swap_remove(index);
            self.start(&name);
        }
    }

    /// One step of the executor, checked.
    ///
    /// # Errors
    /// The invariant that does not hold after it.
    pub fn step(&mut self) -> Result<(), Violation> {
        self.steps += 1;
        match self.executor.step() {
            Step::Crashed(task) => self.restart_later(task),
            Step::Polled(_) | Step::Finished(_) | Step::TimePassed | Step::Stuck => {}
        }
        self.restart();
        self.checker.check(&self.scenario)
    }

    /// Steps until `done` or until `limit` has passed.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn run_until(
        &mut self,
        limit: SignedDuration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<Stop, Violation> {
        let end = self.scenario.clock.elapsed().saturating_add(limit);
        loop {
            if done(self) {
                return Ok(Stop::Reached);
            }
            if self.scenario.clock.elapsed() > end {
                return Ok(Stop::TimeUp);
            }
            if self.steps >= MAX_STEPS {
                let what = format!("{MAX_STEPS} steps and no rest: something spins");
                return Err(Violation { invariant: 11, at: self.scenario.clock.now(), what });
            }
            self.step()?;
        }
    }
}
