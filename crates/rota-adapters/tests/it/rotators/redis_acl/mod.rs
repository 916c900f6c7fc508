//! Redis users on real servers.

mod bad_input;
mod clients;
mod lint;
mod nodes;
mod server;
mod suite;
mod wire;
