use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use rota_core::fault::Fault;
use rota_core::id::ConsumerId;
use serde::{Deserialize, Serialize};

/// A name in a consumer's definition that must show exactly one version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The name that the consumer reads (an environment variable).
    pub name: String,
    /// The store's own exact reference.
    pub reference: String,
}

/// What a rollout has to achieve: every instance reads anew, after `published_at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutContext {
    pub consumer: ConsumerId,
    /// Grows with each rollout of the consumer; names it.
    pub generation: i64,
    /// No instance that was created before may go on.
    pub published_at: Timestamp,
    /// How long a published value takes to be seen everywhere, clock error included.
    pub settle: SignedDuration,
    pub pins: Vec<Pin>,
    /// The journal's clock at this call.
    pub now: Timestamp,
}

/// How far a rollout is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutStatus {
    UnderWay {
        detail: String,
    },
    /// No instance that could have read the value before is left.
    Finished,
    /// It will not finish by itself, or an older definition was put back.
    Failed {
        detail: String,
    },
}

/// How a consumer is made to read anew.
#[async_trait]
pub trait Rollout: Send + Sync {
    /// Starts one and returns what [`Rollout::observe`] needs to find it again.
    /// May be repeated after an unknown outcome: a second start of the same
    /// generation does no harm.
    ///
    /// # Errors
    /// Any.
    async fn begin(&self, context: &RolloutContext) -> Result<serde_json::Value, Fault>;

    /// Whether this process can carry it out at all: a rollout on one host only there.
    /// Asked before anything is recorded, so that the right process finds it untouched.
    ///
    /// # Errors
    /// [`Fault::Transient`] with where it can be done.
    fn must_be_here(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// Whether a rollout that was finished still stands: what instances are made from,
    /// and every instance that has not stopped, shows `context.pins`. `Some` says what does
    /// not. Kinds without pinned references have nothing to look at.
    ///
    /// # Errors
    /// A passing fault: unknown is not standing.
    async fn recheck(&self, context: &RolloutContext) -> Result<Option<String>, Fault> {
        let _ = context;
        Ok(None)
    }

    /// How far the rollout named by `handle` is. `memory` is what the last
    /// observation left, for conditions that must hold in two looks apart; the new
    /// memory comes back.
    ///
    /// # Errors
    /// A passing fault: unknown is not finished.
    async fn observe(
        &self,
        handle: &serde_json::Value,
        memory: &serde_json::Value,
        context: &RolloutContext,
    ) -> Result<(RolloutStatus, serde_json::Value), Fault>;
}
