//! The user's own work before or after a phase.

pub mod command;
pub mod ecs_task;
pub mod webhook;
