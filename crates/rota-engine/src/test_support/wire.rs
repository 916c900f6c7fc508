//! The line between the engine and everything fake: where calls are counted,
//! interleaved and disturbed.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;

use super::clock::SimClock;
use crate::ports::Clock;

/// One call of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Counts every call on this wire, from zero.
    pub index: u64,
    pub at: Timestamp,
    /// The replica that calls, as set by [`Wire::set_actor`].
    pub actor: String,
    /// `journal`, `store:main`, `target`, `rollout:web`, ...
    pub system: String,
    pub name: &'static str,
    /// What it is about; never a value.
    pub detail: String,
}

/// What happens to a call instead of a plain answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disturbance {
    /// Answers with this fault and has no effect.
    Fails(Fault),
    /// Has its effect and answers with a passing fault.
    AnswerLost,
    /// The calling process ends right before the effect.
    CrashBefore,
    /// The calling process ends right after the effect.
    CrashAfter,
    /// Never answers and never has its effect.
    Hangs,
    /// Never answers; has its effect this much later, whoever is left.
    LandsLater(SignedDuration),
    /// Takes this long before its effect.
    Slow(SignedDuration),
}

/// Decides which calls are disturbed.
pub trait Disturber: Send {
    fn disturb(&mut self, call: &Call) -> Option<Disturbance>;
}

impl<F: FnMut(&Call) -> Option<Disturbance> + Send> Disturber for F {
    fn disturb(&mut self, call: &Call) -> Option<Disturbance> {
        self(call)
    }
}

/// How a call ended, for traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    Answered,
    Refused(String),
    Disturbed(Disturbance),
}

/// Clones are one wire.
#[derive(Clone)]
pub struct Wire {
    clock: SimClock,
    state: Arc<Mutex<State>>,
}

struct State {
    calls: u64,
    actor: String,
    crashed: bool,
    disturber: Option<Box<dyn Disturber>>,
    trace: Option<Trace>,
}

/// The last calls, and a number that depends on all of them.
struct Trace {
    limit: usize,
    lines: VecDeque<(Call, Ending)>,
    hash: u64,
}

impl Trace {
    fn push(&mut self, call: Call, ending: Ending) {
        let line = (call, ending);
        // FNV-1a: equal runs have equal numbers, and another run hardly ever has.
        self.hash = format!("{line:?}")
            .bytes()
            .fold(self.hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        if self.lines.len() == self.limit {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }
}

impl Wire {
    #[must_use]
    pub fn new(clock: SimClock) -> Self {
        let state = State { calls: 0, actor: String::new(), crashed: false, disturber: None, trace: None };
        Self { clock, state: Arc::new(Mutex::new(state)) }
    }

    #[must_use]
    pub fn clock(&self) -> &SimClock {
        &self.clock
    }

    /// Names the replica whose future is polled from now on.
    pub fn set_actor(&self, actor: &str) {
        actor.clone_into(&mut self.state().actor);
    }

    /// Who is polled now.
    #[must_use]
    pub fn actor(&self) -> String {
        self.state().actor.clone()
    }

    /// From now on `disturber` sees every call.
    pub fn disturb_with(&self, disturber: impl Disturber + 'static) {
        self.state().disturber = Some(Box::new(disturber));
    }

    /// From now on no call is disturbed.
    pub fn heal(&self) {
        self.state().disturber = None;
    }

    /// From now on keeps the last `limit` calls, and a hash of all of them.
    pub fn start_trace(&self, limit: usize) {
        self.state().trace = Some(Trace { limit, lines: VecDeque::new(), hash: 0xcbf2_9ce4_8422_2325 });
    }

    /// The last calls since [`Wire::start_trace`].
    #[must_use]
    pub fn trace(&self) -> Vec<(Call, Ending)> {
        self.state().trace.as_ref().map(|trace| trace.lines.iter().cloned().collect()).unwrap_or_default()
    }

    /// A number that depends on every call since [`Wire::start_trace`] and its ending.
    #[must_use]
    pub fn trace_hash(&self) -> u64 {
        self.state().trace.as_ref().map_or(0, |trace| trace.hash)
    }

    /// How many calls were made.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.state().calls
    }

    /// True once after a disturbance that ends the polled process: its future is to be dropped.
    #[must_use]
    pub fn take_crash(&self) -> bool {
        std::mem::take(&mut self.state().crashed)
    }

    /// Carries one call: gives others a turn, has the effect at one moment, gives
    /// others a turn again.
    ///
    /// # Errors
    /// The effect's own, or what the disturber wants.
    pub async fn call<T, E>(
        &self,
        system: &str,
        name: &'static str,
        detail: String,
        effect: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send,
        E: From<Fault> + std::fmt::Display + Send,
    {
        let (call, disturbance) = self.begin(system, name, detail);
        turn().await;
        match disturbance {
            None => self.answer(call, effect).await,
            Some(disturbance) => self.disturbed(call, disturbance, effect).await,
        }
    }

    async fn answer<T: Send, E: std::fmt::Display + Send>(
        &self,
        call: Call,
        effect: impl FnOnce() -> Result<T, E> + Send,
    ) -> Result<T, E> {
        let result = effect();
        self.note(call, || match &result {
            Ok(_) => Ending::Answered,
            Err(error) => Ending::Refused(error.to_string()),
        });
        turn().await;
        result
    }

    async fn disturbed<T, E>(
        &self,
        call: Call,
        disturbance: Disturbance,
        effect: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send,
        E: From<Fault> + std::fmt::Display + Send,
    {
        let what = format!("{} {} gave no answer", call.system, call.name);
        self.note(call.clone(), || Ending::Disturbed(disturbance.clone()));
        match disturbance {
            Disturbance::Fails(fault) => Err(E::from(fault)),
            Disturbance::AnswerLost => {
                drop(effect());
                turn().await;
                Err(E::from(Fault::transient(what)))
            }
            Disturbance::CrashBefore => self.crash().await,
            Disturbance::CrashAfter => {
                drop(effect());
                self.crash().await
            }
            Disturbance::Hangs => pending().await,
            Disturbance::LandsLater(after) => {
                self.clock.at(self.clock.later(after), move || drop(effect()));
                pending().await
            }
            Disturbance::Slow(duration) => {
                self.clock.sleep(duration).await;
                self.answer(call, effect).await
            }
        }
    }

    async fn crash<T>(&self) -> T {
        self.state().crashed = true;
        pending().await
    }

    fn begin(&self, system: &str, name: &'static str, detail: String) -> (Call, Option<Disturbance>) {
        let at = self.clock.now();
        let mut state = self.state();
        let call = Call {
            index: state.calls,
            at,
            actor: state.actor.clone(),
            system: system.to_owned(),
            name,
            detail,
        };
        state.calls += 1;
        let disturbance = state.disturber.as_mut().and_then(|disturber| disturber.disturb(&call));
        (call, disturbance)
    }

    fn note(&self, call: Call, ending: impl FnOnce() -> Ending) {
        if let Some(trace) = &mut self.state().trace {
            trace.push(call, ending());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives every other future a turn.
pub async fn turn() {
    Turn { taken: false }.await;
}

struct Turn {
    taken: bool,
}

impl Future for Turn {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.taken {
            return Poll::Ready(());
        }
        self.taken = true;
        context.waker().wake_by_ref();
        Poll::Pending
    }
}
