//! Performs what `rota-core` decides.
//!
//! The ports to the world, and the loop that claims a rotation, decides, records
//! the intent, performs and records the outcome. Deliberately absent: SQL, HTTP and
//! any knowledge of a product.

mod bounded;
mod clocks;
mod document_io;
mod drive;
mod engine;
mod evidence;
mod failpoint;
#[cfg_attr(
    not(feature = "test-support"),
    expect(dead_code, unreachable_pub, reason = "only builds for tests name protections one by one")
)]
mod guard;
mod marks;
mod notice;
mod open;
mod orders;
mod outbox;
mod perform;
pub mod ports;
mod remind;
mod rollouts;
mod session;
#[cfg(feature = "test-support")]
pub mod test_support;

pub use engine::{Engine, EngineSettings};
pub use marks::untrusted;
pub use notice::past_is_lost;
