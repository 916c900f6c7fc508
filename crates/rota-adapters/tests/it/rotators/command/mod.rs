//! The example programs of `config/examples/rotators` on targets of their own, and programs
//! that do not keep to the protocol.

mod documented;
mod service;
mod suite;
mod tokens;
mod trouble;
mod users;
