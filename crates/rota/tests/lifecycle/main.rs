//! Whole lives of secrets on a real Postgres, with the real engine and adapters.

mod consumers;
mod support;

mod documents;
mod env_file;
mod examples;
mod operator;
mod postgres;
mod signing;
mod trouble;
mod vault;
