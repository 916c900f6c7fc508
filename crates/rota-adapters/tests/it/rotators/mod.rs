//! Rotators against their real targets.

mod aws_iam;
mod postgres;
mod redis_acl;
