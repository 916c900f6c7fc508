//! Access keys on the AWS emulator, which checks signatures.

mod keys;
mod server;
mod suite;
