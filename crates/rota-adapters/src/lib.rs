//! Stores, rotators, rollouts, checks and notifiers: everything that speaks to a
//! product.
//!
//! One file a kind, one line for each in [`catalog`]. Deliberately absent: the
//! state machine. An adapter carries out one call, says what came of it, and
//! remembers nothing between two calls but its connections and logins.

mod address;
pub mod aws;
mod aws_json;
pub mod catalog;
pub mod checks;
pub mod child;
pub mod credential;
pub mod ecs;
pub mod environment;
pub mod hooks;
pub mod http;
mod iam;
mod login;
pub mod notifiers;
mod redis_nodes;
pub mod rollouts;
pub mod rotators;
mod settings;
mod signature;
pub mod stores;
pub mod vault;
mod webhook;
