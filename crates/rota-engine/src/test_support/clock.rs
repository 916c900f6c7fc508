//! Time that only moves when told to, and everything that waits for it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use crate::ports::Clock;

type Event = Box<dyn FnOnce() + Send>;

/// A clock that stands still until [`SimClock::advance`]. Clones show one time.
///
/// It also keeps the agenda of the fake world: what happens at a later moment
/// whoever waits (an instance restarts, a late effect lands).
#[derive(Clone)]
pub struct SimClock(Arc<Mutex<State>>);

struct State {
    start: Timestamp,
    now: Timestamp,
    next_number: u64,
    /// By time, then in the order of registration.
    waiting: BTreeMap<(Timestamp, u64), Waiting>,
}

enum Waiting {
    Sleeper(Option<Waker>),
    Event(Event),
}

impl SimClock {
    #[must_use]
    pub fn new(start: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(State { start, now: start, next_number: 0, waiting: BTreeMap::new() })))
    }

    /// The true time of the simulation.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.state().now
    }

    /// The time `after` from now.
    #[must_use]
    pub fn later(&self, after: SignedDuration) -> Timestamp {
        self.now().saturating_add(after).unwrap_or(Timestamp::MAX)
    }

    /// Runs `event` once the time is `at`, or at the next advance where that is past.
    pub fn at(&self, at: Timestamp, event: impl FnOnce() + Send + 'static) {
        self.state().register(at, Waiting::Event(Box::new(event)));
    }

    /// When the next sleeper wakes or the next event happens.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.state().waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// Moves to the next moment for which something waits, and lets one thing happen.
    /// False where nothing waits.
    #[must_use]
    pub fn advance(&self) -> bool {
        let due = {
            let mut state = self.state();
            let Some(((at, _), due)) = state.waiting.pop_first() else { return false };
            state.now = state.now.max(at);
            due
        };
        match due {
            Waiting::Sleeper(Some(waker)) => waker.wake(),
            Waiting::Sleeper(None) => {}
            Waiting::Event(event) => event(),
        }
        true
    }

    /// Lets everything happen that is due within `duration`, and moves to its end.
    pub fn advance_by(&self, duration: SignedDuration) {
        let end = self.later(duration);
        while self.next().is_some_and(|at| at <= end) && self.advance() {}
        let mut state = self.state();
        state.now = state.now.max(end);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn register(&mut self, at: Timestamp, waiting: Waiting) -> (Timestamp, u64) {
        let key = (at, self.next_number);
        self.next_number += 1;
        self.waiting.insert(key, waiting);
        key
    }
}

#[async_trait]
impl Clock for SimClock {
    fn elapsed(&self) -> SignedDuration {
        let state = self.state();
        state.now.duration_since(state.start)
    }

    async fn sleep(&self, duration: SignedDuration) {
        Sleep { clock: self.clone(), until: self.later(duration), key: None }.await;
    }
}

/// Leaves the agenda when dropped, so that time never stops for a limit that was not reached.
struct Sleep {
    clock: SimClock,
    until: Timestamp,
    key: Option<(Timestamp, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock.clone();
        let mut state = clock.state();
        if state.now >= self.until {
            return Poll::Ready(());
        }
        let sleeper = Waiting::Sleeper(Some(context.waker().clone()));
        match self.key.filter(|key| state.waiting.contains_key(key)) {
            Some(key) => {
                state.waiting.insert(key, sleeper);
            }
            None => self.key = Some(state.register(self.until, sleeper)),
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.clock.state().waiting.remove(&key);
        }
    }
}
