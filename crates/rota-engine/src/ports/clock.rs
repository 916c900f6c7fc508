use std::future::Future;

use async_trait::async_trait;
use futures::future::{Either, select};
use jiff::SignedDuration;
use rota_core::fault::Fault;

/// The passage of time inside this process. Dates come from the journal.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Time since an arbitrary start; counts time in which the machine was suspended.
    fn elapsed(&self) -> SignedDuration;

    /// Returns after `duration`.
    async fn sleep(&self, duration: SignedDuration);
}

/// Runs `call` for at most `limit`; past it the outcome is unknown.
///
/// # Errors
/// The call's own fault, or [`Fault::Transient`] that names `what` when time is up.
pub async fn within<T, F>(clock: &dyn Clock, limit: SignedDuration, what: &str, call: F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>> + Send,
{
    match select(Box::pin(call), clock.sleep(limit)).await {
        Either::Left((result, _)) => result,
        Either::Right(((), _)) => Err(Fault::transient(format!("{what} gave no answer within {limit:#}"))),
    }
}
