//! Channels that reach people and programs.

pub mod slack;
pub mod webhook;
