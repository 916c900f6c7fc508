//! What a process does all day, and what people do.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use futures::future::select;
use jiff::SignedDuration;
use rota_core::fault::Fault;
use rota_engine::Engine;
use rota_engine::ports::Clock;
use rota_engine::test_support::{FakeNotifier, Scenario};

/// A look at the journal is never closer: what is awake and cannot be worked on is no
/// reason to spin.
const LOOK_NO_SOONER: SignedDuration = SignedDuration::from_secs(1);

/// Reminders and alerts are looked for this often, and the journal at least.
const REMIND_EVERY: SignedDuration = SignedDuration::from_hours(6);

/// The longest wait before the next look after looks that failed, as after an outage of
/// the journal.
const LOOK_AGAIN_WITHIN: SignedDuration = SignedDuration::from_mins(1);

/// How much one wake-up takes on before it looks for other work.
const AT_ONCE: usize = 16;

/// People look this often whether somebody waits for them.
const PEOPLE_LOOK_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// Wakes every process, as a notification of the database does. Clones are one bell.
#[derive(Clone, Default)]
pub struct Bell(Rc<RefCell<BellState>>);

#[derive(Default)]
struct BellState {
    rung: u64,
    wakers: Vec<Waker>,
}

impl Bell {
    pub fn ring(&self) {
        let mut state = self.0.borrow_mut();
        state.rung += 1;
        state.wakers.drain(..).for_each(Waker::wake);
    }

    async fn wait(&self) {
        let before = self.0.borrow().rung;
        poll_fn(|context| {
            let mut state = self.0.borrow_mut();
            if state.rung != before {
                return Poll::Ready(());
            }
            state.wakers.push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// One process of the daemon. A failed call is tried again at the next look.
pub async fn replica(scenario: Rc<Scenario>, engine: Engine, channel: FakeNotifier, bell: Bell) {
    let mut reminded = None;
    let mut pause = LOOK_NO_SOONER;
    loop {
        let looked = look(&engine, &channel).await;
        pause = if looked.is_ok() { LOOK_NO_SOONER } else { (pause * 2).min(LOOK_AGAIN_WITHIN) };
        let elapsed = scenario.clock.elapsed();
        if reminded.is_none_or(|at| elapsed.saturating_sub(REMIND_EVERY) >= at) {
            reminded = Some(elapsed);
            let _ = engine.remind().await;
        }
        let next = scenario.journal.next_wake();
        let now = scenario.journal.clock_now();
        let wait = next.map_or(REMIND_EVERY, |next| next.duration_since(now));
        select(scenario.clock.sleep(wait.clamp(pause, REMIND_EVERY)), Box::pin(bell.wait())).await;
    }
}

/// Everything that is awake, of each loop as much as one wake-up takes on. One loop's
/// trouble is no reason to leave the others alone.
///
/// # Errors
/// The last loop's failure, once all of them had their turn.
async fn look(engine: &Engine, channel: &FakeNotifier) -> Result<(), Fault> {
    let opened = engine.open_due().await.map(drop);
    let driven = until_idle(async || Ok(engine.drive_one().await?.is_some())).await;
    let rolled_out = until_idle(async || Ok(engine.drive_rollout().await?.is_some())).await;
    let delivered = until_idle(async || Ok(matches!(engine.deliver(channel).await?, Some(1..)))).await;
    opened.and(driven).and(rolled_out).and(delivered)
}

/// Repeats `work` while there is some.
async fn until_idle(work: impl AsyncFn() -> Result<bool, Fault>) -> Result<(), Fault> {
    for _ in 0..AT_ONCE {
        if !work().await? {
            break;
        }
    }
    Ok(())
}

/// The people: they make keys, revoke them and confirm, where a rotation waits for it.
pub async fn people(scenario: Rc<Scenario>, bell: Bell) {
    loop {
        for secret in scenario.policy.secrets.keys() {
            if scenario.act_as_person(secret).await == Ok(true) {
                bell.ring();
            }
        }
        scenario.clock.sleep(PEOPLE_LOOK_EVERY).await;
    }
}
