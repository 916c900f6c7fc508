//! Which faults a seed brings. Each seed switches whole kinds of fault on and off, so
//! that some runs are all of one kind and others a mixture (swarm testing).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::rotation::Step;
use rota_engine::test_support::{Call, Disturbance, Disturber, MemoryJournal, SeededRandom};

use crate::figures::Figures;
use crate::sim::PEOPLE;

/// A kind of trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Calls fail without an effect.
    Failures,
    /// Calls are asked to slow down.
    Throttling,
    /// Calls have their effect and no answer.
    LostAnswers,
    /// Processes end in the middle of a call.
    Crashes,
    /// Calls never answer.
    Silence,
    /// Calls have their effect after their caller gave up.
    LateEffects,
    /// Calls take long.
    Slowness,
    /// Processes stand still for longer than a lease.
    Pauses,
    /// A system is away for a while.
    Outages,
    /// Instances die and are replaced.
    DyingInstances,
    /// A deployment stops half-way and puts the old definition back.
    FailedDeployments,
    /// Checks show trouble, or cannot be read.
    BadChecks,
    /// Reads of stores lag behind.
    StaleReads,
    /// The target stores something else than it was given.
    SpoiledInstalls,
    /// Somebody uses a credential without being a consumer of the policy.
    HiddenUsers,
    /// People hold, resume and roll back.
    Orders,
    /// People report leaks.
    Leaks,
}

impl Trouble {
    pub const ALL: [Self; 17] = [
        Self::Failures,
        Self::Throttling,
        Self::LostAnswers,
        Self::Crashes,
        Self::Silence,
        Self::LateEffects,
        Self::Slowness,
        Self::Pauses,
        Self::Outages,
        Self::DyingInstances,
        Self::FailedDeployments,
        Self::BadChecks,
        Self::StaleReads,
        Self::SpoiledInstalls,
        Self::HiddenUsers,
        Self::Orders,
        Self::Leaks,
    ];

    /// About half of all kinds.
    #[must_use]
    pub fn draw(random: &mut SeededRandom) -> BTreeSet<Self> {
        Self::ALL.into_iter().filter(|_| random.once_in(2)).collect()
    }
}

/// An effect lands at most this long after its call: within the lease under which it was made.
const LATEST_SECS: u64 = 110;

/// How long an outage lasts at most.
const LONGEST_OUTAGE_SECS: u64 = 3 * 3600;

/// Disturbs calls as its seed wants.
pub struct Chaos {
    random: SeededRandom,
    troubles: BTreeSet<Trouble>,
    /// Once in so many calls.
    rate: u64,
    outage: Option<(String, Timestamp)>,
    journal: MemoryJournal,
    figures: Arc<Mutex<Figures>>,
}

impl Chaos {
    /// What is delivered is added to `figures`, with the step that `journal` says the
    /// caller is at.
    #[must_use]
    pub fn new(
        mut random: SeededRandom,
        troubles: BTreeSet<Trouble>,
        journal: MemoryJournal,
        figures: Arc<Mutex<Figures>>,
    ) -> Self {
        let rate = [15, 40, 120, 400][usize::try_from(random.below(4)).unwrap_or(0)];
        Self { random, troubles, rate, outage: None, journal, figures }
    }

    /// The step of the rotation that the caller holds.
    fn step_of(&self, actor: &str) -> Option<Step> {
        self.journal.look(|tables| {
            let mut held =
                tables.rotations.values().filter(|row| row.in_flight() && row.lease_until.is_some());
            held.find(|row| row.holder == actor)?.rotation.step()
        })
    }

    fn once_in(&mut self, trouble: Trouble, times: u64) -> bool {
        self.troubles.contains(&trouble) && self.random.once_in(times)
    }

    fn seconds(&mut self, limit: u64) -> SignedDuration {
        SignedDuration::from_secs(i64::try_from(self.random.below(limit) + 1).unwrap_or(1))
    }

    fn is_away(&mut self, call: &Call) -> bool {
        if let Some((system, until)) = &self.outage {
            if call.at < *until {
                return call.system == *system;
            }
            self.outage = None;
        }
        if self.once_in(Trouble::Outages, self.rate * 20) {
            let lasts = self.seconds(LONGEST_OUTAGE_SECS);
            let until = call.at.saturating_add(lasts).unwrap_or(Timestamp::MAX);
            self.outage = Some((call.system.clone(), until));
            return true;
        }
        false
    }
}

impl Disturber for Chaos {
    fn disturb(&mut self, call: &Call) -> Option<Disturbance> {
        let disturbance = self.choose(call)?;
        let step = belongs_to_a_step(call).then(|| self.step_of(&call.actor)).flatten();
        self.figures.lock().unwrap_or_else(PoisonError::into_inner).strike(step, &disturbance);
        Some(disturbance)
    }
}

/// False for the calls of a process's other loops: rollouts, notices, looks at what is due.
fn belongs_to_a_step(call: &Call) -> bool {
    match call.system.as_str() {
        "journal" => matches!(call.name, "record" | "renew" | "release" | "rollouts"),
        system if system.starts_with("rollout:") => call.name == "recheck",
        system if system.starts_with("store:") => call.name != "preflight",
        system => !system.starts_with("notifier"),
    }
}

impl Chaos {
    fn choose(&mut self, call: &Call) -> Option<Disturbance> {
        if call.actor == PEOPLE || call.actor.is_empty() {
            return None;
        }
        if self.is_away(call) {
            return Some(Disturbance::Fails(Fault::transient(format!("{} is away", call.system))));
        }
        let rate = self.rate;
        if self.once_in(Trouble::Failures, rate) {
            return Some(Disturbance::Fails(Fault::transient("connection reset")));
        }
        if self.once_in(Trouble::Throttling, rate) && call.system != "journal" {
            let retry_after = self.seconds(120);
            let message = "too many requests".to_owned();
            return Some(Disturbance::Fails(Fault::RateLimited { message, retry_after }));
        }
        if self.once_in(Trouble::LostAnswers, rate) {
            return Some(Disturbance::AnswerLost);
        }
        if self.once_in(Trouble::Crashes, rate) {
            return Some(Disturbance::CrashBefore);
        }
        if self.once_in(Trouble::Crashes, rate) {
            return Some(Disturbance::CrashAfter);
        }
        if self.once_in(Trouble::Silence, rate * 2) {
            return Some(Disturbance::Hangs);
        }
        if self.once_in(Trouble::LateEffects, rate) {
            return Some(Disturbance::LandsLater(self.seconds(LATEST_SECS)));
        }
        if self.once_in(Trouble::Slowness, rate) {
            return Some(Disturbance::Slow(self.seconds(40)));
        }
        None
    }
}
