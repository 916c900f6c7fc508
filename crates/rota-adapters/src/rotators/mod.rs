//! Rotators: one file or folder a kind.

pub mod aws_iam;
pub mod generated;
pub mod operator;
pub mod postgres;
pub mod redis_acl;
mod turns;
