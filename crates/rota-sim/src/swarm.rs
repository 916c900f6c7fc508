//! One seed, one world: secrets, processes, faults and orders drawn from it; then
//! everything heals, and the world has to come to rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rota_core::id::{ConsumerId, SecretId};
use rota_core::rotation::{State, Suspect};
use rota_engine::ports::{Clock, OrderKind};
use rota_engine::test_support::{
    FakeKind, FleetSpec, Form, Guards, Purpose, SPOILED, Scenario, SecretPlan, SeededRandom, Style, Tables,
};

use crate::chaos::{Chaos, Trouble};
use crate::checker::{unsettled, values_in_rows};
use crate::exhaustive::tail_of_trace;
use crate::figures::Figures;
use crate::sim::{Sim, Stop};

/// How long the trouble lasts.
const TROUBLED_FOR: SignedDuration = SignedDuration::from_hours(24 * 12);

/// How long healing may take: deadlines of a day and more pass first, then people answer.
const HEALS_WITHIN: SignedDuration = SignedDuration::from_hours(24 * 120);

/// Something happens beside the calls about this often.
const ACT_EVERY_SECS: u64 = 5 * 3600;

/// A person looks at a held rotation after this, and again.
const PERSON_ANSWERS_AFTER: SignedDuration = SignedDuration::from_hours(3);

/// The hours that some secrets keep to.
const WINDOW: &str = "daily 08:00-18:00 Europe/Berlin";

/// What one seed runs.
#[derive(Debug, Clone)]
pub struct Swarm {
    pub seed: u64,
    pub guards: Guards,
    /// What to draw from; fewer kinds make a shorter story.
    pub troubles: BTreeSet<Trouble>,
    /// How many calls a failure shows.
    pub last_calls: usize,
}

/// A run that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub seed: u64,
    pub figures: Figures,
    /// Equal for equal runs.
    pub hash: u64,
}

/// A run that went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub seed: u64,
    pub troubles: BTreeSet<Trouble>,
    pub what: String,
    /// The invariant's number, or zero where the world did not come to rest.
    pub invariant: u8,
    pub calls: u64,
    pub trace: String,
}

impl Swarm {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let troubles = Trouble::draw(&mut SeededRandom::new(seed ^ 0xC4A0));
        Self { seed, guards: Guards::default(), troubles, last_calls: 60 }
    }

    /// Runs the seed.
    ///
    /// # Errors
    /// The first thing that is not as the protocol wants it.
    pub fn run(&self) -> Result<Report, Box<Failure>> {
        let mut random = SeededRandom::new(self.seed);
        let scenario = match self.world(&mut random) {
            Ok(scenario) => scenario,
            Err(fault) => unreachable!("a drawn world contradicts itself: {fault}"),
        };
        scenario.wire.start_trace(self.last_calls * 50);
        let replicas = 1 + usize::try_from(random.below(3)).unwrap_or(0);
        let figures = Arc::new(Mutex::new(Figures::default()));
        let chaos =
            Chaos::new(random.split(), self.troubles.clone(), scenario.journal.clone(), Arc::clone(&figures));
        scenario.wire.disturb_with(chaos);
        let pauses = self.troubles.contains(&Trouble::Pauses);
        let mut sim = Sim::new(scenario, replicas, random.next_u64(), pauses);
        let mut story = Story { random, next: None, answered: BTreeMap::new() };
        match story.live(&mut sim, &self.troubles) {
            Ok(()) => Ok(Report {
                seed: self.seed,
                figures: figures_of(&sim, &figures),
                hash: sim.scenario.wire.trace_hash(),
            }),
            Err((invariant, what)) => Err(Box::new(Failure {
                seed: self.seed,
                troubles: self.troubles.clone(),
                what,
                invariant,
                calls: sim.scenario.wire.calls(),
                trace: tail_of_trace(&sim.scenario, self.last_calls),
            })),
        }
    }

    /// The same failure with as few kinds of trouble as it needs.
    #[must_use]
    pub fn minimal(&self, failure: Box<Failure>) -> Box<Failure> {
        let mut best = failure;
        for trouble in Trouble::ALL {
            let mut fewer = Self { troubles: best.troubles.clone(), ..self.clone() };
            if !fewer.troubles.remove(&trouble) {
                continue;
            }
            if let Err(shorter) = fewer.run()
                && shorter.invariant == best.invariant
            {
                best = shorter;
            }
        }
        best
    }

    fn world(&self, random: &mut SeededRandom) -> Result<Scenario, rota_core::fault::Fault> {
        let start = Timestamp::from_second(1_767_225_600).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut scenario = Scenario::new(random.next_u64(), self.guards, start);
        let stale = self.troubles.contains(&Trouble::StaleReads);
        let settle = SignedDuration::from_secs(if stale { 60 } else { 0 });
        for consumer in ["web", "worker"] {
            scenario.add_consumer(consumer, settle)?;
        }
        let mut shapes = SecretPlan::every_shape();
        // Two secrets of one document: each must leave the other's fields alone.
        let neighbour = SecretPlan::new("DOC_NEIGHBOUR", FakeKind::Generated, Form::PairInDocument);
        shapes.push(("another signing key in that document", neighbour));
        let count = 1 + random.below(3);
        let mut names = BTreeSet::new();
        for _ in 0..count {
            let Some((_, plan)) = random.one_of(&shapes) else { continue };
            let mut plan = plan.clone();
            if !names.insert(plan.name.clone()) {
                continue;
            }
            plan.consumers = match random.below(3) {
                0 => vec!["web".to_owned()],
                1 => vec!["worker".to_owned()],
                _ => vec!["web".to_owned(), "worker".to_owned()],
            };
            plan.cadence = SignedDuration::from_hours(24 * 4);
            plan.window = random.once_in(4).then(|| WINDOW.to_owned());
            scenario.add_secret(plan)?;
        }
        if stale {
            scenario.world.with(|world| {
                for store in world.stores.values_mut() {
                    store.stale_for = SignedDuration::from_secs(40);
                }
            });
        }
        let pinned = scenario.plans.iter().any(|plan| plan.form == Form::PinnedPair);
        let pair = scenario.plans.iter().any(|plan| plan.form == Form::Pair);
        // Pinned references and pairs are for consumers that are restarted.
        let rereads = !pinned && !pair && random.once_in(4);
        let every = SignedDuration::from_mins(5);
        let style = if rereads { Style::Rereads { every } } else { Style::Restarted };
        scenario.start_fleets(u32::try_from(1 + random.below(3)).unwrap_or(1), style)?;
        for plan in &scenario.plans {
            let Ok(id) = SecretId::new(&plan.name) else { continue };
            let hours = i64::try_from(random.below(48)).unwrap_or(0);
            let first = scenario.clock.later(SignedDuration::from_hours(hours));
            scenario.journal.adopt(&id, None, Some(first), Some(first));
        }
        Ok(scenario)
    }
}

/// The faults with the rest of the run's numbers.
fn figures_of(sim: &Sim, faults: &Mutex<Figures>) -> Figures {
    let faults = faults.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Figures {
        rotations: sim.scenario.journal.look(|tables| tables.rotations.len()),
        calls: sim.scenario.wire.calls(),
        simulated: sim.scenario.clock.elapsed(),
        looks: sim.checker.looks(),
        checks: sim.checker.checks(),
        ..faults
    }
}

/// What happens beside the calls.
struct Story {
    random: SeededRandom,
    next: Option<Timestamp>,
    /// When a person last answered a secret's held rotation, and how often.
    answered: BTreeMap<SecretId, (Timestamp, u32)>,
}

type Wrong = (u8, String);

impl Story {
    fn live(&mut self, sim: &mut Sim, troubles: &BTreeSet<Trouble>) -> Result<(), Wrong> {
        sim.run_until(TROUBLED_FOR, |sim| {
            self.act(sim, troubles);
            false
        })
        .map_err(|violation| (violation.invariant, violation.to_string()))?;
        self.heal(sim);
        let stop = sim
            .run_until(HEALS_WITHIN, |sim| {
                self.answer_holds(sim);
                is_at_rest(sim)
            })
            .map_err(|violation| (violation.invariant, format!("healing, {violation}")))?;
        if stop == Stop::TimeUp {
            return Err((11, format!("not at rest: {}", in_flight(sim).join("; "))));
        }
        // People have seen what was left to them, and what was late has landed.
        let told = |tables: &Tables| tables.secrets.values().any(|row| !row.orphans.is_empty());
        if sim.scenario.journal.look(told) {
            clean_up(sim);
        }
        sim.run_until(SignedDuration::from_hours(2), |_| false)
            .map_err(|violation| (violation.invariant, format!("at rest, {violation}")))?;
        let mut problems = if in_flight(sim).is_empty() { unsettled(&sim.scenario) } else { Vec::new() };
        problems.extend(sim.checker.leaks_alive(&sim.scenario));
        if !problems.is_empty() {
            return Err((0, problems.join("; ")));
        }
        match values_in_rows(&sim.scenario).into_iter().next() {
            Some(problem) => Err((8, problem)),
            None => Ok(()),
        }
    }

    fn heal(&self, sim: &mut Sim) {
        sim.heal();
        sim.scenario.world.with(|world| {
            for store in world.stores.values_mut() {
                store.stale_for = SignedDuration::ZERO;
            }
            for target in world.targets.values_mut() {
                target.spoils_next_install = false;
            }
            for fleet in world.fleets.values_mut() {
                fleet.fails_next = false;
                fleet.health = rota_engine::test_support::Health::default();
            }
            world.fleets.retain(|name, _| !name.as_str().starts_with("hidden"));
        });
        // From now on only what is in flight goes on.
        for plan in &sim.scenario.plans {
            if let Ok(id) = SecretId::new(&plan.name) {
                sim.scenario.journal.pause_schedule(&id);
            }
        }
    }

    fn act(&mut self, sim: &mut Sim, troubles: &BTreeSet<Trouble>) {
        self.answer_holds(sim);
        let now = sim.scenario.clock.now();
        if self.next.is_some_and(|next| now < next) {
            return;
        }
        let seconds = i64::try_from(self.random.below(ACT_EVERY_SECS) + 1).unwrap_or(1);
        let next = sim.scenario.clock.later(SignedDuration::from_secs(seconds));
        sim.scenario.clock.at(next, || ());
        if self.next.replace(next).is_some() {
            let kinds: Vec<Trouble> = troubles.iter().copied().collect();
            if let Some(trouble) = self.random.one_of(&kinds).copied() {
                self.bring(sim, trouble);
            }
        }
    }

    fn bring(&mut self, sim: &mut Sim, trouble: Trouble) {
        let secrets: Vec<SecretId> =
            sim.scenario.plans.iter().filter_map(|plan| SecretId::new(&plan.name).ok()).collect();
        let consumers: Vec<ConsumerId> = sim.scenario.policy.consumers.keys().cloned().collect();
        let (Some(secret), Some(consumer)) =
            (self.random.one_of(&secrets).cloned(), self.random.one_of(&consumers).cloned())
        else {
            return;
        };
        match trouble {
            Trouble::Crashes => sim.kill_one(),
            Trouble::DyingInstances => sim.scenario.world.replace_one(&consumer),
            Trouble::FailedDeployments => sim.scenario.world.with(|world| {
                world.fleets.entry(consumer).and_modify(|fleet| fleet.fails_next = true);
            }),
            Trouble::BadChecks => {
                let hours = i64::try_from(self.random.below(20)).unwrap_or(0);
                let until = Some(sim.scenario.clock.later(SignedDuration::from_hours(hours)));
                let unknown = self.random.once_in(2);
                sim.scenario.world.with(|world| {
                    world.fleets.entry(consumer).and_modify(|fleet| {
                        let health = &mut fleet.health;
                        *(if unknown { &mut health.unknown_until } else { &mut health.unhealthy_until }) =
                            until;
                    });
                });
            }
            Trouble::SpoiledInstalls => spoil(sim, &secret),
            Trouble::HiddenUsers => hide_a_user(sim, &secret, &mut self.random),
            Trouble::Orders => {
                let orders = [
                    OrderKind::Rotate,
                    OrderKind::Hold,
                    OrderKind::Resume,
                    OrderKind::Rollback,
                    OrderKind::Rollback,
                ];
                if let Some(order) = self.random.one_of(&orders).cloned() {
                    sim.order(&secret, order);
                }
            }
            Trouble::Leaks if self.random.once_in(3) => {
                let suspects = [Some(Suspect::Older), Some(Suspect::Newer), None];
                if let Some(suspect) = self.random.one_of(&suspects).copied() {
                    sim.order(&secret, OrderKind::Emergency { suspect });
                }
            }
            Trouble::Failures
            | Trouble::Throttling
            | Trouble::LostAnswers
            | Trouble::Silence
            | Trouble::LateEffects
            | Trouble::Slowness
            | Trouble::Pauses
            | Trouble::Outages
            | Trouble::StaleReads
            | Trouble::Leaks => {}
        }
    }

    /// A person looks at each held rotation, resumes it twice and rolls it back then.
    fn answer_holds(&mut self, sim: &mut Sim) {
        let now = sim.scenario.journal.clock_now();
        let held: Vec<(SecretId, Timestamp)> = sim.scenario.journal.look(|tables| {
            tables
                .rotations
                .values()
                .filter_map(|row| match &row.rotation.state {
                    State::Held { since, .. } => Some((row.rotation.secret.clone(), *since)),
                    State::Running { .. } | State::Ended { .. } => None,
                })
                .collect()
        });
        for (secret, since) in held {
            let (last, times) = self.answered.get(&secret).copied().unwrap_or((since, 0));
            if now.duration_since(last.max(since)) < PERSON_ANSWERS_AFTER {
                continue;
            }
            self.answered.insert(secret.clone(), (now, times + 1));
            clean_up(sim);
            let answer = if times % 3 == 2 { OrderKind::Rollback } else { OrderKind::Resume };
            sim.order(&secret, answer);
        }
    }
}

/// The target will store something else than it is given. Not where that would be the
/// only password: then nobody could log in any more, Rota least of all.
fn spoil(sim: &Sim, secret: &SecretId) {
    sim.scenario.world.with(|world| {
        let Some(subject) = world.subjects.get(secret) else { return };
        let (Purpose::LogsIn { target }, kind) = (&subject.purpose, subject.kind) else { return };
        if let Some(target) = world.targets.get_mut(target).filter(|_| kind != FakeKind::Single) {
            target.spoils_next_install = true;
        }
    });
}

/// Before answering, a person removes what a target spoiled: nobody else may.
fn clean_up(sim: &Sim) {
    sim.scenario.world.with(|world| {
        for target in world.targets.values_mut() {
            target.credentials.retain(|_, credential| {
                !credential.secret.as_ref().is_some_and(|secret| secret.ends_with(SPOILED))
            });
        }
    });
}

/// Somebody whom the policy does not know takes a copy of a credential, and uses it for a day.
fn hide_a_user(sim: &Sim, secret: &SecretId, random: &mut SeededRandom) {
    let logs_in = sim.scenario.plans.iter().any(|plan| {
        plan.name == secret.as_str()
            && matches!(plan.kind, FakeKind::TwoUsers | FakeKind::Created | FakeKind::OneWay)
    });
    let Ok(name) = ConsumerId::new(&format!("hidden-{}", random.below(1000))) else { return };
    // Where consumers verify it, nobody can tell who uses it.
    if !logs_in || sim.scenario.journal.look(|tables| tables.in_flight(secret).is_some()) {
        return;
    }
    sim.scenario.world.add_fleet(FleetSpec {
        consumer: name.clone(),
        instances: 1,
        uses: vec![secret.clone()],
        style: Style::Restarted,
        pause: SignedDuration::from_secs(5),
        drain: SignedDuration::from_secs(5),
    });
    let world = sim.scenario.world.clone();
    sim.scenario.clock.at(sim.scenario.clock.later(SignedDuration::from_hours(60)), move || {
        world.with(|world| world.fleets.remove(&name));
    });
}

fn is_at_rest(sim: &Sim) -> bool {
    in_flight(sim).is_empty()
        && sim.scenario.journal.look(|tables| tables.orders.values().all(|row| row.answer.is_some()))
}

fn in_flight(sim: &Sim) -> Vec<String> {
    sim.scenario.journal.look(|tables| {
        tables
            .rotations
            .values()
            .filter(|row| row.in_flight())
            .map(|row| format!("{}: {:?}", row.rotation.secret, row.rotation.state))
            .collect()
    })
}
