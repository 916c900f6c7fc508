//! The policy: what should rotate, when, how, and who uses it.
//!
//! [`load`] takes the texts of a policy and gives back the accepted form in
//! `model` (the only one that the machine sees: every default resolved, every
//! reference checked), or what is wrong with them, with the line and the fix. Both may
//! come: warnings and hints do not stop a policy.
//!
//! A policy of a hundred thousand secrets is read piece by piece, twice: first
//! what secrets refer to, then the secrets one after the other. So neither the
//! trees of all pieces nor the decoded secrets are ever in memory together.
//!
//! Deliberately absent: files, stores, clocks, and any kind of store or rotator;
//! the kinds come in as [`kinds::Kinds`].

pub mod accept;
mod compact;
pub mod diagnostic;
pub mod duration;
pub mod kinds;
pub mod model;
pub mod rules;
pub mod schema;

mod fields;
mod lint;
mod load;
mod raw;
mod resolve;
mod source;
#[cfg(test)]
mod tests;

pub use compact::CompactPolicy;
pub use load::{Loaded, load, load_str};
pub use source::{MAX_PIECE_BYTES, MAX_PIECES, MAX_SECRETS, Piece};
