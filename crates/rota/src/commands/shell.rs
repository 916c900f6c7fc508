//! `rota completions` and `rota man`: made from the command line's own definition.

use std::path::Path;

use clap::CommandFactory as _;
use serde_json::json;

use super::Context;
use crate::cli::Cli;
use crate::exit::{Exit, Failure, Outcome};

pub(super) fn completions(context: &Context, shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "rota", &mut script);
    print(context, "script", &script)
}

pub(super) fn man(context: &Context, folder: Option<&Path>) -> Outcome {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        return print(context, "page", &page);
    };
    let refuse = |error: std::io::Error| {
        Failure::invalid(format!("cannot write manual pages to {}: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(refuse)?;
    clap_mangen::generate_to(Cli::command(), folder).map_err(refuse)?;
    if context.output.json {
        context.output.document(&json!({ "folder": folder }))?;
    } else {
        context.output.note(format!("wrote the pages to {}", folder.display()));
    }
    Ok(Exit::Success)
}

/// The text as it stands, or as the one member of a document.
fn print(context: &Context, name: &str, text: &[u8]) -> Outcome {
    if context.output.json {
        context.output.document(&json!({ name: String::from_utf8_lossy(text) }))?;
    } else {
        context.output.raw(text)?;
    }
    Ok(Exit::Success)
}
