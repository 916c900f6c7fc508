//! Rotators against their real targets.

mod aws_iam;
mod postgres;
mod provider;
mod redis_acl;
