//! Rotators against their real targets.

mod postgres;
mod redis_acl;
