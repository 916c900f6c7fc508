use async_trait::async_trait;
use jiff::Timestamp;
use rota_core::fault::Fault;
pub use rota_core::rotation::Verdict;
use rota_core::value::SecretValue;
use serde::{Deserialize, Serialize};

/// What a check needs beside its own settings.
pub struct CheckContext {
    /// The journal's clock.
    pub now: Timestamp,
    /// The same check's number from before the promotion.
    pub baseline: Option<f64>,
    /// The value to be proven, for checks that use it (`prove`).
    pub value: Option<SecretValue>,
}

/// One look at a consumer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    pub verdict: Verdict,
    /// The number that was read, where the check reads one.
    pub value: Option<f64>,
    /// What was seen, in words; never a body and never a value.
    pub detail: String,
}

/// How we know that a consumer is well.
#[async_trait]
pub trait Check: Send + Sync {
    /// Looks once. What cannot be read is [`Verdict::Unknown`], not an error.
    ///
    /// # Errors
    /// [`Fault::Invalid`] or [`Fault::Denied`] where the check can never work as configured.
    async fn observe(&self, context: &CheckContext) -> Result<Reading, Fault>;
}
