//! From the TOML form to the accepted one: defaults, profile and secret put
//! together, and every reference checked.
//!
//! A secret takes each key from itself, else from its profile, else from
//! `[defaults]`, else from the built-in defaults in [`defaults`]. Deliberately
//! absent: opinions about the outcome, which are the linter's.

pub(super) mod defaults;
pub(super) mod layers;
pub(super) mod secret;
pub(super) mod settings;
pub(super) mod shared;
