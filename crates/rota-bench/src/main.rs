//! Measures Rota on this machine: a table for people, JSON for programs.
//!
//! Everything is real but what is outside of Rota: the engine, the journal on a Postgres
//! with fsync on, the daemon's binary, policies as files. `docs/performance.md` says what
//! each figure means. Deliberately absent: assertions about time. A figure that misses its
//! budget is shown as missed, and only `--strict` makes that a failure.

#![expect(clippy::print_stdout, reason = "a report is what this program is for")]

mod claims;
mod daemon;
mod fakes;
mod machine;
mod pgbench;
mod pipeline;
mod report;
mod secrets;
mod server;
mod time;
mod trace;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use machine::Machine;
use report::Report;
use server::Server;

/// Measures Rota: rotations a second, claims, the daemon's start, policies at scale
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Small sizes, to see that the benchmark works; its numbers say nothing
    #[arg(long)]
    quick: bool,
    /// Write the report as JSON to this file; `-` prints it instead of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Fail where a figure misses its budget
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Rotations a second, beside pgbench
    Pipeline,
    /// Looking for work among many secrets
    Claims,
    /// The daemon's start and size, and reading a policy
    Daemon,
}

/// How much of everything.
pub(crate) struct Sizes {
    /// Secrets of the pipeline's policy: more than can be rotated in a window.
    pipeline_secrets: usize,
    /// Rotations whose statements are counted.
    counted: i64,
    /// Rotations under way at the same time.
    in_flight: i64,
    /// How often the pipeline and pgbench are measured, in turns.
    rounds: usize,
    window_seconds: u32,
    claim_secrets: Vec<usize>,
    claim_samples: usize,
    daemon_secrets: Vec<usize>,
    policy_secrets: Vec<usize>,
    /// Starts of the daemon, and reads of the policy.
    starts: usize,
    /// How long a daemon runs before its size is read.
    settle_seconds: u64,
}

impl Sizes {
    fn whole() -> Self {
        Self {
            pipeline_secrets: 20_000,
            counted: 100,
            in_flight: 1_500,
            rounds: 3,
            window_seconds: 30,
            claim_secrets: vec![100, 10_000, 100_000],
            claim_samples: 201,
            daemon_secrets: vec![1_000, 100_000],
            policy_secrets: vec![1_000, 100_000],
            starts: 5,
            settle_seconds: 10,
        }
    }

    fn quick() -> Self {
        Self {
            pipeline_secrets: 200,
            counted: 4,
            in_flight: 4,
            rounds: 1,
            window_seconds: 1,
            claim_secrets: vec![10, 50],
            claim_samples: 3,
            daemon_secrets: vec![50],
            policy_secrets: vec![50],
            starts: 1,
            settle_seconds: 0,
        }
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(measure(&arguments))?;
    let json = serde_json::to_string_pretty(&report)?;
    match arguments.json.as_deref() {
        Some(path) if path.as_os_str() == "-" => println!("{json}"),
        Some(path) => {
            std::fs::write(path, json).with_context(|| format!("write {}", path.display()))?;
            print!("{report}");
        }
        None => print!("{report}"),
    }
    let missed = report.figures.iter().any(|figure| figure.within_budget == Some(false));
    Ok(if arguments.strict && missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn measure(arguments: &Arguments) -> Result<Report> {
    let sizes = if arguments.quick { Sizes::quick() } else { Sizes::whole() };
    let wanted = |part: Part| arguments.only.is_empty() || arguments.only.contains(&part);
    let server = Server::start().await?;
    let mut report = Report {
        machine: Machine::look(server.url()).await?,
        quick: arguments.quick,
        figures: Vec::new(),
        statements: None,
    };
    if wanted(Part::Daemon) {
        progress("the daemon: starts, memory, reading a policy");
        report.figures.extend(daemon::measure(&server, &sizes).await.context("the daemon")?);
    }
    if wanted(Part::Claims) {
        progress("claims");
        report.figures.extend(claims::measure(&server, &sizes).await.context("claims")?);
    }
    if wanted(Part::Pipeline) {
        progress("the pipeline and pgbench, in turns; some minutes");
        let (figures, trace) = pipeline::measure(&server, &sizes).await.context("the pipeline")?;
        report.figures.extend(figures);
        report.statements = Some(trace.summary());
    }
    Ok(report)
}

/// For people who wait; programs read what is printed in the end.
#[expect(clippy::print_stderr, reason = "standard output is the report's")]
pub(crate) fn progress(text: &str) {
    eprintln!("rota-bench: {text}");
}
