//! What a test tells a fake to do wrong, and what the fake has seen.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::clock::FakeClock;

/// A held call has nothing to wait for once it is let go.
const LATE_DEADLINE: Duration = Duration::from_secs(10);

/// One thing that goes wrong.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// A part of `METHOD /path?query Operation`; empty means every call.
    #[serde(default)]
    pub on: String,
    /// How many matching calls go through first.
    #[serde(default)]
    pub skip: u32,
    /// How many calls it strikes.
    #[serde(default = "once")]
    pub times: u32,
    /// What happens to them.
    pub effect: Effect,
}

fn once() -> u32 {
    1
}

/// What happens to a call.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It is answered with this and has no effect.
    Answer {
        /// The HTTP status.
        status: u16,
        /// Headers beside the usual ones.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// The body.
        #[serde(default)]
        body: String,
    },
    /// The connection is cut and the call has no effect.
    CutBefore,
    /// The call takes effect and the connection is cut without an answer.
    CutAfter,
    /// No answer and no effect; the client has to give up.
    Hang,
    /// No answer; the effect comes when [`Script::release_late`] is called,
    /// whether or not the client still waits.
    Late,
}

impl Fault {
    /// Strikes the next call whose label contains `on`.
    pub fn next(on: &str, effect: Effect) -> Self {
        Self { on: on.to_owned(), skip: 0, times: 1, effect }
    }

    /// Answers the next such call with a bare status.
    pub fn status(on: &str, status: u16) -> Self {
        Self::next(on, Effect::Answer { status, headers: Vec::new(), body: String::new() })
    }

    /// Strikes this many calls.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    /// Lets this many calls through first.
    pub fn after(mut self, skip: u32) -> Self {
        self.skip = skip;
        self
    }
}

/// A call that a fake received.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Seen {
    /// `METHOD /path?query`, and the operation for AWS protocols.
    pub call: String,
    /// The status that was answered or would have been; none where the call had no effect yet.
    pub status: Option<u16>,
}

/// The faults, the clock and the log of one fake. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct Script {
    inner: Arc<Mutex<Inner>>,
    clock: FakeClock,
}

#[derive(Debug, Default)]
struct Inner {
    faults: Vec<Fault>,
    held: VecDeque<Held>,
    seen: Vec<Seen>,
}

#[derive(Debug)]
struct Held {
    go: oneshot::Sender<()>,
    done: mpsc::Receiver<()>,
}

impl Script {
    /// No faults, a clock that follows real time.
    pub fn new() -> Self {
        Self::default()
    }

    /// No faults, and a clock that others may share.
    pub fn with_clock(clock: FakeClock) -> Self {
        Self { inner: Arc::default(), clock }
    }

    /// The fake's clock.
    pub fn clock(&self) -> &FakeClock {
        &self.clock
    }

    /// Adds a fault; the oldest one that matches a call strikes it.
    pub fn add(&self, fault: Fault) {
        self.lock().faults.push(fault);
    }

    /// Forgets all faults.
    pub fn clear(&self) {
        self.lock().faults.clear();
    }

    /// Faults that have not struck as often as they were told to.
    pub fn pending(&self) -> usize {
        self.lock().faults.len()
    }

    /// The calls so far, without those to the fake's own controls.
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// How many calls so far contain `part` in their label.
    pub fn count(&self, part: &str) -> usize {
        self.lock().seen.iter().filter(|seen| seen.call.contains(part)).count()
    }

    /// How many [`Effect::Late`] calls wait for their release.
    pub fn held(&self) -> usize {
        self.lock().held.len()
    }

    /// Carries out the held calls, oldest first; returns when they have taken effect.
    ///
    /// # Errors
    /// When the fake is gone.
    pub fn release_late(&self) -> Result<usize> {
        let held: Vec<Held> = self.lock().held.drain(..).collect();
        let count = held.len();
        for call in held {
            // A dropped receiver shows as an error of the wait below.
            let _ = call.go.send(());
            call.done.recv_timeout(LATE_DEADLINE).context("the fake is gone")?;
        }
        Ok(count)
    }

    pub(super) fn take(&self, label: &str) -> Option<Effect> {
        let mut inner = self.lock();
        let mut struck = None;
        for fault in inner.faults.iter_mut().filter(|fault| label.contains(&fault.on)) {
            if fault.skip > 0 {
                fault.skip -= 1;
                continue;
            }
            fault.times = fault.times.saturating_sub(1);
            struck = Some(fault.effect.clone());
            break;
        }
        inner.faults.retain(|fault| fault.times > 0);
        struck
    }

    pub(super) fn saw(&self, call: String, status: Option<u16>) {
        self.lock().seen.push(Seen { call, status });
    }

    pub(super) fn hold(&self, go: oneshot::Sender<()>, done: mpsc::Receiver<()>) {
        self.lock().held.push_back(Held { go, done });
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder of the script panics")
    }
}
