//! Database users on a real server.

mod grants;
mod secrecy;
mod server;
mod sessions;
mod suite;
mod trouble;
