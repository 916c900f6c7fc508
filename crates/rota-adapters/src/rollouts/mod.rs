//! How a consumer is made to read anew.

pub mod command;
pub mod ecs;
pub mod github_dispatch;
pub mod reread;
pub mod webhook;

use jiff::Timestamp;
use rota_engine::ports::RolloutContext;

/// An instance that was created before this time may have read the old value. The
/// engine starts no rollout earlier.
fn settled_at(context: &RolloutContext) -> Timestamp {
    context.published_at.saturating_add(context.settle).unwrap_or(Timestamp::MAX)
}
