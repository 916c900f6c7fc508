//! Rotators against their real targets.

mod aws_iam;
mod command;
mod http_password;
mod postgres;
mod provider;
mod redis_acl;
mod vault_token;
