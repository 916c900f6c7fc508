//! `rota config show`: every setting, and which layer it comes from.

use serde_json::json;

use super::Context;
use crate::exit::{Exit, Outcome};

pub(super) fn run(context: &Context) -> Outcome {
    let configuration = context.configuration(&[])?;
    let out = context.output;
    if out.json {
        out.document(&json!({ "files": configuration.files, "settings": configuration.entries() }))?;
        return Ok(Exit::Success);
    }
    let rows = configuration
        .entries()
        .iter()
        .map(|entry| [entry.key.clone(), entry.value.clone(), entry.source.clone()]);
    out.table(&["setting", "value", "source"], rows)?;
    Ok(Exit::Success)
}
