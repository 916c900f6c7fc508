//! Each server against what its documentation promises.

mod consumer;
mod ecs;
mod http;
mod postgres;
mod providers;
mod real;
mod secretsmanager;
mod slack;
mod vault;
mod webhook;
