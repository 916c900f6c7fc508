//! Keys of providers against fakes of their documented behaviour.

mod bad_input;
mod files;
mod keys;
mod server;
mod suite;
