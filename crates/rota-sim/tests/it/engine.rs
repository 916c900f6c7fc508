//! Single promises of the engine, each in the smallest world that could break it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::SecretId;
use rota_core::rotation::{HoldReason, Outcome, State, Step, Suspect, Watch};
use rota_engine::ports::{Clock, OrderKind, RolloutState, TAKEN_OVER};
use rota_engine::test_support::{Call, Disturbance, FakeKind, Form, Guards, Scenario, SecretPlan, Style};
use rota_sim::sim::Sim;

/// No rotation of these tests takes longer.
const LONGEST: SignedDuration = SignedDuration::from_hours(24 * 20);

fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

pub(crate) fn shape(name: &str) -> SecretPlan {
    SecretPlan::every_shape().into_iter().find(|(shape, _)| *shape == name).unwrap().1
}

/// One secret in a world of its own.
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) secret: SecretId,
    pub(crate) holds: Vec<HoldReason>,
}

impl World {
    fn of(scenario: Scenario, replicas: usize) -> Self {
        let secret = SecretId::new(&scenario.plans[0].name).unwrap();
        Self { sim: Sim::new(scenario, replicas, 1, false), secret, holds: Vec::new() }
    }

    pub(crate) fn rotating(plan: SecretPlan) -> Self {
        let mut world = Self::of(Scenario::of(plan, 1, Guards::default(), start()).unwrap(), 1);
        world.sim.order(&world.secret, OrderKind::Rotate);
        world
    }

    fn state(&self) -> Option<State> {
        self.sim
            .scenario
            .journal
            .look(|tables| tables.latest(&self.secret).map(|row| row.rotation.state.clone()))
    }

    pub(crate) fn step(&self) -> Option<Step> {
        self.sim.scenario.journal.look(|tables| tables.in_flight(&self.secret)?.rotation.step())
    }

    /// Runs until `done`; a person resumes what is held, an hour later.
    pub(crate) fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let end = self.sim.scenario.clock.elapsed() + LONGEST;
        let mut answered = None;
        while !done(self) {
            assert!(self.sim.scenario.clock.elapsed() < end, "{:?} after {:?}", self.state(), self.holds);
            self.sim.step().unwrap();
            if let Some(State::Held { reason, since, .. }) = self.state()
                && answered != Some(since)
                && self.sim.scenario.clock.now().duration_since(since) > SignedDuration::from_hours(1)
            {
                answered = Some(since);
                self.holds.push(reason);
                self.sim.order(&self.secret, OrderKind::Resume);
            }
        }
    }

    pub(crate) fn until_ended(&mut self) -> Outcome {
        self.until(|world| matches!(world.state(), Some(State::Ended { .. })));
        let Some(State::Ended { outcome, .. }) = self.state() else { panic!("it has ended") };
        outcome
    }

    /// What was observed since the promotion.
    pub(crate) fn watch(&self) -> Watch {
        self.sim.scenario.journal.look(|tables| {
            tables.latest(&self.secret).map_or_else(Watch::default, |row| row.rotation.facts.watch.clone())
        })
    }

    fn rollouts(&self) -> Vec<RolloutState> {
        self.sim.scenario.journal.look(|tables| tables.rollouts.iter().map(|row| row.state.clone()).collect())
    }
}

#[test]
fn an_emergency_does_not_wait_for_the_rollout_under_way() {
    let mut world = World::rotating(shape("a signing key in a list"));
    world.sim.scenario.world.with(|state| {
        for fleet in state.fleets.values_mut() {
            fleet.spec.pause = SignedDuration::from_mins(50);
        }
    });
    world.until(|world| world.rollouts().iter().any(|state| matches!(state, RolloutState::Begun { .. })));
    let ordered_at = world.sim.scenario.clock.now();
    world.sim.order(&world.secret.clone(), OrderKind::Emergency { suspect: Some(Suspect::Older) });
    world.until(|world| {
        world.step() == Some(Step::WithdrawRollout)
            && world.rollouts().last().is_some_and(|state| matches!(state, RolloutState::Begun { .. }))
    });
    let taken = world.sim.scenario.clock.now().duration_since(ordered_at);
    assert!(taken < SignedDuration::from_mins(5), "{taken:#}");
    let over = RolloutState::Failed { detail: TAKEN_OVER.to_owned() };
    assert!(world.rollouts().contains(&over), "{:?}", world.rollouts());
    assert_eq!(world.until_ended(), Outcome::Completed);
}

#[test]
fn a_hook_that_failed_runs_anew_after_a_resume() {
    let mut scenario = Scenario::new(1, Guards::default(), start());
    scenario.add_consumer("web", SignedDuration::ZERO).unwrap();
    scenario.add_secret(shape("a cache password with hooks")).unwrap();
    for secret in scenario.policy.secrets.values_mut() {
        secret.hooks[2].kind = "fails-once".to_owned();
    }
    scenario.start_fleets(2, Style::Restarted).unwrap();
    let mut world = World::of(scenario, 1);
    world.sim.order(&world.secret, OrderKind::Rotate);
    assert_eq!(world.until_ended(), Outcome::Completed);
    assert!(matches!(world.holds.as_slice(), [HoldReason::Permanent { .. }]), "{:?}", world.holds);
}

#[test]
fn a_rollout_that_is_asked_to_slow_down_waits_as_long_as_it_is_asked() {
    let mut world = World::rotating(shape("a database user"));
    let asked = SignedDuration::from_mins(40);
    let begins = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = begins.clone();
    world.sim.scenario.wire.disturb_with(move |call: &Call| {
        let mut seen = seen.lock().unwrap();
        (call.name == "begin").then(|| seen.push(call.at))?;
        let message = "too many requests".to_owned();
        (seen.len() == 1).then_some(Disturbance::Fails(Fault::RateLimited { message, retry_after: asked }))
    });
    assert_eq!(world.until_ended(), Outcome::Completed);
    let begins = begins.lock().unwrap();
    assert!(begins[1].duration_since(begins[0]) >= asked, "{begins:?}");
}

#[test]
fn a_rollout_of_another_host_is_left_to_it_however_long_that_takes() {
    let scenario = Scenario::of(shape("a database user"), 1, Guards::default(), start()).unwrap();
    scenario.world.with(|world| {
        for fleet in world.fleets.values_mut() {
            fleet.only_from = Some("replica-2".to_owned());
        }
    });
    let mut world = World::of(scenario, 1);
    world.sim.order(&world.secret, OrderKind::Rotate);
    world.until(|world| world.step() == Some(Step::PromoteRollout));
    let waited_until = world.sim.scenario.clock.elapsed() + SignedDuration::from_hours(4);
    world.until(|world| world.sim.scenario.clock.elapsed() > waited_until);
    assert_eq!(world.rollouts(), [RolloutState::Requested]);
    world.sim.scenario.world.with(|state| {
        for fleet in state.fleets.values_mut() {
            fleet.only_from = Some("replica-1".to_owned());
        }
    });
    assert_eq!(world.until_ended(), Outcome::Completed);
    assert_eq!(world.holds, []);
}

#[test]
fn a_rotation_pauses_where_clocks_disagree_and_says_so() {
    let mut world = World::rotating(shape("a signing key in a list"));
    world.until(|world| world.step() == Some(Step::Watch));
    let set = |world: &World, offset| {
        world.sim.scenario.world.with(|state| {
            state.stores.values_mut().for_each(|store| store.clock_offset = offset);
        });
    };
    set(&world, SignedDuration::from_hours(2));
    let told = |world: &World| {
        world.sim.scenario.journal.look(|tables| {
            tables.outbox.iter().filter(|row| row.notice.what.contains("clocks disagree")).count()
        })
    };
    world.until(|world| told(world) > 0);
    assert!(matches!(world.step(), Some(Step::ConfirmIdle | Step::Withdraw)), "{:?}", world.step());
    set(&world, SignedDuration::ZERO);
    assert_eq!(world.until_ended(), Outcome::Completed);
    assert_eq!(world.holds, []);
    assert_eq!(told(&world), 1);
}

/// A store that is away for that long from the start; what people were told, and how
/// often it was asked.
fn told_of_a_store_that_is_away_for(away: SignedDuration) -> usize {
    let mut world = World::rotating(shape("a signing key in a list"));
    let set = |world: &World, obstacle: Option<Fault>| {
        world.sim.scenario.world.with(|state| {
            state.stores.values_mut().for_each(|store| store.obstacle = obstacle.clone());
        });
    };
    set(&world, Some(Fault::transient("connection reset")));
    let back = world.sim.scenario.clock.elapsed() + away;
    world.until(|world| world.sim.scenario.clock.elapsed() > back);
    set(&world, None);
    assert_eq!(world.until_ended(), Outcome::Completed);
    world
        .sim
        .scenario
        .journal
        .look(|tables| tables.outbox.iter().filter(|row| row.notice.what.contains("cannot start")).count())
}

#[test]
fn a_store_that_is_away_for_a_moment_is_nobody_s_news() {
    assert_eq!(told_of_a_store_that_is_away_for(SignedDuration::from_mins(5)), 0);
    assert_eq!(told_of_a_store_that_is_away_for(SignedDuration::from_mins(30)), 1);
}

/// Loses the key that the target has just made, `times` times.
fn lose_keys(times: usize) -> impl FnMut(&Call) -> Option<Disturbance> + Send {
    let (mut made, mut lost) = (0, 0);
    move |call: &Call| {
        made += usize::from(call.name == "create");
        let stages = call.name == "stage" && call.detail.starts_with("candidate");
        (stages && lost < times.min(made)).then(|| {
            lost += 1;
            Disturbance::Fails(Fault::transient("connection reset"))
        })
    }
}

fn keys(world: &World) -> BTreeMap<String, bool> {
    world.sim.scenario.world.with(|state| {
        let of_all = state.targets.values().flat_map(|target| &target.credentials);
        of_all.map(|(name, credential)| (name.clone(), credential.enabled)).collect()
    })
}

#[test]
fn a_lost_key_is_removed_and_made_again_after_a_resume() {
    let mut world = World::rotating(shape("a key that its target makes"));
    world.sim.scenario.wire.disturb_with(lose_keys(2));
    assert_eq!(world.until_ended(), Outcome::Completed);
    assert_eq!(world.holds.len(), 2, "{:?}", world.holds);
    assert_eq!(keys(&world), BTreeMap::from([("key-3".to_owned(), true)]));
}

#[test]
fn what_a_target_spoiled_is_given_again_after_a_resume() {
    let mut world = World::rotating(SecretPlan::new("DATABASE_URL", FakeKind::TwoUsers, Form::Single));
    world.sim.scenario.world.with(|state| {
        state.targets.values_mut().for_each(|target| target.spoils_next_install = true);
    });
    world.until(|world| matches!(world.state(), Some(State::Held { .. })));
    // A person removes what nobody can use.
    world.sim.scenario.world.with(|state| {
        state.targets.values_mut().for_each(|target| {
            target.credentials.remove("app_b");
        });
    });
    assert_eq!(world.until_ended(), Outcome::Completed);
    assert!(matches!(world.holds.as_slice(), [HoldReason::ProofFailed { step: Step::Prove, .. }]));
}

#[test]
fn an_emergency_knows_a_publication_of_the_undo_whose_outcome_it_did_not_wait_for() {
    let mut world = World::rotating(shape("a signing key in a document"));
    world.until(|world| world.step() == Some(Step::Watch));
    let has_written = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&has_written);
    world.sim.scenario.wire.disturb_with(move |call: &Call| {
        let late = seen.load(Ordering::Relaxed) && call.system == "store:main";
        if call.name == "write" {
            seen.store(true, Ordering::Relaxed);
            return Some(Disturbance::AnswerLost);
        }
        late.then(|| Disturbance::Fails(Fault::transient("nobody answers")))
    });
    world.sim.order(&world.secret.clone(), OrderKind::Rollback);
    world.until(|_| has_written.load(Ordering::Relaxed));
    assert_eq!(world.step(), Some(Step::Demote));
    world.sim.order(&world.secret.clone(), OrderKind::Emergency { suspect: Some(Suspect::Newer) });
    world.until(|world| world.step() == Some(Step::Reject));
    world.sim.scenario.wire.heal();
    world.until_ended();
    assert!(world.holds.is_empty(), "{:?}", world.holds);
}

/// The evidence that nobody uses the old value ages while the new one cannot be proven, and
/// is gathered again each time.
#[test]
fn a_disabling_that_never_succeeds_is_held_however_often_its_evidence_ages() {
    let mut world = World::rotating(shape("a database user"));
    let mut disables = false;
    world.sim.scenario.wire.disturb_with(move |call: &Call| {
        disables |= call.name == "record" && call.detail.contains("Running { step: Disable,");
        let refused = disables && call.name == "prove";
        refused.then(|| Disturbance::Fails(Fault::transient("nobody answers")))
    });
    world.until(|world| !world.holds.is_empty());
    let held = world.holds.as_slice();
    assert!(matches!(held, [HoldReason::DeadlinePassed { step: Step::Disable, .. }]), "{held:?}");
    world.sim.scenario.wire.heal();
    assert_eq!(world.until_ended(), Outcome::Completed);
}
