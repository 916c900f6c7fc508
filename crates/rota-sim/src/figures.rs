//! What a run went through: how much time, which faults, and where they struck.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::SignedDuration;
use rota_core::rotation::Step;
use rota_engine::test_support::Disturbance;

/// A kind of fault, as it was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    Failed,
    Throttled,
    AnswerLost,
    CrashedBefore,
    CrashedAfter,
    Silent,
    LandedLater,
    Slow,
}

impl FaultKind {
    pub const ALL: [Self; 8] = [
        Self::Failed,
        Self::Throttled,
        Self::AnswerLost,
        Self::CrashedBefore,
        Self::CrashedAfter,
        Self::Silent,
        Self::LandedLater,
        Self::Slow,
    ];

    #[must_use]
    pub fn of(disturbance: &Disturbance) -> Self {
        match disturbance {
            Disturbance::Fails(rota_core::fault::Fault::RateLimited { .. }) => Self::Throttled,
            Disturbance::Fails(_) => Self::Failed,
            Disturbance::AnswerLost => Self::AnswerLost,
            Disturbance::CrashBefore => Self::CrashedBefore,
            Disturbance::CrashAfter => Self::CrashedAfter,
            Disturbance::Hangs => Self::Silent,
            Disturbance::LandsLater(_) => Self::LandedLater,
            Disturbance::Slow(_) => Self::Slow,
        }
    }
}

/// The numbers of one run, or of many together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    pub rotations: usize,
    pub calls: u64,
    pub simulated: SignedDuration,
    /// How often the checker looked after something had happened, and how many
    /// invariants it compared in all of these looks.
    pub looks: u64,
    pub checks: u64,
    pub delivered: BTreeMap<FaultKind, u64>,
    /// Where a fault struck a call of a rotation.
    pub struck: BTreeSet<(Step, FaultKind)>,
}

impl Figures {
    pub fn add(&mut self, other: &Self) {
        let Self { rotations, calls, simulated, looks, checks, delivered, struck } = other;
        self.rotations += rotations;
        self.calls += calls;
        self.simulated = self.simulated.saturating_add(*simulated);
        self.looks += looks;
        self.checks += checks;
        for (kind, times) in delivered {
            *self.delivered.entry(*kind).or_default() += times;
        }
        self.struck.extend(struck);
    }

    /// A fault was delivered, in the middle of `step` where a rotation was worked on.
    pub fn strike(&mut self, step: Option<Step>, disturbance: &Disturbance) {
        let kind = FaultKind::of(disturbance);
        *self.delivered.entry(kind).or_default() += 1;
        self.struck.extend(step.map(|step| (step, kind)));
    }

    /// Every pair that was not struck.
    #[must_use]
    pub fn missed(&self) -> Vec<(Step, FaultKind)> {
        pairs().filter(|pair| !self.struck.contains(pair)).collect()
    }
}

/// More pairs than these that were not struck are counted only.
const SHOWN_MISSES: usize = 60;

fn pairs() -> impl Iterator<Item = (Step, FaultKind)> {
    Step::ALL.into_iter().flat_map(|step| FaultKind::ALL.into_iter().map(move |kind| (step, kind)))
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let years = self.simulated.as_secs_f64() / (365.25 * 24.0 * 3600.0);
        writeln!(
            f,
            "{years:.1} simulated years, {} rotations, {} calls, {} looks of the checker, {} invariant checks",
            self.rotations, self.calls, self.looks, self.checks
        )?;
        let delivered: Vec<String> =
            self.delivered.iter().map(|(kind, times)| format!("{kind:?} {times}")).collect();
        writeln!(f, "faults delivered: {}", delivered.join(", "))?;
        let missed = self.missed();
        write!(f, "steps x faults: {} of {} pairs struck", self.struck.len(), pairs().count(),)?;
        if missed.len() > SHOWN_MISSES {
            return write!(f, "\n  {} were not struck; run more seeds", missed.len());
        }
        for step in Step::ALL {
            let kinds: Vec<String> =
                missed.iter().filter(|(of, _)| *of == step).map(|(_, kind)| format!("{kind:?}")).collect();
            if !kinds.is_empty() {
                write!(f, "\n  not struck: {}/{step}: {}", step.phase().as_str(), kinds.join(", "))?;
            }
        }
        Ok(())
    }
}
