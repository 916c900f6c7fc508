//! `rota env-file key`: makes the key that seals copies of replaced env files.

use std::path::PathBuf;

use rota_adapters::stores::env_file::EnvFileKey;
use serde_json::json;

use super::Context;
use crate::cli::EnvFile;
use crate::exit::{Exit, Failure, Outcome};

pub(super) fn run(context: &Context, command: &EnvFile) -> Outcome {
    let EnvFile::Key { path } = command;
    let configured =
        || -> Result<Option<PathBuf>, Failure> { Ok(context.configuration(&[])?.settings.env_file.key_file) };
    let path = match path {
        Some(path) => path.clone(),
        None => configured()?
            .ok_or_else(|| Failure::invalid("no path is named").hint("give one, or set env_file.key_file"))?,
    };
    EnvFileKey::create(&path)?;
    let out = context.output;
    if out.json {
        out.document(&json!({ "key_file": path }))?;
    } else {
        out.line(format!("made {}; keep a copy where the backups are not", path.display()))?;
    }
    Ok(Exit::Success)
}
