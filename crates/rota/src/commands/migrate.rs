//! `rota migrate`: brings the state database to this version's schema.

use serde_json::json;

use super::Context;
use crate::database;
use crate::exit::{Exit, Outcome};

pub(super) async fn run(context: &Context) -> Outcome {
    let configuration = context.configuration(&[])?;
    let settings = database::settings(&configuration, "rota migrate").await?;
    let migrated = rota_postgres::migrate(&settings).await?;
    let out = context.output;
    if out.json {
        out.document(&json!({ "version": migrated.version, "applied": migrated.applied }))?;
    } else if migrated.applied.is_empty() {
        out.line(format!("the schema is up to date (version {})", migrated.version))?;
    } else {
        out.line(format!(
            "applied {} migrations; the schema is at version {}",
            migrated.applied.len(),
            migrated.version
        ))?;
    }
    Ok(Exit::Success)
}
