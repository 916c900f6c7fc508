//! `rota completions` and `rota man`: made from the command line's own definition.

use std::path::Path;

use clap::CommandFactory as _;

use super::Context;
use crate::cli::Cli;
use crate::exit::{Exit, Failure, Outcome};

pub(super) fn completions(context: &Context, shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "rota", &mut script);
    context.output.raw(&script)?;
    Ok(Exit::Success)
}

pub(super) fn man(context: &Context, folder: Option<&Path>) -> Outcome {
    match folder {
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            context.output.raw(&page)?;
        }
        Some(folder) => {
            let refuse = |error: std::io::Error| {
                Failure::invalid(format!("cannot write manual pages to {}: {error}", folder.display()))
            };
            std::fs::create_dir_all(folder).map_err(refuse)?;
            clap_mangen::generate_to(Cli::command(), folder).map_err(refuse)?;
        }
    }
    Ok(Exit::Success)
}
