//! Rotators: one file or folder a kind.

mod address;
pub mod generated;
mod login;
pub mod operator;
pub mod postgres;
mod turns;
