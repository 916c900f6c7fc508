//! The journal on real Postgres servers.

mod claims;
mod conformance;
mod connect;
mod history;
mod identity;
mod listen;
mod migrations;
mod orders;
mod prune;
mod reports;
mod roles;
mod support;
