//! Rota: the daemon and its command line.
//!
//! Wires the decisions of `rota-core`, the loop of `rota-engine`, the journal of
//! `rota-postgres` and the adapters together. Deliberately absent: decisions about
//! rotations; what happens next is never decided here.

mod aws;
mod channels;
mod cli;
mod commands;
mod config;
mod database;
mod exit;
mod hygiene;
mod limits;
mod machine;
mod output;
mod policy_notices;
mod policy_source;
mod prompt;
mod serve;
mod telemetry;
mod view;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// Says what is wrong with the command line; help and version are no errors.
fn usage(error: &clap::Error) -> ExitCode {
    let wants_json = std::env::args_os().any(|argument| argument == "--json");
    if !error.use_stderr() || !wants_json {
        // A closed pipe is the reader's business.
        let _ = error.print();
        return if error.use_stderr() { Exit::Usage.into() } else { Exit::Success.into() };
    }
    let text = error.render().to_string();
    let message = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
    let failure = Failure::new(Exit::Usage, message).hint("--help lists what the command takes");
    Output::new(true, true).failure(&failure);
    Exit::Usage.into()
}

fn main() -> ExitCode {
    let protected = hygiene::protect();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let output = Output::new(cli.global.json, cli.global.no_color);
    let outcome = protected.map_err(hygiene::refuse).and_then(|()| commands::run(cli, output));
    match outcome {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !failure.message.is_empty() {
                output.failure(&failure);
            }
            failure.exit.into()
        }
    }
}
