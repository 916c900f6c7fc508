//! A scheduler of futures whose every choice follows from a seed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use jiff::{SignedDuration, Timestamp};
use rota_engine::test_support::{Ready, SeededRandom, SimClock, Wire};

/// A process pauses once in this many turns, where pauses are on.
const PAUSE_ONCE_IN: u64 = 2000;

/// The longest pause: longer than a lease, so that its holder wakes up too late.
const LONGEST_PAUSE_SECS: u64 = 400;

/// Which of the executor's futures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(usize);

/// What one step was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A future was polled and goes on.
    Polled(TaskId),
    /// A future was polled and its process ended in the middle of a call.
    Crashed(TaskId),
    Finished(TaskId),
    /// Everybody waited; time moved on to the next thing that happens.
    TimePassed,
    /// Everybody waits for something that never happens.
    Stuck,
}

/// Polls one future at a time, chosen by the seed among those that can go on.
pub struct Executor {
    clock: SimClock,
    wire: Wire,
    random: SeededRandom,
    tasks: Vec<Task>,
    pauses: bool,
}

struct Task {
    name: String,
    /// `None` once it finished or was ended.
    future: Option<Pin<Box<dyn Future<Output = ()>>>>,
    ready: Arc<Ready>,
    paused_until: Option<Timestamp>,
}

impl Executor {
    #[must_use]
    pub fn new(clock: SimClock, wire: Wire, seed: u64, pauses: bool) -> Self {
        Self { clock, wire, random: SeededRandom::new(seed), tasks: Vec::new(), pauses }
    }

    /// From now on no process pauses.
    pub fn end_pauses(&mut self) {
        self.pauses = false;
        for task in &mut self.tasks {
            task.paused_until = None;
        }
    }

    pub fn spawn(&mut self, name: &str, future: impl Future<Output = ()> + 'static) -> TaskId {
        self.tasks.push(Task {
            name: name.to_owned(),
            future: Some(Box::pin(future)),
            ready: Ready::new(),
            paused_until: None,
        });
        TaskId(self.tasks.len() - 1)
    }

    /// Ends the process of a future where it stands.
    pub fn end(&mut self, task: TaskId) {
        if let Some(task) = self.tasks.get_mut(task.0) {
            task.future = None;
        }
    }

    /// Lets one future go on, or time where none can.
    pub fn step(&mut self) -> Step {
        let now = self.clock.now();
        let can_go_on = |task: &Task| {
            task.future.is_some() && task.ready.is_set() && task.paused_until.is_none_or(|until| until <= now)
        };
        let able: Vec<usize> =
            self.tasks.iter().enumerate().filter(|(_, task)| can_go_on(task)).map(|(i, _)| i).collect();
        let Some(chosen) = self.random.one_of(&able).copied() else {
            return if self.clock.advance() { Step::TimePassed } else { Step::Stuck };
        };
        if self.pauses && self.random.once_in(PAUSE_ONCE_IN) {
            self.pause(chosen);
            return Step::Polled(TaskId(chosen));
        }
        self.poll(chosen)
    }

    fn pause(&mut self, index: usize) {
        let seconds = i64::try_from(self.random.below(LONGEST_PAUSE_SECS)).unwrap_or(0);
        let until = self.clock.later(SignedDuration::from_secs(seconds));
        if let Some(task) = self.tasks.get_mut(index) {
            task.paused_until = Some(until);
            self.clock.at(until, || ());
        }
    }

    fn poll(&mut self, index: usize) -> Step {
        let id = TaskId(index);
        let Some(task) = self.tasks.get_mut(index) else { return Step::Stuck };
        let Some(future) = task.future.as_mut() else { return Step::Stuck };
        let _ = task.ready.take();
        self.wire.set_actor(&task.name);
        let waker = Waker::from(Arc::clone(&task.ready));
        let result = future.as_mut().poll(&mut Context::from_waker(&waker));
        self.wire.set_actor("");
        if self.wire.take_crash() {
            task.future = None;
            return Step::Crashed(id);
        }
        match result {
            Poll::Pending => Step::Polled(id),
            Poll::Ready(()) => {
                task.future = None;
                Step::Finished(id)
            }
        }
    }
}
