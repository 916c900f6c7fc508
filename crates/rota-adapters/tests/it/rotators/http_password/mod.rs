//! Passwords that one call sets: Grafana's users, and a service of declared calls.

mod bad_input;
mod calls;
mod grafana;
mod lint;
mod registry;
mod subject;
mod suite;
