//! Whole lives of secrets on a real Postgres, with the real engine and adapters.

mod consumers;
mod emulator;
mod history;
mod mesh;
mod places;
mod support;
mod time;
mod witness;

mod documents;
mod emergencies;
mod env_file;
mod examples;
mod handed_in;
mod interrupted;
mod lives;
mod mirrors;
mod operator;
mod pinned;
mod postgres;
mod providers;
mod runbooks;
mod signing;
mod trouble;
mod vault;
