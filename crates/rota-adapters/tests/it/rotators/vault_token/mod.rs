//! Tokens of Vault, on the strict fake.

mod lint;
mod server;
mod suite;
mod tokens;
