//! Rotators: one file a kind.

pub mod generated;
pub mod operator;
