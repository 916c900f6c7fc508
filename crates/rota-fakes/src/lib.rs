//! Servers for tests: starters of real servers (Postgres, Redis, Prometheus,
//! the AWS emulator) and strict fakes of services that cannot be had.
//!
//! Deliberately absent: every other crate of this workspace. The fakes are
//! written from the products' own documentation, so that they are an
//! independent witness of what the adapters send.

mod aws_json;
pub mod clock;
pub mod consumer;
pub mod ecs;
pub mod github;
pub mod grafana;
pub mod http;
pub mod moto;
pub mod postgres;
pub mod process;
pub mod prometheus;
pub mod providers;
pub mod recorder;
pub mod redis;
pub mod secretsmanager;
pub mod sigv4;
pub mod slack;
pub mod tls;
pub mod vault;
pub mod wait;
pub mod webhook;
