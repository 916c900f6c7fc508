//! Database users on a real server.

mod server;
mod suite;
