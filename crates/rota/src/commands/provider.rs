//! `rota provider`: the providers of API keys that this version and its configuration know.
//!
//! Asks nobody: a file is judged by itself, before a daemon reads it.

use std::path::PathBuf;

use rota_adapters::rotators::provider::{Provider, Providers};
use serde_json::json;

use super::Context;
use crate::cli::ProviderCommand;
use crate::exit::{Exit, Failure, Outcome};

pub(super) fn run(context: &Context, command: &ProviderCommand) -> Outcome {
    match command {
        ProviderCommand::List => list(context),
        ProviderCommand::Lint { files } => lint(context, files),
    }
}

fn list(context: &Context) -> Outcome {
    let folder = context.configuration(&[])?.settings.providers.folder;
    let providers = Providers::with_folder(folder.as_deref())?;
    let out = context.output;
    if out.json {
        let all: Vec<_> = providers.iter().map(Provider::file).collect();
        let shown =
            all.iter().map(|file| json!({ "name": file.name, "about": file.about, "page": file.page }));
        out.document(&json!({ "providers": shown.collect::<Vec<_>>() }))?;
        return Ok(Exit::Success);
    }
    let rows = providers.iter().map(Provider::file);
    let rows = rows.map(|file| [file.name.clone(), file.about.clone(), file.page.clone()]);
    out.table(&["name", "what", "where a person sees it"], rows)?;
    Ok(Exit::Success)
}

/// Every mistake of every file.
fn lint(context: &Context, files: &[PathBuf]) -> Outcome {
    let mut wrong = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::invalid(format!("{} cannot be read: {error}", path.display())))?;
        if let Err(refused) = Provider::parse(&path.display().to_string(), &text) {
            let place = |place: Option<&str>, message: &str, help: Option<&str>| json!({ "file": path, "place": place, "message": message, "help": help });
            wrong.extend(refused.unreadable.iter().map(|message| place(None, message, None)));
            let problems = refused.problems.iter();
            wrong.extend(problems.map(|found| place(Some(&found.place), &found.message, Some(&found.help))));
        }
    }
    let out = context.output;
    if out.json {
        out.document(&json!({ "ok": wrong.is_empty(), "problems": wrong }))?;
    } else {
        for found in &wrong {
            let text = |key: &str| found[key].as_str().unwrap_or_default();
            let place = found["place"].as_str().map(|place| format!("`{place}`: ")).unwrap_or_default();
            out.line(format!("{}: {place}{}", text("file"), text("message")))?;
            if let Some(help) = found["help"].as_str() {
                out.line(format!("    {help}"))?;
            }
        }
        if wrong.is_empty() {
            out.note("a daemon takes it".to_owned());
        }
    }
    Ok(if wrong.is_empty() { Exit::Success } else { Exit::Invalid })
}
