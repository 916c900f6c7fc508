use async_trait::async_trait;
use jiff::Timestamp;
use rota_core::fault::Fault;
use rota_core::id::{RotationId, SecretId};
use rota_core::policy::model::HookPoint;

/// Which run of which hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookContext {
    pub rotation: RotationId,
    pub secret: SecretId,
    pub point: HookPoint,
    /// The hook's place among those of the same point.
    pub index: usize,
    /// Counts the runs that failed for good and were followed by a person's `resume`.
    pub attempt: u32,
    pub now: Timestamp,
}

impl HookContext {
    /// The same for every repeat of one run, and for no other.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let first = format!("{}-{:?}-{}", self.rotation, self.point, self.index).to_lowercase();
        if self.attempt == 0 { first } else { format!("{first}-{}", self.attempt) }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HookStatus {
    Succeeded,
    UnderWay { detail: String },
    Failed { detail: String },
}

/// Something of the user's that must succeed before or after a phase.
#[async_trait]
pub trait HookRunner: Send + Sync {
    /// Starts the run, or looks at it where it was started before. At least once:
    /// the receiver recognises a repeat by [`HookContext::idempotency_key`].
    ///
    /// # Errors
    /// Any.
    async fn run(&self, context: &HookContext) -> Result<HookStatus, Fault>;
}
