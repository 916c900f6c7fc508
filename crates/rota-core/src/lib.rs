//! Rota's decisions.
//!
//! Everything here is pure: the phases of a rotation and the only transition
//! table, schedules, policy rules, generation formats and the hashing of history.
//! Deliberately absent: async, clocks, randomness, files, sockets and every SDK.
//! Time and random bytes come in as arguments; what should happen goes out as data.

pub mod audit;
pub mod document;
pub mod fault;
pub mod format;
pub mod id;
pub mod policy;
pub mod publication;
pub mod redact;
pub mod rotation;
pub mod schedule;
pub mod submission;
pub mod value;
