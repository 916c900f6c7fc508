//! The smallest executor: one future under a simulated clock.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use super::clock::SimClock;

/// Whether a future has something to do.
pub struct Ready(AtomicBool);

impl Ready {
    /// A future that was never polled has something to do.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    /// True once after each wake.
    #[must_use]
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    /// True where [`Ready::take`] would be.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `future` to its end; time jumps where it waits.
///
/// # Panics
/// Where it waits for something that never happens.
pub fn run<T>(clock: &SimClock, future: impl Future<Output = T>) -> T {
    let ready = Ready::new();
    let waker = Waker::from(Arc::clone(&ready));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        while ready.take() {
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
        }
        assert!(clock.advance(), "the future waits and nothing is left that could wake it");
    }
}
