//! Each kind of store: the shared promises, then what is its own.

mod aws_secrets_manager;
mod env_file;
mod vault_kv2;
