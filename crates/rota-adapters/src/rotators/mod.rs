//! Rotators: one file or folder a kind.

pub mod generated;
pub mod operator;
pub mod postgres;
