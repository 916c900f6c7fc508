//! Each server against what its documentation promises.

mod consumer;
mod ecs;
mod grafana;
mod http;
mod postgres;
mod providers;
mod python;
mod real;
mod recorder;
mod secretsmanager;
mod slack;
mod vault;
mod webhook;
