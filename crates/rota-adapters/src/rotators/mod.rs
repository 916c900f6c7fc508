//! Rotators: one file or folder a kind.

pub mod aws_iam;
pub mod command;
mod created;
pub mod generated;
pub mod grafana_admin;
pub mod http_password;
pub mod operator;
pub mod postgres;
pub mod provider;
pub mod redis_acl;
mod turns;
pub mod vault_token;
