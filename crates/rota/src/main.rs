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
mod policy_source;
mod prompt;
mod serve;
mod telemetry;
mod view;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::output::Output;

fn main() -> ExitCode {
    let protected = hygiene::protect();
    let cli = Cli::parse();
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
