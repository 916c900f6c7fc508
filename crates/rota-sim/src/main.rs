//! Runs seeds of the simulator, and shows the shortest story of one that goes wrong.

#![expect(clippy::print_stdout, reason = "a report for a person is what this program is for")]

use std::ops::Range;
use std::process::ExitCode;

use clap::Parser;
use rota_sim::swarm::Swarm;

/// Simulates Rota under faults: each seed is a world of its own, and repeats exactly.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Which seeds, the last not included: `0..1000`.
    #[arg(long, value_parser = seeds, default_value = "0..200")]
    seeds: Range<u64>,
    /// Run one seed twice and compare, and print its numbers.
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    replay: Option<u64>,
    /// Go on after a seed that goes wrong.
    #[arg(long)]
    keep_going: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("`{text}` is not a range of seeds; write one like `0..1000`");
    let (from, to) = text.split_once("..").ok_or_else(wrong)?;
    Ok(from.parse().map_err(|_| wrong())?..to.parse().map_err(|_| wrong())?)
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.replay {
        Some(seed) => replay(seed),
        None => run(arguments.seeds, arguments.keep_going),
    }
}

fn run(seeds: Range<u64>, keep_going: bool) -> ExitCode {
    let (mut passed, mut failed, mut rotations, mut calls) = (0_u64, 0_u64, 0, 0);
    for seed in seeds {
        let swarm = Swarm::new(seed);
        match swarm.run() {
            Ok(report) => {
                passed += 1;
                rotations += report.rotations;
                calls += report.calls;
            }
            Err(failure) => {
                failed += 1;
                println!("seed {seed}: {}", failure.what);
                if !keep_going {
                    show(&swarm, failure);
                    break;
                }
            }
        }
    }
    println!("{passed} seeds passed, {failed} failed ({rotations} rotations, {calls} calls)");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn replay(seed: u64) -> ExitCode {
    let swarm = Swarm::new(seed);
    match (swarm.run(), swarm.run()) {
        (Ok(first), Ok(second)) => {
            println!("{first:?}");
            if first == second {
                return ExitCode::SUCCESS;
            }
            println!("the second run was another one: {second:?}");
        }
        (Err(failure), _) | (_, Err(failure)) => show(&swarm, failure),
    }
    ExitCode::FAILURE
}

fn show(swarm: &Swarm, failure: Box<rota_sim::swarm::Failure>) {
    let shortest = swarm.minimal(failure);
    println!("seed {} with {:?} only:", shortest.seed, shortest.troubles);
    println!("  {}", shortest.what);
    println!("the last calls:\n{}", shortest.trace);
}
