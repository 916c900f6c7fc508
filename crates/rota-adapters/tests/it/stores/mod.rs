//! Each kind of store: the shared promises, then what is its own.

pub(crate) mod aws_secrets_manager;
mod env_file;
pub(crate) mod vault_kv2;
